"""`llmclf fit` and `llmclf predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..tables.values import is_missing
from .console import say
from .flags import takes_model_options
from .options import (
    CacheOption,
    Chat,
    Labels,
    Model,
    PromptOption,
    Scoring,
    TextColumn,
    column,
    open_cache,
    open_with,
    parse_labels,
    parse_prompt,
)

if TYPE_CHECKING:
    from ..calibration import SelectedThreshold
    from ..classifier import LLMClassifier


@takes_model_options
def fit(
    *,
    ctx: typer.Context,
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Labelled rows: a .csv, .jsonl or .parquet file.")],
    label_column: Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the class of every row.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the classifier is saved: a new folder.")
    ],
    text_column: TextColumn = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column that says what each row belongs to, such as its author or thread: rows of one group never calibrate "
            "each other. Copies of a text belong together without it.",
        ),
    ] = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    shots: Annotated[
        int, typer.Option(min=0, help="How many labelled rows are put into every prompt as examples.")
    ] = 0,
    calibrator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How probabilities are calibrated, on the rows that are not shots: auto, temperature, "
            "bias_temperature, vector, matrix, platt, beta, isotonic, venn_abers or none.",
        ),
    ] = "auto",
    bias: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How a preference for some labels is removed without looking at the labels of the rows: contextual, domain, "
            "generative, batch, ucpa or none.",
        ),
    ] = "none",
    scoring: Scoring = "sum",
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Choose the confidence from which rows are accepted so that at most this share of them is wrong, such as 0.05. "
            "predict then adds the column accepted. By default no threshold is chosen.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence with which --max-error holds.")] = 0.95,
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    cache: CacheOption = None,
    seed: Annotated[int, typer.Option(help="Seed: another number draws other shots.")] = 0,
) -> None:
    """Choose shots and fit a calibrator on labelled rows, and save the classifier for predict --classifier.

    \b
    Example:
      llmclf fit train.csv --text-column review --label-column mood -o moods
    """
    from ..calibration.selective import check_selectable
    from ..classifier import LLMClassifier
    from ..saved_folder import check_folder
    from ..tables.files import read_table

    frame = read_table(train)
    y = _classes(frame, label_column)
    groups = None if group_column is None else column(frame, group_column, "--group-column")
    X = frame.drop(columns=label_column) if text_column is None else column(frame, text_column, "--text-column")
    # Checked first: none of this should fail after hours of scoring.
    check_folder(output)
    open_cache(cache)
    if max_error is not None:
        if calibrator == "none":
            raise InputError("--max-error needs a calibrator, on whose cross-fitted probabilities it is chosen")
        check_selectable(max(0, len(frame) - shots), max_error, confidence)
    elif is_given(ctx, "confidence"):
        raise InputError(f"--confidence {confidence} says how sure --max-error is to hold; give --max-error as well")
    clf = LLMClassifier(
        open_with(model, backend_options),
        labels=_typed(parse_labels(labels), y),
        prompt=parse_prompt(prompt, chat),
        n_shots=shots,
        scoring=scoring,
        bias=None if bias == "none" else bias,
        calibrator=None if calibrator == "none" else calibrator,
        cache=cache,
        random_state=seed,
    )
    clf.fit(X, y, groups=groups)
    clf.save(output)
    names = ", ".join(map(str, clf.classes_.tolist()))
    say(f"fitted on {len(frame)} rows of the classes {names}; saved in {output}")
    if max_error is not None:
        chosen = clf.fit_threshold(max_error=max_error, confidence=confidence).threshold_
        assert chosen is not None
        clf.save(output)
        say(_promise(chosen))


@takes_model_options
def predict(
    *,
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to label: a .csv, .jsonl or .parquet file.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The same rows with their labels: .csv, .jsonl or .parquet.")
    ],
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder that fit saved; it stands for --labels, --prompt, --chat, --scoring and --model.",
        ),
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Add the columns label, confidence and p_CLASS (the probability of each class) to a table.

    A classifier that was fitted with --max-error also adds accepted: whether the confidence is high enough.

    \b
    Example:
      llmclf predict in.csv out.csv --text-column review --labels good,bad
    """
    from ..tables.files import check_suffix, check_writable, read_table, write_table

    check_suffix(target)
    clf = None
    if classifier is not None:
        clf = saved_classifier(ctx, classifier, cache, backend_options)
    parsed = parse_labels(labels)
    if clf is None and parsed is None:
        raise InputError("predict needs the classes: give --labels a,b,c or --classifier FOLDER")
    frame = read_table(source)
    X = frame if text_column is None else column(frame, text_column, "--text-column")
    if clf is None:
        from ..classifier import LLMClassifier

        backend = open_with(model, backend_options)
        clf = LLMClassifier(backend, labels=parsed, prompt=parse_prompt(prompt, chat), scoring=scoring, cache=cache)
        clf.fit(X)
    classes = clf.classes_.tolist()
    accepting = ["accepted"] if clf.threshold_ is not None else []
    added = ["label", "confidence", *accepting, *(f"p_{label}" for label in classes)]
    taken = [name for name in added if name in frame.columns]
    if taken:
        raise InputError(
            f"{str(source)!r} already has a column {taken[0]!r}, which predict would add; rename or drop it first"
        )
    # Checked first: none of this should fail after hours of scoring.
    check_writable(frame.assign(label=[classes[i % len(classes)] for i in range(len(frame))]), target)
    open_cache(cache)
    proba = clf.predict_proba(X)
    best = proba.argmax(axis=1)
    top = proba.max(axis=1)
    accepted = [] if clf.threshold_ is None else [top >= clf.threshold_.threshold]
    values: list[Any] = [clf.classes_[best], top, *accepted, *proba.T]
    write_table(frame.assign(**dict(zip(added, values, strict=True))), target)
    say(f"labelled {len(frame)} rows; written to {target}")


def _classes(frame: Any, name: str) -> Any:
    y = column(frame, name, "--label-column")
    for number, value in enumerate(y):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise InputError(f"--label-column {name!r} is empty in row {number}; drop the rows without a label")
    return y


def saved_classifier(ctx: typer.Context, folder: Path, cache: Path | None, options: dict[str, Any]) -> LLMClassifier:
    """The classifier of a folder, unless options were given that it would ignore."""
    for name in ("labels", "prompt", "chat", "scoring", "model"):
        if is_given(ctx, name):
            raise InputError(f"--{name} belongs to a new classifier; --classifier {str(folder)!r} has its own")
    from ..loading import load

    return load(folder, cache=cache, model_options=options)


def is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _promise(chosen: SelectedThreshold) -> str:
    """The effect of the threshold, in one line."""
    budget = f"at most {100 * chosen.max_error:.4g} % of them wrong ({100 * chosen.confidence:.4g} % confidence"
    if not chosen.n_accepted:
        return f"accepts no rows: at no confidence are {budget})"
    share = f"{100 * chosen.coverage:.3g} % of {chosen.n_rows}"
    return f"accepts rows from confidence {chosen.threshold:.4g} on: {share}, {budget}, approximately, as cross-fitted)"


def _typed(labels: dict[str, list[str]] | None, y: Any) -> dict[Any, list[str]] | None:
    """Labels as the table has them: a JSONL file may hold the number 1 where a command line can only say "1"."""
    if labels is None:
        return None
    values = {str(value): value for value in y}
    return {values.get(name, name): words for name, words in labels.items()}
