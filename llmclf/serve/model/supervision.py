"""Keeping the process of the models alive: started, watched, and started anew where it dies."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...errors import InputError, LlmclfError, ModelError
from ..questions import Answer
from .frames import HEAD, framed, length_of, packed

COMMAND = (sys.executable, "-P", "-c", "from llmclf.serve.model.process import main; main()")
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0  # seconds between a death and the next start, where one follows another
_STABLE = 60.0  # seconds of life after which a death is the first again
_BUFFER = 1 << 20
_PATIENCE = 2.0  # seconds that a process is given to end by itself


class ModelProcess:
    """The process of the models, from the side of the event loop.

    Parameters
    ----------
    config : mapping
        What it opens; see `llmclf.serve.model.process.open_answerer`.
    on_answers : callable
        Gets the id of a message and its answers.
    on_change : callable
        Called when the process has become ready, or has died.
    hidden : sequence of str
        Environment variables that it does not get.
    command : sequence of str
        The program.

    Attributes
    ----------
    is_ready : bool
    pid : int or None
    starts : int
        How often it was started.
    versions : dict of str to str
        Of the open models.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        on_answers: Callable[[int, list[Answer]], None],
        on_change: Callable[[bool], None],
        *,
        hidden: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._config = dict(config)
        self._on_answers, self._on_change = on_answers, on_change
        self._hidden, self._command = tuple(hidden), tuple(command)
        self._process: Process | None = None
        self.is_ready = False
        self.starts = 0
        self.versions: dict[str, str] = {}
        self.last_failure = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def run(self, on_first: Callable[[LlmclfError | None], None]) -> None:
        """Start the process, and again whenever it dies, until this is cancelled.

        Parameters
        ----------
        on_first : callable
            Called once: with None when the first process is ready, or with the error for which it cannot be.
        """
        wait, is_first = _FIRST_WAIT, True
        try:
            while True:
                began = time.monotonic()
                error = await self._live(on_first if is_first else None)
                if is_first and error is not None:
                    on_first(error)
                    return
                is_first = False
                wait = _FIRST_WAIT if time.monotonic() - began > _STABLE else min(2 * wait, _LONGEST_WAIT)
                await asyncio.sleep(wait if error is not None else _FIRST_WAIT)
        finally:
            await self._end()

    def send(self, number: int, lane: str, asks: Sequence[Mapping[str, Any]]) -> None:
        """Ask; what cannot be sent any more is asked again when the death of the process is known."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError, RuntimeError):
                self._process.stdin.write(framed({"id": number, "lane": lane, **packed(asks)}))

    def kill(self) -> None:
        """End a process that is stuck; another one takes its place."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _live(self, on_first: Callable[[LlmclfError | None], None] | None) -> LlmclfError | None:
        """One life of the process; why it never became ready, or None."""
        environment = {name: value for name, value in os.environ.items() if name not in self._hidden}
        self.starts += 1
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=_BUFFER,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(framed(self._config))
            first = await _next(process.stdout)
            if first is None or "failed" in first:
                return self._failed(first)
            self.versions, self.is_ready, self.last_failure = first["versions"], True, ""
            if on_first is not None:
                on_first(None)
            self._on_change(True)
            while (message := await _next(process.stdout)) is not None:
                self._on_answers(message["id"], [Answer.from_dict(one) for one in message["answers"]])
            return None
        finally:
            was_ready, self.is_ready = self.is_ready, False
            await self._end()
            if was_ready:
                self._on_change(False)

    def _failed(self, first: Mapping[str, Any] | None) -> LlmclfError:
        if first is None:
            error: LlmclfError = ModelError("the process of the models ended before it was ready")
        else:
            error = (InputError if first["is_input"] else ModelError)(first["failed"])
        self.last_failure = str(error)
        return error

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # at which it ends by itself
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _next(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    try:
        body = await stream.readexactly(length_of(await stream.readexactly(HEAD)))
        message: dict[str, Any] = json.loads(body)
        return message
    except (asyncio.IncompleteReadError, OSError, ValueError):
        return None  # whatever wrote this is not to be trusted with another message
