"""Rows that are not independent: what cross-fitting, thresholds and intervals say of copies of texts and of authors.

Each statistic is computed twice, with every row counted for itself and with `groups=`. Writes grouped_rows.md beside itself.

    python experiments/grouped_rows.py [--draws 1000]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llmclf.calibration import Corrections, make_calibrator, select_threshold
from llmclf.calibration.auto import AutoCalibrator
from llmclf.errors import CalibrationWarning
from llmclf.logits import log_softmax
from llmclf.metrics import calibration_interval, calibration_test, mean_interval, proportion_interval
from llmclf.numerics.groups import effective_number

HERE = Path(__file__).resolve().parent
LIMIT = 0.1

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def copies(sizes: Callable[..., np.ndarray], error: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Rows]:
    """Texts that stand in the rows as often as `sizes` says; all copies are right or wrong."""

    def draw(rng: np.random.Generator, n_groups: int) -> Rows:
        size = sizes(rng, n_groups)
        members = np.repeat(np.arange(n_groups), size)
        confidence, wrong = 0.5 + rng.random(n_groups) / 2, rng.random(n_groups) < error(size)
        return confidence[members], wrong[members], members

    return draw


def authors(rng: np.random.Generator, n_groups: int) -> Rows:
    """Ten texts of an author, whose error rate is his own."""
    members = np.repeat(np.arange(n_groups), 10)
    rate = rng.beta(LIMIT, 1 - LIMIT, n_groups)
    return 0.5 + rng.random(len(members)) / 2, rng.random(len(members)) < rate[members], members


def giant(rng: np.random.Generator, n_groups: int) -> np.ndarray:
    """One group in a hundred has a hundred rows."""
    return np.where(rng.random(n_groups) < 0.01, 100, 1)


# In all of them a tenth of the rows is wrong at every confidence, which is just the limit.
WORLDS: dict[str, Callable[[np.random.Generator, int], Rows]] = {
    "each text once": copies(lambda rng, n: np.ones(n, dtype=int), lambda size: np.full(len(size), LIMIT)),
    "each text five times": copies(lambda rng, n: np.full(n, 5), lambda size: np.full(len(size), LIMIT)),
    "one to twenty copies": copies(
        lambda rng, n: np.minimum(rng.geometric(0.3, n), 20), lambda size: np.full(len(size), LIMIT)
    ),
    "one or ten copies, ten are wrong more often": copies(
        lambda rng, n: np.where(rng.random(n) < 0.2, 10, 1), lambda size: np.where(size == 10, 0.12, 0.05)
    ),
    "one group in a hundred is huge": copies(giant, lambda size: np.full(len(size), LIMIT)),
    "ten texts of an author": authors,
}


def accepts(confidence: np.ndarray, wrong: np.ndarray, groups: np.ndarray | None) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        proba = np.column_stack([confidence, 1 - confidence])
        return select_threshold(wrong.astype(int), proba, max_error=LIMIT, groups=groups).n_accepted > 0


def thresholds(draws: int) -> list[str]:
    lines = [
        "## Broken promises of thresholds",
        "",
        f"Share of {draws} draws in which a threshold accepts rows although {LIMIT:.0%} of all rows are wrong at every",
        "confidence: the limit itself. 0.05 is allowed.",
        "",
        "| rows | groups | each row for itself | `groups=` |",
        "|---|--:|--:|--:|",
    ]
    for number, (name, draw) in enumerate(WORLDS.items()):
        for n_groups in (50, 200, 500):
            rng, broken = np.random.default_rng([number, n_groups]), np.zeros(2)
            for _ in range(draws):
                rows = draw(rng, n_groups)
                broken += [accepts(*rows[:2], None), accepts(*rows)]
            alone, grouped = broken / draws
            lines.append(f"| {name} | {n_groups} | {alone:.3f} | {grouped:.3f} |")
            print(lines[-1], flush=True)
    return [*lines, ""]


def intervals(draws: int) -> list[str]:
    lines = [
        "## Intervals and tests",
        "",
        f"{draws // 10} draws of 100 groups. Coverage of 95 % intervals for the accuracy, for the mean of a loss (0.1 nats if",
        "right, 2.3 if wrong), and for the calibration error (ten bins) of a model that is calibrated on the mean; and",
        "how often `calibration_test` rejects at 5 % a model that is calibrated. Each pair: every row for itself, `groups=`. An",
        "interval of which no ends are given counts as right: that of the mean loss in most draws with a huge group.",
        "",
        "| rows | accuracy | mean loss | calibration error | rejected |",
        "|---|--:|--:|--:|--:|",
    ]
    for number, (name, draw) in enumerate(WORLDS.items()):
        rng = np.random.default_rng([number, 7])
        held: dict[str, np.ndarray] = {key: np.zeros(2) for key in ("accuracy", "loss", "ece", "test")}
        true_loss = 0.1 + 2.2 * LIMIT
        n_draws = draws // 10
        for _ in range(n_draws):
            _, wrong, groups = draw(rng, 100)
            losses = 0.1 + 2.2 * wrong
            confidence = np.full(len(wrong), 1 - LIMIT)
            proba = np.column_stack([confidence, 1 - confidence])
            options = {"n_resamples": 200, "random_state": 0}
            for i, members in enumerate((None, groups)):
                worth = effective_number(members, len(wrong))
                low, high = proportion_interval((1 - wrong.mean()) * worth, worth)
                held["accuracy"][i] += low <= 1 - LIMIT <= high
                _, low, high = mean_interval(losses, groups=members, **options)
                held["loss"][i] += not (true_loss < low or true_loss > high)  # no ends are no false statement
                interval = calibration_interval(wrong.astype(int), proba, n_bins=10, groups=members, **options)
                held["ece"][i] += interval.low <= 0.0 <= interval.high
                test = calibration_test(wrong.astype(int), proba, n_bins=10, groups=members, **options)
                held["test"][i] += test.p_value <= 0.05
        cells = [f"{alone / n_draws:.2f}, {grouped / n_draws:.2f}" for alone, grouped in held.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def cross_fitting(draws: int) -> list[str]:
    lines = [
        "## Cross-fitted loss",
        "",
        f"Mean log loss in nats over {draws} draws of 40 texts in five copies, four classes: cross-fitted with the copies dealt",
        "to different folds, cross-fitted with the copies together, and on 2,000 other texts.",
        "",
        "| calibrator | copies apart | copies together | other texts |",
        "|---|--:|--:|--:|",
    ]
    for name in ("temperature", "bias_temperature", "vector", "matrix", "isotonic"):
        rng, total = np.random.default_rng(5), np.zeros(3)
        for _ in range(draws):
            truth = log_softmax(rng.normal(size=(2040, 4)) * 1.5)
            y = (np.exp(truth).cumsum(axis=1) < rng.random(2040)[:, None]).sum(axis=1).clip(0, 3)
            scores = 2 * truth + rng.normal(size=(2040, 4)) + np.linspace(-1, 1, 4)
            few, columns, texts = scores[:40].repeat(5, axis=0), y[:40].repeat(5), np.arange(40).repeat(5)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for place, members in enumerate((np.arange(200), texts)):
                    fitted = Corrections(calibrator=make_calibrator(name)).fit(few, columns, groups=members)
                    total[place] += -np.log(np.maximum(1e-9, fitted.out_of_fold()[np.arange(200), columns])).mean()
                proba = np.exp(fitted.apply(scores[40:]))[np.arange(2000), y[40:]]
            total[2] += -np.log(np.maximum(1e-9, proba)).mean()
        lines.append(f"| {name} | " + " | ".join(f"{loss:.2f}" for loss in total / draws) + " |")
        print(lines[-1], flush=True)
    chosen: list[dict[str, int]] = [{}, {}]
    rng = np.random.default_rng(6)
    for _ in range(draws):
        truth = log_softmax(rng.normal(size=(40, 4)) * 1.5)
        y = (np.exp(truth).cumsum(axis=1) < rng.random(40)[:, None]).sum(axis=1).clip(0, 3)
        scores = 2 * truth + rng.normal(size=(40, 4)) + np.linspace(-1, 1, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for counts, members in zip(chosen, (np.arange(200), np.arange(40).repeat(5)), strict=True):
                auto = AutoCalibrator().fit(scores.repeat(5, axis=0), y.repeat(5), classes=range(4), groups=members)
                name = type(auto.calibrator_).__name__
                counts[name] = counts.get(name, 0) + 1
    said = [", ".join(f"{name} {count}" for name, count in sorted(counts.items())) for counts in chosen]
    return [*lines, "", f"`AutoCalibrator` chose, copies apart: {said[0]}; copies together: {said[1]}.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    lines = ["# Rows in groups", "", "Written by `grouped_rows.py`.", ""]
    lines += cross_fitting(max(1, draws // 40)) + thresholds(draws) + intervals(draws)
    (HERE / "grouped_rows.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
