"""Signals end the work in good order: real processes, real signals, and what is left on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmclf.files.orderly_end import Interrupted, handlers_kept, orderly_end, side_files

WORK = """
import signal, sys, time
from pathlib import Path
from llmclf.files.orderly_end import Interrupted, orderly_end, side_files

mode, folder = sys.argv[1], Path(sys.argv[2])
side, kept = folder / "side", folder / "kept"
if mode == "own":
    signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
with orderly_end("SIGTERM", "SIGHUP", "SIGNOTTHERE", exit_code=130 if mode == "slow" else None):
    try:
        with side_files(side):
            side.write_text("a text")
            kept.write_text("an answer")
            try:
                print("ready", flush=True)
                for _ in range(10 if mode == "own" else 1000):
                    time.sleep(0.03)
            finally:
                if mode == "slow":
                    print("ending", flush=True)
                    time.sleep(60)
    finally:
        print("end", flush=True)
print("after", flush=True)
"""


def started(mode: str, folder: Path, **how) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, mode, str(folder)], stdout=subprocess.PIPE, text=True, **how
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_process_ends_by_the_signal_after_it_has_cleaned_up(tmp_path, number):
    """Whoever started it sees the signal that he has sent; the side file is gone, what is kept on purpose stays."""
    process = started("plain", tmp_path)
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "end\n"
    assert process.returncode == -number
    assert os.listdir(tmp_path) == ["kept"]


def test_a_second_signal_ends_at_once_and_leaves_no_text(tmp_path):
    """It does not wait for an end that takes a minute, and removes the side file all the same."""
    process = started("slow", tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ending\n"
    assert sorted(os.listdir(tmp_path)) == ["kept", "side"]
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=10)[0] == ""
    assert process.returncode == 130
    assert os.listdir(tmp_path) == ["kept"]


def test_what_the_parent_ignores_stays_ignored(tmp_path):
    """As under nohup: SIGHUP does nothing, SIGTERM still ends."""
    process = started("plain", tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "end\n"
    assert process.returncode == -signal.SIGTERM


def test_a_handler_of_the_callers_own_is_left_alone(tmp_path):
    """A program that handles SIGTERM itself goes on doing so, within the block, too."""
    process = started("own", tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "mine\nend\nafter\n"
    assert process.returncode == 0


ENDING = """
import atexit, sys, time
from llmclf.files.orderly_end import Interrupted, orderly_end

mode = sys.argv[1]
try:
    with orderly_end("SIGTERM", "SIGHUP", exit_code=130):
        if mode == "hook":
            atexit.register(lambda: (print("hook", flush=True), time.sleep(60)))
        print("ready", flush=True)
        time.sleep(60)
except Interrupted as end:
    if mode == "block":
        print("left", flush=True)
        time.sleep(60)
    sys.exit(end.code)
"""


@pytest.mark.parametrize(("mode", "said"), [("block", "left\n"), ("hook", "hook\n")])
def test_a_late_signal_does_not_change_the_exit_code(mode, said):
    """After the block, while the process says what became of it, and while Python and its libraries end: still 130, at once."""
    with subprocess.Popen([sys.executable, "-c", ENDING, mode], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == said
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130


def test_a_storm_of_signals_does_not_change_the_exit_code():
    """From the first signal to the last moment of the process."""
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", ENDING, "plain"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            until = time.monotonic() + 20
            process.send_signal(signal.SIGHUP)
            time.sleep(0.001)
            while process.poll() is None and time.monotonic() < until:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.0005)
            assert process.wait(1) == 130


@pytest.mark.kill
def test_handlers_are_as_before_when_the_block_is_left():
    """After success, an error, and a signal that others have dealt with; a thread, which may set none, is not refused."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with orderly_end("SIGINT", "SIGTERM", "SIGHUP", exit_code=130):
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    with pytest.raises(KeyError), orderly_end("SIGTERM"):
        raise KeyError
    with handlers_kept("SIGTERM"):
        with pytest.raises(Interrupted, match="130") as caught, orderly_end("SIGTERM", exit_code=130):
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.cause == "interrupted by SIGTERM"
    seen = []

    def elsewhere() -> None:
        with orderly_end("SIGTERM"), handlers_kept("SIGTERM"):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before[1]]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_library_that_sets_its_own_handler_is_undone():
    """As Ray does when it starts."""
    before = signal.getsignal(signal.SIGTERM)
    with handlers_kept("SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before


def test_side_files_go_with_the_block_and_only_then(tmp_path):
    """Whether they are there or not; a file that two blocks name goes with the first, as its user closes it."""
    file = tmp_path / "side"
    with side_files(file, tmp_path / "absent"):
        file.touch()
        with orderly_end("SIGTERM"):
            pass
        assert file.exists()
    assert not file.exists()
