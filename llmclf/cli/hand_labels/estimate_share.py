"""`llmclf estimate-share`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ...atomic_files import write_text
from ...errors import InputError
from ...numerics.class_matching import as_code
from ...tables.predictions import read_number
from ..console import say, say_json
from ..options import ClusterColumn, Delimiter, Encoding, UnescapeFormulas, column
from .flags import Annotations, Form, IdColumn, InclusionColumn, StrataColumn
from .reading import AnnotatedFiles, filled_column, read_hand_labels

_FORMS = {".csv": "CSV", ".json": "JSON"}


def estimate_share(
    labelled: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="All rows, with the columns p_CLASS that label and predict add, and the true class of some: .csv, .tsv, .jsonl "
            "or .parquet.",
        ),
    ],
    truth: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column with the classes given by hand; empty where nobody looked."),
    ] = None,
    annotations: Annotations = None,
    id_column: IdColumn = None,
    form: Form = None,
    inclusion_column: InclusionColumn = None,
    strata_column: StrataColumn = None,
    cluster_column: ClusterColumn = None,
    weight_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What each row counts, such as how many people read it.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Also estimate for each value of this column, such as a year.")
    ] = None,
    differences: Annotated[
        str | None,
        typer.Option(
            metavar="pairs|previous|first",
            help="Also compare groups: all pairs, each with the one before, or each with the first.",
        ),
    ] = None,
    confidence_level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="Make intervals that hold together for all lines of a table.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Also write the numbers, of all tables: .csv or .json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What the names of the columns that label added begin with.")
    ] = "",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Estimate what share of all rows each class has, from all predictions and the rows that people labelled.

    \b
    Example:
      llmclf label reviews.csv labelled.csv --id-column id --text-column review --labels praise,complaint
      llmclf estimate-share labelled.csv --truth checked --group-column year
    """
    from ...tables.files import read_table
    from ...tables.text_files import TextFormat

    if output is not None and output.suffix.lower() not in _FORMS:
        raise InputError(f"--output {str(output)!r}; expected a file that ends in {' or '.join(_FORMS)}")
    if differences is not None and group_column is None:
        raise InputError("--differences compares groups; name their column with --group-column")
    text_format = TextFormat(delimiter, encoding, bool(unescape_formulas))
    frame = read_table(labelled, text_format)
    by_hand = read_hand_labels(
        frame,
        labelled,
        truth,
        "--truth",
        prefix=prefix,
        inclusion_column=inclusion_column,
        strata_column=strata_column,
        annotated=AnnotatedFiles(annotations or [], id_column, form, bool(unescape_formulas)),
    )
    estimates = by_hand.shares(
        clusters=_values(frame, cluster_column, "--cluster-column"),
        weights=_numbers(frame, weight_column, "--weight-column"),
        groups=_groups(frame, group_column),
        confidence_level=confidence_level,
        simultaneous=simultaneous,
    )
    found = json.dumps(estimates.to_dict(differences), indent=2, default=str)
    if as_json:
        say_json(found)
    else:
        lines = str(estimates).splitlines()
        if by_hand.inclusion is not None:
            guided = "if the model guided it" if inclusion_column is not None else "that the model guided"
            lines.append(f"by hand and worth already profit from the draw {guided}")
        if differences is not None:
            lines += ["", *estimates.difference_text(differences).splitlines()]
        for line in lines:
            say(line)
    if output is not None:
        is_json = output.suffix.lower() == ".json"
        write_text(f"{found}\n" if is_json else estimates.all_frame(differences).to_csv(index=False), output)


def _values(frame: Any, name: str | None, option: str) -> list[Any] | None:
    return None if name is None else filled_column(frame, name, option)


def _groups(frame: Any, name: str | None) -> list[Any] | None:
    """Numbers where all groups are numbers, so that 9 comes before 10 whatever the kind of file."""
    values = _values(frame, name, "--group-column")
    codes = [as_code(value) for value in values or []]
    return values if any(code is None for code in codes) else codes or values


def _numbers(frame: Any, name: str | None, option: str) -> Any:
    if name is None:
        return None
    return np.array([read_number(value, name, row) for row, value in enumerate(column(frame, name, option))])
