"""`llmclf serve` as a process: signals, a killed model, clients that hang up or drip, and what cannot be served."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates.made import certificate
from decision_servers import DecisionServer, Reply
from faults import FakeServer
from serving import close, in_threads, save_classifier, served_process

from llmclf.errors import InputError, StoreError
from llmclf.features import Embeddings
from llmclf.monitoring.decision_log import logs_in
from llmclf.serve.access import Access
from llmclf.serve.event_log import EventLog
from llmclf.serve.limits import Limits
from llmclf.serve.server import Serving, serve

pytestmark = [pytest.mark.kill, pytest.mark.server, pytest.mark.slow]


class SlowServer(DecisionServer):
    """A server's model that takes its time, and raises or dies on request."""

    seconds = 0.0

    def answer(self, path, body):
        time.sleep(self.seconds)
        return super().answer(path, body)


@pytest.fixture(scope="module")
def model():
    with SlowServer() as server:
        yield server


@pytest.fixture(scope="module")
def moods(model, tmp_path_factory):
    """A calibrated classifier behind a server's model, and its folder."""
    folder = tmp_path_factory.mktemp("served") / "moods"
    return _saved(folder, model)


def _saved(folder, model):
    from llmclf import open_backend

    backend = open_backend("systemone:jev-latest", base_url=model.url, concurrency=64)
    return folder, save_classifier(folder, backend, max_error=0.45)


@pytest.fixture(scope="module")
def server(moods):
    with served_process(moods[0]) as server:
        yield server.ready()


def body(*texts):
    return {"model": "moods", "inputs": list(texts)}


def test_the_numbers_are_those_of_the_classifier(server, moods):
    """To 1e-9, for several clients at once, each with its own rows."""
    texts = [f"a text about the number {i}" for i in range(40)]
    expected = moods[1].predict_proba(texts)
    replies = in_threads(lambda i: server.post("/v1/classify", body(*texts[5 * i : 5 * i + 5])), 8)
    got = [[one["probabilities"][c] for c in ("bad", "good")] for reply in replies for one in reply.json["results"]]
    close(got, expected)
    for request in server.named("request"):
        assert request["status"] == 200 or request["route"] == "/readyz"


def test_a_killed_model_process_is_replaced_and_what_it_was_asked_is_answered_once(moods, model):
    """kill -9 in the middle: all requests are answered, each with its own row's numbers, and the next ones, too."""
    folder, clf = moods
    with served_process(folder) as server:
        server.ready()
        first = server.model_pid
        model.seconds = 0.3
        try:
            texts = [f"text {i}" for i in range(12)]
            killer = threading.Timer(0.4, lambda: os.kill(first, signal.SIGKILL))
            killer.start()
            replies = in_threads(lambda i: server.post("/v1/classify", body(texts[i])), 12)
        finally:
            model.seconds = 0.0
        assert [reply.status for reply in replies] == [200] * 12
        got = [[reply.json["results"][0]["probabilities"][c] for c in ("bad", "good")] for reply in replies]
        close(got, clf.predict_proba(texts))
        assert len(server.named("model_died")) == 1
        assert server.model_pid != first
        assert server.post("/v1/classify", body("again")).status == 200
        assert b"llmclf_serve_model_starts 2.0" in server.get("/metrics").content


def test_sigterm_finishes_what_was_accepted_and_ends_with_zero(moods, model):
    """Requests under way are answered, new connections refused, the process of the models ends, too."""
    with served_process(moods[0]) as server:
        server.ready()
        pid = server.model_pid
        model.seconds = 0.5
        try:
            threads = []
            replies = []
            for i in range(6):
                thread = threading.Thread(
                    target=lambda i=i: replies.append(server.post("/v1/classify", body(f"t {i}")))
                )
                thread.start()
                threads.append(thread)
            server.until(lambda: b"llmclf_serve_passes 0" not in server.get("/metrics").content)
            code = server.stop(signal.SIGTERM)
            for thread in threads:
                thread.join()
        finally:
            model.seconds = 0.0
        assert code == 0
        assert [reply.status for reply in replies] == [200] * 6
        with pytest.raises(OSError):
            server.connect()
        assert server.named("stopped")
        assert server.named("stopping")[0]["signal"] == "SIGTERM"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_second_signal_does_not_wait(moods, model):
    """It ends the server while the model is still at work."""
    with served_process(moods[0]) as server:
        server.ready()
        model.seconds = 20.0
        try:
            thread = threading.Thread(target=lambda: in_threads(lambda i: server.post("/v1/classify", body("x")), 1))
            thread.start()
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            server.until(lambda: server.named("stopping"))
            began = time.monotonic()
            server.stop(signal.SIGINT, seconds=15)
            assert time.monotonic() - began < 15
        finally:
            model.seconds = 0.0


def test_what_is_not_answered_in_time_at_the_end_is_told_so(moods, model):
    """In the protocol's form, by a server that stops without waiting any longer."""
    with served_process(moods[0], "--stop-seconds", "1") as server:
        server.ready()
        model.seconds = 20.0
        replies = []
        question = {"type": "choice", "criteria": {"good": None, "bad": None}}
        try:
            asking = threading.Thread(
                target=lambda: replies.append(
                    server.post("/v1/systemone", {"state": "x", "questions": {"q": question}})
                )
            )
            asking.start()
            server.until(lambda: b"llmclf_serve_passes 0" not in server.get("/metrics").content)
            assert server.stop(seconds=15) == 0
            asking.join()
        finally:
            model.seconds = 0.0
        assert replies[0].status == 503
        assert replies[0].json["detail"]["error_type"] == "stopped"


def test_a_model_that_is_stuck_is_started_anew(moods, model):
    """After --pass-seconds; what it was asked is asked once more and answered."""
    with served_process(moods[0], "--pass-seconds", "2", "--answer-seconds", "300") as server:
        server.ready()
        model.seconds = 60.0
        replies = []
        asking = threading.Thread(target=lambda: replies.append(server.post("/v1/classify", body("x"))))
        asking.start()
        try:
            event = server.until(lambda: server.named("model_stuck"))[0]
        finally:
            model.seconds = 0.0
        asking.join()
        assert event["seconds"] >= 2
        assert replies[0].json["results"][0]["error"] is None


def test_the_model_process_ends_with_the_one_that_listens(moods):
    """Also where that is killed and can say nothing."""
    with served_process(moods[0]) as server:
        server.ready()
        pid = server.model_pid
        server.process.kill()
        end = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < end
            time.sleep(0.05)


def test_clients_that_drip_or_hang_up_hold_up_nobody(moods):
    """A byte at a time in the head or the body ends with 408; others are answered meanwhile."""
    with served_process(moods[0], "--body-seconds", "1") as server:
        server.ready()
        head = b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"

        def drip(start):
            connection = server.connect()
            connection.sendall(start)
            said = b""
            connection.settimeout(0.1)
            for _ in range(150):
                try:
                    connection.sendall(b"x")
                except OSError:
                    pass
                try:
                    part = connection.recv(4096)
                except TimeoutError:
                    continue
                except OSError:
                    break
                if not part:
                    break
                said += part
            connection.close()
            return said

        def hang_up(_):
            for cut in (head[:20], head, head + b'{"inputs": ["x'):
                connection = server.connect()
                connection.sendall(cut)
                connection.close()
            return b""

        work = [
            lambda i: drip(head[:30]),
            lambda i: drip(head),
            hang_up,
            lambda i: server.post("/v1/classify", body("x")),
        ]
        in_head, in_body, _, reply = in_threads(lambda i: work[i](i), 4)
        assert in_head.startswith(b"HTTP/1.1 408")
        assert in_body.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 1 s" in in_body
        assert reply.status == 200
        with server.connect() as idle:
            idle.settimeout(30)
            assert idle.recv(100).startswith(b"HTTP/1.1 408")  # who connects and says nothing
        assert server.get("/healthz").status == 200


def test_a_client_that_does_not_read_is_hung_up_on(moods):
    """What it was sent fills the buffers; closing alone would wait for it for ever."""
    n = 1000
    with served_process(moods[0], "--answer-seconds", "1") as server, socket.socket() as client:
        server.ready()
        page = server.get("/docs").content
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(1)
        with suppress(TimeoutError):
            client.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n" * n)
        time.sleep(3)
        client.settimeout(60)
        said = 0
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                said += len(part)
        assert said < n * len(page)
        assert server.get("/healthz").status == 200


def test_rubbish_is_no_fault(server):
    """What is no HTTP is refused, and the server goes on."""
    for rubbish in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"G" * 100_000):
        with server.connect() as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            said = b""
            try:
                while part := connection.recv(4096):
                    said += part
            except ConnectionError:
                pass
            if said:  # unless the rest of the rubbish has closed the connection before
                error = json.loads(said.partition(b"\r\n\r\n")[2])["error"]
                assert (said[9:12], error["type"]) in ((b"400", "invalid_http"), (b"421", "wrong_host"))
    assert server.get("/healthz").status == 200
    assert not server.named("fault")


def test_a_full_queue_answers_429_and_accepted_requests_are_answered(moods, model):
    """Some are refused with Retry-After, the others answered, and there are no more and no fewer."""
    with served_process(moods[0], "--max-waiting-rows", "4", "--pass-rows", "1") as server:
        server.ready()
        model.seconds = 0.2
        try:
            replies = in_threads(lambda i: server.post("/v1/classify", body(f"text {i}")), 30)
        finally:
            model.seconds = 0.0
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 429}
        assert all("retry-after" in reply.headers for reply in replies if reply.status == 429)
        assert server.post("/v1/classify", body("x")).status == 200


def test_a_server_behind_that_fails_is_503_and_heals(tmp_path):
    """While the model's own server refuses, so does this one, and says that it is not the request's fault."""
    with SlowServer() as model:
        folder, _ = _saved(tmp_path / "moods", model)
        with served_process(folder) as server:
            server.ready()
            model.script = [Reply(401, {"detail": "no"})] * 8
            reply = server.post(
                "/v1/systemone",
                {"state": "x", "questions": {"q": {"type": "choice", "criteria": {"good": None, "bad": None}}}},
            )
            assert reply.status == 503
            assert reply.json["detail"]["error_type"] == "model_unavailable"
            assert "retry-after" in reply.headers
            model.script = []
            assert server.post("/v1/classify", body("x")).status == 200


def test_decisions_are_kept_in_a_log_without_texts(moods, tmp_path):
    """One record a row, in the classifier's order; the log is whole after SIGTERM."""
    from llmclf.monitoring import DecisionLog

    folder, clf = moods
    with served_process(folder, "--log", tmp_path / "log") as server:
        server.ready()
        [begun] = logs_in(tmp_path / "log")  # before there is any decision
        assert (begun.classes, len(begun.read())) == (("bad", "good"), 0)
        reply = server.post("/v1/classify", body("one secret", "", "two secrets"), **{"x-request-id": "r1"})
        version = reply.json["version"]
        assert server.stop() == 0
    log = DecisionLog(tmp_path / "log", classes=["bad", "good"], certificate=None, model=f"moods@{version}")
    columns = log.read()
    assert columns.ids == tuple(result["id"] for result in reply.json["results"])
    close(columns.probabilities[[0, 2]], clf.predict_proba(["one secret", "two secrets"]))
    log.close()
    assert all(b"secret" not in file.read_bytes() for file in (tmp_path / "log").iterdir())


class FileLimit:
    """No process of the server may make a file any longer, for as long as it is full."""

    def __init__(self, folder, server_pid):
        self.folder, self._pid = folder, server_pid

    def fill(self):
        self._allow(0)

    def free(self):
        with suppress(ProcessLookupError):  # the limit has ended with the process
            self._allow(None)

    def _allow(self, n_bytes):
        resource = pytest.importorskip("resource")
        if not hasattr(resource, "prlimit"):
            pytest.skip("limits of another process need Linux")
        _, most = resource.prlimit(self._pid(), resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid(), resource.RLIMIT_FSIZE, (most if n_bytes is None else n_bytes, most))


class SmallDisk:
    """A disk of one megabyte."""

    def __init__(self, folder, server_pid):
        self.folder = folder / "disk"
        self.folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", self.folder], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this user may not mount a disk")

    def fill(self):
        with suppress(OSError), open(self.folder / "rest", "wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass

    def free(self):
        (self.folder / "rest").unlink()


@pytest.mark.parametrize("kind", [FileLimit, SmallDisk])
def test_a_full_disk_holds_up_no_answer_and_loses_nothing_once_there_is_room(moods, tmp_path, kind):
    """It is said once and measured; only what still waits at the end is lost, and no row is torn."""
    started = []
    disk = kind(tmp_path, lambda: started[0].process.pid)
    ids = []

    def ask(server, n=1):
        for _ in range(n):
            reply = server.post("/v1/classify", body("one", "", "two"))
            assert reply.status == 200
            ids.extend(result["id"] for result in reply.json["results"])

    def ask_until(server, name, n):
        while len(server.named(name)) < n:
            ask(server)

    def measured(server, name):
        [line] = [one for one in server.get("/metrics").content.decode().splitlines() if one.startswith(name)]
        return float(line.split()[-1])

    try:
        with served_process(moods[0], "--log", disk.folder / "log") as server:
            started.append(server)
            server.ready()
            [log] = logs_in(disk.folder / "log")
            ask(server, 3)
            server.until(lambda: len(log.read()) == 9)
            for time_full in (1, 2):
                disk.fill()
                ask_until(server, "decision_log_fails", time_full)
                ask(server, 5)
                assert server.get("/readyz").status == 200
                assert measured(server, "llmclf_serve_decision_log_failing") == 1
                assert measured(server, "llmclf_serve_decisions_waiting") >= 15
                disk.free()
                server.until(lambda n=time_full: len(server.named("decision_log_works")) == n)
                assert log.read().ids == tuple(ids)
            assert measured(server, "llmclf_serve_decision_log_failing") == 0
            assert measured(server, "llmclf_serve_decisions_left_out") == 0
            disk.fill()
            ask_until(server, "decision_log_fails", 3)
            n_asked = len(ids)
            assert server.stop() == 0
            [lost] = server.named("decisions_lost")
            kept = log.read().ids
            assert kept == tuple(ids[: len(kept)])
            assert lost["rows"] == n_asked - len(kept) > 0
            assert "disk" in server.named("decision_log_fails")[0]["reason"]
            disk.free()
        with served_process(moods[0], "--log", disk.folder / "log") as server:
            ask(server.ready())
            assert server.stop() == 0
        assert log.read().ids == (*kept, *ids[-3:])
        for _, path in log.files():
            with contextlib.closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        if kind is SmallDisk:
            subprocess.run(["umount", disk.folder], check=True)


def test_locked_logs_hold_up_no_end(moods, tmp_path):
    """Another process is at work in each of them and does not end: what they lack is counted and said, and the server ends."""
    names = ["a", "b", "c"]
    folders = [shutil.copytree(moods[0], tmp_path / name) for name in names]
    with (
        served_process(*folders, "--log", tmp_path / "log", "--stop-seconds", "1") as server,
        contextlib.ExitStack() as locks,
    ):
        server.ready()
        logs = logs_in(tmp_path / "log")
        for log in logs:
            [(_, path)] = log.files()
            other = locks.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
        for name in names:
            assert server.post("/v1/classify", {"model": name, "inputs": ["one", "two"]}).status == 200
        assert server.stop(seconds=60) == 0  # to wait for each lock would take 90
        assert [(one["model"], one["rows"]) for one in server.named("decisions_lost")] == [(name, 2) for name in names]
        assert server.events[-1]["event"] == "stopped"
        assert server.other == []
        assert [len(log.read()) for log in logs] == [0, 0, 0]


def test_two_servers_share_a_log(moods, tmp_path):
    """Each decision is there once, whoever made it, and a reader may look at any time."""
    with (
        served_process(moods[0], "--log", tmp_path / "log") as one,
        served_process(moods[0], "--log", tmp_path / "log") as other,
    ):
        one.ready(), other.ready()
        [log] = logs_in(tmp_path / "log")

        def work(number):
            server = (one, other)[number % 2]
            replies = [server.post("/v1/classify", body("a", "b"), **{"x-request-id": "same"}) for _ in range(20)]
            log.read()
            return [result["id"] for reply in replies for result in reply.json["results"]]

        ids = [one for part in in_threads(work, 4) for one in part]
        assert one.stop() == other.stop() == 0
    assert len(set(ids)) == len(ids) == 160
    assert sorted(log.read().ids) == sorted(ids)


def test_a_log_of_an_older_version_ends_the_server_at_its_start(moods, tmp_path):
    """By name, with the cure, before anything is answered."""
    with served_process(moods[0], "--log", tmp_path) as server:
        server.ready()
        assert server.stop() == 0
    [path] = tmp_path.glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=1")
    done = run(moods[0], "--port", "0", "--log", tmp_path)
    assert done.returncode == 1
    assert "has format 1" in done.stderr
    assert "give another folder" in done.stderr
    assert "Traceback" not in done.stderr


def copied(folder, target, **changes):
    """A copy of a saved classifier, with a certificate."""
    shutil.copytree(folder, target)
    certificate(target, **changes).save(target)
    return target


def test_certificates_that_do_not_hold_are_said_by_a_running_server(moods, tmp_path):
    """An expired and a broken one at the start, and one that expires meanwhile: in the log, the metrics and all answers."""
    old = copied(moods[0], tmp_path / "old", issued="2020-01-31T12:00:00+00:00", expires="2021-01-31T12:00:00+00:00")
    broken = copied(moods[0], tmp_path / "broken")
    (broken / "certificate.json").write_text("{}")
    for seconds in (15, 60, 240):  # a machine that is slow to start needs more
        soon = tmp_path / f"soon{seconds}"
        copied(moods[0], soon, expires=(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())
        with served_process(old, broken, soon) as server:
            server.ready()
            serves = {event["model"]: event for event in server.named("serves")}
            if server.get("/readyz").json["certificates"] != {"expired": 1, "broken": 1}:
                continue
            assert serves["old"]["certificate_status"] == "expired"
            assert serves["broken"]["certificate_status"] == "broken"
            assert "certificate.json" in serves["broken"]["fault"]
            assert serves[soon.name]["certificate_status"] == "valid"
            (event,) = server.until(lambda server=server: server.named("certificate_expired"))
            assert (event["model"], event["certificate_id"]) == (soon.name, serves[soon.name]["certificate_id"])
            assert server.get("/readyz").json == {"status": "ready", "certificates": {"expired": 2, "broken": 1}}
            metrics = server.get("/metrics").content.decode()
            for name, status in (("old", "expired"), ("broken", "broken"), (soon.name, "expired")):
                version = serves[name]["version"]
                assert f'certificate="{status}",model="{name}",version="{version}"' in metrics
                said = server.post("/v1/classify", {"model": name, "inputs": ["x"]}).json
                assert said["certificate"] == {"id": serves[name].get("certificate_id"), "status": status}
            return
    pytest.fail("the machine is too slow to see a certificate expire")


def run(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "llmclf", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **env},
    )


def serving(*folders, port=0, host="127.0.0.1", **more):
    """What would be served, without a key."""
    return Serving(
        folders, None, host, port, Access(None, is_local=True), Limits(), EventLog(lambda event: None), **more
    )


def test_what_cannot_be_served_is_named_and_nothing_listens(moods, tmp_path):
    """No folder, no classifier, damage, another version, two of one name, no address, a port in use."""
    folder = moods[0]
    values = json.loads((folder / "classifier.json").read_text())
    for name, text in (
        ("damaged", "{"),
        ("newer", json.dumps({**values, "format": 99})),
        ("other/moods", json.dumps(values)),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "classifier.json").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for asked, kind, words in (
            (serving(), InputError, "nothing is to be served"),
            (serving(tmp_path / "none"), StoreError, "holds no saved classifier"),
            (serving(tmp_path / "damaged"), StoreError, "is damaged"),
            (serving(tmp_path / "newer"), StoreError, "newer version"),
            (serving(folder, tmp_path / "other" / "moods"), InputError, "called 'moods'"),
            (serving(folder, host="no.such.host.invalid"), InputError, "is no address of this machine"),
            (serving(folder, decisions=folder / "classifier.json"), InputError, "is a file"),
            (serving(folder, decisions=Path("/proc")), StoreError, "'/proc' cannot be written"),
            (serving(folder, port=port), StoreError, f"port {port} of 127.0.0.1 cannot be taken"),
        ):
            with pytest.raises(kind, match=words):
                serve(asked, lambda host, port: pytest.fail("it listens"))


def test_the_command_line_says_what_is_wrong_in_one_line(moods):
    """A host without a key, a variable without one, a model that nobody knows: code 2, and no traceback."""
    cases = [
        ((moods[0], "--host", "0.0.0.0"), "there is no key"),
        ((moods[0], "--access-key-env", "LLMCLF_NO_KEY"), "'LLMCLF_NO_KEY' is not set"),
        (("--model", "nonsense"), "nonsense"),
        ((moods[0], "--max-body-mb", "nan"), "--max-body-mb nan: expected a number"),
        ((moods[0], "--body-seconds", "0"), "--body-seconds 0.0: expected a number of seconds above 0"),
        ((moods[0], "--pass-seconds", "inf"), "--pass-seconds inf: expected a number of seconds above 0"),
        ((moods[0], "--max-connections", "999999999"), "--max-connections 999999999 needs"),
        (
            ("--model", "systemone:any", "--embedding-option", "rpm=9"),
            "'rpm=9' belongs to a saved classifier; give its",
        ),
        ((moods[0], "--embedding-option", "rpm=9"), "has no embeddings, so nothing takes embedding_options={'rpm': 9}"),
        ((moods[0], "--chat"), "--chat belongs to --model"),
        (("--model", "systemone:any", "--log", "here"), "--log 'here' keeps the decisions of classifiers; give the"),
    ]
    for done, (_, words) in zip(in_threads(lambda i: run(*cases[i][0]), len(cases)), cases, strict=True):
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_options_of_embeddings_go_to_the_classifiers_that_have_some(moods, model, tmp_path):
    """The others have nothing that could take them; what is asked of the server that has moved is asked of the new one."""
    from llmclf import open_backend

    backend = open_backend("systemone:jev-latest", base_url=model.url)
    with FakeServer("embeddings") as old:
        features = [Embeddings("openai:tiny", base_url=old.url)]
        clf = save_classifier(tmp_path / "embedded", backend, features=features)
        expected = clf.predict_proba(["one", "two"])
    with FakeServer("embeddings") as new:
        option = ["--embedding-option", f"base_url={new.url}"]
        with served_process(moods[0], tmp_path / "embedded", *option) as server:
            server.ready()
            for name, rows in (("moods", moods[1].predict_proba(["one", "two"])), ("embedded", expected)):
                results = server.post("/v1/classify", {"model": name, "inputs": ["one", "two"]}).json["results"]
                close([[one["probabilities"][c] for c in ("bad", "good")] for one in results], rows)
        assert {text for request in new.requests for text in request.body["input"]} >= {"one", "two"}


def test_a_model_that_cannot_be_opened_ends_the_server(tmp_path):
    """With the reason and code 1, once: as where its own server is not there."""
    with SlowServer() as model:
        folder, _ = _saved(tmp_path / "moods", model)
    done = run(folder, "--port", "0", "--model-option", "max_retries=0")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_opens_a_server_for_others_and_is_seen_nowhere(moods):
    """The model's process does not get it, nor do logs and metrics."""
    with served_process(
        moods[0], "--access-key-env", "LLMCLF_SERVE_KEY", env={"LLMCLF_SERVE_KEY": "open-sesame-123"}
    ) as server:
        server.ready()
        assert server.post("/v1/classify", body("x")).status == 401
        key = {"authorization": "Bearer open-sesame-123"}
        assert server.post("/v1/classify", body("x"), **key).status == 200
        environment = Path(f"/proc/{server.model_pid}/environ").read_bytes()
        assert b"open-sesame" not in environment
        assert b"open-sesame" not in server.get("/metrics", **key).content
        assert server.stop() == 0
        assert "open-sesame" not in json.dumps(server.events) + "".join(server.other)
