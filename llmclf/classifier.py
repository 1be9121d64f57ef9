"""LLMClassifier: a scikit-learn classifier whose knowledge is a language model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .backends import Backend, RowScores, open_backend
from .backends.base import SCORE_VERSION
from .backends.http.usage import Estimate, Usage
from .backends.identity import check_same_model
from .backends.logit_processing import Processing
from .calibration import Corrections, SelectedThreshold, make_bias, make_calibrator
from .calibration.selective import check_selectable
from .errors import CalibrationWarning, InputError, LabelWordWarning, PromptError, warn
from .fitting.evaluation import choose_cross_fitted_threshold, choose_threshold, judge
from .fitting.fit_corrections import fit_corrections
from .fitting.seen_rows import CalibrationRows
from .fitting.shots import answered_shots, draw_shots
from .labels import LabelSet, label_prior, label_set, read_classes
from .logits import log_softmax, logsumexp
from .prompts.prompt import Prompt
from .report import CalibrationReport
from .saved_folder import write_folder
from .scoring.class_scores import SCORINGS
from .scoring.scorer import Scorer
from .tables.rows import Rows, read_rows

FORMAT = 3  # of saved classifiers


class LLMClassifier(ClassifierMixin, BaseEstimator):
    """Classify texts or table rows by how probable a language model finds each label's words.

    The score of a label is the sum of its tokens' log-probabilities after the prompt; scores become probabilities by a
    softmax and, with a calibrator, are corrected from a few labelled rows.

    Parameters
    ----------
    model : str or Backend, default="smollm2"
        See `llmclf.open_backend`.
    labels : list, or dict class -> word or list of words, optional
        None takes the classes seen in fit. Classes come back as the objects given here; the words of a class add their
        probabilities.
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
        anything with ``fit(scores)`` and ``transform(scores)``.
    calibrator : str or calibrator, optional
        ``"auto"``, ``"temperature"``, ``"bias_temperature"``, ``"vector"``, ``"matrix"``, ``"platt"``, ``"beta"``,
        ``"isotonic"``, ``"venn_abers"``, or one of your own; fitted on the labelled training rows that are not shots.
    prior : "uniform" or dict class -> probability, optional
        The class frequencies expected where the classifier will be used. They multiply the probabilities; with a
        calibrator, relative to the frequencies of the rows that it was fitted on, and with a bias alone they are its
        target.
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
        What a row that the model cannot score does: stop, or become NaN (and None in `predict`).
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
        The rows of the fit that were no shots and could be scored: those that bias and calibrator were fitted on.
    calibration_proba_ : ndarray (m, K)
        Probabilities of these rows, each from a calibrator that did not see it (cross-fitted); see the property.
    threshold_ : SelectedThreshold or None
        From which confidence on rows may be accepted without a person; None before `fit_threshold` has chosen it.
    backend_ : Backend
    undecided_ : ndarray of bool (n,)
        Of the rows scored last: those whose most probable class the bounds of a server leave open; see the property.
    usage_ : Usage
        What was asked of a server so far, and what it cost; see the property.
    n_features_in_, feature_names_in_ : for tables

    Notes
    -----
    `scoring`, `guidance`, `logit_bias` and `temperature` change the scores that bias and calibrator are fitted on. Whoever
    changes one of them fits again; until then a `CalibrationWarning` says so.

    Examples
    --------
    >>> from llmclf import LLMClassifier
    >>> from llmclf.backends import FakeBackend
    >>> clf = LLMClassifier(FakeBackend(), labels={"pos": ["good", "great"], "neg": "bad"})
    >>> clf.fit(["any text"]).predict_proba(["A fine film."]).round(3).tolist()
    [[0.051, 0.949]]
    """

    _check_model = True

    def __init__(
        self,
        model: str | Backend = "smollm2",
        labels: Sequence[Any] | Mapping[Any, str | Sequence[str]] | None = None,
        prompt: str | Prompt | None = None,
        n_shots: int = 0,
        scoring: str = "sum",
        bias: Any = None,
        calibrator: Any = None,
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
        self.prior = prior
        self.guidance = guidance
        self.unconditional_prompt = unconditional_prompt
        self.logit_bias = logit_bias
        self.temperature = temperature
        self.cache = cache
        self.on_error = on_error
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LLMClassifier:
        """Draw the shots and fit bias and calibrator; without any of these the model is not called.

        A threshold that was chosen before is gone: it belonged to other probabilities.

        Parameters
        ----------
        X : n texts (list, 1-D array or Series of str) or a table (DataFrame, 2-D array, list of dicts)
        y : n classes, optional
            Needed for shots, for a calibrator, and where `labels` is None.
        sample_weight : (n,), optional
            Weights of the rows in the calibrator.

        Raises
        ------
        InputError
            Before any call of the model, naming the value and the cure.
        """
        prompt = self._check_parameters()
        calibrator = make_calibrator(self.calibrator)
        make_bias(self.bias)
        backend = open_backend(self.model)
        rows = self._read(X, reset=True)
        self._is_table = rows.is_table
        seen = self._read_y(y, len(rows))
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, np.empty((len(rows), 1)))
        labels = label_set(_distinct(seen) if self.labels is None else self.labels, prompt.words)
        if self.labels is None and prompt.words is None and prompt.choices is None:
            _warn_of_digits(labels)
        codes = None if seen is None else labels.indices(seen.tolist())
        log_prior = label_prior(self.prior, labels)
        # A bias that the user named aims at the prior; where a calibrator follows, that one sees to it.
        target = None if log_prior is None or calibrator is not None else np.exp(log_prior)
        corrections = Corrections(make_bias(self.bias, target), calibrator, log_prior)

        scorer = Scorer(
            backend,
            prompt,
            labels,
            rows.field_names,
            processing=self._processing(),
            cache=self.cache,
            on_error=self.on_error,
        )
        scorer.check(rows, self.scoring)
        shots = draw_shots(self.n_shots, codes, len(labels.classes), self.random_state)
        answered = answered_shots(scorer, rows, codes, shots)
        self._scorer = scorer.with_shots(answered)
        self._last: dict[str, Any] = {}
        self.backend_ = backend
        self.classes_ = labels.array
        self.label_words_ = [list(words) for words in labels.words]
        self.shots_ = answered

        self.threshold_: SelectedThreshold | None = None
        self.calibrated_on_: dict[str, Any] | None = None
        self._calibrated = CalibrationRows()
        self.calibration_rows_ = self._calibrated.numbers
        self._calibrated = fit_corrections(
            corrections, self._scorer, self.scoring, rows, codes, shots, weights, self.random_state
        )
        self.calibration_rows_ = self._calibrated.numbers
        if corrections.bias is not None or calibrator is not None:
            self.calibrated_on_ = backend.identity()
        self._corrections = corrections
        self._fitted_on_scores = self._kind_of_scores()
        self.bias_, self.calibrator_ = corrections.bias, corrections.calibrator
        return self

    @property
    def calibration_proba_(self) -> NDArray[np.float64]:
        """Honest probabilities (m, K) of the rows that the calibrator was fitted on, without asking the model again.

        The calibrator is fitted anew on four fifths of `calibration_rows_` and applied to the rest, five times, so that no
        row is judged by a map that saw its label. `prior`, which is about other rows, is left out. Computed when asked for.

        Examples
        --------
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), n_shots=4, calibrator="prior", random_state=0)
        >>> clf = clf.fit([f"text {i}" for i in range(40)], ["a", "b"] * 20)
        >>> clf.calibration_proba_.shape, len(clf.calibration_rows_)
        ((36, 2), 36)
        """
        if getattr(self, "calibrator_", None) is None or not self._corrections.has_rows:
            raise AttributeError(
                "calibration_proba_ is there after a fit with calibrator=, and does not outlive save and load"
            )
        return self._corrections.out_of_fold()

    def fit_threshold(
        self, X: Any = None, y: Any = None, *, max_error: float, confidence: float = 0.95
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

        Returns
        -------
        LLMClassifier
            This one.

        Raises
        ------
        InputError
            There are too few rows; some are shots; or some were seen by the calibrator and cannot be cross-fitted: after save
            and load, or with a `prior`. Without `X` also: there is no calibrator, or the fit had a `sample_weight`.

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
        asked = {"max_error": max_error, "confidence": confidence}
        check_is_fitted(self)
        if X is None and y is None:
            chosen = choose_cross_fitted_threshold(self._corrections, self._calibrated, **asked)
        elif X is None or y is None:
            raise InputError("X or y is missing; give the rows and the class of each, or neither")
        else:
            rows, columns = self._labelled(X, y)
            check_selectable(len(rows), **asked)
            self._check_identity()
            chosen = choose_threshold(
                self._scorer,
                self._corrections,
                self.scoring,
                rows,
                columns,
                calibrated=self._calibrated,
                **asked,
            )
            # A threshold, too, belongs to the model and to the scores that it was chosen for.
            if self._corrections.bias is None and self._corrections.calibrator is None:
                self._fitted_on_scores = self._kind_of_scores()
            self.calibrated_on_ = self.calibrated_on_ or self.backend_.identity()
        self.threshold_ = chosen
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
        rows = self._rows(X)
        bounds = self._scorer.bounded_scores(rows, "sum")
        # Corrections are made for the scores that they were fitted on.
        corrections = self._corrections if self.scoring == "sum" else Corrections()
        self._last["undecided"] = corrections.undecided(*bounds)
        return bounds if return_bounds else bounds[0]

    def score_rows(self, X: Any) -> list[RowScores]:
        """Everything the model answered: token log-probabilities, bounds, what was cut or healed, and why a row has no score."""
        rows = self._rows(X)
        return self._scorer.answers(rows)

    def dry_run(self, X: Any) -> Estimate:
        """What scoring these rows on a server would take: requests, tokens and cost. Nothing is sent.

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
            The model is no server's.
        """
        rows = self._rows(X)
        return self._scorer.estimate(rows, self.scoring)

    @property
    def usage_(self) -> Usage:
        """Requests, retries, tokens and cost so far, of this classifier's server and of its copies; see `Usage`."""
        usage: Usage | None = getattr(getattr(self, "backend_", None), "usage", None)
        if usage is None:
            raise AttributeError("usage_ is there after a fit with a server's model")
        return usage

    @property
    def undecided_(self) -> NDArray[np.bool_]:
        """Of the rows (n,) scored last: whether the bounds on their scores leave open which class is the most probable.

        False in rows whose route is exact, and in rows that could not be scored.
        """
        if "undecided" not in getattr(self, "_last", {}):
            raise AttributeError("undecided_ is there once rows were scored")
        undecided: NDArray[np.bool_] = self._last["undecided"]
        return undecided

    def label_mass(self, X: Any) -> NDArray[np.float64]:
        """Probability (n,) that the model gave to all labels together, before they were normalised.

        A small mass means that the model wanted to say something else: prompt and label words do not fit.
        """
        rows = self._rows(X)
        mass: NDArray[np.float64] = np.exp(logsumexp(self._scorer.class_scores(rows, "sum"), axis=1))
        return mass

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-scores (n, K), or the log-odds (n,) of the second of two classes.

        Without bias, calibrator and prior these are the raw scores, so that scikit-learn's own calibrators can be fitted
        on them; with one of these they are log-probabilities up to a constant of the row.
        """
        scores = self._corrected(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Log-probability (n, K) of every class; NaN in rows that could not be scored."""
        return log_softmax(self._corrected(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability (n, K) of every class; NaN in rows that could not be scored.

        Where a server bounds a label's probability from both sides, the middle of the two bounds stands for it;
        ``score_labels(X, return_bounds=True)`` tells the bounds and `undecided_` where they leave the class open.
        """
        proba: NDArray[np.float64] = np.exp(self.predict_log_proba(X))
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class (n,), the first of them where several are; None in rows that could not be scored."""
        scores = self._corrected(X)
        missing: NDArray[np.bool_] = np.asarray(np.isnan(scores).any(axis=1))
        labels: NDArray[Any] = self.classes_[np.argmax(np.where(missing[:, None], 0.0, scores), axis=1)]
        if missing.any():
            labels = labels.astype(object)
            labels[missing] = None
        return labels

    def parts(self, X: Any) -> tuple[Rows, Scorer, Corrections]:
        """What `predict_proba` is made of, for those who show it step by step: rows as read, what scores them, what corrects.

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
        rows = self._rows(X)
        self._check_identity()
        return rows, self._scorer, self._corrections

    def report(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        texts: Any = "rows",
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> CalibrationReport:
        """What labelled rows say about this classifier's probabilities; see `llmclf.report.CalibrationReport`.

        Rows that the calibrator was fitted on are recognised by what the prompt shows of them, also after save and load, and a
        warning says so. As long as the classifier was not loaded, they are judged by cross-fitted probabilities instead.

        Parameters
        ----------
        X : n texts or table rows
        y : n classes
        groups : array-like (n,), DataFrame or dict, optional
            Slices to look at one by one; for a table, names of its columns will do.
        texts : "rows", None, or sequence of n
            What is shown beside the most confident mistakes and the least confident rows; "rows" shows what the prompt shows of
            them.
        metadata : mapping, optional
            Added to model, prompt, labels and corrections, which are filled in.
        **options
            ``title``, ``max_error``, ``confidence``, ``n_bins``, ``cost_error``, ``cost_review`` and ``random_state`` of
            `CalibrationReport`.

        Raises
        ------
        InputError
            Any argument cannot be used.

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
        rows, columns = self._labelled(X, y)
        self._check_identity()
        return judge(
            self._scorer,
            self._corrections,
            self.scoring,
            rows,
            self.classes_[columns],
            calibrated=self._calibrated,
            groups=groups,
            texts=texts,
            metadata={
                "random_state": None if self.random_state is None else str(self.random_state),
                "threshold": None if self.threshold_ is None else self.threshold_.to_dict(),
                **(metadata or {}),
            },
            **options,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted classifier as JSON into a folder; `llmclf.load` reads it."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        values = {
            "format": FORMAT,
            "score_version": SCORE_VERSION,
            **self._current_scorer().to_dict(),
            "scoring": self.scoring,
            "fitted_on_scores": self._fitted_on_scores,
            "is_table": self._is_table,
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": None if names is None else names.tolist(),
            "calibrated_on": self.calibrated_on_,
            "corrections": self._corrections.to_dict(),
            "calibrated_fingerprints": self._calibrated.fingerprints,
            "threshold": None if self.threshold_ is None else self.threshold_.to_dict(),
        }
        write_folder(folder, values)

    def _restore(self, values: Mapping[str, Any], model_options: Mapping[str, Any]) -> None:
        """Become what a saved classifier was."""
        self._last = {}
        self._scorer = Scorer.from_dict(values, cache=self.cache, model_options=model_options)
        labels = self._scorer.labels
        self.model = self._scorer.backend
        self.labels = {label: list(words) for label, words in zip(labels.classes, labels.words, strict=True)}
        self.prompt = self._scorer.prompt
        self.scoring = values["scoring"]
        processing = self._scorer.processing or Processing()
        self.guidance, self.temperature = processing.guidance, processing.temperature
        self.logit_bias = dict(processing.logit_bias) or None
        self._fitted_on_scores = values.get("fitted_on_scores", self._kind_of_scores())  # absent in earlier versions
        self.backend_ = self._scorer.backend
        self.classes_ = labels.array
        self.label_words_ = [list(words) for words in labels.words]
        self.shots_ = list(self._scorer.shots)
        self._corrections = Corrections.from_dict(values["corrections"])
        self.bias_, self.calibrator_ = self._corrections.bias, self._corrections.calibrator
        self.bias = None if self.bias_ is None else clone(self.bias_)
        self.calibrator = None if self.calibrator_ is None else clone(self.calibrator_)
        self.calibrated_on_ = values["calibrated_on"]
        self._calibrated = CalibrationRows(fingerprints=[str(own) for own in values["calibrated_fingerprints"]])
        self.calibration_rows_ = self._calibrated.numbers
        threshold = values.get("threshold")  # absent in folders of earlier versions
        self.threshold_ = None if threshold is None else SelectedThreshold.from_dict(threshold)
        self._is_table = bool(values["is_table"])
        if values["n_features_in"] is not None:
            self.n_features_in_ = int(values["n_features_in"])
        if values["feature_names_in"] is not None:
            self.feature_names_in_ = np.array(values["feature_names_in"], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.target_tags.required = self.labels is None
        # What a model knows about the numbers of a table is not what scikit-learn's checks call a good score.
        tags.classifier_tags.poor_score = True
        return tags

    def _corrected(self, X: Any) -> NDArray[np.float64]:
        """Log-scores (n, K) after bias, calibrator and prior."""
        rows, scorer, corrections = self.parts(X)
        scores, lower, upper = scorer.bounded_scores(rows, self.scoring)
        self._last["undecided"] = corrections.undecided(scores, lower, upper)
        return corrections.apply(scores)

    def _check_identity(self) -> None:
        if self.calibrated_on_ is not None:
            check_same_model(self.calibrated_on_, self.backend_.identity(), is_strict=self._check_model)

    def _labelled(self, X: Any, y: Any) -> tuple[Rows, NDArray[np.int64]]:
        """Rows to be judged, and their true columns."""
        rows = self._rows(X)
        return rows, self._scorer.labels.indices(read_classes(y, len(rows)).tolist())

    def _rows(self, X: Any) -> Rows:
        check_is_fitted(self)
        rows = self._read(X, reset=False)
        self._current_scorer().check(rows, self.scoring)
        return rows

    def _current_scorer(self) -> Scorer:
        """The scorer, with what may change after a fit as the parameters say it now."""
        self._scorer = self._scorer.with_processing(self._processing(), self._check_parameters().unconditional)
        self._scorer.on_error = self.on_error
        now, then = self._kind_of_scores(), self._fitted_on_scores
        fitted = (self._corrections.bias, self._corrections.calibrator, self.threshold_)
        changed = [name for name in now if now[name] != then.get(name, now[name])]
        if changed and any(part is not None for part in fitted):
            warn(
                "bias, calibrator and threshold belong to scores with "
                f"{', '.join(f'{name}={then[name]!r}' for name in changed)}, and these have "
                f"{', '.join(f'{name}={now[name]!r}' for name in changed)}; fit again, or the probabilities cannot be trusted",
                CalibrationWarning,
            )
        return self._scorer

    def _processing(self) -> Processing | None:
        return Processing.of(guidance=self.guidance, logit_bias=self.logit_bias, temperature=self.temperature)

    def _kind_of_scores(self) -> dict[str, Any]:
        """What bias and calibrator depend on besides model and prompt."""
        unconditional = self._check_parameters().unconditional
        processing = (self._processing() or Processing()).to_dict()
        return {"scoring": self.scoring, "unconditional_prompt": unconditional, **processing}

    def _read(self, X: Any, *, reset: bool) -> Rows:
        """Rows of named fields; shapes, feature counts and names are checked as scikit-learn does."""
        if not isinstance(X, (list, tuple)) and not nw.dependencies.is_into_dataframe(X) and hasattr(X, "__array__"):
            X = X if nw.dependencies.is_into_series(X) else np.asarray(X)
        first = X[0] if isinstance(X, (list, tuple)) and X else None
        if isinstance(first, (list, tuple, np.ndarray)) or (isinstance(X, np.ndarray) and X.ndim == 2) or issparse(X):
            rows = read_rows(validate_data(self, X, reset=reset, dtype=None))
        else:
            rows = read_rows(X)
            if rows.is_table:
                # Names and number of columns are scikit-learn's business; which values are needed, the prompt knows.
                validate_data(self, _header(rows, X), reset=reset, skip_check_array=True)
        if not reset and rows.is_table != self._is_table:
            then, now = ("a table", "texts") if self._is_table else ("texts", "a table")
            raise InputError(f"X holds {now}, but the classifier was fitted on {then}; give X in the same form")
        return rows

    def _read_y(self, y: Any, n_rows: int) -> NDArray[Any] | None:
        if y is not None:
            return read_classes(y, n_rows)
        needs = [
            f"{name}={value!r}" for name, value in (("n_shots", self.n_shots), ("calibrator", self.calibrator)) if value
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
        if isinstance(self.n_shots, bool) or not isinstance(self.n_shots, (int, np.integer)) or self.n_shots < 0:
            raise InputError(f"n_shots={self.n_shots!r}: expected a whole number of at least 0")
        prompt = Prompt() if self.prompt is None else self.prompt
        prompt = Prompt(prompt) if isinstance(prompt, str) else prompt
        if not isinstance(prompt, Prompt):
            raise PromptError(f"prompt={prompt!r} is a {type(prompt).__name__}; expected a template or a Prompt")
        if self.unconditional_prompt is None:
            return prompt
        if prompt.unconditional is not None:
            raise PromptError(
                f"unconditional_prompt={self.unconditional_prompt!r} and Prompt(unconditional={prompt.unconditional!r}) say the "
                "same thing; give one of them"
            )
        return replace(prompt, unconditional=self.unconditional_prompt)


def _header(rows: Rows, X: Any) -> Any:
    """A table without rows that has the columns of `X`; dicts have no order of their own, so theirs is sorted."""
    if isinstance(X, (list, tuple)):
        return pd.DataFrame(columns=sorted(rows.field_names))
    if all(isinstance(name, str) for name in X.columns):
        return pd.DataFrame(columns=list(rows.field_names))
    return np.empty((len(rows), len(rows.field_names)))


def _warn_of_digits(labels: LabelSet) -> None:
    if isinstance(labels.classes[0], (int, float)):
        warn(
            f"y holds the numbers {list(labels.classes[:3])!r}..., and the model is asked for these digits; give "
            "labels={number: word, ...} if they stand for something",
            LabelWordWarning,
        )


def _distinct(seen: NDArray[Any] | None) -> list[Any]:
    assert seen is not None
    return list(dict.fromkeys(seen.tolist()))
