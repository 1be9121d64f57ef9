"""The README is short, and every code block of it runs; tests/docs runs those of the documents."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line for kind, block in BLOCKS if kind == "console" for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line[2:] for line in lines]


def test_it_is_read_in_a_few_minutes():
    """At most 1,200 words, tables and code included, and two pictures."""
    assert len(TEXT.split()) <= 1200
    assert TEXT.count("<img ") + TEXT.count("![") <= 2


def test_blocks_are_of_kinds_that_are_tested():
    """Nothing in the README is code that no test runs."""
    assert {kind for kind, _ in BLOCKS} == {"python", "console"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::llmclf.errors.LlmclfWarning")
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    """The Python of the README, top to bottom, on the real model and reviews; the classifier beats chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), names)
    assert float(capsys.readouterr().out.splitlines()[0]) > 0.6


@pytest.mark.model
@pytest.mark.slow
def test_llmclf_commands_run(tmp_path):
    """The command lines of the README, in a folder with such files."""
    from llmclf.cards import load_card

    card = load_card("rotten_tomatoes")
    card.load("train", n=24)[["text", "label"]].to_csv(tmp_path / "train.csv", index=False)
    new = card.load("test", n=8)[["text", "label"]].rename(columns={"label": "label_by_hand"})
    new.to_csv(tmp_path / "new.csv", index=False)
    ran = 0
    for command in commands():
        words = shlex.split(command, comments=True)
        if words[0] != "llmclf":
            continue
        program = str(Path(sys.executable).with_name("llmclf"))
        subprocess.run([program, *words[1:]], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300)
        ran += 1
    assert ran >= 5
    first = (tmp_path / "labelled.csv").read_text(encoding="utf-8").splitlines()[0]
    assert first == "text,label_by_hand,label,confidence,p_fresh,p_rotten"
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("## Calibration of labelled.csv")


def test_make_targets_exist():
    """The make targets of the README are in the Makefile."""
    targets = [words[1] for words in map(shlex.split, commands()) if words[0] == "make"]
    assert {"demo", "test"} <= set(targets)
    for target in [*targets, "bench"]:
        subprocess.run(
            ["make", "--dry-run", target],
            cwd=ROOT,
            check=True,
            capture_output=True,
            env={**os.environ, "MAKEFLAGS": ""},
        )


def test_the_extra_that_the_readme_installs_exists():
    """The extras that the README names are in pyproject.toml and bring what they promise."""
    assert 'pip install -e ".[local]"' in TEXT
    assert '".[api]"' in TEXT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    local = " ".join(project["optional-dependencies"]["local"])
    assert any(name.startswith("aiohttp") for name in project["optional-dependencies"]["api"])
    assert "torch" in local
    assert "transformers" in local


def test_the_first_pages_lead_to_what_labels_by_hand_are_for():
    """README and the front page show an audit, and link to what comes before and after it."""
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for text in (TEXT, front):
        assert "--audit 60" in text
        assert "llmclf estimate-share labels.csv" in text
        for page in ("next-rows", "plan-labels", "annotators", "regressions"):
            assert f"how-to/{page}.md)" in text


def test_links_lead_to_files():
    """Every relative link and picture of the README is in the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT) + re.findall(r'src="([^":]+)"', TEXT)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
