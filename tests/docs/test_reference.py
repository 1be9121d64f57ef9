"""The reference says what the code says: public names, command line, job file, errors."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
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
MODULES = ("backends", "calibration", "display", "inspector", "jobs", "logits", "metrics", "report")


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
    missing = {f"llmclf.{module}.{name}" for name in named} - set(DOCUMENTED) - {"llmclf.backends.open_backend"}
    assert not missing


def test_the_facade_is_documented():
    """So has every name of the package itself."""
    import llmclf

    wanted = {"LLMClassifier", "Prompt", "load", "open_backend"}
    assert {f"llmclf.{name}" for name in wanted} <= set(DOCUMENTED)
    assert wanted <= set(llmclf.__all__)


def test_the_command_line_is_that_of_the_program():
    """reference/cli.md is what docs/write_cli.py writes."""
    written = runpy.run_path(str(DOCS / "write_cli.py"))["cli_page"]()
    assert (DOCS / "reference" / "cli.md").read_text(encoding="utf-8") == written, "run python docs/write_cli.py"


def test_the_keys_of_a_job_file_are_those_of_the_model():
    """The table of keys names every key once; whole numbers, truth values and tables are called so."""
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
