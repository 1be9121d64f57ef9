"""`llmclf label` and `llmclf estimate` as a stranger uses them: files, exit codes, what is said where."""

from __future__ import annotations

import gc
import json
import math
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from batch_server import BatchServer
from faults import FakeServer, Status

from llmclf.cli.job_file import JobConfig, read_config
from llmclf.errors import InputError
from llmclf.files.orderly_end import Interrupted
from llmclf.tables.files import read_table, write_table

pytestmark = pytest.mark.usefixtures("no_waiting")
ROWS = {"id": ["a", "b", "c"], "review": ["Fine.", "Long.", "Fine."]}


@pytest.fixture
def table(tmp_path) -> Path:
    write_table(pd.DataFrame(ROWS), tmp_path / "in.csv")
    return tmp_path / "in.csv"


@pytest.fixture
def server():
    with FakeServer("openai_chat") as running:
        yield running


def flags(server: FakeServer) -> list:
    return ["--model", "openai:tiny", "--base-url", server.url, "--api-key-env", "", "--chat", "--labels", "good,bad"]


def test_label_writes_a_table_a_summary_and_one_line(run, table, server, tmp_path):
    """The last line says what was done; the summary says it in numbers; progress goes to standard error."""
    out, summary = tmp_path / "out.csv", tmp_path / "summary.json"
    result = run("label", table, out, "--id-column", "id", "--text-column", "review", *flags(server), "--summary", summary,
                 "--price", "0.1,0.4", "--threshold", "0.5")  # fmt: skip
    assert result.code == 0, result.err
    said = json.loads(summary.read_text())
    assert (said["rows"], said["labelled"], said["asked"], said["accepted"]) == (3, 3, 2, 3)
    assert said["usage"]["requests"] >= 2
    assert said["usage"]["cost"] > 0
    assert said["model"]["answered_by"] == "tiny"
    line = result.out.strip().splitlines()[-1]
    assert line.startswith("labelled 3 of 3 rows; 3 accepted; asked 2 questions, 0 were answered before; cost ")
    assert line.endswith(f"written to {out}")
    assert "labelling 2 of 2" in result.err
    assert read_table(out)["accepted"].tolist() == ["True"] * 3


@pytest.mark.parametrize(("text_column", "code"), [("review", 0), ("absent", 2)])
def test_the_interpreter_is_as_before(run, table, server, tmp_path, text_column, code):
    """A job is given another pace of threads and of the garbage collector; whether it ends well or not, both come back."""
    before = sys.getswitchinterval(), gc.get_freeze_count()
    result = run("label", table, tmp_path / "out.csv", *flags(server), "--text-column", text_column)
    assert result.code == code, result.err
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == before


def test_the_second_run_wants_resume(run, table, server, tmp_path):
    """A journal that exists is continued only with --resume; the message says so."""
    command = ["label", table, tmp_path / "out.csv", "--text-column", "review", *flags(server)]
    assert run(*command).code == 0
    result = run(*command)
    assert result.code == 2
    assert "--resume" in result.err
    assert run(*command, "--resume", "--quiet").err == ""


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("out.csv", ["--audit", "2"], "2 rows are marked audit=True; {fill} llmclf estimate-share {out} --truth truth"),
        ("out.csv", ["--audit", "9"], "3 rows are marked audit=True; {fill} llmclf estimate-share {out} --truth truth"),
        ("out.csv", ["--audit", "1", "--prefix", "m_", "--audit-goal", "threshold"],
         "1 row is marked m_audit=True; {fill} llmclf report {out} --label-column truth --prefix m_"),
        ("folder", ["--audit", "2"], "2 rows are marked audit=True; {fill} llmclf estimate-share FILE --truth truth, "
         "with the table as a CSV or Parquet file"),
    ],
)  # fmt: skip
def test_an_audit_says_what_comes_next(run, table, server, tmp_path, name, options, told):
    """How many rows are marked, and the command that takes their classes."""
    source, out = table, tmp_path / name
    if name == "folder":
        source = tmp_path / "tables"
        source.mkdir()
        table.rename(source / "in.csv")
    result = run("label", source, out, "--text-column", "review", *flags(server), *options)
    assert result.code == 0, result.err
    fill = "fill in the true classes in a new column, say truth, then:"
    assert result.out.splitlines()[-1] == told.format(out=out, fill=fill)


@pytest.mark.parametrize(("flag", "value"), [("--audit-goal", "share"), ("--audit-seed", "0")])
def test_options_of_an_audit_need_one(run, table, tmp_path, flag, value):
    """As flags and as keys of a job file: without --audit they would mark nothing, and nobody would notice."""
    command = ["label", table, tmp_path / "out.csv", "--text-column", "review", "--labels", "good,bad"]
    key = flag[2:].replace("-", "_")
    job = tmp_path / "job.toml"
    job.write_text(f"{key} = {json.dumps(int(value) if value.isdigit() else value)}\n")
    for more in ([flag, value], ["--job", job]):
        result = run(*command, *more)
        assert result.code == 2
        assert f"{flag} needs --audit N (in a job file, {key} needs audit)" in " ".join(result.err.split())


def test_a_job_that_is_ended_early_names_resume(run, table, tmp_path, monkeypatch):
    """A signal that comes before the first question: label keeps answers in its journal, and not with --cache."""

    def interrupted(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("llmclf.cli.label.read_config", interrupted)
    result = run("label", table, tmp_path / "out.csv", "--text-column", "review", "--labels", "good,bad")
    assert result.code == 130
    assert result.err == "interrupted by SIGTERM; to go on, run the same command with --resume\n"


def test_rows_that_fail_give_exit_code_3(run, table, tmp_path):
    """The job is finished, the line says how many failed, and --retry-failed takes them."""
    is_ill = True
    with FakeServer(
        "openai_chat", lambda r: Status(400) if is_ill and "Long." in json.dumps(r.body) else None
    ) as server:
        command = ["label", table, tmp_path / "out.csv", "--text-column", "review", *flags(server)]
        result = run(*command)
        assert result.code == 3
        assert "labelled 2 of 3 rows; 1 failed" in result.out
        assert run(*command, "--resume").code == 3
        is_ill = False
        assert run(*command, "--retry-failed").code == 0
        stopped = run("label", table, tmp_path / "new.csv", "--text-column", "absent", *flags(server))
        assert (stopped.code, stopped.err.count("error:")) == (2, 1)
        is_ill = True
        stopped = run(*command[:2], tmp_path / "new.csv", *command[3:], "--max-errors", "0")
        assert stopped.code == 1
        assert "more than max_errors=0" in stopped.err


def test_a_job_file_says_the_same_as_flags(run, table, server, tmp_path):
    """TOML with underscores; flags go first; the labels may be a table of words."""
    job = tmp_path / "job.toml"
    job.write_text(
        f'''
input = "{table}"
output = "{tmp_path / "out.jsonl"}"
text_column = "review"
model = "openai:tiny"
base_url = "{server.url}"
api_key_env = ""
chat = true
logprobs = true
concurrency = 2
audit = 2
audit_goal = "accuracy"
[labels]
good = ["good", "great"]
bad = "bad"
[price]
input = 1
output = 2.5
'''
    )
    result = run("label", "--job", job, "--output", tmp_path / "other.jsonl")
    assert result.code == 0, result.err
    assert not (tmp_path / "out.jsonl").exists()
    found = read_table(tmp_path / "other.jsonl")
    assert {"logprob_good", "p_bad", "audit_inclusion", "audit_stratum"} <= set(found.columns)
    assert sum(found["audit"]) == 2
    assert server.peak() <= 2
    assert run("estimate", "--job", job).code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inptu = 'a'", "unknown key 'inptu'; known: accept_model_change, actor_gpus, actors, api_key_env"),
        ("rpm = 0", "rpm=0: input should be greater than or equal to 1"),
        ("resume = 'yes'", "resume='yes': input should be a valid boolean"),
        ("labels = 3", "labels"),
        ("a = ", "is not TOML"),
        ("concurrency = 2\n[model_options]\nconcurrency = 3", "'concurrency' is given twice"),
    ],
)
def test_job_files_are_checked(tmp_path, text, message):
    """Unknown keys, wrong types and values: the file, the key and what was expected."""
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        _ = read_config(tmp_path / "job.toml", {}).options
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "absent.toml", {})


def test_every_flag_is_a_key_of_the_job_file(run):
    """What can be said on the command line can be said in a file, by the same name."""
    import inspect

    from llmclf.cli.label import label

    names = set(inspect.signature(label).parameters) - {
        "ctx",
        "job",
        "input_option",
        "output_option",
        "model_option",
        "embedding_option",
        "calibrator",  # the earlier name of classifier, which is read in both places
        "quiet",
        "trust",  # no file vouches for itself
    }
    assert names | {"model_options", "embedding_options"} == set(JobConfig.model_fields)


@pytest.mark.filterwarnings("always:.*is now called")
def test_a_folder_may_still_be_called_a_calibrator(run, table, tmp_path):
    """The flag and the key of an earlier version are read, with one line that has the new name; both at once are refused."""
    (tmp_path / "job.toml").write_text(f'input = "{table}"\ncalibrator = "{tmp_path / "absent"}"')
    for command, name in (
        (
            ["label", table, tmp_path / "out.csv", "--calibrator", tmp_path / "absent"],
            "--calibrator FOLDER is now called",
        ),
        (["estimate", "--job", tmp_path / "job.toml"], "the key calibrator is now called classifier"),
    ):
        result = run(*command)
        assert (result.code, result.out) == (1, "")
        assert result.err.count("warning:") == 1
        assert name in result.err
        assert "holds no saved classifier" in result.err
    result = run("label", table, tmp_path / "out.csv", "--calibrator", "a", "--classifier", "b")
    assert (result.code, "both are given" in result.err) == (2, True)
    assert "--calibrator" not in run("label", "--help").out
    with pytest.warns(FutureWarning, match="classifier"):
        assert read_config(tmp_path / "job.toml", {}).classifier == str(tmp_path / "absent")


def test_estimate_says_what_a_job_would_take(run, table, server):
    """Lines for a person, JSON for a program, and nothing at the server."""
    command = ["estimate", table, "--text-column", "review", *flags(server), "--price", "0.1,0.4"]
    result = run(*command)
    assert result.code == 0, result.err
    assert "different questions: 2, to be asked: 2" in result.out
    assert "requests: about 2" in result.out
    assert json.loads(run(*command, "--json").out)["todo"] == 2
    assert server.requests == []
    assert run("estimate").code == 2


@pytest.mark.filterwarnings("always::llmclf.errors.FormulaWarning")
def test_hostile_names_and_paths(run, server, tmp_path):
    """Columns, classes and files named like formulas, markup and paths stay names; of formulas a line warns."""
    frame = pd.DataFrame({"../x": ["=1+1", "[bold]x[/bold]"], "p.q": ["<script>", "a,b"]})
    folder = tmp_path / "[red]in"
    folder.mkdir()
    write_table(frame, folder / "$(x).csv")
    result = run(
        "label",
        folder / "$(x).csv",
        folder / "out;.csv",
        "--text-column",
        "../x",
        *flags(server)[:-1],
        "[b]=good,../../y=bad",
    )
    assert result.code == 0, result.err
    found = read_table(folder / "out;.csv")
    assert found[["../x", "p.q"]].equals(frame.astype("str"))
    assert set(found["label"]) <= {"[b]", "../../y"}
    assert "[red]in" in result.out
    assert "warning: " in result.err
    assert "has a cell that a spreadsheet would run as a formula (row 0 of the column '../x')" in result.err


def test_a_process_of_its_own_shows_a_bar_on_a_terminal(table, server, tmp_path):
    """On a terminal there is a bar with rate and time left; the result line is the last."""
    import pty

    program = str(Path(sys.executable).with_name("llmclf"))
    server.latency = 0.3
    frame = pd.DataFrame({"review": [f"text {i}" for i in range(30)]})
    write_table(frame, table)
    command = [
        program,
        "label",
        table,
        tmp_path / "out.csv",
        "--text-column",
        "review",
        *flags(server),
        "--concurrency",
        "2",
    ]
    leader, follower = pty.openpty()
    done = subprocess.run(
        list(map(str, command)),
        stderr=follower,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        env={**__import__("os").environ, "COLUMNS": "100", "TERM": "xterm"},
        check=False,
    )
    import os

    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass
    os.close(leader)
    text = shown.decode(errors="replace")
    assert done.returncode == 0, text
    assert "labelling" in text
    assert "/30" in text
    assert "/s" in text
    assert "left" in text
    assert "labelled 30 of 30 rows" in done.stdout


def test_packages_that_are_not_installed_are_named(run, table, server, tmp_path, monkeypatch):
    """Without the packages for servers or Parquet: one line that says what to install, and nothing left behind."""
    from llmclf.backends.http.async_bridge import AsyncBridge

    assert AsyncBridge is not None  # imported before the packages go
    for package, extra, output, more in (
        ("anyio.from_thread", "api", "out.csv", ["--concurrency", "3"]),
        ("pyarrow", "parquet", "out.parquet", []),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, package, None)
            result = run("label", table, tmp_path / output, "--text-column", "review", *flags(server), *more)
        assert result.code == 1
        assert f"pip install 'llmclf[{extra}]'" in result.err
        assert "Traceback" not in result.err
        assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


def test_batch_api_asks_through_batches(run, table, server, tmp_path):
    """The same labels as live, every question through /v1/batches, and what is waited for is said beside the result."""
    live, batched = tmp_path / "live.csv", tmp_path / "batched.csv"
    assert run("label", table, live, "--text-column", "review", *flags(server)).code == 0
    with BatchServer("openai_chat") as batches:
        result = run("label", table, batched, "--text-column", "review", *flags(batches), "--batch-api")
        assert result.code == 0, result.err
        assert sum(batches.batches.paid.values()) == 2
        assert "batch" in result.err
    assert batched.read_text() == live.read_text()


KINDS = {
    "text": ["one fine film", "a waste", "so-so", "never again"] * 5,
    "mood": ["pos", "neg", "neg", "pos"] * 5,
    "when": pd.to_datetime(["2026-01-02T00:00:00", None, "2026-03-04T05:06:07", None] * 5).tz_localize("Europe/Berlin"),
    "lists": [["a", None], [], None, [1.5]] * 5,
    "dicts": [{"a": [pd.NaT, math.nan]}, {}, None, {"b": math.inf}] * 5,
    "decimal": [Decimal("1.50"), None, Decimal("NaN"), Decimal(2)] * 5,
    "whole": pd.array([1, None, 3, None] * 5, dtype="Int64"),
    "huge": [2**63 - 1, 0, -(2**63), 1] * 5,
    "flag": pd.array([True, None, False, None] * 5, dtype="boolean"),
    "share": [0.1, math.nan, math.inf, -math.inf] * 5,
    "category": pd.Categorical(["x", None, "y", "x"] * 5),
    "span": pd.to_timedelta(["1s", None, "2h", None] * 5),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("default::llmclf.errors.LlmclfWarning")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_one_command_writes_the_next_one_reads(run, model_folder, tmp_path, suffix):
    """predict, label, report and fit read each other's files, with values of every kind, which stay what they are."""
    model = f"hf:{model_folder('byte_bpe')}"
    frame = pd.DataFrame(KINDS)
    if suffix == ".parquet":
        # Lists of texts and numbers, and dicts with different keys, have no Arrow type; NaN of a decimal has none either.
        frame["lists"] = pd.Series([["a", None], [], None, ["b"]] * 5)
        frame["decimal"] = pd.Series([Decimal("1.50"), None, None, Decimal(2)] * 5)
        frame["view"] = pd.Series(frame["text"], dtype="string[pyarrow]")
    table, words = tmp_path / f"in{suffix}", ("--text-column", "text", "--model", model)
    write_table(frame, table)
    steps = [
        ("predict", table, tmp_path / f"a{suffix}", *words, "--labels", "pos,neg", "--on-error", "missing"),
        ("report", tmp_path / f"a{suffix}", "--label-column", "mood", "-o", tmp_path / "r.html"),
        ("label", tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", *words, "--labels", "pos,neg", "--prefix", "again_",
         "--quiet"),
        ("report", tmp_path / f"b{suffix}", "--label-column", "mood", "--prefix", "again_", "-o", tmp_path / "r.html"),
        ("fit", tmp_path / f"b{suffix}", *words, "--label-column", "mood", "-o", tmp_path / "saved"),
        ("predict", tmp_path / f"b{suffix}", tmp_path / f"c{suffix}", "--text-column", "text", "--classifier", tmp_path / "saved",
         "--prefix", "third_"),
        ("estimate", tmp_path / f"c{suffix}", *words, "--labels", "pos,neg", "--prefix", "fourth_"),
    ]  # fmt: skip
    for step in steps:
        result = run(*step)
        assert result.code == 0, (step[0], result.err)
    first, last = read_table(table), read_table(tmp_path / f"c{suffix}")
    assert repr(last[list(first.columns)].to_dict("list")) == repr(first.to_dict("list"))
    for name in ("p_pos", "p_neg"):
        np.testing.assert_allclose(last[name].astype(float), last[f"again_{name}"].astype(float), rtol=1e-4)
