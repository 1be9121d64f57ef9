"""LLMClassifier: a scikit-learn classifier whose knowledge is a language model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .arrays import Floats, Integers
from .backends import Backend, RowScores, open_backend
from .backends.base import takes_descriptions
from .backends.logit_processing import Processing
from .backends.usage import Estimate
from .calibration import Corrections, make_bias, make_calibrator, pool_of
from .calibration.selective import check_selectable
from .certificates.estimator import Certifiable
from .checks import is_whole_number
from .errors import InputError, PromptError, TerminatorWarning, type_of, warn
from .features.sets import feature_readers
from .fitting.answer_columns import hidden_from_features, warn_of_shown_answers, without_answers
from .fitting.doubtful_prompts import warn_of_doubtful_prompt
from .fitting.fit_corrections import FitTask, fit_corrections
from .fitting.fitted_attributes import FittedAttributes
from .fitting.row_groups import read_groups
from .fitting.seen_rows import row_fingerprints
from .fitting.shots import answered_shots, draw_shots
from .fitting.thresholds import choose_cross_fitted_threshold, choose_threshold
from .labels import (
    LabelSet,
    label_prior,
    label_set,
    labels_of_classes,
    read_classes,
    read_known_classes,
    warn_of_descriptions,
)
from .logits import log_softmax, logsumexp
from .metrics.checks import either_weights, inclusion_weights
from .pipeline import FittedPipeline
from .prompts.prompt import Prompt, nested_words
from .scoring.class_scores import SCORINGS
from .scoring.decisions import Decisions
from .scoring.scorer import Scorer
from .tables.estimator_input import read_input
from .tables.rows import Rows

if TYPE_CHECKING:
    from .estimation import ShareEstimates
    from .race import Race
    from .report import CalibrationReport


class LLMClassifier(FittedAttributes, Certifiable, ClassifierMixin, BaseEstimator):
    """Classify texts or table rows by how probable a language model finds each label's words.

    The score of a label is the sum of its tokens' log-probabilities after the prompt; scores become probabilities by a
    softmax and, with a calibrator, are corrected from a few labelled rows.

    Parameters
    ----------
    model : str or Backend, default="smollm2"
        See `llmclf.open_backend`.
    labels : list, or dict class -> word or list of words, optional
        None takes the classes seen in fit, unless they are numbers or truth values, for which the model should not be asked
        by accident. Classes come back as the objects given here; the words of a class add their probabilities.
    prompt : str or Prompt, optional
        A template such as ``"Review: {{ text }}\\nSentiment:"``; None gives a plain one that lists the labels.
    n_shots : int, default=0
        Labelled examples put into every prompt, drawn from the training rows, balanced over the classes. They are not used
        to calibrate.
    scoring : {"sum", "mean", "bytes", "pmi"}, default="sum"
        How a label's token log-probabilities become its score; see `llmclf.scoring.class_scores`.
    bias : str or transformer of log-scores, optional
        What takes away the model's preference for some labels without seeing labels: ``"contextual"`` asks about inputs
        without content, ``"domain"`` about random words of the training texts, ``"generative"`` about texts that the (local)
        model writes itself; ``"batch"`` and ``"ucpa"`` (and
        ``"batch_logmean"``, ``"batch_meanlog"``, ``"em"``) look at the scores of the training rows. Or a `BiasCorrector`, or
        anything with ``fit(scores)`` and ``transform(scores)``. With y, all but ``"em"`` aim at the frequencies of y; without,
        at equal ones.
    calibrator : str or calibrator, optional
        ``"auto"``, ``"temperature"``, ``"bias_temperature"``, ``"vector"``, ``"matrix"``, ``"platt"``, ``"beta"``,
        ``"isotonic"``, ``"venn_abers"``, or one of your own; fitted on the labelled training rows that are not shots.
    features : str, transformer, or list of these, optional
        What the labels are learned from besides the scores of the label words, from the labelled rows that are no shots:
        ``"states"``, the hidden states of a local model, which cost nothing beside the scores; ``"tfidf"``, the words of the
        texts; an `Embeddings`; any scikit-learn transformer that takes the texts (or the table); or a list of these. ``"auto"``
        takes all that costs nothing: the words always, the states where the model shows them. All are pooled (`stack_`, see
        `llmclf.calibration.StackedCalibrator`); `calibrator` then says how the label scores are calibrated as a member.
    prior : "uniform" or dict class -> probability, optional
        The class frequencies expected where the classifier will be used. They multiply the probabilities; with a
        calibrator, relative to the frequencies that its probabilities assume, and with a bias alone relative to those of y.
        Without y they are the target of the bias.
    guidance : float, default=1.0
        Classifier-free guidance: at every label token the logits become ``u + guidance * (c - u)``, with c after the prompt and u
        after the prompt without the row (Sanchez et al. 2023). 1 is the prompt alone, more weighs what the row adds. For
        labels of one token the log-odds of two labels grow by their ``scoring="pmi"`` log-odds with each unit. Local models only.
    unconditional_prompt : str, optional
        The prompt without the row, for guidance and ``scoring="pmi"``; as ``Prompt(unconditional=...)``, whose default it has.
    logit_bias : dict word -> offset, optional
        Added to the logit of a token at every place, before the softmax. A label's word means its token after the prompt; any
        other text, space included, and any token id means that token. What is more than one token is refused. Local models
        only.
    temperature : float, default=1.0
        Divides the logits at every label token, after guidance and logit bias, before log-probabilities are summed: not the same
        as a ``"temperature"`` calibrator, which divides the sums, unless each label is one token and the model wants to say
        nothing else. Local models only.
    cache : path, optional
        A score cache (SQLite): a text is asked once per model and prompt, whatever happens after it.
    on_error : {"raise", "missing"}, default="raise"
        What a row does that cannot be asked about (a missing or blank text, half of a surrogate pair, a value for which the
        template fails), that the model cannot score (too long, refused by the server), or whose features cannot be read (NaN of
        a transformer, a text without an embedding): stop the call with an error that names the bad rows, or become NaN (and None
        in `predict`) while the others are answered. ``score_rows(X)[i].error`` says why. `fit` and `fit_threshold` leave such
        rows out and warn; a report counts them.
    random_state : int, RandomState or None
        Draws the shots, and the texts of ``bias="domain"`` and ``"generative"``.

    Attributes
    ----------
    classes_ : ndarray (K,)
        Sorted if the classes can be sorted, else in the order of `labels`.
    label_words_ : list of K lists of str
    shots_ : list of (row, word)
    calibrator_, bias_ : fitted copies, or None
    calibration_rows_ : ndarray of int (m,)
        The rows of the fit that were not shots and could be scored: those that bias and calibrator were fitted on.
    calibration_proba_ : ndarray (m, K)
        Probabilities of these rows, each from a calibrator that did not see it (cross-fitted); see the property.
    threshold_ : SelectedThreshold or None
        From which confidence on rows may be accepted without a person; None before `fit_threshold` has chosen it.
    pipeline_ : FittedPipeline
        All that was fitted, as one object that never changes, whatever is done to the estimator's parameters later.
    backend_ : Backend
    undecided_ : ndarray of bool (n,)
        Deprecated: `predict` and `predict_proba` return it with ``return_undecided=True``; see the property.
    usage_ : Usage
        What was asked of a server so far, and what it cost; see the property.
    n_features_in_, feature_names_in_ : for tables

    Notes
    -----
    `scoring`, `guidance`, `unconditional_prompt`, `logit_bias`, `temperature`, `cache` and `on_error` act at once when
    `set_params` changes them. The first five change the scores that bias and calibrator are fitted on. Whoever changes one of
    these fits again; until then a `CalibrationWarning` says so.

    All methods but `fit`, `fit_threshold` and `set_params` leave the classifier as it is, so threads may share it.

    Examples
    --------
    >>> from llmclf import LLMClassifier
    >>> from llmclf.backends import FakeBackend
    >>> clf = LLMClassifier(FakeBackend(), labels={"pos": ["good", "great"], "neg": "bad"})
    >>> clf.fit(["any text"]).predict_proba(["A fine film."]).round(3).tolist()
    [[0.051, 0.949]]
    """

    __metadata_request__predict = {"return_undecided": UNUSED}  # noqa: RUF012 - scikit-learn reads it so
    __metadata_request__predict_proba = {"return_undecided": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        model: str | Backend = "smollm2",
        labels: Sequence[Any] | Mapping[Any, str | Sequence[str]] | None = None,
        prompt: str | Prompt | None = None,
        n_shots: int = 0,
        scoring: str = "sum",
        bias: Any = None,
        calibrator: Any = None,
        features: Any = None,
        prior: str | Mapping[Any, float] | None = None,
        guidance: float = 1.0,
        unconditional_prompt: str | None = None,
        logit_bias: Mapping[str | int, float] | None = None,
        temperature: float = 1.0,
        cache: str | os.PathLike[str] | None = None,
        on_error: str = "raise",
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.labels = labels
        self.prompt = prompt
        self.n_shots = n_shots
        self.scoring = scoring
        self.bias = bias
        self.calibrator = calibrator
        self.features = features
        self.prior = prior
        self.guidance = guidance
        self.unconditional_prompt = unconditional_prompt
        self.logit_bias = logit_bias
        self.temperature = temperature
        self.cache = cache
        self.on_error = on_error
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None, inclusion: Any = None
    ) -> LLMClassifier:
        """Draw the shots and fit bias and calibrator; without any of these the model is not called.

        A threshold that was chosen before is gone: it belonged to other probabilities.

        Parameters
        ----------
        X : n texts (list, 1-D array or Series of str) or a table (DataFrame, 2-D array, list of dicts)
        y : n classes, optional
            Needed for shots, for a calibrator, and where `labels` is None. Numbers are read as places of labels that are words
            only if they are exactly 0 to K - 1 and the labels were named in sorted order; see
            `llmclf.numerics.class_matching.match_classes`.
        sample_weight : (n,), optional
            Weights of the rows in the bias and the calibrator; see `llmclf.metrics.row_weights`.
        groups : (n,), or the name of a table's column, optional
            What each row belongs to, such as its author or its thread. Cross-fitting (`calibration_proba_`, ``"auto"``,
            `fit_threshold` without `X`) never judges a row by others of its group, and rows of a shot's group are not
            calibrated on. Copies of a text (whatever their case and spaces) always belong together.
        inclusion : (n,), optional
            With what probability each row was drawn, where not all had the same, as `llmclf.estimation.next_rows` says it: bias
            and calibrator are then those of the table that was drawn from. It takes the place of `sample_weight`. Shots are
            drawn from the rows as they are.

        Raises
        ------
        InputError
            Before any call of the model, naming the value and the cure.
        """
        weights = sample_weight if inclusion is None else either_weights(sample_weight, inclusion, inclusion)
        self.pipeline_ = fit_corrections(*self.fit_task(X, y, weights, groups))
        self._forget_last_call()
        return self

    def fit_task(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> FitTask:
        """Everything that a fit does before it learns from rows: what a race begins with, too; see `fit`.

        Parameters
        ----------
        X, y, sample_weight, groups
            As `fit` has them.
        """
        prompt = self._check_parameters()
        calibrator = pool_of(self.calibrator) if self.features is not None else make_calibrator(self.calibrator)
        make_bias(self.bias)
        backend = open_backend(self.model)
        features = feature_readers(self.features, backend, self.cache)
        rows = read_input(self, X, reset=True)
        classes = self._read_y(y, len(rows))
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, np.empty((len(rows), 1)))
        members = read_groups(groups, rows)
        if self.labels is None:
            labels = labels_of_classes(_listed(classes), prompt.words, are_asked=prompt.choices is None)
        else:
            labels = label_set(self.labels, prompt.words)
        if prompt.choices is None and not takes_descriptions(backend):
            warn_of_descriptions(labels)
        _warn_of_nested(labels, prompt)
        codes = None if classes is None else labels.indices(classes.tolist())
        log_prior = label_prior(self.prior, labels)
        # Without labels, the rows are all that is known of the future ones, so a bias that the user named aims at the prior.
        target = None if log_prior is None or codes is not None else np.exp(log_prior)
        corrections = Corrections(make_bias(self.bias, target), calibrator, log_prior)

        shown = without_answers(rows, prompt, codes, labels, y)
        pipeline = FittedPipeline(
            backend,
            prompt,
            labels,
            shown.field_names,
            rows.is_table,
            processing=self._processing(),
            scoring=self.scoring,
            cache=self.cache,
            on_error=self.on_error,
            features=features,
        )
        pipeline.check(rows)
        pipeline = hidden_from_features(pipeline, rows, codes, y)
        bad = {} if self.on_error == "raise" else pipeline.scorer.problems(rows)
        warn_of_shown_answers(pipeline, rows, codes, y)
        good = next((record for number, record in enumerate(rows.records) if number not in bad), None)
        if good is not None:
            warn_of_doubtful_prompt(pipeline, good)
        shots = draw_shots(self.n_shots, codes, len(labels.classes), self.random_state, bad)
        pipeline = replace(pipeline, shots=answered_shots(pipeline.scorer, rows, codes, shots))
        return FitTask(pipeline, corrections, rows, codes, shots, bad, weights, self.random_state, members)

    def race(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        sizes: Sequence[int] | None = None,
        n_draws: int | None = None,
        margin: float = 0.02,
        confidence: float = 0.95,
        random_state: int = 0,
    ) -> Race:
        """What the labels buy: class frequencies, text alone, states alone, label words and the pool on the same rows.

        Each row is judged once by contestants that learned from others (five folds, which never part copies of a text or rows
        of a group), with all labels of these and with random subsets of 20, 50, 100, ... of them. The model is asked about each
        row once. This classifier, fitted or not, stays as it is; its parameters say how the model is asked, and which `features`
        the pool learns from (None: ``"auto"``). Text alone always takes part. A `prior` is left out: it is about other rows.

        Parameters
        ----------
        X : n texts or table rows
            Rows that become shots are neither learned from nor judged.
        y : n classes
        groups : (n,), or the name of a table's column, optional
            As in `fit`.
        sizes : sequence of int, optional
            Numbers of labels to learn from, at least 20; None: those of 20, 50, 100, 200, 500, ... below what is there.
        n_draws : int, optional
            Random subsets of each size; None: four of 20 labels, three of 50, two of 100, one of more.
        margin : float in (0, 1)
            The share of the log loss that you would give for not needing a language model; text alone is called as good only
            if it is worse by less than that.
        confidence : float in (0, 1)
            Of the intervals, and of all statements of the verdict together.
        random_state : int
            Draws the subsets.

        Returns
        -------
        Race

        Raises
        ------
        InputError
            Before the model is asked: there are fewer than 20 labelled rows, of one class or of one group; or an argument cannot
            be used.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> X, y = [f"text {i} {'ab'[i % 2]}" for i in range(60)], ["a", "b"] * 30
        >>> race = LLMClassifier(FakeBackend(), labels=["a", "b"]).race(X, y)
        >>> race.to_frame().index.tolist()
        ['class frequencies', 'text alone', 'label words, raw', 'label words, calibrated', 'pool']
        """
        from .race.race import hold_race, race_settings

        settings = race_settings(sizes, n_draws, margin, confidence, random_state)
        entrant = clone(self)
        if entrant.features is None:
            entrant.features = "auto"
        return hold_race(entrant.fit_task(X, y, None, groups), settings)

    @classmethod
    def from_pipeline(
        cls,
        pipeline: FittedPipeline,
        *,
        n_features_in: int | None = None,
        feature_names_in: Sequence[str] | None = None,
    ) -> LLMClassifier:
        """The fitted classifier that a pipeline makes.

        Parameters
        ----------
        pipeline : FittedPipeline
        n_features_in : int, optional
            Columns of the table that it was fitted on.
        feature_names_in : sequence of str, optional
            Their names.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
        >>> LLMClassifier.from_pipeline(clf.pipeline_).predict(["A fine film."]).tolist()
        ['good']
        """
        processing, corrections = pipeline.processing or Processing(), pipeline.corrections
        classifier = cls(
            pipeline.backend,
            labels=pipeline.labels.as_named,
            prompt=pipeline.prompt,
            scoring=pipeline.scoring,
            bias=None if corrections.bias is None else clone(corrections.bias),
            calibrator=None if corrections.calibrator is None else clone(corrections.calibrator),
            features=None if pipeline.features is None else pipeline.features.spec,
            guidance=processing.guidance,
            logit_bias=dict(processing.logit_bias) or None,
            temperature=processing.temperature,
            cache=pipeline.cache,
            on_error=pipeline.on_error,
        )
        classifier.pipeline_ = pipeline
        if n_features_in is not None:
            classifier.n_features_in_ = n_features_in
        if feature_names_in is not None:
            classifier.feature_names_in_ = np.array(feature_names_in, dtype=object)
        return classifier

    def current_pipeline(self) -> FittedPipeline:
        """What was fitted, with `scoring`, `cache`, `on_error` and what is done to the logits as the parameters say it now.

        Raises
        ------
        InputError
            A parameter cannot be used.

        Warns
        -----
        CalibrationWarning
            Bias, calibrator or threshold belong to other scores than those that the parameters give.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
        >>> clf.current_pipeline() is clf.pipeline_, clf.set_params(scoring="mean").current_pipeline().scoring
        (True, 'mean')
        """
        check_is_fitted(self)
        return self._current_pipeline()

    def _current_pipeline(self) -> FittedPipeline:
        fitted, knobs = self.pipeline_, self._knobs()
        known = _DERIVED.get(fitted)
        if known is None or known[0] != knobs:
            known = _DERIVED[fitted] = knobs, self._derived(fitted)
        pipeline = known[1] or fitted
        pipeline.warn_of_other_scores()
        return pipeline

    def _derived(self, fitted: FittedPipeline) -> FittedPipeline | None:
        """The fitted pipeline with the parameters as they are now; None where that changes nothing."""
        unconditional = self._check_parameters().unconditional
        now = {
            "scoring": self.scoring,
            "processing": self._processing(),
            "cache": self.cache,
            "on_error": self.on_error,
        }
        changed: dict[str, Any] = {name: value for name, value in now.items() if value != getattr(fitted, name)}
        if unconditional != fitted.prompt.unconditional:
            changed["prompt"] = replace(fitted.prompt, unconditional=unconditional)
        return replace(fitted, **changed) if changed else None

    def pipeline_and_rows(self, X: Any) -> tuple[FittedPipeline, Rows]:
        """What every method that scores works with: `current_pipeline`, and X as rows that it can be asked about.

        Parameters
        ----------
        X : n texts or table rows

        Raises
        ------
        InputError
            X is not of the form that the classifier was fitted on; or, with ``on_error="raise"``, rows cannot be asked about.
        """
        check_is_fitted(self)
        rows = read_input(self, X, reset=False)
        pipeline = self._current_pipeline()
        return pipeline, pipeline.check(rows)

    def fit_threshold(
        self,
        X: Any = None,
        y: Any = None,
        *,
        max_error: float,
        confidence: float = 0.95,
        groups: Any = None,
        inclusion: Any = None,
    ) -> LLMClassifier:
        """Choose from which confidence on rows may be accepted, so that few of them are wrong; `threshold_` keeps it.

        With probability `confidence` at most the share `max_error` is wrong of all future rows that reach it, that is with
        ``predict_proba(X).max(axis=1) >= clf.threshold_.threshold``, on the conditions of `llmclf.calibration.select_threshold`:
        the labelled rows are drawn like the future ones, and neither shots nor calibrator saw them. A `prior` changes nothing
        in this, so the rows given here must have the class frequencies that it expects.

        Rows that the calibrator was fitted on are recognised as in `report`, and judged by cross-fitted probabilities. With them,
        and without `X`, the guarantee is only approximate: each probability comes from a calibrator that was fitted on four
        fifths of the rows, and what will be accepted is decided by another one, fitted on all of them. (The draw of shots, too,
        left these rows with slightly other class frequencies.) Where the promise must be kept to the letter, label other rows.

        Parameters
        ----------
        X : n texts or table rows, optional
            Rows that could not be scored are left out; they are never accepted. None takes the rows that the calibrator was
            fitted on, with `calibration_proba_`, and asks the model nothing.
        y : n classes, optional
            Given with `X`.
        max_error : float in (0, 1)
            The share of wrong rows that is allowed among the accepted ones.
        confidence : float in (0, 1)
        groups : (n,), or the name of a table's column, optional
            Given with `X`: what each row belongs to, as in `fit`; the rows of a group count as one. Copies of a text always
            belong together. Without `X` the groups of the fit apply.
        inclusion : (n,), optional
            Given with `X`: with what probability each row was drawn, as in `llmclf.calibration.select_threshold`.

        Returns
        -------
        LLMClassifier
            This one.

        Raises
        ------
        InputError
            There are too few rows or groups; some are shots; or some were seen by the calibrator and cannot be cross-fitted:
            after save and load, or with a `prior`. Without `X` also: there is no calibrator, or the fit had a `sample_weight`.

        Warns
        -----
        CalibrationWarning
            The calibrator has seen some of the rows; or no threshold passes, and `threshold_` accepts no row.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> X = [f"text {i}" for i in range(300)]
        >>> clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(X)
        >>> clf.fit_threshold(X, clf.predict(X), max_error=0.05).threshold_.coverage
        1.0
        """
        promise: dict[str, Any] = {"max_error": max_error, "confidence": confidence}
        check_is_fitted(self)
        if X is None and y is None:
            if groups is not None:
                raise InputError("groups= describes the rows of X; without X the groups that fit was given apply")
            if inclusion is not None:
                raise InputError("inclusion= describes the rows of X; give them, with their classes y")
            self.threshold_ = choose_cross_fitted_threshold(self.pipeline_, **promise)
            return self
        if X is None or y is None:
            raise InputError("X or y is missing; give the rows and the class of each, or neither")
        pipeline, rows, columns = self._labelled(X, y)
        members = read_groups(groups, rows)
        check_selectable(len(rows), **promise)
        drawn = None
        if inclusion is not None:
            inclusion_weights(inclusion, len(rows))
            drawn = np.asarray(inclusion, dtype=np.float64)
        pipeline.check_model_identity()
        chosen = choose_threshold(pipeline, rows, columns, groups=members, inclusion=drawn, **promise)
        # A threshold, too, belongs to the model and to the scores that it was chosen for.
        corrections = pipeline.corrections
        is_first = corrections.bias is None and corrections.last_fitted is None
        self.pipeline_ = replace(
            pipeline,
            threshold=chosen,
            threshold_fingerprints=row_fingerprints(pipeline, rows),
            calibrated_on=pipeline.calibrated_on or pipeline.backend.identity(),
            fitted_on_scores=pipeline.kind_of_scores if is_first else pipeline.fitted_on_scores,
        )
        return self

    def score_labels(self, X: Any, return_bounds: bool = False) -> Any:
        """Summed log-probability of every label's words.

        Where the backend only knows bounds, the score is the logarithm of the middle of the two probabilities.

        Parameters
        ----------
        X : n texts or table rows
        return_bounds : bool
            Also return a lower and an upper bound on each score; equal to it where the backend's route is exact.

        Returns
        -------
        ndarray (n, K) in nats, or three of them: scores, lower, upper
        """
        pipeline, rows = self.pipeline_and_rows(X)
        answers = pipeline.scorer.answers(rows)
        scores = pipeline.scorer.bounded_scores(rows, "sum", answers)
        if not scores.is_exact:
            # Corrections are made for the scores that they were fitted on.
            is_own = pipeline.scoring == "sum"
            judge = pipeline if is_own else pipeline.uncorrected()
            self._note_undecided(judge.undecided(pipeline.scores(rows, answers) if is_own else scores))
        else:
            self._note_undecided(np.zeros(len(rows), dtype=bool))
        return tuple(scores[:3]) if return_bounds else scores.values

    def score_rows(self, X: Any) -> list[RowScores]:
        """Everything the model answered: token log-probabilities, bounds, what was cut or healed, and why a row has no score.

        Where features were learned from, they are read, too: a row whose features cannot be read has an error.
        """
        pipeline, rows = self.pipeline_and_rows(X)
        answers = pipeline.scorer.answers(rows)
        return pipeline.scores(rows, answers).reasons(answers) if pipeline.has_heads else answers

    def dry_run(self, X: Any) -> Estimate:
        """What scoring these rows on a server would take, embeddings among it: requests, tokens and cost. Nothing is sent.

        Rows that the cache holds are counted as if they had to be asked.

        Parameters
        ----------
        X : n texts or table rows

        Returns
        -------
        Estimate
            With the attributes ``route``, ``rows`` (different ones), ``requests``, ``tokens_in``, ``tokens_out``, ``cost`` and
            ``is_counted``.

        Raises
        ------
        InputError
            Nothing is asked of a server.
        """
        pipeline, rows = self.pipeline_and_rows(X)
        return pipeline.estimate(rows)

    def label_mass(self, X: Any) -> Floats:
        """Probability (n,) that the model gave to all labels together, before they were normalised.

        A small mass means that the model wanted to say something else: prompt and label words do not fit.
        """
        pipeline, rows = self.pipeline_and_rows(X)
        mass: Floats = np.exp(logsumexp(pipeline.scorer.class_scores(rows, "sum"), axis=1))
        return mass

    def decision_function(self, X: Any) -> Floats:
        """Log-scores (n, K), or the log-odds (n,) of the second of two classes.

        Without bias, calibrator and prior these are the raw scores, so that scikit-learn's own calibrators can be fitted
        on them; with one of these they are log-probabilities up to a constant of the row.
        """
        scores = self._decisions(X).log_scores
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_log_proba(self, X: Any) -> Floats:
        """Log-probability (n, K) of every class; NaN in rows that could not be scored."""
        return log_softmax(self._decisions(X).log_scores)

    @overload
    def predict_proba(self, X: Any, return_undecided: Literal[False] = False) -> Floats: ...

    @overload
    def predict_proba(self, X: Any, return_undecided: Literal[True]) -> tuple[Floats, NDArray[np.bool_]]: ...

    def predict_proba(self, X: Any, return_undecided: bool = False) -> Floats | tuple[Floats, NDArray[np.bool_]]:
        """Probability of every class; NaN in rows that could not be scored.

        Where a server bounds a label's probability from both sides, the middle of the two bounds stands for it;
        ``score_labels(X, return_bounds=True)`` gives the bounds.

        Parameters
        ----------
        X : n texts or table rows
        return_undecided : bool
            Also return in which rows the bounds leave open which class is the most probable: not in rows whose route is exact,
            and not in rows that could not be scored.

        Returns
        -------
        ndarray (n, K), or two arrays: that and an ndarray of bool (n,)

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
        >>> proba, undecided = clf.predict_proba(["A fine film."], return_undecided=True)
        >>> proba.shape, undecided.tolist()
        ((1, 2), [False])
        """
        decisions = self._decisions(X)
        return (decisions.probabilities, decisions.undecided) if return_undecided else decisions.probabilities

    @overload
    def predict(self, X: Any, return_undecided: Literal[False] = False) -> NDArray[Any]: ...

    @overload
    def predict(self, X: Any, return_undecided: Literal[True]) -> tuple[NDArray[Any], NDArray[np.bool_]]: ...

    def predict(self, X: Any, return_undecided: bool = False) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.bool_]]:
        """The most probable class, the first of them where several are; None in rows that could not be scored.

        Parameters
        ----------
        X : n texts or table rows
        return_undecided : bool
            As in `predict_proba`.

        Returns
        -------
        ndarray (n,), or two arrays: that and an ndarray of bool (n,)
        """
        decisions = self._decisions(X)
        return (decisions.label, decisions.undecided) if return_undecided else decisions.label

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose most probable class is the true one; a row that could not be scored counts as wrong.

        Parameters
        ----------
        X : n texts or table rows
        y : n classes
            Of any form that `fit` takes.
        sample_weight : (n,), optional

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["bad", "good"]).fit(["any text"])
        >>> clf.score(["A fine film.", "A dull one."], clf.predict(["A fine film.", "A dull one."]))
        1.0
        """
        pipeline, rows, columns = self._labelled(X, y)
        predicted = pipeline.predict(rows).label
        right = [one is not None and one == true for one, true in zip(predicted, self.classes_[columns], strict=True)]
        return float(np.average(right, weights=sample_weight))

    def parts(self, X: Any) -> tuple[Rows, Scorer, Corrections]:
        """What `predict_proba` is made of, for callers who show it step by step: rows as read, what scores them, what corrects.

        With `features`, the corrections are for these rows alone, all of them and in their order: they read the rows' features
        when they are applied. Where these are hidden states, the model is then asked about the rows once more, unless there is a
        cache.

        Parameters
        ----------
        X : n texts or table rows

        Raises
        ------
        InputError
            X is not of the form that the classifier was fitted on.
        ModelError
            Bias, calibrator or threshold belong to another model.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
        >>> rows, scorer, corrections = clf.parts(["A fine film."])
        >>> scores = scorer.class_scores(rows, clf.scoring)
        >>> bool((log_softmax(corrections.apply(scores)) == clf.predict_log_proba(["A fine film."])).all())
        True
        """
        pipeline, rows = self.pipeline_and_rows(X)
        pipeline.check_model_identity()
        return rows, pipeline.scorer, pipeline.corrections_of(rows)

    def report(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        clusters: Any = None,
        texts: Any = "rows",
        metadata: Mapping[str, Any] | None = None,
        shares: Any = None,
        **options: Any,
    ) -> CalibrationReport:
        """What labelled rows say about this classifier's probabilities; see `llmclf.report.CalibrationReport`.

        Rows that the calibrator was fitted on are recognised by what the prompt shows of them, also after save and load, and a
        warning says so. As long as the classifier was not loaded, they are judged by cross-fitted probabilities instead.

        Parameters
        ----------
        X : n texts or table rows
        y : n classes
            With ``shares=True``, None or NaN for rows that nobody labelled.
        groups : array-like (n,), DataFrame or dict, optional
            Slices to look at one by one; for a table, names of its columns will do. (`fit` and `fit_threshold` call clusters
            `groups`, as scikit-learn does.)
        clusters : (n,), or the name of a table's column, optional
            What each row belongs to, such as its author or its thread: intervals and the recommended threshold then count
            clusters, not rows. Copies of a text always belong together.
        texts : "rows", None, or sequence of n
            What is shown beside the most confident mistakes and the least confident rows; "rows" shows what the prompt shows of
            them.
        metadata : mapping, optional
            Added to model, prompt, labels and corrections, which are filled in.
        shares : True or llmclf.estimation.ShareEstimates, optional
            As in `CalibrationReport`. True: the shares of the classes among all rows of `X` are estimated, of which those with a
            class in `y` are a random sample.
        **options
            ``inclusion``, ``title``, ``max_error``, ``confidence``, ``n_bins``, ``cost_error``, ``cost_review``,
            ``random_state``, ``race`` and ``regressions`` of `CalibrationReport`.

        Raises
        ------
        InputError
            Any argument cannot be used; or shares are to be estimated with labels that the calibrator has seen, and no
            cross-fitted probabilities take the place of its own.

        Warns
        -----
        CalibrationWarning
            The calibrator has seen some of the rows, or some are shots.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="prior")
        >>> X, y = [f"text {i}" for i in range(80)], ["a", "b"] * 40
        >>> report = clf.fit(X[:40], y[:40]).report(X[40:], y[40:])
        >>> report.to_dict()["provenance"]["judged"]["held_out"]
        40
        """
        from .fitting.evaluation import judge

        pipeline, rows, columns = self._partly_labelled(X, y) if shares is True else self._labelled(X, y)
        truth = np.full(len(rows), None, dtype=object)
        truth[columns >= 0] = self.classes_[columns[columns >= 0]]
        pipeline.check_model_identity()
        return judge(
            pipeline,
            rows,
            truth,
            groups=groups,
            clusters=clusters,
            texts=texts,
            metadata={
                "random_state": None if self.random_state is None else str(self.random_state),
                "threshold": None if pipeline.threshold is None else pipeline.threshold.to_dict(),
                **(metadata or {}),
            },
            shares=shares,
            **options,
        )

    def estimate_shares(self, X: Any, y: Any, rows: Any, **options: Any) -> ShareEstimates:
        """The share of each class among all rows of X, from this classifier's probabilities and labels by hand of some rows.

        Rows that the calibrator was fitted on are recognised as `report` recognises them, and get cross-fitted probabilities;
        where there are none, because the classifier was loaded or has a prior, labels of such rows are refused, and so are
        labels of shots.

        Parameters
        ----------
        X : N texts or table rows
        y : n classes
            The labels by hand.
        rows : array-like of int (n,), or of bool (N,)
            Which rows of X are labelled, in the order of `y`. They must be drawn at random, or with known probabilities.
        **options
            ``inclusion``, ``strata``, ``clusters``, ``weights``, ``groups``, ``confidence_level``, ``simultaneous`` and others of
            `llmclf.estimation.estimate_shares`.

        Raises
        ------
        InputError
            Any argument cannot be used, or the fit has seen labelled rows that cannot be cross-fitted.

        Warns
        -----
        CalibrationWarning
            The calibrator has seen some of the rows, which are cross-fitted.
        EstimationWarning
            What holds only in part.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(["a text"])
        >>> estimates = clf.estimate_shares([f"text {i}" for i in range(80)], ["a", "b"] * 10, range(0, 80, 4))
        >>> estimates.to_frame()["class"].tolist()
        ['a', 'b']
        """
        from .fitting.shares import estimated_shares

        pipeline, table = self.pipeline_and_rows(X)
        pipeline.check_model_identity()
        return estimated_shares(pipeline, table, y, rows, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted classifier as JSON into a folder; `llmclf.load` reads it.

        Warns
        -----
        CertificateWarning
            The certificate of another classifier lay there, and was removed.
        """
        self._write(folder)

    def _saved_values(self, pipeline: FittedPipeline) -> dict[str, Any]:
        """All that is saved of a classifier with this pipeline."""
        names = getattr(self, "feature_names_in_", None)
        columns = {
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": None if names is None else names.tolist(),
        }
        return {**pipeline.to_dict(), **columns}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.target_tags.required = self.labels is None
        # What a model knows about the numbers of a table is not what scikit-learn's checks call a good score.
        tags.classifier_tags.poor_score = True
        return tags

    def _decisions(self, X: Any) -> Decisions:
        check_is_fitted(self)
        rows = read_input(self, X, reset=False)
        decisions = self._current_pipeline().predict(rows)
        self._note_undecided(decisions.undecided)
        return decisions

    def _knobs(self) -> list[tuple[type, Any]]:
        """The parameters that act at once, or are checked, in every call."""
        names = ("scoring", "guidance", "unconditional_prompt", "temperature", "cache", "on_error", "prompt", "n_shots")
        offsets = dict(self.logit_bias) if isinstance(self.logit_bias, Mapping) else self.logit_bias
        return [(type(value), value) for value in (offsets, *(getattr(self, name) for name in names))]

    def _labelled(self, X: Any, y: Any) -> tuple[FittedPipeline, Rows, Integers]:
        """Rows to be judged, their true columns, and the pipeline that is judged."""
        pipeline, rows = self.pipeline_and_rows(X)
        return pipeline, rows, pipeline.labels.indices_by_value(read_classes(y, len(rows)).tolist())

    def _partly_labelled(self, X: Any, y: Any) -> tuple[FittedPipeline, Rows, Integers]:
        """The same of rows of which some have no class: -1 as their column."""
        pipeline, rows = self.pipeline_and_rows(X)
        known, classes = read_known_classes(y, len(rows))
        columns = np.full(len(rows), -1, dtype=np.int64)
        columns[known] = pipeline.labels.indices_by_value(classes.tolist())
        return pipeline, rows, columns

    def _processing(self) -> Processing | None:
        return Processing.of(guidance=self.guidance, logit_bias=self.logit_bias, temperature=self.temperature)

    def _read_y(self, y: Any, n_rows: int) -> NDArray[Any] | None:
        if y is not None:
            return read_classes(y, n_rows)
        needs = [
            f"{name}={value!r}"
            for name, value in (
                ("n_shots", self.n_shots),
                ("calibrator", self.calibrator),
                ("features", self.features),
            )
            if value is not None and value != 0
        ]
        if self.labels is None:
            needs.append("labels=None")
        if needs:
            raise InputError(
                f"this LLMClassifier requires y to be passed, but the target y is None ({', '.join(needs)}); give y, the class "
                "of every row"
            )
        return None

    def _check_parameters(self) -> Prompt:
        if self.scoring not in SCORINGS:
            raise InputError(f"scoring={self.scoring!r}: expected one of {', '.join(map(repr, SCORINGS))}")
        if self.on_error not in ("raise", "missing"):
            raise InputError(f"on_error={self.on_error!r}: expected 'raise' or 'missing'")
        if not is_whole_number(self.n_shots, 0):
            raise InputError(f"n_shots={self.n_shots!r}: expected a whole number of at least 0")
        prompt = Prompt() if self.prompt is None else self.prompt
        prompt = Prompt(prompt) if isinstance(prompt, str) else prompt
        if not isinstance(prompt, Prompt):
            raise PromptError(f"prompt={prompt!r} is {type_of(prompt)}; expected a template or a Prompt")
        if self.unconditional_prompt is None:
            return prompt
        if prompt.unconditional is not None:
            raise PromptError(
                f"unconditional_prompt={self.unconditional_prompt!r} and Prompt(unconditional={prompt.unconditional!r}) say the "
                "same thing; give one of them"
            )
        return replace(prompt, unconditional=self.unconditional_prompt)


_DERIVED: WeakKeyDictionary[FittedPipeline, tuple[list[tuple[type, Any]], FittedPipeline | None]] = WeakKeyDictionary()
"""What was last derived from a fitted pipeline, and with which parameters, so that calls one after the other do not repeat it.

None stands for the fitted pipeline itself, which would else never be freed.
"""


def _warn_of_nested(labels: LabelSet, prompt: Prompt) -> None:
    """Once at fit: what it means that one label begins another."""
    nested = nested_words(labels.all_words) if prompt.choices is None and prompt.terminator == "auto" else []
    if nested:
        (short, longer), more = nested[0], f" (and {len(nested) - 1} more such pairs)" if len(nested) > 1 else ""
        warn(
            f"the label word {short!r} begins {longer!r}{more}: it counts where the answer does not go on to the longer one, so "
            "that the two exclude each other; other words are easier to tell apart, and Prompt(terminator=...) sets another end",
            TerminatorWarning,
        )


def _listed(classes: NDArray[Any] | None) -> list[Any]:
    assert classes is not None
    listed: list[Any] = classes.tolist()
    return listed
