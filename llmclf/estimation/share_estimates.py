"""Estimated shares, and what can be read from them: tables of classes, of groups, and of differences between groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ..arrays import Floats, Integers
from .count_intervals import count_interval, population_interval
from .groups import Estimates, aligned, check_groups, difference_records, group_pairs

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
    "labelled",
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
        """As many labels by hand, drawn in the same way, would give such intervals (K,); at most all rows, if these are known."""
        result: Floats = np.minimum(
            self.n_labelled / self.remaining, np.inf if self.population is None else self.population
        )
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
            interval; ``cases``, how many labelled rows are of the class, and ``labelled``, how many there are of all classes; and
            ``method``.
        """
        return self._frame({None: self.overall}).drop(columns="group")

    def group_frame(self) -> pd.DataFrame:
        """The same per group, in the column ``group``.

        Raises
        ------
        InputError
            The estimates were made without groups.
        """
        check_groups(self.groups, "estimate_shares")
        return self._frame(self.groups)

    def difference_frame(self, contrasts: str = "pairs") -> pd.DataFrame:
        """Differences of shares between groups, with intervals that hold together.

        The intervals are made from those of the two shares, at a level for as many differences as there are (Bonferroni), so that
        they are right for rare classes, too; see `llmclf.estimation.groups.difference_records`.

        Parameters
        ----------
        contrasts : str
            ``"pairs"``: every group less every earlier one. ``"previous"``: less the one before it, for periods. ``"first"``:
            less the first.

        Returns
        -------
        DataFrame
            ``class``, ``difference`` (the share in ``group`` less that in ``reference``), ``low``, ``high``, ``group``,
            ``reference``, and ``differs``: whether 0 lies outside.

        Raises
        ------
        InputError
            There are no two groups, or no such contrasts.
        """
        import pandas as pd

        check_groups(self.groups, "estimate_shares")
        pairs = group_pairs(list(self.groups), contrasts)
        alpha = (1.0 - self.confidence_level) / (len(pairs) * self._n_free_classes)
        estimates = {
            name: Estimates(part.share, *part.interval(alpha), part.contributions) for name, part in self.groups.items()
        }
        names = self.classes.tolist()
        return pd.DataFrame(difference_records(estimates, pairs, "class", names, np.ones(len(names))))

    def all_frame(self, contrasts: str | None = None) -> pd.DataFrame:
        """All tables as one, such as for a file.

        Parameters
        ----------
        contrasts : str, optional
            As in `difference_frame`; None: without differences.

        Returns
        -------
        DataFrame
            First ``table``: "all rows", "group" or "difference". Then the columns of `to_frame`, `group_frame` and
            `difference_frame`, empty where a table has none of that name.
        """
        import pandas as pd

        parts = {"all rows": self.to_frame()}
        if self.groups:
            parts["group"] = self.group_frame()
        if contrasts is not None:
            parts["difference"] = self.difference_frame(contrasts)
        # As objects: beside empty cells, a group 2024 would become 2024.0.
        kept = dict.fromkeys(("group", "reference"), object)
        frame = pd.concat(
            [
                part.assign(table=name).astype({key: kept[key] for key in part.columns.intersection(list(kept))})
                for name, part in parts.items()
            ],
            ignore_index=True,
        )
        first = [
            name for name in ("table", "group", "reference", "class", "share", "difference") if name in frame.columns
        ]
        counts = dict.fromkeys(("cases", "labelled"), "Int64")
        return frame[[*first, *(name for name in frame.columns if name not in first)]].astype(counts)

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
                part.n_labelled,
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
        table = [["group", "reference", "class", "points", "interval", ""]]
        for row in frame.to_dict(orient="records"):
            ends = f"{_points(row['low'])} to {_points(row['high'])}"
            names = [str(row["group"]), str(row["reference"]), str(row["class"])]
            table.append([*names, _points(row["difference"]), ends, "differs" if row["differs"] else ""])
        n_contrasts = len(frame) // len(self.classes)
        title = f"Group less reference, {100 * self.confidence_level:g} % intervals that hold together for all "
        return f"{title}{n_contrasts * self._n_free_classes}\n{aligned(table, 3)}"

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
        table[0] = ["group", *table[0], "labelled"]
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
        table.append([str(row["group"]), *line, str(row["labelled"])] if has_groups else line)
    return aligned(table, 2 if has_groups else 1)
