"""Everything between a model's scores and its probabilities: a bias, a calibrator, a prior and a recalibration, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from ..arrays import Floats, Integers
from ..checks import check_keys, checked_numbers
from ..errors import InputError
from ..logits import floor_missing, log_softmax, softmax
from ..metrics import row_weights
from ..numerics.folds import fold_weights
from ..numerics.row_features import RowFeatures
from .base import BaseCalibrator
from .bias import CONTENT_FREE, BiasCorrector
from .pool.pooled import PooledCalibrator
from .registry import calibrator_from_dict
from .stacked import StackedCalibrator


class Corrections:
    """A bias, a calibrator, class frequencies and a recalibration, applied one after the other to log-scores (n, K).

    Parameters
    ----------
    bias : transformer, optional
        Fitted without labels.
    calibrator : estimator, optional
        Fitted on labelled rows.
    log_prior : ndarray (K,), optional
        Log-frequencies of the classes in the data on which the probabilities will be used. They apply relative to the
        frequencies that the corrections before them assume: those that the calibrated probabilities imply (see
        `assumed_prior`), or the target prior of the bias.
    recalibration : estimator, optional
        Fitted on other labelled rows than the calibrator, on the log-probabilities that all before it gives; see `recalibrated`.

    Examples
    --------
    >>> from llmclf.calibration import TemperatureCalibrator
    >>> scores, columns = np.log([[0.99, 0.01], [0.01, 0.99]] * 10), np.array([0, 1] * 8 + [1, 0] * 2)
    >>> fitted = Corrections(calibrator=TemperatureCalibrator(prior_rows=0)).fit(scores, columns)
    >>> np.exp(fitted.apply(scores[:1])).round(4).tolist()
    [[0.8, 0.2]]
    """

    own_rows: tuple[int, Callable[[NDArray[np.bool_]], Mapping[str, Floats]]] | None = None
    """For how many rows they are, and what reads the heads of those with scores; None: for any rows. See `for_rows`."""

    def __init__(
        self, bias: Any = None, calibrator: Any = None, log_prior: Floats | None = None, recalibration: Any = None
    ) -> None:
        self.bias = bias
        self.calibrator = calibrator
        self.log_prior = log_prior
        self.recalibration = recalibration
        self._fitted_on: tuple[Floats, Integers, Floats | None, Integers | None] | None = None

    def for_rows(self, n_rows: int, heads_of: Callable[[NDArray[np.bool_]], Mapping[str, Floats]]) -> Corrections:
        """The same corrections for certain rows, of which they know what the heads of a pool make of their features.

        Parameters
        ----------
        n_rows : int
        heads_of : callable
            Gives the ``heads`` of `apply` of these rows, from an ndarray of bool (n,) that says which of them have scores. It is
            called whenever heads are needed and not given.

        Examples
        --------
        >>> from llmclf.calibration import StackedCalibrator
        >>> rng = np.random.default_rng(0)
        >>> columns = rng.integers(0, 2, 60)
        >>> scores, features = rng.normal(size=(60, 2)), {"told": rng.normal(size=(60, 3)) + columns[:, None]}
        >>> stacked = StackedCalibrator().fit(scores, columns, features=features)
        >>> heads = stacked.head_logits(features, 60)
        >>> own = Corrections(calibrator=stacked).for_rows(60, lambda is_scored: heads)
        >>> bool((own.apply(scores) == Corrections(calibrator=stacked).apply(scores, heads)).all())
        True
        """
        bound = copy(self)
        bound.own_rows = n_rows, heads_of
        return bound

    def _heads(self, scores: Floats, heads: Mapping[str, Floats] | None) -> Mapping[str, Floats] | None:
        """The heads of the rows of scores (n, K): those given, else those of the rows that these corrections are for."""
        if heads is not None or self.own_rows is None:
            return heads
        n_rows, heads_of = self.own_rows
        if len(scores) != n_rows:
            raise InputError(
                f"scores have {len(scores)} rows, and these corrections read the features of {n_rows} certain rows; give the "
                "scores of all of them, in their order"
            )
        return heads_of(np.logical_not(np.isnan(scores).any(axis=1)))

    @property
    def wants_content_free(self) -> str | None:
        """The method of the bias, if it is fitted on rows made for the purpose."""
        method = getattr(self.bias, "method", None)
        return method if isinstance(self.bias, BiasCorrector) and method in CONTENT_FREE else None

    @property
    def wants_rows(self) -> bool:
        """Whether the scores of training rows are needed."""
        return self.calibrator is not None or (self.bias is not None and not self.wants_content_free)

    @property
    def has_rows(self) -> bool:
        """Whether the rows that `last_fitted` was fitted on are available, as `out_of_fold` needs them."""
        return self._fitted_on is not None

    @property
    def changes_scores(self) -> bool:
        """Whether there is any correction between scores and probabilities."""
        steps = (self.bias, self.calibrator, self.log_prior, self.recalibration)
        return any(step is not None for step in steps)

    @property
    def last_fitted(self) -> Any:
        """What was fitted on labelled rows last: the recalibration, else the calibrator; None where there is neither."""
        return self.calibrator if self.recalibration is None else self.recalibration

    @property
    def assumes_other_rows(self) -> bool:
        """Whether a prior says that the labelled rows have other class frequencies than those to be judged."""
        return self.log_prior is not None and self.recalibration is None

    def without_recalibration(self) -> Corrections:
        """The same without the last step."""
        return self if self.recalibration is None else type(self)(self.bias, self.calibrator, self.log_prior)

    def recalibrated(
        self,
        recalibration: Any,
        scores: Floats,
        columns: Integers,
        sample_weight: Floats | None = None,
        groups: Integers | None = None,
        heads: Mapping[str, Floats] | None = None,
    ) -> Corrections:
        """The same with another last step, fitted on labelled rows that none of the others has seen.

        Parameters
        ----------
        recalibration : estimator
            Becomes fitted.
        scores : ndarray (n, K)
            Before all corrections.
        columns : ndarray of int (n,)
            True columns.
        sample_weight : ndarray (n,), optional
        groups : ndarray of int (n,), optional
            Cross-fitting never parts the rows of a group.
        heads : mapping of name to ndarray (n, K), optional
            As in `apply`.

        Examples
        --------
        >>> from llmclf.calibration import BiasTemperatureCalibrator
        >>> scores, columns = np.log([[0.9, 0.1], [0.1, 0.9]] * 50), np.array([0, 1] * 35 + [1, 0] * 15)
        >>> again = Corrections().recalibrated(BiasTemperatureCalibrator(), scores, columns)
        >>> bool(0.68 < np.exp(again.apply(scores[:1]))[0, 0] < 0.75)
        True
        """
        before = log_softmax(self.without_recalibration().apply(scores, heads))
        again = type(self)(self.bias, self.calibrator, self.log_prior, recalibration)
        _fit(recalibration, before, columns, sample_weight, np.arange(before.shape[1]), groups)
        again._fitted_on = before, columns, sample_weight, groups
        return again

    def check(self, columns: Integers, sample_weight: Floats | None, classes: tuple[Any, ...]) -> None:
        """Refuse labelled rows that the calibrator cannot be fitted on, before any of them is scored.

        Raises
        ------
        InputError
            A class does not occur, and the calibrator, or a prior relative to the rows' frequencies, needs every class.
        """
        counts = np.bincount(columns, row_weights(sample_weight, len(columns)), minlength=len(classes))
        absent = classes[int(np.argmin(counts))] if (counts == 0).any() else None
        if (counts == 0).any() and self.log_prior is not None:
            raise InputError(
                f"prior= needs calibration rows of every class, and none has the class {absent!r}; label some rows of it"
            )
        if (counts == 0).any() and not has_fit_parameter(self.calibrator, "classes"):
            raise InputError(
                f"calibrator={self.calibrator!r} needs calibration rows of every class, and none has the class {absent!r}; "
                "label some rows of it, or use a calibrator of llmclf.calibration"
            )

    def fit(
        self,
        scores: Floats | None,
        columns: Integers | None = None,
        sample_weight: Floats | None = None,
        content_free: Floats | None = None,
        frequencies: Floats | None = None,
        groups: Integers | None = None,
        features: Mapping[str, RowFeatures] | None = None,
    ) -> Corrections:
        """Fit the bias and the calibrator, and express the prior relative to the frequencies that they assume.

        Parameters
        ----------
        scores : ndarray (n, K), or None if `wants_rows` is false
        columns : ndarray of int (n,)
            True columns; needed for a calibrator.
        sample_weight : ndarray (n,), optional
        content_free : ndarray (m, K)
            Scores of the rows made for the bias; needed if `wants_content_free` is not None.
        frequencies : ndarray (K,), optional
            Of the classes in all labelled rows, if some of these are not among the n (as shots are drawn evenly from the
            classes); by default those of `columns`. All positive.
        groups : ndarray of int (n,), optional
            Cross-fitting never parts the rows of a group.
        features : mapping of name to RowFeatures of length n, optional
            What a `StackedCalibrator` learns from besides the scores.
        """
        if self.bias is not None:
            self._fit_bias(scores, columns, sample_weight, content_free, frequencies)
            if self.log_prior is not None and hasattr(self.bias, "prior_") and self.calibrator is None:
                self.log_prior = self.log_prior - np.log(self.bias.prior_)
        if self.calibrator is not None:
            assert scores is not None
            assert columns is not None
            scores = self._unbiased(scores)
            self._fitted_on = scores, columns, sample_weight, groups
            _fit(self.calibrator, scores, columns, sample_weight, np.arange(scores.shape[1]), groups, features)
            if self.log_prior is not None:
                log_proba = self.fitted_log_proba(scores)
                self.log_prior = self.log_prior - np.log(assumed_prior(log_proba, columns, sample_weight))
        return self

    def _fit_bias(
        self,
        scores: Floats | None,
        columns: Integers | None,
        sample_weight: Floats | None,
        content_free: Floats | None,
        frequencies: Floats | None,
    ) -> None:
        """Fit the bias. Where labels are known and nobody has named another target, their frequencies are the target."""
        fitted_on = content_free if self.wants_content_free else scores
        assert fitted_on is not None
        aims = isinstance(self.bias, BiasCorrector) and self.bias.target_prior is None and self.bias.has_target
        if columns is None or not aims:
            _fit_transformer(self.bias, fitted_on, None if self.wants_content_free else sample_weight)
            return
        own = class_frequencies(columns, sample_weight, fitted_on.shape[1])
        everywhere = own if frequencies is None else frequencies
        # Rows without content have no frequencies of their own. The mean of other rows must be that of these very rows.
        self.bias.set_params(target_prior=everywhere if self.wants_content_free else own)
        _fit_transformer(self.bias, fitted_on, None if self.wants_content_free else sample_weight)
        self.bias.set_params(target_prior=everywhere).move_to(everywhere)

    def fitted_log_proba(self, scores: Floats) -> Floats:
        """What the calibrator says of its own rows (n, K), of which it has seen the labels; members of a pool have not."""
        if isinstance(self.calibrator, PooledCalibrator):
            return self.calibrator.judged()
        return _calibrated_log_proba(self.calibrator, scores)

    def apply(self, scores: Floats, heads: Mapping[str, Floats] | None = None) -> Floats:
        """Corrected log-scores (n, K). Rows with NaN stay NaN. A calibrator or a prior may add a constant to a row.

        Parameters
        ----------
        scores : ndarray (n, K)
        heads : mapping of name to ndarray (n, K), optional
            What the heads of a pool make of the rows' features, if the calibrator is a pool with heads.
        """
        return [scores.copy(), *(corrected for _, corrected in self.steps(scores, heads))][-1]

    def steps(self, scores: Floats, heads: Mapping[str, Floats] | None = None) -> Iterator[tuple[str, Floats]]:
        """The log-scores (n, K) after each correction, with its name, in order; see `apply`."""
        heads = self._heads(scores, heads)
        scored = ~np.isnan(scores).any(axis=1)
        of_scored = None if heads is None else {name: logits[scored] for name, logits in heads.items()}

        def where_scored(correct: Callable[[Floats], Floats], before: Floats) -> Floats:
            after = before.copy()
            if scored.any():
                after[scored] = correct(before[scored])
            return after

        if self.bias is not None:
            scores = where_scored(self._unbiased, scores)
            yield "bias", scores
        if self.calibrator is not None:
            scores = where_scored(partial(_calibrated_log_proba, self.calibrator, heads=of_scored), scores)
            yield "calibrator", scores
        if self.log_prior is not None:
            scores = scores + self.log_prior
            yield "prior", scores
        if self.recalibration is not None:
            yield "recalibration", where_scored(partial(_recalibrated_log_proba, self.recalibration), scores)

    def undecided(
        self, scores: Floats, lower: Floats, upper: Floats, heads: Mapping[str, Floats] | None = None
    ) -> NDArray[np.bool_]:
        """Rows (n,) where another class could be best: the best class at its lower bound, one rival at its upper bound.

        Each rival is tried separately, and the corrections are applied. This is exact if a class's corrected score rises with
        its own score and does not fall when the score of another class falls (all but ``"matrix"`` and negative slopes).

        Parameters
        ----------
        scores, lower, upper : ndarray (n, K)
            Log-scores before the corrections, and their lower and upper bounds.
        heads : mapping of name to ndarray (n, K), optional
            As in `apply`.

        Examples
        --------
        >>> scores = np.array([[-1.0, -2.0], [-1.0, -2.0]])
        >>> Corrections().undecided(scores, scores - [[0.2], [1.5]], scores + 0.1).tolist()
        [False, True]
        """
        heads = self._heads(scores, heads)
        undecided: NDArray[np.bool_] = np.zeros(len(scores), dtype=bool)
        wide = np.flatnonzero((lower < upper).any(axis=1))
        if not wide.size:
            return undecided

        def of(rows: Integers) -> Mapping[str, Floats] | None:
            return None if heads is None else {name: logits[rows] for name, logits in heads.items()}

        best = self.apply(scores[wide], of(wide)).argmax(axis=1)
        floor, ceiling = lower[wide, best], upper[wide].copy()
        ceiling[np.arange(len(wide)), best] = -np.inf
        # An unbounded score leaves the row undecided. The corrections see finite numbers only.
        is_open = np.isneginf(floor) | np.isposinf(ceiling).any(axis=1)
        bounded = np.flatnonzero(~is_open)
        for rival in range(scores.shape[1]):
            tested = bounded[best[bounded] != rival]
            if tested.size:
                rows = np.arange(len(tested))
                trial = scores[wide[tested]].copy()
                trial[rows, best[tested]] = floor[tested]
                trial[:, rival] = ceiling[tested, rival]
                corrected = self.apply(trial, of(wide[tested]))
                is_open[tested] |= corrected[:, rival] >= corrected[rows, best[tested]]
        undecided[wide] = is_open
        return undecided

    def out_of_fold(self) -> Floats:
        """Probabilities (n, K) of the rows of `last_fitted`, each from one that was fitted on no row of its group.

        Without groups, rows with equal scores belong together; see `llmclf.numerics.folds.copies`. The prior is left out, since
        these rows have their own frequencies. The bias is kept, since it knows no more of the labels than their frequencies.

        Raises
        ------
        InputError
            There are too few rows, or a class that the calibrator needs is missing from the rows outside some fold.
        """
        assert self._fitted_on is not None
        last = self.last_fitted
        if isinstance(last, PooledCalibrator):
            return np.exp(last.cross_fitted())
        scores, columns, weights, groups = self._fitted_on
        folds = fold_weights(floor_missing(scores)[0], columns, np.ones(len(scores)), groups=groups).argmax(axis=1)
        if len(np.unique(folds)) < 2:
            raise InputError(
                "calibration_proba_ needs at least two different calibration rows, of different groups; give more labelled rows"
            )
        proba = np.empty_like(scores)
        for fold in np.unique(folds):
            test = folds == fold
            calibrator = clone(last)
            train_weights = None if weights is None else weights[~test]
            train_groups = None if groups is None else groups[~test]
            _fit(calibrator, scores[~test], columns[~test], train_weights, np.arange(scores.shape[1]), train_groups)
            if len(calibrator.classes_) != scores.shape[1]:
                raise InputError(
                    f"calibration_proba_ needs rows of every class in every fold for calibrator={last!r}; "
                    "label more rows of the rarest class"
                )
            proba[test] = np.exp(_calibrated_log_proba(calibrator, scores[test]))
        return proba

    def to_dict(self) -> dict[str, Any]:
        """Everything that `apply` depends on, ready for JSON but for the arrays of a pool's members."""
        parts = {"bias": self.bias, "calibrator": self.calibrator, "recalibration": self.recalibration}
        for name, part in parts.items():
            if part is not None and not hasattr(part, "to_dict"):
                raise InputError(f"{name}={part!r} cannot be saved as JSON; use one of llmclf.calibration")
        return {
            "bias": None if self.bias is None else self.bias.to_dict(),
            "calibrator": _calibrator_to_dict(self.calibrator),
            "log_prior": None if self.log_prior is None else self.log_prior.tolist(),
            # Absent in folders of earlier versions, and where there is none.
            **({} if self.recalibration is None else {"recalibration": _calibrator_to_dict(self.recalibration)}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], n_classes: int) -> Corrections:
        """The inverse of `to_dict`, for scores of so many classes.

        Raises
        ------
        InputError
            These are no values that fitting can produce for so many classes.
        """
        more = [name for name in ("recalibration",) if isinstance(values, Mapping) and name in values]
        check_keys(values, ["bias", "calibrator", "log_prior", *more], "the corrections")
        bias = None if values["bias"] is None else BiasCorrector.from_dict(values["bias"])
        if bias is not None and bias.bias_.size != n_classes:
            raise InputError(f"the bias has {bias.bias_.size} numbers; expected one for each of {n_classes} classes")
        calibrator = _calibrator_from_dict(values["calibrator"], n_classes)
        recalibration = _calibrator_from_dict(values.get("recalibration"), n_classes)
        if isinstance(recalibration, StackedCalibrator):
            raise InputError("the recalibration is a pool with features; expected one of log-probabilities alone")
        prior = values["log_prior"]
        log_prior = None if prior is None else checked_numbers(prior, (n_classes,), "log_prior")
        return cls(bias, calibrator, log_prior, recalibration)

    def _unbiased(self, scores: Floats) -> Floats:
        if self.bias is None:
            return scores
        corrected: Floats = self.bias.transform(scores)
        return corrected


def _calibrator_to_dict(calibrator: Any) -> dict[str, Any] | None:
    if isinstance(calibrator, PooledCalibrator):
        return calibrator.to_dict(arrays=True)
    described: dict[str, Any] | None = None if calibrator is None else calibrator.to_dict()
    return described


def _calibrator_from_dict(values: Any, n_classes: int) -> BaseCalibrator | None:
    if values is None:
        return None
    calibrator = calibrator_from_dict(values)
    # `fit` knows classes by their columns.
    if calibrator.classes_.tolist() != list(range(n_classes)):
        raise InputError(
            f"the calibrator has the classes {calibrator.classes_.tolist()!r}; expected the columns 0 to {n_classes - 1}"
        )
    return calibrator


def class_frequencies(columns: Integers, sample_weight: Floats | None, n_classes: int) -> Floats:
    """Frequencies (K,) of the classes, all positive: if some class is absent, each class gets one row more.

    Examples
    --------
    >>> class_frequencies(np.array([0, 0, 0, 1]), None, 2).tolist(), class_frequencies(np.array([0, 0]), None, 2).tolist()
    ([0.75, 0.25], [0.75, 0.25])
    """
    weights = row_weights(sample_weight, len(columns))
    counts = np.bincount(columns, weights, minlength=n_classes)
    counts += not counts.all()
    result: Floats = counts / counts.sum()
    return result


def assumed_prior(log_proba: Floats, columns: Integers, sample_weight: Floats | None = None) -> Floats:
    r"""The class frequencies (K,) that probabilities assume: those to divide by where other frequencies are expected.

    Let q be the probabilities of labelled rows, and r the frequencies of their classes. If only the frequencies change, the
    likelihood ratios of the classes stay, and the posterior is :math:`q_k \pi_k / \rho_k`, where :math:`\rho` is the prior that q
    assumes. It need not be r: a temperature keeps the preferences of the model. It need not be the mean of q either, which lies
    between the two where the rows are hard to tell. It is the :math:`\rho` for which probabilities of these rows, made with their
    own frequencies, have these frequencies as their mean: :math:`mean_i softmax(\log q_i + \log r - \log \rho) = r` (Saerens,
    Latinne & Decaestecker 2002, equation 4, with known frequencies, solved for the old prior). Maximum likelihood says the
    same.

    With few rows r is known badly. So one row for each class is added to it, distributed as the mean of q.

    Parameters
    ----------
    log_proba : ndarray (n, K)
        log q.
    columns : ndarray of int (n,)
        True columns.
    sample_weight : ndarray (n,), optional

    Returns
    -------
    ndarray (K,), sum 1

    Examples
    --------
    >>> one, other = [0.9, 0.1], [0.1, 0.9]  # nine times as probable in rows of its own class, so right for equal frequencies
    >>> log_proba = np.log([one] * 810 + [other] * 90 + [other] * 90 + [one] * 10)
    >>> assumed_prior(log_proba, np.repeat([0, 1], [900, 100])).round(2).tolist()
    [0.5, 0.5]
    """
    logs, _ = floor_missing(log_softmax(log_proba))
    weights = row_weights(sample_weight, len(columns))
    n_rows, n_classes = weights.sum(), logs.shape[1]
    mean = weights @ np.exp(logs) / n_rows
    frequencies = (np.bincount(columns, weights, minlength=n_classes) + n_classes * mean) / (n_rows + n_classes)
    frequencies = np.maximum(frequencies, 1e-12) / np.maximum(frequencies, 1e-12).sum()
    bias = BiasCorrector("ucpa", target_prior=frequencies).fit(logs, sample_weight=weights).bias_
    return softmax(np.log(frequencies) - bias)


def _fit_transformer(bias: Any, scores: Floats, sample_weight: Floats | None) -> None:
    # Weights are passed only if given and accepted: the transformer may be any of the caller.
    if sample_weight is not None and has_fit_parameter(bias, "sample_weight"):
        bias.fit(scores, sample_weight=sample_weight)
    else:
        bias.fit(scores)


def _fit(
    calibrator: Any,
    scores: Floats,
    columns: Integers,
    sample_weight: Floats | None,
    classes: Integers,
    groups: Integers | None,
    features: Mapping[str, RowFeatures] | None = None,
) -> None:
    # All else is passed only if given and accepted: the calibrator may be any estimator of the caller.
    extra: dict[str, Any] = {} if sample_weight is None else {"sample_weight": sample_weight}
    if has_fit_parameter(calibrator, "classes"):
        extra["classes"] = classes
    if groups is not None and has_fit_parameter(calibrator, "groups"):
        extra["groups"] = groups
    if features:
        extra["features"] = features
    calibrator.fit(scores, columns, **extra)


def _calibrated_log_proba(calibrator: Any, scores: Floats, heads: Mapping[str, Floats] | None = None) -> Floats:
    if isinstance(calibrator, StackedCalibrator):
        return calibrator.predict_log_proba(scores, heads)
    if hasattr(calibrator, "predict_log_proba"):
        logs: Floats = calibrator.predict_log_proba(scores)
        return logs
    with np.errstate(divide="ignore"):
        log_proba: Floats = np.log(calibrator.predict_proba(scores))
    return log_proba


def _recalibrated_log_proba(recalibration: Any, scores: Floats) -> Floats:
    return _calibrated_log_proba(recalibration, log_softmax(scores))
