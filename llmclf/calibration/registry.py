"""Calibrators by name: for parameters that users write, and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from ..errors import InputError
from .affine import MatrixCalibrator, VectorCalibrator
from .auto import AutoCalibrator
from .base import BaseCalibrator
from .one_vs_rest import BetaCalibrator, IsotonicCalibrator, PlattCalibrator
from .temperature import BiasTemperatureCalibrator, IdentityCalibrator, PriorCalibrator, TemperatureCalibrator
from .venn_abers import VennAbersCalibrator

_BY_NAME: dict[str, type[BaseCalibrator]] = {
    calibrator._name: calibrator
    for calibrator in (
        AutoCalibrator,
        IdentityCalibrator,
        PriorCalibrator,
        TemperatureCalibrator,
        BiasTemperatureCalibrator,
        VectorCalibrator,
        MatrixCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        IsotonicCalibrator,
        VennAbersCalibrator,
    )
}


def make_calibrator(spec: Any) -> Any:
    """An unfitted calibrator for what a user may give as ``calibrator=``.

    Parameters
    ----------
    spec : None, str or estimator
        ``"auto"``, ``"identity"``, ``"prior"``, ``"temperature"``, ``"bias_temperature"``, ``"vector"``, ``"matrix"``,
        ``"platt"``, ``"beta"``, ``"isotonic"``, ``"venn_abers"``, or any scikit-learn estimator with ``fit`` and
        ``predict_proba``.

    Returns
    -------
    estimator or None
        None for None; an estimator is cloned, so that fitting leaves the user's own as it was.

    Raises
    ------
    InputError
        `spec` is none of these.

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
        f"calibrator={spec!r} is no calibrator; expected None, one of {sorted(_BY_NAME)}, "
        "or a scikit-learn estimator (an instance, not a class) with fit and predict_proba"
    )


def calibrator_from_dict(description: Mapping[str, Any]) -> BaseCalibrator:
    """The fitted calibrator, of whatever kind, that `to_dict` described.

    Parameters
    ----------
    description : mapping
        What `to_dict` gave, before or after JSON.

    Raises
    ------
    InputError
        The name is unknown, or an entry is missing, unknown, or no value that a fit could have given.

    Examples
    --------
    >>> calibrator_from_dict(
    ...     {"name": "temperature", "parameters": {}, "classes": ["a", "b"], "fitted": {"temperature": 2.0}}
    ... ).predict_proba([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    name = description.get("name") if isinstance(description, Mapping) else None
    if not isinstance(name, str) or name not in _BY_NAME:
        raise InputError(f"name={name!r} is no calibrator; expected one of {sorted(_BY_NAME)}")
    return _BY_NAME[name].from_dict(description)
