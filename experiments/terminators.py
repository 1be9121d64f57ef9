"""How should two labels be told apart of which one begins the other, and what does it do to the other labels?

SmolLM2 scores test rows of three data sets zero-shot, in each of which one label word begins another. Every way to tell the two
apart is computed from the same answers. Writes terminators.md beside itself (a quarter of an hour on one core). The data sets
must be in the folder that LLMCLF_DATA names.

    python experiments/terminators.py [--cache scores.sqlite]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.cards import load_card
from llmclf.errors import TerminatorWarning
from llmclf.logits import log_softmax
from llmclf.metrics import accuracy, log_loss

HERE = Path(__file__).resolve().parent
TASKS = {
    # data set: (words that replace the card's, number of classes, number of rows)
    "banking77": ({"cash_withdrawal_not_recognised": "cash withdrawal"}, 64, 300),
    "trec": ({"abbreviation": "description of an abbreviation"}, 6, 500),
    "dbpedia14": ({"EducationalInstitution": "place of education", "NaturalPlace": "place"}, 14, 400),
}
KEEP = ("cash_withdrawal_not_recognised", "cash_withdrawal_charge")


def scores(name: str, backend, cache: str | None) -> tuple[dict[str, np.ndarray], np.ndarray, list[int]]:
    """Scores (n, K) of every way, the classes (n,), and the places of the shorter label and of the longer."""
    changed, n_classes, n_rows = TASKS[name]
    card = load_card(name)
    others = [label for label in sorted(card.classes) if label not in KEEP]
    classes = sorted([*(label for label in KEEP if label in card.classes), *others][:n_classes])
    labels = {label: changed.get(label, card.classes[label][0]) for label in classes}
    rows = card.load("test")
    rows = rows[rows["label"].isin(classes)].iloc[:n_rows]
    words = list(labels.values())
    ((short, longer),) = [
        (i, j) for i, one in enumerate(words) for j, other in enumerate(words) if other.startswith(f"{one} ")
    ]

    def asked(terminator: str | None) -> np.ndarray:
        prompt = Prompt(card.prompt_template, instruction=card.instruction, terminator=terminator)
        clf = LLMClassifier(backend, labels=labels, prompt=prompt, cache=cache).fit(rows["text"][:2].tolist())
        place = {label: k for k, label in enumerate(clf.classes_.tolist())}
        return clf.score_labels(rows["text"].tolist())[:, [place[label] for label in classes]]

    plain, ended, lined = asked(None), asked("eos"), asked("\n")
    exclusive = plain.copy()  # as llmclf.backends.nested_labels has it
    exclusive[:, short] += np.log1p(-np.exp(plain[:, longer] - plain[:, short]))

    def mixed(columns: list[int], ends: np.ndarray) -> np.ndarray:
        values = plain.copy()
        values[:, columns] = ends[:, columns]
        return values

    ways = {
        "none: not exclusive": plain,
        "end-of-answer token on every label (`eos_if_nested`)": ended,
        "end-of-answer token on the shorter label": mixed([short], ended),
        "end-of-answer token on both labels": mixed([short, longer], ended),
        "line break on every label": lined,
        "line break on the shorter label": mixed([short], lined),
        "the shorter excludes the longer (`auto`)": exclusive,
    }
    place = {label: k for k, label in enumerate(classes)}
    return ways, np.array([place[label] for label in rows["label"]]), [short, longer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", help="a score cache, to go on from where an earlier run stopped")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", TerminatorWarning)
    backend = open_backend("smollm2")
    lines = [
        "# How should labels be told apart of which one begins the other?",
        "",
        "`python experiments/terminators.py`: SmolLM2, zero-shot, test rows. In each data set one label word begins another.",
        "The last column is the share of rows that are given the shorter of the two labels, and in brackets the true share.",
        "",
        "| data | classes | rows | way | accuracy | log loss | shorter label |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in TASKS:
        ways, y, (short, _) = scores(name, backend, arguments.cache)
        for way, values in ways.items():
            proba = np.exp(log_softmax(values))
            share, truth = float(np.mean(proba.argmax(1) == short)), float(np.mean(y == short))
            lines.append(
                f"| {name} | {proba.shape[1]} | {len(y)} | {way} | {accuracy(y, proba):.3f} | {log_loss(y, proba):.3f} | "
                f"{share:.3f} ({truth:.3f}) |"
            )
            print(lines[-1], flush=True)
    (HERE / "terminators.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
