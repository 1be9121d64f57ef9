"""What do label words and a calibrator give beside TF-IDF and logistic regression on the same labels?

SmolLM2 scores the rows of five data sets zero-shot (a quarter of an hour on one core; kept in a score cache). Then the label
words alone, the label words with `calibrator="auto"`, and a bag of words with logistic regression are judged on the same test
rows, the last two fitted on the same 30 or 300 labelled rows. In every draw each class occurs at least once, because a bag of
words cannot name a class that it has never seen. Writes readme_table.md beside itself. The data sets must lie in the folder
that LLMCLF_DATA names.

    python experiments/readme_table.py [--cache .bench/readme_table.sqlite] [--draws 5]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from llmclf import LLMClassifier
from llmclf.cards import DatasetCard, load_card
from llmclf.metrics import accuracy, expected_calibration_error, log_loss

HERE = Path(__file__).resolve().parent
DATA_SETS = ("sst2", "subj", "agnews", "trec", "snips")
SIZES = (30, 300)
N_POOL = 600
N_TEST = 1000


def draw_rows(y: pd.Series, size: int, seed: int) -> np.ndarray:
    """Numbers of `size` random rows among which every class occurs."""
    order = np.random.default_rng([seed, size]).permutation(len(y))
    _, first = np.unique(y.to_numpy()[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return order[np.concatenate([first, rest[: size - len(first)]])]


def measure(y: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Accuracy, log loss in nats and expected calibration error, shape (3,)."""
    return np.array(
        [
            accuracy(y, proba, classes=classes),
            log_loss(y, proba, classes=classes),
            expected_calibration_error(y, proba, classes=classes),
        ]
    )


def compare(card: DatasetCard, cache: Path, draws: int) -> dict[int, np.ndarray]:
    """Size -> mean over the draws, shape (3 ways, 3 measures): label words alone, calibrated, bag of words."""
    pool, test = card.load("train", n=N_POOL), card.load("test", n=N_TEST)
    options = {"labels": card.labels, "prompt": card.prompt_template, "cache": cache}
    zero_shot = LLMClassifier("smollm2", **options).fit(pool["text"].iloc[:2])
    alone = measure(test["label"], zero_shot.predict_proba(test["text"]), zero_shot.classes_)
    means = {}
    for size in SIZES:
        results = []
        for seed in range(draws):
            rows = pool.iloc[draw_rows(pool["label"], size, seed)]
            calibrated = LLMClassifier("smollm2", **options, calibrator="auto", random_state=seed)
            words = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
            )
            calibrated.fit(rows["text"], rows["label"])
            words.fit(rows["text"], rows["label"])
            results.append(
                [
                    alone,
                    measure(test["label"], calibrated.predict_proba(test["text"]), calibrated.classes_),
                    measure(test["label"], words.predict_proba(test["text"]), words.classes_),
                ]
            )
        means[size] = np.mean(results, axis=0)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".bench" / "readme_table.sqlite")
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    args.cache.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    lines = [
        "# Label words and a bag of words on the same labels",
        "",
        f"SmolLM2-135M, zero-shot, the prompts of the data set cards; up to {N_TEST} test rows; mean of {args.draws} draws of "
        'the labelled rows. *alone*: the label words without any label. *auto*: the same scores with `calibrator="auto"`. '
        "*TF-IDF*: words and pairs of words, logistic regression with C=10. Log loss in nats; calibration error (ECE) of the "
        "most probable class in 15 bins. Written by `readme_table.py`.",
        "",
        "| data set (classes) | labels | accuracy: alone | auto | TF-IDF | log loss: alone | auto | TF-IDF | ECE: alone | auto "
        "| TF-IDF |",
        "|---|--:|" + "--:|" * 9,
    ]
    for name in DATA_SETS:
        card = load_card(name)
        for size, means in compare(card, args.cache, args.draws).items():
            cells = " | ".join(f"{means[way, number]:.3f}" for number in range(3) for way in range(3))
            lines.append(f"| {name} ({len(card.classes)}) | {size} | {cells} |")
            print(lines[-1], flush=True)
    (HERE / "readme_table.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
