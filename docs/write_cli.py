"""Writes reference/cli.md from the command line itself: `python docs/write_cli.py`. A test compares the two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from llmclf.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
HEAD = """\
# Command line

The program `llmclf` and `python -m llmclf` are the same. Every command shows this text with `--help`. Its
[exit code](errors.md#exit-codes-of-the-command-line) says how a command ended.

<!-- Written by docs/write_cli.py. Change the help texts in llmclf/cli/, and run it again. -->
"""


def cli_page() -> str:
    """The page, as text."""
    group = typer.main.get_command(app)
    context = group.make_context("llmclf", [], resilient_parsing=True)
    parts = [HEAD, *_table("option", group, context)]
    for name, command in _commands(group, context):
        parts += _section(name, command, context)
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, context: Any) -> Iterator[tuple[str, Any]]:
    """Every command with its full name, those of groups included."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            inner = command.make_context(name, [], parent=context, resilient_parsing=True)
            yield from (
                (f"{name} {below}", found) for below, found in _commands(command, inner)
            )
        else:
            yield name, command


def _section(name: str, command: Any, parent: Any) -> list[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    usage = " ".join(piece.strip("{}") for piece in command.collect_usage_pieces(context))
    prose, examples = _help(command.help or "")
    lines = [f"## llmclf {name}", "", *prose, f"```text\nllmclf {name} {usage}\n```", ""]
    for kind in ("argument", "option"):
        lines += _table(kind, command, context)
    if examples:
        lines += ['```bash title="needs files of these names"', *examples, "```", ""]
    return lines


def _table(kind: str, command: Any, context: Any) -> list[str]:
    """Arguments or options of a command, in the words of its help."""
    params = [
        param
        for param in command.get_params(context)
        if param.param_type_name == kind and param.name != "help"
    ]
    records = [
        record for param in params if (record := param.get_help_record(context)) is not None
    ]
    if not records:
        return []
    rows = [
        f"| `{name.replace('|', chr(92) + '|')}` | {_cell(text)} |" for name, text in records
    ]
    return [f"| {kind} | meaning |", "|---|---|", *rows, ""]


def _help(text: str) -> tuple[list[str], list[str]]:
    """The paragraphs of a command's help, and the command lines of its examples."""
    paragraphs, examples = [], []
    for block in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines and lines[0].startswith("Example"):
            examples += lines[1:]
        elif any(lines):
            paragraphs += [_cell(" ".join(lines)), ""]
    return paragraphs, examples


def _cell(text: str) -> str:
    """Prose in a page: pipes would end a cell, angle brackets a tag, braces mean nothing to Markdown."""
    text = " ".join(text.split())
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("*", "\\*")
        .replace("_", "\\_")
    )


if __name__ == "__main__":
    PAGE.write_text(cli_page(), encoding="utf-8")
