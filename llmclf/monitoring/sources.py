"""Where decisions come from: a log, the folder of several, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ..errors import InputError
from .baseline import Baseline
from .decision_log import DecisionLog, LogPosition, logs_in
from .decisions import DecisionColumns, joined
from .left_out import LeftOut, named
from .table_source import TableSource


class DecisionSource(Protocol):
    """Decisions that can be read from the beginning, from where one was, or by their ids."""

    def __str__(self) -> str:
        """What it is called in a report."""
        ...

    @property
    def models(self) -> list[str]:
        """What has decided, where that is known."""
        ...

    @property
    def left_out(self) -> list[LeftOut]:
        """What is there and does not count."""
        ...

    def new_rows(self) -> Iterator[DecisionColumns]:
        """Rows that were not read yet, in blocks, in their order."""
        ...

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        """The decisions of some ids, in their order; an id may have several, or none."""
        ...


class LogSource:
    """Decisions of one log: of one model, under one certificate.

    Parameters
    ----------
    log : DecisionLog
    """

    def __init__(self, log: DecisionLog) -> None:
        self.log = log
        self.models = [log.model]
        self.left_out: list[LeftOut] = []
        self._position = LogPosition()
        self.was_read = False
        """Whether any decision of it was given out."""

    def __str__(self) -> str:
        return str(self.log.folder)

    def new_rows(self) -> Iterator[DecisionColumns]:
        for rows, position in self.log.chunks(self._position):
            self._position, self.was_read = position, True
            yield rows

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        found = self.log.find(ids)
        self.was_read |= len(found) > 0
        return found


class FolderSource:
    """Decisions of one model under one certificate in a folder of logs, in which there may be no decision yet.

    What several models decide has no order that all readers see alike, and each model has errors of its own: so they are not
    mixed. Each look goes over the folder again, in which other logs may begin at any time; once decisions were read, it refuses
    those of another model.

    Parameters
    ----------
    folder : path
    baseline : Baseline
    model : str or None
        Which model is watched; None: the only one.

    Raises
    ------
    InputError
        There are decisions, but none under the certificate, none of the model, or those of several; or they have other classes.
    """

    def __init__(self, folder: str | os.PathLike[str], baseline: Baseline, model: str | None) -> None:
        self._folder, self._baseline, self._model = Path(folder).expanduser(), baseline, model
        self._source: LogSource | None = None
        self.left_out: list[LeftOut] = []
        self._look()

    def __str__(self) -> str:
        return str(self._folder)

    @property
    def models(self) -> list[str]:
        return [] if self._source is None else self._source.models

    def new_rows(self) -> Iterator[DecisionColumns]:
        self._look()
        if self._source is not None:
            yield from self._source.new_rows()

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        return joined([], len(self._baseline.classes)) if self._source is None else self._source.find(ids)

    def _look(self) -> None:
        """Choose the log."""
        logs = logs_in(self._folder)
        chosen = self._chosen(logs)
        if chosen is not None and (self._source is None or self._source.log.stream != chosen.stream):
            if self._source is not None and self._source.was_read:
                raise InputError(
                    f"the log of the model {self._source.log.model!r}, which was watched in {str(self._folder)!r}, is gone, and "
                    f"the model {chosen.model!r} has decided there since; the tests of one model do not go on with another, so "
                    "begin a new watch"
                )
            self._source = LogSource(chosen)
        certificate = self._baseline.certificate
        self.left_out = [
            LeftOut("certificate", one.certificate, one.n_rows())
            if one.certificate != certificate
            else LeftOut("model", one.model, one.n_rows())
            for one in logs
            if chosen is None or one.stream != chosen.stream
        ]

    def _chosen(self, logs: Sequence[DecisionLog]) -> DecisionLog | None:
        certificate = self._baseline.certificate
        own = [one for one in logs if one.certificate == certificate]
        if logs and not own:
            there = ", ".join(sorted({named("certificate", one.certificate) for one in logs}))
            raise InputError(
                f"the decision log {str(self._folder)!r} has no decisions made under the certificate {certificate}; it has those "
                f"of: {there}. Give the folder of the classifier as it was when it made them"
            )
        models = ", ".join(repr(one.model) for one in own)
        chosen = [one for one in own if self._model in (None, one.model)]
        if own and not chosen:
            raise InputError(
                f"the decision log {str(self._folder)!r} has no decisions of the model {self._model!r}; it has those of: {models}"
            )
        for one in chosen:
            _check_classes(one, self._baseline.classes)
        if len(chosen) > 1:
            raise InputError(
                f"several models have decided under the certificate {certificate} in {str(self._folder)!r}: {models}; say which "
                "of them to watch with model= (--model)"
            )
        return chosen[0] if chosen else None


def source_of(log: Any, baseline: Baseline, model: str | None, table_options: Mapping[str, Any]) -> DecisionSource:
    """A log, its folder, a table or its file as a source of decisions.

    Raises
    ------
    InputError
        It holds decisions of another certificate, of other classes or models alone, or none that can be read.
    """
    if model is not None and not isinstance(model, str):
        raise InputError(f"model={model!r}; expected the name of a model, as the log has it, or None")
    if isinstance(log, DecisionLog):
        if log.certificate != baseline.certificate:
            raise InputError(
                f"{log!r} has decisions made under another certificate than {baseline.certificate}; give the log or the "
                "certificate that belongs to the other"
            )
        if model not in (None, log.model):
            raise InputError(f"{log!r} has the decisions of the model {log.model!r}, and not of model={model!r}")
        _check_classes(log, baseline.classes)
        return LogSource(log)
    if not isinstance(log, (str, os.PathLike, pd.DataFrame)):
        raise InputError(f"log={type(log).__name__}; expected a DecisionLog, its folder, a table, or its file")
    is_frame = isinstance(log, pd.DataFrame)
    if not is_frame and not Path(log).expanduser().is_file():
        return FolderSource(log, baseline, model)
    if model is not None:
        raise InputError(
            f"model={model!r} (--model) chooses among the models of a log, and a table is given; leave it out"
        )
    return TableSource(
        log if is_frame else Path(log).expanduser(),
        baseline.classes,
        certificate=baseline.certificate,
        threshold=baseline.threshold,
        **table_options,
    )


def _check_classes(log: DecisionLog, classes: Sequence[Any]) -> None:
    if tuple(log.classes) != tuple(classes):
        raise InputError(f"{log!r} has the classes {list(log.classes)!r}, and the certificate {list(classes)!r}")
