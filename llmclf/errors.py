"""The errors and warnings of llmclf.

    LlmclfError
    ├── InputError (ValueError)               what the caller gave cannot be used
    │   ├── PromptError                       template, fields or label words do not fit together
    │   │   └── RowError                      one row cannot be asked about, and the others can
    │   ├── ModelNameError                    a model string that names no model
    │   └── UnknownOptionError (TypeError)    an option that the model's backend does not have
    ├── ModelError (RuntimeError)             the model could not be loaded, or answered nonsense
    │   ├── ServerError                       a server cannot be reached, refuses, or answers nonsense
    │   ├── CapabilityError                   a server cannot give what was asked of it
    │   ├── BudgetError                       the next request could cost more than is left of max_cost
    │   └── JobError                          a labelling job stopped; what was answered is in its journal
    ├── DownloadError (OSError)               a file could not be fetched, or is not the expected file
    ├── StoreError (OSError)                  a cache or a saved folder cannot be read or written
    └── MissingDependencyError (ImportError)  an optional package is needed and absent

    LlmclfWarning (UserWarning)
    ├── LabelWordWarning                      classes are numbers, and the model was asked for their digits
    ├── TruncationWarning                     texts were shortened to fit the model's context
    ├── TerminatorWarning                     an end-of-answer token was added to every label
    ├── CalibrationWarning                    a calibrator was fitted on doubtful data
    └── RenamedWarning (FutureWarning)        a name of an earlier version, which the next one will not know

Every error is also the built-in that a caller expects, so that ``except ValueError`` and scikit-learn's checks see it.
"""

from __future__ import annotations

import inspect
import warnings


class LlmclfError(Exception):
    """Base of every error that llmclf raises on purpose."""


class InputError(LlmclfError, ValueError):
    """What the caller gave cannot be used; the message names the value, what was expected and the cure."""


class PromptError(InputError):
    """Template, row fields, shots or label words do not fit together."""


class RowError(PromptError):
    """One row cannot be asked about: too long, or not to be sent safely; others of the same task can."""


class ModelNameError(InputError):
    """A model string names no model that can be opened."""


class UnknownOptionError(InputError, TypeError):
    """The backend of a model does not have an option; the message names those that it has."""


class ModelError(LlmclfError, RuntimeError):
    """The model could not be loaded, or its answer is no probability (NaN logits, for one)."""


class ServerError(ModelError):
    """A server cannot be reached, refuses, or answers nonsense.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where no whole reply came.
    is_final : bool
        Every other request would fail in the same way (a wrong key, an unknown model), so the work stops. Else the error is
        that of one request.
    """

    def __init__(self, message: str, *, status: int | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_final = is_final


class CapabilityError(ModelError):
    """A server cannot give what was asked of it; the message names what it lacks and what would work."""


class BudgetError(ModelError):
    """The next request could cost more than is left of ``max_cost``, so it was not sent."""


class JobError(ModelError):
    """A labelling job stopped before its end; what was answered is in its journal, and the job can go on from there."""


class DownloadError(LlmclfError, OSError):
    """A file could not be fetched, or the fetched file is not the expected one."""


class StoreError(LlmclfError, OSError):
    """A score cache or a saved classifier cannot be read or written."""


class MissingDependencyError(LlmclfError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class LlmclfWarning(UserWarning):
    """Base of every warning that llmclf gives."""


class LabelWordWarning(LlmclfWarning):
    """Classes are numbers without words, so the model is asked how probable their digits are."""


class TruncationWarning(LlmclfWarning):
    """Some texts were shortened to fit the model's context."""


class TerminatorWarning(LlmclfWarning):
    """Labels were prefixes of one another, so an end-of-answer token was added to each."""


class CalibrationWarning(LlmclfWarning):
    """A calibrator was fitted on too few rows, on no signal, or on anti-informative scores."""


class RenamedWarning(LlmclfWarning, FutureWarning):
    """Something was called by its name of an earlier version; the message has the new one. The next version will not know it."""


_NOT_THE_CALLERS = ("llmclf", "sklearn", "joblib")


def warn(message: str, category: type[LlmclfWarning]) -> None:
    """Warn at the line of the caller's own code, however deep below it, and below scikit-learn's wrappers, the doubt arose."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _NOT_THE_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level if frame is not None else level - 1)
