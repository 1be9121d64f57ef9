"""Do the intervals of regressions with predicted labels hold, and how much narrower are they than by hand alone?

    python experiments/regression_coverage.py [--draws 200] [--ppi-python PATH]

Simulates tables with two covariates and a label, and models of it that are good, poor, over-confident, shifted and useless;
labels 50, 100 or 300 rows; and counts how often the intervals for the coefficients of the population hold them. The label is the
outcome, or a covariate beside them. Then real texts, labelled by words that two hundred other texts have taught: their known
labels are hidden and drawn again, and the truth is the regression on all of them. Beside `estimate_regression` stand the hand
labels alone, the naive regression on predicted labels, and the published formulas of PPI++ and of design-based supervised
learning. With the path of a Python that has ppi-python (`pip install ppi-python==0.2.3` in an environment of its own), its point
estimates are compared, too. The real texts are in the folder that LLMCLF_DATA names. Writes regression_coverage.md beside itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from llmclf.cards import load_card
from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import LabelledSample, estimate_regression
from llmclf.estimation.recalibration import Recalibration
from llmclf.estimation.regressions.estimating_equations import EstimatingEquations, LabelDesign, NoSolutionError

HERE = Path(__file__).resolve().parent
N_ROWS = 1200
KINDS = ("good", "poor", "over-confident", "shifted", "useless")
CELLS = (("equal", 50), ("equal", 100), ("equal", 300), ("unequal", 100), ("clusters", 100))
SETS = {"agnews": "Business", "sms_spam": "spam", "subj": "subjective"}
"""Real texts, and the class that the label says or denies."""
Z = float(norm.ppf(0.975))


class Table(NamedTuple):
    """N rows: covariates (N, 2), labels (N,), the outcome (N,) where the label is a covariate, and clusters (N,)."""

    X: np.ndarray
    label: np.ndarray
    outcome: np.ndarray | None
    clusters: np.ndarray | None


@dataclass
class Counts:
    """Over all draws: whether intervals held (n, p), and how wide they were (n, p)."""

    held: list[np.ndarray]
    width: list[np.ndarray]

    def add(self, low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> None:
        self.held.append((low <= truth) & (truth <= high))
        self.width.append(high - low)


def table_of(generator: np.random.Generator, n_rows: int, role: str, model: str, is_clustered: bool) -> Table:
    """Rows of the population. A third of them, or four in ten clusters, have the second covariate."""
    clusters, shared = None, np.zeros(n_rows)
    if is_clustered:
        clusters = np.repeat(np.arange(n_rows // 10), 10)
        second = (generator.random(n_rows // 10) < 0.4).astype(float)[clusters]
        shared = generator.normal(0, 0.5, n_rows // 10)[clusters]
    else:
        second = (generator.random(n_rows) < 0.4).astype(float)
    first = generator.normal(size=n_rows) + 0.5 * shared
    X = np.column_stack([first, second])
    if role == "outcome":
        label = (generator.random(n_rows) < expit(-0.5 + 0.7 * first - 0.5 * second + shared)).astype(int)
        return Table(X, label, None, clusters)
    label = (generator.random(n_rows) < expit(-0.5 + 0.5 * first + 0.3 * second + shared)).astype(int)
    if model == "linear":
        # The residuals are wider where the label is 1.
        noise = generator.normal(size=n_rows) * (0.5 + 0.5 * label)
        outcome = 1 + 0.8 * label + 0.5 * first - 0.3 * second + shared + noise
    else:
        mean = expit(-0.5 + 0.8 * label + 0.5 * first - 0.3 * second + shared)
        outcome = (generator.random(n_rows) < mean).astype(float)
    return Table(X, label, outcome, clusters)


def predicted(generator: np.random.Generator, kind: str, label: np.ndarray) -> np.ndarray:
    """The probability that a model of this kind gives to label 1."""
    signal = {"good": 2.5, "poor": 1.0, "over-confident": 1.5, "shifted": 2.0, "useless": 0.0}[kind]
    logit = signal * generator.normal((label - 0.5) * signal, 1.0)
    if kind == "over-confident":
        logit = 3.0 * logit
    if kind == "shifted":
        logit = logit + 2.5
    if kind == "useless":
        logit = generator.normal(0.0, 1.5, len(label))
    return expit(logit)


def labelled(
    generator: np.random.Generator, design: str, n: int, p: np.ndarray, table: Table
) -> tuple[Any, dict[str, Any]]:
    """Which rows are labelled, and what to say of it: doubtful rows more often, or five rows of each cluster drawn."""
    if design == "unequal":
        size = 0.3 + 2.0 * np.minimum(p, 1 - p)
        inclusion = np.minimum(size / size.sum() * n, 0.95)
        return np.flatnonzero(generator.random(len(p)) < inclusion), {"inclusion": inclusion}
    if design == "clusters":
        assert table.clusters is not None
        drawn = generator.choice(len(p) // 10, n // 5, replace=False)
        rows = np.concatenate([10 * cluster + generator.permutation(10)[:5] for cluster in drawn])
        return rows, {"clusters": table.clusters}
    return generator.choice(len(p), n, replace=False), {}


def true_coefficients(role: str, model: str, is_clustered: bool) -> np.ndarray:
    """Those of a million rows."""
    return regression_on_all(table_of(np.random.default_rng(99), 1_000_000, role, model, is_clustered), model)


def regression_on_all(table: Table, model: str) -> np.ndarray:
    """The coefficients from the labels of all rows."""
    ones = np.ones(len(table.label))
    if table.outcome is None:
        X, y = np.column_stack([ones, table.X]), table.label.astype(float)
    else:
        X, y = np.column_stack([ones, table.label, table.X]), table.outcome
    beta = np.zeros(X.shape[1])
    for _ in range(1 if model == "linear" else 8):
        mean = X @ beta if model == "linear" else expit(X @ beta)
        weight = np.ones(len(y)) if model == "linear" else mean * (1 - mean)
        beta += np.linalg.solve((X * weight[:, None]).T @ X, X.T @ (y - mean))
    return beta


def published(
    sample: LabelledSample, X: np.ndarray, is_logistic: bool
) -> dict[str, tuple[np.ndarray, np.ndarray] | None]:
    """Ends of the intervals of PPI++ (raw probabilities, one tuning) and of DSL (cross-fitted, pseudo-outcome on all rows)."""
    n, n_rows = sample.n_labelled, sample.n_rows
    design = LabelDesign(np.column_stack([np.ones(n_rows), X]), values=np.array([0.0, 1.0]))
    shares, d = np.full(n_rows, 1 / n_rows), np.full(n, 1 / n)
    recalibration = Recalibration.fitted(sample)
    ends: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
    for name, q in (
        ("PPI++", (sample.proba, sample.labelled_proba)),
        ("DSL", (recalibration.table(sample), recalibration.labelled(sample))),
    ):
        equations = EstimatingEquations(design, is_logistic, *q, sample.columns, sample.rows, shares, d)
        try:
            beta = equations.solve(1.0)
            inverse = np.linalg.inv(equations.slope(1.0, beta))
            psi, seen = equations.seen_scores(beta)
            everywhere = equations.all_scores(beta)
            if name == "PPI++":
                psi_centred, seen_centred = psi - psi.mean(axis=0), seen - seen.mean(axis=0)
                both = np.trace(inverse @ (psi_centred.T @ seen_centred / n) @ inverse)
                spread = np.trace(inverse @ np.cov(np.concatenate([seen, everywhere]).T) @ inverse)
                tuning = float(np.clip(both / ((1 + n / n_rows) * spread), 0, 1))
                beta = equations.solve(tuning)
                inverse = np.linalg.inv(equations.slope(tuning, beta))
                psi, seen = equations.seen_scores(beta)
                everywhere = equations.all_scores(beta)
                middle = n / n_rows * np.cov(tuning * everywhere.T) + np.cov((psi - tuning * seen).T)
                covariance = inverse @ middle @ inverse / n
            else:
                scores = everywhere.copy()
                scores[sample.rows] += n_rows / n * (psi - seen)
                covariance = inverse @ (scores.T @ scores) @ inverse / n_rows**2
        except (NoSolutionError, np.linalg.LinAlgError):
            ends[name] = None
            continue
        reach = Z * np.sqrt(np.diag(covariance))
        ends[name] = beta - reach, beta + reach
    return ends


def simulated(role: str, model: str, design: str, n: int, draws: int) -> dict[str, dict[str, Counts]]:
    """Counts by kind of model and method."""
    truth = true_coefficients(role, model, design == "clusters")
    counts: dict[str, dict[str, Counts]] = {}
    for kind in KINDS:
        # The same tables and labelled rows for every model, so that differences between models are those of the models.
        generator = np.random.default_rng([n, len(role), len(model), len(design)])
        own = counts.setdefault(kind, {})
        for _ in range(draws):
            seed = generator.integers(2**63)
            rng = np.random.default_rng(seed)
            table = table_of(rng, N_ROWS, role, model, design == "clusters")
            p = predicted(rng, kind, table.label)
            rows, options = labelled(rng, design, n, p, table)
            y = table.label[rows]
            result = estimate_regression(
                p, y, rows, table.X, outcome=table.outcome, model=model, classes=[0, 1], **options
            )
            for name, part in (("powered", result), ("by hand", result.by_hand), ("naive", result.naive)):
                ends = part.conf_int().to_numpy()
                own.setdefault(name, Counts([], [])).add(ends[:, 0], ends[:, 1], truth)
            if role == "outcome" and design == "equal":
                sample = LabelledSample.checked(p, y, rows, classes=[0, 1])
                for name, pair in published(sample, table.X, model == "logistic").items():
                    low, high = pair if pair is not None else (np.full(3, np.inf), np.full(3, np.inf))
                    own.setdefault(name, Counts([], [])).add(low, np.maximum(high, low), truth)
    return counts


def real_texts(name: str, role: str, model: str) -> tuple[Table, np.ndarray]:
    """A table of texts, and the probabilities of words that 200 other texts have taught.

    The covariates are the standardised logarithm of the text's length and whether it has a comma; where the label is a
    covariate, one of them is the outcome, as the model demands.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    card = load_card(name)
    train, test = card.load("train", 200), card.load("test")
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0))
    p = words.fit(train["text"], train["label"] == SETS[name]).predict_proba(test["text"])[:, 1]
    length = np.log(test["text"].str.len().to_numpy(dtype=float))
    length = (length - length.mean()) / length.std()
    comma = test["text"].str.contains(",").to_numpy(dtype=float)
    label = (test["label"] == SETS[name]).to_numpy(dtype=int)
    if role == "outcome":
        return Table(np.column_stack([length, comma]), label, None, None), p
    if model == "linear":
        return Table(comma[:, None], label, length, None), p
    return Table(length[:, None], label, comma, None), p


def resampled(name: str, role: str, model: str, design: str, n: int, draws: int) -> tuple[dict[str, Counts], int]:
    """Counts by method, of labels of real texts that are hidden and drawn again; and how many draws were refused."""
    table, p = real_texts(name, role, model)
    truth = regression_on_all(table, model)
    rng = np.random.default_rng([n, len(role), len(model), len(design), 7])
    own: dict[str, Counts] = {}
    n_refused = 0
    for _ in range(draws):
        rows, options = labelled(rng, design, n, p, table)
        try:
            result = estimate_regression(
                p,
                table.label[rows],
                rows,
                table.X,
                outcome=table.outcome,
                model=model,
                classes=[0, 1],
                target="rows",
                **options,
            )
        except InputError:
            n_refused += 1
            continue
        for kind, part in (("powered", result), ("by hand", result.by_hand), ("naive", result.naive)):
            ends = part.conf_int().to_numpy()
            own.setdefault(kind, Counts([], [])).add(ends[:, 0], ends[:, 1], truth)
    return own, n_refused


def real_lines(found: dict[tuple[str, str, str, str, int], tuple[dict[str, Counts], int]]) -> list[str]:
    results = {key: own for key, (own, _) in found.items()}
    refused = {key: n for key, (_, n) in found.items() if n}
    lines = [
        "",
        "## Real texts",
        "",
        "Probabilities of a logistic regression on words, fitted on 200 other texts; labels are hidden and drawn again. The "
        'truth is the regression on the known labels of all rows (`target="rows"`). *length* is the standardised logarithm of '
        "the number of characters, *comma* whether there is one. Where the label is a covariate, the outcome is *length* "
        "(linear) or *comma* (logistic). Coverage in percent, and the median ratio of widths to the hand labels alone.",
        "",
        "| texts | label as | model | rows labelled | coefficient | by hand and model | by hand alone | naive | width |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, role, model, design, n), own in results.items():
        if role == "outcome":
            names = ["intercept", "length", "comma"]
        else:
            names = ["intercept", "label", "comma" if model == "linear" else "length"]
        held = {method: np.array(counts.held) for method, counts in own.items()}
        ratio = np.array(own["powered"].width) / np.array(own["by hand"].width)
        for j, coefficient in enumerate(names):
            covers = [percent(held[method][:, j]) for method in ("powered", "by hand", "naive")]
            lines.append(
                f"| {name}, {SETS[name]} | {role} | {model} | {n} {design} | {coefficient} | {' | '.join(covers)} | "
                f"{np.nanmedian(ratio[:, j]):.2f} |"
            )
    covered = np.array([np.mean(own["powered"].held, axis=0) for own in results.values()])
    lines += [
        "",
        f"Over all {covered.size} lines the intervals cover in {percent(covered)} %, and in {percent(covered.min())} % where "
        "least.",
    ]
    if refused:
        cells = ", ".join(f"{n_refused} of {' '.join(map(str, key))}" for key, n_refused in refused.items())
        lines += [
            "",
            f"Draws that are refused with an error, as their labels determine no coefficients, are not counted above: {cells}.",
        ]
    return lines


POINTS = """
import json, sys, numpy as np
from ppi_py import ppi_logistic_pointestimate, ppi_mean_pointestimate
X, y, p, n = (np.array(part) if isinstance(part, list) else part for part in json.load(sys.stdin))
options = dict(ftol=1e-16, gtol=1e-14, maxiter=10000, maxls=100)
print(json.dumps([[ppi_logistic_pointestimate(X[:n], y[:n], p[:n], X, p, lam=lam, optimizer_options=options).tolist(),
    float(np.squeeze(ppi_mean_pointestimate(y[:n], p[:n], p, lam=lam)))] for lam in (0.0, 0.5, 1.0)]))
"""


def same_points(python: str) -> str:
    """How far our point estimates are from those of ppi-python, and from the pseudo-outcome of DSL."""
    rng = np.random.default_rng(1)
    table = table_of(rng, 1000, "outcome", "logistic", False)
    p, n = predicted(rng, "poor", table.label), 150
    X = np.column_stack([np.ones(1000), table.X])
    sent = json.dumps([X.tolist(), table.label.astype(float).tolist(), p.tolist(), n])
    theirs = json.loads(
        subprocess.run([python, "-c", POINTS], input=sent, capture_output=True, text=True, check=True).stdout
    )
    given = p, table.label[:n], np.arange(n)
    apart = {"logistic": 0.0, "mean": 0.0}
    for tuning, (beta, mean) in zip((0.0, 0.5, 1.0), theirs, strict=True):
        options = {"recalibrate": False, "tuning": tuning}
        ours = estimate_regression(*given, table.X, model="logistic", bias_reduction=False, **options).params
        apart["logistic"] = max(apart["logistic"], float(np.abs(ours - beta).max()))
        ours = estimate_regression(*given, None, **options).params
        apart["mean"] = max(apart["mean"], float(np.abs(ours - mean).max()))
    pseudo = p.copy()
    pseudo[:n] += 1000 / n * (table.label[:n] - p[:n])
    ours = estimate_regression(*given, table.X, recalibrate=False, tuning=1.0).params
    dsl = float(np.abs(ours - np.linalg.lstsq(X, pseudo)[0]).max())
    return (
        "With the same probabilities and tuning, the largest difference of a point estimate is "
        f"{apart['logistic']:.0e} from `ppi_logistic_pointestimate` of ppi-python 0.2.3 (whose optimiser stops there), "
        f"{apart['mean']:.0e} from `ppi_mean_pointestimate`, and {dsl:.0e} from the regression of the pseudo-outcome of "
        "design-based supervised learning. `ppi_ols_pointestimate` is another estimator except at tuning 0: it adds two "
        "regressions, of which the second has the design of the labelled rows alone, where ours solves one equation, as the "
        "paper defines it and as `ppi_logistic_pointestimate` does."
    )


def percent(values: Any) -> str:
    return f"{100 * float(np.mean(values)):.1f}"


def lines_of(results: dict[tuple[str, str, str, int], dict[str, dict[str, Counts]]], draws: int) -> list[str]:
    lines = [
        "## Coverage by coefficient",
        "",
        "Of the 95 % intervals, in percent, over all five models; the smallest and the largest of single models in brackets. "
        "Width is the median of the ratios to the hand labels alone over all draws, of all models and of useless ones.",
        "",
        "| label as | model | rows labelled | coefficient | by hand and model | by hand alone | naive | width | width, useless |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (role, model, design, n), by_kind in results.items():
        names = ["intercept", "x1", "x2"] if role == "outcome" else ["intercept", "label", "x1", "x2"]
        for j, name in enumerate(names):
            held = {kind: np.array(own["powered"].held)[:, j] for kind, own in by_kind.items()}
            ratio = {
                kind: np.array(own["powered"].width)[:, j] / np.array(own["by hand"].width)[:, j]
                for kind, own in by_kind.items()
            }
            single = [float(np.mean(one)) for one in held.values()]
            lines.append(
                f"| {role} | {model} | {n} {design} | {name} | {percent(list(held.values()))} ({100 * min(single):.1f} to "
                f"{100 * max(single):.1f}) | {percent([np.array(own['by hand'].held)[:, j] for own in by_kind.values()])} | "
                f"{percent([np.array(own['naive'].held)[:, j] for own in by_kind.values()])} | "
                f"{np.median(list(ratio.values())):.2f} | {np.median(ratio['useless']):.2f} |"
            )
    lines += [
        "",
        "## Coverage and width by model",
        "",
        "Over all coefficients and cells above: coverage in percent, and the median ratio of widths to the hand labels alone.",
        "",
        "| predictions | label as | by hand and model | naive | width |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for role in ("outcome", "covariate"):
            own = [by_kind[kind] for key, by_kind in results.items() if key[0] == role]
            ratio = np.concatenate(
                [np.ravel(np.array(one["powered"].width) / np.array(one["by hand"].width)) for one in own]
            )
            held, naive = (np.mean([np.mean(one[name].held) for one in own]) for name in ("powered", "naive"))
            lines.append(f"| {kind} | {role} | {percent(held)} | {percent(naive)} | {np.median(ratio):.2f} |")
    lines += [
        "",
        "## Beside the published formulas",
        "",
        "On the same draws, label as outcome, equal inclusion, over all models and coefficients: coverage in percent (a fit "
        "without a solution counts as missed), and the median width relative to ours.",
        "",
        "| model | rows labelled | ours | PPI++ | DSL | width of PPI++ | width of DSL |",
        "|---|---|---|---|---|---|---|",
    ]
    for (role, model, design, n), by_kind in results.items():
        if role != "outcome" or design != "equal":
            continue
        cover = {name: percent([own[name].held for own in by_kind.values()]) for name in ("powered", "PPI++", "DSL")}
        wide = {}
        for name in ("PPI++", "DSL"):
            theirs = np.concatenate([np.array(own[name].width) for own in by_kind.values()])
            ours = np.concatenate([np.array(own["powered"].width) for own in by_kind.values()])
            there = np.isfinite(theirs) & (theirs > 0)
            wide[name] = float(np.median(theirs[there] / ours[there]))
        lines.append(
            f"| {model} | {n} | {cover['powered']} | {cover['PPI++']} | {cover['DSL']} | {wide['PPI++']:.2f} | "
            f"{wide['DSL']:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--ppi-python")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", EstimationWarning)
    start, results = time.process_time(), {}
    for role in ("outcome", "covariate"):
        for model in ("linear", "logistic"):
            for design, n in CELLS:
                results[role, model, design, n] = simulated(role, model, design, n, arguments.draws)
                print(role, model, design, n, f"{time.process_time() - start:.0f} s", flush=True)
    each = 1000 * (time.process_time() - start) / (len(results) * len(KINDS) * arguments.draws)
    texts = {}
    for name in SETS:
        for role in ("outcome", "covariate"):
            for model in ("linear", "logistic"):
                for design, n in CELLS[:4]:
                    texts[name, role, model, design, n] = resampled(name, role, model, design, n, arguments.draws)
        print(name, f"{time.process_time() - start:.0f} s", flush=True)
    error = 100 * np.sqrt(0.95 * 0.05 / arguments.draws)
    text = [
        "# Do the intervals of regressions with predicted labels hold?",
        "",
        f"`regression_coverage.py`, {N_ROWS:,} rows a table, {arguments.draws} draws of each of five models. The Monte Carlo "
        f"error (one standard error) is {error:.1f} percent points for one coefficient and one model, and between "
        f"{error / np.sqrt(len(KINDS)):.1f} and {error:.1f} for all models together, which share tables. A table takes "
        f"{each:.0f} ms.",
        "",
        "The label is the outcome, with two covariates x1 (continuous) and x2 (binary); or it is a covariate beside them. "
        "*Unequal*: doubtful rows are labelled more often. *Clusters*: five rows of each of twenty clusters of ten, which share "
        "an effect, and "
        'x2. The truth is that of the population (`target="population"`).',
        "",
        *lines_of(results, arguments.draws),
        *real_lines(texts),
    ]
    if arguments.ppi_python:
        text += ["", "## The same point estimates", "", same_points(arguments.ppi_python)]
    (HERE / "regression_coverage.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from error
