"""Files as a job's output: one, a folder with one per part, and objects of a store, which are made as files and sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pandas as pd

from ...atomic_files import write_file
from ...tables.endings import check_suffix, split_suffix
from ...tables.formats import write_chunks
from ...tables.formulas import FormulaCells
from .existing import OlderRows, file_mark
from .layout import LACKS, Layout, Written
from .stores import Place


@dataclass
class FileSink:
    """One file."""

    path: Path
    job: str
    escape_formulas: bool = False
    older: OlderRows | None = None

    version = None

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        return os.path.realpath(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def mark(self) -> str | None:
        return file_mark(self.path)

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        suffix = check_suffix(self.path)
        layout.columns.refuse(*LACKS[split_suffix(suffix)[0]], where=repr(self.name))
        schema = layout.schema(suffix)
        trial = self.path.with_name(f".{self.path.name}.{self.job}.trial")
        # Into a file of its own, which never takes the place of the output; a killed job's next run uses both names again.
        write_file(
            lambda target: write_chunks([sample], target, suffix, schema=schema),
            trial,
            temporary_name=f"{trial.name}.new",
        )
        trial.unlink()
        if self.older is not None and self.exists():
            self.older.check(list(layout.kinds), schema, layout.known_ids)

    def write(self, parts: Written, layout: Layout) -> int:
        frames: Iterator[pd.DataFrame] = (frame for _, pieces in parts for frame in pieces)
        if self.older is not None and self.exists():
            # Checked anew: hours have passed, and another may have added rows.
            self.older.check(list(layout.kinds), layout.schema(check_suffix(self.path)), layout.known_ids)
            layout = replace(layout, metadata={})  # which says whose all rows are
            frames = chain(self.older.staying(list(layout.kinds), layout.known_ids), frames)
        formulas = FormulaCells(self.escape_formulas)
        n_rows = _write(self.path, self.job, frames, layout, layout.inherited, formulas)
        formulas.warn(repr(self.name))
        return n_rows

    def folder(self) -> Path | None:
        return self.path.parent


@dataclass
class FolderSink:
    """A folder with a file per part; each appears whole or not at all."""

    path: Path
    names: list[str]
    job: str
    escape_formulas: bool = False

    version = None

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        return os.path.realpath(self.path)

    def exists(self) -> bool:
        return any((self.path / name).exists() for name in self.names)

    def mark(self) -> str | None:
        return " ".join(file_mark(self.path / name) or "-" for name in self.names)

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        for suffix in sorted(set(map(check_suffix, self.names))):
            FileSink(self.path / f"part{suffix}", self.job).check(layout, sample, rows)

    def write(self, parts: Written, layout: Layout) -> int:
        formulas, n_rows = FormulaCells(self.escape_formulas), 0
        for formulas.file, frames in parts:
            n_rows += _write(self.path / formulas.file, self.job, frames, layout, [formulas.file], formulas)
        formulas.warn(repr(self.name))
        return n_rows

    def folder(self) -> Path | None:
        return self.path


@dataclass
class StoreSink:
    """Objects in a store, one or one per part; each is made here and sent when it is whole."""

    store: Place
    paths: list[str]
    job: str
    aside: Path
    escape_formulas: bool = False

    version = None

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def place(self) -> str:
        return self.store.address(self.paths[0])

    def exists(self) -> bool:
        return any(self.store.has(path) for path in self.paths)

    def mark(self) -> str | None:
        return None

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        for suffix in sorted(set(map(check_suffix, self.paths))):
            FileSink(self.aside / f"part{suffix}", self.job).check(layout, sample, rows)
        folder, slash, name = self.paths[0].rpartition("/")
        self.store.try_writing(f"{folder}{slash}.{name}.{self.job}.trial")

    def write(self, parts: Written, layout: Layout) -> int:
        formulas, n_rows = FormulaCells(self.escape_formulas), 0
        if len(self.paths) == 1:
            frames = (frame for _, pieces in parts for frame in pieces)
            n_rows = self._sent(self.paths[0], frames, layout, layout.inherited, formulas)
        else:
            for path, (formulas.file, pieces) in zip(self.paths, parts, strict=True):
                n_rows += self._sent(path, pieces, layout, [formulas.file], formulas)
        formulas.warn(repr(self.name))
        return n_rows

    def _sent(
        self,
        path: str,
        frames: Iterator[pd.DataFrame],
        layout: Layout,
        parts: Iterable[str],
        formulas: FormulaCells,
    ) -> int:
        file = self.aside / path.rpartition("/")[2]
        n_rows = _write(file, self.job, frames, layout, parts, formulas)
        self.store.send(file, path)
        file.unlink()
        return n_rows

    def folder(self) -> Path | None:
        return self.aside


def _write(
    path: Path,
    job: str,
    frames: Iterator[pd.DataFrame],
    layout: Layout,
    parts: Iterable[str],
    formulas: FormulaCells,
) -> int:
    suffix = check_suffix(path)
    schema = layout.schema(suffix, parts)
    counted: list[int] = []

    def fill(target: Path) -> None:
        n_rows = write_chunks(frames, target, suffix, schema=schema, metadata=layout.metadata, formulas=formulas)
        counted.append(n_rows)

    write_file(fill, path, temporary_name=f".{path.name}.{job}")
    return counted[0]
