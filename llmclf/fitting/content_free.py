"""Rows that say nothing, that are random words or that the model wrote: its answers to them are its preference for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..arrays import Floats
from ..backends import Backend
from ..backends.base import Generates
from ..errors import InputError
from ..pipeline import FittedPipeline
from ..progress import track
from ..prompts.prompt import PromptRenderer
from ..tables.rows import Row, Rows
from ..tables.values import is_missing

CONTENT_FREE_TEXTS = ("N/A", "", "[MASK]")
"""The inputs of Zhao et al. 2021."""

N_DOMAIN_ROWS = 20
"""How many rows of random words are asked (Fei et al. 2023)."""

N_GENERATED_ROWS = 100
"""How many texts the model writes (Jiang et al. 2023)."""

MAX_GENERATED_TOKENS = 128
"""Where a text ends that the model does not end itself."""

_SIDE_BY_SIDE = 25  # texts written at once: what the memory of a small machine holds


def content_free_rows(rows: Rows, used_fields: Sequence[str]) -> Rows:
    """One row per content-free text, which stands in every field that the prompt uses.

    Examples
    --------
    >>> from llmclf.tables import read_rows
    >>> [row["text"] for row in content_free_rows(read_rows(["A fine film."]), ["text"]).records]
    ['N/A', '', '[MASK]']
    """
    return Rows([dict.fromkeys(used_fields, text) for text in CONTENT_FREE_TEXTS], rows.field_names, rows.is_table)


def domain_rows(rows: Rows, used_fields: Sequence[str], random: np.random.RandomState) -> Rows:
    """Rows whose texts are words drawn at random from the same field of all rows, as many as a text has on average.

    Words are what stands between spaces; they are lower-cased, and a full stop ends the text. Values that are not text are
    drawn as they are.

    Examples
    --------
    >>> from llmclf.tables import read_rows
    >>> drawn = domain_rows(read_rows(["one two", "three four"]), ["text"], np.random.RandomState(0))
    >>> len(drawn), drawn.records[0]["text"]
    (20, 'one four .')
    """
    columns = {}
    for name in used_fields:
        values = [record[name] for record in rows.records if not is_missing(record[name])]
        texts = [value.split() for value in values if isinstance(value, str)]
        words = [word for text in texts for word in text]
        if not words:
            drawn = [values[i] for i in random.randint(len(values), size=N_DOMAIN_ROWS)]
        else:
            length = max(1, round(len(words) / len(texts)))
            choice = random.randint(len(words), size=(N_DOMAIN_ROWS, length))
            drawn = [" ".join(words[i].lower() for i in row) + " ." for row in choice]
        columns[name] = drawn
    records: list[Row] = [{name: columns[name][i] for name in used_fields} for i in range(N_DOMAIN_ROWS)]
    return Rows(records, rows.field_names, rows.is_table)


def generated_rows(backend: Backend, renderer: PromptRenderer, rows: Rows, random: np.random.RandomState) -> Rows:
    """Rows whose text the model wrote itself, after the prompt's beginning and its shots, drawn at temperature 1.

    Texts end where the template continues after the field; blank ones are left out.

    Raises
    ------
    InputError
        The backend cannot write, the prompt does not have exactly one place for a text, or all texts are blank.
    """
    if not isinstance(backend, Generates):
        raise InputError(
            f"bias='generative' lets the model write texts, and {backend!r} cannot; use a local model or 'domain'"
        )
    opening, following = renderer.opening()
    texts: list[str] = []
    rounds = range(0, N_GENERATED_ROWS, _SIDE_BY_SIDE)
    with track(rounds, len(rounds), "writing texts") as tracked:
        for _ in tracked:
            seed = int(random.randint(2**31))
            written = backend.generate_many(opening, _SIDE_BY_SIDE, MAX_GENERATED_TOKENS, seed=seed, stop=following)
            texts += [answer.text.strip() for answer in written]
    (field,) = renderer.used_fields
    records: list[Row] = [{field: text} for text in texts if text]
    if not records:
        raise InputError("bias='generative': all texts that the model wrote are blank; use bias='domain'")
    return Rows(records, rows.field_names, rows.is_table)


def content_free_scores(method: str, pipeline: FittedPipeline, rows: Rows, random_state: Any) -> Floats:
    """Scores (m, K) of the rows that a bias is fitted on instead of those of the table."""
    if pipeline.prompt.choices is not None:
        raise InputError(
            f"bias={method!r} corrects labels that are the same in all rows, and each row brings its own choices; "
            "scoring='pmi' does that for choices"
        )
    scorer = pipeline.scorer
    fields = scorer.used_fields
    if method == "contextual":
        asked = content_free_rows(rows, fields)
    elif method == "generative":
        asked = generated_rows(pipeline.backend, scorer.renderer, rows, check_random_state(random_state))
    else:
        asked = domain_rows(rows, fields, check_random_state(random_state))
    return pipeline.scores(asked, scorer.answers(asked, are_ours=True)).values
