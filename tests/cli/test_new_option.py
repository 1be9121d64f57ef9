"""A new option of a server is one field: Python, job file, saved classifier and help have it without another word."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from faults import FakeServer

from llmclf.tables.files import read_table, write_table

pytestmark = pytest.mark.usefixtures("no_waiting")

TOY = '''
from dataclasses import dataclass

from llmclf.backends import OpenAIBackend
from llmclf.backends.http.server_handle import server
from llmclf.backends.options import option, whole_number


@server
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToyBackend(OpenAIBackend):
    """A server with one more option."""

    patience: int = option(
        3, help="How patient the toy is.", check=whole_number(1), commands="job", least=1, moves_scores=False
    )
    flavour: str | None = option(None, help="What the toy tastes of.", commands="model")
    shape: dict[str, float] | None = option(None, help="What the toy looks like.", commands="job")

    scheme = "toy"
'''
PYTHON = """
import inspect, json, sys
import toy
import llmclf
from llmclf import LLMClassifier, open_backend

url, folder = sys.argv[1:]
options = {"base_url": url, "api_key_env": "", "patience": 7, "flavour": "salt"}
backend = open_backend("toy:tiny", **options)
clf = LLMClassifier(backend, labels=["good", "bad"], prompt=llmclf.Prompt(chat=True)).fit(["Fine."])
clf.save(folder)
loaded = llmclf.load(folder).backend_
try:
    open_backend("toy:tiny", base_url=url, patience=0)
except ValueError as error:
    refusal = str(error)
print(json.dumps([repr(backend), loaded == backend, loaded.patience, refusal, inspect.getdoc(toy.ToyBackend)]))
"""
COMMAND = "import toy; from llmclf.cli import main; main()"


@pytest.fixture
def toy(tmp_path):
    """A function: a script with arguments -> the finished process, in which the toy's module can be imported."""
    (tmp_path / "toy.py").write_text(TOY)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(script: str, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        )

    return run


def test_new_option_is_seen_everywhere(toy, tmp_path):
    """One class with three more fields, registered by its decorator; nothing else knows of it."""
    write_table(pd.DataFrame({"review": ["Fine.", "Long."]}), tmp_path / "in.csv")
    with FakeServer("openai_chat") as running:
        done = toy(PYTHON, running.url, tmp_path / "saved")
        assert done.returncode == 0, done.stderr
        shown, is_same, patience, refusal, text = json.loads(done.stdout)
        assert shown.startswith("ToyBackend('toy:tiny', base_url=")
        assert shown.endswith("patience=7, flavour='salt')")
        assert (is_same, patience) == (True, 7)
        assert refusal == "patience=0: expected a whole number of at least 1"
        assert "patience : int, default=3\n    How patient the toy is." in text
        assert json.loads((tmp_path / "saved" / "classifier.json").read_text())["model_options"]["patience"] == 7
        # On the command line and in a job file.
        for name in ("label", "estimate"):
            text = " ".join(toy(COMMAND, name, "--help").stdout.split())
            assert "How patient the toy is. Default: 3." in text
            assert "--flavour" in text
        text = toy(COMMAND, "predict", "--help").stdout
        assert ("--flavour" in text, "--patience" in text) == (True, False)
        job = tmp_path / "job.toml"
        job.write_text(
            f'input = "{tmp_path / "in.csv"}"\noutput = "{tmp_path / "out.csv"}"\ntext_column = "review"\nlabels = "good,bad"\n'
            f'chat = true\nmodel = "toy:tiny"\nbase_url = "{running.url}"\napi_key_env = ""\npatience = 2\n[shape]\nwide = 3\n'
        )
        done = toy(COMMAND, "label", "--job", job, "--flavour", "sour", "--quiet")
        assert done.returncode == 0, done.stderr
        assert len(read_table(tmp_path / "out.csv")) == 2
        done = toy(COMMAND, "label", "--job", job, "--patience", "0")
        assert (done.returncode, "--patience" in done.stderr) == (2, True)
        job.write_text(job.read_text().replace("patience = 2", "patience = 0"))
        done = toy(COMMAND, "label", "--job", job)
        assert (done.returncode, "patience=0: input should be greater than or equal to 1" in done.stderr) == (2, True)
        # Another model does not have it, and the message says so.
        done = toy(COMMAND, "estimate", tmp_path / "in.csv", "--text-column", "review", "--labels", "good,bad",
                   "--model", "openai:tiny", "--base-url", running.url, "--patience", "4")  # fmt: skip
        assert done.returncode == 2
        assert "does not have the option 'patience'" in done.stderr
