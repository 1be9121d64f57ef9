"""How often do the report's intervals cover and its tests of slices reject? Simulated where losses are rare and slices small.

Writes report_statistics.md beside itself.

    python experiments/report_statistics.py [--data-sets 400]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from scipy.stats import norm

from llmclf.metrics import mean_interval
from llmclf.report.stratified import compare_parts

HERE = Path(__file__).resolve().parent
RARE = {  # name -> (rate of the rare class, spread of the log of its probability, what the model says in its place)
    "1:100, one probability": (0.01, 0.0, None),
    "1:100, many probabilities": (0.01, 0.7, None),
    "1:1000": (0.001, 0.0, None),
    "1:50, over-confident": (0.02, 1.0, 1e-4),
}


def losses(name: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Log losses, the worst that was possible, and the mean of the true law."""
    rate, spread, said = RARE[name]
    noise = np.exp(spread * rng.normal(size=n) - spread**2 / 2)
    true = np.full(n, rate) if said else rate * noise
    p = said * noise if said else true
    values = -np.where(rng.random(n) < true, np.log(p), np.log1p(-p))
    return values, -math.log(p.min()), float(-(true * np.log(p) + (1 - true) * np.log1p(-p)).mean())


def mantel_haenszel(confidence: np.ndarray, right: np.ndarray, member: np.ndarray) -> float:
    stratum = np.searchsorted(np.quantile(confidence, np.arange(1, 10) / 10), confidence)
    total, n, k, both = (
        np.bincount(stratum[rows], minlength=10) for rows in (right >= 0, member, right, member & right)
    )
    variance = (n * (total - n) * k * (total - k) / (total**2 * (total - 1))).sum()
    return float(2 * norm.sf(abs((both - n * k / total).sum()) / np.sqrt(variance)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=400)
    n_sets = parser.parse_args().data_sets
    lines = [
        "# The report's statistics in simulations",
        "",
        f"{n_sets} data sets for each line. Written by `report_statistics.py`.",
        "",
        "## Mean log losses that rare rows make: coverage of `mean_interval` at 95 %",
        "",
        "| model | true mean | rows | with bounds | without | mean width with bounds |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in RARE:
        true = losses(name, 2_000_000, np.random.default_rng(0))[2]
        for n in (10, 30, 100, 300):
            rng, found = np.random.default_rng(n), []
            for seed in range(n_sets):
                values, worst, _ = losses(name, n, rng)
                ends = [
                    mean_interval(values, bounds=b, n_resamples=300, random_state=seed)[1:] for b in ((0, worst), None)
                ]
                found.append([*(low <= true <= high for low, high in ends), ends[0][1] - ends[0][0]])
            covered, without, width = np.mean(found, axis=0)
            lines.append(f"| {name} | {true:.4f} | {n} | {covered:.3f} | {without:.3f} | {width:.3f} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "## Slices: share of data sets in which the first slice, or without a difference any slice, has p < .05",
        "",
        "Mantel and Haenszel's test uses ten bins and knows which slice to look at; its p-value is not corrected.",
        "",
        "| rows | slices | share of the first | accuracy lost in it | ours | Mantel-Haenszel |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for n, parts, share, lost in (
        (100, 2, 0.5, 0.0),
        (300, 2, 0.5, 0.0),
        (300, 5, 0.2, 0.0),
        (300, 3, 0.9, 0.0),
        (300, 2, 0.5, 0.12),
        (300, 2, 0.1, 0.25),
        (1000, 2, 0.5, 0.06),
    ):
        rng, found = np.random.default_rng(n), []
        for _ in range(n_sets):
            confidence = rng.uniform(0.5, 1.0, n)
            members = np.where(rng.random(n) < share, 0, rng.integers(1, parts, n))
            right = rng.random(n) < confidence - lost * (members == 0)
            tests = compare_parts(confidence, right, [(members, parts)], alpha=0.05)[0]
            own = tests[0].p_value if lost else min(test.p_value for test in tests)
            found.append((own < 0.05, mantel_haenszel(confidence, right, members == 0) < 0.05))
        ours, theirs = np.mean(found, axis=0)
        lines.append(f"| {n} | {parts} | {share} | {lost} | {ours:.3f} | {theirs:.3f} |")
        print(lines[-1], flush=True)
    (HERE / "report_statistics.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
