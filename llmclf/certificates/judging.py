"""What labelled rows show of a classifier that none of them has taught: the promise, the calibration, and each part by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from ..arrays import Floats, Integers
from ..calibration import select_threshold
from ..calibration.selective import rows_needed
from ..errors import NotCertifiedError
from ..metrics import calibration_test, exact_bounds
from ..numerics.groups import effective_number
from ..numerics.thinning import evenly_drawn
from .content import CalibrationTest, Estimate, Guarantee, Part

CLASSES = "predicted class"
"""The partition of the rows by their most probable class."""
_SEED = 0  # of the rows that count as drawn evenly, and of the calibration test
_ROUNDING = 1e-9
_MOST_FACTOR = 1000  # times as many accepted rows: beyond, nobody labels them
_NOBODY = Estimate(value=None, low=None, high=None)


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Labelled rows (n,) that nothing was fitted on, and what the classifier says of them.

    Attributes
    ----------
    proba : ndarray (n, K)
        NaN in rows that could not be scored.
    columns : ndarray of int (n,)
        True columns.
    names : list of K str
        The classes.
    members : ndarray of int (n,)
        Which rows belong together.
    inclusion : ndarray (n,) or None
        With what probability each row was drawn; None: all with the same.
    partitions : mapping of name to ndarray of str (n,)
        Groups that are judged by themselves.
    """

    proba: Floats
    columns: Integers
    names: list[str]
    members: Integers
    inclusion: Floats | None
    partitions: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """Whether the row has probabilities (n,)."""
        scored: NDArray[np.bool_] = np.asarray(~np.isnan(self.proba).any(axis=1))
        return scored

    @cached_property
    def predicted(self) -> Integers:
        """The most probable column (n,), the first of them where several are; 0 in rows without probabilities."""
        columns: Integers = np.where(self.is_scored[:, None], self.proba, 0.0).argmax(axis=1)
        return columns

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether that is the true one (n,)."""
        right: NDArray[np.bool_] = self.is_scored & (self.predicted == self.columns)
        return right

    @cached_property
    def is_even(self) -> NDArray[np.bool_]:
        """Which rows (n,) to use, so that all of them have been drawn with the same probability."""
        return self.evenly(np.ones(len(self), dtype=bool))

    def counted_wrong(self, mask: NDArray[np.bool_]) -> LabelledRows:
        """The same rows with a true class that was not predicted where `mask` (n,) is true."""
        if not mask.any():
            return self
        return replace(self, columns=np.where(mask, (self.predicted + 1) % len(self.names), self.columns))

    def accepted(self, threshold: float) -> NDArray[np.bool_]:
        """Whether the confidence reaches a threshold (n,)."""
        confidence = np.where(self.is_scored[:, None], self.proba, -1.0).max(axis=1)
        accepted: NDArray[np.bool_] = self.is_scored & (confidence >= threshold)
        return accepted

    def evenly(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the rows in a mask (n,) to use, so that all of them have been drawn with the same probability."""
        if self.inclusion is None or not mask.any():
            return mask
        used = np.zeros(len(self), dtype=bool)
        used[np.flatnonzero(mask)[evenly_drawn(self.inclusion[mask], _SEED)]] = True
        return used

    def worth(self, mask: NDArray[np.bool_]) -> float:
        """How many independent rows those in a mask (n,) are worth."""
        return effective_number(self.members[mask], int(mask.sum()))


def guarantee_before(rows: LabelledRows, threshold: float, max_error: float, confidence: float) -> Guarantee:
    """What the rows show of a threshold that was there before them.

    The number of wrong rows among the accepted ones is then binomial, so the bound is Clopper and Pearson's.

    Raises
    ------
    NotCertifiedError
        They do not show that at most `max_error` of the accepted rows are wrong.
    """
    alpha = 1.0 - confidence
    accepted = rows.evenly(rows.accepted(threshold))
    n_accepted, n_wrong, worth = int(accepted.sum()), int((accepted & ~rows.is_right).sum()), rows.worth(accepted)
    coverage = _share(rows.is_even & rows.accepted(threshold), rows.is_even, rows, alpha / 2.0)
    bound = _bound(n_wrong, n_accepted, worth, alpha)
    if bound > max_error:
        rate = n_wrong / max(1, n_accepted)
        needed = _accepted_needed(rate, worth, max_error, alpha)
        share = (coverage.value or 0.0) * worth / max(1, n_accepted)
        more = None if needed is None or not share else math.ceil(needed / share)
        reached = {
            "max_error": max_error,
            "confidence": confidence,
            "threshold": threshold,
            "n_rows": len(rows),
            "n_accepted": n_accepted,
            "n_wrong": n_wrong,
            "error": rate if n_accepted else None,
            "error_bound": bound if n_accepted else None,
            "coverage": coverage.model_dump(),
            "rows_needed": more,
        }
        raise NotCertifiedError(_why_not(reached, worth, alpha), reached)
    return Guarantee(
        max_error=max_error,
        confidence=confidence,
        threshold=threshold,
        threshold_from="before",
        n_accepted=n_accepted,
        n_wrong=n_wrong,
        error=n_wrong / n_accepted,
        error_bound=bound,
        coverage=coverage,
    )


def guarantee_selected(rows: LabelledRows, max_error: float, confidence: float) -> Guarantee:
    """The lowest threshold that the rows allow, with what `llmclf.calibration.select_threshold` promises of it.

    The interval of its coverage holds for all thresholds at once (Massart 1990, "The tight constant in the
    Dvoretzky-Kiefer-Wolfowitz inequality"), since this one was chosen among them.

    Raises
    ------
    NotCertifiedError
        They allow none.

    Warns
    -----
    CalibrationWarning
        The same, with how close the closest came.
    """
    scored = rows.is_scored
    chosen = select_threshold(
        rows.columns[scored],
        rows.proba[scored],
        max_error=max_error,
        confidence=confidence,
        groups=rows.members[scored],
        inclusion=None if rows.inclusion is None else rows.inclusion[scored],
    )
    if not chosen.n_accepted:
        reached = {"max_error": max_error, "confidence": confidence, "n_rows": len(rows), "threshold": None}
        raise NotCertifiedError(
            f"no certificate: at no threshold do these {len(rows)} rows show with confidence {confidence:.4g} that at most "
            f"{max_error:.4g} of the accepted rows are wrong",
            reached,
        )
    accepted = rows.accepted(chosen.threshold) & rows.is_even
    share = float(accepted.sum()) / float(rows.is_even.sum())
    reach = math.sqrt(math.log(2.0 / (1.0 - confidence)) / (2.0 * rows.worth(rows.is_even)))
    return Guarantee(
        max_error=max_error,
        confidence=confidence,
        threshold=chosen.threshold,
        threshold_from="these rows",
        n_accepted=chosen.n_accepted,
        n_wrong=round(chosen.error * chosen.n_accepted),
        error=chosen.error,
        error_bound=chosen.error_bound,
        coverage=Estimate(value=share, low=max(0.0, share - reach), high=min(1.0, share + reach)),
    )


def calibration_of(rows: LabelledRows) -> CalibrationTest:
    """Whether a calibrated model could have given these probabilities; see `llmclf.metrics.calibration_test`."""
    used = rows.is_even & rows.is_scored
    test = calibration_test(
        rows.columns[used], rows.proba[used], groups=rows.members[used], n_resamples=999, random_state=_SEED
    )
    return CalibrationTest(error=test.error, null_mean=test.null_mean, p_value=test.p_value)


def parts_of(rows: LabelledRows, threshold: float, max_error: float, confidence: float) -> list[Part]:
    """Each class, by what was predicted, and each group: how many of its accepted rows are wrong.

    All intervals hold together: each has the level that Bonferroni leaves to it. The p-values are corrected as Holm (1979, "A
    simple sequentially rejective multiple test procedure") does.
    """
    alpha = 1.0 - confidence
    accepted = rows.accepted(threshold)
    even_accepted = rows.evenly(accepted)
    classes = np.array(rows.names, dtype=object)[rows.predicted]
    classes[~rows.is_scored] = ""
    partitions = [(CLASSES, name, classes == name) for name in rows.names]
    for partition, names in rows.partitions.items():
        distinct, counts = np.unique(names, return_counts=True)
        ordered = distinct[np.argsort(-counts, kind="stable")]
        partitions += [(partition, str(name), names == name) for name in ordered]
    tail = alpha / (2.0 * len(partitions))
    found = []
    for partition, name, mask in partitions:
        own = even_accepted & mask
        wrong, n, worth = int((own & ~rows.is_right).sum()), int(own.sum()), rows.worth(own)
        found.append((partition, name, mask, own, wrong, n, _chance(wrong, n, worth, max_error)))
    p_values = holm([p for *_, p in found])
    parts = []
    for (partition, name, mask, own, wrong, n, _), p in zip(found, p_values, strict=True):
        error = _share(own & ~rows.is_right, own, rows, tail)
        finding = "open"
        if n and p <= alpha / 2.0:  # the other half is that of what is called broken
            finding = "kept"
        elif error.low is not None and error.low > max_error:
            finding = "broken"
        parts.append(
            Part(
                partition=partition,
                name=name,
                n_rows=int(mask.sum()),
                n_accepted=n,
                n_wrong=wrong,
                error=error,
                coverage=_share(accepted & mask & rows.is_even, mask & rows.is_even, rows, tail),
                p_value=p if n else None,
                finding=finding,  # type: ignore[arg-type]
            )
        )
    return parts


def holm(p_values: list[float]) -> list[float]:
    """P-values of several tests, corrected for their number.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected


def _bound(n_wrong: int, n_accepted: int, worth: float, alpha: float) -> float:
    """The upper bound on the share of wrong rows."""
    if not n_accepted:
        return 1.0
    return float(exact_bounds(np.array(n_wrong * worth / n_accepted), np.array(worth), alpha)[1])


def _share(hits: NDArray[np.bool_], of: NDArray[np.bool_], rows: LabelledRows, tail: float) -> Estimate:
    """The share of some rows among others, whose exact interval is missed on each side with probability `tail`."""
    n = int(of.sum())
    if not n:
        return _NOBODY
    worth, share = rows.worth(of), float(hits.sum()) / n
    low, high = exact_bounds(np.array(share * worth), np.array(worth), tail)
    return Estimate(value=share, low=min(float(low), share), high=max(float(high), share))


def _chance(n_wrong: int, n_accepted: int, worth: float, max_error: float) -> float:
    """The probability of so few wrong rows or fewer if each is wrong with probability `max_error`."""
    if not n_accepted:
        return 1.0
    wrong = n_wrong * worth / n_accepted
    return 1.0 if wrong >= worth else float(1.0 - betainc(wrong + 1.0, worth - wrong, max_error))


def _accepted_needed(rate: float, worth: float, max_error: float, alpha: float) -> int | None:
    """How many independent accepted rows would show it at the same error rate; None: none that anybody would label."""
    if rate >= max_error:
        return None
    low, high = 1, rows_needed(max_error, alpha)
    limit = _MOST_FACTOR * max(high, math.ceil(worth))

    def suffices(n: int) -> bool:
        return _bound(math.ceil(rate * n - _ROUNDING), n, float(n), alpha) <= max_error

    while not suffices(high):
        low, high = high, 2 * high
        if high > limit:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _why_not(reached: Mapping[str, Any], worth: float, alpha: float) -> str:
    """What the rows show instead of what was to be promised, and what may help."""
    max_error, n = reached["max_error"], reached["n_accepted"]
    start = (
        f"no certificate: of {reached['n_rows']} rows {n} are accepted from confidence {reached['threshold']:.4g} on, "
        f"{reached['n_wrong']} of them wrong, which shows with confidence {reached['confidence']:.4g} that "
    )
    if not n:
        return (
            f"{start}nothing is known of accepted rows; choose a lower threshold on other rows, with fit_threshold, and certify "
            "on rows that were not judged before"
        )
    start += f"at most {reached['error_bound']:.3g} of such rows are wrong, and not {max_error:.4g}"
    least = rows_needed(max_error, alpha)
    if reached["rows_needed"] is None:
        return (
            f"{start}; so many are wrong that more rows will hardly help: choose a higher threshold on other rows, with "
            "fit_threshold, or recalibrate, and certify on rows that were not judged before; or promise less"
        )
    few = f" (at least {least} accepted ones are needed even if all are right)" if worth < least else ""
    return f"{start}{few}; at the same error rate, about {reached['rows_needed']} new labelled rows would be enough"
