"""`llmclf next-rows`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ...errors import InputError
from ..console import say
from ..options import Delimiter, Encoding, UnescapeFormulas, column
from .flags import Annotations, Form, InclusionColumn, StrataColumn
from .reading import AnnotatedFiles, read_hand_labels


def next_rows(
    labelled: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="All rows, with the columns p_CLASS that label and predict add: .csv, .tsv, .jsonl or .parquet.",
        ),
    ],
    to_label: Annotated[
        Path,
        typer.Argument(
            metavar="TO_LABEL",
            help="The rows to label, with their ids and inclusion probabilities and an empty column label: .csv, .tsv, .jsonl, "
            ".parquet, or .json with --form.",
        ),
    ],
    budget: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows to label now.")],
    id_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="A different value in every row, by which labels come back.")
    ],
    text_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="What is shown to the annotators; may be given again. Leave out the model's answers, which they would follow.",
        ),
    ] = None,
    goal: Annotated[
        str,
        typer.Option(
            metavar="share|threshold|calibration|accuracy", help="What the labels are for, as in label --audit-goal."
        ),
    ] = "share",
    form: Form = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column with labels by hand from before, if any: such rows are not drawn again."
        ),
    ] = None,
    annotations: Annotations = None,
    inclusion_column: InclusionColumn = None,
    strata_column: StrataColumn = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="With --goal share: the class that matters. Default: all alike."),
    ] = None,
    max_error: Annotated[
        float, typer.Option(metavar="SHARE", help="With --goal threshold: the share of errors allowed.")
    ] = 0.05,
    uniform_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="The part of the budget that is spread evenly over all rows, in case the model is wrong.",
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Decides which rows.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace TO_LABEL if it exists; it may hold labels by now.")
    ] = False,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas",
            help="Write an apostrophe before every cell of a CSV output that a spreadsheet would run as a formula.",
        ),
    ] = False,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What the names of the columns that label added begin with.")
    ] = "",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Draw the rows that people are to label next, with known probabilities, so that what follows from the labels stays valid.

    estimate-share and report read the file back, filled in, with --annotations.

    \b
    Example:
      llmclf next-rows labelled.csv to_label.csv --budget 100 --id-column id --text-column review
      llmclf estimate-share labelled.csv --annotations to_label.csv --id-column id
    """
    from ...estimation import label_studio_config, write_annotation_file
    from ...estimation import next_rows as drawn_rows
    from ...tables.files import read_table
    from ...tables.predictions import read_probabilities
    from ...tables.text_files import TextFormat

    text_format = TextFormat(delimiter, encoding, bool(unescape_formulas))
    frame = read_table(labelled, text_format)
    before: dict[str, Any] = {}
    if truth is not None or annotations:
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
        classes, proba = by_hand.classes, by_hand.proba
        before = {
            "y": by_hand.labels,
            "rows": by_hand.rows,
            "inclusion": None if by_hand.inclusion is None else by_hand.inclusion[by_hand.rows],
            "strata": None if by_hand.strata is None else _numbered(by_hand.strata),
        }
    elif inclusion_column is not None or strata_column is not None:
        raise InputError(
            "--inclusion-column and --strata-column are about labels from before; name their column with --truth"
        )
    else:
        classes, proba = read_probabilities(frame, labelled, prefix)
    if class_name is not None and class_name not in classes:
        raise InputError(f"--class {class_name!r} is not one of the classes {classes}")
    column(frame, id_column, "--id-column")
    shown = frame[[id_column]].assign(**{name: column(frame, name, "--text-column") for name in text_column or []})
    drawn = drawn_rows(
        proba,
        budget,
        goal,
        classes=classes,
        pos_label=class_name,
        max_error=max_error,
        uniform_share=uniform_share,
        random_state=seed,
        **before,
    )
    rows = drawn.to_frame(shown, id_column=id_column)
    is_of_earlier = to_label.suffix.lower() != ".json" and any(
        path.suffix.lower() == ".json" for path in annotations or []
    )
    own_form = None if is_of_earlier else form
    write_annotation_file(rows, to_label, form=own_form, escape_formulas=escape_formulas, overwrite=overwrite)
    pi = rows["inclusion"]
    say(
        f"{len(rows)} of {len(frame)} rows to label, drawn with probabilities from {pi.min():.3g} to {pi.max():.3g}; written to "
        f"{to_label}"
    )
    if own_form == "label-studio" and text_column:
        for line in label_studio_config(classes, text=text_column[0], show=text_column[1:]).splitlines():
            say(line)
    is_share = goal == "share"
    words = ["llmclf", "estimate-share" if is_share else "report", str(labelled)]
    words += _given("--truth" if is_share else "--label-column", truth) + _given("--inclusion-column", inclusion_column)
    words += _given("--strata-column", strata_column if is_share else None)
    for path in (*(annotations or []), to_label):
        words += ["--annotations", str(path)]
    words += ["--id-column", id_column, *_given("--form", form), *_given("--prefix", prefix or None)]
    say(f"label all of them, then: {shlex.join(words)}")


def _given(option: str, value: str | None) -> list[str]:
    return [] if value is None else [option, value]


def _numbered(strata: list[Any]) -> Any:
    return np.unique(np.array([str(one) for one in strata]), return_inverse=True)[1]
