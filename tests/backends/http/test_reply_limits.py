"""Replies without end: how much of one is read, from a real server that sends as it likes, and what the client's memory says."""

from __future__ import annotations

import gzip
import itertools
import math
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from faults import FakeServer, Mutate, Replace, Status

from llmclf.backends import OpenAIBackend
from llmclf.backends.http import client as client_module
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.http.replies import BadReplyError
from llmclf.backends.http.reply_limits import DEPTH, MEGABYTE, ReplyLimitError, ReplyLimits
from llmclf.backends.wires.token_replies import chat_reader, completion_reader
from llmclf.errors import CapabilityError, ServerError

LIMITS = ReplyLimits(1, "http://localhost:8000/v1")
ZEROS = bytes(MEGABYTE)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits between attempts are short."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.02)


@contextmanager
def sending(pieces: Callable[[], Iterable[bytes]]) -> Iterator[str]:
    """A server that answers every connection with these bytes, head and all; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                for piece in pieces():
                    connection.sendall(piece)
            except OSError:
                pass  # the client has had enough

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(connection,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join(10)


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", "Content-Type: application/json", *lines, "", ""]).encode()


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n" % len(piece) + piece + b"\r\n"


def bomb(encoding: str, megabytes: int = 1500) -> Iterator[bytes]:
    """A compressed reply of so many megabytes."""
    bits = {"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    yield head(f"Content-Encoding: {encoding.rpartition(' ')[2]}", "Transfer-Encoding: chunked")
    yield from chunks(filter(None, (packer.compress(ZEROS) for _ in range(megabytes))))


def nested_bomb() -> Iterator[bytes]:
    """Compressed twice: a few kilobytes."""
    yield head("Content-Encoding: gzip, gzip", "Transfer-Encoding: chunked")
    yield from chunks([gzip.compress(gzip.compress(bytes(256 * MEGABYTE), 6), 6)])


def refused(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same with the status 400."""
    return (piece.replace(b"HTTP/1.1 200", b"HTTP/1.1 400", 1) for piece in pieces)


def plain(*lines: str) -> Iterator[bytes]:
    """A head, and a body of 1.5 GB."""
    return itertools.chain([head(*lines)], itertools.repeat(ZEROS, 1500))


ENDLESS = {
    "1.5 GB said": lambda: plain(f"Content-Length: {1500 * MEGABYTE}"),
    "1.5 GB in chunks": lambda: itertools.chain(
        [head("Transfer-Encoding: chunked")], chunks(itertools.repeat(ZEROS, 1500))
    ),
    "until the end of the connection": plain,
    "gzip": lambda: bomb("gzip"),
    "deflate": lambda: bomb("deflate"),
    "raw deflate": lambda: bomb("raw deflate"),
    "gzip twice": nested_bomb,
    "length of many digits": lambda: plain(f"Content-Length: {'9' * 4000}"),
    "a refusal": lambda: refused(plain()),
    "a refusal, gzip": lambda: refused(bomb("gzip")),
}


def ask(url: str, **options) -> object:
    client = Client(ServerOptions(url, **{"timeout": 30.0, "max_retries": 2, **options}))
    return AsyncBridge(client).call(lambda it: it.call("/completions", {"prompt": "x"}, lambda reply: reply))


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
def test_no_more_is_read_than_the_limit(pieces):
    """Whatever a server sends and says of its length; a refusal stays one. It is asked once."""
    asked = []
    with sending(lambda: asked.append(1) or pieces()) as url:
        begun = time.monotonic()
        with pytest.raises(ServerError) as caught:
            ask(url, max_reply_mb=3)
        assert time.monotonic() - begun < 20.0
        message = str(caught.value)
        if caught.value.status == 200:
            assert "larger than 3 MB (max_reply_mb=3)" in message
            assert "raise max_reply_mb" in message
        else:  # a length that the HTTP library itself refuses is a connection that broke
            assert "answered 400" in message or "connection broke" in message
        assert not caught.value.is_final
        assert len(asked) == (3 if "connection broke" in message else 1)


MEMORY = """
import resource, sys
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.http.options import ServerOptions
from llmclf.errors import CapabilityError, ServerError

good, url, n = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def ask(client, _):
    await client.call("/completions", {"prompt": "x"}, lambda reply: reply, max_retries=0)
    return []

def peak(address, n):
    try:
        list(AsyncBridge(Client(ServerOptions(address, max_reply_mb=16, concurrency=32))).stream(range(n), ask))
    except ServerError as error:
        print(error, file=sys.stderr)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak(good, 4)
print(peak(url, n) - before)
"""


@pytest.mark.parametrize(
    ("name", "n", "most"), [("gzip", 1, 40), ("1.5 GB in chunks", 1, 40), ("1.5 GB in chunks", 32, 250)]
)
def test_memory(name, n, most):
    """The limit and a little more, in megabytes, of 1,500; of many at once one is read to the limit, and 4 MB of each other."""
    with FakeServer() as good, sending(ENDLESS[name]) as url:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, good.url, url, str(n)], capture_output=True, text=True, check=True
        )
    assert "larger than 16 MB" in done.stderr
    assert int(done.stdout) < most


# --- what the content holds ----------------------------------------------------------------------------------------------

NONSENSE = {
    "a million deep": b"[" * 1_000_000,
    "a million objects deep": b'{"a":' * 150_000,
    "deeper than the limit": b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2),
    "many deep ones": b"[" + b",".join([b"[" * 200 + b"]" * 200] * 50) + b"]",
    "more values than the limit": b"[" + b"1," * (MEGABYTE // 16) + b"1]",
    "more lists than the limit": b"[" + b"[]," * (MEGABYTE // 16) + b"[]]",
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_values_and_levels(content):
    """The limit stands in the message, and what to do."""
    begun = time.monotonic()
    with pytest.raises(
        ReplyLimitError, match="64 levels deep, .*look at what answers|65,536 values .*raise max_reply_mb"
    ):
        LIMITS.parse(content)
    assert time.monotonic() - begun < 2.0


def test_what_is_no_nonsense():
    """As deep as the limit, as many values, brackets in texts, a mark of the byte order, half of a character."""
    for content, value in (
        (b"[" * DEPTH + b"]" * DEPTH, None),
        (b'{"a": "' + b"[" * 500 + b'\\"' + b"{" * 500 + b'"}', {"a": "[" * 500 + '"' + "{" * 500}),
        (b"[" + b"1," * 60_000 + b"1]", [1] * 60_001),
        (b"\xef\xbb\xbf[1]", [1]),
        (b'"\xed\xa0\x80"', "\ud800"),
        (b'{"a": 1, "a": 2}', {"a": 2}),  # the last counts, as in any JavaScript
        (b"-1e999", -math.inf),  # whoever reads numbers checks them
    ):
        parsed = LIMITS.parse(content)
        assert value is None or parsed == value


@pytest.mark.parametrize(
    "content", [b"1" * 5000, b"[" * 90, b"[}" * 90, b'{"a": "' + b"[" * 99, b"\xff\xfe[\x001\x00]\x00", b""]
)
def test_what_is_no_json(content):
    """Whole numbers of thousands of digits, and brackets without a partner."""
    with pytest.raises(ValueError):
        LIMITS.parse(content)


@pytest.mark.parametrize(
    "reply",
    ["[" * 1_000_000, '{"error":' * 900 + "1" + "}" * 900, '{"choices":' + "[" * 300 + "]" * 300 + "}"],
    ids=["million", "error", "choices"],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_deep_replies_of_a_server(reply, status):
    """An answer, a refusal and a failure that nest so deep are errors of ours."""
    with FakeServer(faults=lambda request: Status(status, reply)) as server:
        with pytest.raises(ServerError, match="64 levels deep" if status == 200 else str(status)):
            ask(server.url)
        assert len(server.requests) == (1 if status == 400 else 3)


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 4000, "1" * 5000, "0.5", "true", "null", '"-1"', "[]"]


@pytest.mark.parametrize("number", NUMBERS, ids=[number[:9] for number in NUMBERS])
def test_odd_numbers(number):
    """No log-probability is read from what is none; minus infinity says that nothing is known."""
    content = b'{"choices": [{"index": 0, "logprobs": {"content": [{"token": "a", "logprob": %s}]}}]}' % number.encode()
    if number == "-Infinity":
        assert chat_reader(LIMITS.parse(content))[0].chosen.logprob is None
        return
    with pytest.raises(ValueError if number == "1" * 5000 else BadReplyError):
        chat_reader(LIMITS.parse(content))


@pytest.mark.parametrize("n", [60_000, 1_000_000])
def test_alternatives(n):
    """A million of them for one token are refused at once, in each form that servers use."""
    entry = {"token": "a", "logprob": -20.0}
    chat = {"choices": [{"index": 0, "logprobs": {"content": [{**entry, "top_logprobs": [entry] * n}]}}]}
    keyed = {str(i): -20.0 for i in range(n)}
    flat = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [keyed]}
    many = {"tokens": ["a"] * n, "token_logprobs": [-1.0] * n}
    begun = time.monotonic()
    for read, reply in (
        (chat_reader, chat),
        (completion_reader(1), {"choices": [{"index": 0, "logprobs": flat}]}),
        (completion_reader(1), {"choices": [{"index": 0, "logprobs": many}]}),
        (chat_reader, {"choices": [{"index": 0, "logprobs": {"content": [entry] * n}}]}),
    ):
        with pytest.raises(Exception, match="at most 50,000 are read"):
            read(reply)
    assert time.monotonic() - begun < 8.0


def test_a_server_with_too_many_alternatives():
    """The whole way, on a socket: an error that says so."""

    def many(reply):
        for choice in reply.get("choices", []):
            for item in (choice.get("logprobs") or {}).get("content") or []:
                item["top_logprobs"] = [{"token": "a", "logprob": -20.0}] * 60_000
        return reply

    with FakeServer("openai_chat", faults=lambda request: Mutate(many)) as server:
        backend = OpenAIBackend("openai:tiny", base_url=server.url, max_retries=0)
        with pytest.raises(CapabilityError, match="names 60,001 tokens; at most 50,000 are read"):
            backend.probe  # noqa: B018


def test_long_lists_in_refusals():
    """A message is short, however long the list that it is made of, and quick."""
    body = {"detail": [{"loc": ["body"] * 50, "msg": "bad " * 100}] * 1000}
    with FakeServer(faults=lambda request: Status(422, body)) as server, pytest.raises(ServerError) as caught:
        ask(server.url)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_heads_without_end(size):
    """A header that does not end, and many of them, are refused."""
    for pieces in (
        lambda: [head()[:-4] + b"\r\nX: " + b"a" * size],
        lambda: [head()[:-4], *[b"\r\nX-%d: %s" % (i, b"a" * 100) for i in range(size // 100)]],
    ):
        with sending(pieces) as url, pytest.raises(ServerError, match="connection broke"):
            ask(url, max_retries=0)


@pytest.mark.parametrize("piece", [b" ", b"1\r\n \r\n"], ids=["bytes", "chunks"])
def test_a_trickle_has_an_end(piece):
    """A byte now and then is cut at the timeout, however long it goes on."""

    def trickle():
        yield head(*([] if piece == b" " else ["Transfer-Encoding: chunked"]))
        for _ in range(200):
            time.sleep(0.05)
            yield piece

    with sending(trickle) as url:
        begun = time.monotonic()
        with pytest.raises(ServerError, match="no reply within 1 s"):
            ask(url, timeout=1.0, max_retries=0)
        assert time.monotonic() - begun < 5.0


def test_a_shorter_limit_is_obeyed():
    """And a reply within it is read."""
    reply = {"choices": [{"index": 0, "text": "a" * 2 * MEGABYTE}]}
    with FakeServer(faults=lambda request: Replace(reply)) as server:
        assert ask(server.url) == reply
        with pytest.raises(ServerError, match=r"larger than 1 MB"):
            ask(server.url, max_reply_mb=1)


def test_one_long_token():
    """A text of a megabyte in the place of a token is read in no time, whatever it looks like."""
    begun = time.monotonic()
    for text in (
        "bytes:" + "\\x41" * 250_000,
        "bytes:" + "\\x41" * 250_000 + "\n",
        "<" * 1_000_000,
        "token_id:" + "1" * 5000,
        "token_id:\u00b2",
    ):
        shown = {"token": text, "logprob": -1.0, "top_logprobs": []}
        (position,) = chat_reader({"choices": [{"index": 0, "logprobs": {"content": [shown]}}]})
        assert position.chosen.logprob == -1.0
    assert time.monotonic() - begun < 5.0
