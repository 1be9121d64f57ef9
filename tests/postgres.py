"""A real PostgreSQL on loopback, started for the tests and ended with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psycopg
from database_server import PASSWORD, DatabaseServer, account, give, running, without
from servers import free_port


@contextmanager
def postgres() -> Iterator[DatabaseServer]:
    """An empty server with its data in a temporary folder.

    Skips where no PostgreSQL is installed; fails there if the environment variable CI is "true".
    """
    programs, own = _programs(), account("postgres")
    with tempfile.TemporaryDirectory(prefix="llmclf-postgres-") as name:
        folder, port = Path(name), free_port()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        give(secret, own)
        give(folder, own)
        # PG* variables of whoever runs the tests mean another server.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        how = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, **own}
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [*initdb, "-A", "scram-sha-256", f"--pwfile={secret}"], capture_output=True, text=True, check=False, **how
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off"]
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
        command += [part for setting in settings for part in ("-c", setting)]
        url = f"postgresql+psycopg://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        server = DatabaseServer(url, command, folder / "server.log", partial(_answers, port), how)
        with running(server, signal.SIGINT):  # ends its clients' sessions, then itself and its helpers
            yield server


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
    return without("no PostgreSQL is installed (initdb is neither on the path nor in /usr/lib/postgresql)")
