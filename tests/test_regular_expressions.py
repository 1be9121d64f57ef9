"""No regular expression of the package explodes: on hostile texts of every kind each takes time in proportion to their length."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import llmclf
from llmclf import Prompt
from llmclf.errors import PromptError

pytestmark = [pytest.mark.model, pytest.mark.slow]  # every module is imported
PACKAGE = Path(llmclf.__file__).parent
BOUNDED = {
    "backends/http/replies.py:<(script|style)\\b.*?</\\1>|<[^>]*>": "the first characters of a page",
    "report/figures.py:([\\d.]+px)": "a style in a diagram that was drawn here",
}
"""Patterns that are only ever asked about so little text that the square of its length is small, with what it is."""
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "split")
SHORT, LONG = 1000, 100_000
UNITS = [
    " ", "\t ", "\n", "\n---", "a", "a ", "a.", "a-", "a/", "0", "0.", "-0", "_", "\\", "\\x41", '"', "'", "(", "[", "[a]", "]",
    "{", "}", "<", "</", "<a", "<script", "<script>", "<!--", "<|", "|>", "<0x41>", "%", "%(", "%(a)", "$a", "..", "../",
    "http://a", "a@b", "a:b", "blk.0.", "-00001-of-", "DETAIL", "=", "#", "end", "_end", "context", "1e5", "+", "bytes:\\x41",
    "encoder.", "max_", "<html", "<?xml", "annex/objects/", "For", 'key "', "Duplicate entry '", "value: '", ":/", "{{", "}}",
    "{%", "<｜", "◁", "postgres+", "text-", "https://a/b/", "(1,", "size 1",
]  # fmt: skip
TAILS = ["", "\x00", "!", '"', "x"]


def patterns() -> Iterator[tuple[str, tuple[re.Pattern, str]]]:
    """All that modules compile and all that they write as a constant of a call, with the method that asks them."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = str(file.relative_to(PACKAGE))
        module = importlib.import_module(".".join(("llmclf", *file.relative_to(PACKAGE).with_suffix("").parts)))
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            owner, method = ast.unparse(call.func.value), call.func.attr
            if owner == "re" and method in METHODS and isinstance(call.args[0], ast.Constant):
                flags = next((key.value for key in call.keywords if key.arg == "flags"), None)
                pattern = re.compile(call.args[0].value, eval(ast.unparse(flags)) if flags is not None else 0)
            elif isinstance(vars(module).get(owner), re.Pattern) and method in METHODS:
                pattern = vars(module)[owner]
            else:
                continue
            shown = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
            yield f"{name}:{shown}", (pattern, method)


def seconds(pattern: re.Pattern, method: str, text: str) -> float:
    """Of the processor, for what a pattern is asked."""
    hostile = text if isinstance(pattern.pattern, str) else text.encode()
    began = time.thread_time()
    if method in ("match", "fullmatch", "search"):
        getattr(pattern, method)(hostile)
    else:
        for _ in pattern.finditer(hostile):
            pass
    return time.thread_time() - began


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[re.Pattern, str]]:
    return dict(patterns())


def test_they_are_found(found):
    """Those that are compiled and those that are written in a call; what is left out is still there."""
    assert len(found) > 30
    assert set(BOUNDED) <= set(found)


def test_hostile_texts(found):
    """100,000 characters take some milliseconds; by the square of their number they would take seconds."""
    slow = []
    for name, (pattern, method) in found.items():
        if name in BOUNDED:
            continue
        for unit, tail in product(UNITS, TAILS):
            for text in (unit * (SHORT // len(unit)) + tail, f"<{{'[\"{unit * (SHORT // len(unit))}{tail}"):
                # In proportion to its length a text takes microseconds; what takes longer is looked at again.
                if seconds(pattern, method, text) < 0.0003:
                    continue
                took = seconds(pattern, method, text.replace(unit, unit * (LONG // SHORT)))
                if took > 1.0:
                    slow.append((name, unit, tail, took))
    assert not slow


@pytest.mark.parametrize("name", ["striptags", "urlize", "wordwrap", "title", "truncate", "forceescape"])
def test_filters_of_a_template(name):
    """The filters of templates that look for patterns take little time for a row of 100,000 characters, or refuse it."""
    renderer = Prompt(f"Say {{{{ text | {name} }}}} now:").renderer(["a", "b"], [])
    for unit, tail in product(
        ["<", "<!--", "<a ", "</", "a ", "http://a", "www.a.", "a@b.c", "&", "-", "\n", "("], ["", "!"]
    ):
        began = time.thread_time()
        with contextlib.suppress(PromptError):
            renderer.render({"text": unit * (LONG // len(unit)) + tail})
        assert time.thread_time() - began < 1.0, (unit, tail)
