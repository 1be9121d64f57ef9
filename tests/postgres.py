"""A real PostgreSQL on loopback, started for the tests and ended with them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from servers import free_port

PASSWORD = "p@ss: w/rd%41?&="
"""Of the superuser ``postgres``; holds every character that means something in a URL."""


@contextmanager
def postgres() -> Iterator[str]:
    """An empty server with its data in a temporary folder; yields the URL of its first database, password included.

    Skips where no PostgreSQL is installed; fails there if the environment variable CI is "true".
    """
    programs, account = _programs(), _account()
    with tempfile.TemporaryDirectory(prefix="llmclf-postgres-") as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if "user" in account:
            for path in (secret, folder):
                shutil.chown(path, account["user"], account["group"])
        # PG* variables of whoever runs the tests mean another server.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        how: dict[str, Any] = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, **account}
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [*initdb, "-A", "scram-sha-256", f"--pwfile={secret}"], capture_output=True, text=True, check=False, **how
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        with _running(programs, folder, how) as port:
            yield f"postgresql+psycopg://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"


@contextmanager
def _running(programs: Path, folder: Path, how: dict[str, Any]) -> Iterator[int]:
    port, log = free_port(), folder / "server.log"
    command = [programs / "postgres", "-D", folder / "data", "-p", str(port)]
    settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off"]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*command, *(part for setting in settings for part in ("-c", setting))],
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **how,
        )
    try:
        until = time.monotonic() + 60
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield port
    finally:
        server.send_signal(2)  # ends its clients' sessions, then itself and its helpers
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(port: int) -> bool:
    try:
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=PASSWORD, dbname="postgres"):
            return True
    except psycopg.OperationalError:
        return False


def _programs() -> Path:
    """The folder of ``initdb`` and ``postgres``; Debian keeps one for each version, off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        folders.insert(0, Path(on_path).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return _without("no PostgreSQL is installed (initdb is neither on the path nor in /usr/lib/postgresql)")


def _account() -> dict[str, Any]:
    """As whom the server runs: PostgreSQL refuses to be root."""
    if os.geteuid():
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        return _without("PostgreSQL refuses to run as root, and there is no user postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _without(reason: str) -> Any:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
