"""Does the verdict of a race keep its level? Worlds in which it is known what labels, states and words are worth.

Each draw is a whole race: five folds, all contestants, 50 and all labels. Writes race_verdict.md beside itself.

    python experiments/race_verdict.py [--draws 100] [--rows 100]
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from llmclf.calibration import Corrections, StackedCalibrator
from llmclf.errors import LlmclfWarning
from llmclf.numerics.row_features import DenseFeatures
from llmclf.race.contest import Contest, LabelledRows, hold_contest
from llmclf.race.contestants import FREQUENCIES, POOL, Contestants
from llmclf.race.verdict import Verdict, verdict

HERE = Path(__file__).resolve().parent
N_NEW = 2000
MARGIN = 0.02

# By how much the first of five features of the words, and of the states, and the score of the true class, are moved.
WORLDS = {
    "nothing is worth anything": (0.0, 0.0, 0.0),
    "only the words are": (2.0, 0.0, 0.0),
    "only the states are": (0.0, 2.0, 0.0),
    "only the label words are": (0.0, 0.0, 2.0),
    "words and states alike": (1.5, 1.5, 0.0),
}
FALSE = {
    "nothing is worth anything": lambda found: found.use != FREQUENCIES,
    "only the words are": lambda found: found.language_model.code == "needed",
    "only the states are": lambda found: found.language_model.code == "not needed",
    "only the label words are": lambda found: found.language_model.code == "not needed",
    "words and states alike": lambda found: found.language_model.code == "not needed",
}
"""What a verdict must not say."""


def draw(world: str, n_rows: int, rng: np.random.Generator) -> LabelledRows:
    """Labelled rows of two classes."""
    words, states, scores = WORLDS[world]
    columns = rng.integers(0, 2, n_rows)
    moved = 2.0 * columns - 1.0
    sets = {name: rng.normal(size=(n_rows, 5)) for name in ("tfidf", "states")}
    for name, shift in (("tfidf", words), ("states", states)):
        sets[name][:, 0] += 0.5 * shift * moved
    log_scores = 2.0 * rng.normal(size=(n_rows, 2)) + scores * np.eye(2)[columns]
    features = {name: DenseFeatures(values) for name, values in sets.items()}
    return LabelledRows(log_scores, columns, np.arange(n_rows), features, ("states", "tfidf"))


def on_new_rows(contest: Contest, new: LabelledRows) -> float:
    """How much larger the log loss of text alone is than the pool's, learned from as many rows, on many others."""
    rows = contest.rows.take(np.arange(contest.sizes[-1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LlmclfWarning)
        fitted = Contestants(Corrections(None, StackedCalibrator()), rows.pooled, 2).fit(rows)
    every = np.arange(len(new))
    text, pool = (-fitted[name](new.scores, new.features)[every, new.columns].mean() for name in ("text alone", POOL))
    return float(text - pool)


def race(world: str, n_rows: int, seed: int) -> tuple[Contest, Verdict, float]:
    """One race, its verdict, and the true difference of text alone and the pool fitted on such rows."""
    rng = np.random.default_rng(seed)
    contest = hold_contest(
        draw(world, n_rows, rng), Corrections(None, StackedCalibrator()), sizes=[n_rows // 2], n_draws=1
    )
    found = verdict(contest, ("text alone",), margin=MARGIN, confidence=0.95)
    return contest, found, on_new_rows(contest, draw(world, N_NEW, rng))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100)
    arguments = parser.parse_args()
    lines, coverage = [], []
    for number, world in enumerate(WORLDS):
        uses, models, curves, truths, intervals = Counter(), Counter(), Counter(), [], []
        n_false = 0
        for seed in range(arguments.draws):
            contest, found, truth = race(world, arguments.rows, 1000 * number + seed)
            uses[found.use] += 1
            models[found.language_model.code] += 1
            curves[found.more_labels.code] += 1
            n_false += FALSE[world](found)
            truths.append(truth)
            intervals.append(contest.difference(POOL, "text alone", confidence_level=0.95))
        truth = float(np.mean(truths))
        covered = np.mean([one.low <= truth <= one.high for one in intervals])
        told = [
            "; ".join(f"{name} {count}" for name, count in counts.most_common()) for counts in (uses, models, curves)
        ]
        lines.append(f"| {world} | {' | '.join(told)} | {n_false / arguments.draws:.2f} |")
        mean = float(np.mean([one.mean for one in intervals]))
        coverage.append(f"| {world} | {truth:+.3f} | {mean:+.3f} | {covered:.2f} |")
        print(lines[-1], coverage[-1], sep="\n", flush=True)
    learned = arguments.rows - -(-arguments.rows // 5)
    text = f"""# The verdict of a race

Written by `race_verdict.py`.

{arguments.draws} draws of {arguments.rows} labelled rows of two classes for each world, five features that stand for the words
and five for the states, a margin of {MARGIN:.0%}. The last column is the share of draws in which the verdict says what is
not so in that world: that something is worth more than the class frequencies where nothing is; that a language model is
needed where it knows nothing; that it is not needed where it knows most. 0.05 is allowed.

| world | the contestant to use | language model | more labels | false |
|---|---|---|---|--:|
{chr(10).join(lines)}

## Intervals

By how much the log loss of text alone is larger than that of the pool, fitted on {learned} rows: the truth (the mean over
all draws, on {N_NEW:,} new rows each), the mean of the races, and the share of draws in which the 95 % interval of the race's
table holds the truth.

| world | truth | race | covered |
|---|--:|--:|--:|
{chr(10).join(coverage)}
"""
    (HERE / "race_verdict.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
