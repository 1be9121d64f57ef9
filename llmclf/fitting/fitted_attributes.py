"""What a fitted classifier shows of its pipeline, each part under the name that scikit-learn's users expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from threading import local
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..backends import Backend
from ..backends.base import CountsUsage
from ..backends.usage import Usage
from ..calibration import SelectedThreshold, StackedCalibrator
from ..errors import RenamedWarning, warn
from ..pipeline import FittedPipeline


class FittedAttributes:
    """The attributes of a fitted classifier, read from `pipeline_`; they are not there before a fit."""

    pipeline_: FittedPipeline

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes (K,), in the order of all columns."""
        return self.pipeline_.labels.array

    @property
    def label_words_(self) -> list[list[str]]:
        """The words of each class."""
        return [list(words) for words in self.pipeline_.labels.words]

    @property
    def shots_(self) -> list[tuple[Mapping[str, Any], str]]:
        """The examples in every prompt, each a row and the word that answers it."""
        return list(self.pipeline_.shots)

    @property
    def backend_(self) -> Backend:
        """What reaches the model."""
        return self.pipeline_.backend

    @property
    def bias_(self) -> Any:
        """The fitted bias, or None."""
        return self.pipeline_.corrections.bias

    @property
    def calibrator_(self) -> Any:
        """The fitted calibrator, or None."""
        return self.pipeline_.corrections.calibrator

    @property
    def recalibration_(self) -> Any:
        """What `recalibrate` has fitted, or None."""
        return self.pipeline_.corrections.recalibration

    @property
    def stack_(self) -> StackedCalibrator:
        """The pool of label scores and features; ``stack_.to_frame()`` shows what each member is worth."""
        calibrator = getattr(self, "calibrator_", None)
        if not isinstance(calibrator, StackedCalibrator):
            raise AttributeError("stack_ is there after a fit with features=")
        return calibrator

    @property
    def calibrated_on_(self) -> Mapping[str, Any] | None:
        """The identity of the model that bias, calibrator and threshold belong to; None where there is neither of them."""
        return self.pipeline_.calibrated_on

    @property
    def calibration_rows_(self) -> Integers:
        """The numbers (m,) of the rows of the fit that bias and calibrator were fitted on."""
        return self.pipeline_.calibration_rows.numbers

    @property
    def threshold_(self) -> SelectedThreshold | None:
        """From which confidence on rows may be accepted without a person; None before `fit_threshold` has chosen it."""
        return self.pipeline_.threshold

    @threshold_.setter
    def threshold_(self, threshold: SelectedThreshold | None) -> None:
        self.pipeline_ = replace(self.pipeline_, threshold=threshold, threshold_fingerprints=())

    @property
    def calibration_proba_(self) -> Floats:
        """Honest probabilities (m, K) of the rows that the calibrator was fitted on, without asking the model again.

        The calibrator is fitted anew on about four fifths of `calibration_rows_` and applied to the rest, five times, so that
        no row is judged by a map that saw its label, a copy of its text, or another row of its group (``fit(groups=)``). `prior`,
        which is about other rows, is left out. Computed when asked for.

        Examples
        --------
        >>> from llmclf import LLMClassifier
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), n_shots=4, calibrator="prior", random_state=0)
        >>> clf = clf.fit([f"text {i}" for i in range(40)], ["a", "b"] * 20)
        >>> clf.calibration_proba_.shape, len(clf.calibration_rows_)
        ((36, 2), 36)
        """
        pipeline: FittedPipeline | None = getattr(self, "pipeline_", None)
        if pipeline is None or not pipeline.corrections.has_rows:
            raise AttributeError(
                "calibration_proba_ is there after a fit with calibrator=, and does not outlive save and load"
            )
        return pipeline.corrections.out_of_fold()

    @property
    def usage_(self) -> Usage:
        """Requests, retries, tokens and cost so far, of this classifier's server and of its copies; see `Usage`."""
        backend = getattr(self, "backend_", None)
        if not isinstance(backend, CountsUsage):
            raise AttributeError("usage_ is there after a fit with a server's model")
        return backend.usage

    @property
    def undecided_(self) -> NDArray[np.bool_]:
        """Of the rows (n,) that the calling thread scored last: whether bounds leave open which class is the most probable.

        False in rows whose route is exact, and in rows that could not be scored.

        .. deprecated:: 0.1
            Use ``predict(X, return_undecided=True)`` or ``predict_proba(X, return_undecided=True)``.
        """
        undecided = _last_masks().get(self)
        if undecided is None:
            raise AttributeError("undecided_ is there once rows were scored")
        warn(
            "undecided_ will be removed in the next version; predict(X, return_undecided=True) and predict_proba(X, "
            "return_undecided=True) return it beside their result",
            RenamedWarning,
        )
        return undecided

    def _note_undecided(self, undecided: NDArray[np.bool_]) -> None:
        """Keep the mask for `undecided_`, outside of the estimator: no call changes one."""
        _last_masks()[self] = undecided

    def _forget_last_call(self) -> None:
        _last_masks().pop(self, None)


_THREAD = local()


def _last_masks() -> WeakKeyDictionary[FittedAttributes, NDArray[np.bool_]]:
    """The mask of the rows that the calling thread scored last, of each classifier."""
    try:
        masks: WeakKeyDictionary[FittedAttributes, NDArray[np.bool_]] = _THREAD.masks
    except AttributeError:
        masks = _THREAD.masks = WeakKeyDictionary()
    return masks
