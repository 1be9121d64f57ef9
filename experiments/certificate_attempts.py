"""How often is a classifier certified that errs just as often as is allowed, if somebody tries until it is?

With the rules of `llmclf.certificates.attempts` and without. Writes certificate_attempts.md beside itself.

    python experiments/certificate_attempts.py [--n 4000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llmclf.certificates.attempts import Attempt, AttemptRecord
from llmclf.errors import InputError
from llmclf.metrics import exact_bounds

HERE = Path(__file__).resolve().parent
MAX_ERROR, CONFIDENCE = 0.1, 0.95


class Trial:
    """A classifier that is wrong in a tenth of its accepted rows, and who tries to certify it."""

    def __init__(self, rng: np.random.Generator, *, has_record: bool) -> None:
        self.rng, self.has_record, self.record, self.n = rng, has_record, AttemptRecord(), 0
        self.wrong: dict[str, bool] = {}

    def draw(self, n: int) -> list[str]:
        """New rows of the table."""
        rows = [f"{one:016x}" for one in range(self.n, self.n + n)]
        self.n += n
        self.wrong |= dict(zip(rows, (self.rng.random(n) < MAX_ERROR).tolist(), strict=True))
        return rows

    def passes(self, rows: list[str], *, confidence: float = CONFIDENCE, classifier: int = 0) -> bool:
        """Whether the rows are certified for the largest share that would be false."""
        judgement = f"{abs(hash((tuple(rows), classifier))):064x}"
        level, again = 1.0 - confidence, np.zeros(len(rows), dtype=bool)
        if self.has_record:
            try:
                left = self.record.standing(rows, judgement, level)
            except InputError:
                return False
            level, again = left.level, left.again
        n_wrong = float(np.count_nonzero(np.array([self.wrong[row] for row in rows]) | again))
        is_shown = bool(exact_bounds(np.array(n_wrong), np.array(float(len(rows))), level)[1] <= MAX_ERROR)
        self.record = self.record.added(
            Attempt(
                judged="2026-11-30T12:00:00+00:00",
                judgement=judgement,
                rows=rows,
                n=len(rows),
                max_error=MAX_ERROR,
                level=level,
                outcome="certified" if is_shown else "not shown",
            )
        )
        return is_shown


def once(trial: Trial) -> bool:
    """150 rows, one attempt"""
    return trial.passes(trial.draw(150))


def more_rows(trial: Trial) -> bool:
    """60 rows, and ten more after each failure, 20 times"""
    rows = trial.draw(60)
    for _ in range(20):
        if trial.passes(rows):
            return True
        rows = [*rows, *trial.draw(10)]
    return False


def planned_looks(trial: Trial) -> bool:
    """100 to 400 rows in four looks, with confidences of 0.98, 0.97, 0.96 and 0.95"""
    rows: list[str] = []
    for confidence in (0.98, 0.97, 0.96, 0.95):
        rows = [*rows, *trial.draw(100)]
        if trial.passes(rows, confidence=confidence):
            return True
    return False


def other_thresholds(trial: Trial) -> bool:
    """150 rows, 20 classifiers or thresholds that err in other rows each"""
    rows = trial.draw(150)
    for number in range(20):
        trial.wrong |= dict(zip(rows, (trial.rng.random(150) < MAX_ERROR).tolist(), strict=True))
        if trial.passes(rows, classifier=number):
            return True
    return False


def right_rows_kept(trial: Trial) -> bool:
    """150 rows; then the right ones of them and as many new ones as are missing, ten times"""
    rows = trial.draw(150)
    for _ in range(10):
        if trial.passes(rows):
            return True
        rows = [row for row in rows if not trial.wrong[row]]
        rows += trial.draw(150 - len(rows))
    return False


def a_few_kept(trial: Trial) -> bool:
    """the second attempt after a failure: 143 new rows, and 7 that are known to be right"""
    rows = trial.draw(150)
    if trial.passes(rows):
        return False
    return trial.passes([*[row for row in rows if not trial.wrong[row]][:7], *trial.draw(143)])


def new_rows(trial: Trial) -> bool:
    """150 new rows after each failure, three times"""
    return any(trial.passes(trial.draw(150)) for _ in range(3))


STRATEGIES: list[Callable[[Trial], bool]] = [
    once,
    more_rows,
    planned_looks,
    other_thresholds,
    right_rows_kept,
    a_few_kept,
    new_rows,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4000)
    n = parser.parse_args().n
    lines = []
    for strategy in STRATEGIES:
        shares = []
        for has_record in (False, True):
            rng = np.random.default_rng(0)
            shares.append(sum(strategy(Trial(rng, has_record=has_record)) for _ in range(n)) / n)
        lines.append(f"| {strategy.__doc__} | {shares[0]:.1%} | {shares[1]:.1%} |")
        print(lines[-1], flush=True)
    (HERE / "certificate_attempts.md").write_text(to_markdown(lines, n), encoding="utf-8")


def to_markdown(lines: list[str], n: int) -> str:
    noise = math.sqrt(0.05 * 0.95 / n)
    return "\n".join(
        [
            "# Trying until a certificate passes",
            "",
            "A classifier is wrong in 10 % of its accepted rows, and somebody wants a certificate that at most 10 % are, with",
            f"95 % confidence. The share of {n:,} of them who get it, without a record of attempts and with the rules of",
            f"`llmclf.certificates.attempts` (standard error at 5 %: {noise:.1%}). Of new rows the confidence is of each draw:",
            "three draws may promise too much in up to 15 of 100 cases, and the third certificate says so. Written by",
            "`certificate_attempts.py`.",
            "",
            "| what is tried | without a record | with it |",
            "|---|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
