"""A real database server on loopback, its data in a temporary folder: started, killed, started again, and ended by its id."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

PASSWORD = "p@ss: w/rd%41?&="
"""Of the servers' users; holds every character that means something in a URL."""


@dataclass
class DatabaseServer:
    """A server that a test may kill.

    Attributes
    ----------
    url : str
        Of a database of it, password included.
    """

    url: str
    command: list[str]
    log: Path
    answers: Callable[[], bool]
    how: dict[str, Any]
    process: subprocess.Popen | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and wait until it answers; what a killed one has left may need some attempts."""
        until = time.monotonic() + 60
        while True:
            if self.process is None or self.process.poll() is not None:
                with self.log.open("ab") as stream:
                    self.process = subprocess.Popen(
                        self.command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **self.how
                    )
            if self.answers():
                return
            if time.monotonic() > until:
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, with all its processes: one that outlived the first would finish what it was doing."""
        assert self.process is not None
        others = [] if self.process.poll() is not None else psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for one in others:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        psutil.wait_procs(others, 20)

    def stop(self, number: int) -> None:
        """End it in good order."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def running(server: DatabaseServer, stop: int) -> Iterator[DatabaseServer]:
    """Start a server, and end it by a signal."""
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.stop(stop)


def account(user: str) -> dict[str, Any]:
    """As whom a server runs that refuses to be root."""
    if os.geteuid():
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return without(f"the server refuses to run as root, and there is no user {user}")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give(folder: Path, how: dict[str, Any]) -> None:
    """Let a server's account use a folder."""
    if "user" in how:
        shutil.chown(folder, how["user"], how["group"])


def without(reason: str) -> Any:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
