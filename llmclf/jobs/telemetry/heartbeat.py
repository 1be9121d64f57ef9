"""A file that is written anew every few seconds as long as a job lives, for whoever can look at files alone."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ...atomic_files import write_text
from ...errors import StoreError
from .state import JobState


class Heartbeat:
    """The state as JSON, replaced as a whole; after the end it stays, with the outcome in it.

    A supervisor looks at the file's age (is the process alive?), at ``progressed`` (does it get on?), and at ``outcome``.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, state: JobState) -> None:
        self._write(state)

    def show(self, state: JobState) -> None:
        with suppress(StoreError):  # a disk that is full: the file then says by its age that nobody has written it
            self._write(state)

    def close(self, state: JobState) -> None:
        self.show(state)

    def _write(self, state: JobState) -> None:
        write_text(json.dumps(state.to_dict()) + "\n", self._path)
