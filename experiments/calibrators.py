"""How much do calibrators and label-bias corrections help on real scores, and does "auto" choose well?

SmolLM2 scores train and test rows of eight data sets zero-shot, once (an hour on two cores; kept in a folder). Then, for 20,
50, 100 and 300 labelled rows and ten random draws of them, every calibrator is fitted and then evaluated on the test rows.
The corrections that need no labels use 300 unlabelled rows. Writes calibrators.md beside itself. The data sets must be in the
folder that LLMCLF_DATA names.

    python experiments/calibrators.py [--scores .bench/scores] [--draws 10]
"""

from __future__ import annotations

import argparse
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from llmclf import LLMClassifier, open_backend
from llmclf.calibration import BiasCorrector, make_calibrator
from llmclf.cards import load_card
from llmclf.logits import softmax
from llmclf.metrics import accuracy, expected_calibration_error, log_loss

HERE = Path(__file__).resolve().parent
DATA_SETS = ("sst2", "subj", "agnews", "sst5", "trec", "snips", "dbpedia14", "banking77")
SIZES = (20, 50, 100, 300)
NAMES = (
    "identity",
    "prior",
    "temperature",
    "bias_temperature",
    "vector",
    "matrix",
    "platt",
    "isotonic",
    "venn_abers",
    "auto",
    "ucpa, auto",
)
N_ROWS = 1000
N_UNLABELLED = 300


def score(name: str, folder: Path, backend) -> None:
    card = load_card(name)
    train, test = card.load("train", n=N_ROWS), card.load("test", n=N_ROWS)
    clf = LLMClassifier(backend, labels=card.labels, prompt=card.prompt_template).fit(train["text"][:2])
    column = {label: k for k, label in enumerate(clf.classes_.tolist())}
    values = {}
    for split, table in (("train", train), ("test", test)):
        values[f"{split}_scores"] = clf.score_labels(table["text"].tolist())
        values[f"{split}_y"] = np.array([column[label] for label in table["label"].tolist()])
    np.savez(folder / f"{name}.npz", **values)


def without_labels(name: str, folder: Path, backend) -> str:
    """Accuracy and log loss of every correction that needs no labels, as a row of a table."""
    data = np.load(folder / f"{name}.npz")
    card = load_card(name)
    texts = card.load("train", n=N_ROWS)["text"][:N_UNLABELLED].tolist()
    cells = []
    for method in (None, "contextual", "domain", "batch_logmean", "batch_meanlog", "ucpa"):
        if method in ("contextual", "domain"):
            clf = LLMClassifier(backend, labels=card.labels, prompt=card.prompt_template, bias=method, random_state=0)
            bias = clf.fit(texts).bias_.bias_
        elif method is not None:
            bias = BiasCorrector(method).fit(data["train_scores"][:N_UNLABELLED]).bias_
        else:
            bias = 0.0
        proba = softmax(data["test_scores"] + bias)
        cells.append(f"{accuracy(data['test_y'], proba):.3f} ({log_loss(data['test_y'], proba):.2f})")
    return f"| {name} | " + " | ".join(cells) + " |"


def judge(file: Path, size: int, draw: int) -> tuple[dict[str, tuple[float, float, float]], str]:
    """Log loss, accuracy and ECE of every calibrator on the test rows, and what "auto" chose."""
    warnings.simplefilter("ignore")
    data = np.load(file)
    rows = np.random.default_rng([draw, size]).permutation(len(data["train_y"]))[:size]
    scores, y = data["train_scores"][rows], data["train_y"][rows]
    classes = np.arange(scores.shape[1])
    metrics, chosen = {}, ""
    for name in NAMES:
        bias, _, calibrator = name.rpartition(", ")
        shift = BiasCorrector(bias).fit(scores).bias_ if bias else 0.0
        fitted = make_calibrator(calibrator).fit(scores + shift, y, classes=classes)
        proba = fitted.predict_proba(data["test_scores"] + shift)
        truth = data["test_y"]
        metrics[name] = log_loss(truth, proba), accuracy(truth, proba), expected_calibration_error(truth, proba)
        if name == "auto":
            inner = fitted.calibrator_
            chosen = inner.name + (" (weak pull)" if getattr(inner, "ridge", None) == 0.1 else "")
    return metrics, chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scores", type=Path, default=HERE.parent / ".bench" / "scores")
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    args.scores.mkdir(parents=True, exist_ok=True)
    backend = open_backend("smollm2")
    for name in DATA_SETS:
        if not (args.scores / f"{name}.npz").exists():
            print(f"scoring {name}", flush=True)
            score(name, args.scores, backend)

    unlabelled = [without_labels(name, args.scores, backend) for name in DATA_SETS]
    print("\n".join(unlabelled), flush=True)
    headline, everyone, choices = [], [], []
    broken = []
    with ProcessPoolExecutor(2) as pool:
        for name in DATA_SETS:
            file = args.scores / f"{name}.npz"
            n_classes = np.load(file)["train_scores"].shape[1]
            for size in SIZES:
                jobs = [pool.submit(judge, file, size, draw) for draw in range(args.draws)]
                results = [job.result() for job in jobs]
                table = {key: np.array([metrics[key] for metrics, _ in results]) for key in NAMES}
                mean = {key: values.mean(axis=0) for key, values in table.items()}
                base = min(("identity", "prior"), key=lambda key: mean[key][0])
                change = table["auto"][:, 0] - table[base][:, 0]
                error = change.std(ddof=1) / np.sqrt(len(change))
                if change.mean() > error:
                    broken.append(f"{name} at {size}")
                cells = [
                    f"{mean[key][0]:.3f}" for key in ("identity", "prior", "bias_temperature", "auto", "ucpa, auto")
                ]
                headline.append(
                    f"| {name} ({n_classes}) | {size} | {' | '.join(cells)} | {change.mean():+.3f} ± {error:.3f} | "
                    f"{mean['identity'][1]:.3f} | {mean['auto'][1]:.3f} | {mean['ucpa, auto'][1]:.3f} | "
                    f"{mean['identity'][2]:.3f} | {mean['auto'][2]:.3f} |"
                )
                everyone.append(f"| {name} | {size} | " + " | ".join(f"{mean[key][0]:.3f}" for key in NAMES) + " |")
                names, counts = np.unique([chosen for _, chosen in results], return_counts=True)
                choices.append(
                    f"| {name} | {size} | " + ", ".join(f"{n}: {c}" for n, c in zip(names, counts, strict=True)) + " |"
                )
                print(headline[-1], flush=True)
    lines = [
        "# Calibrators on real scores",
        "",
        f"SmolLM2-135M, zero-shot, the prompts of the data set cards; up to {N_ROWS} test rows; mean of {args.draws} draws of "
        "the labelled rows. Log loss in nats. Written by `calibrators.py`.",
        "",
        '"ucpa, auto" first removes the label bias that it estimates from the same rows without their labels. The column *gain* '
        'is the log loss of "auto" minus the better one of raw scores and class frequencies, with its standard error over the '
        "draws; below 0 is better. "
        + (
            f"Worse by more than one standard error: {', '.join(broken)}."
            if broken
            else '"auto" is nowhere worse by more than one standard error.'
        ),
        "",
        "| data set (classes) | labels | raw | class frequencies | bias_temperature | auto | ucpa, auto | gain | accuracy raw "
        "| auto "
        "| ucpa, auto | ECE raw | auto |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *headline,
        "",
        "## Log loss of every calibrator",
        "",
        "| data set | labels | " + " | ".join(NAMES) + " |",
        "|---|--:|" + "--:|" * len(NAMES),
        *everyone,
        "",
        "## Without labels",
        "",
        f"Accuracy, and in brackets log loss, of raw scores and of label-bias corrections towards equal frequencies, estimated "
        f"from {N_UNLABELLED} unlabelled rows or from rows without content. None of them reduces over-confidence.",
        "",
        "| data set | raw | contextual | domain | batch_logmean | batch_meanlog | ucpa |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *unlabelled,
        "",
        "## What auto chose",
        "",
        "| data set | labels | calibrator: draws |",
        "|---|--:|---|",
        *choices,
        "",
    ]
    (HERE / "calibrators.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
