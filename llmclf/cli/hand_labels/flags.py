"""Options of every command that reads labels by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

InclusionColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column with the probability with which each row was drawn to be labelled. Default: audit_inclusion, which "
        "label --audit adds, where it is there; else all had the same.",
    ),
]
FitInclusionColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column with the probability with which each row was drawn, such as audit_inclusion (label --audit) or "
        "inclusion (next-rows). What is learned is then about the table that was drawn from. Default: all had the same.",
    ),
]
StrataColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="From which part of the table each row was drawn. Default: what --audit wrote."
    ),
]
Annotations = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="A file of next-rows that people have filled in, or what Label Studio or Argilla exports of it. Of several draws, "
        "give it for each, in the order in which they were drawn.",
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="With --annotations: the column of the table that holds the ids."),
]
Form = Annotated[
    str | None,
    typer.Option(metavar="label-studio|argilla", help="The form of a .json file: that of Label Studio or of Argilla."),
]
