"""No variable, copy, pickle or traceback of any backend behind a server shows its key, at whatever line an error comes."""

from __future__ import annotations

import copy
import faulthandler
import io
import os
import pickle
import re
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from decision_servers import DecisionServer, Reply
from faults import FakeServer, Hang, Status
from rich.console import Console
from rich.traceback import Traceback

import llmclf
from llmclf import Embeddings, LLMClassifier, open_backend
from llmclf.backends.http import client as client_module
from llmclf.backends.http import key_echoes
from llmclf.errors import InputError, ServerError

PACKAGE = str(Path(llmclf.__file__).parent)
KEY = "sk-Canary/7f3a9_0451"
NAME = "LLMCLF_TEST_KEY"
SHAPES = [KEY[i : i + 8].lower() for i in range(len(KEY) - 7)]
SHAPES += [shape[::-1] for shape in SHAPES]
TEXTS = ["The film was a delight.", "What a waste of time."]


def assert_clean(text: str) -> None:
    """No eight characters of the key stand there, in either direction."""
    folded = text.lower()
    assert not [shape for shape in SHAPES if shape in folded], text[:2000]


@contextmanager
def server_of(kind: str, **faults):
    """A server of a kind, and where it is."""
    if kind in ("systemone", "decisions"):
        with DecisionServer(**faults) as server:
            yield server.url
    else:
        with FakeServer({"openai": "vllm", "embeddings": "embeddings"}[kind], key=KEY, **faults) as server:
            yield server.url


KINDS = ("openai", "systemone", "decisions", "embeddings")
WAYS = ("by name", "by the environment")


@pytest.fixture(params=WAYS)
def options(request, monkeypatch):
    """The key in a variable that is named, and in the one that is looked at where none is named."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.001)
    for name in ("OPENAI_API_KEY", "TYPESAFE_API_KEY"):
        monkeypatch.setenv(name, "" if request.param == "by name" else KEY)
    monkeypatch.setenv(NAME, KEY if request.param == "by name" else "")
    return {"api_key_env": NAME, "max_retries": 1} if request.param == "by name" else {"max_retries": 1}


def asked(kind: str, url: str, options) -> list[object]:
    """What a user holds after a kind of server has been asked: handle, estimator and what they show."""
    if kind == "embeddings":
        embeddings = Embeddings("openai:tiny", base_url=url, **options)
        embeddings.transform(TEXTS)
        return [embeddings]
    backend = open_backend(f"{kind}:tiny", base_url=url, **options)
    classifier = LLMClassifier(backend, labels=["positive", "negative"]).fit(TEXTS)
    classifier.predict_proba(TEXTS)
    return [backend, classifier, backend.identity(), backend.usage, backend.options]


@contextmanager
def watched():
    """What the variables of the package's frames show at each of their lines, in all threads: file, line, name and value."""
    seen: list[str] = []

    def at(frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        for name, value in list(frame.f_locals.items()):
            try:
                # Arrays and models hold no keys, and take long to show.
                shown = "" if isinstance(value, np.ndarray) else repr(value)
            except Exception:  # it is not made yet
                continue
            folded = shown.lower()
            if any(shape in folded for shape in SHAPES):
                seen.append(f"{frame.f_code.co_filename[len(PACKAGE) :]}:{frame.f_code.co_qualname} {name}")
        return at

    before = sys.gettrace()
    threading.settrace(at)
    sys.settrace(at)
    try:
        yield seen
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


def refusals(kind: str):
    """A server that repeats the key in a reply that heals and then in one that does not."""
    body = {"error": {"message": f"the key {KEY} is bad; {KEY[::-1]}"}, "detail": f"no {KEY[:9]}"}
    if kind in ("systemone", "decisions"):
        return {"script": [Reply(503, body), Reply(401, body)]}
    return {"faults": [Status(503, body), Status(401, body)]}


@pytest.mark.parametrize("kind", KINDS)
def test_no_variable_shows_it_at_any_line(kind, options):
    """Whatever fails wherever, a traceback with variables shows no key: neither in good work nor where the server repeats it."""
    key_echoes._echoes.cache_clear()
    with server_of(kind) as url, watched() as seen:
        asked(kind, url, options)
    assert sorted(set(seen)) == []
    key_echoes._echoes.cache_clear()
    with server_of(kind, **refusals(kind)) as url, watched() as seen, pytest.raises(ServerError) as caught:
        asked(kind, url, options)
    assert "[key]" in str(caught.value)
    # What a reply repeats stands there until it has been read; no error leaves these (see below).
    reading = re.compile(
        r"/backends/http/(key_echoes|replies|reply_limits)\.py:|"
        r"/backends/http/client\.py:Client\.(_send|_read|refusal|without_key) "
    )
    assert seen
    assert sorted({variable for variable in seen if not reading.match(variable)}) == []


def shown(error: BaseException) -> str:
    """What reports of an error show that show all variables: the standard library's and rich's; this file's frames left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    file = io.StringIO()
    long = {"locals_max_length": 1000, "locals_max_string": 20, "width": 10_000}
    console = Console(file=file, width=10_000)
    console.print(Traceback.from_exception(type(error), error, trace, show_locals=True, **long))
    parts = [file.getvalue()]
    parts += traceback.TracebackException(type(error), error, trace, capture_locals=True).format()
    return "\n".join([*parts, repr(error), str(error), repr(vars(error))])


@pytest.mark.parametrize("failing", ["meant_status", "without_key", "error_message"])
@pytest.mark.parametrize("failure", [MemoryError, RecursionError, ZeroDivisionError])
def test_no_error_leaves_what_reads_a_reply(failing, failure, monkeypatch):
    """Not even one of the interpreter: the reply could repeat the key, and stands in variables there."""
    monkeypatch.setenv(NAME, KEY)

    def fails(*_):
        raise failure(KEY)

    monkeypatch.setattr(client_module, failing, fails)
    message = f"cannot be read .{failure.__name__}"
    with server_of("embeddings", **refusals("embeddings")) as url, pytest.raises(ServerError, match=message) as caught:
        asked("embeddings", url, {"api_key_env": NAME})
    assert caught.value.__cause__ is None
    assert_clean(shown(caught.value))


@pytest.mark.parametrize("kind", KINDS)
def test_reports_that_show_variables(kind, options):
    """rich's and Python's own show no key with a server that refuses, and with a key that cannot be sent."""
    with server_of(kind, **refusals(kind)) as url, pytest.raises(ServerError) as caught:
        asked(kind, url, options)
    assert_clean(shown(caught.value))
    name = options.get("api_key_env") or ("TYPESAFE_API_KEY" if kind == "systemone" else "OPENAI_API_KEY")
    os.environ[name] = f"{KEY}\n"
    with server_of(kind) as url, pytest.raises(InputError, match="no key has") as unsent:
        asked(kind, url, options)
    assert_clean(shown(unsent.value))


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind, options, tmp_path):
    """Before and after it was asked, no copy, pickle, joblib file or look of a handle or an estimator holds the key."""
    with server_of(kind) as url:
        held = asked(kind, url, options)
        for one in held:
            assert_clean(repr(one) + repr(getattr(one, "__dict__", "")))
            for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
                assert_clean(repr(again) + repr(getattr(again, "__dict__", "")))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                assert_clean(pickle.dumps(one, protocol).decode("latin-1"))
            joblib.dump(one, tmp_path / "dumped")
            assert_clean((tmp_path / "dumped").read_bytes().decode("latin-1"))
            joblib.load(tmp_path / "dumped")


def test_a_dump_of_all_threads(options, tmp_path):
    """What faulthandler writes while requests are under way names functions, and no values."""
    with FakeServer("vllm", faults=[Hang(0.5)], key=KEY) as server:
        thread = threading.Thread(target=lambda: open_backend("openai:tiny", base_url=server.url, **options).probe)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        with (tmp_path / "dump").open("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            dumped = file.read()
        thread.join()
    assert "async_bridge.py" in dumped
    assert_clean(dumped)
