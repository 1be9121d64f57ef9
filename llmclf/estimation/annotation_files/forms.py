"""Writing rows to be annotated, in the form that a person or a platform reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd

from ...atomic_files import write_text
from ...errors import InputError, type_of
from ...tables.array_arguments import as_numbers, class_list
from ...tables.files import write_table
from ...tables.formulas import FormulaCells
from .platforms import QUESTION, argilla_records, label_studio_tasks

PLATFORMS: dict[str, Callable[[pd.DataFrame], list[dict[str, Any]]]] = {
    "label-studio": label_studio_tasks,
    "argilla": argilla_records,
}
"""Forms that are JSON files, by name."""
TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
"""Forms that are tables, by the suffix of the file."""
COLUMNS = ("id", "label", "inclusion", "stratum")
"""What every file to annotate holds, beside what annotators are shown."""


def write_annotation_file(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    form: str | None = None,
    escape_formulas: bool = False,
    overwrite: bool = False,
) -> None:
    """Write rows to be annotated.

    Parameters
    ----------
    frame : DataFrame
        As `NextRows.to_frame` makes it: ``id``, ``label``, ``inclusion``, ``stratum``, and what annotators are to see. What they
        should not see, such as the model's own label, which they would follow, is better left out.
    path : path
        A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file has a line per row, whose empty ``label`` is to be filled in. A
        ``.json`` file needs a `form`.
    form : {"label-studio", "argilla"}, optional
        Tasks that Label Studio imports, for the interface that `label_studio_config` describes; or records that Argilla's
        ``Dataset.records.from_json`` reads, with one ``LabelQuestion`` named ``label`` and a ``TextField`` for each column shown.
    escape_formulas : bool
        Of a CSV file: write an apostrophe before every cell that a spreadsheet would run as a formula.
    overwrite : bool
        Replace a file that exists. Otherwise it is an error, since the file may hold labels by now.

    Raises
    ------
    InputError
        The frame lacks a column, an id stands twice, suffix and form do not fit, or the file exists already.
    StoreError
        The file cannot be written.

    Warns
    -----
    FormulaWarning
        A CSV file holds cells that a spreadsheet would run.

    Examples
    --------
    >>> import tempfile
    >>> from llmclf.estimation import next_rows
    >>> drawn = next_rows([[0.9, 0.1], [0.5, 0.5]], 2, random_state=0).to_frame(["fine", "so so"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_annotation_file(drawn, f"{folder}/rows.csv")
    ...     print(Path(f"{folder}/rows.csv").read_text())
    id,label,inclusion,stratum,text
    0,,1.0,0,fine
    1,,1.0,0,so so
    <BLANKLINE>
    """
    check_frame(frame)
    kind = form_of(path, form)
    if not overwrite and os.path.lexists(Path(path).expanduser()):
        raise InputError(f"{str(path)!r} exists already and may hold labels; give another path, or overwrite=True")
    if kind in PLATFORMS:
        made = PLATFORMS[kind](frame)
        write_text(json.dumps(made, ensure_ascii=False, indent=1, allow_nan=False) + "\n", path)
        return
    formulas = FormulaCells(escape=escape_formulas)
    write_table(frame, path, formulas=formulas)
    formulas.warn(str(path))


def label_studio_config(classes: Sequence[Any], *, text: str = "text", show: Sequence[str] = ()) -> str:
    """The labelling interface for Label Studio: one choice among the classes.

    Parameters
    ----------
    classes : sequence
    text : str
        The column that is labelled.
    show : sequence of str
        Further columns that are shown above it.

    Returns
    -------
    str
        XML, for the project's settings.

    Examples
    --------
    >>> print(label_studio_config(["good", "bad"]))
    <View>
      <Text name="text" value="$text"/>
      <Choices name="label" toName="text" choice="single" showInline="true">
        <Choice value="good"/>
        <Choice value="bad"/>
      </Choices>
    </View>
    """
    above = "".join(f"  <Header value={quoteattr('$' + name)}/>\n" for name in show)
    choices = "".join(f"    <Choice value={quoteattr(str(label))}/>\n" for label in class_list(classes))
    return (
        f"<View>\n{above}"
        f"  <Text name={quoteattr(text)} value={quoteattr('$' + text)}/>\n"
        f'  <Choices name="{QUESTION}" toName={quoteattr(text)} choice="single" showInline="true">\n'
        f"{choices}  </Choices>\n</View>"
    )


def form_of(path: str | os.PathLike[str], form: str | None) -> str:
    """The form of a file, by its suffix or by name.

    Raises
    ------
    InputError
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path={path!r}; expected the path of a file")
    suffix = Path(path).suffix.lower()
    if form is not None and form not in PLATFORMS:
        raise InputError(f"form={form!r}; expected {' or '.join(map(repr, PLATFORMS))}, or none for a table")
    if (form is not None) != (suffix == ".json"):
        what = (
            "a .json file needs form='label-studio' or form='argilla'"
            if form is None
            else f"form={form!r} is a .json file"
        )
        raise InputError(f"{str(path)!r}: {what}; tables are .csv, .tsv, .jsonl and .parquet files")
    if form is None and suffix not in TABLES:
        raise InputError(f"{str(path)!r}: expected a .csv, .tsv, .jsonl, .parquet or .json file")
    return form if form is not None else TABLES[suffix]


def check_frame(frame: Any) -> None:
    """Refuse what is no frame of drawn rows.

    Raises
    ------
    InputError
    """
    absent = [name for name in COLUMNS if name not in getattr(frame, "columns", ())]
    if absent or not isinstance(frame, pd.DataFrame):
        what = f"have no column {absent[0]!r}" if absent else f"are {type_of(frame)} and no DataFrame of pandas"
        raise InputError(f"the rows {what}; expected the frame that NextRows.to_frame makes")
    if not frame.columns.is_unique:
        raise InputError(
            f"the rows have two columns {frame.columns[frame.columns.duplicated()][0]!r}; rename one of them"
        )
    missing = np.flatnonzero(frame["id"].isna())
    if missing.size:
        raise InputError(f"the id of row {missing[0]} is missing; expected an id for each row")
    pi = as_numbers(frame["inclusion"], "inclusion")
    bad = np.flatnonzero(~((pi > 0) & (pi <= 1)))
    if bad.size:
        raise InputError(f"inclusion[{bad[0]}]={pi[bad[0]]:g}; expected probabilities above 0 and at most 1, as drawn")
    ids = frame["id"].astype(str)
    if ids.duplicated().any():
        raise InputError(f"the id {ids[ids.duplicated()].iloc[0]!r} stands twice; expected an id for each row")
