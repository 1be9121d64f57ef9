"""Calibrators by name, for parameters and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from ..errors import InputError
from .auto import AutoCalibrator
from .base import BaseCalibrator
from .maps import SCORE_MAPS
from .stacked import StackedCalibrator

_BY_NAME: dict[str, type[BaseCalibrator]] = {
    **SCORE_MAPS,
    AutoCalibrator.name: AutoCalibrator,
    StackedCalibrator.name: StackedCalibrator,
}


def make_calibrator(spec: Any) -> Any:
    """An unfitted calibrator from a value of the parameter ``calibrator=``.

    Parameters
    ----------
    spec : None, str or estimator
        ``"auto"``, ``"identity"``, ``"prior"``, ``"temperature"``, ``"bias_temperature"``, ``"vector"``, ``"matrix"``,
        ``"platt"``, ``"beta"``, ``"isotonic"``, ``"venn_abers"``, ``"stacked"``, or any scikit-learn estimator with ``fit``
        and ``predict_proba``.

    Returns
    -------
    estimator or None
        None for None. An estimator is cloned, so fitting does not change the caller's object.

    Raises
    ------
    InputError
        `spec` is not one of these.

    Examples
    --------
    >>> make_calibrator("bias_temperature")
    BiasTemperatureCalibrator()
    """
    if spec is None:
        return None
    if isinstance(spec, str) and spec in _BY_NAME:
        return _BY_NAME[spec]()
    usable = all(callable(getattr(spec, method, None)) for method in ("fit", "predict_proba", "get_params"))
    if usable and not isinstance(spec, type):
        return clone(spec)
    raise InputError(
        f"calibrator={spec!r} is not a calibrator; expected None, one of {sorted(_BY_NAME)}, "
        "or a scikit-learn estimator (an instance, not a class) with fit and predict_proba"
    )


def pool_of(spec: Any) -> StackedCalibrator:
    """The pool that a value of ``calibrator=`` means where there are features.

    Parameters
    ----------
    spec : None, str or calibrator
        A `StackedCalibrator` (or ``"stacked"``) is taken as it is; None and ``"auto"`` leave the choice to it; any other
        calibrator becomes its member for the label scores.

    Examples
    --------
    >>> pool_of("auto"), pool_of("vector")
    (StackedCalibrator(), StackedCalibrator(calibrator=VectorCalibrator()))
    """
    calibrator = make_calibrator(spec)
    if isinstance(calibrator, StackedCalibrator):
        return calibrator
    if calibrator is None or isinstance(calibrator, AutoCalibrator):
        return StackedCalibrator()
    if not isinstance(calibrator, BaseCalibrator):
        raise InputError(
            f"calibrator={spec!r} cannot be a member of a pool, which features= makes; expected a calibrator of "
            "llmclf.calibration, or None"
        )
    return StackedCalibrator(calibrator)


def calibrator_from_dict(description: Mapping[str, Any]) -> BaseCalibrator:
    """The fitted calibrator, of any kind, from the result of its `to_dict`.

    Parameters
    ----------
    description : mapping
        The result of `to_dict`, before or after a round trip through JSON.

    Raises
    ------
    InputError
        The name is unknown, or an entry is missing, unknown, or not a value that fitting can produce.

    Examples
    --------
    >>> calibrator_from_dict(
    ...     {"name": "temperature", "parameters": {}, "classes": ["a", "b"], "fitted": {"temperature": 2.0}}
    ... ).predict_proba([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    name = description.get("name") if isinstance(description, Mapping) else None
    if not isinstance(name, str) or name not in _BY_NAME:
        raise InputError(f"name={name!r} is not a calibrator; expected one of {sorted(_BY_NAME)}")
    return _BY_NAME[name].from_dict(description)
