"""`llmclf inspect`."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, RenamedWarning, warn
from ..files.bounded_json import parsed_json
from .classify import is_given, saved_classifier
from .console import say, say_json
from .flags import EmbeddingOption, embedding_options, takes_model_options
from .options import (
    Chat,
    Labels,
    Model,
    PromptOption,
    Scoring,
    Trust,
    open_with,
    parse_labels,
    parse_prompt,
)


@takes_model_options
def inspect(
    *,
    ctx: typer.Context,
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT",
            help="The text to classify; for a classifier of tables a JSON object of its columns. Without --labels and "
            "--classifier it is the whole prompt, in which \\n is a line break.",
        ),
    ],
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A folder that fit saved: its model, prompt, labels and calibrator."),
    ] = None,
    embedding_option: EmbeddingOption = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    trust: Trust = False,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN=OFFSET",
            help="Add an offset to the logit of a token, as ' positive=+2' (mind the space) or of an id, as 'id:3967=-1'; may be "
            "given again.",
        ),
    ] = None,
    bias: Annotated[list[str] | None, typer.Option(metavar="TOKEN=OFFSET", hidden=True)] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(metavar="R", help="Make tokens of the prompt less likely: above 1.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="T", help="Divide the logits: 0 leaves the likeliest token, inf makes all alike."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Keep the K likeliest tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", help="Keep the fewest likeliest tokens that have the probability P together."),
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(metavar="P", help="Keep tokens at least P times as probable as the likeliest.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables for people.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write one HTML page with sliders instead of the tables."),
    ] = None,
) -> None:
    """Show why a text gets its label: what the model would say next, each label's tokens, and every step to the probability.

    Processors act in this order, whatever the order of the options: logit bias, repetition penalty, temperature, top-k, top-p,
    min-p.

    \b
    Examples:
      llmclf inspect 'I laughed.' --labels positive,negative --prompt 'Review: {{ text }}\\nSentiment:'
      llmclf inspect 'I laughed.' --classifier moods --html why.html
      llmclf inspect 'The capital of France is' --temperature 0.7 --top-k 20 --top-p 0.9 --logit-bias ' Paris=+2'
    """
    from ..inspector import explain, explain_prompt

    if bias:
        warn(
            "--bias TOKEN=OFFSET is now called --logit-bias TOKEN=OFFSET; the next version will not read the old name",
            RenamedWarning,
        )
    given = {
        "logit_bias": _offsets([*(logit_bias or ()), *(bias or ())]),
        "repetition_penalty": repetition_penalty,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    parsed = parse_labels(labels)
    of_embeddings = embedding_options(embedding_option, "--classifier FOLDER" if classifier is None else None)
    if classifier is not None:
        clf = saved_classifier(ctx, classifier, None, backend_options, of_embeddings, trust)
        explanation = explain(clf, _row(text) if clf.pipeline_.is_table else text, **given)
    elif parsed is not None:
        from ..classifier import LLMClassifier

        backend = open_with(model, backend_options)
        clf = LLMClassifier(backend, labels=parsed, prompt=parse_prompt(prompt, chat), scoring=scoring).fit([text])
        explanation = explain(clf, text, **given)
    elif prompt is not None or chat:
        raise InputError("--prompt and --chat need the classes: give --labels a,b,c, or the whole prompt as TEXT alone")
    elif is_given(ctx, "scoring"):
        raise InputError(f"--scoring {scoring} needs the classes: give --labels a,b,c")
    else:
        explanation = explain_prompt(open_with(model, backend_options), text.replace("\\n", "\n"), **given)
    if html is not None:
        explanation.to_html(html)
    if as_json:
        say_json(explanation.to_json().rstrip())
    elif html is not None:
        say(f"written to {html}")
    else:
        explanation.print()


def _offsets(given: list[str]) -> dict[str | int, float] | None:
    offsets: dict[str | int, float] = {}
    for text in given:
        # From the right: a token may be an equals sign.
        token, is_given, number = text.rpartition("=")
        try:
            offset = float(number)
        except ValueError:
            is_given = ""
        if not is_given or not token:
            raise InputError(f"--logit-bias {text!r}: expected TOKEN=OFFSET, such as ' positive=+2' or 'id:3967=-1'")
        key: str | int = token.replace("\\n", "\n")
        if token.startswith("id:"):
            if not token[3:].isdecimal():
                raise InputError(f"--logit-bias {text!r}: expected a token id after id:")
            key = int(token[3:])
        if key in offsets:
            raise InputError(f"--logit-bias names {token!r} twice")
        offsets[key] = offset
    return offsets or None


def _row(text: str) -> dict[str, Any]:
    try:
        row = parsed_json(text)
    except ValueError as error:
        raise InputError(
            f"the classifier was fitted on a table, so TEXT has to be a JSON object of its columns: {error}"
        ) from error
    if not isinstance(row, dict):
        raise InputError(
            f"the classifier was fitted on a table, so TEXT has to be a JSON object of its columns, not {reprlib.repr(row)}"
        )
    return row
