"""Columns that hold the answer: equal to y, or one-to-one with it, so that a prompt that shows them asks nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp, lgamma, log
from typing import Any

import narwhals.stable.v2 as nw

from ..arrays import Integers
from ..errors import InputError, PromptWarning, warn
from ..labels import LabelSet
from ..pipeline import FittedPipeline
from ..prompts import TEXT_FIELD, Prompt
from ..tables.rows import Rows
from ..tables.values import is_missing

_CHANCE = 0.01
"""How probable it may be that a column of these values, in random order, divides the rows as y does."""
_COMMON = frozenset({"yes", "no", "true", "false", "y", "n", "on", "off"})
"""Values that many columns have which have nothing to do with each other."""


def answer_columns(
    rows: Rows, codes: Integers | None, labels: LabelSet, *, text_field: str | None = None, y_name: str | None = None
) -> dict[str, bool]:
    """The columns that give the answer away, and whether each says it in the labels' own words.

    A column gives it away if it says the class of every row (as the class or one of its words, whatever case and spaces around),
    or divides the rows exactly as y does, which encoded copies do. The second may happen by chance: in a random order of the
    column's values the probability of that, ``prod(n_k!) prod(m_s!) / n!`` with n_k rows of each value and m_s values of each
    such number, must be at most .01. Where all values differ it is 1. Several columns that y determines, and that determine it
    together (one column per class), count as one. A column of texts, or of an array, counts only where it says the labels' own
    words.

    Without y, the columns count all of whose values are words of the labels, unless other columns often have them, too
    (numbers, yes and no).

    Parameters
    ----------
    rows : Rows of length n
    codes : ndarray of int (n,) or None
        True columns; None where there is no y.
    labels : LabelSet
    text_field : str, optional
        The column of texts.
    y_name : str, optional
        What y is called; a column of that name with the same values is y by whatever chance.

    Examples
    --------
    >>> import numpy as np
    >>> from llmclf.labels import label_set
    >>> from llmclf.tables import read_rows
    >>> rows = read_rows([{"text": f"text {i}", "code": i % 2, "mood": ["Good ", "BAD"][i % 2]} for i in range(20)])
    >>> labels = label_set(["good", "bad"])
    >>> answer_columns(rows, labels.indices(["good", "bad"] * 10), labels, text_field="text")
    {'code': False, 'mood': True}
    """
    words = [{_key(label), *map(_key, own)} for label, own in zip(labels.classes, labels.words, strict=True)]
    is_common = all(any(word in _COMMON or _is_number(word) for word in own) for own in words)
    # The features of an array are numbers without a meaning; a few rows of them often go with y one to one.
    is_array = rows.field_names == tuple(f"x{j}" for j in range(len(rows.field_names)))
    found: dict[str, bool] = {}
    coarser: dict[str, list[str | None]] = {}
    for name in rows.field_names:
        values = [None if is_missing(record[name]) else _key(record[name]) for record in rows.records]
        known = [place for place, value in enumerate(values) if value is not None]
        if 2 * len(known) < len(values) or not known:
            continue
        seen = [str(values[place]) for place in known]
        if codes is None:
            class_of = {word: k for k, own in enumerate(words) for word in own}
            if not is_common and set(seen) <= class_of.keys() and len({class_of[value] for value in seen}) > 1:
                found[name] = True
            continue
        truth = [int(codes[place]) for place in known]
        says_it = all(value in words[k] for value, k in zip(seen, truth, strict=True))
        if says_it and (name == y_name or not is_common or _chance(truth, renamed=False) <= _CHANCE):
            found[name] = True
        elif not is_array and name != text_field and len(set(truth)) > 1:
            if _is_function(seen, truth) and _is_function(truth, seen):
                if name == y_name or _chance(truth) <= _CHANCE:
                    found[name] = False
            elif (
                len(known) == len(values)
                and len(set(seen)) > 1
                and _is_function(truth, seen)
                and _chance(seen) <= _CHANCE
            ):
                coarser[name] = values
    if codes is not None and len(coarser) > 1:
        joint = list(zip(*coarser.values(), strict=True))
        if _is_function(joint, codes.tolist()):
            found |= dict.fromkeys(coarser, False)
    return {name: found[name] for name in rows.field_names if name in found}


def without_answers(rows: Rows, prompt: Prompt, codes: Integers | None, labels: LabelSet, y: Any = None) -> Rows:
    """The rows as a prompt may show them: a default prompt never shows a column that gives the answer away.

    Raises
    ------
    InputError
        There is no other column.

    Warns
    -----
    PromptWarning
        Columns are left out; or the rows are a text, or the only column, that goes with the answer.
    """
    if prompt.template is not None:
        return rows
    kept = {prompt.text_field, prompt.choices}
    found = {
        name: says_it
        for name, says_it in answer_columns(
            rows, codes, labels, text_field=prompt.text_field or TEXT_FIELD, y_name=_name(y)
        ).items()
        if name not in kept
    }
    if not found or not rows.is_table:
        return rows
    rest = tuple(name for name in rows.field_names if name not in found)
    if not rest:
        if not all(found.values()):
            return rows
        raise InputError(
            f"X has no column besides {_listed(found)}, which holds the answer; give the columns that the model is to judge by"
        )
    warn(
        f"the default prompt leaves out {_listed(found)}: {_reason(found, codes)}. Name the fields that the model is to see in "
        "prompt=, if this one is meant",
        PromptWarning,
    )
    return replace(rows, field_names=rest)


def hidden_from_features(pipeline: FittedPipeline, rows: Rows, codes: Integers | None, y: Any = None) -> FittedPipeline:
    """The pipeline whose transformers get no column that gives the answer away, unless a prompt of the author's own shows it.

    Warns
    -----
    PromptWarning
        Columns are left out.
    """
    is_asked = pipeline.features is not None and pipeline.features.needs_table and rows.is_table
    if not is_asked or pipeline.prompt.template is None:
        return pipeline  # a default prompt leaves them out of both
    scorer = pipeline.scorer
    found = answer_columns(rows, codes, pipeline.labels, text_field=scorer.renderer.text_field, y_name=_name(y))
    found = {name: says_it for name, says_it in found.items() if name not in scorer.used_fields}
    if not found:
        return pipeline
    warn(
        f"features= do not get {_listed(found)}: {_reason(found, codes)}. Show it in the prompt, if it is known of new rows, too",
        PromptWarning,
    )
    return replace(pipeline, field_names=tuple(name for name in pipeline.field_names if name not in found))


def warn_of_shown_answers(pipeline: FittedPipeline, rows: Rows, codes: Integers | None, y: Any = None) -> None:
    """Warn where a prompt of the author's own shows a column that gives the answer away."""
    prompt, scorer = pipeline.prompt, pipeline.scorer
    if not rows.is_table or (prompt.template is None and prompt.text_field is None):
        return
    found = answer_columns(rows, codes, pipeline.labels, text_field=scorer.renderer.text_field, y_name=_name(y))
    shown = {name: says_it for name, says_it in found.items() if name in scorer.used_fields}
    if shown:
        warn(
            f"the prompt shows {_listed(shown)}: {_reason(shown, codes)}. What is measured so says nothing about rows whose "
            "answer is not known; leave it out of the template",
            PromptWarning,
        )


def _reason(found: dict[str, bool], codes: Integers | None) -> str:
    what = "holds the words of the labels" if codes is None else "gives the answer away, row by row"
    return what if len(found) == 1 else what.replace("holds", "hold").replace("gives", "give")


def _listed(names: Sequence[str] | dict[str, bool]) -> str:
    quoted = ", ".join(map(repr, names))
    return f"the column {quoted}" if len(names) == 1 else f"the columns {quoted}"


def _name(y: Any) -> str | None:
    native = nw.from_native(y, pass_through=True, allow_series=True)
    return str(native.name) if isinstance(native, nw.Series) and native.name is not None else None


def _key(value: Any) -> str:
    """A value by what it says: case and surrounding space do not count, nor whether a whole number is a float."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_function(of: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether equal items of the first always go with equal ones of the second."""
    image: dict[Any, Any] = {}
    return all(image.setdefault(item, value) == value for item, value in zip(of, values, strict=True))


def _chance(values: Sequence[Any], *, renamed: bool = True) -> float:
    """The share of the orders of some values that divide the rows in one given way; exact, by counting permutations."""
    sizes = Counter(Counter(values).values())
    total = sum(times * lgamma(size + 1) for size, times in sizes.items()) - lgamma(len(values) + 1)
    if renamed:
        total += sum(lgamma(times + 1) for times in sizes.values())
    return exp(min(total, log(1.0)))
