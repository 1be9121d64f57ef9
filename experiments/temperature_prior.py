"""What does the prior of a temperature cost and save, where few rows are labelled?

Without prior (`prior_rows=0`) and with it, three ways:

1. calibrated scores: how much worse than raw is a calibrator that was fitted on few rows?
2. scores of another scale: the true temperature is far from 1. How much worse than the best temperature?
3. real scores of SmolLM2, as sums and as means over tokens, from a cache that is filled once.

Log loss in nats, on rows that were not fitted. Writes temperature_prior.md beside itself. The data sets must be in the folder
that LLMCLF_DATA names; without it the third part is left out.

    python experiments/temperature_prior.py [--draws 200] [--cache .bench/prior.sqlite]
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from llmclf import LLMClassifier, open_backend
from llmclf.calibration import make_calibrator
from llmclf.calibration.auto import AutoCalibrator
from llmclf.cards import load_card
from llmclf.logits import log_softmax
from llmclf.numerics.solvers import PRIOR_ROWS, fit_temperature

HERE = Path(__file__).resolve().parent
WORLDS = ((2, 0.7), (2, 2.0), (2, 3.5), (2, 5.0), (5, 0.7), (5, 2.0), (5, 6.0), (77, 1.0), (77, 4.0))
SIZES = (5, 20, 50, 100, 1000)
SCALES = (0.05, 0.2, 0.5, 2.0, 5.0, 20.0)
NAMES = ("temperature", "bias_temperature", "vector", "matrix", "platt", "beta", "isotonic", "venn_abers", "auto")
DATA_SETS = ("sst2", "agnews", "trec", "snips")


def draw(rng, k, spread, n):
    scores = log_softmax(rng.normal(size=(n, k)) * spread)
    return scores, (np.exp(scores).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, k - 1)


def loss(log_proba, y):
    return float(-log_proba[np.arange(len(y)), y].mean())


def temperatures(k, spread, scale, n, draws):
    """Mean loss without and with the prior, and the loss of the best temperature, where 1 / scale would be right."""
    test, truth = draw(np.random.default_rng([k, 1]), k, spread, 2000 if k > 5 else 10_000)
    losses = []
    for seed in range(draws):
        scores, y = draw(np.random.default_rng([seed, n, k]), k, spread, n)
        scores = scale * (scores - scores.max(axis=1, keepdims=True))
        fitted = [fit_temperature(scores, y, np.ones(n), rows)[0] for rows in (0.0, PRIOR_ROWS)]
        losses.append([loss(log_softmax(beta * scale * test), truth) for beta in fitted])
    best = minimize_scalar(lambda u: loss(log_softmax(np.exp(u) * test), truth), bounds=(-1, 1), method="bounded").fun
    return (*np.mean(losses, axis=0), np.max(losses, axis=0)[0], np.max(losses, axis=0)[1], best)


def every_calibrator(k, spread, n, draws):
    """Mean loss of each calibrator minus that of the raw scores, which are calibrated."""
    test, truth = draw(np.random.default_rng([k, 1]), k, spread, 4000)
    raw, cells = loss(test, truth), []
    for name in NAMES:
        losses = []
        for seed in range(max(draws // 4, 1) if name == "auto" else max(draws // 2, 1)):
            scores, y = draw(np.random.default_rng([seed, n, k]), k, spread, n)
            if name == "beta":
                y[:k] = np.arange(k)
            losses.append(
                loss(make_calibrator(name).fit(scores, y, classes=range(k)).predict_log_proba(test), truth) - raw
            )
        cells.append(f"{np.mean(losses):+.3f}")
    return f"| {k} | {spread} | {raw:.3f} | {n} | {' | '.join(cells)} |"


def real(name, scoring, n, draws, arrays):
    train, y_train, test, y_test = arrays
    classes, cells = range(train.shape[1]), [f"{loss(log_softmax(test), y_test):.3f}"]
    for calibrator in ("temperature", "bias_temperature", "vector"):
        for rows in (0.0, PRIOR_ROWS):
            losses = []
            for seed in range(max(draws // 10, 1)):
                chosen = np.random.default_rng([seed, n]).permutation(len(y_train))[:n]
                fitted = make_calibrator(calibrator).set_params(prior_rows=rows)
                fitted.fit(train[chosen], y_train[chosen], classes=classes)
                losses.append(loss(fitted.predict_log_proba(test), y_test))
            cells.append(f"{np.mean(losses):.3f}")
    losses = []
    for seed in range(max(draws // 20, 1)):
        chosen = np.random.default_rng([seed, n]).permutation(len(y_train))[:n]
        losses.append(
            loss(AutoCalibrator().fit(train[chosen], y_train[chosen], classes=classes).predict_log_proba(test), y_test)
        )
    return f"| {name} | {scoring} | {n} | {' | '.join(cells)} | {np.mean(losses):.3f} |"


def real_scores(name, scoring, backend, cache):
    card = load_card(name)
    train, test = card.load("train", n=400), card.load("test", n=500)
    options = {"labels": card.labels, "prompt": card.prompt_template, "scoring": scoring, "cache": cache}
    clf = LLMClassifier(backend, **options).fit(train["text"][:2])
    column = {label: k for k, label in enumerate(clf.classes_.tolist())}
    parts = []
    for table in (train, test):
        logits = clf.predict_log_proba(table["text"].tolist())
        parts += [logits, np.array([column[label] for label in table["label"].tolist()])]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".bench" / "prior.sqlite")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# The prior of a temperature",
        "",
        f"The scores as they are count as {PRIOR_ROWS:g} labelled rows. Log loss in nats on rows that were not fitted, mean over "
        f"{args.draws} draws of the labelled rows. Written by `temperature_prior.py`.",
        "",
        "## Calibrated scores, a temperature alone",
        "",
        "Scores are normal with this spread, labels are drawn from their softmax. Minus the loss of the best temperature, "
        "which is 1.",
        "",
        "| classes | spread | raw | labels | without prior | with | worst draw without | with |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for k, spread in WORLDS:
        for n in SIZES:
            without, within, worst, worst_within, best = temperatures(k, spread, 1.0, n, args.draws)
            lines.append(
                f"| {k} | {spread} | {best:.3f} | {n} | {without - best:+.3f} | {within - best:+.3f} | {worst - best:+.2f} | "
                f"{worst_within - best:+.2f} |"
            )
        print("\n".join(lines[-len(SIZES) :]), flush=True)
    lines += [
        "",
        "## Scores of another scale, a temperature alone",
        "",
        "The same worlds with their scores multiplied by a number, minus the loss of the best temperature; mean over the worlds. "
        "Raw scores are the first column.",
        "",
        "| scale | raw | " + " | ".join(f"{n}, without | with" for n in SIZES) + " |",
        "|--:|--:|" + "--:|--:|" * len(SIZES),
    ]
    for scale in SCALES:
        raws = []
        for k, spread in WORLDS:
            test, truth = draw(np.random.default_rng([k, 1]), k, spread, 2000)
            raws.append(loss(log_softmax(scale * test), truth) - loss(test, truth))
        cells = []
        for n in SIZES:
            found = np.array([temperatures(k, s, scale, n, max(args.draws // 8, 2)) for k, s in WORLDS])
            cells += [f"{value:+.3f}" for value in (found[:, :2] - found[:, 4:]).mean(axis=0)]
        lines.append(f"| {scale:g} | {np.mean(raws):+.3f} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## Calibrated scores, every calibrator",
        "",
        f"Minus the loss of the raw scores; {max(args.draws // 2, 1)} draws, {max(args.draws // 4, 1)} for auto. A temperature, "
        "with or without biases, and auto may be fitted on 20 rows; the others have more to learn, and need more rows.",
        "",
        "| classes | spread | raw | labels | " + " | ".join(NAMES) + " |",
        "|--:|--:|--:|--:|" + "--:|" * len(NAMES),
    ]
    for k, spread in WORLDS:
        for n in (20, 50, 100):
            if k <= 5:
                lines.append(every_calibrator(k, spread, n, args.draws))
                print(lines[-1], flush=True)
    if os.environ.get("LLMCLF_DATA"):
        lines += [
            "",
            "## Real scores",
            "",
            "SmolLM2-135M, zero-shot, the prompts of the data set cards, 500 test rows, "
            f"{max(args.draws // 10, 1)} draws of the labelled rows ({max(args.draws // 20, 1)} for auto). *t*, *bt*, *v*: "
            "temperature, bias_temperature, vector.",
            "",
            "| data set | scoring | labels | raw | t without | t with | bt without | bt with | v without | v with | auto |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        args.cache.parent.mkdir(parents=True, exist_ok=True)
        backend = open_backend("smollm2")
        for name in DATA_SETS:
            for scoring in ("sum", "mean", "bytes"):
                arrays = real_scores(name, scoring, backend, args.cache)
                for n in (20, 50, 100):
                    lines.append(real(name, scoring, n, args.draws, arrays))
                    print(lines[-1], flush=True)
    (HERE / "temperature_prior.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
