"""The command line: `llmclf demo | fit | predict | cache`."""

from __future__ import annotations

import datetime
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .classifier import LLMClassifier, load
from .downloads import cache_dir
from .errors import InputError, LlmclfError, LlmclfWarning
from .files import check_suffix, read_table, write_table
from .prompts import Prompt
from .store import ScoreCache

app = typer.Typer(
    help="Label texts with a language model, with probabilities that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cache_app = typer.Typer(help="Look at or empty a score cache.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

_out = Console()
_err = Console(stderr=True)

TextColumn = Annotated[
    str | None,
    typer.Option(help="The column that holds the texts. Without it every column is a field that the prompt may use."),
]
Labels = Annotated[
    str | None,
    typer.Option(help="The classes, separated by commas. A class may name its words: 'pos=good|great,neg=bad'."),
]
PromptOption = Annotated[
    str | None,
    typer.Option("--prompt", help="The prompt, a jinja2 template such as 'Review: {{ text }}\\nSentiment:', or @FILE."),
]
Chat = Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")]
Model = Annotated[
    str, typer.Option(help="smollm2 (fetched once), hf:org/name[@revision], hf:folder or gguf:path of a GGUF file.")
]
Scoring = Annotated[str, typer.Option(help="sum, mean, bytes or pmi.")]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="A score cache: no text is scored twice with one prompt and model.")
]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the reliability diagram goes (PNG).")] = Path(
        "reliability.png"
    ),
    model: Model = "smollm2",
    calibration_rows: Annotated[int, typer.Option(min=20, help="Labelled reviews for the calibrator.")] = 300,
    test_rows: Annotated[int, typer.Option(min=20, max=2000, help="Held-out reviews to measure on.")] = 1000,
) -> None:
    """Classify real film reviews with a small model, before and after calibration. Takes two minutes on two cores."""
    from .demo import run_demo

    result = run_demo(
        output,
        model=model,
        n_calibration=calibration_rows,
        n_test=test_rows,
        report=lambda line: _err.print(f"[dim]{escape(line)} ...[/dim]"),
    )
    table = Table(title=f"{result.n_test} held-out reviews, calibrated on {result.n_calibration}")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, title in (("accuracy", "accuracy"), ("log_loss", "log loss (nats)"), ("ece", "calibration error (ECE)")):
        table.add_row(title, f"{result.before[name]:.3f}", f"{result.after[name]:.3f}")
    _out.print(table)
    shifts = ", ".join(f"{label} {value:+.2f}" for label, value in result.bias.items())
    _out.print(f"temperature {result.temperature:.2f}, bias {shifts}")
    _out.print(f"{result.rows_per_second:.1f} rows/s; reliability diagram: {output}", soft_wrap=True)


@app.command()
def fit(
    train: Annotated[Path, typer.Argument(help="Labelled rows: CSV, JSONL or Parquet.")],
    label_column: Annotated[str, typer.Option(help="The column that holds the class of every row.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder that the classifier is saved in.")],
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    shots: Annotated[int, typer.Option(min=0, help="Labelled examples put into every prompt.")] = 0,
    calibrator: Annotated[str, typer.Option(help="bias_temperature, temperature or none.")] = "bias_temperature",
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    cache: CacheOption = None,
    seed: Annotated[int, typer.Option(help="Draws the shots.")] = 0,
) -> None:
    """Choose shots and fit a calibrator on labelled rows, and save the classifier for `predict --classifier`."""
    frame = read_table(train)
    y = _column(frame, label_column, "--label-column")
    clf = LLMClassifier(
        model,
        labels=_parse_labels(labels),
        prompt=_parse_prompt(prompt, chat),
        n_shots=shots,
        scoring=scoring,
        calibrator=None if calibrator == "none" else calibrator,
        cache=cache,
        random_state=seed,
    )
    X = frame.drop(columns=label_column) if text_column is None else _column(frame, text_column, "--text-column")
    clf.fit(X, y)
    clf.save(output)
    names = ", ".join(map(str, clf.classes_.tolist()))
    _out.print(
        f"fitted on {len(frame)} rows of the classes {escape(names)}; saved in {escape(str(output))}", soft_wrap=True
    )


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to label: CSV, JSONL or Parquet.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same rows with their labels, by its suffix.")],
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    classifier: Annotated[
        Path | None, typer.Option(help="A folder that `fit` saved; replaces the options above.")
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Add the columns label, confidence and p_CLASS (the probability of each class) to a table."""
    check_suffix(target)
    frame = read_table(source)
    if classifier is not None:
        given = [name for name, value in (("--labels", labels), ("--prompt", prompt), ("--chat", chat)) if value]
        if given:
            raise InputError(f"{given[0]} belongs to a new classifier; --classifier {str(classifier)!r} has its own")
        clf = load(classifier, cache=cache)
    else:
        parsed = _parse_labels(labels)
        if parsed is None:
            raise InputError("predict needs the classes: give --labels a,b,c or --classifier FOLDER")
        clf = LLMClassifier(model, labels=parsed, prompt=_parse_prompt(prompt, chat), scoring=scoring, cache=cache)
    X = frame if text_column is None else _column(frame, text_column, "--text-column")
    if classifier is None:
        clf.fit(X)
    added = ["label", "confidence", *(f"p_{label}" for label in clf.classes_.tolist())]
    taken = [name for name in added if name in frame.columns]
    if taken:
        raise InputError(
            f"{str(source)!r} already has a column {taken[0]!r}, which predict would add; rename or drop it first"
        )
    proba = clf.predict_proba(X)
    best = np.argmax(proba, axis=1)
    values: list[Any] = [clf.classes_[best], proba.max(axis=1), *proba.T]
    write_table(frame.assign(**dict(zip(added, values, strict=True))), target)
    _out.print(f"labelled {len(frame)} rows; written to {escape(str(target))}", soft_wrap=True)


@cache_app.command("info")
def cache_info(path: Annotated[Path, typer.Argument(help="The score cache.")]) -> None:
    """How many scores a cache holds, how large it is, and from when they are."""
    info = _existing_cache(path).info()
    _out.print(f"{info['path']}: {info['rows']} rows of scores, {info['bytes'] / 1e6:.1f} MB", soft_wrap=True)
    if info["rows"]:
        first, last = (
            datetime.datetime.fromtimestamp(info[name]).isoformat(" ", "minutes") for name in ("oldest", "newest")
        )
        _out.print(f"from {first} to {last}")
    _out.print(f"models and data are kept in {cache_dir()}", soft_wrap=True)


@cache_app.command("clear")
def cache_clear(path: Annotated[Path, typer.Argument(help="The score cache.")]) -> None:
    """Forget all scores of a cache."""
    removed = _existing_cache(path).clear()
    _out.print(f"removed {removed} rows of scores from {escape(str(path))}", soft_wrap=True)


def main() -> None:
    """Run the command line; a user's error is one line and exit code 2, a failure 1, Ctrl-C 130."""
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except InputError as error:
        _fail(error, 2)
    except LlmclfError as error:
        _fail(error, 1)


def _interrupt(*_: Any) -> None:
    # An exit, not KeyboardInterrupt, which typer would report as an ordinary failure.
    _err.print("interrupted; with --cache, what was scored so far is kept")
    raise SystemExit(130)


def _fail(error: Exception, code: int) -> None:
    _err.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, LlmclfWarning):
        _err.print(f"[yellow]warning:[/yellow] {escape(str(message))}", soft_wrap=True)


def _column(frame: Any, name: str, option: str) -> Any:
    if name not in frame.columns:
        raise InputError(
            f"{option} {name!r} is no column of the table; its columns: {', '.join(map(repr, frame.columns))}"
        )
    return frame[name]


def _parse_labels(text: str | None) -> dict[str, list[str]] | None:
    if text is None:
        return None
    labels: dict[str, list[str]] = {}
    for part in text.split(","):
        name, _, words = part.strip().partition("=")
        if name in labels:
            raise InputError(f"--labels names {name!r} twice")
        labels[name] = words.split("|") if words else [name]
    return labels


def _parse_prompt(text: str | None, chat: bool) -> Prompt | None:
    if text is None:
        return Prompt(chat=True) if chat else None
    if text.startswith("@"):
        try:
            template = Path(text[1:]).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeError) as error:
            raise InputError(f"the prompt file {text[1:]!r} cannot be read: {error}") from error
    else:
        # A shell passes \n as two characters.
        template = text.replace("\\n", "\n")
    return Prompt(template, chat=chat)


def _existing_cache(path: Path) -> ScoreCache:
    if not path.is_file():
        raise InputError(f"{str(path)!r} is no file; give the path that was given as --cache")
    return ScoreCache(path)
