"""Tables in object stores and on the web, on a real server that speaks S3 and on a real web server."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
import pandas as pd
import pytest
from faults import FakeServer
from hypothesis import given
from hypothesis import strategies as st
from object_store import object_store
from proxy_server import Proxy

from llmclf.backends import FakeBackend
from llmclf.errors import InputError, StoreError
from llmclf.jobs import estimate_table, label_table
from llmclf.jobs.tables import stores
from llmclf.jobs.tables.stores import is_store_address

FRAME = pd.DataFrame({"id": ["1", "2", "3"], "text": ["A fine film.", "Far too long.", "東京 é"]})
CSV = FRAME.to_csv(index=False).encode()
ASKED = {"text_column": "text", "labels": ["good", "bad"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with object_store() as store:
        yield store


@pytest.fixture
def bucket(server: Any) -> Iterator[Any]:
    """The bucket, empty."""
    yield server
    for page in obstore.list(server):
        for one in page:
            obstore.delete(server, one["path"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one: what is left in it was left by the job."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def names(store: Any) -> list[str]:
    return sorted(one["path"] for page in obstore.list(store) for one in page)


def content(store: Any, path: str) -> bytes:
    return bytes(obstore.get(store, path).bytes())


@contextmanager
def web(answers: dict[str, bytes]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_goes_from_bucket_to_bucket(bucket, here, suffix):
    """The object is what a file would be, and nothing but the journal stays here."""
    local = here.parent / "local.csv"
    local.write_bytes(CSV)
    obstore.put(bucket, "in/reviews.csv", CSV)
    written = label_table(
        "s3://tables/in/reviews.csv",
        f"s3://tables/out/labelled{suffix}",
        journal="labels.journal",
        model=FakeBackend(),
        **ASKED,
    )
    label_table(local, here.parent / f"same{suffix}", model=FakeBackend(), **ASKED)
    assert written.summary.labelled == 3
    assert written.summary.output == f"s3://tables/out/labelled{suffix}"
    assert names(bucket) == ["in/reviews.csv", f"out/labelled{suffix}"]
    (here.parent / f"sent{suffix}").write_bytes(content(bucket, f"out/labelled{suffix}"))
    if suffix == ".parquet":
        pd.testing.assert_frame_equal(*(pd.read_parquet(here.parent / f"{n}.parquet") for n in ("sent", "same")))
    else:
        assert (here.parent / f"sent{suffix}").read_bytes() == (here.parent / f"same{suffix}").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["labels.journal"]


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("s3://tables/in/", ["in/a.csv", "in/b.jsonl"]),
        ("s3://tables/in/*.csv", ["in/a.csv"]),
        ("s3://tables/**/*.csv", ["in/a.csv", "in/deep/c.csv", "top.csv"]),
        ("s3://tables/in/[bc].jsonl", ["in/b.jsonl"]),
        ("s3://tables/in/?.csv", ["in/a.csv"]),
    ],
)
def test_folders_and_patterns(bucket, here, address, read):
    """A folder is its own tables, in the order of their names; hidden ones and others are not read."""
    line = b'{"id": "1", "text": "A fine film."}\n'
    for path in ("in/a.csv", "in/deep/c.csv", "top.csv", "in/.hidden.csv", "in/_started.csv"):
        obstore.put(bucket, path, CSV)
    obstore.put(bucket, "in/b.jsonl", line)
    obstore.put(bucket, "in/read.me", b"no table")
    label_table(address, "s3://tables/labelled/", journal="j", model=FakeBackend(), **ASKED)
    wanted = sorted(f"labelled/{PurePosixPath(path).name}" for path in read)
    assert [path for path in names(bucket) if path.startswith("labelled/")] == wanted
    assert [path.name for path in here.iterdir()] == ["j"]


def test_a_stopped_job_goes_on(bucket, here):
    """A job that stops keeps its answers here, and leaves no half table there."""
    from llmclf.errors import JobError, ModelError

    class Tired(FakeBackend):
        def score(self, requests: Any) -> Any:
            raise ModelError("tired")

    obstore.put(bucket, "in.csv", CSV)
    with pytest.raises(JobError, match="tired"):
        label_table("s3://tables/in.csv", "s3://tables/out.csv", journal="j", model=Tired(), **ASKED)
    assert names(bucket) == ["in.csv"]
    result = label_table(
        "s3://tables/in.csv", "s3://tables/out.csv", journal="j", resume=True, model=FakeBackend(), **ASKED
    )
    assert result.summary.labelled == 3
    assert names(bucket) == ["in.csv", "out.csv"]


def test_what_is_wrong_is_said_before_anything_is_asked(bucket, here):
    obstore.put(bucket, "in/a.csv", CSV)
    obstore.put(bucket, "in/deep/a.csv", CSV)
    asked: list[Any] = []

    class Counting(FakeBackend):
        def score(self, requests: Any) -> Any:
            asked.extend(requests)
            return super().score(requests)

    def refused(table: Any, output: Any, error: Any = InputError, **more: Any) -> str:
        with pytest.raises(error) as caught:
            label_table(table, output, **{"journal": "j", "model": Counting(), **ASKED, **more})
        return str(caught.value)

    assert "'s3://tables/in/none.csv' does not exist" in refused("s3://tables/in/none.csv", "o.csv")
    assert "holds no object that ends with .csv" in refused("s3://tables/none/", "o.csv")
    assert "holds no object" in refused("s3://tables/in/*.parquet", "o.csv")
    assert "read and would be written over" in refused("s3://tables/in/a.csv", "s3://tables/in/a.csv")
    assert "read and would be written over" in refused("s3://tables/in/a.csv", "S3://tables/in/")
    assert "two input files are called 'a.csv'" in refused("s3://tables/**/a.csv", "s3://tables/out/")
    assert "can be read, and not written" in refused(FRAME, "https://127.0.0.1/o.csv")
    assert "'s3://tables/o.xlsx' is a spreadsheet" in refused(FRAME, "s3://tables/o.xlsx")
    assert "say where the job's journal goes" in refused(FRAME, "s3://tables/o.csv", journal=None)
    assert "begins with 'ftp://'" in refused("ftp://host/a.csv", "o.csv")
    assert "begins with 'file://'" in refused(FRAME, "file:///tmp/o.csv")
    assert "made a Path" in refused(Path("s3://tables/in/a.csv"), "o.csv")
    assert "made a Path" in refused(FRAME, Path("s3://tables/o.csv"))
    assert "s3cret" not in refused("s3://user:s3cret@tables/in/a.csv", "o.csv")
    assert "is a pattern" in refused(FRAME, "s3://tables/o*.csv")
    assert "holds no object" in refused("s3://tables/in/a.csv?versionId=1", "o.csv")
    assert "'.' or '..'" in refused("s3://tables/in/../a.csv", "o.csv")
    assert "is an address" in refused(FRAME, "o.csv", journal="s3://tables/j")
    assert "s3://no-such-bucket/o.csv" in refused(FRAME, "s3://no-such-bucket/o.csv", (InputError, StoreError))
    assert not asked
    assert names(bucket) == ["in/a.csv", "in/deep/a.csv"]
    assert not [path for path in here.iterdir() if path.name != "j"]


def test_a_store_that_refuses_names_the_credentials(bucket, here, monkeypatch):
    """The keys themselves are never shown."""

    def refuse(*_: Any, **__: Any) -> None:
        raise obstore.exceptions.PermissionDeniedError(
            "403 of s3://tables with s3cret-of-the-tests\n\nDebug source: s3cret"
        )

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
        label_table(FRAME, "s3://tables/o.csv", journal="j", model=FakeBackend(), **ASKED)
    assert "s3cret" not in str(caught.value)


def test_web_tables_are_read_with_their_signature(here):
    """An address that holds a signature is used whole and shown without it."""
    with web({"/d/re%20views.csv?sig=s3cret": CSV}) as url:
        result = label_table(f"{url}/d/re%20views.csv?sig=s3cret", "o.csv", model=FakeBackend(), **ASKED)
        assert result.summary.labelled == 3
        assert result.summary.input == f"{url}/d/re%20views.csv"
        assert "s3cret" not in Path("o.csv.journal").read_bytes().decode("latin1")
        with pytest.raises(InputError, match="does not exist") as caught:
            label_table(f"{url}/none.csv?sig=s3cret", "p.csv", model=FakeBackend(), **ASKED)
        assert "s3cret" not in str(caught.value)
        with pytest.raises(InputError, match=r"ends with '\.html'"):
            label_table(f"{url}/none.html", "p.csv", model=FakeBackend(), **ASKED)
    assert sorted(path.name for path in here.iterdir()) == ["o.csv", "o.csv.journal"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_table_of_this_machine_is_read_without_a_proxy(here, monkeypatch, variable):
    """Whatever variable names a proxy; a table elsewhere is asked of it."""
    with Proxy(refusal="403 Forbidden") as proxy, web({"/in.csv": CSV}) as address:
        monkeypatch.setenv(variable, proxy.url)
        label_table(f"{address}/in.csv", "out.csv", model=FakeBackend(), id_column="id", **ASKED)
        assert proxy.heads == []
        with pytest.raises(StoreError):
            label_table("http://192.0.2.7/in.csv", "other.csv", model=FakeBackend(), id_column="id", **ASKED)
        assert proxy.heads[0].startswith("GET http://192.0.2.7/in.csv ")


def test_estimates_read_them_too(bucket, here):
    obstore.put(bucket, "in.csv", CSV)
    assert estimate_table("s3://tables/in.csv", model=FakeBackend(), **ASKED).rows == 3
    assert not list(here.iterdir())


def test_on_the_command_line(bucket, here):
    """`llmclf label` goes from bucket to bucket, by flags and by a job file, and writes no folder called s3:."""
    obstore.put(bucket, "in.csv", CSV)
    Path("job.toml").write_text(
        'input = "s3://tables/in.csv"\noutput = "s3://tables/o.csv"\njournal = "j"\ntext_column = "text"\nlabels = "good,bad"\n'
    )

    def label(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmclf", "label", "--model", "openai:tiny", "--base-url", server.url, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with FakeServer("vllm") as server:
        told = label("s3://tables/in.csv", "s3://tables/o.csv", "--text-column", "text", "--labels", "good,bad")
        assert told.returncode == 2
        assert "--journal" in told.stderr
        assert names(bucket) == ["in.csv"]
        told = label("--job", "job.toml", "--quiet")
    assert told.returncode == 0, told.stderr
    assert "written to s3://tables/o.csv" in told.stdout
    assert names(bucket) == ["in.csv", "o.csv"]
    assert sorted(path.name for path in here.iterdir()) == ["j", "job.toml"]


def test_other_outputs_are_kept_here(here):
    """What is no job's table is never written to a folder that is called like an address."""
    from llmclf import LLMClassifier
    from llmclf.jobs import merge_journals, salvage_journal
    from llmclf.saved_folder import check_folder
    from llmclf.tables.files import write_table

    clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["A fine film."])
    label_table(FRAME, here.parent / "o.csv", model=FakeBackend(), **ASKED)
    journal = here.parent / "o.csv.journal"
    for write in (
        lambda: check_folder("s3://tables/classifier"),  # where `save` begins
        lambda: clf.report(["A fine film."] * 2, ["good", "bad"]).to_html("s3://tables/report.html"),
        lambda: (
            LLMClassifier(FakeBackend(), labels=["good", "bad"], cache="s3://tables/c.sqlite").fit(["A"]).predict(["A"])
        ),
        lambda: salvage_journal(journal, "s3://tables/j"),
        lambda: merge_journals([journal], "s3://tables/j"),
    ):
        with pytest.raises(InputError, match="is an address"):
            write()
    with pytest.raises(InputError, match="is an address"):
        write_table(FRAME, "s3://tables/o.csv")
    with pytest.raises(InputError, match="is an address"):
        write_table(FRAME, Path("s3://tables/o.csv"))
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "table", ["reviews.csv", "s3", "C:/reviews.csv", "a b://c", "sqlite:///f.db?table=t", 7, None, FRAME]
)
def test_what_is_no_address(table):
    assert not is_store_address(table)


@given(st.lists(st.sampled_from(["a", "b", "deep"]), min_size=1, max_size=5), st.integers(0, 4))
def test_two_stars_stand_for_any_number_of_folders(folders, place):
    """A path matches itself, itself with ** anywhere, and never a pattern with one more name."""
    path = "/".join([*folders, "t.csv"])
    marks = [*folders[:place], "**", *folders[place:], "*.csv"]
    assert stores._matches(path, path)
    assert stores._matches(path, "/".join(marks))
    assert not stores._matches(path, f"{path}/x.csv")


def test_delta_tables_in_a_bucket(bucket, here):
    """Read as their last version and not as the objects in their folder; made, changed and added to in one commit each."""
    from deltalake import DeltaTable, write_deltalake

    rows = pd.DataFrame({"id": [f"r{i}" for i in range(20)], "text": [f"review {i}" for i in range(20)]})
    write_deltalake("s3://tables/in", rows)
    DeltaTable("s3://tables/in").delete("id = 'r7'")
    options = {
        "id_column": "id",
        "text_column": "text",
        "labels": ["good", "bad"],
        "model": FakeBackend(),
        "resume": True,
    }
    for address in ("s3://tables/in", "s3://tables/in/"):
        done = label_table(address, "s3://tables/out.delta", journal=here / "j", **options).summary
        assert (done.rows, done.input_version) == (19, 1)
    assert done.output_version == 1
    assert len(DeltaTable("s3://tables/out.delta").to_pandas()) == 19
    more = label_table(
        rows.assign(id=rows["id"] + "-b"), "s3://tables/out.delta", if_exists="append", journal=here / "k", **options
    )
    assert more.summary.output_version == 2
    assert len(DeltaTable("s3://tables/out.delta").to_pandas()) == 39
    with pytest.raises(InputError, match="is read and would be written over"):
        label_table("s3://tables/in", "s3://tables/in/", journal=here / "l", **options)
