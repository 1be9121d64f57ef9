"""Regressions in which the label is the outcome or a covariate, from predictions of all rows and hand labels of some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...arrays import Floats
from ...checks import check_truth, is_number
from ...errors import EstimationWarning, InputError, listed, warn
from ...metrics import check_confidence_level
from ..labelled_sample import LabelledSample
from ..recalibration import Recalibration
from ..sample_checks import check_units
from .design import NamedDesign, dependent_columns, formula_design, label_values, matrix_design
from .estimating_equations import EstimatingEquations, NoSolutionError
from .fit import Fit, fit_by_hand, fit_naive, fit_powered, with_unseen_errors
from .result import Coefficients, RegressionResult, unscaled

MODELS = ("linear", "logistic")
TARGETS = ("population", "rows")
_FEW_DEGREES = 2.5


def estimate_regression(
    proba: ArrayLike,
    y: ArrayLike,
    rows: ArrayLike,
    X: Any = None,
    *,
    formula: str | None = None,
    outcome: Any = None,
    model: str = "linear",
    event: Any = None,
    values: Mapping[Any, float] | None = None,
    reference: Any = None,
    label: str = "label",
    intercept: bool = True,
    classes: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    strata: Iterable[Any] | None = None,
    clusters: Iterable[Any] | None = None,
    weights: ArrayLike | None = None,
    target: str = "population",
    bias_reduction: bool = True,
    confidence_level: float = 0.95,
    recalibrate: bool = True,
    tuning: float | None = None,
) -> RegressionResult:
    r"""A linear or logistic regression with a label that a model gave to all rows and people to some.

    Predicted labels in place of true ones bias every coefficient, since their errors depend on the text, and so on what the
    covariates are about. Here the predictions of all rows say what they can, and the labels by hand correct them: the
    coefficients solve the estimating equations of prediction-powered inference (Angelopoulos et al. 2023, "Prediction-powered
    inference"; Angelopoulos, Duchi & Zrnic 2023, "PPI++"), with probabilities that are recalibrated on other labels than those
    they are compared with (Zrnic & Candès 2024, "Cross-prediction-powered inference"), and with design weights where rows were
    labelled with unequal probabilities (Egami et al. 2023, "Using imperfect surrogates for downstream inference", whose
    design-based supervised learning is ``tuning=1``). The tuning of each coefficient makes it vary least, between the hand labels
    alone and the predictions with their correction, so that useless predictions cost next to nothing.

    The standard errors are robust to any variance of the residuals and to clusters, and the intervals use a t distribution.
    Good predictions may fix a coefficient that hardly depends on the label, but n labels cannot show that there are no errors
    that would move it: it counts as at most n / 2 times the labels alone, in variance, unless `tuning` is given.
    experiments/regression_coverage.md has how often they cover with 50, 100 and 300 labels.

    Parameters
    ----------
    proba : array-like (N, K) or (N,)
        Probabilities of all rows; or the label that a model gave to each row; as in `LabelledSample.checked`.
    y : array-like (n,)
        The labels by hand.
    rows : array-like of int (n,), or of bool (N,)
        The places of the labelled rows among the N.
    X : data frame or array-like (N, p), optional
        The covariates of all rows. Without a formula: numbers.
    formula : str, optional
        Such as ``"label ~ age + C(party)"`` or ``"shares ~ label * age"``, over the columns of `X`, where `label` stands for the
        label. It is read by the package formulaic, and may call functions, so it must come from you.
    outcome : array-like (N,) or str, optional
        A number for every row, or the name of its column in `X`: the label is then a covariate. None, without a formula: the
        label is the outcome.
    model : {"linear", "logistic"}
    event : class, or list of classes, optional
        The label counts as 1 if it is this class (or one of these), else 0. For an outcome with two classes the default is the
        second one.
    values : dict of class -> number, optional
        The number that each class counts as, such as a score.
    reference : class, optional
        With which class the others are compared, where the label is a covariate without `event` and `values`; by default the
        first.
    label : str
        The name of the label in formula and results.
    intercept : bool
        Whether to add one; a formula has one unless it says ``- 1``.
    classes, inclusion, strata, clusters, weights
        As in `LabelledSample.checked`. With `clusters` the standard errors are clustered.
    target : {"population", "rows"}
        What the intervals are about: the population of which the rows are a sample, as in every regression; or only what the
        regression on these N rows would give if all had been labelled by hand.
    bias_reduction : bool
        Of logistic regressions (Firth 1993, "Bias reduction of maximum likelihood estimates"): coefficients from few labels are
        less extreme, and finite where the labels are separated. False: maximum likelihood.
    confidence_level : float in (0, 1)
    recalibrate : bool
        Whether to recalibrate the probabilities on the labelled rows, cross-fitted.
    tuning : float in [0, 1], optional
        How far to rely on the predictions: 0 is the hand labels alone, 1 the predictions with their correction in full. By
        default each coefficient has the one with which it varies least.

    Returns
    -------
    RegressionResult
        With ``params``, ``bse``, ``conf_int()``, ``pvalues``, ``cov_params()``, ``summary()`` and ``to_frame()``; and the
        regressions by hand alone and on predicted labels as ``by_hand`` and ``naive``.

    Raises
    ------
    InputError
        Any argument cannot be used: a covariate is missing in some row, columns are collinear, in all rows or in the labelled
        ones; no logistic regression fits without bias reduction; or as in `LabelledSample.checked`.
    MissingDependencyError
        There is a formula, and formulaic is not installed.

    Warns
    -----
    EstimationWarning
        A coefficient rests on few labels, the labelled rows are separated, or as in `LabelledSample.checked`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> generator = np.random.default_rng(0)
    >>> age = generator.normal(50, 10, 2000)
    >>> complains = generator.random(2000) < 1 / (1 + np.exp(-(age - 50) / 10))
    >>> p = 1 / (1 + np.exp(-generator.normal(2 * complains - 1, 1)))  # of a model
    >>> rows = generator.choice(2000, 200, replace=False)
    >>> result = estimate_regression(p, complains[rows].astype(int), rows, pd.DataFrame({"age": age}), model="logistic")
    >>> low, high = result.conf_int().loc["age"]
    >>> bool(low < 0.1 < high), bool(result.bse["age"] < result.by_hand.bse["age"])
    (True, True)
    """
    if model not in MODELS:
        raise InputError(f"model={model!r}; expected {' or '.join(map(repr, MODELS))}")
    of_rows_alone = checked_target(target) == "rows"
    check_confidence_level(confidence_level)
    fixed = checked_tuning(tuning)
    for name, value in (("recalibrate", recalibrate), ("bias_reduction", bias_reduction), ("intercept", intercept)):
        check_truth(name, value)
    sample = LabelledSample.checked(
        proba, y, rows, classes=classes, inclusion=inclusion, strata=strata, clusters=clusters, weights=weights
    )
    check_units(sample)
    numbers = label_values(sample, event, values)
    if formula is not None:
        if outcome is not None:
            raise InputError("formula= and outcome= both say what the outcome is; give one of them")
        named = formula_design(sample, formula, X, numbers, reference, label)
    else:
        named = matrix_design(sample, X, outcome, numbers, reference, label, intercept)
    is_logistic = model == "logistic"
    if is_logistic:
        _check_binary(named)
    scaled, scale = named.scaled()
    _check_rank(scaled, sample)
    reduces = is_logistic and bias_reduction
    d = sample.design_weights
    equations = EstimatingEquations(
        scaled.design,
        is_logistic,
        *probabilities(sample, recalibrate),
        sample.columns,
        sample.rows,
        sample.weights / sample.weights.sum(),
        d / d.sum(),
    )
    size = len(named.names)
    try:
        by_hand = fit_by_hand(equations, sample, of_rows_alone=of_rows_alone, reduce_bias=reduces)
    except NoSolutionError:
        by_hand = Fit.missing(size)
    if is_logistic:
        _warn_if_separated(equations, by_hand, sample)
    _warn_of_few(named.names, by_hand)
    try:
        powered = fit_powered(
            equations, sample, by_hand.params, fixed, of_rows_alone=of_rows_alone, reduce_bias=reduces
        )
    except NoSolutionError:
        raise InputError(
            f"the {model} regression has no finite solution: the covariates separate the labels, or these are too few; "
            + ("use bias_reduction=True, or label more rows" if is_logistic and not reduces else "label more rows")
        ) from None
    if fixed is None:
        powered = with_unseen_errors(powered, by_hand, sample.n_units)
    naive = fit_naive(scaled.design, sample, is_logistic=is_logistic, reduce_bias=reduces)
    return RegressionResult(
        names=named.names,
        fit=unscaled(powered, scale),
        confidence_level=confidence_level,
        by_hand=Coefficients(named.names, unscaled(by_hand, scale), confidence_level),
        naive=Coefficients(named.names, unscaled(naive, scale), confidence_level),
        model=model,
        outcome=named.outcome,
        target=target,
        nobs=sample.n_rows,
        n_labelled=sample.n_labelled,
    )


def probabilities(sample: LabelledSample, recalibrate: bool) -> tuple[Floats, Floats]:
    """The probabilities of all rows (N, K) and of the labelled ones (n, K); those recalibrated without their own labels."""
    if not recalibrate:
        return sample.proba, sample.labelled_proba
    recalibration = Recalibration.fitted(sample)
    return recalibration.table(sample), recalibration.labelled(sample)


def checked_target(target: str) -> str:
    """What intervals are about.

    Raises
    ------
    InputError
    """
    if target not in TARGETS:
        raise InputError(f"target={target!r}; expected {' or '.join(map(repr, TARGETS))}")
    return target


def checked_tuning(tuning: float | None) -> float | None:
    """The tuning that was given, or None if it is to be estimated.

    Raises
    ------
    InputError
    """
    if tuning is None:
        return None
    if not is_number(tuning) or not 0 <= tuning <= 1:
        raise InputError(f"tuning={tuning!r}; expected a number between 0 and 1, or None")
    return float(tuning)


def _check_binary(named: NamedDesign) -> None:
    numbers = named.design.y if named.design.values is None else named.design.values
    assert numbers is not None
    odd = numbers[(numbers != 0.0) & (numbers != 1.0)]
    if odd.size:
        raise InputError(
            f"the outcome {named.outcome!r} has the value {odd[0]:g}; a logistic regression needs 0 and 1: give event=, or "
            "model='linear'"
        )


def _check_rank(named: NamedDesign, sample: LabelledSample) -> None:
    """Refuse columns that all rows, or the labelled ones, cannot tell apart.

    Raises
    ------
    InputError
    """
    design = named.design
    kept = np.setdiff1d(np.arange(len(named.names)), design.varying)
    X = design.X[:, kept]
    collinear = [named.names[kept[j]] for j in dependent_columns(X.T @ X)]
    if collinear:
        raise InputError(
            f"the column {collinear[0]!r} is a combination of the columns before it, so its coefficient means nothing; leave "
            "it out"
        )
    if sample.n_labelled <= len(named.names):
        raise InputError(
            f"{sample.n_labelled} labelled rows cannot carry {len(named.names)} coefficients; label more rows, or leave columns "
            "out"
        )
    X, _ = design.observed(sample.columns[sample.counted], sample.rows[sample.counted])
    unknown = [named.names[j] for j in dependent_columns(X.T @ X)]
    if unknown:
        raise InputError(
            f"the labelled rows do not determine {listed(map(repr, unknown))}: among them, these columns are constant or follow "
            "from the others (no row of a category or class is labelled); label rows of every category, or leave the "
            "columns out"
        )


def _warn_if_separated(equations: EstimatingEquations, by_hand: Fit, sample: LabelledSample) -> None:
    X, y = equations.design.observed(equations.codes[sample.counted], equations.rows[sample.counted])
    if y.min() == y.max():
        warn(
            f"the outcome is {y.min():g} in all labelled rows, so the coefficients rest on the bias reduction alone",
            EstimationWarning,
        )
    elif np.isnan(by_hand.params).any() or ((X @ by_hand.params > 0) == (y == 1)).all():
        warn(
            "the covariates separate the labelled rows by outcome, so the hand labels alone put no limit on the coefficients; "
            "bias reduction keeps these finite, but label more rows before you report them",
            EstimationWarning,
        )


def _warn_of_few(names: list[str], by_hand: Fit) -> None:
    few = [name for name, degrees in zip(names, by_hand.degrees, strict=True) if degrees < _FEW_DEGREES]
    if few:
        warn(
            f"the coefficients of {listed(map(repr, few))} rest on very few labelled rows or clusters; their intervals are wide, "
            "and less sure than the others",
            EstimationWarning,
        )
