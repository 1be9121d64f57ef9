"""How often does the number of labels that `plan_labels` names fulfil the wish, for pilots of 60 and 200 rows?

Pilots are drawn from worlds that are known, and the plans held to samples of those worlds. Writes plan_labels.md beside itself.

    python experiments/plan_labels.py [--pilots 40] [--jobs 1]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy import special

from llmclf.calibration import select_threshold
from llmclf.errors import InputError, LlmclfWarning
from llmclf.estimation import LabelledSample, estimate_shares, plan_labels
from llmclf.estimation.planning.goals import CalibrationGoal, Goal, ShareGoal, ThresholdGoal
from llmclf.estimation.planning.search import sizes_between
from llmclf.metrics import calibration_interval

HERE = Path(__file__).resolve().parent
CHANCE = 0.8
N_SAMPLES = 200  # of each size, for the true number
N_ROWS = 20_000  # of the table from which uneven pilots are drawn
Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Case(NamedTuple):
    """A world, a goal, and the wish as plan_labels takes it."""

    draw: Draw
    goal: Goal
    wish: dict[str, Any]
    is_uneven: bool = False


def classifier(spread: float, shift: float, slope: float, is_useless: bool = False) -> Draw:
    """Rows whose true log-odds are normal, and a classifier that makes them steeper by `slope`, or has those of other rows."""

    def draw(n_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        t = rng.normal(shift, spread, n_rows)
        y = (rng.random(n_rows) < special.expit(t)).astype(int)
        return y, special.expit(slope * (rng.permutation(t) if is_useless else t))

    return draw


SHARE, SHARE_WISH = ShareGoal(0.05, 1, "", 0.95), {"half_width": 0.05, "label": 1}
CASES = {
    "share of .3 within ±.05, good model": Case(classifier(3.0, -1.7, 1.0), SHARE, SHARE_WISH),
    "the same, rows in doubt drawn three times as often": Case(classifier(3.0, -1.7, 1.0), SHARE, SHARE_WISH, True),
    "share of .3 within ±.05, over-confident model": Case(classifier(1.5, -1.1, 2.5), SHARE, SHARE_WISH),
    "share of .3 within ±.05, useless model": Case(classifier(3.0, -1.7, 1.0, True), SHARE, SHARE_WISH),
    "threshold, at most .05 wrong, half of the rows, calibrated model": Case(
        classifier(4.0, 0.0, 1.0), ThresholdGoal(0.05, 0.95, 0.5), {"max_error": 0.05, "min_coverage": 0.5}
    ),
    "threshold, at most .1 wrong, half of the rows, over-confident model": Case(
        classifier(3.0, 0.0, 1.5), ThresholdGoal(0.1, 0.95, 0.5), {"max_error": 0.1, "min_coverage": 0.5}
    ),
    "calibration error within ±.06, over-confident model": Case(
        classifier(2.0, 0.0, 1.5), CalibrationGoal(0.06, 0.95, 15), {"ece_half_width": 0.06}
    ),
}


def true_margins(case: Case, size: int) -> np.ndarray:
    """Sorted margins (N_SAMPLES,) of the wish over what a number of labels gives."""
    warnings.simplefilter("ignore", LlmclfWarning)
    margins = [
        case.goal.margin(achieved_in_world(case, size, np.random.default_rng([seed, size])))
        for seed in range(N_SAMPLES)
    ]
    return np.sort(margins)


def achieved_in_world(case: Case, size: int, rng: np.random.Generator) -> float:
    """What a sample of a world's rows gives, by the public functions."""
    goal = case.goal
    if isinstance(goal, ShareGoal):
        y, p = case.draw(25 * size, rng)  # so many that their number does not matter
        frame = estimate_shares(np.column_stack([1 - p, p]), y[:size], np.arange(size), classes=[0, 1]).to_frame()
        return float((frame["high"] - frame["low"])[1] / 2)
    y, p = case.draw(size, rng)
    if isinstance(goal, ThresholdGoal):
        try:
            return select_threshold(y, p, max_error=goal.max_error, confidence=goal.confidence).coverage
        except InputError:
            return 0.0
    low, high, _, _ = calibration_interval(y, p, n_resamples=199, random_state=rng)
    return (high - low) / 2


def chances(sizes: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of labels, and how often they fulfil the wish: the quantiles of the margins are interpolated between the sizes."""
    numbers = np.geomspace(sizes[0], sizes[-1], 400)
    at = np.array([np.interp(np.log(numbers), np.log(sizes), line) for line in margins.T])
    return numbers, np.maximum.accumulate((at >= 0.0).mean(axis=0))


def plan(case: Case, n_pilot: int, seed: int) -> tuple[float, float, float, float]:
    """The planned number, its low and high, and the seconds that it took; infinite if there is none."""
    warnings.simplefilter("ignore", LlmclfWarning)
    rng = np.random.default_rng([seed, n_pilot, 7])
    if case.is_uneven:
        y, p = case.draw(N_ROWS, rng)
        drawn = np.where(np.abs(p - 0.5) < 0.4, 3.0, 1.0)
        inclusion = n_pilot * drawn / drawn.sum()
        rows = rng.choice(N_ROWS, n_pilot, replace=False, p=drawn / drawn.sum())
        table = np.column_stack([1 - p, p])
        pilot: Any = LabelledSample.checked(table, y[rows], rows, inclusion=inclusion[rows])
    else:
        y, p = case.draw(n_pilot, rng)
        pilot = (y, np.column_stack([1 - p, p]))
    started = time.process_time()
    try:
        planned = plan_labels(pilot=pilot, chance=CHANCE, random_state=rng, **case.wish)
    except InputError:
        return np.inf, np.inf, np.inf, time.process_time() - started
    return planned.n_labels, planned.low, planned.high, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pilots", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    lines = [
        "# How often a planned number of labels is enough",
        "",
        f"For each wish and size of the pilot, {args.pilots} pilots. The true number is the one at which {CHANCE:.0%} of "
        f"{N_SAMPLES} samples of the world fulfil the wish; planned numbers are their median and range from the 10th to the "
        "90th percentile, and the price is the median over the true number. The chance is that of fulfilling the wish with the "
        f"planned number, averaged over the pilots, with its standard error; wanted are {CHANCE:.0%}. *Covered* counts the plans "
        "whose low and high hold the true number (wanted are 95%), *no number* those that say that none is enough. Written by "
        "`plan_labels.py`.",
        "",
        "| wish | true number | pilot | planned | 10 to 90 % | price | chance | covered | no number | seconds per plan |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    sizes = sizes_between(64, 2900)
    with Parallel(n_jobs=args.jobs) as parallel:
        for name, case in CASES.items():
            margins = np.array(parallel(delayed(true_margins)(case, int(size)) for size in sizes))
            numbers, chance = chances(sizes, margins)
            true = numbers[np.argmax(chance >= CHANCE)]
            for n_pilot in (60, 200):
                plans = np.array(parallel(delayed(plan)(case, n_pilot, seed) for seed in range(args.pilots)))
                planned, lows, highs, seconds = plans[np.isfinite(plans[:, 0])].T
                reached = np.interp(planned, numbers, chance)
                error = reached.std(ddof=1) / np.sqrt(len(reached))
                low, middle, high = np.quantile(planned, [0.1, 0.5, 0.9])
                covered = int(((lows <= true) & (true <= highs)).sum())
                lines.append(
                    f"| {name} | {true:,.0f} | {n_pilot} | {middle:,.0f} | {low:,.0f} to {high:,.0f} | {middle / true:.2f} | "
                    f"{reached.mean():.2f} ± {error:.2f} | {covered} of {len(planned)} | {len(plans) - len(planned)} | "
                    f"{seconds.mean():.1f} |"
                )
                print(lines[-1], flush=True)
                (HERE / "plan_labels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
