"""The whole way on real data: score film reviews, calibrate on a few labelled ones, show what that was worth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import open_backend
from .cards import load_card
from .classifier import LLMClassifier
from .display import ReliabilityDisplay
from .logits import softmax
from .metrics import accuracy, expected_calibration_error, log_loss


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured on reviews that neither shots nor calibrator saw.

    Attributes
    ----------
    before, after : dict
        ``accuracy``, ``log_loss`` (nats) and ``ece`` of the raw and of the calibrated probabilities.
    temperature : float
    bias : dict of class to float
    n_calibration, n_test : int
    rows_per_second : float
        Over all rows that were scored, model already loaded.
    """

    before: dict[str, float]
    after: dict[str, float]
    temperature: float
    bias: dict[Any, float]
    n_calibration: int
    n_test: int
    rows_per_second: float


def run_demo(
    output: str | os.PathLike[str] = "reliability.png",
    *,
    model: str = "smollm2",
    n_calibration: int = 300,
    n_test: int = 1000,
    n_shots: int = 4,
    random_state: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Label held-out Rotten Tomatoes reviews, calibrate on `n_calibration` labelled ones, draw the reliability diagram.

    Parameters
    ----------
    output : path of the PNG
    report : callable
        Told in a sentence what is happening.
    """
    card = load_card("rotten_tomatoes")
    report("fetching the reviews")
    train = card.load("train", n=n_calibration + n_shots)
    test = card.load("test", n=n_test)
    backend = open_backend(model)
    report(f"opening the model {model} (the first time it is fetched and converted)")
    backend.identity()
    clf = LLMClassifier(
        backend,
        labels=card.labels,
        prompt=card.prompt_template,
        n_shots=n_shots,
        calibrator="bias_temperature",
        random_state=random_state,
    )
    report(f"scoring {n_calibration} labelled reviews and fitting the calibrator")
    began = time.perf_counter()
    clf.fit(train["text"], train["label"])
    report(f"scoring {n_test} held-out reviews")
    scores = clf.score_labels(test["text"])
    seconds = time.perf_counter() - began
    y = test["label"].to_numpy()
    before, after = softmax(scores), clf.calibrator_.predict_proba(scores)
    display = ReliabilityDisplay.from_predictions(
        y, after, proba_before=before, classes=clf.classes_, name=f"Film reviews, {model}"
    )
    _save(display, Path(output))
    return DemoResult(
        before=_measure(y, before, clf.classes_),
        after=_measure(y, after, clf.classes_),
        temperature=float(clf.calibrator_.temperature_),
        bias=dict(zip(clf.classes_.tolist(), clf.calibrator_.bias_.tolist(), strict=True)),
        n_calibration=n_calibration,
        n_test=n_test,
        rows_per_second=(n_calibration + n_test) / seconds,
    )


def _measure(y: NDArray[Any], proba: NDArray[np.float64], classes: NDArray[Any]) -> dict[str, float]:
    return {
        "accuracy": float(accuracy(y, proba, classes=classes)),
        "log_loss": float(log_loss(y, proba, classes=classes)),
        "ece": float(expected_calibration_error(y, proba, classes=classes)),
    }


def _save(display: ReliabilityDisplay, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: no window, no global state.
    figure = Figure(figsize=(6.0, 7.0), dpi=150)
    FigureCanvasAgg(figure)
    display.plot(ax=figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
