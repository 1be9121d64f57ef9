"""SECURITY.md and the page on reliability name tests that exist, and each of their promises has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES = PAGE[PAGE.index("## Promises") : PAGE.index("## What stays with you")]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_named_tests_exist():
    """Every file and every function."""
    named = TEST.findall(PAGE + RELIABILITY)
    assert len(named) > 50
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions, (file, function)


def test_every_promise_has_a_test():
    """Each line of the table ends with at least one."""
    lines = [
        line for line in (PROMISES + RELIABILITY).splitlines() if line.startswith("| ") and "| tests |" not in line
    ]
    assert len(lines) > 25
    assert [line for line in lines if not TEST.search(line.rsplit("|", 2)[1])] == []


def test_links_lead_somewhere():
    """To files of the repository alone."""
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_documents_name_the_page():
    """Whoever reads the documents finds it."""
    assert "`SECURITY.md`" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
