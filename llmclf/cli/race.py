"""`llmclf race`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .classify import labelled_column, labelled_inclusion, typed_labels
from .console import say
from .flags import takes_model_options
from .hand_labels.flags import FitInclusionColumn
from .options import (
    CacheOption,
    Chat,
    Delimiter,
    Encoding,
    GroupColumn,
    Labels,
    Model,
    OnError,
    PromptOption,
    Scoring,
    TextColumn,
    UnescapeFormulas,
    column,
    open_cache,
    open_with,
    parse_features,
    parse_labels,
    parse_prompt,
    written_pages,
)

_WIDTH, _NAME = 80, 23


@takes_model_options
def race(
    *,
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="Labelled rows: a .csv, .tsv, .jsonl or .parquet file.")
    ],
    label_column: Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the class of every row.")],
    text_column: TextColumn = None,
    group_column: GroupColumn = None,
    inclusion_column: FitInclusionColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    shots: Annotated[
        int, typer.Option(min=0, help="How many labelled rows are put into every prompt as examples; they do not race.")
    ] = 0,
    features: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="What the pool learns from besides the label scores: auto (all that costs nothing), states (the hidden states "
            "of a local model), tfidf (the words of the texts). Text alone races in any case.",
        ),
    ] = "auto",
    calibrator: Annotated[
        str, typer.Option(metavar="NAME", help="How the label scores are calibrated, as in fit.")
    ] = "auto",
    scoring: Scoring = "sum",
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Numbers of labels to learn from, each at least 20. Default: those of 20, 50, 100, 200, 500, ... below what is "
            "there.",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Text alone is called as good only if its log loss is certain to be worse by less than this share.",
        ),
    ] = 0.02,
    confidence: Annotated[
        float, typer.Option(help="Confidence of the intervals, and of all statements of the verdict together.")
    ] = 0.95,
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    cache: CacheOption = None,
    on_error: OnError = "raise",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the HTML page goes.")] = Path(
        "race.html"
    ),
    json: Annotated[bool, typer.Option("--json", help="Also write the numbers as JSON beside the page.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Also write it as Markdown beside the page.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random subsets, and of the shots.")] = 0,
) -> None:
    """Show what labelled rows buy: class frequencies, text alone, states alone, label words and the pool, by the same rows.

    The model is asked about each row once. The verdict says which of them to use, and whether more labels are worth their work.

    \b
    Example:
      llmclf race train.csv --text-column review --label-column mood --labels good,bad -o race.html
    """
    from ..classifier import LLMClassifier
    from ..display.drawing import imported
    from ..tables.files import read_table
    from ..tables.text_files import TextFormat

    frame = read_table(labelled, TextFormat(delimiter, encoding, bool(unescape_formulas)))
    y = labelled_column(frame, label_column)
    groups = None if group_column is None else column(frame, group_column, "--group-column")
    inclusion = labelled_inclusion(frame, inclusion_column)
    X = frame.drop(columns=label_column) if text_column is None else column(frame, text_column, "--text-column")
    # Checked first: none of this should fail after hours of scoring.
    open_cache(cache)
    imported("matplotlib")
    clf = LLMClassifier(
        open_with(model, backend_options),
        labels=typed_labels(parse_labels(labels), y),
        prompt=parse_prompt(prompt, chat),
        n_shots=shots,
        scoring=scoring,
        features=parse_features(features),
        calibrator=None if calibrator == "none" else calibrator,
        cache=cache,
        on_error=on_error,
        random_state=seed,
    )
    held = clf.race(
        X,
        y,
        groups=groups,
        inclusion=inclusion,
        sizes=_sizes(sizes),
        margin=margin,
        confidence=confidence,
        random_state=seed,
    )
    written = written_pages(held, output, json, md)
    for line in race_lines(held.to_dict()):
        say(line)
    say(f"race: {', '.join(map(str, written))}")


def race_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """The verdict and the table of a race, in lines of at most 80 characters."""
    from ..report.labels_worth import fixed3, price_note, price_texts, rows_note, signed3
    from ..report.verdict import percent

    yield from textwrap.wrap(data["verdict"]["text"], _WIDTH)
    yield ""
    yield f"{'':{_NAME}}  {'accuracy':>8}  {'log loss':>8}  {'beyond the pool':>22} {'price':>12}"
    for one in data["contestants"]:
        beyond, ends = one["vs_pool"], ""
        if one["name"] != "pool":
            ends = signed3(beyond["value"])
            if beyond["low"] is not None:
                ends += f" {signed3(beyond['low'])}..{signed3(beyond['high'])}"
        price = price_texts(one)[0].replace(",000 tokens", "k tok").replace("tokens", "tok")
        yield (
            f"{one['name'][:_NAME]:{_NAME}}  {percent(one['accuracy']['value']):>8}  {fixed3(one['log_loss']['value']):>8}  "
            f"{ends:>22} {price:>12}"
        )
    yield ""
    yield from textwrap.wrap(f"{rows_note(data)} {price_note(data)}", _WIDTH)


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--sizes {text!r}; expected whole numbers of labels separated by commas, such as 20,50,100"
        ) from None
