"""A journal as a table for people: labels' log-scores by name, and the ids of rows where their table is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...atomic_files import filled_file
from ...errors import InputError
from ...prompts.rendered import TEXT_FIELD
from ...scoring.class_scores import bounded_class_scores
from ...tables.endings import check_suffix
from ...tables.files import check_text_format
from ...tables.formats import read_chunks, write_chunks
from ...tables.text_files import USUAL_TEXT, TextFormat, other_delimiter
from ...tables.values import is_missing
from ..questions import encode_record, record_key
from .inspection import StoredAnswer, StoredJournal, opened_journal

NOT_ANSWERED = "not answered yet"


def export_journal(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> int:
    """Write what a journal holds as a table.

    A journal knows a row by a hash of what the model sees of it. With the table that is labelled, there is one line for each of
    its rows, with the row's id; else one line for each question. Probabilities are made from these scores by a job's scoring,
    bias and calibrator, which a journal does not know: `label_table` with `resume` writes them.

    Parameters
    ----------
    path : path
        The journal; it is not changed.
    output : path
        A .csv, .tsv, .jsonl or .parquet file; the first three may end with .gz, .bz2 or .zst besides.
    table : path, optional
        The file of the job's rows.
    id_column : str, optional
        The column whose values are written as ``id``; without it the row's number is.
    text_column : str, optional
        As the job has it.
    delimiter, encoding : str, optional
        Those of the table's file, if it is not CSV with commas, or not in UTF-8.

    Returns
    -------
    int
        How many lines were written: ``id`` or ``question``, ``logprob_CLASS`` in nats (the logarithm of the probability of all
        words of a class; with ``lower_CLASS`` and ``upper_CLASS`` where a server showed bounds), ``truncated``, ``model`` where
        others than the first have answered, ``error``.

    Raises
    ------
    InputError
        There is no journal, or the table does not have the columns of the job.
    StoreError
        The journal is damaged or in use, or the output cannot be written.
    """
    suffix, text = check_suffix(output), TextFormat(delimiter, encoding)
    if table is not None:
        check_text_format(text, [check_suffix(table)], str(table))
    elif text != USUAL_TEXT:
        raise InputError(
            "delimiter= and encoding= are those of the table with the job's rows; give table= (--rows FILE)"
        )
    with opened_journal(path) as stored:
        shape = _shape(stored)
        frames = (
            _by_question(stored, shape)
            if table is None
            else _by_row(stored, shape, Path(table).expanduser(), text, id_column, text_column)
        )
        n_lines = 0

        def write(target: Path) -> None:
            nonlocal n_lines
            n_lines = write_chunks(frames, target, suffix)

        with filled_file(write, output) as (temporary, file):
            os.replace(temporary, file)
    return n_lines


@dataclass(frozen=True)
class _Shape:
    """Which columns are needed."""

    is_bounded: bool
    has_models: bool


def _shape(stored: StoredJournal) -> _Shape:
    is_bounded, has_models, is_empty = False, False, True
    for answers in stored.answers():
        is_empty = False
        block = stored.decoded(answers)
        is_bounded |= not block.scores.is_exact
        has_models |= any(name is not None for name in block.models)
    if is_empty:
        raise InputError(f"the journal {str(stored.path)!r} holds no answers yet")
    return _Shape(is_bounded, has_models)


def _by_question(stored: StoredJournal, shape: _Shape) -> Iterator[pd.DataFrame]:
    for answers in stored.answers():
        names = [key.hex() if isinstance(key, bytes) else "" for key, *_ in answers]
        yield _frame(stored, shape, "question", names, answers)


def _by_row(
    stored: StoredJournal,
    shape: _Shape,
    table: Path,
    text: TextFormat,
    id_column: str | None,
    text_column: str | None,
) -> Iterator[pd.DataFrame]:
    fields = [str(name) for name in stored.job.get("fields") or ()]
    if fields == [TEXT_FIELD] and text_column is None:
        raise InputError("the job's rows are texts; name the column that holds them (--text-column)")
    columns = [text_column if name == TEXT_FIELD and text_column is not None else name for name in fields]
    stored.number_questions()
    n = 0
    for frame in read_chunks(table, check_suffix(table), text=text):
        for name in [*columns, *([id_column] if id_column is not None else [])]:
            if name not in frame.columns:
                columns_there = list(map(str, frame.columns))
                raise InputError(
                    f"{str(table)!r} has no column {name!r}; its columns: {columns_there}{other_delimiter(columns_there)}"
                )
        answers: list[StoredAnswer] = []
        for values in zip(*(frame[name].tolist() for name in columns), strict=True):
            key = _key(values)
            found = None if key is None else stored.find(key)
            answers.append(found or (key, None, NOT_ANSWERED))
        ids = [*range(n, n + len(frame))] if id_column is None else [*map(str, frame[id_column])]
        n += len(frame)
        yield _frame(stored, shape, "id", ids, answers)


def _key(values: Any) -> bytes | None:
    """The key of a row's question; None where it cannot be asked."""
    if any(map(is_missing, values)):
        return None
    try:
        return record_key(encode_record(values))
    except InputError:
        return None


def _frame(
    stored: StoredJournal, shape: _Shape, name: str, names: list[Any], answers: list[StoredAnswer]
) -> pd.DataFrame:
    block = stored.decoded(answers)
    scores = bounded_class_scores(block.scores, stored.class_of, len(stored.classes))
    sides = {"logprob": scores.values} | ({"lower": scores.lower, "upper": scores.upper} if shape.is_bounded else {})
    columns: dict[str, Any] = {name: names}
    for side, values in sides.items():
        columns |= {f"{side}_{label}": values[:, k] for k, label in enumerate(stored.classes)}
    columns["truncated"] = block.truncated
    # Of a type that is one of texts also where none is there.
    if shape.has_models:
        columns["model"] = pd.Series(block.models, dtype="string")
    columns["error"] = pd.Series(block.errors, dtype="string")
    return pd.DataFrame(columns)
