"""Label scores, and hidden states, as a transformer for pipelines, unions and other learners of scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .arrays import Floats
from .backends import Backend, RowScores
from .classifier import LLMClassifier
from .errors import InputError
from .features.readers import States
from .features.sets import FeatureReaders
from .pipeline import FittedPipeline
from .prompts.prompt import Prompt
from .tables.estimator_input import read_input


class LLMScores(TransformerMixin, BaseEstimator):
    """Texts in, the log-scores of label words out, and the model's hidden states if wished.

    For whoever builds a learner of their own on top, such as boosting or a ``FeatureUnion``. `LLMClassifier` with
    ``features="auto"`` does that with care for few labels.

    Parameters
    ----------
    model, labels, prompt, scoring, cache, on_error
        As in `LLMClassifier`. With ``on_error="missing"`` a row that cannot be scored is NaN throughout.
    states : bool, default=False
        Also give the hidden states that `LLMClassifier` uses as ``features="states"``, of the same forward pass. Local models
        only.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The classes, in the order of the first K columns.
    n_states_ : int
        How many states a row has; 0 without `states`.
    n_features_in_, feature_names_in_ : for tables

    Examples
    --------
    >>> from llmclf.backends import FakeBackend
    >>> scores = LLMScores(FakeBackend(), labels=["good", "bad"])
    >>> scores.fit_transform(["A fine film.", "A bore."]).shape, scores.get_feature_names_out().tolist()
    ((2, 2), ['score_bad', 'score_good'])
    """

    def __init__(
        self,
        model: str | Backend = "smollm2",
        labels: Sequence[Any] | Mapping[Any, str | Sequence[str]] | None = None,
        prompt: str | Prompt | None = None,
        scoring: str = "sum",
        states: bool = False,
        cache: str | os.PathLike[str] | None = None,
        on_error: str = "raise",
    ) -> None:
        self.model = model
        self.labels = labels
        self.prompt = prompt
        self.scoring = scoring
        self.states = states
        self.cache = cache
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check prompt, labels and rows; nothing is learned of `y` but the classes.

        The model is asked about the first row where `states` are wished, for their number, and else about none.

        Parameters
        ----------
        X : n texts or table rows
        y : n classes, optional
            Needed where `labels` is None, and else ignored.

        Raises
        ------
        InputError
            Something cannot be used, or the model shows no states.
        """
        options: dict[str, Any] = {
            name: getattr(self, name) for name in ("model", "labels", "prompt", "scoring", "cache", "on_error")
        }
        if self.labels is None and y is None:
            raise InputError("LLMScores(labels=None) takes the classes from y, and y is missing; give labels=, or y")
        # The labels are what is asked for, whatever y is about.
        zero_shot = LLMClassifier(**options).fit(X, y if self.labels is None else None)
        pipeline = zero_shot.pipeline_
        if self.states:
            pipeline = replace(pipeline, features=FeatureReaders((States(),)))
        rows = read_input(self, X, reset=True)
        pipeline.check(rows)
        self.pipeline_: FittedPipeline = pipeline
        self.classes_ = zero_shot.classes_
        bad = pipeline.scorer.problems(rows) if self.states else {}
        first = next((number for number in range(len(rows)) if number not in bad), None)
        self.n_states_ = 0
        if self.states and first is not None:
            self.n_states_ = self._states(pipeline.scorer.answers(rows.take([first]))).shape[1]
        return self

    def transform(self, X: Any) -> Floats:
        """Log-scores in nats (n, K), and beside them the states (n, K + d) if `states` is true."""
        check_is_fitted(self)
        rows = read_input(self, X, reset=False)
        pipeline = self.pipeline_
        pipeline.check(rows)
        answers = pipeline.scorer.answers(rows)
        scores = pipeline.scorer.class_scores(rows, pipeline.scoring, answers)
        return np.hstack([scores, self._states(answers)]) if self.states else scores

    def _states(self, answers: Sequence[RowScores]) -> Floats:
        """The hidden states (n, d) of answers; NaN in rows that could not be scored."""
        known = [answer.states for answer in answers]
        length = next((len(one) for one in known if one is not None), getattr(self, "n_states_", 0))
        states = [np.full(length, np.nan) if one is None else one for one in known]
        return np.array(states, dtype=np.float64).reshape(len(answers), length)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """``score_`` and the class, for each class; then ``state_`` and a number for each state."""
        check_is_fitted(self)
        names = [f"score_{name}" for name in self.classes_]
        names += [f"state_{number}" for number in range(self.n_states_)]
        return np.array(names, dtype=object)
