"""A race held on labelled rows, and its result."""

from __future__ import annotations

import copy
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ..calibration import Corrections
from ..calibration.base import ENOUGH_ROWS
from ..calibration.pool.prices import Price, Prices
from ..checks import check_open_share, check_whole_number, is_whole_number
from ..display.learning_curves import draw_learning_curves
from ..errors import InputError
from ..features.readers import Embedded, States, Terms, row_texts
from ..features.sets import FeatureReaders
from ..fitting.fit_corrections import FitTask, learning_places, warn_of_left_out
from ..fitting.reading import read_and_score
from ..metrics import inclusion_weights, mean_interval
from ..numerics.thinning import evenly_drawn
from ..pages import in_notebook, written
from ..pipeline import FittedPipeline
from ..report.markdown import race_markdown
from ..report.measures import entry, number
from ..report.page import race_page
from .contest import Contest, LabelledRows, check_rows, hold_contest
from .contestants import CALIBRATED, FREQUENCIES, POOL, RAW, alone
from .verdict import plain, verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RaceSettings:
    """How a race is held; see `llmclf.LLMClassifier.race`."""

    sizes: tuple[int, ...] | None
    n_draws: int | None
    margin: float
    confidence: float
    random_state: int


def race_settings(sizes: Any, n_draws: Any, margin: Any, confidence: Any, random_state: Any) -> RaceSettings:
    """Checked settings.

    Raises
    ------
    InputError
        Naming the value and what was expected.
    """
    if sizes is not None:
        expected = f"expected whole numbers of labels of at least {ENOUGH_ROWS}, such as [20, 50, 100]"
        if isinstance(sizes, (str, Mapping)) or not isinstance(sizes, (Sequence, np.ndarray)):
            raise InputError(f"sizes={sizes!r}; {expected}")
        bad = [size for size in sizes if not is_whole_number(size, ENOUGH_ROWS)]
        if bad:
            raise InputError(f"sizes={list(sizes)!r} holds {bad[0]!r}; {expected}")
        sizes = tuple(int(size) for size in sizes)
    if n_draws is not None:
        n_draws = check_whole_number("n_draws", n_draws, 1)
    return RaceSettings(
        sizes,
        n_draws,
        check_open_share("margin", margin, "0.02"),
        check_open_share("confidence", confidence, "0.95"),
        check_whole_number("random_state", random_state, 0),
    )


class Race:
    """What labels buy on some rows: the result of `LLMClassifier.race`.

    Parameters
    ----------
    data : mapping
        See `to_dict`.

    Examples
    --------
    >>> from llmclf import LLMClassifier
    >>> from llmclf.backends import FakeBackend
    >>> X, y = [f"text {i} {'ab'[i % 2]}" for i in range(60)], ["a", "b"] * 30
    >>> race = LLMClassifier(FakeBackend(), labels=["a", "b"]).race(X, y)
    >>> race.use
    'text alone'
    >>> bool(race.to_frame().loc["text alone", "log_loss"] < race.to_frame().loc["label words, raw", "log_loss"])
    True
    >>> race.curve()["labels"].unique().tolist()
    [20, 48]
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    @property
    def verdict(self) -> str:
        """Which contestant to use, and whether more labels are worth their work."""
        text: str = self._data["verdict"]["text"]
        return text

    @property
    def use(self) -> str:
        """The contestant to use."""
        name: str = self._data["verdict"]["use"]
        return name

    def to_dict(self) -> dict[str, Any]:
        """Everything that the race says, in JSON types.

        Returns
        -------
        dict
            ``schema``, ``version``, ``rows`` (how many, how many of them are learned from at most, and what was left out),
            ``settings``, ``verdict`` (``use``, ``text``, and ``language_model`` and ``more_labels``, each with a ``code`` and a
            sentence), ``contestants`` (see `to_frame`), ``curve`` (see `curve`) and ``provenance``.
        """
        return copy.deepcopy(self._data)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """`to_dict` as JSON text, also written to a file if `path` is given.

        Raises
        ------
        StoreError
            The file cannot be written.
        """
        return written(json.dumps(self._data, indent=1, ensure_ascii=True, allow_nan=False) + "\n", path)

    def to_frame(self) -> Any:
        """One line per contestant, after it has learned from all labels outside of the fold.

        Returns
        -------
        DataFrame
            ``accuracy`` and ``log_loss`` (nats), each also with ``_low`` and ``_high``; ``vs_pool`` and ``vs_best``, how much
            larger the log loss is than that of the pool and of the lowest one, by paired differences, each also with ``_low``
            and ``_high``; ``rows_per_second``, ``cost_per_1000_rows`` and ``tokens_per_1000_rows``, NaN where unknown.
        """
        import pandas as pd

        lines = {}
        for one in self._data["contestants"]:
            line: dict[str, Any] = {}
            for name in ("accuracy", "log_loss", "vs_pool", "vs_best"):
                ends = {f"{name}_{end}": one[name][end] for end in ("low", "high")}
                line |= {name: one[name]["value"], **ends}
            lines[one["name"]] = line | {name: one["price"][name] for name in _PRICES}
        return pd.DataFrame.from_dict(lines, orient="index", dtype=float).rename_axis("contestant")

    def curve(self) -> Any:
        """The learning curves, one line per contestant and number of labels.

        Returns
        -------
        DataFrame
            ``contestant``, ``labels`` (how many were learned from), ``draws`` (of how many random subsets this is the mean),
            ``accuracy`` and ``log_loss``.
        """
        import pandas as pd

        return pd.DataFrame(self._data["curve"])

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Verdict, table and curve as Markdown, also written to a file if `path` is given."""
        return written(race_markdown(self._data), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The race as one HTML page that loads nothing and runs nothing, also written to a file if `path` is given.

        Raises
        ------
        StoreError
            The file cannot be written.
        MissingDependencyError
            matplotlib is not installed.
        """
        return written(race_page(self._data), path)

    def plot(self, figure: Any = None) -> Any:
        """Draw the learning curves: accuracy and log loss against the number of labels.

        Parameters
        ----------
        figure : matplotlib Figure, optional
            An empty one; by default a new one of pyplot.

        Returns
        -------
        Figure
        """
        return draw_learning_curves(self._data["curve"], figure)

    def _repr_html_(self) -> str:
        return in_notebook(self.to_html(), "llmclf race")

    def __repr__(self) -> str:
        return f"<Race on {self._data['rows']['n']} rows: {self.verdict}>"


_PRICES = ("rows_per_second", "cost_per_1000_rows", "tokens_per_1000_rows")


def hold_race(task: FitTask, settings: RaceSettings, inclusion: Any = None) -> Race:
    """Ask the model about labelled rows once, and hold the contest on its answers.

    Parameters
    ----------
    task : FitTask
        Of a classifier with features.
    settings : RaceSettings
    inclusion : array-like (n,), optional
        With what probability each row was drawn; those race that remain of a draw with the least of them.

    Raises
    ------
    InputError
        There is not one probability above 0 and at most 1 per row, or the rows do not suffice; before the model is asked.
    """
    pipeline, rows, codes = task.pipeline, task.rows, task.codes
    assert codes is not None
    assert pipeline.features is not None
    places, groups = learning_places(pipeline, rows, task.shots, task.bad, task.groups)
    n_known = len(places)
    if inclusion is not None:
        inclusion_weights(inclusion, len(rows))
        places = places[evenly_drawn(np.asarray(inclusion, dtype=np.float64)[places], settings.random_state)]
    pooled = tuple(reader.name for reader in pipeline.features.readers)
    check_rows(codes[places], groups[places], pipeline.labels.classes, settings.sizes)
    pipeline = replace(pipeline, features=_with_text(pipeline, pipeline.features, rows.take(places).records))
    reasons = {number: problem.reason for number, problem in task.bad.items()}
    read = read_and_score(
        pipeline, rows, codes, places,
        content_free=task.corrections.wants_content_free, random_state=task.random_state,
    )  # fmt: skip
    pipeline, left, features = read.pipeline, read.places, read.features
    assert features is not None
    check_rows(codes[left], groups[left], pipeline.labels.classes, None)
    labelled = LabelledRows(read.scores, codes[left], groups[left], features, pooled, read.content_free)
    warn_of_left_out({**reasons, **read.unread}, len(rows))
    corrections = Corrections(task.corrections.bias, task.corrections.calibrator)
    contest = hold_contest(
        labelled,
        corrections,
        sizes=settings.sizes,
        n_draws=settings.n_draws,
        random_state=settings.random_state,
    )
    n_left_out = {"n_unscored": len(places) - len(labelled) + len(task.bad)}
    if n_known > len(places):
        n_left_out["n_thinned"] = n_known - len(places)
    return Race(_contents(contest, pipeline, settings, read.prices, task, n_left_out))


def _with_text(pipeline: FittedPipeline, readers: FeatureReaders, records: Sequence[Any]) -> FeatureReaders:
    """The readers, those without the model first, and that of the words: they cost nothing, and all want to know their worth."""
    has_words = any(
        any(letter.isalnum() for letter in text) for text in row_texts(records, pipeline.scorer.used_fields)
    )
    is_new = has_words and all(reader.name != Terms.name for reader in readers.readers)
    own = sorted(readers.readers, key=lambda reader: reader.needs_states)
    return FeatureReaders((*([Terms()] if is_new else []), *own))


def _contents(
    contest: Contest,
    pipeline: FittedPipeline,
    settings: RaceSettings,
    prices: Prices,
    task: FitTask,
    n_left_out: dict[str, int],
) -> dict[str, Any]:
    assert pipeline.features is not None
    # Of a transformer of the caller: whether it asks a model that is counted; what else it does nobody knows here.
    without_model = tuple(
        alone(reader.name) for reader in pipeline.features.readers if not (reader.needs_states or reader.asks)
    )
    found = verdict(contest, without_model, margin=settings.margin, confidence=settings.confidence)
    best = min(contest.names, key=contest.log_loss)
    totals = _totals(contest, prices)
    groups = contest.groups
    return {
        "schema": "llmclf.race",
        "version": SCHEMA_VERSION,
        "rows": {
            "n": len(contest.rows),
            "n_learned_from": contest.sizes[-1],
            "n_classes": len(pipeline.labels.classes),
            "n_groups": None if groups is None else int(np.unique(groups).size),
            "n_shots": len(task.shots),
            **n_left_out,
        },
        "settings": {
            "sizes": contest.sizes,
            "draws": contest.draws,
            "margin": settings.margin,
            "confidence": settings.confidence,
            "random_state": settings.random_state,
        },
        "verdict": plain(found),
        "contestants": [
            {
                "name": name,
                "meaning": _meaning(name),
                "needs_model": name not in (FREQUENCIES, *without_model),
                **_measures(contest, name, best, settings),
                "price": _price(totals[name]),
            }
            for name in contest.names
        ],
        "curve": [
            {
                "contestant": name,
                "labels": size,
                "draws": draws,
                "accuracy": float(judged[name].right.mean()),
                "log_loss": float(judged[name].losses.mean()),
            }
            for name in contest.names
            for place, (size, draws, judged) in enumerate(
                zip(contest.sizes, contest.draws, contest.judged, strict=True)
            )
        ],
        "provenance": {
            "model": pipeline.backend.identity(),
            "prompt": pipeline.prompt.to_dict(),
            "scoring": pipeline.scoring,
            "features": list(contest.rows.pooled),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "llmclf": version("llmclf"),
        },
    }


def _measures(contest: Contest, name: str, best: str, settings: RaceSettings) -> dict[str, Any]:
    """Accuracy and log loss with all labels, and the differences to the pool and to the best."""
    options: dict[str, Any] = {"confidence_level": settings.confidence, "random_state": 0, "groups": contest.groups}
    judged = contest.judged[-1][name]

    def against(other: str) -> dict[str, Any]:
        return entry(*contest.difference(other, name, confidence_level=settings.confidence))

    return {
        "accuracy": entry(*mean_interval(judged.right, bounds=(0.0, 1.0), **options)),
        "log_loss": entry(*mean_interval(judged.losses, **options)),
        "vs_pool": against(POOL),
        "vs_best": against(best),
    }


def _totals(contest: Contest, prices: Prices) -> dict[str, Price]:
    """What each contestant takes: the scores and features that it needs, and itself."""
    totals = {FREQUENCIES: Price(), RAW: prices.scores, CALIBRATED: prices.scores}
    totals |= {alone(name): prices.of(False, [name]) for name in prices.sets}
    totals[POOL] = prices.of(True, contest.rows.pooled)
    return {name: total + Price(contest.seconds[name]) for name, total in totals.items()}


def _price(price: Price) -> dict[str, float | None]:
    rate = price.rows_per_second
    return {
        "rows_per_second": None if rate is None else number(rate),
        "cost_per_1000_rows": price.cost,
        "tokens_per_1000_rows": price.tokens,
    }


def _meaning(name: str) -> str:
    known = {
        FREQUENCIES: "How often each class occurs among the labels; no text is read.",
        RAW: "The model's label scores as they are; labels teach nothing.",
        CALIBRATED: "The label scores, calibrated on the labels.",
        POOL: "All of these together, weighted by what they are worth (LLMClassifier with features=).",
        alone(Terms.name): "A regression on the words of the text; no language model is asked.",
        alone(Embedded.name): "A regression on embeddings of the text, by a model of their own.",
        alone(States.name): "A regression on the model's hidden states, which come with the label scores.",
    }
    return known.get(name, f"A regression on what {name.removesuffix(' alone')} makes of the rows.")
