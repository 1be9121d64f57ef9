"""How often do intervals for the agreement of annotators contain its true value, at a confidence level of 95 %?

Three annotators label rows of known difficulty; the true values are those of half a million rows. `annotator_agreement` is
compared with the percentile bootstrap of the rows. Writes annotator_agreement.md beside itself.

    python experiments/annotator_agreement.py [--data-sets 400]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from llmclf.estimation import annotator_agreement
from llmclf.estimation.annotators.coincidences import Coincidences

HERE = Path(__file__).resolve().parent
SIZES = (20, 50, 200)
FREQUENCIES = {
    "two classes": (0.5, 0.5),
    "two classes, one rare": (0.95, 0.05),
    "five classes": (0.4, 0.3, 0.2, 0.05, 0.05),
}
SHOWN = ("agreement", "fleiss_kappa", "alpha_nominal", "alpha_ordinal", "annotator_accuracy", "accuracy_ceiling")


def draw(n_rows: int, accuracy: float, frequencies: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """Labels of three annotators (n, 3), who see the true class or guess; a fifth of the rows is hard."""
    truth = rng.choice(len(frequencies), n_rows, p=frequencies)
    sees = np.where(rng.random(n_rows) < 0.2, 0.5, accuracy)
    guesses = rng.choice(len(frequencies), (n_rows, 3), p=frequencies)
    return np.where(rng.random((n_rows, 3)) < sees[:, None], truth[:, None], guesses)


def bootstrap(labels: np.ndarray, n_classes: int, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap of the rows for the ordinal alpha; resamples without one are left out."""
    table = Coincidences.of((labels[:, :, None] == np.arange(n_classes)).sum(axis=1), np.full(n_classes, np.nan))
    seen = np.bincount(table.cell_of, minlength=table.n_cells) / len(labels)
    weights = rng.multinomial(len(labels), seen, size=400) / len(labels)
    low, high = np.nanquantile(table.statistics(weights, len(labels))["alpha_ordinal"], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=400)
    args = parser.parse_args()
    lines = [
        "# Coverage of intervals for the agreement of annotators",
        "",
        f"Share of {args.data_sets} data sets whose 95 % interval contains the true value (its standard error is at most "
        f"{100 * np.sqrt(0.95 * 0.05 / args.data_sets):.1f} points at 95 %), of three annotators; data sets in which kappa and "
        "alpha are undefined, since all labels are the same, are left out there. Written by `annotator_agreement.py`.",
        "",
        f"| labels | rows | true alpha | {' | '.join(SHOWN)} | width of alpha | percentile bootstrap of alpha | its width |",
        f"|---|--:|--:|{'--:|' * (len(SHOWN) + 3)}",
    ]
    for name, frequencies in FREQUENCIES.items():
        n_classes = len(frequencies)
        for accuracy in (0.8, 0.97):
            rng = np.random.default_rng(0)
            options = {"scale": "ordinal", "classes": range(n_classes)}
            true = annotator_agreement(draw(500_000, accuracy, frequencies, rng), n_resamples=1, **options).statistics
            for n_rows in SIZES:
                covered: dict[str, list[bool]] = {key: [] for key in (*SHOWN, "bootstrap")}
                widths: dict[str, list[float]] = {"alpha_ordinal": [], "bootstrap": []}
                for seed in range(args.data_sets):
                    rng = np.random.default_rng([seed, n_rows])
                    labels = draw(n_rows, accuracy, frequencies, rng)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        found = annotator_agreement(labels, n_resamples=400, random_state=rng, **options).statistics
                    ends = {key: (found[key].low, found[key].high) for key in SHOWN}
                    if np.isfinite(found["alpha_ordinal"].value):
                        ends["bootstrap"] = bootstrap(labels, n_classes, rng)
                    for key, (low, high) in ends.items():
                        if np.isfinite(low):
                            value = true["alpha_ordinal" if key == "bootstrap" else key].value
                            covered[key].append(low - 1e-9 <= value <= high + 1e-9)
                        if key in widths and np.isfinite(low):
                            widths[key].append(high - low)
                shares = {key: f"{np.mean(values):.3f}" for key, values in covered.items()}
                lines.append(
                    f"| {name}, seen in {accuracy:.0%} | {n_rows} | {true['alpha_ordinal'].value:.2f} | "
                    f"{' | '.join(shares[key] for key in SHOWN)} | {np.mean(widths['alpha_ordinal']):.2f} | "
                    f"{shares['bootstrap']} | {np.mean(widths['bootstrap']):.2f} |"
                )
                print(lines[-1], flush=True)
    (HERE / "annotator_agreement.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
