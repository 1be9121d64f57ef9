"""`llmclf report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..numerics.class_matching import match_classes
from ..tables.predictions import read_number, read_probabilities
from .console import say
from .hand_labels.flags import Annotations, Form, IdColumn, InclusionColumn, StrataColumn
from .hand_labels.reading import AnnotatedFiles, read_hand_labels
from .options import ClusterColumn, Delimiter, Encoding, UnescapeFormulas, column, written_pages


def report(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Rows with the columns p_CLASS that predict adds and with their true classes: .csv, .tsv, .jsonl or .parquet.",
        ),
    ],
    label_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that holds the true class; rows without one are left out."),
    ] = None,
    annotations: Annotations = None,
    id_column: IdColumn = None,
    form: Form = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the HTML page goes.")] = Path(
        "report.html"
    ),
    text_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Show this column beside the rows that need a look.")
    ] = None,
    group_column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Look at each value of this column by itself; may be given again."),
    ] = None,
    cluster_column: ClusterColumn = None,
    inclusion_column: InclusionColumn = None,
    strata_column: StrataColumn = None,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What the names of the columns that predict added begin with.")
    ] = "",
    before: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Predictions for the same rows, in the same order, before calibration."),
    ] = None,
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    max_error: Annotated[float, typer.Option(help="Share of errors allowed among automatically accepted rows.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="Confidence of that share and of all intervals.")] = 0.95,
    cost_error: Annotated[float, typer.Option(help="Cost of a wrong accepted row.")] = 10.0,
    cost_review: Annotated[float, typer.Option(help="Cost of a row that a person looks at.")] = 1.0,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Also write the numbers as JSON beside the page.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Also write it as Markdown beside the page.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the figures as PNG into this folder.")
    ] = None,
    shares: Annotated[
        bool,
        typer.Option(
            "--shares",
            help="Estimate the share of each class among all rows: those with a true class must be a random sample of them.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random draws for intervals.")] = 0,
) -> None:
    """Write a report on labelled rows that neither the model's calibrator nor its shots have seen.

    Of rows that were drawn with unequal probabilities, it takes as many as make all probabilities equal; strata are heeded by
    the estimates of --shares alone. With --text-column, copies of a text belong together.

    \b
    Example:
      llmclf predict test.csv labelled.csv --text-column review --classifier moods
      llmclf report labelled.csv --label-column mood --text-column review -o report.html
    """
    from ..report import CalibrationReport
    from ..tables.files import read_table
    from ..tables.text_files import TextFormat

    if strata_column is not None and not shares:
        raise InputError(
            f"--strata-column {strata_column!r} is heeded by the estimates of shares alone; give --shares, too"
        )
    text_format = TextFormat(delimiter, encoding, bool(unescape_formulas))
    frame = read_table(predictions, text_format)
    by_hand = read_hand_labels(
        frame,
        predictions,
        label_column,
        "--label-column",
        prefix=prefix,
        inclusion_column=inclusion_column,
        strata_column=strata_column,
        annotated=AnnotatedFiles(annotations or [], id_column, form, bool(unescape_formulas)),
    )
    classes, proba = by_hand.classes, by_hand.proba
    labels: list[str | None] = [None] * len(frame)
    for row, label in zip(by_hand.rows.tolist(), by_hand.labels, strict=True):
        labels[row] = label
    earlier = None
    if before is not None:
        names, earlier = read_probabilities(read_table(before, text_format), before, prefix)
        columns = _same_classes(classes, names)
        if columns is None or len(earlier) != len(proba):
            raise InputError(
                f"{str(before)!r} has {len(earlier)} rows of the classes {names}, and {str(predictions)!r} {len(proba)} of "
                f"{classes}; give predictions for the same rows"
            )
        earlier = earlier[:, columns]
    texts = None if text_column is None else column(frame, text_column, "--text-column").tolist()
    groups = {name: column(frame, name, "--group-column").tolist() for name in group_column or []}
    clusters = None if cluster_column is None else column(frame, cluster_column, "--cluster-column").tolist()
    mass = None
    if f"{prefix}label_mass" in frame.columns:
        mass = [read_number(value, "label_mass", row) for row, value in enumerate(frame[f"{prefix}label_mass"])]
    # With the draw known, the estimates are those of estimate-share, which also heed from which stratum a row was drawn.
    estimated: Any = shares or None
    if shares and (by_hand.inclusion is not None or by_hand.strata is not None):
        estimated = by_hand.shares(clusters=clusters, confidence_level=confidence)
    made = CalibrationReport(
        labels,
        proba,
        classes=classes,
        proba_before=earlier,
        groups=groups or None,
        clusters=clusters,
        texts=texts,
        label_mass=mass,
        inclusion=by_hand.inclusion,
        metadata={
            "predictions": str(predictions),
            "before": None if before is None else str(before),
            "label_column": label_column,
            "annotations": [str(path) for path in annotations or []] or None,
        },
        title=title or f"Calibration of {predictions.name}",
        max_error=max_error,
        confidence=confidence,
        cost_error=cost_error,
        cost_review=cost_review,
        shares=estimated,
        random_state=seed,
    )
    written = written_pages(made, output, json, md)
    if png is not None:
        written += made.to_png(png)
    say(made.verdict)
    say(f"report: {', '.join(map(str, written))}")


def _same_classes(classes: list[str], names: list[str]) -> Any:
    """The place of each class among the names of another file; None if these are other classes."""
    try:
        columns = match_classes(classes, names, is_y=False)
    except InputError:
        return None
    return columns if len(set(columns.tolist())) == len(names) == len(classes) else None
