"""What do temperature, guidance and the mean of log-probabilities do to a classifier's accuracy and calibration?

SmolLM2 scores rows zero-shot: 200 train rows, on which a calibrator is fitted, and 500 test rows for the evaluation. Each
value of a parameter makes a new classifier, scored from scratch. Writes logit_guide.md and a figure for each question beside
itself (half an hour on two cores). The data sets must be in the folder that LLMCLF_DATA names.

    python experiments/logit_guide.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from llmclf import LLMClassifier, open_backend
from llmclf.calibration import BiasTemperatureCalibrator
from llmclf.cards import load_card
from llmclf.logits import softmax
from llmclf.metrics import accuracy, expected_calibration_error, log_loss

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
N_TRAIN, N_TEST = 200, 500
TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
GUIDANCES = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
PARAMETER_DATA = ("sst2", "agnews")
LENGTH_DATA = ("dbpedia14", "snips")
SCORINGS = ("sum", "mean", "bytes", "pmi")
BLUE, ORANGE, GREY = "#1f5fa8", "#d1701f", "#777777"


class Task:
    """One data set: rows to calibrate on and rows to evaluate on."""

    def __init__(self, name: str, backend) -> None:
        self.card, self.backend = load_card(name), backend
        self.train, self.test = self.card.load("train", n=N_TRAIN), self.card.load("test", n=N_TEST)

    def classifier(self, **parameters) -> LLMClassifier:
        return LLMClassifier(
            self.backend, labels=self.card.labels, prompt=self.card.prompt_template, cache=CACHE, **parameters
        ).fit(self.train["text"][:2].tolist())

    def evaluate(self, **parameters) -> dict[str, float]:
        """Accuracy, ECE and log loss, raw and with a bias and a temperature fitted on the train rows' scores."""
        clf = self.classifier(**parameters)
        column = {label: k for k, label in enumerate(clf.classes_.tolist())}
        y_train, y_test = (np.array([column[label] for label in table["label"]]) for table in (self.train, self.test))
        train, test = (np.log(clf.predict_proba(table["text"].tolist())) for table in (self.train, self.test))
        calibrated = BiasTemperatureCalibrator().fit(train, y_train).predict_proba(test)
        metrics = {}
        for name, proba in (("", softmax(test)), ("calibrated ", calibrated)):
            metrics[f"{name}accuracy"] = float(accuracy(y_test, proba))
            metrics[f"{name}ECE"] = float(expected_calibration_error(y_test, proba))
            metrics[f"{name}log loss"] = float(log_loss(y_test, proba))
        return metrics


COLUMNS = ("accuracy", "ECE", "log loss", "calibrated accuracy", "calibrated ECE", "calibrated log loss")


def sweep(name: str, values: tuple[float, ...], tasks: dict[str, Task]) -> tuple[list[str], dict]:
    """A table with a line for every value of one parameter, and its numbers."""
    lines = [f"| data | {name} | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    results: dict = {}
    for data, task in tasks.items():
        for value in values:
            metrics = results[data, value] = task.evaluate(**{name: value})
            cells = " | ".join(f"{metrics[column]:.3f}" for column in COLUMNS)
            lines.append(f"| {data} | {value:g} | {cells} |")
            print(lines[-1], flush=True)
    return lines, results


def draw_parameter(name: str, values: tuple[float, ...], results: dict, path: Path) -> None:
    """Accuracy and ECE against a parameter, raw and calibrated: a column per data set."""
    figure, axes = plt.subplots(2, len(PARAMETER_DATA), figsize=(8, 5), sharex=True, sharey="row", layout="constrained")
    worst = max(max(metrics["ECE"], metrics["calibrated ECE"]) for metrics in results.values())
    for column, data in enumerate(PARAMETER_DATA):
        for row, metric in enumerate(("accuracy", "ECE")):
            axis = axes[row, column]
            for prefix, colour, label in (("", BLUE, "as scored"), ("calibrated ", ORANGE, "calibrated on 200 rows")):
                numbers = [results[data, value][prefix + metric] for value in values]
                axis.plot(values, numbers, "o-", color=colour, markersize=4, label=label)
            axis.axvline(1.0, color=GREY, linewidth=0.8, linestyle=":")
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(0, 1 if metric == "accuracy" else 1.05 * worst)
            if column == 0:
                axis.set_ylabel(metric)
        axes[0, column].set_title(data)
        axes[1, column].set_xlabel(name)
    axes[0, 0].legend(frameon=False, loc="lower right", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def lengths(tasks: dict[str, Task]) -> tuple[list[str], dict]:
    """Sum, mean, bytes and PMI on labels of unequal length, and how often long labels are predicted."""
    lines = [f"| data | scoring | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    shares: dict = {}
    for data, task in tasks.items():
        texts = task.test["text"].tolist()
        for scoring in SCORINGS:
            metrics = task.evaluate(scoring=scoring)
            lines.append(f"| {data} | {scoring} | {' | '.join(f'{metrics[column]:.3f}' for column in COLUMNS)} |")
            print(lines[-1], flush=True)
            clf = task.classifier(scoring=scoring)
            shares[data, scoring] = (clf.predict(texts)[:, None] == clf.classes_).mean(axis=0)
        clf = task.classifier()
        n_tokens = iter(map(len, clf.score_rows(texts[:1])[0].token_logprobs))
        shares[data, "tokens"] = np.array([max(next(n_tokens) for _ in words) for words in clf.label_words_])
        shares[data, "true"] = (task.test["label"].to_numpy()[:, None] == clf.classes_).mean(axis=0)
    lines += [
        "",
        "Share of the rows by the number of tokens in the longest word of their class:",
        "",
        "| data | tokens | true | " + " | ".join(SCORINGS) + " |",
    ]
    lines.append("|---" * (3 + len(SCORINGS)) + "|")
    for data in tasks:
        for n in np.unique(shares[data, "tokens"]):
            of = shares[data, "tokens"] == n
            cells = [f"{shares[data, name][of].sum():.3f}" for name in ("true", *SCORINGS)]
            lines.append(f"| {data} | {n} | {' | '.join(cells)} |")
    return lines, shares


def draw_lengths(shares: dict, path: Path) -> None:
    """How often labels of one, two, ... tokens are true, and predicted by sum and by mean."""
    figure, axes = plt.subplots(1, len(LENGTH_DATA), figsize=(8, 3), sharey=True, layout="constrained")
    for axis, data in zip(axes, LENGTH_DATA, strict=True):
        counts = np.unique(shares[data, "tokens"])
        for position, (name, colour) in enumerate((("true", GREY), ("sum", BLUE), ("mean", ORANGE))):
            heights = [shares[data, name][shares[data, "tokens"] == n].sum() for n in counts]
            axis.bar(np.arange(len(counts)) + 0.27 * (position - 1), heights, 0.25, color=colour, label=name)
        axis.set_xticks(range(len(counts)), counts)
        axis.set_title(data)
        axis.set_xlabel("tokens of the class's longest word")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of rows")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    global CACHE
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path(".bench/guide.sqlite"), help="the folder of cached scores")
    CACHE = parser.parse_args().cache
    CACHE.parent.mkdir(exist_ok=True)
    backend = open_backend("smollm2")
    tasks = {name: Task(name, backend) for name in (*PARAMETER_DATA, *LENGTH_DATA)}
    parts = ["# What the logit parameters do", "", __doc__.strip().partition("\n\n")[0], ""]
    parts += [f"SmolLM2-135M, zero-shot, {N_TEST} test rows; calibrated: bias and temperature on {N_TRAIN} rows."]
    for name, values in (("temperature", TEMPERATURES), ("guidance", GUIDANCES)):
        lines, results = sweep(name, values, {data: tasks[data] for data in PARAMETER_DATA})
        draw_parameter(name, values, results, HERE / f"guide_{name}.png")
        parts += ["", f"## {name.capitalize()}", "", f"![{name}](guide_{name}.png)", "", *lines]
    lines, shares = lengths({data: tasks[data] for data in LENGTH_DATA})
    draw_lengths(shares, HERE / "guide_lengths.png")
    parts += ["", "## Sum against mean", "", "![lengths](guide_lengths.png)", "", *lines]
    (HERE / "logit_guide.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
