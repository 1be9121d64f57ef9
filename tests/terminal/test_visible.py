"""What cannot be seen is written out wherever text leaves for a terminal, and nothing else is changed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import subprocess
import sys
import unicodedata
import warnings

import pandas as pd
import pytest
from faults import FakeServer, Status
from hypothesis import given
from hypothesis import strategies as st

from llmclf.cli.console import VisibleFormatter
from llmclf.errors import InputError, LlmclfWarning, ServerError, StoreError, warn
from llmclf.progress import Bar, Lines, TerminalDisplay
from llmclf.tables.files import write_table
from llmclf.terminal.visible import visible, visible_json, visible_line

SHOWN_MARKS = set(map(chr, [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD]))
"""Marks that Unicode counts as formatting, and that are seen: signs before Arabic, Syriac and Kaithi numbers."""
EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnp.exe\u2066\u200b\u2028\U000e0041\x7f\rall is well"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
UNSEEN = frozenset(c for c in map(chr, range(0x110000)) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"))
ORDINARY = [
    "naïve café, Straße, \u00a0non\u2011breaking",
    "e\u0301 as two characters",
    "東京 \u845b\U000e0100 한국어 ไทย",
    "می\u200cخواهم",
    "क्\u200dष श्\u200cर",
    "👩\u200d🚀 👩🏽\u200d💻 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈 🇩🇪",
    "עברית and العربية \u0600\u0661",
    "two\nlines",
    r"a \x1b that somebody wrote",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    """Accents, scripts of the world with their joiners, emoji of several characters and line breaks are as they were."""
    assert visible(text) == text


@given(st.text(st.characters()))
def test_nothing_unseen_is_left(text):
    """What is left of unseen characters are line breaks, and joiners and selectors that form the character beside them."""
    shown = visible(text)
    left = {character for character in shown if character in UNSEEN} - {"\n", "\u200c", "\u200d"} - SHOWN_MARKS
    assert not left
    assert visible(shown) == shown
    assert "\n" not in visible_line(text)


def test_every_character_that_unicode_calls_unseen_is_known():
    """By itself, each control, format, surrogate and separator character is written out, in ASCII; only a line break is not."""
    passed = {character for character in UNSEEN if visible(f"a{character}b") == f"a{character}b"}
    assert passed == {"\n", *SHOWN_MARKS}
    assert all(visible(character).isascii() for character in UNSEEN - SHOWN_MARKS)


@pytest.mark.parametrize(
    "text", ["a\u200db", "é\u200cé", "\u200d🚀", "👩\u200d", "a\ufe0f\ufe0f", " \ufe0f", "x\U000e0100"]
)
def test_joiners_that_join_nothing_are_shown(text):
    """Between letters that do not join, and where there is nothing to join, such a character only hides something."""
    assert visible(text) != text


@given(st.recursive(st.text(st.characters()), st.lists) | st.dictionaries(st.text(), st.text()))
def test_a_json_document_keeps_its_values(value):
    """However it was written, it is read as before, and shows nothing unseen."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        shown = visible_json(text)
        assert json.loads(shown) == json.loads(text)
        assert visible(shown) == shown


@pytest.mark.parametrize("kind", [InputError, ServerError, StoreError])
def test_errors_and_warnings(kind):
    """Whoever prints or logs one of our errors or warnings prints nothing unseen; a line break that we wrote stays."""
    assert str(kind(f"no:\n{EVIL}")) == f"no:\n{visible(EVIL)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(EVIL, LlmclfWarning)
    assert str(caught[0].message) == visible(EVIL)


def test_log_lines():
    """A record of another library, such as of a connection that broke, shows what a server said and does not obey it."""
    record = logging.LogRecord("asyncio", logging.ERROR, "file.py", 1, "server said %s", (EVIL,), None)
    assert VisibleFormatter().format(record) == f"server said {visible(EVIL)}"


def test_progress(capsys, monkeypatch):
    """The names of stages and what a job says of its files are shown on one line each."""
    said: list[str] = []
    lines = Lines(said.append)
    lines.say(f"reading {EVIL}\nforged")
    lines.begin(1, EVIL)
    lines.advance(1)
    lines.end()
    assert said[0] == f"reading {visible(EVIL)}\\nforged"
    assert said[1].startswith(f"{visible(EVIL)} 1 of 1 ")
    monkeypatch.setenv("FORCE_COLOR", "1")
    bar = Bar(TerminalDisplay())
    bar.say(EVIL)
    bar.begin(2, EVIL)
    bar.advance(1)
    bar.end()
    shown = capsys.readouterr().err
    assert "\\u202e" in shown
    assert not {"\u202e", "\u2066", "\u200b", "\x07", "\x9b", "\u2028"} & set(shown)
    assert "\x1b[31mred" not in shown


_PROGRAM = """
import json, os, sys, traceback
import llmclf.cli
def broken() -> None:
    raise RuntimeError(os.environ["EVIL"])
llmclf.cli.app.command(hidden=True)(broken)
for arguments in json.loads(os.environ["COMMANDS"]):
    sys.argv = ["llmclf", *arguments]
    try:
        llmclf.cli.main()
    except SystemExit:
        pass
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    print("-" * 20, flush=True)
"""


def in_a_terminal(*commands: tuple[str, ...]) -> list[str]:
    """What each of these commands writes on a real terminal; all in one process, which is faster."""
    leader, follower = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "200", "COMMANDS": json.dumps(commands), "EVIL": EVIL}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, **settings},
    )
    os.close(follower)
    written = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(leader, 65536):
            written += piece
    os.close(leader)
    process.wait()
    shown = written.decode().split("-" * 20 + "\r\n")
    assert len(shown) == len(commands) + 1
    return shown[:-1]


def assert_harmless(shown: str) -> None:
    """Colours and line breaks are all that a terminal is told."""
    rest = COLOURS.sub("", shown).replace("\r\n", "\n")
    assert not {character for character in rest if character in UNSEEN} - {"\n"}, repr(shown)
    assert "\x1b[31mred" not in shown


def test_a_terminal_is_told_nothing_by_files(tmp_path):
    """File names, column names, labels and cells of a table, and the names in a job file, in errors of every kind."""
    evil = EVIL.replace("/", "")
    table = tmp_path / f"{evil}.csv"
    write_table(pd.DataFrame({"text": ["good"], evil: [evil]}), table)
    job = tmp_path / "job.toml"
    job.write_text(f"{json.dumps('k' + evil)} = 1\n", encoding="utf-8")
    binary = tmp_path / os.fsdecode(b"\xff\x1b[31mred.csv")
    binary.write_bytes(b"a,b\n1,2\n")
    out = str(tmp_path / f"out{evil}.csv")
    labels = ("--labels", "a,b")
    shown = in_a_terminal(
        ("predict", str(table), out, *labels, "--text-column", "no"),
        ("predict", str(binary), out, *labels, "--text-column", "no"),
        ("predict", str(table), out, evil),
        (f"--{evil}",),
        ("label", "--job", str(job)),
        ("label", str(table), out, "--labels", f"a,{evil}", "--prompt", "{{ no }}", "--model", "hf:x/y"),
        ("report", str(table), "--label-column", "no"),
        ("cache", "info", str(table)),
        ("predict", str(table), out, "--classifier", str(tmp_path / evil)),
        ("broken",),
    )
    for one in shown:
        assert_harmless(one)
    assert sum(r"\x1b" in one for one in shown) >= len(shown) - 2  # two name columns of another table


def test_a_terminal_is_told_nothing_by_a_server(tmp_path):
    """What a server says when it refuses, and the name that it gives its model."""
    table = tmp_path / "in.csv"
    table.write_text("text\ngood\n", encoding="utf-8")
    refusal = Status(400, {"error": {"message": f"no {EVIL}", "type": EVIL, "code": EVIL}})
    with FakeServer("vllm", faults=[refusal] * 50, name=f"m{EVIL}") as server:
        arguments = ("--labels", "a,b", "--model", "openai:m", "--base-url", server.url, "--api-key-env", "")
        (shown,) = in_a_terminal(("label", str(table), str(tmp_path / "out.csv"), *arguments))
        assert "error:" in shown
        assert r"\x1b" in shown
        assert_harmless(shown)
    with FakeServer("vllm", name=f"m{EVIL}") as server:
        probe = ("probe", "--base-url", server.url, "--api-key-env", "")
        for shown in in_a_terminal(probe, (*probe, "--json")):
            assert "all is well" in shown
            assert_harmless(shown)
