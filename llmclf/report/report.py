"""CalibrationReport: can these probabilities be trusted, and above which confidence is no review needed?"""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_open_share, check_whole_number, is_finite_number, is_number
from ..errors import InputError, type_of
from ..pages import in_notebook, written
from .evidence import Evidence, even_rows, read_evidence
from .figures import drawings, png, svg
from .findings import read_regressions, read_shares
from .information import information
from .labels_worth import member_rows
from .markdown import report_markdown
from .measures import Settings, measure
from .page import report_page
from .slices import class_rows, slice_rows
from .thresholds import at_thresholds, operating_points, recommended
from .verdict import verdict

SCHEMA_VERSION = 1

_MAX_EXAMPLES = 50
_MAX_TEXT_LENGTH = 2000
_PACKAGES = ("numpy", "scipy", "scikit-learn")


class CalibrationReport:
    """What labelled rows say about the probabilities of a classifier, for whoever must decide whether to rely on them.

    It takes any classifier's probabilities for labelled rows on which neither the classifier nor its calibrator was fitted. All
    numbers are computed from all rows; only the figures may show fewer.

    Parameters
    ----------
    y : array-like (n,)
        The true class of each row; see `llmclf.metrics.label_columns`. Rows without one (None or NaN) are left out and counted.
    proba : array-like (n, K) or (n,)
        Probabilities, rows summing to 1; one dimension is P(class 1) of two classes. Rows of NaN, which could not be scored, are
        left out and counted.
    classes : array-like (K,), optional
        The class of each column.
    proba_before : array-like, optional
        The same rows' probabilities before calibration.
    groups : array-like (n,), DataFrame or dict of name to array-like, optional
        Slices of the rows to examine separately: one column, or several columns, each of which partitions the rows.
    texts : sequence of n, optional
        The rows' texts, shown beside the most confident mistakes and the least confident rows. None shows only row numbers.
    metadata : mapping, optional
        Where the probabilities come from: model, prompt, calibrator. The report shows it, and `to_dict` keeps it, as given.
    clusters : array-like (n,), optional
        What each row belongs to, such as its author or its thread: rows of different clusters are independent, rows of one need
        not be. All intervals and the recommended threshold then count clusters, not rows. (`groups` are something else: slices to
        look at one by one.) None: copies of a text belong together if `texts` are given.
    label_mass : array-like (n,), optional
        The total probability of all labels; see `llmclf.LLMClassifier.label_mass`.
    members : DataFrame, optional
        What each member of a pool is worth; see `llmclf.calibration.StackedCalibrator.to_frame`. `LLMClassifier.report` gives it.
    race : llmclf.race.Race, optional
        What the labels buy; the page then holds its table and learning curves.
    shares : True or llmclf.estimation.ShareEstimates, optional
        The shares of the classes among all rows, for the section "What share is it?". True: they are estimated here, from all
        rows and those of them that have a label, which must be a random sample, even or drawn with the probabilities of
        `inclusion`; `llmclf.estimation.estimate_shares` knows other ways to draw one.
    regressions : llmclf.estimation.RegressionResult or dict of name to such results, optional
        Regressions with the label, for a section of their own.
    inclusion : array-like (n,), optional
        With what probability each row was drawn, where not all had the same; see `llmclf.estimation.next_rows`. A report counts
        rows, so it takes as many of those that were drawn more often as make all probabilities equal: each row is kept with the
        least probability over its own. What it says is then right for the table that was drawn from, by fewer rows; `metadata`
        says how many. `llmclf.estimation.estimate_shares` and the functions of `llmclf.metrics` use all rows.
    title : str
    max_error : float in (0, 1)
        The largest share of errors that is allowed among the rows accepted without review.
    confidence : float in (0, 1)
        The confidence level of that guarantee, and of all intervals.
    n_bins : int
        The number of bins for the calibration errors.
    cost_error, cost_review : float
        The cost of a wrong accepted row, and of a row that a person reviews, in any unit. Readers of the page can change them.
    random_state : int
        Seeds all random draws: the same arguments give the same numbers.

    Raises
    ------
    InputError
        An argument cannot be used.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(500)
    >>> y = np.where(rng.random(500) < p, "spam", "ham")
    >>> report = CalibrationReport(y, np.column_stack([1 - p, p]), classes=["ham", "spam"], max_error=0.1)
    >>> report.verdict[:80]
    'On 500 labelled rows, the most probable class is right in 76.4 % of cases (95 % '
    >>> point = report.operating_point(0.9)
    >>> point["n_accepted"], point["n_wrong"]
    (105, 6)
    """

    def __init__(
        self,
        y: ArrayLike | Sequence[Any],
        proba: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        proba_before: ArrayLike | None = None,
        groups: Any = None,
        texts: Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        clusters: ArrayLike | None = None,
        label_mass: ArrayLike | None = None,
        members: Any = None,
        race: Any = None,
        shares: Any = None,
        regressions: Any = None,
        inclusion: ArrayLike | None = None,
        title: str = "Calibration report",
        max_error: float = 0.05,
        confidence: float = 0.95,
        n_bins: int = 15,
        cost_error: float = 10.0,
        cost_review: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.settings = _checked(max_error, confidence, n_bins, random_state, cost_error, cost_review)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InputError(f"metadata is {type_of(metadata)}; expected a dict of names and values to show")
        drawn, thinned = None, dict[str, str]()
        if inclusion is not None:
            drawn, thinned = even_rows(inclusion, y, random_state)
        self.evidence = read_evidence(
            y,
            proba,
            classes=classes,
            proba_before=proba_before,
            groups=groups,
            texts=texts,
            label_mass=label_mass,
            clusters=clusters,
            drawn=drawn,
        )
        # Shares weigh every labelled row; all else counts those that were kept.
        labelled = self.evidence
        if shares is True and drawn is not None:
            labelled = read_evidence(
                y,
                proba,
                classes=classes,
                proba_before=None,
                groups=None,
                texts=None,
                label_mass=None,
                clusters=clusters,
            )
        metadata = {**(metadata or {}), **thinned}
        self._data = {
            **_contents(self.evidence, self.settings, str(title), metadata or {}),
            "members": _members(members),
            "race": _race(race),
            "shares": read_shares(shares, labelled, proba, clusters, self.settings.confidence, inclusion),
            "regressions": read_regressions(regressions),
        }

    @property
    def verdict(self) -> str:
        """The paragraph that the report begins with."""
        text: str = self._data["verdict"]["text"]
        return text

    def operating_point(self, threshold: float) -> dict[str, Any]:
        """What happens if rows with a confidence of at least `threshold` are accepted.

        Returns
        -------
        dict
            ``threshold``, ``coverage``, ``n_accepted``, ``n_wrong``, ``error`` among the accepted rows and the ends ``low`` and
            ``high`` of its exact interval (None if no row is accepted), and ``cost`` per row.

        Raises
        ------
        InputError
            `threshold` is not a number of at least 0.
        """
        if not is_number(threshold) or not threshold >= 0:
            raise InputError(f"threshold={threshold!r}; expected a confidence such as 0.9")
        return at_thresholds(self.evidence, self.settings, np.array([threshold], dtype=np.float64))[0]

    def to_dict(self) -> dict[str, Any]:
        """Everything that the report says, in JSON types: dicts, lists, strings, numbers, and None for an unknown number.

        ``llmclf/report/report.schema.json`` (JSON Schema) describes every entry. ``version`` increases whenever programs that
        read the report must change.

        Returns
        -------
        dict
            ``schema``, ``version``, ``title``, ``rows`` (how many, and how many without probabilities), ``settings``, ``verdict``
            (``text``, the same as ``headlines`` for a row of numbers, ``details`` and ``advice``), ``metrics`` (see `to_frame`),
            ``information`` (whether the probabilities say anything about the labels), ``selection`` (the recommended threshold,
            or the ``reason`` why there is none), ``thresholds`` (what happens at other thresholds), ``classes``, ``confusion``,
            ``slices``, ``label_mass``, ``examples``, ``not_computed``, ``provenance``, ``members`` (of a pool, or None), ``race``
            (as `llmclf.race.Race.to_dict` has it, or None), ``shares`` and ``regressions`` (or None).
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
        """The metrics as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per metric, with the columns ``value``, ``low``, ``high``, ``null_mean`` and ``p_value`` (NaN where unknown);
            with probabilities before calibration also ``before``, ``before_low``, ``before_high``, ``change``, ``change_low`` and
            ``change_high``.
        """
        import pandas as pd

        lines = {}
        for name, entry in self._data["metrics"].items():
            line = {key: entry["after"].get(key) for key in ("value", "low", "high", "null_mean", "p_value")}
            for part in ("before", "change"):
                if part in entry:
                    line |= {
                        part: entry[part]["value"],
                        **{f"{part}_{end}": entry[part][end] for end in ("low", "high")},
                    }
            lines[name] = line
        return pd.DataFrame.from_dict(lines, orient="index", dtype=float).rename_axis("metric")

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as Markdown for a pull request, also written to a file if `path` is given.

        Raises
        ------
        StoreError
            The file cannot be written.
        """
        return written(report_markdown(self._data), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as one HTML page, also written to a file if `path` is given.

        The page loads nothing from the network, can be read without scripts, prints well, and follows the reader's light or
        dark mode. Any Chromium makes a PDF of it:
        ``chromium --headless --no-pdf-header-footer --print-to-pdf=report.pdf report.html``.

        Raises
        ------
        StoreError
            The file cannot be written.
        MissingDependencyError
            matplotlib is not installed.
        """
        figures = {
            drawing.name: {"svg": svg(drawing), "title": drawing.title}
            for drawing in drawings(self.evidence, self.settings, self._data)
        }
        return written(report_page(self._data, figures), path)

    def to_png(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the figures into a folder, which is created if it does not exist.

        Returns
        -------
        list of Path

        Raises
        ------
        StoreError
            A file cannot be written.
        MissingDependencyError
            matplotlib is not installed.
        """
        return [png(drawing, folder) for drawing in drawings(self.evidence, self.settings, self._data)]

    def _repr_html_(self) -> str:
        return in_notebook(self.to_html(), "llmclf report")

    def __repr__(self) -> str:
        return f"<CalibrationReport of {self.evidence.n_rows} rows: {self.verdict}>"


@runtime_checkable
class RaceLike(Protocol):
    """A race: what `llmclf.race.Race` is to a report."""

    @property
    def use(self) -> str:
        """The contestant to use."""
        ...

    def curve(self) -> Any:
        """The learning curves."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Everything that it says, in JSON types."""
        ...


def _race(race: Any) -> dict[str, Any] | None:
    if race is None:
        return None
    if not isinstance(race, RaceLike):
        raise InputError(f"race is {type_of(race)}; expected what LLMClassifier.race returns")
    return race.to_dict()


def _members(members: Any) -> list[dict[str, Any]] | None:
    if members is None:
        return None
    measures = [f"{name}{end}" for name in ("accuracy", "log_loss") for end in ("", "_low", "_high")]
    absent = [name for name in ("weight", *measures) if name not in getattr(members, "columns", ())]
    if absent:
        raise InputError(f"members lack the column {absent[0]!r}; expected what StackedCalibrator.to_frame returns")
    return member_rows(members)


def _checked(
    max_error: Any, confidence: Any, n_bins: Any, random_state: Any, cost_error: Any, cost_review: Any
) -> Settings:
    for name, value in (("max_error", max_error), ("confidence", confidence)):
        check_open_share(name, value, "0.05 or 0.95")
    for name, value in (("cost_error", cost_error), ("cost_review", cost_review)):
        if not is_finite_number(value) or value < 0:
            raise InputError(f"{name}={value!r}; expected a finite number of at least 0")
    for name, value, minimum in (("n_bins", n_bins, 1), ("random_state", random_state, 0)):
        check_whole_number(name, value, minimum)
    return Settings(
        float(max_error), float(confidence), int(n_bins), int(random_state), float(cost_error), float(cost_review)
    )


def _contents(evidence: Evidence, settings: Settings, title: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    metrics, missing = measure(evidence, settings)
    selection = recommended(evidence, settings)
    chosen = selection["threshold"]
    counts = np.zeros((len(evidence.classes),) * 2, dtype=np.int64)
    np.add.at(counts, (evidence.columns, evidence.predicted), 1)
    classes = class_rows(evidence, settings)
    absent = [entry["class"] for entry in classes if not entry["support"]]
    if absent:
        some = ", ".join(map(repr, absent[:5])) + (f" and {len(absent) - 5} others" if len(absent) > 5 else "")
        missing.append({"what": f"recall of {some}", "why": "no labelled row has this class"})
    data: dict[str, Any] = {
        "schema": "llmclf.report",
        "version": SCHEMA_VERSION,
        "title": title,
        "rows": {
            "n": evidence.n_rows,
            "n_unlabelled": evidence.n_unlabelled,
            "n_unscored": evidence.n_unscored,
            **({"n_thinned": evidence.n_thinned} if evidence.n_thinned else {}),
            "n_classes": len(evidence.classes),
            **({} if evidence.clusters is None else {"n_clusters": evidence.n_clusters}),
        },
        "settings": {
            "max_error": settings.max_error,
            "confidence": settings.confidence,
            "n_bins": settings.n_bins,
            "random_state": settings.seed,
            "cost_error": settings.cost_error,
            "cost_review": settings.cost_review,
        },
        "metrics": metrics,
        "information": information(evidence, settings),
        "selection": selection,
        "thresholds": operating_points(evidence, settings, chosen),
        "classes": classes,
        "confusion": {"classes": evidence.names, "counts": counts.tolist()},
        "slices": slice_rows(evidence, settings, float("inf") if chosen is None else chosen),
        "label_mass": None if evidence.label_mass is None else _mass(evidence.label_mass),
        "examples": _examples(evidence),
        "not_computed": missing,
        "provenance": _provenance(evidence, metadata),
    }
    if evidence.clusters is not None:
        _leave_out_tests(data)
    return {**data, "verdict": verdict(data)}


def _leave_out_tests(data: dict[str, Any]) -> None:
    """No class and no slice is said to differ where rows are not independent: the tests count them as if they were."""
    for part in (*data["classes"], *data["slices"]):
        part |= {"p_value": None, "flag": None, "expected_low": None, "expected_high": None}
    data["not_computed"].append(
        {
            "what": "tests of classes and slices",
            "why": f"the {data['rows']['n']} rows belong to {data['rows']['n_clusters']} clusters (such as copies of a text), "
            "and these tests need independent rows",
        }
    )


def _mass(mass: Any) -> dict[str, float]:
    low, median, high = np.quantile(mass, [0.05, 0.5, 0.95])
    return {
        "mean": float(mass.mean()),
        "quantile_05": float(low),
        "median": float(median),
        "quantile_95": float(high),
        "below_half": float((mass < 0.5).mean()),
    }


def _examples(evidence: Evidence) -> dict[str, Any]:
    """The most confident mistakes and the least confident rows."""
    names = evidence.names

    def line(i: int) -> dict[str, Any]:
        example: dict[str, Any] = {"row": int(evidence.rows[i])}
        if evidence.texts is not None:
            text = evidence.texts[i]
            example["text"] = text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]} …"
        return {
            **example,
            "true": names[evidence.columns[i]],
            "predicted": names[evidence.predicted[i]],
            "confidence": float(evidence.confidence[i]),
            "p_true": float(evidence.proba[i, evidence.columns[i]]),
        }

    rising = np.argsort(evidence.confidence, kind="stable")
    mistakes = rising[~evidence.right[rising]][::-1][:_MAX_EXAMPLES]
    return {
        "has_texts": evidence.texts is not None,
        "mistakes": [line(i) for i in mistakes],
        "uncertain": [line(i) for i in rising[:_MAX_EXAMPLES]],
    }


def _provenance(evidence: Evidence, metadata: Mapping[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in (evidence.columns.astype("<i8"), evidence.proba.astype("<f8")):
        digest.update(np.ascontiguousarray(part).tobytes())
    return {
        **_plain(metadata),
        "report": {
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "rows_sha256": digest.hexdigest(),
            "llmclf": version("llmclf"),
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def _plain(value: Any) -> Any:
    """A value in JSON types; whatever JSON lacks becomes text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
