"""How fast are temperature scaling, the calibration error and its resampling, compared with other packages?

    python experiments/calibration_speed.py --python .bench/oracles/bin/python

The other packages have their own environment (see the Makefile). Medians of three rounds, ours and theirs in turn.
Writes calibration_speed.md beside itself.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from oracle_values import gold_binary, speed_data
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from llmclf.calibration import AutoCalibrator, BiasTemperatureCalibrator, TemperatureCalibrator
from llmclf.metrics import calibration_interval, calibration_test, expected_calibration_error, paired_difference

HERE = Path(__file__).resolve().parent
ROUNDS = 3


class LogScores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its input."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return np.asarray(X)

    def predict(self, X):
        return self.classes_[np.asarray(X).argmax(axis=1)]

    def __sklearn_is_fitted__(self):
        return True


def jobs():
    scores, y = speed_data()
    proba = np.exp(scores)
    frozen = FrozenEstimator(LogScores().fit(scores, y))
    p, b = gold_binary(10_000)
    calm = p / 2 + 0.25
    return {
        "temperature / llmclf": lambda: TemperatureCalibrator().fit(scores, y),
        "temperature / scikit-learn": lambda: CalibratedClassifierCV(frozen, method="temperature").fit(scores, y),
        "ECE / llmclf": lambda: expected_calibration_error(y, proba),
        "1,000 resampled ECEs on 10,000 rows / llmclf, test": lambda: calibration_test(b, p, n_resamples=1000),
        "1,000 resampled ECEs on 10,000 rows / llmclf, interval": lambda: calibration_interval(b, p, n_resamples=1000),
        "1,000 resampled log losses on 10,000 rows / llmclf": lambda: paired_difference(b, p, calm, n_resamples=1000),
        "bias + temperature / llmclf": lambda: BiasTemperatureCalibrator().fit(scores, y),
        "auto, 1,000 rows / llmclf": lambda: AutoCalibrator().fit(scores[:1000], y[:1000]),
    }


def median_seconds(job) -> float:
    job()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter with the other packages")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    our_jobs = jobs()
    rounds: dict[str, list[float]] = {}
    absent = {}
    for _ in range(ROUNDS):
        for name, job in our_jobs.items():
            rounds.setdefault(name, []).append(median_seconds(job))
        command = [args.python, HERE / "oracle_values.py", "--speed"]
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        for name, value in json.loads(run.stdout.splitlines()[-1]).items():
            if isinstance(value, str):
                absent[name] = value
            else:
                rounds.setdefault(name, []).append(value)
    lines = []
    for name in sorted(rounds, key=lambda name: (name.split(" / ")[0], "llmclf" not in name)):
        what, package = name.split(" / ")
        seconds = float(np.median(rounds[name]))
        base = next((float(np.median(rounds[o])) for o in rounds if o.startswith(f"{what} / llmclf")), None)
        ratio = f"{seconds / base:.1f}×" if base and "llmclf" not in package else ""
        lines.append(f"| {what} | {package} | {1000 * seconds:.1f} | {ratio} |")
    text = [
        "# Speed of calibration",
        "",
        "100,000 rows of ten classes unless stated; milliseconds, median of three rounds of five calls, ours and theirs in turn "
        f"on one machine ({platform.machine()}, Python {platform.python_version()}). Written by `calibration_speed.py`.",
        "",
        "| what | package | ms | times ours |",
        "|---|---|--:|--:|",
        *lines,
        *[f"\nNot measured: {name} ({value})." for name, value in absent.items()],
        "",
    ]
    (HERE / "calibration_speed.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
