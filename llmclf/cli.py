"""The command line: `llmclf demo | fit | predict | report | cache`."""

from __future__ import annotations

import datetime
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .downloads import cache_dir
from .errors import InputError, LlmclfError, LlmclfWarning
from .prompts import Prompt
from .store import ScoreCache
from .tables import is_missing

if TYPE_CHECKING:
    from .classifier import LLMClassifier

app = typer.Typer(
    help="Label texts with a language model, with probabilities that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # in markup, [@revision] and the like would vanish from the help
)
cache_app = typer.Typer(
    help="Look at or empty a score cache (the file given as --cache).", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(cache_app, name="cache")

_out = Console()
_err = Console(stderr=True)

TextColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column that holds the texts; a prompt calls it text. Without this option the prompt may use every column "
        "by its name.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="The classes. A class may name its words: 'pos=good|great,neg=bad' asks the model for good, great and bad.",
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEMPLATE",
        help="What the model reads before the answer: a jinja2 template such as 'Review: {{ text }}\\nSentiment:', or @FILE "
        "that holds one. Default: one that lists the labels.",
    ),
]
Chat = Annotated[
    bool, typer.Option("--chat", help="Ask through the model's chat template; for models tuned to follow it.")
]
Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="smollm2 (fetched once), hf:org/name[@revision], hf:FOLDER of a transformers model, or gguf:FILE.",
    ),
]
Scoring = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How the words of a label are scored: sum (their log-probability), mean (the same per token), bytes (per byte) "
        "or pmi (minus their score without the text).",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FILE",
        help="Keep scores in this file, made if missing: a text is scored once per model and prompt, and interrupted work "
        "goes on where it stopped.",
    ),
]


@app.command(short_help="Classify film reviews, before and after calibration.")
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the reliability diagram goes (PNG).")] = Path(
        "reliability.png"
    ),
    page: Annotated[Path, typer.Option("--report", metavar="FILE", help="Where the report goes (HTML).")] = Path(
        "report.html"
    ),
    model: Model = "smollm2",
    calibration_rows: Annotated[int, typer.Option(min=20, help="Labelled reviews for the calibrator.")] = 300,
    test_rows: Annotated[int, typer.Option(min=20, max=2000, help="Held-out reviews to measure on.")] = 1000,
) -> None:
    """Classify real film reviews with a small model, before and after calibration. Takes two minutes on two cores."""
    from .demo import run_demo

    result = run_demo(
        output,
        page=page,
        model=model,
        n_calibration=calibration_rows,
        n_test=test_rows,
        report=lambda line: _say(_err, f"{line} ...", style="dim"),
    )
    table = Table(title=f"{result.n_test} held-out reviews, calibrated on {result.n_calibration}")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, title in (("accuracy", "accuracy"), ("log_loss", "log loss (nats)"), ("ece", "calibration error (ECE)")):
        table.add_row(title, f"{result.before[name]:.3f}", f"{result.after[name]:.3f}")
    _out.print(table)
    shifts = ", ".join(f"{label} {value:+.2f}" for label, value in result.bias.items())
    _say(_out, f"temperature {result.temperature:.2f}, bias {shifts}")
    _say(_out, result.verdict)
    _say(_out, f"{result.rows_per_second:.1f} rows/s; reliability diagram: {output}")
    _say(_out, f"report: {page.resolve()}")


@app.command(short_help="Fit a classifier on labelled rows and save it.")
def fit(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Labelled rows: a .csv, .jsonl or .parquet file.")],
    label_column: Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the class of every row.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the classifier is saved: a new folder.")
    ],
    text_column: TextColumn = None,
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
            help="What makes the probabilities honest, fitted on the rows that are no shots: auto, temperature, "
            "bias_temperature, vector, matrix, platt, beta, isotonic, venn_abers or none.",
        ),
    ] = "auto",
    bias: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What takes away a preference for some labels without looking at the labels of the rows: contextual, domain, "
            "batch, ucpa or none.",
        ),
    ] = "none",
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    cache: CacheOption = None,
    seed: Annotated[int, typer.Option(help="Another number draws other shots.")] = 0,
) -> None:
    """Choose shots and fit a calibrator on labelled rows, and save the classifier for predict --classifier.

    \b
    Example:
      llmclf fit train.csv --text-column review --label-column mood -o moods
    """
    from .classifier import LLMClassifier
    from .files import read_table
    from .saving import check_folder

    frame = read_table(train)
    y = _classes(frame, label_column)
    X = frame.drop(columns=label_column) if text_column is None else _column(frame, text_column, "--text-column")
    # What can go wrong after hours of scoring is tried before.
    check_folder(output)
    _open_cache(cache)
    clf = LLMClassifier(
        model,
        labels=_typed(_parse_labels(labels), y),
        prompt=_parse_prompt(prompt, chat),
        n_shots=shots,
        scoring=scoring,
        bias=None if bias == "none" else bias,
        calibrator=None if calibrator == "none" else calibrator,
        cache=cache,
        random_state=seed,
    )
    clf.fit(X, y)
    clf.save(output)
    names = ", ".join(map(str, clf.classes_.tolist()))
    _say(_out, f"fitted on {len(frame)} rows of the classes {names}; saved in {output}")


@app.command(short_help="Add labels and their probabilities to a table.")
def predict(
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

    \b
    Example:
      llmclf predict in.csv out.csv --text-column review --labels good,bad
    """
    from .files import check_suffix, check_writable, read_table, write_table

    check_suffix(target)
    clf = _saved(ctx, classifier, cache) if classifier is not None else None
    parsed = _parse_labels(labels)
    if clf is None and parsed is None:
        raise InputError("predict needs the classes: give --labels a,b,c or --classifier FOLDER")
    frame = read_table(source)
    X = frame if text_column is None else _column(frame, text_column, "--text-column")
    if clf is None:
        from .classifier import LLMClassifier

        clf = LLMClassifier(model, labels=parsed, prompt=_parse_prompt(prompt, chat), scoring=scoring, cache=cache)
        clf.fit(X)
    classes = clf.classes_.tolist()
    added = ["label", "confidence", *(f"p_{label}" for label in classes)]
    taken = [name for name in added if name in frame.columns]
    if taken:
        raise InputError(
            f"{str(source)!r} already has a column {taken[0]!r}, which predict would add; rename or drop it first"
        )
    # What can go wrong after hours of scoring is tried before.
    check_writable(frame.assign(label=[classes[i % len(classes)] for i in range(len(frame))]), target)
    _open_cache(cache)
    proba = clf.predict_proba(X)
    best = proba.argmax(axis=1)
    values: list[Any] = [clf.classes_[best], proba.max(axis=1), *proba.T]
    write_table(frame.assign(**dict(zip(added, values, strict=True))), target)
    _say(_out, f"labelled {len(frame)} rows; written to {target}")


@app.command(short_help="Say whether predictions can be trusted, in one HTML file.")
def report(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Rows with the columns p_CLASS that predict adds and with their true classes: .csv, .jsonl or .parquet.",
        ),
    ],
    label_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column that holds the true class; rows without one are left out.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the HTML page goes.")] = Path(
        "report.html"
    ),
    text_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Show this column beside the rows to look at.")
    ] = None,
    group_column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Look at each value of this column by itself; may be given again."),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Predictions for the same rows, in the same order, before calibration."),
    ] = None,
    max_error: Annotated[float, typer.Option(help="Share of errors allowed among automatically accepted rows.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="How sure that shall be, and all intervals.")] = 0.95,
    cost_error: Annotated[float, typer.Option(help="Cost of a wrong accepted row.")] = 10.0,
    cost_review: Annotated[float, typer.Option(help="Cost of a row that a person looks at.")] = 1.0,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Also write the numbers as JSON beside the page.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Also write it as Markdown beside the page.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the figures as PNG into this folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds what is drawn for intervals.")] = 0,
) -> None:
    """Write a report on labelled rows that neither the model's calibrator nor its shots have seen.

    \b
    Example:
      llmclf predict test.csv labelled.csv --text-column review --classifier moods
      llmclf report labelled.csv --label-column mood --text-column review -o report.html
    """
    from .files import read_table
    from .report import CalibrationReport

    frame = read_table(predictions)
    truth = _column(frame, label_column, "--label-column")
    classes, proba = _probabilities(frame, predictions)
    labels = [None if is_missing(value) or not str(value).strip() else str(value) for value in truth]
    if not any(label is not None for label in labels):
        raise InputError(f"--label-column {label_column!r} is empty in all rows; a report needs labelled rows")
    earlier = None
    if before is not None:
        names, earlier = _probabilities(read_table(before), before)
        if set(names) != set(classes) or len(earlier) != len(proba):
            raise InputError(
                f"{str(before)!r} has {len(earlier)} rows of the classes {names}, and {str(predictions)!r} {len(proba)} of "
                f"{classes}; give predictions for the same rows"
            )
        earlier = earlier[:, [names.index(name) for name in classes]]
    texts = None if text_column is None else _column(frame, text_column, "--text-column").tolist()
    groups = {name: _column(frame, name, "--group-column").tolist() for name in group_column or []}
    mass = None
    if "label_mass" in frame.columns:
        mass = [_number(value, "label_mass", row) for row, value in enumerate(frame["label_mass"])]
    made = CalibrationReport(
        labels,
        proba,
        classes=classes,
        proba_before=earlier,
        groups=groups or None,
        texts=texts,
        label_mass=mass,
        metadata={
            "predictions": str(predictions),
            "before": None if before is None else str(before),
            "label_column": label_column,
        },
        title=title or f"Calibration of {predictions.name}",
        max_error=max_error,
        confidence=confidence,
        cost_error=cost_error,
        cost_review=cost_review,
        random_state=seed,
    )
    made.to_html(output)
    written = [output]
    if json:
        written.append(output.with_suffix(".json"))
        made.to_json(written[-1])
    if md:
        written.append(output.with_suffix(".md"))
        made.to_markdown(written[-1])
    if png is not None:
        written += made.to_png(png)
    _say(_out, made.verdict)
    _say(_out, f"report: {', '.join(map(str, written))}")


@cache_app.command("info", short_help="Show how much a cache holds.")
def cache_info(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Show how many scores a cache holds, how large it is, and from when they are."""
    info = _existing_cache(path).info()
    _say(_out, f"{info['path']}: {info['rows']} rows of scores, {info['bytes'] / 1e6:.1f} MB")
    if info["rows"]:
        first, last = (
            datetime.datetime.fromtimestamp(info[name]).isoformat(" ", "minutes") for name in ("oldest", "newest")
        )
        _say(_out, f"from {first} to {last}")
    _say(_out, f"models and data are kept in {cache_dir()}")


@cache_app.command("clear", short_help="Forget all scores of a cache.")
def cache_clear(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Forget all scores of a cache, without asking; the file stays, empty."""
    removed = _existing_cache(path).clear()
    _say(_out, f"removed {removed} rows of scores from {path}")


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
    _say(_err, "interrupted; with --cache, what was scored so far is kept")
    raise SystemExit(130)


def _fail(error: Exception, code: int) -> None:
    _say(_err, str(error), "error:", "bold red")
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, LlmclfWarning):
        _say(_err, str(message), "warning:", "yellow")


def _say(console: Console, text: str, title: str = "", title_style: str = "", *, style: str = "") -> None:
    """One line, in which users' words (labels, paths) are no markup."""
    line = Text(" ".join(text.splitlines()), style)
    if title:
        line = Text.assemble((title, title_style), " ", line)
    console.print(line, soft_wrap=True)


def _column(frame: Any, name: str, option: str) -> Any:
    if name not in frame.columns:
        raise InputError(
            f"{option} {name!r} is no column of the table; its columns: {', '.join(map(repr, frame.columns))}"
        )
    return frame[name]


def _probabilities(frame: Any, path: Path) -> tuple[list[str], Any]:
    """The classes and their probabilities (n, K), NaN in rows that could not be scored."""
    columns = [name for name in frame.columns if name.startswith("p_")]
    if len(columns) < 2:
        raise InputError(
            f"{str(path)!r} has no columns p_CLASS with the probabilities of at least two classes, as predict adds them; its "
            f"columns: {', '.join(map(repr, frame.columns))}"
        )
    values = [[_number(value, name, i) for i, value in enumerate(frame[name])] for name in columns]
    return [name.removeprefix("p_") for name in columns], np.array(values).T


def _number(value: Any, column: str, row: int) -> float:
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"column {column!r}, row {row}: {value!r} is no number") from None


def _classes(frame: Any, name: str) -> Any:
    y = _column(frame, name, "--label-column")
    for number, value in enumerate(y):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise InputError(f"--label-column {name!r} is empty in row {number}; drop the rows without a label")
    return y


def _saved(ctx: typer.Context, folder: Path, cache: Path | None) -> LLMClassifier:
    """The classifier of a folder, unless options were given that it would not heed."""
    for name in ("labels", "prompt", "chat", "scoring", "model"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name} belongs to a new classifier; --classifier {str(folder)!r} has its own")
    from .classifier import load

    return load(folder, cache=cache)


def _typed(labels: dict[str, list[str]] | None, y: Any) -> dict[Any, list[str]] | None:
    """Labels as the table has them: a JSONL file may hold the number 1 where a command line can only say "1"."""
    if labels is None:
        return None
    values = {str(value): value for value in y}
    return {values.get(name, name): words for name, words in labels.items()}


def _parse_labels(text: str | None) -> dict[str, list[str]] | None:
    if text is None:
        return None
    labels: dict[str, list[str]] = {}
    for part in text.split(","):
        name, is_given, words = (piece.strip() for piece in part.partition("="))
        if not name:
            raise InputError(f"--labels {text!r} has an empty class; give names separated by single commas")
        if name in labels:
            raise InputError(f"--labels names {name!r} twice")
        labels[name] = [word.strip() for word in words.split("|")] if is_given else [name]
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


def _open_cache(path: Path | None) -> None:
    """Make or check the cache file."""
    if path is not None:
        ScoreCache(path)
