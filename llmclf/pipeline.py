"""Everything that makes probabilities of rows, as one object that never changes: the fitted pipeline.

Estimator, jobs, inspector and report each hold a `FittedPipeline` and read nothing else of each other. Whoever needs another
one (other parameters, another backend) derives it with `dataclasses.replace`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, Integers
from .backends import Backend, RowScores, open_backend
from .backends.base import EstimatesCost
from .backends.handle import Handle
from .backends.http.saved_addresses import check_saved_address
from .backends.http.server_handle import NamedServer
from .backends.identity import check_same_model
from .backends.logit_processing import Processing
from .backends.requests import SCORE_VERSION, STATE_PARTS
from .backends.usage import Estimate
from .calibration import Corrections, PooledCalibrator, SelectedThreshold, StackedCalibrator
from .calibration.pool.members import LABEL_SCORES, FittedHead
from .checks import checked_names
from .errors import CalibrationWarning, InputError, LlmclfError, ModelError, warn
from .features import Embeddings
from .features.reading import read_parts, reason
from .features.sets import FeatureReaders
from .labels import LabelSet, saved_labels
from .logits import softmax
from .prompts.prompt import Prompt, nested_words
from .prompts.rendered import TEXT_FIELD
from .scoring.class_scores import ClassScores
from .scoring.decisions import Decisions
from .scoring.saved_values import check_saved_values
from .scoring.scorer import Scorer
from .tables.bad_rows import check_problems, named_rows
from .tables.rows import Row, Rows
from .tables.values import plain

FORMAT = 3
"""Of `FittedPipeline.to_dict`, and so of saved classifiers, without a pool."""
POOL_FORMAT = 4
"""Of those with a pool, which versions that read only format 3 cannot make out."""
RECALIBRATED_FORMAT = 5
"""Of those with a recalibration, which versions that read only formats 3 and 4 would leave out."""
FORMATS = (FORMAT, POOL_FORMAT, RECALIBRATED_FORMAT)


def _none() -> Integers:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """The rows that bias and calibrator were fitted on.

    Attributes
    ----------
    numbers : ndarray of int (m,)
        Their places among the rows of the fit.
    columns : ndarray of int (m,)
        Their true classes, where a calibrator was fitted on these.
    fingerprints : list of m str
        By which the calibrator's rows are known again; these alone outlive save and load.
    is_weighted : bool
        Whether some counted more than others.
    groups : ndarray of int (m,)
        Which of them belong together, as copies of a text or because the caller said so. These are never parted by
        cross-fitting, and do not outlive save and load.
    earlier : list of str
        Fingerprints of other rows that were learned from before, by what was fitted on these rows since; see
        `llmclf.LLMClassifier.recalibrate`.
    """

    numbers: Integers = field(default_factory=_none)
    columns: Integers = field(default_factory=_none)
    fingerprints: list[str] = field(default_factory=list)
    is_weighted: bool = False
    groups: Integers = field(default_factory=_none)
    earlier: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        """How many rows."""
        return f"<CalibrationRows: {len(self.numbers) or len(self.fingerprints)}>"


@dataclass(frozen=True, eq=False)
class FittedPipeline:
    """From rows to decisions: a prompt, a model, scores, corrections and a threshold.

    Threads may share a pipeline: none of its methods changes it.

    Attributes
    ----------
    backend : Backend
    prompt : Prompt
    labels : LabelSet
    field_names : tuple of str
        The fields that rows have.
    is_table : bool
        Whether rows come from a table; else each is one text, whose field is called ``text``.
    shots : tuple of (row, word)
        The examples in every prompt.
    processing : Processing or None
        What is done to the model's logits.
    scoring : {"sum", "mean", "bytes", "pmi"}
    corrections : Corrections
        Bias, calibrator and prior, fitted.
    threshold : SelectedThreshold or None
        From which confidence on rows are accepted.
    calibrated_on : mapping or None
        The identity of the model that corrections and threshold belong to.
    calibration_rows : CalibrationRows
        The rows that bias and calibrator were fitted on.
    fitted_on_scores : mapping
        The `kind_of_scores` that corrections and threshold belong to; by default that of this pipeline.
    cache : path or None
        The score cache.
    on_error : {"raise", "missing"}
        What a row does that cannot be asked about, or that the model cannot score.
    check_model : bool
        Whether another model than that of `calibrated_on` is refused; if not, a warning says so.
    features : FeatureReaders or None
        What a pool learns from besides the label scores.
    threshold_fingerprints : tuple of str
        By which the rows are known again that the threshold was chosen on, besides those of `calibration_rows`.
    folder : str or None
        Where it was read from, so that its certificate may lie there.

    Raises
    ------
    PromptError
        Template, fields or label words do not fit together.

    Examples
    --------
    >>> from llmclf.backends import FakeBackend
    >>> from llmclf.labels import label_set
    >>> from llmclf.tables import read_rows
    >>> pipeline = FittedPipeline(FakeBackend(), Prompt("{{ text }}\\nOpinion:"), label_set(["good", "bad"]))
    >>> scores = pipeline.scores(read_rows(["A fine film."]))
    >>> pipeline.probabilities(scores).round(3).tolist()
    [[0.531, 0.469]]
    >>> pipeline.decide(scores).label.tolist()
    ['bad']
    """

    backend: Backend
    prompt: Prompt
    labels: LabelSet
    field_names: tuple[str, ...] = (TEXT_FIELD,)
    is_table: bool = False
    shots: tuple[tuple[Row, str], ...] = ()
    processing: Processing | None = None
    scoring: str = "sum"
    corrections: Corrections = field(default_factory=Corrections)
    threshold: SelectedThreshold | None = None
    calibrated_on: Mapping[str, Any] | None = None
    calibration_rows: CalibrationRows = field(default_factory=CalibrationRows)
    fitted_on_scores: Mapping[str, Any] = field(default_factory=dict)
    cache: str | os.PathLike[str] | None = None
    on_error: str = "raise"
    check_model: bool = True
    features: FeatureReaders | None = None
    threshold_fingerprints: tuple[str, ...] = ()
    folder: str | None = None

    def __post_init__(self) -> None:
        if not self.fitted_on_scores:
            object.__setattr__(self, "fitted_on_scores", self.kind_of_scores)
        _ = self.scorer  # a prompt that cannot be rendered is refused here

    def __repr__(self) -> str:
        """Model, classes and what was fitted, in one line."""
        classes, corrections = self.labels.classes, self.corrections
        parts = [f"{len(classes)} classes ({', '.join(map(repr, classes[:3]))}{', ...' if len(classes) > 3 else ''})"]
        parts += [f"{len(self.shots)} shots"] if self.shots else []
        parts += [repr(part) for part in (corrections.bias, corrections.calibrator) if part is not None]
        parts += [] if corrections.recalibration is None else [f"recalibrated by {corrections.recalibration!r}"]
        parts += [] if self.threshold is None else [f"accepts from confidence {self.threshold.threshold:.4g} on"]
        return f"<FittedPipeline: {self.backend!r}, {', '.join(parts)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "scorer"}

    @cached_property
    def scorer(self) -> Scorer:
        """What asks the model about rows."""
        return Scorer(
            self.backend,
            self.prompt,
            self.labels,
            self.field_names,
            self.shots,
            self.processing,
            self.cache,
            self.on_error,
            STATE_PARTS if self.features is not None and self.features.needs_states else (),
        )

    @cached_property
    def kind_of_scores(self) -> dict[str, Any]:
        """What the scores depend on besides model, prompt and labels, as JSON values."""
        processing = (self.processing or Processing()).to_dict()
        return {"scoring": self.scoring, "unconditional_prompt": self.prompt.unconditional, **processing}

    # --- checks --------------------------------------------------------------------------------------------------------

    def check(self, rows: Rows) -> Rows:
        """Refuse what cannot be rendered and scored, before anything is asked; the rows come back with what is wrong with some.

        Raises
        ------
        InputError
            The rows are texts where a table is expected, or the other way round; a field that the prompt shows is absent; the
            backend cannot give what the scores need; or, with ``on_error="raise"``, some rows cannot be asked about: the error
            names them.
        """
        if rows.is_table != self.is_table:
            check_problems(rows.problems)  # what is no text is no table either
            then, now = ("a table", "texts") if self.is_table else ("texts", "a table")
            raise InputError(f"X holds {now}, but the classifier was fitted on {then}; give X in the same form")
        if self.has_heads and self.features is not None:
            rows = self.features.noted(rows)
        self.scorer.check(rows, self.scoring)
        return rows

    def check_model_identity(self, identity: Mapping[str, Any] | None = None) -> None:
        """Refuse another model than the one that corrections and threshold belong to.

        Parameters
        ----------
        identity : mapping, optional
            That of the model that answers; by default the backend is asked for it.

        Raises
        ------
        ModelError
            It is another model. Where `check_model` is false a `CalibrationWarning` says so instead.
        """
        if self.calibrated_on is not None:
            now = self.backend.identity() if identity is None else identity
            check_same_model(self.calibrated_on, now, is_strict=self.check_model)

    def warn_of_other_scores(self) -> None:
        """Warn where corrections or threshold belong to scores of another kind than this pipeline's."""
        then, now = self.fitted_on_scores, self.kind_of_scores
        if then == now:
            return
        changed = [name for name in now if now[name] != then.get(name, now[name])]
        fitted = (self.corrections.bias, self.corrections.last_fitted, self.threshold)
        if changed and any(part is not None for part in fitted):
            warn(
                "bias, calibrator and threshold belong to scores with "
                f"{', '.join(f'{name}={then[name]!r}' for name in changed)}, and these have "
                f"{', '.join(f'{name}={now[name]!r}' for name in changed)}; fit again, or the probabilities cannot be trusted",
                CalibrationWarning,
            )

    # --- from rows to decisions ----------------------------------------------------------------------------------------

    def predict(self, rows: Rows) -> Decisions:
        """Check rows, refuse another model than the fitted one, ask about the rows, and decide.

        Raises
        ------
        InputError, ModelError
            As `check`, `check_model_identity` and the backend.
        """
        rows = self.check(rows)
        self.check_model_identity()
        return self.decide(self.scores(rows))

    def scores(self, rows: Rows, answers: Sequence[RowScores] | None = None, scoring: str | None = None) -> ClassScores:
        """Log-score of every class, and the bounds on it, (n, K) each; the model is asked.

        Parameters
        ----------
        rows : Rows
        answers : sequence of n RowScores, optional
            What the model has answered already.
        scoring : str, optional
            Another way to score than the pipeline's own, which `probabilities` and `decide` expect.
        """
        wanted = self.scoring if scoring is None else scoring
        if not self.has_heads or wanted != self.scoring:
            return self.scorer.bounded_scores(rows, wanted, answers)
        answers = self.scorer.answers(rows) if answers is None else answers
        scores = self.scorer.bounded_scores(rows, wanted, answers)
        return scores.with_heads(*self.head_logits(rows, answers, is_strict=self.on_error == "raise"))

    @property
    def read_fields(self) -> tuple[str, ...]:
        """The fields that an answer may depend on: those that the model sees, and all where a transformer reads tables."""
        shown = self.scorer.shown_fields
        if self.features is None or not self.is_table or not self.features.needs_table:
            return shown
        return (*shown, *(name for name in self.field_names if name not in shown))

    @property
    def has_heads(self) -> bool:
        """Whether probabilities need the features of rows besides their scores."""
        calibrator = self.corrections.calibrator
        return isinstance(calibrator, StackedCalibrator) and bool(calibrator.heads)

    def head_logits(
        self, rows: Rows, answers: Sequence[RowScores], *, is_strict: bool = False
    ) -> tuple[dict[str, Floats], dict[int, str]]:
        """What each head of the pool makes of the features of rows, and why there is nothing to make of some rows.

        Parameters
        ----------
        rows : Rows
        answers : sequence of n RowScores
        is_strict : bool
            A row whose features cannot be read is an error.

        Returns
        -------
        logits : dict of name to ndarray (n, K)
            NaN in rows that could not be scored, or whose features could not be read.
        unread : dict of int to str
            The latter, and why.

        Raises
        ------
        InputError
            The features of rows cannot be read, and `is_strict`.
        ModelError
            A model that makes features gave up, or its budget is spent.
        """
        scored = [place for place, answer in enumerate(answers) if answer.error is None]
        return self._head_logits(rows, scored, [answers[place] for place in scored], is_strict=is_strict)

    def _head_logits(
        self, rows: Rows, scored: list[int], answers: Sequence[RowScores], *, is_strict: bool
    ) -> tuple[dict[str, Floats], dict[int, str]]:
        """As `head_logits`, with the answers of the rows at the places `scored`, of which only states are read."""
        calibrator, readers = self.corrections.calibrator, self.features
        assert isinstance(calibrator, StackedCalibrator)
        assert readers is not None
        logits = {name: np.full((len(rows), len(self.labels.classes)), np.nan) for name in calibrator.heads}
        unread: dict[int, str] = {}
        faults: list[LlmclfError] = []

        def read(numbers: list[int]) -> dict[str, Floats]:
            places = [scored[number] for number in numbers]
            try:
                own = [answers[number] for number in numbers] if answers else []
                features = readers.read(rows.take(places), self.scorer.used_fields, own)
                return calibrator.head_logits(features, len(places))
            except LlmclfError as error:
                faults.append(error)
                raise

        with readers.asking_once():
            for numbers, found in read_parts(read, len(scored)):
                places = [scored[number] for number in numbers]
                if isinstance(found, LlmclfError):
                    unread[places[0]] = reason(found)
                    continue
                for name, own in found.items():
                    logits[name][places] = own
        is_finite = np.all([np.isfinite(own).all(axis=1) for own in logits.values()], axis=0)
        for place in set(np.flatnonzero(~is_finite).tolist()) & set(scored) - set(unread):
            unread[place] = "its features are too large for the heads of the pool"
        if unread and is_strict:
            # What is wrong with all of them together says more than what is wrong with each alone.
            alike = faults and len(unread) == len(scored) > 1
            if alike and isinstance(faults[0], ModelError):
                raise faults[0]
            what = f"the features of these rows cannot be read: {faults[0]}" if alike else named_rows(unread)
            raise InputError(f"{what}; mend or drop such rows, or leave bad rows out with on_error='missing'")
        return logits, unread

    def corrections_of(self, rows: Rows) -> Corrections:
        """The corrections of the scores of these rows: a pool's heads read the rows' features when the corrections are applied.

        Hidden states come with answers, so where heads need them the model is asked about the rows once more, unless there is a
        cache; `scores` and `corrected` ask once.
        """
        return (
            self.corrections.for_rows(len(rows), partial(self._heads_where, rows))
            if self.has_heads
            else self.corrections
        )

    def _heads_where(self, rows: Rows, is_scored: NDArray[np.bool_]) -> dict[str, Floats]:
        assert self.features is not None
        places = np.flatnonzero(is_scored).tolist()
        answers = self.scorer.answers(rows.take(places)) if self.features.needs_states and places else []
        return self._head_logits(rows, places, answers, is_strict=self.on_error == "raise")[0]

    def estimate(self, rows: Rows) -> Estimate:
        """What asking about rows would take of servers, of those that features are asked of, too; nothing is sent.

        Raises
        ------
        InputError
            Nothing is asked of a server.
        """
        features = None
        if self.has_heads and self.features is not None:
            problems = self.scorer.problems(rows)
            askable = rows.take(place for place in range(len(rows)) if place not in problems)
            features = self.features.estimate(askable, self.scorer.used_fields)
        if features is None:
            return self.scorer.estimate(rows, self.scoring)
        is_free = not isinstance(self.backend, EstimatesCost)
        return features if is_free else self.scorer.estimate(rows, self.scoring) + features

    def corrected(self, scores: ClassScores) -> Floats:
        """Log-scores (n, K) after bias, calibrator and prior: log-probabilities up to a constant of the row."""
        return self.corrections.apply(scores.values, scores.heads)

    def probabilities(self, scores: ClassScores) -> Floats:
        """Probability (n, K) of every class; NaN in rows that could not be scored."""
        return softmax(self.corrected(scores))

    def undecided(self, scores: ClassScores) -> NDArray[np.bool_]:
        """Whether the bounds on the scores leave open which class is the most probable (n,)."""
        if scores.is_exact:
            return np.zeros(len(scores.values), dtype=bool)
        return self.corrections.undecided(scores.values, scores.lower, scores.upper, scores.heads)

    def decide(self, scores: ClassScores, threshold: float | None = None) -> Decisions:
        """The most probable class of every row, how sure that is, and whether it suffices.

        Parameters
        ----------
        scores : ClassScores of n rows
        threshold : float, optional
            Accept rows at least as confident; by default the pipeline's own threshold.
        """
        if threshold is None and self.threshold is not None:
            threshold = self.threshold.threshold
        return Decisions(self.labels, self.corrected(scores), self.undecided(scores), threshold)

    def uncorrected(self) -> FittedPipeline:
        """The same questions and scores, states among them, without corrections and threshold."""
        return replace(
            self,
            corrections=Corrections(),
            threshold=None,
            calibrated_on=None,
            calibration_rows=CalibrationRows(),
            threshold_fingerprints=(),
            folder=None,
            fitted_on_scores={},
            features=None if self.features is None else self.features.of_answers,
        )

    # --- what describes it ---------------------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """All that an answer depends on and that is known without opening the model, as flat JSON values with plain names."""
        backend = self.backend
        described = backend.description if isinstance(backend, Handle) else backend.identity()
        left_out = {"words"}
        if self.prompt.choices is not None or not nested_words(self.labels.all_words):
            left_out.add("nested")  # it changes nothing, or not every row: journals of earlier versions go on
        prompt = {f"prompt {name}": value for name, value in self.prompt.to_dict().items() if name not in left_out}
        return {
            "score version": SCORE_VERSION,
            **described,
            **prompt,
            "labels": [list(pair) for pair in zip(*self._labels_as_json(), strict=True)],
            "shots": self._shots_as_json(),
            "fields": list(self.scorer.shown_fields),
            **({} if self.processing is None else self.processing.to_dict()),
        }

    def to_dict(self) -> dict[str, Any]:
        """The pipeline as JSON values; cache, error handling and `check_model` belong to whoever uses it.

        Raises
        ------
        InputError
            The backend was not made by `open_backend`, or a class, a shot's value or a correction has no JSON form.
        """
        if not isinstance(self.backend, Handle):
            raise InputError(f"{self.backend!r} cannot be saved; expected a backend made by open_backend")
        classes, words = self._labels_as_json()
        seen_before, seen_by_threshold = self.calibration_rows.earlier, list(self.threshold_fingerprints)
        return {
            "format": self._format,
            "score_version": SCORE_VERSION,
            "model": self.backend.name,
            "model_options": self.backend.options,
            # Words are kept with the classes; the prompt's own table of them has done its work.
            "prompt": replace(self.prompt, words=None).to_dict(),
            "classes": classes,
            "words": words,
            # Absent in folders of earlier versions.
            **({} if self.labels.named_order is None else {"named_order": list(self.labels.named_order)}),
            "shots": self._shots_as_json(),
            "field_names": list(self.field_names),
            "processing": None if self.processing is None else self.processing.to_dict(),
            "scoring": self.scoring,
            "fitted_on_scores": dict(self.fitted_on_scores),
            "is_table": self.is_table,
            "calibrated_on": self.calibrated_on,
            "corrections": self.corrections.to_dict(),
            "calibrated_fingerprints": self.calibration_rows.fingerprints,
            "threshold": None if self.threshold is None else self.threshold.to_dict(),
            # Absent in folders of earlier versions, and where there are none.
            **({} if self.features is None else {"features": self.features.to_dict()}),
            **({} if not seen_before else {"earlier_fingerprints": seen_before}),
            **({} if not seen_by_threshold else {"threshold_fingerprints": seen_by_threshold}),
        }

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        *,
        model_options: Mapping[str, Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
        check_model: bool = True,
        embeddings: Sequence[Embeddings] | None = None,
        trust: bool = False,
    ) -> FittedPipeline:
        """The inverse of `to_dict`; `model_options` replace those that were saved, `embeddings` are those of its features.

        With `trust` what the values say about servers is followed; see `llmclf.load`.

        Raises
        ------
        SavedAddressError
            The values alone say where texts or a key would go.
        InputError
            A value is not one that `to_dict` gives, or does not fit another.
        KeyError, TypeError, ValueError, AttributeError
            As the first, where nothing more can be said.
        """
        # Absent in folders of earlier versions: threshold, named_order, processing, fitted_on_scores, features, and the
        # fingerprints of further rows.
        threshold, described = values.get("threshold"), values.get("features")
        labels = saved_labels(values["classes"], values["words"], values.get("named_order"))
        corrections = Corrections.from_dict(values["corrections"], len(labels.classes))
        features = None if described is None else FeatureReaders.from_dict(described, embeddings, trust=trust)
        _check_feature_sets(corrections, features)
        prompt = Prompt.from_dict(values["prompt"])
        check_saved_values(values, prompt, labels)
        saved, given = values["model_options"], dict(model_options or {})
        backend = open_backend(values["model"], **{**saved, **given})
        if isinstance(backend, NamedServer) and not trust:
            check_saved_address(backend, saved, given, what="the saved classifier", cure=_words)
        return cls(
            backend=backend,
            prompt=prompt,
            labels=labels,
            field_names=tuple(values["field_names"]),
            is_table=values["is_table"],
            shots=tuple((dict(row), word) for row, word in values["shots"]),
            processing=Processing.from_dict(values.get("processing")),
            scoring=values["scoring"],
            corrections=corrections,
            threshold=None if threshold is None else SelectedThreshold.from_dict(threshold),
            calibrated_on=values["calibrated_on"],
            calibration_rows=CalibrationRows(
                fingerprints=list(values["calibrated_fingerprints"]),
                earlier=list(checked_names(values.get("earlier_fingerprints", []), "earlier_fingerprints")),
            ),
            threshold_fingerprints=checked_names(values.get("threshold_fingerprints", []), "threshold_fingerprints"),
            fitted_on_scores=values.get("fitted_on_scores", {}),
            cache=cache,
            check_model=check_model,
            features=features,
        )

    @property
    def _format(self) -> int:
        if self.corrections.recalibration is not None:
            return RECALIBRATED_FORMAT
        return POOL_FORMAT if isinstance(self.corrections.calibrator, PooledCalibrator) else FORMAT

    def _labels_as_json(self) -> tuple[list[Any], list[list[str]]]:
        """The classes, and the words of each."""
        return [plain(label, "the class") for label in self.labels.classes], [
            list(words) for words in self.labels.words
        ]

    def _shots_as_json(self) -> list[list[Any]]:
        return [
            [{name: plain(value, "a shot's value") for name, value in row.items()}, word] for row, word in self.shots
        ]


def _words(options: Mapping[str, str]) -> str:
    """How a caller allows what saved values say of a server."""
    return f"load(folder, trust=True), or load(folder, model_options={dict(options)!r})"


def _check_feature_sets(corrections: Corrections, features: FeatureReaders | None) -> None:
    """Refuse a pool that learned from other features than those that are read."""
    calibrator = corrections.calibrator
    if calibrator is None:
        return  # what is asked, without what corrects the answers
    learned = calibrator.feature_sets_ if isinstance(calibrator, PooledCalibrator) else ()
    readers = {} if features is None else {reader.name: reader for reader in features.readers}
    if list(learned) != list(readers):
        raise InputError(f"the pool learned from the feature sets {list(learned)!r}, and {list(readers)!r} are read")
    members = calibrator.members_.items() if isinstance(calibrator, PooledCalibrator) else ()
    for name, head in members:
        for own, scaling in head.scalings.items() if isinstance(head, FittedHead) else ():
            if own != LABEL_SCORES and not readers[own].is_scaled_by(scaling):
                raise InputError(f"the head {name!r} scales other features than those that {own!r} reads")
