"""A real MariaDB on loopback, started for the tests and ended with them; it is set up as badly as servers are found."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pymysql
from database_server import PASSWORD, DatabaseServer, account, give, running, without
from servers import free_port


@contextmanager
def mariadb() -> Iterator[DatabaseServer]:
    """An empty server with its data in a temporary folder: not strict, of a narrow character set and another time zone.

    Skips where no MariaDB is installed; fails there if the environment variable CI is "true".
    """
    program = shutil.which("mariadbd", path="/usr/sbin:/usr/bin") or shutil.which("mariadbd")
    installer = shutil.which("mariadb-install-db")
    if program is None or installer is None:
        without("no MariaDB is installed (mariadbd or mariadb-install-db is not on the path)")
    own = account("nobody")
    with tempfile.TemporaryDirectory(prefix="llmclf-mariadb-") as name:
        folder, port = Path(name), free_port()
        start = folder / "start.sql"
        start.write_text(
            f"CREATE USER IF NOT EXISTS tester@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        give(start, own)
        give(folder, own)
        how = {"cwd": folder, "stdin": subprocess.DEVNULL, **own}
        made = subprocess.run(
            [installer, "--no-defaults", f"--datadir={folder}/data", "--skip-test-db", "--skip-name-resolve"],
            capture_output=True,
            text=True,
            check=False,
            **how,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{made.stdout}{made.stderr}")
        command = [
            program,
            "--no-defaults",
            f"--datadir={folder}/data",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--init-file={start}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=2",
            "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
            "--character-set-server=latin1",
            "--default-time-zone=+05:30",
            "--explicit-defaults-for-timestamp=OFF",
        ]
        url = f"mysql+pymysql://tester:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/"
        server = DatabaseServer(url, command, folder / "server.log", partial(_answers, port), how)
        with running(server, signal.SIGTERM):
            yield server


def _answers(port: int) -> bool:
    try:
        pymysql.connect(host="127.0.0.1", port=port, user="tester", password=PASSWORD).close()
        return True
    except pymysql.err.OperationalError:
        return False
