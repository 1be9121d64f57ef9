"""Rows whose true class a person has found out, and what they say about the promise and about calibration."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..arrays import Floats, Integers
from ..errors import InputError
from ..numerics.class_matching import match_classes
from ..tables.endings import check_suffix, split_suffix
from ..tables.files import read_table
from ..tables.predictions import read_number
from ..tables.text_files import USUAL_TEXT, TextFormat, other_delimiter
from .betting import BettingMixture, HorizonBet, bernoulli_factors, first_reached, moved_odds, share_interval, thinned
from .decisions import NO_LABEL, DecisionColumns
from .table_source import id_text

HORIZON_SHARE = 0.85
"""The part of the capital that is staked on the exact test at the horizon; experiments/watch_alarms.md compares others."""
_ODDS = np.array([1.25, 1.5, 2.0, 3.0, 5.0, 10.0])
_ODDS_SHARES = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.1])
_BIASES = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
_SLOPES = np.array([0.3, 0.5, 0.75, 1.33, 2.0, 3.0])
_SAME_CONFIDENCE = 1e-3  # two decisions about one text differ by no more than this, as the rows of a pass change little
_LEAST = 1e-6  # a probability nearer to 0 or 1 than this would let a single row decide


@dataclass(frozen=True, eq=False)
class AuditedLabels:
    """True classes by the ids of rows, in the order in which they were audited.

    Attributes
    ----------
    ids : tuple of n str
        Each once.
    columns : ndarray of int (n,)
        The column of the true class.
    inclusion : ndarray (n,) or None
        With what probability each row was to be audited; None: all had the same.
    n_repeated : int
        Rows that only repeat an earlier one.
    """

    ids: tuple[str, ...]
    columns: Integers
    inclusion: Floats | None
    n_repeated: int = 0

    @classmethod
    def of(cls, audited: Any, classes: Sequence[Any], text_format: TextFormat = USUAL_TEXT) -> AuditedLabels:
        """From a table with the columns ``id``, ``label`` and, if rows were drawn unevenly, ``inclusion``.

        Parameters
        ----------
        audited : AuditedLabels, DataFrame, dict of id -> label, or path
            A file is .csv, .tsv, .jsonl or .parquet. Rows with an empty label are not audited yet.
        classes : sequence of K
        text_format : TextFormat

        Raises
        ------
        InputError
            A column is missing, a label is not a class, an id has two labels, or an inclusion is not a probability.

        Examples
        --------
        >>> AuditedLabels.of({"r1:0": "praise", "r2:0": "complaint"}, ["praise", "complaint"]).columns.tolist()
        [0, 1]
        """
        if isinstance(audited, AuditedLabels):
            return audited
        name = "audited"
        if isinstance(audited, Mapping):
            audited = pd.DataFrame({"id": list(audited), "label": pd.Series(list(audited.values()), dtype=object)})
        elif isinstance(audited, (str, os.PathLike)):
            name = repr(os.fspath(audited))
            path = Path(audited).expanduser()
            # A format that is given for the text file of decisions says nothing of another kind of file.
            is_text = split_suffix(check_suffix(path))[0] != ".parquet"
            audited = read_table(path, text_format if is_text else USUAL_TEXT)
        if not isinstance(audited, pd.DataFrame):
            raise InputError(
                f"audited={type(audited).__name__}; expected a table or a file with the columns id and label"
            )
        for column in ("id", "label"):
            if column not in audited.columns:
                raise InputError(
                    f"{name} has no column {column!r}; its columns: {', '.join(map(repr, audited.columns))}"
                    f"{other_delimiter(audited.columns)}. Expected id, label and, if rows were drawn with different "
                    "probabilities, inclusion"
                )
        labels = audited["label"].tolist()
        done = [row for row, value in enumerate(labels) if id_text(value).strip()]
        try:
            columns = match_classes([labels[row] for row in done], classes, is_y=False)
        except InputError as error:
            raise InputError(f"{name}, column 'label': {error}") from None
        inclusion = None
        if "inclusion" in audited.columns:
            inclusion = [read_number(value, "inclusion", row) for row, value in enumerate(audited["inclusion"])]
            for row in done:
                if not 0 < inclusion[row] <= 1:
                    raise InputError(
                        f"{name}, column 'inclusion', row {row}: {audited['inclusion'].iloc[row]!r}; expected the probability, "
                        "above 0 and at most 1, with which the row was to be audited"
                    )
        first: dict[str, int] = {}
        kept: list[int] = []
        for place, row in enumerate(done):
            text = id_text(audited["id"].iloc[row])
            if not text:
                raise InputError(f"{name}, column 'id', row {row} is empty; expected the id of a row of the log")
            earlier = first.setdefault(text, place)
            if columns[earlier] != columns[place]:
                raise InputError(
                    f"{name} gives the id {text!r} two labels ({labels[done[earlier]]!r} and {labels[row]!r}); decide which is "
                    "the true one, and leave it in its first place"
                )
            if inclusion is not None and inclusion[done[earlier]] != inclusion[row]:
                raise InputError(
                    f"{name} gives the id {text!r} two inclusion probabilities ({inclusion[done[earlier]]:g} and "
                    f"{inclusion[row]:g}); leave the one with which it was to be audited"
                )
            if earlier == place:
                kept.append(place)
        return cls(
            tuple(first),
            columns[kept].astype(np.int64),
            None if inclusion is None else np.array([inclusion[done[place]] for place in kept]),
            len(done) - len(kept),
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class AuditedRows:
    """Audited rows with their decisions, in the order of audit.

    Attributes
    ----------
    decisions : DecisionColumns of n rows
    right : ndarray of bool (n,)
        Whether the label that was answered is the true one.
    truth : ndarray of int (n,)
        The column of the true class.
    weights : ndarray (n,)
        The floor of the inclusion over the row's own; all 1 where rows were drawn evenly.
    inclusion : ndarray (n,) or None
    n_unknown, n_ambiguous, n_unanswered : int
        Audited ids of which there is no decision, those with several that differ, and those of rows without an answer; all are
        left out.
    """

    decisions: DecisionColumns
    right: Any
    truth: Integers
    weights: Floats
    inclusion: Floats | None
    n_unknown: int
    n_ambiguous: int
    n_unanswered: int

    @classmethod
    def joined(
        cls, audited: AuditedLabels, found: DecisionColumns, floor: float | None, *, is_begun: bool = True
    ) -> AuditedRows:
        """Bring labels and decisions together.

        Parameters
        ----------
        audited : AuditedLabels
        found : DecisionColumns
            What the source has under these ids.
        floor : float or None
            The least probability with which the plan of the audit draws any row.
        is_begun : bool
            Whether the source has decisions; before, no label is expected to have one.

        Raises
        ------
        InputError
            Rows were drawn with different probabilities and there is no floor, or one is below it; there is a floor and no
            probabilities; or there is no decision of any audited row.
        """
        inclusion = audited.inclusion
        if inclusion is not None and len(inclusion):
            _check_floor(inclusion, floor)
        elif inclusion is None and floor is not None and len(audited):
            raise InputError(
                f"inclusion_floor={floor!r} is given, and the audited rows have no column inclusion, so they would count as "
                "drawn evenly; write there the probability with which each was to be audited, or leave inclusion_floor out"
            )
        place: dict[str, int] = {}
        ambiguous = set()
        confidence = found.confidence
        for row, one in enumerate(found.ids):
            first = place.setdefault(one, row)
            is_other = found.labels[first] != found.labels[row] or found.accepted[first] != found.accepted[row]
            # A table may have a row twice, or one id for two; what is asked again comes back with the same confidence.
            if is_other or abs(confidence[first] - confidence[row]) > _SAME_CONFIDENCE:
                ambiguous.add(one)
        known = [i for i, one in enumerate(audited.ids) if one in place and one not in ambiguous]
        n_unknown = sum(one not in place for one in audited.ids)
        if is_begun and len(audited) and n_unknown == len(audited):
            raise InputError(
                f"none of the {len(audited)} audited ids, such as {audited.ids[0]!r}, is that of a decision under the "
                "certificate; give ids as the log, or the server's answers, have them"
            )
        decisions = found.take([place[audited.ids[i]] for i in known])
        truth = audited.columns[known]
        # A row without an answer is neither right nor wrong.
        answered = decisions.labels != NO_LABEL
        decisions, truth, known = decisions.take(answered), truth[answered], np.array(known, dtype=np.int64)[answered]
        share = None if inclusion is None else inclusion[known]
        weights = np.ones(len(truth)) if share is None or floor is None else floor / share
        n_unanswered = int((~answered).sum())
        return cls(decisions, decisions.labels == truth, truth, weights, share, n_unknown, len(ambiguous), n_unanswered)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def accepted(self) -> AuditedRows:
        """Those that were accepted."""
        rows = self.decisions.accepted == 1
        return AuditedRows(
            self.decisions.take(rows),
            self.right[rows],
            self.truth[rows],
            self.weights[rows],
            None if self.inclusion is None else self.inclusion[rows],
            self.n_unknown,
            self.n_ambiguous,
            self.n_unanswered,
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What audited rows say against a hypothesis.

    Attributes
    ----------
    log_values : ndarray (n,)
        The logarithm of the e-process after each row.
    alpha : float
        The level of the test.
    """

    log_values: Floats
    alpha: float

    @property
    def alarm(self) -> int | None:
        """After how many rows the alarm was raised; None if never."""
        return first_reached(self.log_values, self.alpha)

    def curve(self, n_points: int = 400) -> list[list[float]]:
        """Some points (row, logarithm) of the process, the last and the highest among them."""
        n = len(self.log_values)
        if not n:
            return []
        chosen = np.unique(np.append(np.linspace(0, n - 1, n_points).astype(int), self.log_values.argmax()))
        return [[int(i) + 1, float(self.log_values[i])] for i in chosen]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        n = len(self.log_values)
        return {
            "n": n,
            "log_e_value": float(self.log_values[-1]) if n else 0.0,
            "largest_log_e_value": max(0.0, float(self.log_values.max())) if n else 0.0,
            "log_threshold": -math.log(self.alpha),
            "alarm": None if self.alarm is None else {"row": self.alarm},
        }


def promise_evidence(
    wrong: Floats, weights: Floats, *, max_error: float, alpha: float, horizon: int, is_even: bool = True
) -> Evidence:
    r"""Against "at most a share `max_error` of accepted rows is wrong".

    A part of the capital (`HORIZON_SHARE`) is staked on the most powerful exact test of twice the promised error at the horizon;
    the rest on several alternatives, and on changes that come later (`BettingMixture`). Rows that were drawn unevenly have the
    second part alone.

    Parameters
    ----------
    wrong : ndarray of 0 and 1 (n,)
        Accepted rows in the order of audit.
    weights : ndarray (n,)
        See `llmclf.monitoring.betting.thinned`.
    max_error, alpha : float
    horizon : int
        For how many accepted audited rows the test is made.
    is_even : bool
        Whether rows were drawn with the same probability each, so that all weights are 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> wrong = (rng.random(400) < 0.10).astype(float)
    >>> promise_evidence(wrong, np.ones(400), max_error=0.05, alpha=0.05, horizon=250).alarm is not None
    True
    """
    odds = moved_odds(np.array(max_error), _ODDS)
    mixture = BettingMixture(_ODDS_SHARES)
    pays = {flag: bernoulli_factors(flag, odds, max_error) for flag in (False, True)}
    values = np.empty(len(wrong))
    for i, (flag, weight) in enumerate(zip(wrong.tolist(), weights.tolist(), strict=True)):
        mixture.bet(thinned(pays[bool(flag)], weight))
        values[i] = mixture.log_value
    if not is_even:
        return Evidence(values, alpha)
    twice = min(2.0 * max_error, (1.0 + max_error) / 2.0)
    bet = HorizonBet.best(max_error, twice, HORIZON_SHARE * alpha, horizon)
    if bet is None:
        return Evidence(values, alpha)
    exact = math.log(HORIZON_SHARE) + bet.log_values(wrong)
    return Evidence(np.logaddexp(exact, math.log(1.0 - HORIZON_SHARE) + values), alpha)


def calibration_evidence(
    confidence: Floats, right: Any, weights: Floats, *, tolerance: float, alpha: float
) -> Evidence:
    r"""Against "rows of confidence p are right with a probability of p, give or take `tolerance`".

    The alternatives are :math:`\log(q / (1 - q)) = a + b \log(p / (1 - p))` with some a and b (Cox 1958, "Two further
    applications of a model for binary regression"): too confident or too timid, everywhere or at the ends. For each row they bet
    on q against the nearest probability that the hypothesis allows, and nothing where q itself is allowed.

    Parameters
    ----------
    confidence : ndarray (n,)
        The probability of the class that was answered, in the order of audit.
    right : ndarray of bool (n,)
    weights : ndarray (n,)
        See `llmclf.monitoring.betting.thinned`.
    tolerance, alpha : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.6, 1.0, 500)
    >>> calibration_evidence(p, rng.random(500) < p, np.ones(500), tolerance=0.02, alpha=0.05).alarm
    >>> calibration_evidence(p, rng.random(500) < p - 0.15, np.ones(500), tolerance=0.02, alpha=0.05).alarm is not None
    True
    """
    p = np.clip(confidence, _LEAST, 1.0 - _LEAST)
    logits = np.log(p) - np.log1p(-p)
    moved = np.concatenate([_BIASES + logits[:, None], _SLOPES * logits[:, None]], axis=1)
    q = np.clip(1.0 / (1.0 + np.exp(-moved)), _LEAST, 1.0 - _LEAST)
    low, high = np.maximum(p - tolerance, _LEAST)[:, None], np.minimum(p + tolerance, 1.0 - _LEAST)[:, None]
    allowed = np.clip(q, low, high)
    mixture = BettingMixture(np.full(q.shape[1], 1.0 / q.shape[1]))
    values = np.empty(len(p))
    for i, flag in enumerate(np.asarray(right, dtype=bool).tolist()):
        mixture.bet(thinned(bernoulli_factors(flag, q[i], allowed[i]), float(weights[i])))
        values[i] = mixture.log_value
    return Evidence(values, alpha)


def error_interval(rows: AuditedRows, alpha: float) -> dict[str, float | None]:
    """The share of wrong rows, weighted by how they were drawn, and its interval that holds at all times together."""
    wrong = 1.0 - rows.right
    if not len(wrong):
        return {"value": None, "low": 0.0, "high": 1.0}
    low, high = share_interval(wrong, rows.weights, alpha)
    value = float(np.average(wrong, weights=rows.weights))
    return {"value": value, "low": min(low, value), "high": max(high, value)}


def _check_floor(inclusion: Floats, floor: float | None) -> None:
    if floor is None:
        raise InputError(
            "rows were audited with known probabilities; give inclusion_floor= (--inclusion-floor) the least of them that the "
            f"plan of the audit gives any row, such as {float(inclusion.min()):g}: the bets must know it beforehand"
        )
    if inclusion.min() < floor * (1 - 1e-9):
        raise InputError(
            f"a row was audited with the probability {float(inclusion.min()):g}, below inclusion_floor={floor!r}; give the least "
            "that the plan of the audit gives any row"
        )
