"""Estimated shares, and what can be read from them: tables of classes, of groups, and of differences between groups."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ..arrays import Floats, Integers
from ..errors import InputError
from .count_intervals import count_interval, population_interval

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "share",
    "low",
    "high",
    "by_hand",
    "by_hand_low",
    "by_hand_high",
    "naive",
    "mean_probability",
    "worth",
    "cases",
)


@dataclass(frozen=True, eq=False)
class PartEstimate:
    """The shares (K,) of a table or of a group, before a confidence level is chosen.

    Attributes
    ----------
    share, by_hand, naive, mean_probability : ndarray (K,)
        The estimate; the labelled rows alone; predicted labels, counted; the mean of the model's probabilities.
    power : ndarray (K,)
        How far the probabilities are used, from 0 to 1.
    size_by_hand : ndarray (K,)
        As many simply counted rows are the labels alone worth.
    remaining : ndarray (K,)
        The variance of the estimate in units of that of the labels alone.
    rest : ndarray (K,)
        The finite population correction of standard errors.
    known : ndarray (K,)
        The part of the table that is labelled as the class.
    n_labelled : int
    cases : ndarray of int (K,)
        Labelled rows of each class.
    degrees_of_freedom : float
    contributions : ndarray (number of units, K)
        As `LabelledSample.contributions`, of the errors of the estimate.
    population : int, optional
        The number of rows, if the labelled ones are a simple random sample of them that count alike.
    """

    share: Floats
    by_hand: Floats
    naive: Floats
    mean_probability: Floats
    power: Floats
    size_by_hand: Floats
    remaining: Floats
    rest: Floats
    known: Floats
    n_labelled: int
    cases: Integers
    degrees_of_freedom: float
    contributions: Floats
    population: int | None = None

    @classmethod
    def without_labels(cls, naive: Floats, mean_probability: Floats) -> PartEstimate:
        """Of a group without labelled rows nothing is known: the shares are NaN, between 0 and 1."""
        k = len(naive)
        unknown, nothing = np.full(k, np.nan), np.zeros(k)
        return cls(
            share=unknown,
            by_hand=unknown,
            naive=naive,
            mean_probability=mean_probability,
            power=nothing,
            size_by_hand=nothing,
            remaining=np.ones(k),
            rest=np.ones(k),
            known=nothing,
            n_labelled=0,
            cases=np.zeros(k, dtype=np.int64),
            degrees_of_freedom=1,
            contributions=np.zeros((1, k)),
        )

    @property
    def worth(self) -> Floats:
        """As many labels by hand, drawn in the same way, would give such intervals (K,)."""
        result: Floats = self.n_labelled / self.remaining
        return result

    def interval(self, alpha: float) -> tuple[Floats, Floats]:
        """The ends (K,) of the intervals of the estimates, at the level 1 - `alpha`."""
        return self._ends(self.share, self.remaining, alpha)

    def interval_by_hand(self, alpha: float) -> tuple[Floats, Floats]:
        """The ends (K,) of the intervals of the labels alone."""
        return self._ends(self.by_hand, np.ones_like(self.share), alpha)

    def _ends(self, share: Floats, remaining: Floats, alpha: float) -> tuple[Floats, Floats]:
        if not self.n_labelled:
            return np.zeros_like(share), np.ones_like(share)
        size = self.size_by_hand / remaining
        if 1 < self.degrees_of_freedom < self.n_labelled - 1:
            # Variances of few clusters are themselves uncertain (Korn & Graubard 1998).
            ratio = student.ppf(alpha / 2, self.n_labelled - 1) / student.ppf(alpha / 2, self.degrees_of_freedom)
            size = size * ratio**2
        gain = np.maximum(1.0, 1.0 / remaining)
        low, high = count_interval(share * size, size, alpha, step=gain, smoothness=1.0 - 1.0 / gain)
        below, above = self._nearer(alpha)
        # An estimate that a given tuning, or labels of unlike weight, put beyond what is known stays in its interval.
        most = np.maximum(1.0 - (self.known.sum(axis=-1, keepdims=True) - self.known), share)
        low, high = share - below * (share - low), share + above * (high - share)
        if self.population is not None:
            # A share of a table that is partly known is one of whole rows: an interval ends at none between them.
            is_partly_known = self.rest < 1.0
            low = np.where(is_partly_known, np.floor(low * self.population + 1e-9) / self.population, low)
            high = np.where(is_partly_known, np.ceil(high * self.population - 1e-9) / self.population, high)
        return np.clip(low, np.minimum(self.known, share), 1.0), np.clip(high, 0.0, most)

    def _nearer(self, alpha: float) -> tuple[Floats, Floats]:
        """By what factors (K,) the ends are nearer because part of the table is known, below and above.

        Of a simple random sample, those by which the exact interval of the population's count is shorter than that of an endless
        one: with few cases, far from the square root that the variance has.
        """
        if self.population is None or not (self.rest < 1.0).any():
            return self.rest, self.rest
        by_hand = self.cases / self.n_labelled
        finite = population_interval(self.cases, self.n_labelled, self.population, alpha)
        endless = count_interval(self.cases, self.n_labelled, alpha)
        below, above = (
            np.divide(np.abs(one - by_hand), np.abs(other - by_hand), out=np.ones_like(by_hand), where=other != by_hand)
            for one, other in zip(finite, endless, strict=True)
        )
        return np.where(self.rest < 1.0, below, 1.0), np.where(self.rest < 1.0, above, 1.0)


@dataclass(frozen=True, eq=False, repr=False)
class ShareEstimates:
    """Shares of classes among all rows, as `estimate_shares` finds them.

    Attributes
    ----------
    classes : ndarray (K,)
    overall : PartEstimate
        For all rows.
    groups : dict of group -> PartEstimate
        Empty without groups.
    confidence_level : float
    simultaneous : bool
        Whether the intervals of a table hold together.
    is_recalibrated : bool
    """

    classes: NDArray[Any]
    overall: PartEstimate
    groups: dict[Any, PartEstimate]
    confidence_level: float
    simultaneous: bool
    is_recalibrated: bool

    def to_frame(self) -> pd.DataFrame:
        """One row per class, for all rows of the table.

        Returns
        -------
        DataFrame
            ``class``, ``share``, ``low``, ``high``; the labels alone as ``by_hand``, ``by_hand_low`` and ``by_hand_high``;
            ``naive``, the predicted labels counted; ``mean_probability``; ``worth``, how many labels by hand would give such an
            interval; ``cases``, how many labelled rows are of the class; and ``method``.
        """
        return self._frame({None: self.overall}).drop(columns="group")

    def group_frame(self) -> pd.DataFrame:
        """The same per group, in the column ``group``.

        Raises
        ------
        InputError
            The estimates were made without groups.
        """
        self._check_groups()
        return self._frame(self.groups)

    def difference_frame(self, contrasts: str = "pairs") -> pd.DataFrame:
        """Differences of shares between groups, with intervals that hold together.

        The intervals are made from those of the two shares, at a level for as many differences as there are (Bonferroni), so that
        they are right for rare classes, too (the method of variance estimates recovery: Newcombe 1998, "Interval estimation for
        the difference between independent proportions"; with clusters in both groups, with their correlation: Zou & Donner 2008).

        Parameters
        ----------
        contrasts : str
            ``"pairs"``: every group less every earlier one. ``"previous"``: less the one before it, for periods. ``"first"``:
            less the first.

        Returns
        -------
        DataFrame
            ``class``, ``difference``, ``low``, ``high``, ``group``, ``reference``, and ``differs``: whether 0 lies outside.

        Raises
        ------
        InputError
            There are no two groups, or no such contrasts.
        """
        import pandas as pd

        self._check_groups()
        pairs = _pairs(list(self.groups), contrasts)
        alpha = (1.0 - self.confidence_level) / (len(pairs) * self._n_free_classes)
        ends = {name: part.interval(alpha) for name, part in self.groups.items()}
        records = []
        for group, reference in pairs:
            one, other = self.groups[group], self.groups[reference]
            (low, high), (other_low, other_high) = ends[group], ends[reference]
            correlation = _correlations(one.contributions, other.contributions)
            difference = one.share - other.share
            below = _recovered(one.share - low, other_high - other.share, correlation)
            above = _recovered(high - one.share, other.share - other_low, correlation)
            for k, label in enumerate(self.classes.tolist()):
                known = bool(np.isfinite(difference[k]))
                left = max(-1.0, difference[k] - below[k]) if known else -1.0
                right = min(1.0, difference[k] + above[k]) if known else 1.0
                records.append(
                    {
                        "class": label,
                        "difference": float(difference[k]),
                        "low": float(left),
                        "high": float(right),
                        "group": group,
                        "reference": reference,
                        "differs": not left <= 0.0 <= right,
                    }
                )
        return pd.DataFrame(records)

    def to_dict(self, contrasts: str | None = None) -> dict[str, Any]:
        """All tables as plain values for JSON: ``shares``, and with groups ``groups`` and, if asked for, ``differences``."""
        result: dict[str, Any] = {
            "confidence_level": self.confidence_level,
            "simultaneous": self.simultaneous,
            "n_labelled": self.overall.n_labelled,
            "method": self.method,
            "shares": _records(self.to_frame()),
        }
        if self.groups:
            result["groups"] = _records(self.group_frame())
        if contrasts is not None:
            result["differences"] = _records(self.difference_frame(contrasts))
        return result

    @property
    def method(self) -> str:
        """How the estimates were made, in a few words."""
        kind = "recalibrated, " if self.is_recalibrated else ""
        together = ", simultaneous" if self.simultaneous else ""
        return f"difference estimator, {kind}power-tuned; exact interval at the effective count{together}"

    @property
    def _n_free_classes(self) -> int:
        return 1 if len(self.classes) == 2 else len(self.classes)

    def _check_groups(self) -> None:
        if not self.groups:
            raise InputError("there are no groups; give the group of each row to estimate_shares as groups=")

    def _frame(self, parts: dict[Any, PartEstimate]) -> pd.DataFrame:
        import pandas as pd

        alpha = 1.0 - self.confidence_level
        if self.simultaneous:
            alpha /= self._n_free_classes * len(parts)
        frames = []
        for name, part in parts.items():
            (low, high), (hand_low, hand_high) = part.interval(alpha), part.interval_by_hand(alpha)
            values = (
                part.share,
                low,
                high,
                part.by_hand,
                hand_low,
                hand_high,
                part.naive,
                part.mean_probability,
                part.worth,
                part.cases,
            )
            frame = pd.DataFrame({"class": self.classes.tolist(), **dict(zip(_COLUMNS, values, strict=True))})
            frame.insert(4, "group", [name] * len(frame))
            frames.append(frame)
        result = pd.concat(frames, ignore_index=True)
        result["method"] = self.method
        return result

    def difference_text(self, contrasts: str = "pairs") -> str:
        """`difference_frame` as a table for people, in percentage points."""
        frame = self.difference_frame(contrasts)
        table = [["group", "less", "class", "points", "interval", ""]]
        for row in frame.to_dict(orient="records"):
            ends = f"{_points(row['low'])} to {_points(row['high'])}"
            names = [str(row["group"]), str(row["reference"]), str(row["class"])]
            table.append([*names, _points(row["difference"]), ends, "differs" if row["differs"] else ""])
        n_contrasts = len(frame) // len(self.classes)
        title = f"Differences between groups, {100 * self.confidence_level:g} % intervals that hold together for all "
        return f"{title}{n_contrasts * self._n_free_classes}\n{_aligned(table, 3)}"

    def __str__(self) -> str:
        level = f"{100 * self.confidence_level:g} %"
        together = " that hold together" if self.simultaneous else ""
        title = f"Shares of classes with {level} intervals{together}, from {self.overall.n_labelled} labelled rows"
        lines = [title, _text_table(self.to_frame())]
        if self.groups:
            lines += ["", f"By group, {level} intervals{together}", _text_table(self.group_frame())]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _pairs(names: list[Any], contrasts: str) -> list[tuple[Any, Any]]:
    if len(names) < 2:
        raise InputError(f"there is one group, {names[0]!r}; a difference needs two")
    if contrasts == "pairs":
        return [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    if contrasts == "previous":
        return [(later, earlier) for earlier, later in itertools.pairwise(names)]
    if contrasts == "first":
        return [(name, names[0]) for name in names[1:]]
    raise InputError(f"contrasts={contrasts!r}; expected 'pairs', 'previous' or 'first'")


def _correlations(one: Floats, other: Floats) -> Floats:
    """The correlations (K,) of two groups' estimates, which share units if clusters lie in both."""
    if one.shape != other.shape:
        return np.zeros(one.shape[1])
    together = np.einsum("uk,uk->k", one, other)
    scale = np.sqrt(np.einsum("uk,uk->k", one, one) * np.einsum("uk,uk->k", other, other))
    result: Floats = np.clip(np.divide(together, scale, out=np.zeros_like(scale), where=scale > 0), -1.0, 1.0)
    return result


def _recovered(first: Floats, second: Floats, correlation: Floats) -> Floats:
    result: Floats = np.sqrt(np.maximum(0.0, first**2 - 2.0 * correlation * first * second + second**2))
    return result


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; NaN, which JSON lacks, as None."""
    return [
        {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in record.items()
            if key != "method"
        }
        for record in frame.to_dict(orient="records")
    ]


def _points(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:+.1f}"


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _text_table(frame: pd.DataFrame) -> str:
    """Percentages side by side, one line per class."""
    has_groups = "group" in frame
    table = [["class", "share %", "interval", "by hand", "interval", "naive", "mean p", "worth"]]
    if has_groups:
        table[0].insert(0, "group")
    for row in frame.to_dict(orient="records"):
        line = [
            str(row["class"]),
            _percent(row["share"]),
            f"{_percent(row['low'])} to {_percent(row['high'])}",
            _percent(row["by_hand"]),
            f"{_percent(row['by_hand_low'])} to {_percent(row['by_hand_high'])}",
            _percent(row["naive"]),
            _percent(row["mean_probability"]),
            f"{row['worth']:.0f}",
        ]
        table.append([str(row["group"]), *line] if has_groups else line)
    return _aligned(table, 2 if has_groups else 1)


def _aligned(table: list[list[str]], n_names: int) -> str:
    """Cells in columns: the names on the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < n_names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
