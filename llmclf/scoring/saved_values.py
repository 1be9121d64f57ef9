"""What is read of a saved classifier about rows, shots and scores, checked before anything is made of it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from ..backends.logit_processing import Processing
from ..checks import checked_names, checked_pairs
from ..errors import InputError
from ..labels import LabelSet
from ..prompts.prompt import Prompt
from ..prompts.rendered import TEXT_FIELD
from .class_scores import SCORINGS


def check_saved_values(values: Mapping[str, Any], prompt: Prompt, labels: LabelSet) -> None:
    """Refuse values of a saved pipeline for which no class has a check of its own.

    Parameters
    ----------
    values : mapping
        As `llmclf.pipeline.FittedPipeline.to_dict` gives them, or as damage has left them.
    prompt, labels
        What was read of them already.

    Raises
    ------
    InputError
        Fields, shots, fingerprints, the kind of scores or the model that was fitted on cannot have been saved so.
    """
    fields, is_table, fingerprints = values["field_names"], values["is_table"], values["calibrated_fingerprints"]
    if not checked_names(fields, "field_names") or not isinstance(is_table, bool):
        raise InputError(f"field_names={fields!r}, is_table={is_table!r}; expected names, and true or false")
    if not is_table and list(fields) != [TEXT_FIELD]:
        raise InputError(f"field_names={fields!r}; expected {[TEXT_FIELD]!r}, as texts have")
    if not isinstance(fingerprints, list) or not all(isinstance(one, str) for one in fingerprints):
        raise InputError(f"calibrated_fingerprints={reprlib.repr(fingerprints)}; expected a list of texts")
    identity = values["calibrated_on"]
    if not isinstance(identity, Mapping | None) or (identity is None and fingerprints):
        raise InputError(f"calibrated_on={reprlib.repr(identity)}; expected the model that the calibrator belongs to")
    _check_shots(values["shots"], is_table, labels.all_words if prompt.choices is None else None)
    _check_kind_of_scores(values["scoring"], values.get("fitted_on_scores", {}))


def _check_shots(shots: Any, is_table: bool, words: list[str] | None) -> None:
    """Refuse shots that are no rows, or that are not answered by a word of a label; None: each row has its own choices."""
    for row, word in checked_pairs(shots, "shots"):
        if not isinstance(row, Mapping) or not (is_table or isinstance(row.get(TEXT_FIELD), str)):
            raise InputError(f"a shot has the row {reprlib.repr(row)}; expected a JSON object with the fields of a row")
        if not isinstance(word, str) or not (words is None or word in words):
            raise InputError(f"a shot is answered by {word!r}; expected one of {words!r}")


def _check_kind_of_scores(scoring: Any, fitted_on: Any) -> None:
    """Refuse kinds of scores that there are not, of the pipeline and of its fit, of which versions wrote more and more."""
    if not isinstance(fitted_on, Mapping):
        raise InputError(f"fitted_on_scores={reprlib.repr(fitted_on)}; expected a JSON object")
    for one in (scoring, fitted_on.get("scoring", scoring)):
        if one not in SCORINGS:
            raise InputError(f"scoring={one!r}: expected one of {', '.join(map(repr, SCORINGS))}")
    Processing.from_dict(
        {**Processing().to_dict(), **{k: fitted_on[k] for k in Processing().to_dict() if k in fitted_on}}
    )
    unconditional = fitted_on.get("unconditional_prompt")
    if not isinstance(unconditional, str | None):
        raise InputError(f"unconditional_prompt={unconditional!r}; expected a text or null")
