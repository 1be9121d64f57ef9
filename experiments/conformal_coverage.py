"""How often do conformal sets hold the true label, in all rows and in each class, and how large are they?

Simulated classifiers with known probabilities, sharpened and biased so that they are not calibrated. In each draw a
`ConformalClassifier` is fitted on the labelled rows and judged on 500 new ones. Writes conformal_coverage.md beside itself; two
minutes on one core.

    python experiments/conformal_coverage.py [--draws 1000]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from llmclf.calibration import ConformalClassifier
from llmclf.logits import log_softmax, softmax

HERE = Path(__file__).resolve().parent
# biases of the classes in the truth, spread of the evidence
WORLDS = {
    "two classes": ([0.0, 0.0], 2.0),
    "1 in 100": ([0.0, -6.5], 2.0),
    "five classes": ([0.5, 0.0, 0.0, -0.5, -1.0], 2.0),
    "twenty classes": ([0.0] * 20, 3.0),
}
KINDS = {
    "lac": {"method": "lac"},
    "aps": {"method": "aps"},
    "aps, randomized": {"method": "aps", "randomized": True},
    "lac by class": {"method": "lac", "class_conditional": True},
    "aps by class": {"method": "aps", "class_conditional": True},
    "aps by class, randomized": {"method": "aps", "class_conditional": True, "randomized": True},
}
LEVEL = 0.9


def draw(rng, world, n):
    biases, spread = world
    truth = log_softmax(rng.normal(size=(n, len(biases))) * spread + biases)
    y = (np.exp(truth).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, len(biases) - 1)
    return softmax(1.5 * truth + 0.5 * np.arange(len(biases)) / len(biases)), y


def judge(world, options, n, draws):
    """Coverage with its standard error, that of the least covered class, mean size, and shares of empty and of full sets."""
    k = len(world[0])
    covered, by_class, rows_of_class, size, empty, full = [], np.zeros(k), np.zeros(k), 0.0, 0.0, 0.0
    for seed in range(draws):
        rng = np.random.default_rng([seed, n])
        proba, y = draw(rng, world, n + 500)
        conformal = ConformalClassifier(confidence_level=LEVEL, random_state=seed, **options)
        sets = conformal.fit(proba[:n], y[:n], classes=range(k)).predict_set(proba[n:])
        hit = sets[np.arange(500), y[n:]]
        covered.append(hit.mean())
        by_class += np.bincount(y[n:], hit, minlength=k)
        rows_of_class += np.bincount(y[n:], minlength=k)
        size += sets.sum(axis=1).mean() / draws
        empty += (~sets.any(axis=1)).mean() / draws
        full += sets.all(axis=1).mean() / draws
    worst = (by_class / rows_of_class).min()
    return np.mean(covered), np.std(covered) / np.sqrt(draws), worst, size, empty, full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# Coverage of conformal sets",
        "",
        f"Requested: {LEVEL:.0%}. Mean over {args.draws} draws of the labelled rows, 500 new rows each. Written by "
        "`conformal_coverage.py`.",
        "",
        "| world | rows | sets | coverage | least covered class | labels in a set | empty | full |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for name, world in WORLDS.items():
        for n in (50, 500):
            for kind, options in KINDS.items():
                coverage, error, worst, size, empty, full = judge(world, options, n, args.draws)
                cells = f"{coverage:.3f} ± {error:.3f} | {worst:.3f} | {size:.2f} | {empty:.3f} | {full:.3f}"
                lines.append(f"| {name} | {n} | {kind} | {cells} |")
                print(lines[-1], flush=True)
    (HERE / "conformal_coverage.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
