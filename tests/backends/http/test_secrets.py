"""The key of a server is in its environment variable and in what is sent to that server, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import pickle
import tempfile
import traceback
import urllib.parse
from unittest import mock

import pytest
from faults import BrokenJson, EmptyBody, FakeServer, Hang, Html, Mutate, Replace, Reset, Status, Truncate
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from llmclf import LLMClassifier, open_backend
from llmclf.backends.http import client as client_module
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.http.file_transfers import Download, Upload
from llmclf.backends.http.key_echoes import without_key
from llmclf.backends.http.options import ServerOptions
from llmclf.errors import BudgetError, LlmclfError, ServerError

NAME = "LLMCLF_TEST_KEY"
KEY = 'sk-canary-/7f"3a9'  # with characters that JSON escapes
SHAPES = (KEY, "canary", KEY.encode().hex(), repr(KEY)[1:-1])
TEXT = "a text that is nobody's business"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The key is set, and waits are short."""
    monkeypatch.setenv(NAME, KEY)
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.01)
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")


@pytest.fixture
def log():
    """All that any library logs, at any level: pairs of level and text."""
    records: list[tuple[int, str]] = []

    class Everything(logging.Handler):
        def emit(self, record):
            parts = [record.getMessage(), repr(record.args), repr(vars(record))]
            if record.exc_info and record.exc_info[1]:
                parts.append(everything(record.exc_info[1]))
            records.append((record.levelno, "\n".join(parts)))

    handler = Everything(logging.NOTSET)
    names = (None, "aiohttp", "aiohttp.client", "asyncio", "anyio", "llmclf")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(1)
    yield records
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def everything(error: BaseException, seen=None) -> str:
    """All that a report of an error could show: messages, attributes, causes, and all variables of all frames but this file's."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return ""
    seen.add(id(error))
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown.stack[:] = [frame for frame in shown.stack if frame.filename != __file__]
    parts = [*shown.format(chain=False), repr(error), str(error), repr(vars(error)), repr(error.args)]
    parts += [everything(other, seen) for other in (error.__cause__, error.__context__) if other is not None]
    if isinstance(error, BaseExceptionGroup):
        parts += [everything(inner, seen) for inner in error.exceptions]
    return "\n".join(parts)


def assert_clean(text: str) -> None:
    for shape in SHAPES:
        assert shape not in text


def make(server: FakeServer | None, **options) -> AsyncBridge:
    url = "http://127.0.0.1:9/v1" if server is None else server.url
    given = {"timeout": 5.0, "max_retries": 1, "concurrency": 4, "api_key_env": NAME, **options}
    return AsyncBridge(Client(ServerOptions(url, **given)))


async def serve(client, unit):
    asyncio.get_running_loop().slow_callback_duration = 0.0  # so that the loop reports all that it runs
    return [
        await client.call("/completions", {"prompt": TEXT}, lambda reply: reply["choices"][0]["text"], tokens_in=10)
    ]


def refusal(status: int, **headers: str) -> Status:
    """A server that repeats what it was sent."""
    return Status(status, {"error": {"message": f"the key 'Bearer {KEY}' is bad: {KEY}", "param": KEY}}, headers)


FAILURES = {
    "401": refusal(401),
    "400": refusal(400),
    "429": refusal(429),
    "500": refusal(500),
    "detail": Status(422, {"detail": [{"loc": ["header", KEY], "msg": f"no {KEY}"}]}),
    "long": Status(403, {"error": "x" * 495 + KEY}),
    "text": Status(401, f"bad key {KEY}"),
    "wait": refusal(503, **{"Retry-After": "9999"}),
    "hang": Hang(60.0),
    "reset": Reset(),
    "truncated": Truncate(),
    "broken JSON": BrokenJson(),
    "HTML": Html(),
    "empty": EmptyBody(),
    "no HTTP": Status(204, "HTTP/9 nonsense"),
    "bug in the reader": Replace({"choices": []}),
    "redirected nowhere": Status(307, headers={"Location": "http://[bad"}),
    "redirected in a circle": Status(307, headers={"Location": "/v1/completions"}),
    "redirected to another scheme": Status(307, headers={"Location": "gopher://127.0.0.1/"}),
}


@pytest.mark.parametrize("fault", FAILURES.values(), ids=FAILURES)
def test_failures(fault, log):
    """No failure shows the key in its message, its causes or the variables of its frames, nor does a log at any level."""
    with FakeServer(faults=lambda request: fault) as server:
        # Short only where it has to pass: on a busy machine a good answer takes its time.
        bridge = make(server, timeout=1.0 if isinstance(fault, Hang) else 5.0)
        for attempt in (lambda: list(bridge.stream([1], serve)), lambda: bridge.call(lambda client: serve(client, 1))):
            with pytest.raises((LlmclfError, IndexError)) as caught:
                attempt()
            assert_clean(everything(caught.value))
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert log
    for level, text in log:
        assert_clean(text)
        assert level <= logging.DEBUG or TEXT not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Set-Cookie": f"{KEY} x=1"},
        {"Set-Cookie": f"session={KEY}; Path=/"},
        {"Content-Type": f"text/{KEY}\xff\x1b[31m"},
        {"Retry-After": KEY},
        {"X-Request-Id": KEY, "Server": KEY},
    ],
    ids=["no cookie", "cookie", "content type", "wait", "others"],
)
def test_headers_of_a_reply(headers, log):
    """A server that repeats the key in headers: none is shown, none comes back, and what is logged can be written."""
    with FakeServer(faults=[Status(503, "a page", headers), Status(200, "no JSON", headers)], key=KEY) as server:
        url = server.url.replace("127.0.0.1", "localhost")  # cookies of numbers are kept by no client
        bridge = AsyncBridge(Client(ServerOptions(url, api_key_env=NAME, max_retries=2, timeout=5.0)))
        assert list(bridge.stream([1], serve)) == ["ok"]
        assert len(server.requests) == 3
        assert not any("cookie" in request.headers for request in server.requests)
    for _, text in log:
        assert_clean(text)
        assert "\x1b" not in text
        text.encode()


def test_unreachable(log):
    """Nor does the failure of a server that is not there."""
    with pytest.raises(LlmclfError) as caught:
        list(make(None).stream([1], serve))
    assert_clean(everything(caught.value))
    for _, text in log:
        assert_clean(text)


@pytest.mark.parametrize("host", ["a" * 80, "a..b", "127.0.0.1:1", "ex\u00e4mple.invalid", "xn--a.invalid"])
def test_odd_addresses(host):
    """Nor does an address that the network's libraries choke on."""

    def asked() -> None:
        options = ServerOptions(f"http://{host}/v1", api_key_env=NAME, max_retries=0, timeout=5.0)
        AsyncBridge(Client(options)).call(lambda client: serve(client, 1))

    with pytest.raises(LlmclfError) as caught:
        asked()
    assert_clean(everything(caught.value))


def test_budget():
    """Nor does a budget that is used up."""
    with FakeServer() as server, pytest.raises(BudgetError) as caught:
        list(make(server, price={"input": 1.0, "output": 1.0}, max_cost=2e-5).stream(range(9), serve))
    assert_clean(everything(caught.value))


@pytest.mark.parametrize("value", [KEY + "\n", KEY + "\u00e9", KEY + "\t"])
def test_unusable_key(value, monkeypatch):
    """Nor does a key that cannot be sent."""
    monkeypatch.setenv(NAME, value)
    with FakeServer() as server:
        with pytest.raises(LlmclfError, match=NAME) as caught:
            list(make(server).stream([1], serve))
        assert_clean(everything(caught.value))
        assert not server.requests


def test_an_interrupted_stream(log):
    """Nor does an error that the caller throws into a stream at work."""
    with FakeServer(faults=lambda request: Hang(60.0) if len(server.requests) > 4 else None) as server:
        results = make(server, timeout=60.0).stream(range(100), serve)
        next(results)
        with pytest.raises(KeyboardInterrupt) as caught:
            results.throw(KeyboardInterrupt)
        assert_clean(everything(caught.value))
    for _, text in log:
        assert_clean(text)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_no_redirection_is_followed(status, log):
    """Neither text nor key goes where a server points to; the error says from where to where, and shows no more of it."""
    with FakeServer() as other, FakeServer(faults=lambda request: Status(status, headers=there)) as server:
        for location, shown in (
            (f"{other.url}/completions", f"{other.url}/completions"),
            ("http://me:private@127.0.0.1:1/v1?text=private#private", "http://127.0.0.1:1/v1;"),
            (f"/{KEY[:14]}/v1", f"{server.root}/[key]/v1"),
            ("/v2/completions", f"{server.root}/v2/completions"),
            ("//127.0.0.1:1/x", "http://127.0.0.1:1/x"),
            ("http://[", "an address that cannot be read"),
            ("", f"{server.url}/completions"),
        ):
            there = {"Location": location}
            before = len(server.requests)
            with pytest.raises(ServerError, match=f"{status}, a redirection from") as caught:
                make(server).call(lambda client: serve(client, 1))
            assert f"from {server.url}/completions to {shown}" in str(caught.value)
            assert "change base_url=" in str(caught.value)
            assert "private" not in str(caught.value)
            assert caught.value.is_final
            assert len(server.requests) == before + 1
            assert_clean(everything(caught.value))
        assert not other.requests


def test_nor_where_a_list_of_models_is_asked_for():
    """A probe that is pointed elsewhere says so, and so do files of a batch."""
    with FakeServer() as other, FakeServer(faults=lambda request: Status(308, headers=there)) as server:
        there = {"Location": f"{other.url}/models"}
        for call in (
            lambda client, file: client.call("/models", None, dict),
            lambda client, file: client.call("/files", Upload(file, "a", "batch"), dict),
            lambda client, file: client.call("/files/1/content", Download(file), int),
        ):
            with tempfile.TemporaryFile() as file, pytest.raises(ServerError, match=f"to {other.url}/models"):
                make(server).call(lambda client, call=call, file=file: call(client, file))
        assert not other.requests


ECHOES = {
    "whole": KEY,
    "beginning": KEY[:8] + "...",
    "end": "..." + KEY[-8:],
    "middle": KEY[4:13],
    "reversed": KEY[::-1],
    "part reversed": KEY[::-1][2:11],
    "upper case": KEY.upper(),
    "with a name": f"Bearer {KEY}",
    "in an address": urllib.parse.quote(KEY, safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 with a name": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 with a user": base64.b64encode(f"u:{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex().upper(),
    "JSON in JSON": json.dumps(json.dumps(KEY)),
    "twice": KEY + KEY,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_echoes(echo):
    """Eight characters in a row that agree with the key are hidden, in whatever direction and encoding, and nothing else is."""
    shown = without_key(f"no such key ({echo}): ask", NAME)
    assert "[key]" in shown
    assert shown.startswith("no such key (")
    assert shown.endswith(": ask")
    rest = shown.replace("[key]", " ").lower()
    for form in (KEY, KEY[::-1], base64.b64encode(KEY.encode()).decode(), KEY.encode().hex()):
        assert not any(form[i : i + 8].lower() in rest for i in range(len(form) - 7))


@given(st.text(alphabet="ab", min_size=8, max_size=40), st.text(alphabet="abc", max_size=60))
def test_no_run_of_eight_is_left(key, text):
    """Whatever text and key are; a text without such a run stays as it is."""
    runs = {way[i : i + 8] for way in (key, key[::-1]) for i in range(len(key) - 7)}
    with mock.patch.dict(os.environ, {NAME: key}):
        shown = without_key({"a": [text]}, NAME)["a"][0]
    assert not any(run in shown for run in runs)
    if not any(run in text for run in runs):
        assert shown == text


def test_short_keys(monkeypatch):
    """Of a key of fewer characters the whole is hidden, and no part."""
    monkeypatch.setenv(NAME, "abc-123")
    assert without_key(["abc-123 and abc-12", {"ABC-123": 1}, 5, None], NAME) == [
        "[key] and abc-12",
        {"[key]": 1},
        5,
        None,
    ]
    monkeypatch.delenv(NAME)
    assert without_key("abc-123", NAME) == without_key("abc-123", None) == "abc-123"


@pytest.mark.parametrize("echo", [KEY[:10], KEY[::-1], base64.b64encode(KEY.encode()).decode()], ids=repr)
def test_a_name_that_is_the_key(echo, tmp_path):
    """A server that calls its model so gets the name neither into errors nor into what a classifier keeps."""
    with FakeServer("vllm", name="tiny", faults=lambda r: Mutate(lambda reply: renamed(reply, echo))) as server:
        backend = open_backend("openai:tiny", base_url=server.url, api_key_env=NAME)
        classifier = LLMClassifier(backend, labels=["positive", "negative"], cache=str(tmp_path / "cache.sqlite"))
        try:
            classifier.fit([TEXT]).predict_proba([TEXT])
            classifier.save(tmp_path / "saved")
            assert "[key]" in repr(backend.identity())
        except LlmclfError as error:
            assert echo not in str(error)
        assert echo not in repr(backend.identity())
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or echo.encode() not in path.read_bytes()


def renamed(reply, name):
    listed = [{**entry, "id": name} for entry in reply["data"]] if isinstance(reply.get("data"), list) else None
    return {**reply, "model": name, **({} if listed is None else {"data": listed})}


def test_an_error_of_the_reader_is_clean():
    """What a reader says of a reply does not show the key either."""

    def read(reply):
        raise ServerError(f"{reply['id']!r} answered")

    with FakeServer(faults=lambda request: Replace({"id": KEY, "choices": []})) as server:
        with pytest.raises(ServerError, match=r"'\[key\]' answered") as caught:
            make(server).call(lambda client: client.call("/completions", {"prompt": TEXT}, read))
        assert_clean(everything(caught.value))


def test_success(log):
    """Work that goes well logs no key, and no text of the user's above DEBUG."""
    with FakeServer(key=KEY) as server:
        bridge = make(server)
        assert list(bridge.stream(range(5), serve)) == ["ok"] * 5
        for shown in (bridge, bridge.client, bridge.client.options, bridge.client.usage, bridge.client.usage.to_dict()):
            assert_clean(repr(shown))
        assert_clean(repr(vars(bridge.client)) + repr(vars(bridge.client.options)))
    for level, text in log:
        assert_clean(text)
        assert level <= logging.DEBUG or TEXT not in text


def test_estimator(tmp_path, log):
    """A classifier on a server keeps the key out of its looks, its pickles, its saved folder and its cache's bytes."""
    with FakeServer("vllm", key=KEY) as server:
        backend = open_backend("openai:tiny", base_url=server.url, api_key_env=NAME)
        classifier = LLMClassifier(backend, labels=["positive", "negative"], cache=str(tmp_path / "cache.sqlite"))
        classifier.fit([TEXT, "The film was a delight."])
        classifier.predict_proba([TEXT, "What a waste of time."])
        assert server.count("/v1/completions")
        shown = [backend, vars(backend), backend.identity(), backend.usage, backend.options, backend.probe, classifier]
        shown += [vars(classifier), classifier.get_params(), clone(classifier)]
        assert_clean("\n".join(map(repr, shown)))
        for dumped in (pickle.dumps(backend), pickle.dumps(classifier)):
            assert_clean(dumped.decode("latin-1"))
        classifier.save(tmp_path / "saved")
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) >= 2
        for path in files:
            assert_clean(path.read_bytes().decode("latin-1"))
    for level, text in log:
        assert_clean(text)
        assert level <= logging.DEBUG or TEXT not in text


def test_estimator_refused():
    """A server that repeats the key in its refusal does not bring it into the classifier's error."""
    with FakeServer("vllm", faults=lambda request: refusal(401)) as server:
        backend = open_backend("openai:tiny", base_url=server.url, api_key_env=NAME)
        with pytest.raises(LlmclfError) as caught:
            LLMClassifier(backend, labels=["a", "b"]).fit(["x", "y"]).predict(["x"])
        assert_clean(everything(caught.value))
        with contextlib.suppress(LlmclfError):
            backend.probe  # noqa: B018
        assert_clean(repr(vars(backend)))
