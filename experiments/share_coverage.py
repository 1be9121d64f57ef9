"""Do the intervals of estimated shares cover, and how much narrower are they than those of the hand labels alone?

Tables of 4,000 rows in which shares of .01, .05, .3 and .5 are known, with models that are good, poor, over-confident, shifted
(as if all classes were equally frequent), useless (another row's probabilities) and blind (a fifth of the rows of each class look
like the most frequent one); and real texts, labelled by words that two hundred other texts have taught, whose known labels are
hidden and drawn again. Writes share_coverage.md beside itself every twenty draws, and goes on from share_coverage.json; remove it
to begin anew. A quarter of an hour of one core. Needs ppi-python. The real texts are in the folder that LLMCLF_DATA names.

    python experiments/share_coverage.py [--draws 400]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import defaultdict
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from llmclf.cards import load_card
from llmclf.errors import EstimationWarning
from llmclf.estimation import estimate_shares
from llmclf.estimation.count_intervals import count_interval
from llmclf.logits import softmax

HERE = Path(__file__).resolve().parent
N_ROWS = 4000
SIZES = (50, 100, 300)
MODELS = ("good", "poor", "over-confident", "shifted", "useless", "blind")
SHARES = (0.01, 0.05, 0.3, 0.5)
ALPHA = 0.05
# Two classes: one table per share. More classes: all shares in one table, and the rest in equal parts.
TABLES = [
    *([1 - share, share] for share in SHARES),
    [0.5, 0.3, 0.05, 0.01, 0.14],
    [0.5, 0.3, 0.05, 0.01, *[0.00875] * 16],
]
BLOCK, COMPARED = 20, 100  # draws between two pages, and for the comparison with other packages
DESIGN_DRAWS = 400
SETS = ("agnews", "trec", "sms_spam", "subj")


def table_and_truth(shares, model, seed=0):
    """Probabilities (N, K) and classes (N,). Each class moves its own feature by 2, or by 0.8 for the poor model."""
    rng = np.random.default_rng([seed, len(shares), round(1000 * shares[-1])])
    y = np.repeat(np.arange(len(shares)), np.round(N_ROWS * np.array(shares)).astype(int))
    k, strength = len(shares), 0.8 if model == "poor" else 2.0
    looks = np.where(rng.random(len(y)) < 0.2, np.argmax(shares), y) if model == "blind" else y
    evidence = strength * (rng.normal(size=(len(y), k)) + strength * np.eye(k)[looks])
    prior = np.zeros(k) if model == "shifted" else np.log(shares)
    logits = evidence + prior
    if model == "over-confident":
        logits = 3.0 * logits
    if model == "useless":
        logits = logits[rng.permutation(len(y))]
    return softmax(logits), y


def inclusion_probabilities(proba, n):
    """Three tenths uniform, the rest in proportion to the root of the doubt about the predicted class."""
    doubt = np.sqrt(1.0 - proba.max(axis=1) + 1e-12)
    pi = np.clip(n * (0.3 / len(proba) + 0.7 * doubt / doubt.sum()), 0.0, 1.0)
    for _ in range(50):
        free = pi < 1.0
        pi[free] *= (n - (~free).sum()) / pi[free].sum()
        if pi.max() <= 1.0:
            break
        pi = np.minimum(pi, 1.0)
    return pi


def drawn_rows(rng, n_rows, n, pi):
    if pi is None:
        return rng.choice(n_rows, n, replace=False)
    order = rng.permutation(n_rows)  # systematic sampling of a shuffled table: exactly these probabilities
    return order[np.searchsorted(np.cumsum(pi[order]), rng.random() + np.arange(n)).clip(0, n_rows - 1)]


def stacked(parts):
    """Estimates of many draws as one object with arrays (draws, K), whose intervals are then found at once."""
    names = (
        "share",
        "by_hand",
        "naive",
        "mean_probability",
        "power",
        "size_by_hand",
        "remaining",
        "rest",
        "known",
        "cases",
    )
    return replace(parts[0], **{name: np.array([getattr(part, name) for part in parts]) for name in names})


def judged(proba, y, n, draws, is_equal, seed):
    """What `draws` samples of n labels say of a table: sums (K,) over the draws, and how often all intervals hold together."""
    k = proba.shape[1]
    truth = np.bincount(y, minlength=k) / len(y)
    pi = None if is_equal else inclusion_probabilities(proba, n)
    rng = np.random.default_rng([seed, n, is_equal])
    parts = []
    for _ in range(draws):
        rows = np.unique(drawn_rows(rng, len(y), n, pi))
        inclusion = None if pi is None else pi[rows]
        parts.append(estimate_shares(proba, y[rows], rows, classes=range(k), inclusion=inclusion).overall)
    part = stacked(parts)
    low, high = part.interval(ALPHA)
    hand_low, hand_high = part.interval_by_hand(ALPHA)
    naive = part.naive[0]
    naive_low, naive_high = count_interval(naive * len(y), len(y), ALPHA)
    together_low, together_high = (low, high) if k == 2 else part.interval(ALPHA / k)
    together = ((together_low <= truth) & (truth <= together_high)).all(axis=1)
    sums = {
        "covered": (low <= truth) & (truth <= high),
        "too low": high < truth,
        "by hand": (hand_low <= truth) & (truth <= hand_high),
        "naive": np.broadcast_to((naive_low <= truth) & (truth <= naive_high), low.shape),
        "width": high - low,
        "width by hand": hand_high - hand_low,
        "gain": part.worth / n,
        "error": (part.share - truth) ** 2,
        "error by hand": (part.by_hand - truth) ** 2,
        "joint": np.broadcast_to(together[:, None], low.shape),
    }
    return truth, {name: values.sum(axis=0) for name, values in sums.items()}


def means(draws, sums):
    """Coverages, and ratios to the hand labels alone, of sums over draws."""
    found = {name: sums[name] / draws for name in ("covered", "too low", "by hand", "naive", "gain", "joint")}
    found["width"] = sums["width"] / sums["width by hand"]
    found["error"] = (sums["error"] / max(sums["error by hand"], 1e-12)) ** 0.5
    return found


def cells():
    """Every table, simulated or real, with each design and size: its name, and how it is made."""
    for model in MODELS:
        for shares in TABLES:
            for is_equal in (True, False):
                for n in SIZES:
                    kept = [1] if len(shares) == 2 else [0, 1, 2, 3]
                    key = ("simulated", model, len(shares), is_equal, n)
                    yield key, partial(table_and_truth, shares, model), kept
    for name in SETS:
        for n in SIZES:
            yield ("real", name, 0, True, n), partial(real_texts, name), None


def go_on(found, draws):
    """`draws` more draws of every cell, added to the sums of `found`."""
    seed = found["draws"]
    for (kind, name, k, is_equal, n), make, kept in cells():
        proba, y = make()
        truth, sums = judged(proba, y, n, draws, is_equal, seed)
        for c in range(len(truth)) if kept is None else kept:
            # Of two classes one is as good as the other; of many, those of the shares in question.
            key = json.dumps(
                [
                    kind,
                    name,
                    k or len(truth),
                    is_equal,
                    n,
                    round(float(truth[c]), 6),
                    len(y),
                    c if kind == "real" else 0,
                ]
            )
            own = found["sums"].setdefault(key, dict.fromkeys(sums, 0.0))
            for part, values in sums.items():
                own[part] += float(values[c])
    found["draws"] += draws


def records(found):
    names = ("kind", "model", "K", "equal", "n", "truth", "rows", "class")
    return [
        {**dict(zip(names, json.loads(key), strict=True)), **means(found["draws"], sums)}
        for key, sums in found["sums"].items()
    ]


@cache
def real_texts(name):
    """Probabilities of words that 200 other texts have taught, and the classes of the texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    card = load_card(name)
    train, test = card.load("train", 200), card.load("test")
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0))
    proba = words.fit(train["text"], train["label"]).predict_proba(test["text"])
    classes = words[-1].classes_.tolist()
    kept = test["label"].isin(classes).to_numpy()
    return proba[kept], np.array([classes.index(label) for label in test["label"][kept]])


def pooled(some, *keys):
    """Means over the records that agree in these keys."""
    groups = defaultdict(list)
    for record in some:
        groups[tuple(record[key] for key in keys)].append(record)
    names = [name for name, value in some[0].items() if not isinstance(value, str)]
    return {key: {name: np.mean([record[name] for record in group]) for name in names} for key, group in groups.items()}


def compared(draws):
    """Against ppi-python and design-based supervised learning: the largest difference of equal methods, coverage and width."""
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    largest, records = 0.0, []
    for model in MODELS:
        for share in (0.05, 0.3):
            proba, y = table_and_truth([1 - share, share], model)
            p, case = proba[:, 1], (y == 1).astype(float)
            for n in (50, 300):
                rng, kept = np.random.default_rng([n, 7]), defaultdict(list)
                for _ in range(draws):
                    rows = rng.choice(len(y), n, replace=False)
                    rest = np.setdiff1d(np.arange(len(y)), rows)
                    data = case[rows], p[rows], p[rest]
                    # Our mean of probabilities is over all rows, theirs over those without labels: the same at lam N / (N - n).
                    scale = len(rest) / len(y)
                    lam = float(np.clip(rng.random(), 0.0, 1.0))
                    plain = estimate_shares(proba, y[rows], rows, classes=[0, 1], recalibrate=False, tuning=lam).overall
                    theirs = float(ppi_mean_pointestimate(*data, lam=lam * scale)[0])
                    dsl = float(np.mean(p) + (case[rows] - p[rows]).mean())
                    ours = estimate_shares(proba, y[rows], rows, classes=[0, 1], recalibrate=False, tuning=1.0).overall
                    largest = max(largest, abs(plain.share[1] - theirs), abs(ours.share[1] - dsl))
                    best = estimate_shares(proba, y[rows], rows, classes=[0, 1]).overall
                    kept["llmclf"].append([end[1] for end in best.interval(ALPHA)])
                    kept["ppi-python"].append([float(end[0]) for end in ppi_mean_ci(*data, alpha=ALPHA)])
                    pseudo = p.copy()
                    pseudo[rows] += (case[rows] - p[rows]) * len(y) / n
                    half = 1.959964 * pseudo.std(ddof=1) / np.sqrt(len(y))
                    kept["DSL"].append([dsl - half, dsl + half])
                record = {"model": model, "share": share, "n": n}
                for method, ends in kept.items():
                    low, high = np.array(ends).T
                    record[method] = (float(((low <= share) & (share <= high)).mean()), float((high - low).mean()))
                records.append(record)
    print("compared", time.strftime("%H:%M:%S"), flush=True)
    return largest, records


def designs(draws):
    """Coverage and width of two classes, of which one has .3, in designs that are more than equal or unequal probabilities."""
    for model in ("good", "useless"):
        proba, y = table_and_truth([0.7, 0.3], model)
        rng = np.random.default_rng(3)
        n_rows = len(y)
        predicted, groups, weights = proba.argmax(axis=1), rng.integers(0, 4, n_rows), rng.uniform(0.2, 5.0, n_rows)
        if model == "useless":
            predicted = y  # strata that know more than the probabilities
        clusters = np.empty(n_rows, dtype=int)  # of five rows each, alike in their classes
        clusters[np.argsort(y + rng.normal(size=n_rows))] = np.arange(n_rows) // 5
        mixed = np.empty(n_rows, dtype=int)  # of one to ten rows, with classes as in the whole table
        mixed[rng.permutation(n_rows)] = np.repeat(np.arange(n_rows), rng.integers(1, 11, n_rows))[:n_rows]
        misjudged = proba.copy()  # all cases of a tenth of these clusters missed
        misjudged[(rng.random(mixed.max() + 1) < 0.1)[mixed]] = [0.98, 0.02]

        def by_strata(rng, n, predicted=predicted):
            return np.concatenate([rng.choice(np.flatnonzero(predicted == h), n // 2, replace=False) for h in (0, 1)])

        def by_cluster(rng, n, clusters=clusters):
            return np.flatnonzero(np.isin(clusters, rng.choice(clusters.max() + 1, n // 5, replace=False)))

        def by_mixed(rng, n, mixed=mixed):
            return np.flatnonzero(np.isin(mixed, rng.choice(mixed.max() + 1, n // 5, replace=False)))

        def simply(rng, n, n_rows=n_rows):
            return rng.choice(n_rows, n, replace=False)

        ways = {
            "strata, half of the labels each": (by_strata, {"strata": predicted}),
            "the same, in four groups": (by_strata, {"strata": predicted, "groups": groups}),
            "clusters of five rows": (by_cluster, {"clusters": clusters}),
            "clusters of 1 to 10 rows, not alike": (by_mixed, {"clusters": mixed}),
            "the same, a tenth of them misjudged": (by_mixed, {"clusters": mixed, "proba": misjudged}),
            "weights from .2 to 5": (simply, {"weights": weights}),
            "four groups": (simply, {"groups": groups}),
        }
        for name, (drawn, options) in ways.items():
            for n in (100, 300):
                rng, kept = np.random.default_rng([n, 11]), []
                v = options.get("weights", np.ones(n_rows))
                parts = range(4) if "groups" in options else (None,)
                inside = [np.ones(n_rows, dtype=bool) if g is None else groups == g for g in parts]
                truths = np.array([np.average(y[i], weights=v[i]) for i in inside])
                for _ in range(draws):
                    rows = drawn(rng, n)
                    found = estimate_shares(
                        **{"proba": proba, "y": y[rows], "rows": rows, "classes": [0, 1], **options}
                    )
                    frame = found.group_frame() if "groups" in options else found.to_frame()
                    line = frame[frame["class"] == 1]
                    ends = line[["low", "high", "by_hand_low", "by_hand_high"]].to_numpy(dtype=float).T
                    low, high, hand_low, hand_high = ends
                    kept.append(
                        [
                            (low <= truths) & (truths <= high),
                            (hand_low <= truths) & (truths <= hand_high),
                            high - low,
                            hand_high - hand_low,
                        ]
                    )
                covered, by_hand, width, hand_width = np.array(kept, dtype=float).mean(axis=(0, 2))
                yield [name, model, str(n), percent(covered), percent(by_hand), f"{width / hand_width:.2f}"]
    print("designs", time.strftime("%H:%M:%S"), flush=True)


def timed():
    """Processor seconds of a million rows, 20 classes, 300 labels."""
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.full(20, 0.3), 1_000_000)
    rows, y = rng.choice(1_000_000, 300, replace=False), rng.integers(0, 20, 300)
    start, cpu = time.perf_counter(), time.process_time()
    estimate_shares(proba, y, rows, classes=range(20)).to_frame()
    return time.perf_counter() - start, time.process_time() - cpu


def percent(value):
    return f"{100 * value:.1f}"


def table_lines(head, rows):
    """A Markdown table: names in a text column to the left, numbers to the right."""
    names = head.split()
    marks = "|".join("---" if name in ("model", "set", "inclusion", "design") else "--:" for name in names)
    cells = (" | ".join(row) for row in rows)
    return [
        f"| {' | '.join(name.replace('_', ' ') for name in names)} |",
        f"|{marks}|",
        *(f"| {row} |" for row in cells),
        "",
    ]


def numbers(record, *names):
    return [f"{record[name]:.2f}" for name in names]


def percents(record, *names):
    return [percent(record[name]) for name in names]


INTRODUCTION = """\
# Coverage of estimated shares

Requested: 95 %. {draws} draws per table, size and design; a line of the first two tables pools the tables of 2, 5 and 20
classes. Monte Carlo error of a coverage: ± {pooled_error:.1f} points (one standard error; ± {error:.1f} for a single table).
Written by `share_coverage.py`.

Of {n_lines} lines, {inside} cover between 94 and 98 %, {above} more often and {under} less often, {below} of them by more than
two standard errors. The least coverage is {least:.1f} %, and of a class of real texts (below) {least_real:.1f} %. The mean
width of a cell is at most {widest:.3f} times that of the hand labels alone, and {width:.2f} times on average. The estimates are
worth {gain:.2f} times as many labels on average, and {good:.2f} times with the good model. Naive counting covers in {naive:.0f} %
of the cells.

More than 98 % is where counts are too coarse for less. With half an expected case among 50 labels, 60 % of the samples have
none, 30 % one, 7.6 % two, and 1.4 % more: an interval covers 98.6 % or, without the samples with two, 91 %, and nothing between.
It then takes the safe side. So it does where a good model is checked by a handful of cases, and where rows were drawn unequally
and few of the labelled rows weigh most: cases that were not seen are reckoned with.

The columns: how often the interval covers, and lies below the truth; coverage of the hand labels alone and of naive counting with
a binomial interval, all in per cent; the mean width, in units of that by hand; how many labels the estimate is worth, per label;
and the root mean squared error, in units of that by hand.
"""


REAL_TEXTS = """\
## Real texts

Probabilities of a logistic regression on words, fitted on 200 other texts; labels are hidden and drawn again, with equal
probabilities. Means over the classes; `least` is the least covered class, and `rarest` the share of the rarest.
"""
OTHER_DESIGNS = """\
## Other designs

Two classes, of which one has .3; {draws} draws. Clusters are drawn whole, a fifth as many as n. With useless probabilities the
strata are the classes themselves, so that they alone help. Of groups: means over the four.
"""
OTHER_METHODS = """\
## Other methods

Where the method is the same (probabilities as they are, one given weight), the point estimates of ppi-python and of
design-based supervised learning (DSL: Egami et al. 2023, the mean of the pseudo-outcomes) differ from ours by at most
{largest:.0e}. Below, each with its own interval on the same {draws} draws of two classes: coverage in per cent, and mean width.
"""


def page(found, other_designs, comparison, seconds):
    draws = found["draws"]
    some = [record for record in records(found) if record["kind"] == "simulated"]
    texts = pooled([record for record in records(found) if record["kind"] == "real"], "model", "K", "rows", "n")
    error = 100 * np.sqrt(0.95 * 0.05 / draws)
    cells = pooled(some, "model", "equal", "n", "truth")
    covers = [100 * cell["covered"] for cell in cells.values()]
    introduction = INTRODUCTION.format(
        draws=draws,
        error=error,
        pooled_error=error / np.sqrt(3),
        n_lines=len(cells),
        inside=sum(94 <= value <= 98 for value in covers),
        above=sum(value > 98 for value in covers),
        under=sum(value < 94 for value in covers),
        below=sum(value < 94 - 2 * error / np.sqrt(3) for value in covers),
        least=min(covers),
        least_real=100 * min(r["covered"] for r in records(found) if r["kind"] == "real"),
        widest=max(record["width"] for record in some),
        width=np.mean([record["width"] for record in some]),
        gain=np.mean([record["gain"] for record in some]),
        good=np.mean([record["gain"] for record in some if record["model"] == "good"]),
        naive=100 * np.mean([record["naive"] for record in some]),
    )
    lines = introduction.split("\n")
    for is_equal in (True, False):
        rows = [
            [
                model,
                str(n),
                f"{truth:g}",
                *percents(cell, "covered", "too low", "by hand", "naive"),
                *numbers(cell, "width", "gain", "error"),
            ]
            for (model, equal, n, truth), cell in cells.items()
            if equal == is_equal
        ]
        lines += [f"## {'Equal' if is_equal else 'Unequal'} inclusion probabilities", ""]
        lines += table_lines("model n share covers too_low by_hand naive width worth error", rows)
    rows = []
    for (k, equal, n), cell in pooled(some, "K", "equal", "n").items():
        own = [record for record in some if (record["K"], record["equal"], record["n"]) == (k, equal, n)]
        ends = [percent(end([record["covered"] for record in own])) for end in (min, max)]
        widest = f"{max(record['width'] for record in own):.2f}"
        rows.append(
            [
                str(k),
                "equal" if equal else "unequal",
                str(n),
                percent(cell["covered"]),
                *ends,
                percent(cell["joint"]),
                widest,
            ]
        )
    lines += [
        "## By number of classes",
        "",
        "`joint`: how often the simultaneous intervals of all classes hold together.",
        "",
    ]
    lines += table_lines("classes inclusion n covers least most joint widest", rows)
    rows = []
    for (name, k, size, n), cell in texts.items():
        own = [r for r in records(found) if (r["kind"], r["model"], r["n"]) == ("real", name, n)]
        ends = f"{min(r['truth'] for r in own):.3f}", percent(min(r["covered"] for r in own))
        row = [name, str(k), ends[0], str(size), str(n), percent(cell["covered"]), ends[1]]
        rows.append([*row, *percents(cell, "by hand", "naive", "joint"), *numbers(cell, "width", "gain", "error")])
    lines += REAL_TEXTS.split("\n")
    lines += table_lines("set classes rarest rows n covers least by_hand naive joint width worth error", rows)
    lines += OTHER_DESIGNS.format(draws=DESIGN_DRAWS).split("\n")
    lines += table_lines("design model n covers by_hand width", other_designs)
    largest, others = comparison
    rows = [
        [record["model"], f"{record['share']:g}", str(record["n"])]
        + [
            cell
            for method in ("llmclf", "ppi-python", "DSL")
            for cell in (percent(record[method][0]), f"{record[method][1]:.3f}")
        ]
        for record in others
    ]
    lines += OTHER_METHODS.format(largest=largest, draws=COMPARED).split("\n")
    lines += table_lines("model share n llmclf width ppi-python width DSL width", rows)
    lines += [
        "## Speed",
        "",
        f"A million rows, 20 classes and 300 labels: {seconds[1]:.1f} processor seconds ({seconds[0]:.1f} s beside other work).",
    ]
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    wanted = parser.parse_args().draws
    warnings.simplefilter("ignore", EstimationWarning)
    kept = HERE / "share_coverage.json"
    found = (
        json.loads(kept.read_text()) if kept.exists() else {"draws": 0, "sums": {}, "compared": None, "seconds": None}
    )
    found["seconds"] = found["seconds"] or timed()
    found["compared"] = found["compared"] or compared(COMPARED)
    found["designs"] = found.get("designs") or list(designs(DESIGN_DRAWS))
    while found["draws"] < wanted:
        go_on(found, min(BLOCK, wanted - found["draws"]))
        kept.write_text(json.dumps(found), encoding="utf-8")
        (HERE / "share_coverage.md").write_text(
            page(found, found["designs"], found["compared"], found["seconds"]), encoding="utf-8"
        )
        print(found["draws"], "draws", time.strftime("%H:%M:%S"), flush=True)


if __name__ == "__main__":
    main()
