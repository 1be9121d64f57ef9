"""`llmclf journal`: what a job's journal holds, what is left of a damaged one, and several as one."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import Delimiter, Encoding

_DAMAGED = 1
"""The exit code of `check` for a journal that does not hold all that was written."""

Journal = Annotated[Path, typer.Argument(metavar="JOURNAL", help="A job's journal, by default OUTPUT.journal.")]
NewJournal = Annotated[
    Path, typer.Option("--output", "-o", metavar="NEW", help="The new journal, which must not exist.")
]


def check(path: Journal) -> None:
    """Say what a journal holds, and whether it is whole; nothing of it is changed.

    Exit codes: 0 it is sound, 1 it is damaged, answers are missing, or it cannot be read, 2 there is no journal.

    \b
    Example:
      llmclf journal check labelled.csv.journal
    """
    from ..jobs import check_journal

    found = check_journal(path)
    say(f"{found.path}: {found.questions:,} questions, {found.answered:,} answered, {found.failed:,} failed")
    if found.last is not None:
        when = datetime.datetime.fromtimestamp(found.last).isoformat(" ", "minutes")
        how = "which did not end in order" if found.is_open else "which ended in order"
        cost = f"; they have cost {found.cost:.6g}" if found.cost else ""
        say(f"runs: {found.runs}, the last one at {when}, {how}{cost}")
    for name, count in found.models.items():
        say(f"{count:,} of the answers are by {name!r}")
    for what, values in (("model", found.model), ("job", found.job)):
        for name, value in values.items():
            if value not in (None, [], {}):
                say(f"{what}: {name} = {value!r}")
    if not found.is_sound:
        say(f"damaged answers: {found.damaged:,}; llmclf label ... --retry-failed asks them again")
        raise SystemExit(_DAMAGED)
    say("sound: every answer is whole")


def salvage(path: Journal, output: NewJournal) -> None:
    """Copy what can be read of a damaged journal into a new one, and go on with that; the damaged one stays as it is.

    An answer is kept if its own checksum is right. What is missing is asked again by the next run.

    \b
    Example:
      llmclf journal salvage labelled.csv.journal -o rescued.journal
      llmclf label reviews.csv labelled.csv --id-column id --text-column review --journal rescued.journal --resume
    """
    from ..jobs import salvage_journal

    kept = salvage_journal(path, output)
    failed = f" and {kept.failed:,} failures" if kept.failed else ""
    say(f"kept {kept.answers:,} answers{failed} in {kept.output}; {kept.missing:,} that were there cannot be read")
    if kept.cost is None:
        say("what earlier runs have cost cannot be read: --max-cost counts from 0 again")


def export(
    path: Journal,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .csv, .tsv, .jsonl or .parquet file.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            "--rows", metavar="FILE", help="The file of the job's rows: then there is a line for each, with its id."
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with the rows' ids. Default: the row's number.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that holds the texts, as the job has it.")
    ] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Write the answers of a journal as a table: the log-probability of each label, in nats.

    Without --rows there is a line for each question, which a journal knows by a hash alone. Probabilities and labels are what
    label --resume writes.

    \b
    Example:
      llmclf journal export labelled.csv.journal -o scores.parquet --rows reviews.csv --id-column id --text-column review
    """
    from ..jobs import export_journal

    n = export_journal(
        path,
        output,
        table=table,
        id_column=id_column,
        text_column=text_column,
        delimiter=delimiter,
        encoding=encoding,
    )
    say(f"wrote {n:,} rows to {output}")


def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="JOURNAL...", help="Journals of one job, by one model.")],
    output: NewJournal,
) -> None:
    """Bring the answers of several journals of one job together in a new one; label --resume then writes all rows.

    Journals of another job or model are refused, and the difference is named. Where answers to one question differ, the journal
    that is named last counts.

    \b
    Example:
      llmclf journal merge part-1.journal part-2.journal -o all.journal
    """
    from ..jobs import merge_journals

    merged = merge_journals(paths, output)
    said = [f"{merged.output}: {merged.questions:,} questions", f"{merged.equal:,} answers were there more than once"]
    if merged.replaced:
        said.append(f"{merged.replaced:,} were replaced by another one of a later journal")
    if merged.damaged:
        said.append(f"{merged.damaged:,} were damaged and are left out")
    say("; ".join(said))
