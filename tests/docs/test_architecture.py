"""The pages for contributors name files that exist, and the floors that the import contracts hold."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
_PATH = re.compile(r"`((?:llmclf|tests|docs|experiments|datasets)(?:/[\w.-]+)+/?)`")


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """Every file or folder that is named in backticks is in the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = _PATH.findall(text)
    assert len(paths) > 5
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_floors_are_those_of_the_contract():
    """The table of floors names the layers of the import contract, from the top down."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| floor |") : text.index("Inside `llmclf/backends`")]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["containers"] == ["llmclf"])
    numbers = {name.strip(): n for n, layer in enumerate(layers) for name in layer.replace(":", "|").split("|")}
    named = [
        [name.removesuffix(".py") for name in re.findall(r"`llmclf/([\w.]+)`", line)] for line in table.splitlines()[2:]
    ]
    assert {name for line in named for name in line} == numbers.keys()
    floors = [(min(map(numbers.__getitem__, line)), max(map(numbers.__getitem__, line))) for line in named if line]
    for (_, below), (above, _) in pairwise(floors):
        assert below < above


@pytest.mark.parametrize("page", PAGES)
def test_targets_exist(page):
    """Every make target that is named is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)\b(?=`|,|\n| on)", (ROOT / page).read_text(encoding="utf-8")))
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


def test_hooks_run_what_make_test_checks():
    """The pre-commit hooks call the same programs as `make test`."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    called = {hook["entry"].split()[0].rpartition("/")[2] for hook in hooks}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert called == {"ruff", "mypy", "lint-imports"}
    assert all(f"$(BIN)/{name}" in makefile for name in called)
