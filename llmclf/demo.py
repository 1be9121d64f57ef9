"""The whole way on real data: score film reviews, calibrate on labelled ones or learn more from them, show what it was worth."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.base import clone

from .backends import open_backend
from .cards import load_card
from .classifier import LLMClassifier
from .display import ReliabilityDisplay
from .metrics import accuracy, expected_calibration_error, log_loss


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured on reviews that neither shots nor calibrator saw.

    Attributes
    ----------
    before, after, pooled : dict
        ``accuracy``, ``log_loss`` (nats) and ``ece`` of the raw probabilities, of the calibrated ones, and of those of the pool
        that learns from states and words, too.
    verdict : str
        What the report says first.
    temperature : float
    bias : dict of class to float
    n_calibration, n_test : int
    rows_per_second : float
        Over all rows that were scored, model already loaded.
    """

    before: dict[str, float]
    after: dict[str, float]
    pooled: dict[str, float]
    verdict: str
    temperature: float
    bias: dict[Any, float]
    n_calibration: int
    n_test: int
    rows_per_second: float


def run_demo(
    output: str | os.PathLike[str] = "reliability.png",
    *,
    page: str | os.PathLike[str] = "report.html",
    model: str = "smollm2",
    n_calibration: int = 300,
    n_test: int = 1000,
    n_shots: int = 4,
    max_error: float = 0.1,
    random_state: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Label held-out Rotten Tomatoes reviews, calibrate on `n_calibration` labelled ones, draw and report.

    Parameters
    ----------
    output : path of the PNG
    page : path of the report
    max_error : float
        Share of errors that the report allows among automatically accepted rows.
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
    with tempfile.TemporaryDirectory() as folder:
        pool = LLMClassifier(
            backend,
            labels=card.labels,
            prompt=card.prompt_template,
            n_shots=n_shots,
            features="auto",
            cache=Path(folder) / "scores.sqlite",  # what is scored and timed here needs no model afterwards
            random_state=random_state,
        )
        report(f"scoring {n_calibration} labelled reviews, and learning from label scores, states and words")
        began = time.perf_counter()
        pool.fit(train["text"], train["label"])
        report(f"scoring {n_test} held-out reviews")
        pooled = pool.predict_proba(test["text"])
        seconds = time.perf_counter() - began
        clf = clone(pool).set_params(features=None, calibrator="bias_temperature")
        clf.fit(train["text"], train["label"])
        report("writing the report")
        made = clf.report(test["text"], test["label"], title=f"Film reviews, {model}", max_error=max_error)
    made.to_html(page)
    evidence = made.evidence
    display = ReliabilityDisplay.from_predictions(
        evidence.columns, evidence.proba, proba_before=evidence.proba_before, name=f"Film reviews, {model}"
    )
    _save(display, Path(output))
    metrics = made.to_dict()["metrics"]
    names = ("accuracy", "log_loss", "ece")
    return DemoResult(
        before={name: metrics[name]["before"]["value"] for name in names},
        after={name: metrics[name]["after"]["value"] for name in names},
        pooled={
            "accuracy": accuracy(test["label"], pooled, classes=pool.classes_),
            "log_loss": log_loss(test["label"], pooled, classes=pool.classes_),
            "ece": expected_calibration_error(test["label"], pooled, classes=pool.classes_),
        },
        verdict=made.verdict,
        temperature=float(clf.calibrator_.temperature_),
        bias=dict(zip(clf.classes_.tolist(), clf.calibrator_.bias_.tolist(), strict=True)),
        n_calibration=n_calibration,
        n_test=n_test,
        rows_per_second=(n_calibration + n_test) / seconds,
    )


def _save(display: ReliabilityDisplay, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: no window, no global state.
    figure = Figure(figsize=(6.0, 7.0), dpi=150)
    FigureCanvasAgg(figure)
    display.plot(ax=figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
