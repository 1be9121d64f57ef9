"""Clients that speak HTTP as they like: each is answered in its protocol's own form, and the server goes on."""

from __future__ import annotations

import json
import resource
import socket
import time
import uuid
from contextlib import ExitStack, suppress

import pytest
from decision_servers import DecisionServer
from serving import Reply, in_threads, served_process

from llmclf.errors import InputError
from llmclf.serve.connections import allow_files
from llmclf.serve.limits import Limits
from llmclf.serve.server import _listener

pytestmark = [pytest.mark.server, pytest.mark.slow]

KEY = "open-sesame-123"
QUESTION = {"type": "choice", "criteria": {"a": None, "b": None}}
ONE_OF = {"type": "choice", "instructions": "?", "choices": [{"value": "a"}, {"value": "b"}]}
BODIES = {
    "/v1/systemone": {"state": "x", "questions": {"q": QUESTION}},
    "/v1/decisions": {"input": "x", "questions": [ONE_OF]},
    "/v1/classify": {"inputs": ["x"], "labels": ["a", "b"]},
}


@pytest.fixture(scope="module")
def model():
    with DecisionServer() as server:
        yield ["--model", "systemone:any", "--base-url", server.url]


@pytest.fixture(scope="module")
def server(model):
    with served_process(*model) as server:
        yield server.ready()


def kind_of(path, reply):
    """What a refusal is called, if it has the form of the path's protocol."""
    body = json.loads(reply.content)
    if path == "/v1/systemone":
        detail = body["detail"]
        return detail[0]["type"] if isinstance(detail, list) else detail["error_type"]
    error = body["error"]
    assert error["message"]
    return error["code"] if path == "/v1/decisions" else error["type"]


def sent(server, data, n=1):
    """The first n replies to some bytes on a connection of their own."""
    with server.connect() as connection, connection.makefile("rb") as said:
        connection.sendall(data)
        return [next_reply(said) for _ in range(n)]


def next_reply(said):
    status, headers = int(said.readline().split()[1]), {}
    while (line := said.readline().decode().strip()) != "":
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return Reply(status, headers, said.read(int(headers.get("content-length", 0))))


def head(path, *more, method="POST", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json", *more, "", ""]
    return "\r\n".join(lines).encode()


def request(path, *more, **options):
    content = json.dumps(BODIES[path]).encode()
    return head(path, f"Content-Length: {len(content)}", *more, **options) + content


@pytest.mark.parametrize("path", BODIES)
def test_old_and_impatient_clients_are_answered(server, path):
    """HTTP/1.0, several requests at once, a body in chunks, and one that waits until it may send its body."""
    (old,) = sent(server, request(path, version="1.0"))
    assert (old.status, old.headers["connection"]) == (200, "close")
    assert [reply.status for reply in sent(server, request(path) * 3, 3)] == [200] * 3
    content = json.dumps(BODIES[path]).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:7], content[7:], b""))
    (chunked,) = sent(server, head(path, "Transfer-Encoding: chunked") + chunks)
    assert chunked.status == 200
    told, waited = sent(server, request(path, "Expect: 100-continue"), 2)
    assert (told.status, waited.status) == (100, 200)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "chunks", [b"5\r\n{}\r\n0\r\n\r\n", b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"2\r\n{}rubbish\r\n"]
)
def test_chunks_that_lie_are_refused_in_the_protocols_form(server, path, chunks):
    """400 by the path of the request, which the log has as such."""
    own = uuid.uuid4().hex
    (reply,) = sent(server, head(path, "Transfer-Encoding: chunked", f"X-Request-Id: {own}") + chunks)
    assert (reply.status, kind_of(path, reply)) == (400, "invalid_http")
    assert reply.headers["x-request-id"] == own
    (event,) = server.until(lambda: [one for one in server.named("request") if one["request_id"] == own])
    assert (event["route"], event["status"], event["error"]) == (path, 400, "invalid_http")


@pytest.mark.parametrize(
    "data",
    [
        head("/v1/classify", "Content-Length: 2", "Content-Length: 3") + b"{}",
        head("/v1/classify", "Content-Length: two") + b"{}",
        head("/v1/classify", "Content-Length: -1") + b"{}",
        b"POST /v1/classify HTTP/1.1\r\nX-Long: " + b"x" * 1_000_000,
        head("/v1/classify", "Host: localhost"),
        head("/v1/cl assify"),
        head("/v1/classify", "X: a\x00b"),
        b"POST /v1/classify\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_in_the_plain_form(server, data):
    """It has no path, and so no protocol; headers that contradict each other or are too long are no request either."""
    (reply,) = sent(server, data)
    assert (reply.status, kind_of("", reply)) == (400, "invalid_http")
    assert reply.headers["content-type"] == "application/json"
    assert len(reply.json["request_id"]) == 32


@pytest.mark.parametrize("path", [*BODIES, "/v1/nowhere", "/v1/classify/", "//v1/classify", "*"])
def test_other_methods_and_paths_are_refused_in_the_protocols_form(server, path):
    """405 with the method that there is, or 404; HEAD has the same head, and no body."""
    for method in ("OPTIONS", "PUT", "DELETE", "CONNECT", "BREW"):
        (reply,) = sent(server, head(path, method=method))
        assert (reply.status, kind_of(path, reply)) in ((405, "method_not_allowed"), (404, "not_found"))
        assert (reply.headers.get("allow") == "POST") == (path in BODIES)
    with server.connect() as connection:
        connection.sendall(head(path, method="HEAD"))
        assert connection.makefile("rb").read().endswith(b"\r\n\r\n")


def test_heads_of_pages_have_no_body(server):
    """Each route that is read can be looked at first."""
    for path in ("/healthz", "/readyz", "/v1/models", "/docs", "/openapi.json", "/metrics"):
        reply = server.request("HEAD", path, None, {})
        assert (reply.status, reply.content) == (200, b"")


def test_the_reason_reaches_clients_that_send_all_before_they_read(model):
    """A body that is too large, of the wrong type or without a key is read to its end: a reset would hide the reply."""
    with served_process(*model, "--access-key-env", "LLMCLF_KEY", env={"LLMCLF_KEY": KEY}) as server:
        server.ready()
        large = b" " * 20_000_000
        for path in BODIES:
            for headers, status, kind in (
                ({"authorization": f"Bearer {KEY}"}, 413, "too_large"),
                ({"authorization": f"Bearer {KEY}", "content-type": "text/plain"}, 415, "unsupported_media_type"),
                ({"authorization": "Bearer wrong"}, 401, "authentication_error"),
            ):
                reply = server.post(path, large, **headers)
                assert (reply.status, kind_of(path, reply)) == (status, kind)
        assert server.post("/v1/nowhere", large, authorization=f"Bearer {KEY}").status == 404
        assert not server.named("fault")


def refused(server, reason):
    """How many connections were refused before a request, for a reason."""
    page = server.get("/metrics").content.decode()
    label = f'llmclf_serve_connections_refused_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(label)) for line in page.splitlines() if line.startswith(label))


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\r\n\r\n", b"G" * 100_000])
def test_a_connection_is_refused_once(model, rubbish):
    """Its client may read that for longer than a head may take, and send more; the second refusal would be a traceback."""
    with served_process(*model, "--body-seconds", "0.5") as server:
        server.ready()
        with server.connect() as connection, connection.makefile("rb") as said:
            connection.sendall(rubbish)
            reply = next_reply(said)
            assert (reply.status, kind_of("", reply)) == (400, "invalid_http")
            with suppress(OSError):
                connection.sendall(rubbish)
            time.sleep(1)  # twice the time of a head, and half of that in which the client may read
            with suppress(ConnectionResetError):
                assert said.read() == b""
        with server.connect() as silent, silent.makefile("rb") as said:
            assert next_reply(said).status == 408
        assert (refused(server, "invalid_http"), refused(server, "request_timeout")) == (1, 1)
        assert server.other == []
        assert {event["event"] for event in server.events} == {"model_ready", "request"}


def test_requests_on_too_many_connections_are_refused_and_others_are_not(model):
    """In the protocol's form, with a way to see that the server lives; once connections are closed it answers again."""
    with served_process(*model, "--max-connections", "3", "--body-seconds", "60") as server:
        server.ready()
        with ExitStack() as idle:
            for _ in range(3):
                idle.enter_context(server.connect())
            for path in BODIES:
                (reply,) = sent(server, request(path))
                assert (reply.status, kind_of(path, reply)) == (503, "too_many_connections")
                assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
            assert server.get("/healthz").status == 200
            for _ in range(3):
                idle.enter_context(server.connect())
            with server.connect() as unheard:
                said = unheard.makefile("rb").read()
            assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "too_many_connections"
        server.until(lambda: server.get("/metrics").status == 200)
        assert refused(server, "too_many_connections") == 1
        server.until(lambda: sent(server, request("/v1/classify"))[0].status == 200)


def test_a_process_may_open_as_many_files_as_its_connections_need():
    """It asks for more where it has few, and what cannot be had is refused with what can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        allow_files(Limits(connections=100))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 200
        with pytest.raises(InputError, match="--max-connections 999999999 needs .* expected at most"):
            allow_files(Limits(connections=999_999_999))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


HOSTILE = [
    {"inputs": []},
    {"inputs": [""]},
    {"inputs": ["x"], "labels": []},
    {"inputs": ["x"], "labels": [str(i) for i in range(10_000)]},
    {"inputs": ["x"], "labels": [1, 2]},
    {"inputs": [7], "labels": ["a", "b"]},
    {"inputs": ["x"], "labels": ["a", "b"], "model": 7},
    {"inputs": ["x"], "labels": ["a", "b"], "model": "\x1b[31m" * 1000},
    {"inputs": ["\x00\x1b[2J<|im_end|>\u202e"], "labels": ["<|im_start|>", "\u202e"]},
    b'{"inputs": ["\\ud800"], "labels": ["a", "b"]}',
    b'{"inputs": [1e999], "labels": ["a", "b"]}',
    b'{"inputs": [NaN, -Infinity]}',
    b'{"a":' * 100_000,
    b"[" * 4_000_000,
    b'{"inputs": [' + b"1," * 1_000_000 + b"1]}",
    b'{"' + b"k" * 3_000_000 + b'": 1}',
]


def test_no_body_stops_the_server(server):
    """Each is refused or answered, all at once, with JSON; there is no fault, and the next client is answered."""
    replies = in_threads(lambda i: server.post("/v1/classify", HOSTILE[i]), len(HOSTILE))
    for reply in replies:
        assert reply.status == 200 or 400 <= reply.status < 500
        assert reply.json["request_id"]
        assert b"Traceback" not in reply.content
    assert server.post("/v1/classify", BODIES["/v1/classify"]).status == 200
    assert not server.named("fault")
    assert not server.named("model_died")
    assert server.other == []


def test_the_last_packet_of_a_reply_does_not_wait_for_a_receipt():
    """Connections send at once, which a client that keeps its connection notices with every answer."""
    with _listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
