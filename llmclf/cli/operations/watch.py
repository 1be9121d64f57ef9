"""`llmclf watch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..console import say, say_json
from ..options import Delimiter, Encoding, UnescapeFormulas


def watch(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="The folder that serve --log writes, or a table that label wrote: .csv, .tsv, .jsonl or .parquet.",
        ),
    ],
    certificate: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder of the certified classifier that made the decisions.")
    ],
    audited: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows whose true class a person has found out, in the order in which that was done: the columns id, label and, "
            "if rows were drawn with different probabilities, inclusion.",
        ),
    ] = None,
    inclusion_floor: Annotated[
        float | None,
        typer.Option(help="Of the column inclusion: the least probability that the plan of the audit gives any row."),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(help="Probability of a false alarm, for the promise, for calibration and for shifts each, ever."),
    ] = 0.05,
    horizon: Annotated[
        int,
        typer.Option(
            help="For how many audited accepted rows the test of the promise is made: there it is most likely to find an error "
            "of twice the promise."
        ),
    ] = 250,
    min_shift: Annotated[
        float, typer.Option(help="The share of rows that a shift must move before it raises an alarm.")
    ] = 0.05,
    calibration_tolerance: Annotated[
        float, typer.Option(help="How far the share of right rows may be from their confidence.")
    ] = 0.05,
    html: Annotated[Path | None, typer.Option(metavar="PAGE", help="Also write the report as an HTML page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@VERSION",
            help="Which model's decisions to watch, as the log names it, if several have decided under the certificate.",
        ),
    ] = None,
    id_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column with the ids, if LOG is a table.")
    ] = "id",
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="What the names of the columns that label added begin with, if LOG is a table."
        ),
    ] = "",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Say whether a certificate still holds for the decisions since, and what to do if it does not. May be run at any time.

    Ends with exit code 0 if there is no alarm, 3 if rows are unlike those of the certificate, 4 if more accepted rows are wrong
    than was promised, 5 if probabilities are no longer those of being right, and 6 if the certificate has expired; with several
    alarms, that of the first which it prints. While there are no decisions yet, the code is 0, and the line says so, as does
    rows.n in the JSON. 1 and 2 are those of all commands. Dates and times are UTC.

    \b
    Example:
      llmclf watch decisions --certificate moods --audited audited.csv --html watch.html
    """
    from ...monitoring import Watch
    from ...tables.endings import check_suffix
    from ...tables.files import check_text_format
    from ...tables.text_files import TextFormat

    text = TextFormat(delimiter, encoding, bool(unescape_formulas))
    files = [file for file in (log, audited) if file is not None and file.expanduser().is_file()]
    check_text_format(text, map(check_suffix, files), ", ".join(map(str, files or [log])))
    made = Watch(
        log,
        certificate,
        alpha=alpha,
        horizon=horizon,
        inclusion_floor=inclusion_floor,
        min_shift=min_shift,
        calibration_tolerance=calibration_tolerance,
        model=model,
        id_column=id_column,
        prefix=prefix,
        text_format=text,
    ).report(audited)
    if html is not None:
        made.to_html(html)
    if as_json:
        say_json(json.dumps(made.to_dict(), allow_nan=False))
    else:
        for alarm in made.alarms:
            say(f"alarm ({alarm['kind']}): {alarm['text']}")
        if not made.alarms:
            say(made.verdict)
        for part in made.left_out:
            say(f"left out: {part}")
        for action in made.actions:
            say(f"next ({action['kind'].replace('_', ' ')}): {action['text']}")
        if html is not None:
            say(f"report: {html}")
    raise SystemExit(made.exit_code)
