"""Estimated means, and what can be read from them: tables of functions, of groups, and of differences between groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, norm
from scipy.stats import t as t_distribution

from ..arrays import Floats
from .groups import Estimates, aligned, check_groups, difference_records, group_pairs


@dataclass(frozen=True, eq=False)
class MeanEstimate:
    """A mean, before a confidence level is chosen.

    Attributes
    ----------
    mean, std_error : float
    lowest, highest : float
        The range of the values.
    share : float
        Where the mean lies in it, from 0 to 1.
    worth : float
        Of how many values of 0 or 1 the variance speaks; infinite where there is no doubt.
    degrees : float
        Of freedom, of the variance.
    tuning : float
    """

    mean: float
    std_error: float
    lowest: float
    highest: float
    share: float
    worth: float
    degrees: float
    tuning: float

    @classmethod
    def unknown(cls, lowest: float, highest: float) -> MeanEstimate:
        """Of too few labels: anywhere in the range of the values."""
        return cls(np.nan, np.nan, lowest, highest, np.nan, np.nan, 1.0, np.nan)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The ends of the interval at the level 1 - `alpha`."""
        if np.isnan(self.share):
            return self.lowest, self.highest
        if np.isinf(self.worth):
            return self.mean, self.mean
        tail, width = alpha / 2.0, self.highest - self.lowest
        worth = self.worth * float((norm.ppf(tail) / t_distribution.ppf(tail, self.degrees)) ** 2)
        low, high = beta.ppf([tail, 1.0 - tail], self.share * worth + 0.5, (1.0 - self.share) * worth + 0.5)
        low, high = 0.0 if self.share == 0.0 else low, 1.0 if self.share == 1.0 else high
        return self.lowest + width * float(min(low, self.share)), self.lowest + width * float(max(high, self.share))


@dataclass(frozen=True, eq=False)
class PartMeans:
    """The means of M functions over a table, or over a group.

    Attributes
    ----------
    means, by_hand : list of MeanEstimate (M,)
        The estimates; those of the labelled rows alone.
    naive, mean_probability : ndarray (M,)
        With the most probable class for the label; the expectations under the model's own probabilities.
    n_rows, n_labelled : int
        N and n, of the group.
    contributions : ndarray (number of units, M)
        As `LabelledSample.contributions`, of the errors of the estimates.
    """

    means: list[MeanEstimate]
    by_hand: list[MeanEstimate]
    naive: Floats
    mean_probability: Floats
    n_rows: int
    n_labelled: int
    contributions: Floats

    def worth(self, j: int) -> float:
        """As many labels by hand, drawn in the same way, would give such an interval for function j."""
        mean, by_hand = self.means[j], self.by_hand[j]
        if not mean.std_error:
            return float(self.n_rows)
        return float(np.minimum(self.n_rows, self.n_labelled * (by_hand.std_error / mean.std_error) ** 2))


@dataclass(frozen=True, eq=False)
class MeansResult:
    """Means over all rows, each with its interval, and beside it what else one might report.

    Attributes
    ----------
    names : list (M,)
        Of the functions.
    overall : PartMeans
        For all rows.
    groups : dict of group -> PartMeans
        Empty without groups.
    target : {"rows", "population"}
    confidence_level : float
    simultaneous : bool
        Whether the intervals of a table hold together.
    n_rows, n_labelled : int
        N and n.
    """

    names: list[Any]
    overall: PartMeans
    groups: dict[Any, PartMeans]
    target: str
    confidence_level: float
    simultaneous: bool

    @property
    def n_rows(self) -> int:
        return self.overall.n_rows

    @property
    def n_labelled(self) -> int:
        return self.overall.n_labelled

    def to_frame(self) -> pd.DataFrame:
        """One row per function, for all rows of the table.

        Returns
        -------
        DataFrame
            Columns value (the name of the function), mean, low, high, std_error, tuning, worth, by_hand, by_hand_low,
            by_hand_high, naive (the most probable class taken for the label), mean_probability (the mean of the expectations
            under the model's own probabilities), labelled (how many labelled rows there are).
        """
        return self._frame({None: self.overall}).drop(columns="group")

    def group_frame(self) -> pd.DataFrame:
        """The same per group, in the column group.

        Raises
        ------
        InputError
            The estimates were made without groups.
        """
        check_groups(self.groups, "estimate_means")
        return self._frame(self.groups)

    def difference_frame(self, contrasts: str = "pairs") -> pd.DataFrame:
        """Differences of means between groups, with intervals that hold together (Bonferroni).

        Parameters
        ----------
        contrasts : str
            As in `ShareEstimates.difference_frame`.

        Returns
        -------
        DataFrame
            Columns value, difference (the mean in group less that in reference), low, high, group, reference, and differs:
            whether 0 lies outside.

        Raises
        ------
        InputError
            There are no two groups, or no such contrasts.
        """
        check_groups(self.groups, "estimate_means")
        pairs = group_pairs(list(self.groups), contrasts)
        alpha = (1.0 - self.confidence_level) / (len(pairs) * len(self.names))
        estimates = {}
        for name, part in self.groups.items():
            low, high = np.array([one.interval(alpha) for one in part.means]).T
            estimates[name] = Estimates(np.array([one.mean for one in part.means]), low, high, part.contributions)
        widest = np.array([one.highest - one.lowest for one in self.overall.means])
        return pd.DataFrame(difference_records(estimates, pairs, "value", self.names, widest))

    def _frame(self, parts: dict[Any, PartMeans]) -> pd.DataFrame:
        alpha = 1.0 - self.confidence_level
        if self.simultaneous:
            alpha /= len(self.names) * len(parts)
        records = []
        for group, part in parts.items():
            for j, name in enumerate(self.names):
                mean, by_hand = part.means[j], part.by_hand[j]
                ends, ends_by_hand = mean.interval(alpha), by_hand.interval(alpha)
                records.append(
                    {
                        "value": name,
                        "mean": mean.mean,
                        "low": ends[0],
                        "high": ends[1],
                        "group": group,
                        "std_error": mean.std_error,
                        "tuning": mean.tuning,
                        "worth": part.worth(j),
                        "by_hand": by_hand.mean,
                        "by_hand_low": ends_by_hand[0],
                        "by_hand_high": ends_by_hand[1],
                        "naive": float(part.naive[j]),
                        "mean_probability": float(part.mean_probability[j]),
                        "labelled": part.n_labelled,
                    }
                )
        return pd.DataFrame(records)

    def difference_text(self, contrasts: str = "pairs") -> str:
        """`difference_frame` as a table for people."""
        frame = self.difference_frame(contrasts)
        table = [["group", "reference", "value", "difference", "interval", ""]]
        for row in frame.to_dict(orient="records"):
            ends = f"{row['low']:+.4g} to {row['high']:+.4g}"
            difference = "-" if np.isnan(row["difference"]) else f"{row['difference']:+.4g}"
            names = [str(row["group"]), str(row["reference"]), str(row["value"])]
            table.append([*names, difference, ends, "differs" if row["differs"] else ""])
        title = (
            f"Group less reference, {100 * self.confidence_level:g} % intervals that hold together for all {len(frame)}"
        )
        return f"{title}\n{aligned(table, 3)}"

    def __str__(self) -> str:
        together = f", with {100 * self.confidence_level:g} % intervals that hold together" if self.simultaneous else ""
        title = f"Means over {self.n_rows:,} rows, {self.n_labelled:,} of them labelled by hand{together}"
        tables = [self.to_frame()]
        if self.groups:
            frame = self.group_frame()
            tables.append(frame[["group", *(name for name in frame.columns if name != "group")]])
        shown = (table.to_string(index=False, float_format=lambda value: f"{value:.4g}") for table in tables)
        return "\n\n".join([title, *shown])

    def __repr__(self) -> str:
        parts = f", in {len(self.groups)} groups" if self.groups else ""
        return f"<MeansResult: {len(self.names)} means over {self.n_rows} rows{parts}>"
