"""A password in an address is used where one is taken, refused elsewhere, and shown nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from database_server import PASSWORD
from faults import FakeServer
from hypothesis import given
from hypothesis import strategies as st
from postgres import postgres
from servers import free_port

from llmclf.errors import InputError, LlmclfWarning, StoreError, warn
from llmclf.terminal.passwords import without_passwords

SECRET = "Pa55-w0rdX"
ADDRESSES = [
    f"https://u:{SECRET}@127.0.0.1:9/x.csv", f"http://{SECRET}@127.0.0.1:9/x.csv", f"https://127.0.0.1:9/x.csv?sig={SECRET}",
    f"https://127.0.0.1:9/x.csv?a=1&X-Amz-Signature={SECRET}", f"https:/u:{SECRET}@h/x.csv", f"ftp://u:{SECRET}@h/x.csv",
    f"s3://u:{SECRET}@bucket/x.csv", f"s3:/u:{SECRET}@bucket/x.csv", f"gs://u:{SECRET}@bucket/x.parquet",
    f"az://u:{SECRET}@bucket/", f"postgresql+psycopg://u:{SECRET}@127.0.0.1:9/d?table=t",
    f"postgresql+psycopg://127.0.0.1:9/d?table=t&password={SECRET}", f"postgresql+psycopg://u:{SECRET}@127.0.0.1:9/d",
    f"postgresql:/u:{SECRET}@h/d?table=t", f"postgresql://u:sl/ash{SECRET}@h/d?table=t",
    f"postgresql+psycopg://u:{SECRET}@h:port/d?table=t", f"mysql+pymysql://u:{SECRET}@127.0.0.1:9/d?table=t",
    f"mssql+pyodbc://u:{SECRET}@h/d?table=t", f"jdbc:postgresql://u:{SECRET}@h/d", f"redis://:{SECRET}@h",
]  # fmt: skip
_LABEL = ("--text-column", "text", "--labels", "a,b")
_SERVER = ("--model", "openai:x", "--base-url", "http://127.0.0.1:9/v1", "--max-retries", "0")
PLACES = {
    "input": lambda address: ("label", address, "out.csv", *_LABEL, *_SERVER),
    "output": lambda address: ("label", "in.csv", address, *_LABEL, *_SERVER),
    "journal": lambda address: ("label", "in.csv", "out.csv", *_LABEL, *_SERVER, "--journal", address),
    "model": lambda address: ("label", "in.csv", "out.csv", *_LABEL, "--model", address),
    "folder of a model": lambda address: ("label", "in.csv", "out.csv", *_LABEL, "--model", f"hf:{address}"),
    "server": lambda address: ("label", "in.csv", "out.csv", *_LABEL, "--model", "openai:x", "--base-url", address),
    "classifier": lambda address: ("label", "in.csv", "out.csv", *_LABEL, "--classifier", address),
    "job": lambda address: ("label", "--job", address),
    "report": lambda address: ("report", address, "--label-column", "label"),
    "estimate": lambda address: ("estimate", address, *_LABEL, *_SERVER),
    "JSON log": lambda address: ("label", address, "out.csv", *_LABEL, *_SERVER, "--log-format", "json"),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_address_in_each_place(place, run, tmp_path, monkeypatch):
    """Whichever argument holds it, and whether it is used, refused or not even known: no output and no file shows it."""
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": ["a film"]}).to_csv("in.csv", index=False)
    for address in ADDRESSES:
        if place == "server" and not address.startswith("http"):
            continue
        result = run(*PLACES[place](address))
        assert result.code in (1, 2), address
        assert "rror" in (result.out + result.err)
        for shown in (result.out, result.err, *map(str, tmp_path.rglob("*"))):
            assert SECRET not in shown, address


@pytest.mark.parametrize("key", ["input", "output", "journal", "model", "base_url"])
def test_an_address_in_a_job_file(key, run, tmp_path, monkeypatch):
    """A job file is quoted no further."""
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": ["a film"]}).to_csv("in.csv", index=False)
    values = {"input": "in.csv", "output": "out.csv", "text_column": "text", "labels": ["a", "b"], "model": "openai:x"}
    for address in ADDRESSES[:3]:
        given = {**values, "base_url": "http://127.0.0.1:9/v1", "max_retries": 0, key: address}
        Path("job.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items()))
        result = run("label", "--job", "job.toml")
        assert result.code in (1, 2)
        assert SECRET not in result.out + result.err, address


def test_errors_and_warnings():
    """The text, the arguments and the repr of an error, and a warning, whatever module has quoted the address."""
    for address in ADDRESSES:
        for error in (InputError(f"{address!r} is wrong"), StoreError(f"no file: {address}")):
            assert SECRET not in f"{error} {error!r} {error.args}"
            assert str(error)
        with pytest.warns(LlmclfWarning) as caught:
            warn(f"{address} is old", LlmclfWarning)
        assert SECRET not in str(caught[0].message)


def test_what_is_no_secret_stays():
    """Users without passwords, ports, paths with an @, revisions, and what is said of how to write an address."""
    for text in (
        "postgresql+psycopg://me@127.0.0.1:5432/shop?table=t",
        "http://localhost:8000/v1/@me",
        "hf:org/name@main and me@example.com",
        "dialect+driver://user:password@host:port/database?table=NAME",
        "'s3://bucket/part=2/x.csv?versionId=3' at 12:30",
        r"C:/files/a@b.csv",
    ):
        assert without_passwords(text) == text


@given(st.text(alphabet="ab:/@?&= ,'", max_size=60), st.text(alphabet="ab:/@?&= ,'", max_size=60))
def test_whatever_stands_beside_it(before, after):
    """A password in an address that is a word of its own is not shown, and hiding twice changes nothing more."""
    shown = without_passwords(f"{before} s3://u:{SECRET}@bucket/x {after}")
    assert SECRET not in shown
    assert without_passwords(shown) == shown


def test_a_long_text_takes_little_time():
    """Text in proportion to its length."""
    for unit in (":/", "a:/b", "a://u:", "?a=", "&token", "@", "a://@", "?pass=a@"):
        for text in (unit * 100_000, f"a://{unit * 100_000}", f"{unit * 100_000}@"):
            began = time.thread_time()
            without_passwords(text)
            assert time.thread_time() - began < 1.0, unit


@pytest.mark.database
def test_a_job_with_a_database(tmp_path):
    """The password that is used stands in no event, metric, summary, journal or other file, nor in the process's output."""
    import sqlalchemy as sa

    with postgres() as database, FakeServer("openai_chat", latency=0.02) as server:
        engine = sa.create_engine(database.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            pd.DataFrame({"id": range(30), "text": [f"<review {i}>" for i in range(30)]}).to_sql(
                "t", connection, index=False
            )
        port = free_port()
        words = ["label", f"{database.url}?table=t", f"{database.url}?table=out", "--id-column", "id", "--text-column", "text",
                 "--labels", "good,bad", "--chat", "--model", "openai:tiny", "--base-url", server.url, "--concurrency", "1",
                 "--journal", "j", "--log-format", "json", "--metrics-port", str(port), "--summary", "s.json"]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "llmclf", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        metrics, kept = "", b""
        while process.poll() is None:
            if server.count("/v1/chat/completions") > 20 and not metrics:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
                    metrics = reply.read().decode()
                kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
            time.sleep(0.02)
        out = process.communicate()[0]
    assert process.returncode == 0, out
    assert metrics
    assert kept
    kept += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (out, metrics, kept.decode("latin-1")):
        assert PASSWORD not in text
        assert urllib.parse.quote(PASSWORD, safe="") not in text
