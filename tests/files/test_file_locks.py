"""Locks that the system frees when their process ends, however it ends."""

from __future__ import annotations

import errno
import multiprocessing
import signal
import time
from pathlib import Path

import pytest

from llmclf.files.file_locks import lock_file

fcntl = pytest.importorskip("fcntl", reason="this system has no locks of this kind")


def hold(path: Path, is_held, seconds: float) -> None:
    """What another process does."""
    with lock_file(path):
        is_held.set()
        time.sleep(seconds)


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds a lock file for some seconds."""
    context, started = multiprocessing.get_context("spawn"), []

    def start(seconds: float):
        is_held = context.Event()
        process = context.Process(target=hold, args=(tmp_path / "lock", is_held, seconds))
        process.start()
        started.append(process)
        assert is_held.wait(60)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def test_it_is_there_while_it_is_held(tmp_path):
    """And gone afterwards."""
    with lock_file(tmp_path / "lock") as is_held:
        assert is_held
        assert (tmp_path / "lock").exists()
        with pytest.raises(BlockingIOError), lock_file(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists()
    assert not list(tmp_path.iterdir())


def test_another_process_is_waited_for(tmp_path, holder):
    """As long as there is patience."""
    holder(1.0)
    with pytest.raises(BlockingIOError), lock_file(tmp_path / "lock"):
        pass
    with lock_file(tmp_path / "lock", patience_s=60) as is_held:
        assert is_held


def test_a_killed_holder_blocks_nobody(tmp_path, holder):
    """Its file stays behind, and is taken over."""
    process = holder(600)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with lock_file(tmp_path / "lock") as is_held:
        assert is_held
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    """The block goes on, and knows that nothing is held."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_file(tmp_path / "lock") as is_held:
        assert not is_held


def test_a_link_is_not_followed(tmp_path):
    """Its target may be any file of the user's."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "lock").symlink_to("mine")
    with pytest.raises(OSError, match="symbolic links"), lock_file(tmp_path / "lock"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
