"""What should `prior=` divide by, and what should a label-free bias aim at?

Simulated scores: a generative model with evidence of its own (K Gaussian classes), so the ideal probabilities for any class
frequencies are known. The language model believes in class frequencies of its own (`model`), is over-confident by a factor, and
the labelled rows (`labelled`) are drawn with other frequencies than the rows where the classifier will be used (`used`). Log loss
in nats on 20,000 rows of the last kind. Writes class_priors.md beside itself; some minutes on one core.

    python experiments/class_priors.py [--draws 20]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from llmclf.calibration import BiasCorrector, Corrections, make_calibrator
from llmclf.calibration.corrections import assumed_prior
from llmclf.logits import log_softmax

HERE = Path(__file__).resolve().parent
# classes, distance between them, over-confidence, frequencies that the model assumes, of the labelled rows, of the use
WORLDS = {
    "rare class, balanced labels": (2, 2.0, 1.0, [0.5, 0.5], [0.5, 0.5], [0.95, 0.05]),
    "balanced use, unbalanced labels": (2, 2.0, 1.5, [0.5, 0.5], [0.9, 0.1], [0.5, 0.5]),
    "weak model, unbalanced labels": (2, 1.0, 1.0, [0.5, 0.5], [0.9, 0.1], [0.5, 0.5]),
    "model leans the other way": (2, 2.0, 1.5, [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]),
    "four classes": (4, 2.5, 2.0, [0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]),
    "nothing shifts": (3, 2.0, 1.5, [0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]),
}
CALIBRATORS = ("temperature", "bias_temperature", "vector", "platt", "beta", "isotonic", "venn_abers", "auto")
SIZES = (50, 200, 1000)


def draw(rng, world, frequencies, n):
    """Scores of the model (n, K), true columns, and the ideal log-probabilities for these frequencies."""
    k, distance, confidence, model, _, _ = world
    y = rng.choice(k, size=n, p=frequencies)
    evidence = distance * rng.normal(size=(n, k)) + distance**2 * np.eye(k)[y]  # log-likelihoods up to a constant
    scores = confidence * log_softmax(evidence + np.log(model))
    return scores, y, log_softmax(evidence + np.log(frequencies))


def loss(log_proba, y):
    return float(-log_proba[np.arange(len(y)), y].mean())


def priors(name, world, n, draws):
    """Rows of the table: mean log loss by what the prior is divided by."""
    k, _, _, _, labelled, used = world
    test, truth, ideal = draw(np.random.default_rng(0), world, used, 20_000)
    log_used, lines = np.log(used), []
    for calibrator in CALIBRATORS:
        losses = []
        for seed in range(max(draws // 4, 2) if calibrator == "auto" else draws):
            rng = np.random.default_rng([seed, n])
            scores, y, _ = draw(rng, world, labelled, n)
            y[:k] = np.arange(k)  # rows of every class
            fitted = Corrections(calibrator=make_calibrator(calibrator)).fit(scores, y)
            on_rows, on_test = fitted.apply(scores), fitted.apply(test)
            counts = np.log(np.bincount(y, minlength=k) / n)
            mean = np.log(np.exp(on_rows).mean(axis=0))
            assumed = np.log(assumed_prior(on_rows, y))
            losses.append(
                [
                    loss(on_test, truth),
                    *(loss(log_softmax(on_test + log_used - own), truth) for own in (counts, mean, assumed)),
                ]
            )
        cells = " | ".join(f"{value:.3f}" for value in np.mean(losses, axis=0))
        lines.append(f"| {name} | {n} | {calibrator} | {cells} | {loss(ideal, truth):.3f} |")
    return lines


def targets(name, world, n, draws):
    """Mean log loss and accuracy of label-free corrections that aim at equal frequencies, and at those of the labels."""
    k, _, _, _, labelled, _ = world
    test, truth, ideal = draw(np.random.default_rng(0), world, labelled, 20_000)
    cells = [f"{loss(log_softmax(test), truth):.3f} ({(test.argmax(1) == truth).mean():.3f})"]
    for method in ("batch_logmean", "batch_meanlog", "ucpa"):
        for aims in (False, True):
            found = []
            for seed in range(draws):
                scores, y, _ = draw(np.random.default_rng([seed, n]), world, labelled, n)
                y[:k] = np.arange(k)
                fitted = Corrections(BiasCorrector(method)).fit(scores, y if aims else None)
                corrected = log_softmax(fitted.apply(test))
                found.append([loss(corrected, truth), (corrected.argmax(1) == truth).mean()])
            cells.append("{:.3f} ({:.3f})".format(*np.mean(found, axis=0)))
    return (
        f"| {name} | {n} | {' | '.join(cells)} | {loss(ideal, truth):.3f} ({(ideal.argmax(1) == truth).mean():.3f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# Class frequencies: what to divide by, and what to aim at",
        "",
        f"Simulated; mean log loss in nats over {args.draws} draws of the labelled rows ({max(args.draws // 4, 2)} for auto), on "
        "20,000 rows. Written by `class_priors.py`, which describes the worlds.",
        "",
        "## `prior=` with a calibrator",
        "",
        "Calibrated probabilities times the expected frequencies, divided by the frequencies of the labels, by the mean of the "
        "calibrated probabilities over the labelled rows, or by the frequencies that they assume (what llmclf does). *Ideal* "
        "knows the distribution.",
        "",
        "| world | labels | calibrator | no prior | label counts | mean | assumed | ideal |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for name, world in WORLDS.items():
        for n in SIZES:
            lines += priors(name, world, n, args.draws)
            print("\n".join(lines[-len(CALIBRATORS) :]), flush=True)
    lines += [
        "",
        "## A bias alone",
        "",
        "Log loss and accuracy where the frequencies do not shift, by the target: equal frequencies (what a fit without y aims "
        "at), or the frequencies of y (what a fit with y aims at).",
        "",
        "| world | rows | raw | batch_logmean equal | of y | batch_meanlog equal | of y | ucpa equal | of y | ideal |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, world in WORLDS.items():
        lines.append(targets(name, world, 200, args.draws))
        print(lines[-1], flush=True)
    (HERE / "class_priors.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
