"""The errors and warnings of llmclf.

    LlmclfError
    ├── InputError (ValueError)               an argument or an input cannot be used
    │   ├── PromptError                       template, fields or label words do not fit together
    │   │   └── RowError                      one row cannot be scored, but others can
    │   ├── ModelNameError                    a model string does not name a model
    │   ├── SavedAddressError                 texts or a key would go to a server that only a file names
    │   └── UnknownOptionError (TypeError)    an option that the model's backend does not have
    ├── ModelError (RuntimeError)             the model could not be loaded, or its answer is invalid
    │   ├── ServerError                       a server is unreachable, refuses, or its answer is invalid
    │   │   └── ModelChangedError             another model answers than before
    │   ├── EmbeddingError                    a text has no embedding that can be used, but others may
    │   ├── CapabilityError                   a server lacks what a request needs
    │   ├── BudgetError                       the next request could cost more than is left of max_cost
    │   └── JobError                          a labelling job stopped; its journal holds the answers so far
    ├── DownloadError (OSError)               a file could not be fetched, or is not the expected file
    ├── StoreError (OSError)                  a cache or a saved folder cannot be read or written
    │   └── CertificateError                  a certificate is broken, or about another classifier
    ├── NotCertifiedError (ValueError)        labelled rows do not show what was to be promised
    └── MissingDependencyError (ImportError)  an optional package is needed but not installed

    LlmclfWarning (UserWarning)
    ├── PromptWarning                         a prompt probably says something else than was meant
    ├── LabelWordWarning                      the words of a label are hardly what the model should answer
    ├── TruncationWarning                     texts were shortened to fit the model's context
    ├── TerminatorWarning                     a label's word begins with another label's
    ├── MemoryWarning                         a model is larger than half of the free memory, so it is read as needed
    ├── CalibrationWarning                    a calibrator was fitted on doubtful data
    ├── CertificateWarning                    a certificate is expired, broken, or void from now on
    ├── EstimatedScoresWarning                scores are estimates from what a model writes
    ├── EstimationWarning                     an estimate of all rows rests on few labels, or on doubtful ones
    ├── ColumnNameWarning                     an added column has another name, since its own is taken
    ├── ColumnTypeWarning                     a column is written as text, since the database lacks its type
    ├── FormulaWarning                        a file holds cells that a spreadsheet would run
    └── RenamedWarning (FutureWarning)        a name of an earlier version, which the next one will not know

Every error is also the built-in error that a caller expects, so ``except ValueError`` and scikit-learn's checks catch it. What a
message quotes of servers, files and tables is written as `llmclf.terminal.visible.visible` shows it, and the addresses in it
as `llmclf.terminal.passwords.without_passwords` does.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from .terminal.passwords import without_passwords
from .terminal.visible import visible


class LlmclfError(Exception):
    """Base of every error that llmclf raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_passwords(part) if isinstance(part, str) else part for part in args))

    def __str__(self) -> str:
        return visible(super().__str__())


class InputError(LlmclfError, ValueError):
    """An argument or an input cannot be used; the message names the value, what was expected and the cure."""


class PromptError(InputError):
    """Template, row fields, shots or label words do not fit together."""


class RowError(PromptError):
    """Rows cannot be scored, because they are too long or cannot be sent safely; other rows of the task can.

    Attributes
    ----------
    problems : dict of int -> str
        The place of each such row among the requests, and its reason; empty where they are not known.
    """

    def __init__(self, message: str, problems: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})


class ModelNameError(InputError):
    """A model string does not name a model that can be opened."""


class SavedAddressError(InputError):
    """Texts or a key would go to a server that only a file names, and files come from anybody. The message says how to allow it.

    Attributes
    ----------
    problem : str
        What would be sent where.
    words : dict of str -> str
        The options that would allow it if the caller gave them.
    options_of : {"model", "embeddings"}
        Whose options these are: a classifier may ask a server for its embeddings, too.
    """

    def __init__(
        self, problem: str, cure: str, words: Mapping[str, str] | None = None, options_of: str = "model"
    ) -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.words = dict(words or {})
        self.options_of = options_of

    def __str__(self) -> str:
        return f"{self.args[0]}; if that is right, say so: {self.args[1]}"


class UnknownOptionError(InputError, TypeError):
    """The backend of a model does not have an option; the message names those that it has."""


class ModelError(LlmclfError, RuntimeError):
    """The model could not be loaded, or its answer is invalid (for example, NaN logits)."""


class ServerError(ModelError):
    """A server is unreachable, refuses, or its answer is invalid.

    Attributes
    ----------
    status : int or None
        The HTTP status; None if no complete reply came.
    is_final : bool
        Whether every other request would fail in the same way (a wrong key, an unknown model), so that the work stops. If
        False, only this request failed.
    """

    def __init__(self, message: str, *, status: int | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_final = is_final


class ModelChangedError(ServerError):
    """A server lets another model answer than before, or another version of it; the message names both. The work stops."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_final=True)


class EmbeddingError(ModelError):
    """The model makes no vector of a text that can be used (NaN, for example); it may make one of others."""


class CapabilityError(ModelError):
    """A server lacks what a request needs; the message names what is missing and what would work."""


class BudgetError(ModelError):
    """The next request could cost more than what is left of ``max_cost``, so it was not sent.

    Attributes
    ----------
    limit, needed : float or None
        The ``max_cost`` of who would have sent it, and what it could cost, where they are known.
    """

    def __init__(self, message: str, *, limit: float | None = None, needed: float | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.needed = needed


class JobError(ModelError):
    """A labelling job stopped before its end; its journal holds the answers so far, and the job can resume from there."""


class DownloadError(LlmclfError, OSError):
    """A file could not be fetched, or the fetched file is not the expected one."""


class StoreError(LlmclfError, OSError):
    """A score cache or a saved classifier cannot be read or written."""


class CertificateError(StoreError):
    """A certificate cannot be relied on.

    Attributes
    ----------
    kind : {"broken", "classifier", "signature"}
        It is not whole; it is about another classifier than the one beside it; or it is not signed as expected.
    """

    def __init__(self, message: str, kind: str = "broken") -> None:
        super().__init__(message)
        self.kind = kind


class NotCertifiedError(LlmclfError, ValueError):
    """Labelled rows do not show what was to be promised; the message says what they show, and how many might be enough.

    Attributes
    ----------
    reached : dict
        What they show, as JSON values.
    """

    def __init__(self, message: str, reached: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.reached = dict(reached)


class MissingDependencyError(LlmclfError, ImportError):
    """An optional package is needed but not installed."""


class LlmclfWarning(UserWarning):
    """Base of every warning that llmclf gives."""


class PromptWarning(LlmclfWarning):
    """A prompt probably says something else than was meant: it shows the answer, or its spaces do not fit the words."""


class LabelWordWarning(LlmclfWarning):
    """A word of a label is hardly what a model should answer: it looks like a description of the class."""


class TruncationWarning(LlmclfWarning):
    """Some texts were shortened to fit the model's context."""


class TerminatorWarning(LlmclfWarning):
    """A label's word begins with another's, which therefore counts only where the answer does not go on to the longer one."""


class MemoryWarning(LlmclfWarning):
    """A model's decoded weights are more than half of the free memory, so they stay in its file, which is slower."""


class CalibrationWarning(LlmclfWarning):
    """A calibrator was fitted on too few rows, on no signal, or on anti-informative scores."""


class CertificateWarning(LlmclfWarning):
    """A certificate on which somebody relies is expired or broken, or no longer about the classifier; the message says which."""


class EstimatedScoresWarning(LlmclfWarning):
    """Scores are estimates from what a model writes, not its log-probabilities; the message says what a row costs."""


class EstimationWarning(LlmclfWarning):
    """An estimate for all rows rests on few labels or on doubtful ones; the message says what still holds."""


class ColumnNameWarning(LlmclfWarning):
    """A column that was to be added has another name, since the table has a column of its own name."""


class ColumnTypeWarning(LlmclfWarning):
    """A column of an SQL table is written as text, since the database does not have the type that it had where it was read."""


class FormulaWarning(LlmclfWarning):
    """A CSV file was written with cells that a spreadsheet would run as formulas."""


class RenamedWarning(LlmclfWarning, FutureWarning):
    """A name of an earlier version was used; the message gives the new one. The next version will not accept the old name."""


_LIBRARIES = ("llmclf", "sklearn", "joblib")


def warn(message: str, category: type[LlmclfWarning]) -> None:
    """Warn at the line of the caller's own code, however deep inside llmclf and scikit-learn the warning arises."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(visible(without_passwords(message)), category, stacklevel=level if frame is not None else level - 1)


def type_of(value: object) -> str:
    """The type of a value with its article, as messages name it.

    Examples
    --------
    >>> type_of(1), type_of("a")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def listed(items: Iterable[str], most: int = 10) -> str:
    """Items as a sentence lists them; of many, the first ones and how many there are.

    Examples
    --------
    >>> listed(["0"]), listed(["0", "1", "2"]), listed(["0", "1", "2"], most=2)
    ('0', '0, 1 and 2', '0, 1, ... (3)')
    """
    shown = list(items)
    if len(shown) > most:
        return f"{', '.join(shown[:most])}, ... ({len(shown)})"
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)
