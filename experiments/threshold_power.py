"""Does `select_threshold` keep its promise, and how many rows does it accept?

The promise is tried where it is hardest to keep: error rates of just the limit, equal confidences, and models that are wrong most
often where they are surest. The number of accepted rows is compared with that of the fallback procedure, which
tests ten coverages, each with an equal share of the error probability, and hands the share of one that passes on to the next.
Writes threshold_power.md beside itself.

    python experiments/threshold_power.py [--draws 2000]
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from llmclf.calibration import select_threshold
from llmclf.calibration.tolerated_errors import tolerated_errors
from llmclf.errors import CalibrationWarning

HERE = Path(__file__).resolve().parent
CONFIDENCE = 0.95
SIZES = (50, 100, 200, 300, 1000, 5000)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def even(rng: np.random.Generator, n: int) -> np.ndarray:
    return 0.5 + rng.random(n) / 2


def coarse(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([0.55, 0.7, 0.8, 0.9, 0.99], n, p=[0.1, 0.2, 0.2, 0.2, 0.3])


# Where the confidences come from, and how often a row of this confidence (and limit e) is wrong.
HARD: dict[str, tuple[Draw, Callable[[np.ndarray, float], np.ndarray]]] = {
    "the limit everywhere": (even, lambda c, e: np.full_like(c, e)),
    "the limit everywhere, five confidences": (coarse, lambda c, e: np.full_like(c, e)),
    "the limit everywhere, one confidence": (lambda rng, n: np.full(n, 0.9), lambda c, e: np.full_like(c, e)),
    "right above 0.8, twice the limit below": (even, lambda c, e: np.where(c > 0.8, 0.0, 2 * e)),
    "calibrated": (even, lambda c, e: 1 - c),
    "worst where surest": (even, lambda c, e: np.where(c > 0.9, 2 * e, np.where(c > 0.8, 0.0, 1.2 * e))),
    "in waves": (even, lambda c, e: e * (1 + np.sin(40 * c))),
    "good and bad tenths": (coarse, lambda c, e: np.where((c == 0.99) | (c == 0.8), 1.1 * e, 0.6 * e)),
}

MODELS: dict[str, tuple[Draw, Callable[[np.ndarray], np.ndarray]]] = {
    "calibrated, unsure": (even, lambda c: 1 - c),
    "calibrated, sure": (lambda rng, n: expit(np.abs(rng.normal(0, 4, n))), lambda c: 1 - c),
    "strong": (lambda rng, n: 0.5 + rng.beta(6, 0.5, n) / 2, lambda c: 1 - c),
    "weak": (even, lambda c: np.interp(c, [0.5, 0.8, 1.0], [0.4, 0.3, 0.03])),
}


def promises_broken(draw: Draw, error: Callable, limit: float, n: int, draws: int, seed: list[int]) -> float:
    """The share of draws in which more than the limit of all rows above the threshold are wrong."""
    rng = np.random.default_rng(seed)
    population = np.sort(draw(rng, 400_000))[::-1]
    rate = np.cumsum(error(population, limit)) / np.arange(1, len(population) + 1)
    tolerated = tolerated_errors(n, limit, 1 - CONFIDENCE)
    broken = 0
    for number in range(draws):
        confidence = np.sort(draw(rng, n))[::-1]
        wrong = rng.random(n) < error(confidence, limit)
        passes = np.cumsum(wrong) <= tolerated[1:]
        passes[:-1] &= confidence[:-1] > confidence[1:]
        n_accepted = n - np.argmax(passes[::-1]) if passes.any() else 0
        if number < 20:
            assert n_accepted == accepted_by_llmclf(confidence, wrong, limit)
        if n_accepted:
            last = confidence[n_accepted] if n_accepted < n else -math.inf
            reached = np.searchsorted(-population, -last, side="left")
            broken += bool(reached) and rate[reached - 1] > limit * (1 - 1e-6)
    return broken / draws


def accepted_by_llmclf(confidence: np.ndarray, wrong: np.ndarray, limit: float) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        proba = np.column_stack([confidence, 1 - confidence])
        return select_threshold(wrong.astype(int), proba, max_error=limit, confidence=CONFIDENCE).n_accepted


@cache
def largest_passing(rank: int, limit: float, level: float) -> int:
    count = int(binom.ppf(level, rank, limit))
    return count if binom.cdf(count, rank, limit) <= level else count - 1


def ten_shares(n_wrong: np.ndarray, limit: float) -> int:
    """How many rows the fallback procedure accepts; `n_wrong` holds the number of wrong ones among the first 0, 1, ... n."""
    n, alpha = len(n_wrong) - 1, 1 - CONFIDENCE

    def needed(level: float) -> int:
        return math.ceil(math.log(level) / math.log1p(-limit) - 1e-9)

    most = min(100, max(10, int(math.sqrt(n) / 3)))
    steps = max((s for s in range(1, most + 1) if needed(alpha / s) <= n), default=0)
    if not steps:
        return 0
    level, accepted = 0.0, 0
    for rank in np.unique(np.linspace(needed(alpha / steps), n, steps).round().astype(int)):
        level += alpha / steps
        if n_wrong[rank] <= largest_passing(int(rank), limit, round(level, 12)):
            accepted = int(rank)
        else:
            level = 0.0
    return accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    lines = [
        "# Thresholds with a promise: is it kept, and how many rows do they accept?",
        "",
        f"Written by `threshold_power.py`. {draws} draws of labelled rows per cell, confidence {CONFIDENCE}.",
        "",
        "## Broken promises",
        "",
        "Share of draws in which the true error of all rows above the threshold exceeds the limit; 0.05 is allowed. Where the",
        "error is the limit everywhere, every threshold that accepts a row counts as broken. With 2,000 draws, a share of",
        "0.05 has a standard error of 0.005.",
        "",
        "| wrong | limit | " + " | ".join(f"n = {n}" for n in SIZES) + " |",
        "|---|--:|" + "--:|" * len(SIZES),
    ]
    for number, (name, (draw, error)) in enumerate(HARD.items()):
        for limit in (0.01, 0.05, 0.1, 0.3):
            cells = []
            for n in SIZES:
                if (1 - limit) ** n > 1 - CONFIDENCE:
                    cells.append("too few")
                    continue
                cells.append(f"{promises_broken(draw, error, limit, n, draws, [number, n, int(1000 * limit)]):.3f}")
            lines.append(f"| {name} | {limit} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "## Accepted rows",
        "",
        "Mean share of rows accepted, 0 where no threshold passes.",
        "",
        "| model | limit | n | ten shares | `select_threshold` |",
        "|---|--:|--:|--:|--:|",
    ]
    for number, (name, (draw, error)) in enumerate(MODELS.items()):
        for limit in (0.05, 0.1):
            for n in SIZES:
                if (1 - limit) ** n > 1 - CONFIDENCE:
                    continue
                tolerated = tolerated_errors(n, limit, 1 - CONFIDENCE)
                rng, accepted = np.random.default_rng([number, n]), np.zeros(2)
                for _ in range(draws):
                    confidence = np.sort(draw(rng, n))[::-1]
                    n_wrong = np.append(0, np.cumsum(rng.random(n) < error(confidence)))
                    passed = np.flatnonzero(n_wrong <= tolerated)
                    accepted += [ten_shares(n_wrong, limit), passed[-1] if passed.size else 0]
                before, now = accepted / draws / n
                lines.append(f"| {name} | {limit} | {n} | {before:.3f} | {now:.3f} |")
                print(lines[-1], flush=True)
    (HERE / "threshold_power.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
