"""How often does the number of labels that `plan_labels` names fulfil the wish, for pilots of 60 and 200 rows?

Pilots are drawn from worlds that are known, and the plans held to samples of those worlds. Writes plan_labels.md beside itself.

    python experiments/plan_labels.py [--pilots 8]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit

from llmclf.calibration import select_threshold
from llmclf.errors import InputError, LlmclfWarning
from llmclf.estimation import estimate_shares, plan_labels
from llmclf.estimation.planning.goals import CalibrationGoal, Goal, ShareGoal, ThresholdGoal
from llmclf.estimation.planning.search import sizes_between
from llmclf.metrics import calibration_interval

HERE = Path(__file__).resolve().parent
CHANCE = 0.8
Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def classifier(spread: float, shift: float, slope: float) -> Draw:
    """Rows whose true log-odds are normal, and a classifier whose log-odds are steeper or flatter by `slope`."""

    def draw(n_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        t = rng.normal(shift, spread, n_rows)
        return (rng.random(n_rows) < expit(t)).astype(int), expit(slope * t)

    return draw


# name -> (world, goal, the wish as plan_labels takes it)
CASES: dict[str, tuple[Draw, Goal, dict]] = {
    "threshold, at most .05 wrong, half of the rows, calibrated model": (
        classifier(4.0, 0.0, 1.0),
        ThresholdGoal(0.05, 0.95, 0.5),
        {"max_error": 0.05, "min_coverage": 0.5},
    ),
    "threshold, at most .1 wrong, half of the rows, over-confident model": (
        classifier(3.0, 0.0, 1.5),
        ThresholdGoal(0.1, 0.95, 0.5),
        {"max_error": 0.1, "min_coverage": 0.5},
    ),
    "share of .3 within ±.05, good model": (
        classifier(3.0, -1.7, 1.0),
        ShareGoal(0.05, 1, "", 0.95),
        {"half_width": 0.05, "label": 1},
    ),
    "calibration error within ±.06, over-confident model": (
        classifier(2.0, 0.0, 1.5),
        CalibrationGoal(0.06, 0.95, 15),
        {"ece_half_width": 0.06},
    ),
}


def true_margins(draw: Draw, goal: Goal, sizes: np.ndarray, n_draws: int) -> np.ndarray:
    """Sorted margins (sizes, n_draws) of the wish over what each number of labels gives."""
    margins = np.empty((len(sizes), n_draws))
    for place, size in enumerate(sizes):
        for seed in range(n_draws):
            rng = np.random.default_rng([seed, int(size)])
            y, p = draw(3 * int(size) + 500, rng)
            margins[place, seed] = goal.margin(achieved_in_world(goal, y, p, int(size), rng))
    return np.sort(margins, axis=1)


def chance_of(n_labels: float, sizes: np.ndarray, margins: np.ndarray) -> float:
    """How often a number of labels fulfils the wish: the quantiles of the margins are interpolated between the sizes."""
    at = [np.interp(np.log(n_labels), np.log(sizes), line) for line in margins.T]
    return float(np.mean(np.array(at) >= 0.0))


def achieved_in_world(goal: Goal, y: np.ndarray, p: np.ndarray, n_labels: int, rng: np.random.Generator) -> float:
    """What a sample of a world's rows gives, by the public functions."""
    sample = slice(n_labels)
    if isinstance(goal, ShareGoal):
        table = np.column_stack([1 - p, p])
        frame = estimate_shares(table, y[sample], np.arange(n_labels), classes=[0, 1]).to_frame()
        # As part of an endless table: without the finite population correction.
        half_width = (frame["high"] - frame["low"])[1] / 2 / np.sqrt(1 - n_labels / len(y))
        return float(half_width)
    if isinstance(goal, ThresholdGoal):
        try:
            return select_threshold(y[sample], p[sample], max_error=goal.max_error, confidence=goal.confidence).coverage
        except InputError:
            return 0.0
    low, high, _, _ = calibration_interval(y[sample], p[sample], n_resamples=199, random_state=rng)
    return (high - low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pilots", type=int, default=8)
    args = parser.parse_args()
    warnings.simplefilter("ignore", LlmclfWarning)
    lines = [
        "# How often a planned number of labels is enough",
        "",
        f"For each wish and size of the pilot, {args.pilots} pilots. The true number is the one at which {CHANCE:.0%} of samples "
        "of the world fulfil the wish; planned numbers are their median and range from the 10th to the 90th percentile. The "
        f"chance is that of fulfilling the wish with the planned number; wanted are {CHANCE:.0%}. *Covered* counts the plans "
        "whose low and high hold the true number, *no number* those that say that none is enough. Each plan looks at 10 other "
        "pilots (`n_worlds=10`), fewer than by default. Written by `plan_labels.py`.",
        "",
        "| wish | true number | pilot | planned | 10 to 90 % | mean chance | covered | no number | seconds per plan |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (draw, goal, wish) in CASES.items():
        sizes = sizes_between(64, 1500)
        margins = true_margins(draw, goal, sizes, 30)
        fine = np.geomspace(sizes[0], sizes[-1], 400)
        true = next(n for n in fine if chance_of(n, sizes, margins) >= CHANCE)
        for n_pilot in (60, 200):
            planned, covered, seconds = [], [], []
            for seed in range(args.pilots):
                rng = np.random.default_rng([seed, n_pilot, 7])
                y, p = draw(n_pilot, rng)
                started = time.process_time()
                try:
                    plan = plan_labels(
                        pilot=(y, np.column_stack([1 - p, p])), chance=CHANCE, random_state=rng, n_worlds=10, **wish
                    )
                    planned.append(plan.n_labels)
                    covered.append(plan.low <= true <= plan.high)
                except InputError:
                    planned.append(np.inf)
                seconds.append(time.process_time() - started)
            numbers = np.array(planned)
            known = numbers[np.isfinite(numbers)]
            reached = [chance_of(n, sizes, margins) for n in known]
            low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
            lines.append(
                f"| {name} | {true:,.0f} | {n_pilot} | {middle:,.0f} | {low:,.0f} to {high:,.0f} | {np.mean(reached):.2f} | "
                f"{sum(covered)} of {len(known)} | {len(numbers) - len(known)} | {np.mean(seconds):.1f} |"
            )
            print(lines[-1], flush=True)
            (HERE / "plan_labels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
