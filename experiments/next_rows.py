"""Which rows to label next: what each goal gains over labelling as many rows at random, and whether intervals stay right.

Writes next_rows.md beside itself; about six minutes of one core.

    python experiments/next_rows.py [--draws 200]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from llmclf.calibration import TemperatureCalibrator, select_threshold
from llmclf.errors import LlmclfWarning
from llmclf.estimation import estimate_shares, next_rows
from llmclf.logits import log_softmax
from llmclf.metrics import calibration_interval, expected_calibration_error, inclusion_weights, log_loss, mean_interval

HERE = Path(__file__).resolve().parent
N_ROWS, BUDGET, LIMIT = 4000, 150, 0.05


def model(rng: np.random.Generator, kind: str, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 2) of a model, and the classes (N,)."""
    p = np.clip(rng.beta(share, 1 - share, N_ROWS), 1e-4, 1 - 1e-4)
    y = (rng.random(N_ROWS) < p).astype(int)
    log_odds = np.log(p / (1 - p))
    if kind == "over-confident":
        log_odds = 2.5 * log_odds
    elif kind == "shifted":
        log_odds = log_odds + 1.5
    elif kind == "useless":
        log_odds = rng.permutation(log_odds)
    q = np.clip(1 / (1 + np.exp(-log_odds)), 1e-6, 1 - 1e-6)
    return np.column_stack([1 - q, q]), y


KINDS = ("calibrated", "over-confident", "shifted", "useless")


def drawn(proba: np.ndarray, y: np.ndarray, how: str, goal: str, seed: int, budget: int = BUDGET) -> dict:
    """Labels, rows, inclusion probabilities and strata of one way to spend the budget."""
    rng = np.random.default_rng(seed)
    if how == "at random":
        rows = rng.choice(N_ROWS, budget, replace=False)
        return {"y": y[rows], "rows": rows, "inclusion": np.full(budget, budget / N_ROWS)}
    pilot: dict = {}
    if how == "in two waves":
        rows = rng.choice(N_ROWS, 50, replace=False)
        pilot = {"y": y[rows], "rows": rows}
    chosen = next_rows(proba, budget - (50 if pilot else 0), goal, max_error=LIMIT, random_state=rng, **pilot)
    return chosen.sample(y[chosen.rows])


def shares(draws: int) -> list[str]:
    lines = [
        "## Shares",
        "",
        f"The share of one of two classes, by `estimate_shares` with {BUDGET} labels: coverage of 95 % intervals, and "
        f"mean width over",
        f"that of as many rows drawn at random. {draws} draws, each of a new table of {N_ROWS:,} rows; a coverage of 95 % is",
        f"seen within {196 * np.sqrt(0.95 * 0.05 / draws):.1f} points. Two waves: 50 rows at random, then 100.",
        "",
        "| model | share | at random: coverage | `next_rows`: coverage | width | two waves: coverage | width |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in KINDS:
        for share in (0.5, 0.05):
            held = dict.fromkeys(("at random", "next rows", "in two waves"), 0.0)
            width = dict(held)
            for seed in range(draws):
                proba, y = model(np.random.default_rng([seed, int(100 * share)]), kind, share)
                for how in held:
                    frame = estimate_shares(proba, classes=[0, 1], **drawn(proba, y, how, "share", seed)).to_frame()
                    low, high = (float(frame.loc[frame["class"] == 1, end].iloc[0]) for end in ("low", "high"))
                    held[how] += low <= y.mean() <= high
                    width[how] += high - low
            base = width["at random"]
            cells = [f"{held['at random'] / draws:.1%}"]
            for how in ("next rows", "in two waves"):
                cells += [f"{held[how] / draws:.1%}", f"{width[how] / base:.2f}"]
            lines.append(f"| {kind} | {share:.0%} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return [*lines, ""]


def accuracies(draws: int) -> list[str]:
    lines = [
        "## Accuracy",
        "",
        f"The share of rows whose predicted class is right, with {BUDGET} labels, {draws} draws: by `mean_interval(..., "
        f"bounds=(0, 1),",
        "inclusion=)`, and by `estimate_shares` of right and wrong with the confidence as probability. Widths are over that of",
        "`mean_interval` of rows drawn at random.",
        "",
        "| model | at random: coverage | `next_rows`: coverage | width | `estimate_shares`, at random: coverage | width "
        "| `next_rows`: coverage | width |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in KINDS:
        held, width = np.zeros(4), np.zeros(4)
        for seed in range(draws):
            proba, y = model(np.random.default_rng([seed, 1]), kind)
            right = (proba.argmax(axis=1) == y).astype(int)
            confidence = proba.max(axis=1)
            for i, how in enumerate(("at random", "next rows")):
                sample = drawn(proba, y, how, "accuracy", seed)
                options = {"bounds": (0.0, 1.0), "n_resamples": 500, "random_state": 0}
                _, low, high = mean_interval(right[sample["rows"]], inclusion=sample["inclusion"], **options)
                both = np.column_stack([1 - confidence, confidence])
                frame = estimate_shares(both, classes=[0, 1], **{**sample, "y": right[sample["rows"]]}).to_frame()
                ends = [float(frame.loc[frame["class"] == 1, end].iloc[0]) for end in ("low", "high")]
                for place, (a, b) in ((i, (low, high)), (2 + i, ends)):
                    held[place] += a <= right.mean() <= b
                    width[place] += b - a
        cells = [f"{held[0] / draws:.1%}"]
        for place in (1, 2, 3):
            cells += [f"{held[place] / draws:.1%}", f"{width[place] / width[0]:.2f}"]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def calibrations(draws: int) -> list[str]:
    lines = [
        "## Calibration",
        "",
        f"{BUDGET} labels, {draws} draws (intervals: {draws // 4}). How far the expected calibration error (ten bins) "
        f"lies from that of",
        "the table on average; coverage of `calibration_interval`; and the log loss of the table, in nats, with a "
        "temperature fitted",
        "on the labels.",
        "",
        "| model | share | error at random | `next_rows` | coverage at random | `next_rows` | log loss at random | `next_rows` |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, share in [*((kind, 0.5) for kind in KINDS), ("calibrated", 0.05), ("over-confident", 0.05)]:
        off, held, loss = np.zeros(2), np.zeros(2), np.zeros(2)
        for seed in range(draws):
            proba, y = model(np.random.default_rng([seed, 2]), kind, share)
            truth = expected_calibration_error(y, proba, n_bins=10)
            scores = log_softmax(np.log(proba))
            for i, how in enumerate(("at random", "next rows")):
                sample = drawn(proba, y, how, "calibration", seed)
                rows, weights = sample["rows"], {"inclusion": sample["inclusion"]}
                off[i] += abs(expected_calibration_error(y[rows], proba[rows], n_bins=10, **weights) - truth)
                fitted = TemperatureCalibrator().fit(
                    scores[rows],
                    y[rows],
                    sample_weight=inclusion_weights(sample["inclusion"], len(rows)),
                    classes=[0, 1],
                )
                loss[i] += log_loss(y, fitted.predict_proba(scores))
                if seed % 4 == 0:
                    options = {"n_bins": 10, "n_resamples": 199, "random_state": 0, **weights}
                    low, high, *_ = calibration_interval(y[rows], proba[rows], **options)
                    held[i] += low <= truth <= high
        counts = np.ceil(draws / 4)
        lines.append(
            f"| {kind} | {share:.0%} | {off[0] / draws:.3f} | {off[1] / draws:.3f} | {held[0] / counts:.0%} | "
            f"{held[1] / counts:.0%} | {loss[0] / draws:.4f} | {loss[1] / draws:.4f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def thresholds(draws: int) -> list[str]:
    lines = [
        "## Thresholds",
        "",
        f"`select_threshold(max_error=0.05, inclusion=)` with 300 labels, {draws} draws: how often more than 5 % of the accepted",
        "rows of the table are wrong (5 % of the draws are allowed), and which share of the rows is accepted. The last column",
        "spends the labels with goal `share`, which is not meant for it.",
        "",
        "| model | broken at random | `next_rows` | accepted at random | `next_rows` | goal `share` |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind in KINDS:
        broken, accepted = np.zeros(3), np.zeros(3)
        for seed in range(draws):
            proba, y = model(np.random.default_rng([seed, 3]), kind)
            wrong = proba.argmax(axis=1) != y
            for i, (how, goal) in enumerate((("at random", "-"), ("next rows", "threshold"), ("next rows", "share"))):
                sample = drawn(proba, y, how, goal, seed, 300)
                rows = sample["rows"]
                chosen = select_threshold(
                    y[rows], proba[rows], max_error=LIMIT, inclusion=sample["inclusion"], classes=[0, 1]
                )
                taken = proba.max(axis=1) >= chosen.threshold
                broken[i] += bool(taken.any() and wrong[taken].mean() > LIMIT)
                accepted[i] += taken.mean()
        lines.append(
            f"| {kind} | {broken[0] / draws:.3f} | {broken[1] / draws:.3f} | "
            + " | ".join(f"{share / draws:.0%}" for share in accepted)
            + " |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def waves(draws: int) -> list[str]:
    """The bias of pooling two waves per stratum, and of their mean with weights that were fixed beforehand."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 8.0, 600)
    proba = np.column_stack([1 - p, p])
    y = (rng.random(600) < 0.5 * p + 0.02).astype(int)
    ours, pooled = [], []
    for seed in range(draws * 10):
        pilot = np.random.default_rng(seed).choice(600, 20, replace=False)
        chosen = next_rows(proba, 60, y=y[pilot], rows=pilot, uniform_share=0.2, random_state=seed)
        sample = chosen.sample(y[chosen.rows])
        ours.append(float((sample["y"] / sample["inclusion"]).sum() / 600))
        # Post-stratified: the pilot's rows join the stratum of the nearest row that was drawn from.
        is_open = np.ones(600, dtype=bool)
        is_open[pilot] = False
        places = np.flatnonzero(is_open)
        nearest = places[np.abs(p[places][None] - p[pilot][:, None]).argmin(axis=1)]
        stratum = chosen.strata.copy()
        stratum[pilot] = chosen.strata[nearest]
        labelled = np.concatenate([pilot, chosen.rows])
        means = [
            (stratum == h).mean() * y[labelled[stratum[labelled] == h]].mean() for h in np.unique(stratum[labelled])
        ]
        pooled.append(float(sum(means)))
    lines = [
        "## Two waves",
        "",
        f"A class of {y.mean():.1%} of 600 rows, 20 labels at random, then 60 by `next_rows(uniform_share=0.2)`, which "
        f"sees them;",
        f"{draws * 10} draws. Without a model's help, the mean estimate over the truth, with its standard error, and the spread:",
        "",
        "| how the waves are put together | mean over truth | standard deviation over truth |",
        "|---|--:|--:|",
    ]
    for name, values in (("`NextRows.sample`", ours), ("pooled in each stratum", pooled)):
        ratio = np.array(values) / y.mean()
        lines.append(f"| {name} | {ratio.mean():.3f} ± {ratio.std() / np.sqrt(len(ratio)):.3f} | {ratio.std():.2f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    warnings.simplefilter("ignore", LlmclfWarning)
    lines = ["# Which rows to label next", "", "Written by `next_rows.py`.", ""]
    for part in (shares, accuracies, calibrations, thresholds, waves):
        lines += part(draws)
        (HERE / "next_rows.md").write_text("\n".join(lines[:-1]) + "\n")


if __name__ == "__main__":
    main()
