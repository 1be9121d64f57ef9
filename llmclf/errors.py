"""The errors and warnings of llmclf.

    LlmclfError
    ├── InputError (ValueError)               what the caller gave cannot be used
    │   ├── PromptError                       template, fields or label words do not fit together
    │   └── ModelNameError                    a model string that names no model
    ├── ModelError (RuntimeError)             the model could not be loaded, or answered nonsense
    ├── DownloadError (OSError)               a file could not be fetched, or is not the expected file
    ├── StoreError (OSError)                  a cache or a saved folder cannot be read or written
    └── MissingDependencyError (ImportError)  an optional package is needed and absent

    LlmclfWarning (UserWarning)
    ├── LabelWordWarning                      classes are numbers, and the model was asked for their digits
    ├── TruncationWarning                     texts were shortened to fit the model's context
    ├── TerminatorWarning                     an end-of-answer token was added to every label
    └── CalibrationWarning                    a calibrator was fitted on doubtful data

Every error is also the built-in that a caller expects, so that ``except ValueError`` and scikit-learn's checks see it.
"""


class LlmclfError(Exception):
    """Base of every error that llmclf raises on purpose."""


class InputError(LlmclfError, ValueError):
    """What the caller gave cannot be used; the message names the value, what was expected and the cure."""


class PromptError(InputError):
    """Template, row fields, shots or label words do not fit together."""


class ModelNameError(InputError):
    """A model string names no model that can be opened."""


class ModelError(LlmclfError, RuntimeError):
    """The model could not be loaded, or its answer is no probability (NaN logits, for one)."""


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
