"""The reference says what the code says: public names, command line, job file, errors."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import runpy
import sqlite3
import textwrap
from pathlib import Path

import pytest

from llmclf import errors
from llmclf.cli.job_file import JobConfig

DOCS = Path(__file__).parent.parent.parent / "docs"
PYTHON = DOCS / "reference" / "python"
DOCUMENTED = sorted(
    name
    for page in PYTHON.glob("*.md")
    for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
)
MODULES = (
    "backends",
    "calibration",
    "certificates",
    "display",
    "estimation",
    "features",
    "inspector",
    "jobs",
    "logits",
    "metrics",
    "race",
    "report",
)


def test_documented_names_can_be_imported():
    """Every name of the Python reference is there, once, and has a docstring."""
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    for name in DOCUMENTED:
        module, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(module), last)
        assert not callable(value) or inspect.getdoc(value), name


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module):
    """Whatever a public module gives out has an entry in the Python reference."""
    named = importlib.import_module(f"llmclf.{module}").__all__
    elsewhere = {"llmclf.backends.open_backend", "llmclf.features.Embeddings"}
    missing = {f"llmclf.{module}.{name}" for name in named} - set(DOCUMENTED) - elsewhere
    assert not missing


def test_the_facade_is_documented():
    """So has every name of the package itself."""
    import llmclf

    wanted = {"Embeddings", "LLMClassifier", "Prompt", "load", "open_backend"}
    assert {f"llmclf.{name}" for name in wanted} <= set(DOCUMENTED)
    assert wanted <= set(llmclf.__all__)


def test_what_the_documents_import_is_documented():
    """Every name that README or a page imports from llmclf has an entry in the Python reference: that is the list of them."""
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    imported = {
        f"{node.module}.{alias.name}"
        for page in pages
        for block in re.findall(
            r"^ *```python.*?\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        for node in ast.walk(ast.parse(textwrap.dedent(block)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "llmclf"
        for alias in node.names
    }
    assert len(imported) > 10
    assert {name for name in imported if name not in DOCUMENTED} <= {"llmclf.LlmclfError", "llmclf.LlmclfWarning"}


def test_the_command_line_is_that_of_the_program():
    """reference/cli.md is what docs/write_cli.py writes."""
    written = runpy.run_path(str(DOCS / "write_cli.py"))["cli_page"]()
    assert (DOCS / "reference" / "cli.md").read_text(encoding="utf-8") == written, "run python docs/write_cli.py"


def test_the_keys_of_a_job_file_are_those_of_the_model():
    """The table of keys names every key once; whole numbers, booleans and tables are called so."""
    text = (DOCS / "reference" / "job-file.md").read_text(encoding="utf-8")
    types = {}
    for names, kind in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in types
            types[name] = kind.strip()
    assert types.keys() == JobConfig.model_fields.keys()
    words = {
        "boolean": "boolean",
        "integer": "whole number",
        "number": "number",
        "object": "table",
        "string": "string",
        "array": "list",
    }
    for name, schema in JobConfig.model_json_schema()["properties"].items():
        kinds = {words[kind["type"]] for kind in schema.get("anyOf", [schema]) if kind["type"] != "null"}
        assert set(re.split(", | or ", types[name])) == kinds, name


def test_every_error_is_explained():
    """Each class of llmclf.errors is in the tree and in a table of reference/errors.md, and in the Python reference."""
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, (errors.LlmclfError, errors.LlmclfWarning))
    ]
    assert len(classes) > 10
    for name in classes:
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE), name
        assert re.search(rf"^[│├└─ ]*{name}\b", text, re.MULTILINE), name
        assert f"llmclf.errors.{name}" in DOCUMENTED


def test_the_tree_of_errors_is_that_of_the_module():
    """The trees of the page are those that the module itself draws, without their comments."""
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    name = r"^ *((?:[│├└][│├└─ ]*)?(?:\w+(?:Error|Warning))(?: \(\w+\))?)(?:  |$)"
    drawn = re.findall(name, errors.__doc__ or "", re.MULTILINE)
    assert len(drawn) > 10
    assert re.findall(name, text, re.MULTILINE) == drawn


def section(page: str, heading: str) -> str:
    """The text of a page below a heading, up to the next one."""
    text = (DOCS / "reference" / page).read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """The names in backticks in the first cells of tables."""
    return {
        name for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    }


def test_the_keys_of_a_saved_classifier(tmp_path):
    """The page names the keys that `save` writes, and their versions."""
    from llmclf import LLMClassifier

    LLMClassifier("smollm2", labels=["good", "bad"]).fit(["a text"]).save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "classifier.json").read_text(encoding="utf-8"))
    assert first_cells(section("file-formats.md", "Saved classifier")) == saved.keys()
    text = (DOCS / "reference" / "file-formats.md").read_text(encoding="utf-8")
    assert f"`format` {saved['format']}, `score_version` {saved['score_version']}" in text


def test_the_tables_of_a_journal_and_the_columns_of_a_labelled_table(tmp_path):
    """The page names the columns that a job adds, and the tables and columns of its journal."""
    import pandas as pd

    from llmclf.backends import FakeBackend
    from llmclf.jobs import label_table

    frame = pd.DataFrame({"text": ["A fine film.", "Far too long."]})
    options = {"text_column": "text", "labels": ["good", "bad"], "model": FakeBackend(), "logprobs": True}
    table = label_table(frame, journal=tmp_path / "labels.journal", **options).table
    added = {re.sub("_(good|bad)$", "_CLASS", name) for name in table.columns} - {"text"}
    assert first_cells(section("file-formats.md", "Labelled table")) == added

    text = section("file-formats.md", "Journal")
    connection = sqlite3.connect(tmp_path / "labels.journal")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert first_cells(text) - {"batch_*"} == names
    for name in names:
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        for _, column, *_ in connection.execute(f"PRAGMA table_info({name})"):
            assert f"`{column}`" in line, (name, column)
    (format,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    connection.close()
    assert f"`format` {format}, score version" in (DOCS / "reference" / "file-formats.md").read_text(encoding="utf-8")


def test_the_keys_of_a_report():
    """The page names the keys of the report's schema."""
    import llmclf.report

    schema = json.loads((Path(llmclf.report.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
    named = first_cells(section("file-formats.md", "Report")) | {"schema", "version"}
    assert named == schema["properties"].keys()
