"""The progress bar: shown to a person who waits, and to nobody else."""

from __future__ import annotations

import sys

from llmclf import progress


def test_nothing_is_shown_where_nobody_looks(capsys):
    """Off a terminal the items come as they are and nothing is printed."""
    assert list(progress.track(iter("abc"), 3, "scoring")) == list("abc")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_short_work_shows_no_bar(monkeypatch, capsys):
    """On a terminal, work that is done at once leaves no trace."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.track(range(3), 3, "scoring")) == [0, 1, 2]
    assert "scoring" not in capsys.readouterr().err


def test_long_work_shows_how_far_it_is(monkeypatch, capsys):
    """On a terminal, work that lasts shows what is done and how much there is, on standard error."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_BAR_DELAY", 0.0)
    assert list(progress.track(range(4), 4, "scoring")) == [0, 1, 2, 3]
    captured = capsys.readouterr()
    assert "scoring" in captured.err
    assert "/4" in captured.err
    assert captured.out == ""
