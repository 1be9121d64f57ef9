"""Runs the command line in forks of a process that has imported everything, so that dozens can be started and killed quickly.

with Zygote(folder) as zygote:
    run = zygote.start(["label", ...])     # run.pid; run.wait() -> exit code (negative: the signal); run.output()
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import usual_signals


@dataclass
class Run:
    """A command line that is running, or has run."""

    pid: int
    log: Path
    zygote: Zygote
    code: int | None = None

    def wait(self, seconds: float = 120.0) -> int:
        """The exit code; negative for a signal."""
        until = time.monotonic() + seconds
        while self.code is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"still running after {seconds} s:\n{self.output()}")
            self.zygote.collect(self)
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


class Zygote:
    """The process that forks; it has one thread and no event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._n = 0
        self._codes: dict[int, int] = {}

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def start(self, arguments: list[Any], env: dict[str, str] | None = None) -> Run:
        self._n += 1
        log = self.folder / f"run-{self._n}.log"
        return Run(
            self._ask({"start": [str(word) for word in arguments], "log": str(log), "env": env or {}}), log, self
        )

    def run(self, arguments: list[Any], env: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output of a command line."""
        started = self.start(arguments, env)
        return started.wait(), started.output()

    def succeed(self, arguments: list[Any]) -> None:
        """Run a command line that has to end with 0; if it does not, its output says why."""
        code, output = self.run(arguments)
        assert code == 0, f"exit code {code}:\n{output}"

    def collect(self, run: Run) -> None:
        found = self._ask({"poll": run.pid})
        if found != 1000:
            run.code = found
        else:
            time.sleep(0.01)

    def _ask(self, question: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _fork(arguments: list[str], log: str, env: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    import llmclf.cli

    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    usual_signals.take()
    os.environ.update(env)
    sys.argv = ["llmclf", *arguments]
    code = 0
    try:
        llmclf.cli.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    import aiohttp  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import llmclf.cli.job_file
    import llmclf.jobs  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            print(_fork(question["start"], question["log"], question["env"]), flush=True)  # noqa: T201
            continue
        pid, status = os.waitpid(question["poll"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else 1000, flush=True)  # noqa: T201


if __name__ == "__main__":
    _serve()
