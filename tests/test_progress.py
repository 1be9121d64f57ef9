"""The progress bar: shown to a person who waits, and to nobody else."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import time
import types

import pytest

from llmclf import progress

WORK = """
import sys, time, warnings
from llmclf import LLMClassifier, progress
from llmclf.backends import FakeBackend

class Slow(FakeBackend):
    def __deepcopy__(self, memo):
        return self
    def score(self, requests):
        for place, answer in super().score(requests):
            time.sleep(float(sys.argv[2]))
            if sys.argv[3] == "fails" and place == 3:
                raise RuntimeError("broken")
            yield place, answer

progress._BAR_DELAY = 0.3
clf = LLMClassifier(Slow(), labels=["a", "b"]).fit(["any"])
try:
    clf.predict_proba([f"text {i}" for i in range(int(sys.argv[1]))])
except RuntimeError as error:
    kept = error
print("END", file=sys.stderr)
"""


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What a program writes to a terminal of its own; its standard output goes elsewhere."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    command = [sys.executable, "-c", WORK, *map(str, arguments)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=env) as child:
        os.close(theirs)
        written = b""
        while True:
            ready, _, _ = select.select([ours], [], [], 60)
            try:
                part = os.read(ours, 65536) if ready else b""
            except OSError:  # the other end is closed
                part = b""
            if not part:
                break
            written += part
        out, _ = child.communicate()
    os.close(ours)
    assert (child.returncode, out) == (0, b"")
    return written.decode()


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["works", "fails"])
def test_a_bar_comes_late_and_goes(fate):
    """predict_proba shows a bar on a real terminal after its delay, and removes it at the end, by an error as well."""
    written = on_a_terminal(8, 0.15, fate)
    before, _, after = written.rpartition("scoring")
    assert "/8" in written
    assert before.count("scoring") >= 1
    assert "\x1b[2K" in after, "the line is not erased"
    assert after.rstrip().endswith("END")
    assert "\x1b[?25h" in after, "the cursor stays hidden"


@pytest.mark.slow
def test_a_bar_does_not_wait_for_the_first_answer():
    """A model that takes long for its first rows has a bar, too."""
    assert "0/1" in on_a_terminal(1, 1.0, "works")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [((3, 0.01, "works"), {}), ((8, 0.1, "works"), {"LLMCLF_PROGRESS": "0"}), ((8, 0.1, "works"), {"TERM": "dumb"})],
    ids=["short work", "switched off", "no cursor"],
)
def test_a_quiet_terminal(arguments, environment):
    """Short work leaves no trace; neither does long work where it is not wanted, or cannot be drawn over."""
    assert on_a_terminal(*arguments, **environment).split() == ["END"]


def tracked(items, total):
    with progress.track(items, total, "scoring") as found:
        return list(found)


def test_nothing_is_shown_where_nobody_looks(capsys, monkeypatch):
    """Off a terminal the items come as they are, nothing is printed and no thread is started, however long it takes."""
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)
    n_threads = threading.active_count()
    with progress.track(iter("abc"), 3, "scoring") as found:
        assert threading.active_count() == n_threads
        assert list(found) == list("abc")
    monkeypatch.setattr(sys, "stderr", None)
    assert tracked(iter("abc"), 3) == list("abc")
    monkeypatch.undo()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def look(monkeypatch) -> None:
    """Make standard error a terminal; in a test's own body, since pytest captures it anew for each phase."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_short_work_shows_no_bar(monkeypatch, capsys):
    """On a terminal, work that is done at once leaves no trace."""
    look(monkeypatch)
    assert tracked(range(3), 3) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_shows_how_far_it_is(monkeypatch, capsys):
    """On a terminal, work that lasts shows what is done and how much there is, on standard error."""
    look(monkeypatch)
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)
    assert tracked(range(4), 4) == [0, 1, 2, 3]
    captured = capsys.readouterr()
    assert "scoring" in captured.err
    assert "/4" in captured.err
    assert captured.out == ""


def test_one_bar_at_a_time(monkeypatch, capsys):
    """Of several threads that wait, one has a bar; after it the next work may have one."""
    look(monkeypatch)
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)
    with progress.track(range(2), 2, "first") as outer:
        assert tracked(range(3), 3) == [0, 1, 2]
        assert list(outer) == [0, 1]
    captured = capsys.readouterr()
    assert "first" in captured.err
    assert "scoring" not in captured.err
    tracked(range(3), 3)
    assert "scoring" in capsys.readouterr().err


class Notebook:
    """Stands for IPython in a kernel: keeps what is displayed."""

    def __init__(self) -> None:
        self.kernel = object()
        self.drawn: list[dict[str, str]] = []

    def get_ipython(self):
        return self

    def display(self, data, *, raw, display_id):
        self.drawn.append(data)
        return types.SimpleNamespace(update=lambda data, raw: self.drawn.append(data))


def test_a_notebook_has_a_bar(monkeypatch, capsys):
    """In a notebook, whose standard error is no terminal, one output holds the bar and is empty at the end."""
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    tracked(range(3), 3)
    assert notebook.drawn == []
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)

    def work() -> None:
        with progress.track(range(3), 3, "<scoring>") as found:
            next(found)
            time.sleep(0.05)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert "of 3" in notebook.drawn[0]["text/plain"]
    assert "&lt;scoring&gt;" in notebook.drawn[0]["text/html"]
    assert notebook.drawn[-1] == {"text/plain": "", "text/html": ""}
    bar = progress.monitor(True)
    bar.begin(5, "labelling")
    bar.advance(5)
    bar.end()
    assert "labelling 5 of 5" in notebook.drawn[-2]["text/plain"]
    assert capsys.readouterr() == ("", "")


def test_a_display_that_breaks_does_not_stop_the_work(monkeypatch):
    """What goes wrong with a bar is not the work's business."""
    look(monkeypatch)
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)

    def fail(*_):
        raise OSError("the terminal is gone")

    monkeypatch.setattr(progress.TerminalDisplay, "show", fail)
    assert tracked(range(3), 3) == [0, 1, 2]
