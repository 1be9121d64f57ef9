"""Options that several commands share, how their texts are read, and what is written for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..backends import Backend, open_backend
from ..errors import InputError, SavedAddressError
from ..files.faults import file_fault
from ..prompts.prompt import Prompt
from ..tables.text_files import other_delimiter
from .flags import ModelOption, model_options, parsed_flags, server_options

__all__ = ["ApiKeyEnv", "BaseUrl", "ModelOption"]

TextColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column that holds the texts; a prompt calls it text. Without this option the prompt may use every column "
        "by its name.",
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column that says what each row belongs to, such as its author or thread: rows of one group never calibrate "
        "or judge each other. Copies of a text belong together without it.",
    ),
]
ClusterColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column that says what each row belongs to, such as its author: rows of one cluster may be alike, so bounds and "
        "intervals count clusters, not rows.",
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
        help="smollm2 (fetched once), hf:org/name[@revision], hf:FOLDER of a transformers model, gguf:FILE, or a server's: "
        "openai:NAME, anthropic:NAME, gemini:NAME, mistral:NAME, ollama:NAME (and other providers), systemone:NAME, "
        "decisions:NAME.",
    ),
]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help=server_options()["base_url"].option.help)]
ApiKeyEnv = Annotated[str | None, typer.Option(metavar="VARIABLE", help=server_options()["api_key_env"].option.help)]
Scoring = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How the words of a label are scored: sum (their log-probability), mean (the same per token), bytes (per byte) "
        "or pmi (minus their score without the text).",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Begins the name of every added column. By default a column whose name is taken is called predicted_NAME.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Follow what a saved classifier or a job file says about servers: where texts go, and which key. Otherwise texts "
        "leave this machine, and keys are sent, only where --base-url and --api-key-env or the environment say so, too.",
    ),
]
UnescapeFormulas = Annotated[
    bool | None,
    typer.Option(
        "--unescape-formulas", help="The CSV input was written with --escape-formulas: read it as it was before."
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHARACTER",
        help="What stands between the cells of the CSV input, such as ';', or '\\t' for a tab. Default: a comma, and a tab in "
        "files that end with .tsv.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The encoding of the input's text, such as cp1252 or utf-16. Default: utf-8."),
]
OnError = Annotated[
    str,
    typer.Option(
        metavar="raise|missing",
        help="What a row does that cannot be scored, such as a blank text: stop before anything is asked, or be left "
        "without a label.",
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


def column(frame: Any, name: str, option: str) -> Any:
    if name not in frame.columns:
        raise InputError(
            f"{option} {name!r} is not a column of the table; its columns: {', '.join(map(repr, frame.columns))}"
            f"{other_delimiter(list(frame.columns))}"
        )
    return frame[name]


def open_model(model: str, base_url: str | None, api_key_env: str | None, given: list[str] | None) -> str | Backend:
    """The model string, or its backend where options were given.

    Raises
    ------
    UnknownOptionError
        The backend does not have an option.
    """
    return open_with(
        model, {**parsed_flags({"base_url": base_url, "api_key_env": api_key_env}), **model_options(given)}
    )


def open_with(model: str, options: dict[str, Any]) -> str | Backend:
    """The model string, or its backend where there are options.

    Raises
    ------
    UnknownOptionError
        The backend does not have an option.
    """
    return open_backend(model, **options) if options else model


@contextmanager
def cured_by_flags() -> Iterator[None]:
    """In this block, what a file alone says about servers is refused with the flags that would allow it."""
    try:
        yield
    except SavedAddressError as error:
        if error.options_of == "model":
            flags = [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in error.words.items()]
            without_key = "--api-key-env ''"
        else:
            flags = [f"--embedding-option {shlex.quote(f'{name}={value}')}" for name, value in error.words.items()]
            without_key = "--embedding-option api_key_env="
        note = f"; {without_key} sends no key" if "api_key_env" in error.words else ""
        cure = f"--trust, or {' '.join(flags)}{note}"
        raise SavedAddressError(error.problem, cure, error.words, error.options_of) from None


def parse_labels(text: str | None) -> dict[str, list[str]] | None:
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


def parse_prompt(text: str | None, chat: bool) -> Prompt | None:
    if text is None:
        return Prompt(chat=True) if chat else None
    if text.startswith("@"):
        file = Path(text[1:])
        fault = file_fault(file) if file.is_file() and file.stat().st_size else None
        if fault is not None:
            raise InputError(f"the prompt file {text[1:]!r} {fault}")
        try:
            template = file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeError) as error:
            raise InputError(f"the prompt file {text[1:]!r} cannot be read: {error}") from error
    else:
        # A shell passes \n as two characters.
        template = text.replace("\\n", "\n")
    return Prompt(template, chat=chat)


def parse_features(text: str) -> list[str]:
    """The names of feature sets, which whoever learns from them checks."""
    return [name.strip() for name in text.split(",")]


def open_cache(path: Path | None) -> None:
    """Make or check the cache file."""
    if path is not None:
        from ..scoring.score_cache import ScoreCache

        ScoreCache(path)


def written_pages(made: Any, page: Path, json: bool, md: bool) -> list[Path]:
    """Write a report or a race as a page, and beside it as JSON and Markdown where that is wished; the files."""
    made.to_html(page)
    files = [page]
    if json:
        files.append(page.with_suffix(".json"))
        made.to_json(files[-1])
    if md:
        files.append(page.with_suffix(".md"))
        made.to_markdown(files[-1])
    return files
