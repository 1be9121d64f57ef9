"""What the documentation shows runs: Python, commands, job files, and the output that a page prints beside them.

A page says in its front matter what its blocks need (`needs: [model]`). Its blocks run in their order, in one folder and one
namespace. A block whose title is a file name is that file. A block whose title begins with "needs" is shown and not run; its
commands and options still have to exist, and so do the extras that pip is told to install. A block titled "Output" is what the
block before it prints.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import servers
import typer.main
import yaml

from llmclf.cli import app
from llmclf.cli.job_file import read_config
from llmclf.downloads import SMOLLM2
from llmclf.errors import LlmclfWarning

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
LLAMA_CPP = "http://localhost:8080/v1"
"""Where pages say that llama.cpp's server is; the tests start one elsewhere."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"[\w./-]+\.\w+")
_KINDS = {"python", "bash", "toml", "text", "csv", "json", "jinja", "yaml", "sql"}
_MARKS = {"model", "server", "ray", "slow"}
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line where it begins."""

    kind: str
    title: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        return self.title if _FILE.fullmatch(self.title) else None

    @property
    def runs(self) -> bool:
        is_shown = self.title.startswith("needs") or self.file is not None or self.text.startswith("pip install")
        return self.kind in ("python", "bash") and not is_shown


def page_blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        kind, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        blocks.append(Block(kind, title[1] if title else "", body, text[: match.start()].count("\n") + 1))
    return blocks


def needs(page: str) -> set[str]:
    """What the front matter of a page says that its blocks need."""
    text = (DOCS / page).read_text(encoding="utf-8")
    matter = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    return set((yaml.safe_load(matter[1]) or {}).get("needs", ())) if matter else set()


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each llmclf command in a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        command: list[str] | None = None
        for word in lexer:
            if set(word) <= set(";&|><()"):
                yield from [command] if command else []
                command = None
            elif command is not None:
                command.append(word)
            elif word.rpartition("/")[2] == "llmclf":
                command = []
        yield from [command] if command else []


PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
RUNNABLE = [
    pytest.param(page, marks=[getattr(pytest.mark, name) for name in sorted(needs(page))])
    for page in PAGES
    if any(block.runs for block in page_blocks(page))
]
WITH_COMMANDS = [page for page in PAGES if any(block.kind == "bash" for block in page_blocks(page))]
WITH_JOBS = [page for page in PAGES if any(block.kind == "toml" for block in page_blocks(page))]


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """llama.cpp's server with the real model, started when the first page needs it."""
    with servers.llama_server(SMOLLM2.locate(), tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_kinds_that_are_tested(page):
    """No block is of a kind that the tests pass over unseen, and every fence is closed."""
    blocks = page_blocks(page)
    text = (DOCS / page).read_text(encoding="utf-8")
    assert {block.kind for block in blocks} <= _KINDS
    assert len(re.findall(r"^ *```", text, flags=re.MULTILINE)) == 2 * len(blocks)
    assert needs(page) <= _MARKS
    for before, block in zip([None, *blocks], blocks, strict=False):
        if block.title == "Output":
            assert before is not None, f"line {block.line}"
            assert before.runs, f"line {block.line}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_blocks_run(page, request, tmp_path, monkeypatch, capfd):
    """The blocks of a page run in their order, and print what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    address = request.getfixturevalue("server") if "server" in needs(page) else LLAMA_CPP
    names: dict = {"__name__": "__main__"}
    blocks = page_blocks(page)
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        text = block.text.replace(LLAMA_CPP, address)
        where = f"docs/{page}, line {block.line}"
        if block.file is not None:
            path = tmp_path / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.kind == "python":
            code = compile("\n" * block.line + text, str(DOCS / page), "exec")
        if not block.runs:
            continue
        capfd.readouterr()
        if block.kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LlmclfWarning)
                exec(code, names)
            printed = capfd.readouterr().out
        else:
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", text], capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{where}: {done.stdout}{done.stderr}"
            printed = done.stdout
        if after is not None and after.title == "Output":
            same = doctest.OutputChecker().check_output(after.text, printed, _SAME)
            assert same, f"{where} prints\n{printed}\nand the page says\n{after.text}"


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_documented_options_exist(page):
    """Every llmclf command of a page can be parsed, whether it can run here or not."""
    group = typer.main.get_command(app)
    for block in page_blocks(page):
        if block.kind != "bash":
            continue
        for words in commands(block):
            command, context = group, group.make_context("llmclf", [], resilient_parsing=True)
            while hasattr(command, "get_command") and words and not words[0].startswith("-"):
                name, *words = words
                command = command.get_command(context, name)
                assert command is not None, f"docs/{page}, line {block.line}: llmclf {name}"
                context = command.make_context(name, [], parent=context, resilient_parsing=True)
            command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", WITH_JOBS)
def test_job_files_are_read(page, tmp_path):
    """The job files of a page have only keys and values that a job has."""
    for block in page_blocks(page):
        if block.kind == "toml":
            (tmp_path / "job.toml").write_text(block.text, encoding="utf-8")
            read_config(tmp_path / "job.toml", {})


def test_the_extras_that_pages_install_exist():
    """What a page has pip install is an extra of this package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        name
        for page in PAGES
        for block in page_blocks(page)
        for names in re.findall(r'pip install -e "\.\[([^\]]+)\]"', block.text)
        for name in names.split(",")
    ]
    assert {"local", "api"} <= set(extras) <= set(project["optional-dependencies"])


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_outside(tmp_path):
    """A broken link, anchor or reference fails the build; no page loads a file from another host."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        check=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r'(?:src=|<link[^>]*href=|url\()["\']?(?:https?:)?//[^"\'> ]+', html), page
