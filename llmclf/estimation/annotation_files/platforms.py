"""The JSON of Label Studio and of Argilla: tasks and records to import, and labels in what they export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ...errors import InputError
from ...tables.values import json_value
from .found import Found

QUESTION = "label"
"""What the question is called on both platforms."""
_UNFINISHED = ("draft", "discarded")
_OWN = ("id", "label", "inclusion", "stratum")


def label_studio_tasks(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Tasks in Label Studio's own JSON: what is shown and what belongs to the draw, in ``data``.

    The id is called ``row_id``, since the short export puts Label Studio's own number under ``id``.
    """
    return [
        {"data": {"row_id": line["id"], "inclusion": line["inclusion"], "stratum": line["stratum"], **_shown(line)}}
        for line in _lines(frame)
    ]


def argilla_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Records as Argilla's ``Dataset.records.from_json`` reads them: fields are shown, metadata belongs to the draw."""
    return [
        {
            "id": str(line["id"]),
            "fields": {name: "" if value is None else str(value) for name, value in _shown(line).items()},
            "metadata": {"row_id": str(line["id"]), "inclusion": line["inclusion"], "stratum": line["stratum"]},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for line in _lines(frame)
    ]


def label_studio_found(tasks: Sequence[Any]) -> Iterator[Found]:
    """The labels in an export of Label Studio, JSON or JSON-MIN.

    Raises
    ------
    InputError
        An entry is no task, or holds another kind of annotation than one choice.
    """
    for number, task in enumerate(tasks):
        where = f"task {number + 1}"
        if not isinstance(task, Mapping):
            raise InputError(f"{where} is {task!r}; expected an object, as Label Studio exports tasks")
        data = task.get("data")
        if not isinstance(data, Mapping):  # JSON-MIN: one annotation, its values beside those of the data
            label, annotator = task.get(QUESTION), task.get("annotator")
            yield Found(where, *_draw(task), _name(annotator), _one_choice(label, where))
            continue
        annotations = _list(task.get("annotations"), "annotations", where)
        valid = [one for one in annotations if isinstance(one, Mapping) and not one.get("was_cancelled")]
        for place, one in enumerate(valid):
            label = None
            for part in _list(one.get("result"), "result", where):
                if isinstance(part, Mapping) and part.get("from_name") == QUESTION:
                    label = _one_choice(part.get("value"), where)
            author = one.get("completed_by")
            author = author.get("email") or author.get("id") if isinstance(author, Mapping) else author
            its_place = where if len(valid) == 1 else f"{where}, annotation {place + 1}"
            yield Found(its_place, *_draw(data), _name(author), label)
        if not valid:
            yield Found(where, *_draw(data), None, None)


def argilla_found(records: Sequence[Any]) -> Iterator[Found]:
    """The labels in what Argilla's ``Dataset.records.to_json`` writes; drafts and discarded responses are none.

    Raises
    ------
    InputError
        An entry is no record, or a response is no single label.
    """
    for number, record in enumerate(records):
        where = f"record {number + 1}"
        if not isinstance(record, Mapping) or not isinstance(record.get("metadata") or {}, Mapping):
            raise InputError(f"{where} is {str(record)[:80]!r}; expected an object, as Argilla exports records")
        metadata = record.get("metadata") or {}
        drawn = metadata.get("row_id", record.get("id")), metadata.get("inclusion"), metadata.get("stratum")
        answers = record.get("responses") or {}
        if not isinstance(answers, Mapping):
            raise InputError(
                f"{where} has the responses {str(answers)[:80]!r}; expected an object, as Argilla exports them"
            )
        of_label = _list(answers.get(QUESTION), "responses", where)
        responses = [one for one in of_label if not _is_unfinished(one)]
        for place, response in enumerate(responses):
            value = response.get("value") if isinstance(response, Mapping) else response
            author = response.get("user_id") if isinstance(response, Mapping) else None
            its_place = where if len(responses) == 1 else f"{where}, response {place + 1}"
            yield Found(its_place, *drawn, _name(author), _one_choice(value, where))
        if not responses:
            yield Found(where, *drawn, None, None)


def _draw(data: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return data.get("row_id"), data.get("inclusion"), data.get("stratum")


def _lines(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for line in frame.to_dict("records"):
        yield {str(name): json_value(value) for name, value in line.items()}


def _shown(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _OWN}


def _is_unfinished(response: Any) -> bool:
    """Whether an annotator of Argilla has not sent an answer, or has passed the record over."""
    return isinstance(response, Mapping) and response.get("status") in _UNFINISHED


def _list(value: Any, name: str, where: str) -> list[Any]:
    """What stands under a name: a list, or nothing."""
    if value is not None and not isinstance(value, list):
        raise InputError(f"{where} has the {name} {str(value)[:80]!r}; expected a list")
    return value or []


def _name(value: Any) -> str | None:
    return None if value is None else str(value)


def _one_choice(value: Any, where: str) -> Any:
    """The label in an answer: itself, in a list of one, or as the choices of an object."""
    if isinstance(value, Mapping):
        value = value.get("choices")
    if isinstance(value, (list, tuple)):
        if len(value) > 1:
            raise InputError(
                f"{where} has {len(value)} labels at once, {list(value)!r}; expected one label per annotator"
            )
        value = value[0] if value else None
    return value
