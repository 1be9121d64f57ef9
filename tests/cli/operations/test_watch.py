"""`llmclf watch`: from a log and a certificate to a verdict, a page and an exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from certificates import made

from llmclf.monitoring import DecisionLog, DecisionRecord

N = 400


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "llmclf", "watch", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A certified classifier, and the log of its decisions: confidences like the certificate's, and a class in turn."""
    folder = tmp_path_factory.mktemp("watch")
    made.saved(folder / "clf")
    certificate = made.certificate(folder / "clf", expires=None)
    certificate.save(folder / "clf")
    with DecisionLog(folder / "log", classes=("bad", "good"), certificate=certificate.id, model="m") as log:
        log.append(
            DecisionRecord(f"r{i}", 1.7e9 + i, "bad", (p, 1 - p), accepted=p > 0.8, label_mass=float(mass))
            for i, (p, mass) in enumerate(
                zip(
                    np.random.default_rng(0).uniform(0.5, 1.0, N).tolist(),
                    np.random.default_rng(1).uniform(0.2, 0.9, N),
                    strict=True,
                )
            )
        )
    accepted = [one for one, flag in zip(log.read().ids, log.read().accepted, strict=True) if flag]
    lines = [f"{one},{'good' if i % 3 == 0 else 'bad'}\n" for i, one in enumerate(accepted)]
    (folder / "wrong.csv").write_text("id,label\n" + "".join(lines))
    (folder / "semicolons.csv").write_text("\ufeffid;label\n" + "".join(f"{one};bad\n" for one in accepted[:60]))
    (folder / "right.csv").write_text("id,label\n" + "".join(f"{one},bad\n" for one in accepted[:60]))
    return folder


def test_a_kept_promise_ends_with_0(folder):
    """It says so, and what to do next."""
    done = run("log", "--certificate", "clf", "--audited", "right.csv", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "No alarm: 400 rows are like those of the certificate; 0 of 60 audited accepted rows are wrong"
    )
    assert "next (continue): Go on. Audit 190 more" in done.stdout


def test_a_log_without_decisions_ends_with_0(folder, tmp_path):
    """Whether the folder is empty, or a server has begun a log in it; both are said, and nothing is alarmed."""
    (tmp_path / "empty").mkdir()
    certificate = json.loads((folder / "clf" / "certificate.json").read_text())["id"]
    with DecisionLog(tmp_path / "begun", classes=("bad", "good"), certificate=certificate, model="m") as log:
        log.open()
    for name in ("empty", "begun"):
        done = run(tmp_path / name, "--certificate", "clf", cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("No alarm: there are no decisions yet.")
    data = json.loads(run(tmp_path / "empty", "--certificate", "clf", "--json", cwd=folder).stdout)
    assert (data["exit_code"], data["alarms"], data["rows"]["n"]) == (0, [], 0)


def test_what_does_not_count_is_said(folder):
    """Audited labels of no decision, and those that come twice; from a file of a spreadsheet of another country."""
    lines = (folder / "semicolons.csv").read_text().splitlines()
    (folder / "more.csv").write_text("\n".join([*lines, lines[5], "nobody;bad", ""]))
    done = run("log", "--certificate", "clf", "--audited", "more.csv", "--delimiter", ";", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 of 60 audited accepted rows are wrong" in done.stdout
    assert "left out: 1 audited row with an id of no decision under the certificate\n" in done.stdout
    assert "left out: 1 audited row given again" in done.stdout


def test_a_broken_promise_ends_with_4(folder):
    """The page is written, and the JSON says the same."""
    done = run("log", "--certificate", "clf", "--audited", "wrong.csv", "--html", "watch.html", cwd=folder)
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith("alarm (promise): More than 0.1 of the accepted rows are wrong")
    assert "Stop automation" in (folder / "watch.html").read_text()
    again = run("log", "--certificate", "clf", "--audited", "wrong.csv", "--json", cwd=folder)
    data = json.loads(again.stdout)
    assert again.returncode == data["exit_code"] == 4
    assert data["verdict"] in (folder / "watch.html").read_text()


def test_a_table_takes_the_place_of_a_log(folder):
    """Rows of another kind end with 3."""
    lines = [f"{i},bad,0.5{i % 10},0.4{9 - i % 10}\n" for i in range(500)]
    (folder / "labelled.csv").write_text("number,label,p_bad,p_good\n" + "".join(lines))
    done = run("labelled.csv", "--certificate", "clf", "--id-column", "number", cwd=folder)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "alarm (shift): Confidence: no longer as in the certificate's rows" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--certificate", "clf"], "does not exist"),
        (["log", "--certificate", "log"], "holds no saved classifier, and has no certificate"),
        (["log", "--certificate", "nowhere"], "'nowhere' does not exist"),
        (["log", "--certificate", "clf/classifier.json"], "is a file, not a folder"),
        (["clf", "--certificate", "clf"], "holds no decision log"),
        (["log", "--certificate", "clf", "--model", "n"], "no decisions of the model 'n'; it has those of: 'm'"),
        (["labelled.csv", "--certificate", "clf", "--model", "m"], "a table is given; leave it out"),
        (["log", "--certificate", "clf", "--delimiter", ";"], "leave it out"),
        (["log", "--certificate", "clf", "--audited", "semicolons.csv"], "--delimiter ';'"),
        (["log", "--certificate", "clf", "--audited", "none.csv"], "does not exist"),
        (["log", "--certificate", "clf", "--alpha", "2"], "alpha=2"),
        (["labelled.csv", "--certificate", "clf", "--delimiter", "xx"], "delimiter"),
        (["log"], "--certificate"),
    ],
)
def test_errors_of_use_end_with_2(folder, arguments, message):
    """In a line, without a traceback."""
    (folder / "labelled.csv").touch()
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
