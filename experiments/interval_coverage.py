"""How often do intervals for the calibration error contain the true error, at a confidence level of 95 %?

Data sets are drawn from models whose true error is known; `calibration_interval` is compared with the percentile and the basic
bootstrap of the rows. Writes interval_coverage.md beside itself.

    python experiments/interval_coverage.py [--data-sets 200] [--resamples 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit

from llmclf.metrics import calibration_interval

HERE = Path(__file__).resolve().parent
SIZES = (200, 1000, 5000)
N_BINS = 15

# From the log-odds t of the true probability to the probability that a model gives.
MODELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "calibrated": expit,
    "biased towards one class": lambda t: expit(t + 0.26),
    "over-confident": lambda t: expit(1.4 * t),
    "very over-confident and biased": lambda t: expit(1.9 * t + 0.3),
    "wrong only between 0.6 and 0.8": lambda t: np.where(
        (expit(t) > 0.6) & (expit(t) < 0.8), expit(t) + 0.15, expit(t)
    ),
    "half of the rows reversed": lambda t: np.where(expit(t) > 0.5, expit(-t), expit(t)),
}


def bin_gaps(p: np.ndarray, event: np.ndarray) -> np.ndarray:
    """The error of p in N_BINS bins of equal width, for outcomes or true probabilities `event` (..., n)."""
    bins = np.searchsorted(np.linspace(0, 1, N_BINS + 1)[1:-1], p)
    return np.abs(np.bincount(bins, event - p, N_BINS)).sum() / len(p)


def bootstrap(p: np.ndarray, y: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.integers(len(p), size=(n_resamples, len(p)))
    return np.array([bin_gaps(p[indices], y[indices]) for indices in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=400)
    args = parser.parse_args()
    lines = [
        "# Coverage of intervals for the expected calibration error",
        "",
        f"Share of {args.data_sets} data sets whose 95 % interval contains the true error; {N_BINS} bins of equal width, "
        f"{args.resamples} resamples. Written by `interval_coverage.py`.",
        "",
        "| model | true error | rows | mean plug-in error | percentile bootstrap | basic bootstrap | "
        "`calibration_interval` | its mean width |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, model in MODELS.items():
        t = np.random.default_rng(0).normal(0, 1.4, 2_000_000)
        true = bin_gaps(model(t), expit(t))
        for n in SIZES:
            results = []
            for seed in range(args.data_sets):
                rng = np.random.default_rng([seed, n])
                t = rng.normal(0, 1.4, n)
                p, y = model(t), (rng.random(n) < expit(t)).astype(int)
                low, high, error, _ = calibration_interval(
                    y, p, n_bins=N_BINS, pos_label=1, n_resamples=args.resamples, random_state=rng
                )
                lower, upper = np.quantile(bootstrap(p, y, args.resamples, rng), [0.025, 0.975])
                results.append(
                    (
                        error,
                        lower <= true <= upper,
                        max(0.0, 2 * error - upper) <= true <= 2 * error - lower,
                        low <= true <= high,
                        high - low,
                    )
                )
            error, percentile, basic, ours, width = np.mean(results, axis=0)
            line = f"| {name} | {true:.4f} | {n} | {error:.4f} | {percentile:.2f} | {basic:.2f} | {ours:.2f} | {width:.3f} |"
            print(line, flush=True)
            lines.append(line)
    (HERE / "interval_coverage.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
