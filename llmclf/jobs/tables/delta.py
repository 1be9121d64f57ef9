"""Delta Lake tables, on this machine's disks or in an object store: read as one version, written in one commit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import InputError, LlmclfError, MissingDependencyError, StoreError
from ...tables.formats import arrow_frame
from .existing import IfExists, OlderRows

LOG = "_delta_log"
SUFFIX = ".delta"


def is_delta(folder: Path) -> bool:
    """Whether a folder is a Delta table."""
    return (folder / LOG).is_dir()


class DeltaFolder:
    """A Delta table, there or to be made.

    Parameters
    ----------
    location : str
        A path, or the address of an object store.

    Attributes
    ----------
    location : str
    place : str
        The same for all names of one table.
    is_stored : bool
        Whether it is in an object store.

    Raises
    ------
    MissingDependencyError
        deltalake or pyarrow is not installed.
    """

    def __init__(self, location: str) -> None:
        try:
            import deltalake
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"{location!r} is a Delta Lake table, which needs deltalake; run: pip install 'llmclf[delta]'"
            ) from error
        self.is_stored = "://" in location
        self.location = location.rstrip("/") if self.is_stored else location
        self.place = self.location if self.is_stored else os.path.realpath(location)
        self._deltalake: Any = deltalake

    def exists(self) -> bool:
        with self._faults("read"):
            return bool(self._deltalake.DeltaTable.is_deltatable(self.location))

    def version(self) -> int:
        """That of the table as it is now."""
        with self._faults("read"):
            return int(self._table().version())

    def schema(self, version: int | None = None) -> Any:
        """The types of its columns, as a pyarrow.Schema."""
        import pyarrow as pa

        with self._faults("read"):
            return pa.schema(self._table(version).schema().to_arrow())

    def rows(self, version: int | None = None, columns: list[str] | None = None) -> Any:
        """The rows of a version, by default of the last, as a pyarrow.RecordBatchReader; in any order."""
        import pyarrow as pa

        with self._faults("read"):
            return pa.RecordBatchReader.from_stream(self._table(version).scan(columns=columns))

    def older_rows(self, id_column: str, if_exists: IfExists) -> OlderRows:
        """Its rows, to which a job adds its own."""
        import pyarrow as pa

        def ids() -> Iterator[pd.DataFrame]:
            names = self.schema().names
            if id_column not in names:
                yield pd.DataFrame(columns=names)
                return
            for batch in self.rows(columns=[id_column]):
                yield arrow_frame(pa.Table.from_batches([batch]))

        return OlderRows(self.location, ids, id_column, if_exists == "merge-on-id", self.schema)

    def try_writing(self, sample: pd.DataFrame, schema: Any, id_column: str | None) -> None:
        """Refuse rows that such a table cannot hold, by writing some into one elsewhere.

        Raises
        ------
        StoreError
        """
        with tempfile.TemporaryDirectory(prefix="llmclf-delta-") as folder:
            trial = DeltaFolder(os.path.join(folder, "trial"))
            trial.write([sample], schema, "fail", None, {}, name=self.location)
            if id_column is not None:
                trial.write([sample], schema, "merge-on-id", id_column, {}, name=self.location)

    def write(
        self,
        frames: Iterable[pd.DataFrame],
        schema: Any,
        if_exists: IfExists,
        id_column: str | None,
        note: dict[str, str],
        *,
        name: str | None = None,
    ) -> int:
        """Write rows in one commit: all of them are there, or none is.

        Parameters
        ----------
        frames : iterable of DataFrame
        schema : pyarrow.Schema
            Their types.
        if_exists : str
            ``"fail"`` makes a table, ``"replace"`` a new version without the old rows; the others keep those.
        id_column : str or None
        note : dict of str
            Kept in the table's history.
        name : str, optional
            For messages.

        Returns
        -------
        int
            The number of rows.

        Raises
        ------
        StoreError
        """
        import pyarrow as pa

        n_rows = 0
        failed: list[BaseException] = []

        def batches() -> Iterator[Any]:
            nonlocal n_rows
            try:
                for frame in frames:
                    yield from delta_rows(frame, schema, name or self.location).to_batches()
                    n_rows += len(frame)
            except BaseException as error:  # which would come back as another's words
                failed.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        properties = self._deltalake.CommitProperties(custom_metadata=note or None)
        try:
            with self._faults("written", name):
                if if_exists == "merge-on-id":
                    column = f'"{(id_column or "").replace(chr(34), chr(34) * 2)}"'
                    merger = self._table().merge(
                        reader,
                        f"older.{column} = newer.{column}",
                        source_alias="newer",
                        target_alias="older",
                        commit_properties=properties,
                    )
                    merger.when_matched_update_all().when_not_matched_insert_all().execute()
                else:
                    modes = {"fail": "error", "replace": "overwrite", "append": "append"}
                    self._deltalake.write_deltalake(
                        self.location,
                        reader,
                        mode=modes[if_exists],
                        schema_mode="overwrite" if if_exists == "replace" else None,
                        commit_properties=properties,
                    )
        except StoreError:
            if failed:
                raise failed[0] from None
            raise
        return n_rows

    def _table(self, version: int | None = None) -> Any:
        return self._deltalake.DeltaTable(self.location, version=version)

    @contextmanager
    def _faults(self, what: str, name: str | None = None) -> Iterator[None]:
        """What the package raises, as ours; it has no class of its own for much of it."""
        try:
            yield
        except LlmclfError:
            raise
        except Exception as error:
            said = str(error).partition("\n")[0]
            shown = name or self.location
            raise StoreError(f"the Delta table {shown!r} cannot be {what}: {said}") from error


def narrowed(schema: Any) -> Any:
    """Those columns whose values a Delta table may not be able to keep, with the types that it has for them."""
    import pyarrow as pa

    return pa.schema([field for field in delta_schema(schema) if schema.field(field.name).type != field.type])


def delta_schema(schema: Any) -> Any:
    """The types with which a Delta table keeps columns: times in microseconds, and as UTC where they have a zone."""
    import pyarrow as pa

    def kept(kind: Any) -> Any:
        if pa.types.is_timestamp(kind):
            return pa.timestamp("us", "UTC" if kind.tz is not None else None)
        unsigned = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
        return unsigned.get(kind, kind)

    return pa.schema([pa.field(field.name, kept(field.type)) for field in schema])


def delta_rows(frame: pd.DataFrame, schema: Any, name: str) -> Any:
    """Rows as a pyarrow.Table of the types of a Delta table.

    Raises
    ------
    InputError
        A value would not be the same there.
    """
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame, schema=schema, preserve_index=False).cast(schema)
    except pa.ArrowException as error:
        reason = "; ".join(map(str, error.args))
        raise InputError(
            f"the Delta table {name!r} cannot be written: {reason}; change the value, or write Parquet"
        ) from error


def refuse_other_lakes(folder: Path) -> None:
    """Refuse a folder whose Parquet files are a table of a kind that cannot be read: some of them may be deleted rows.

    Raises
    ------
    InputError
    """
    for name, mark in (("Hudi", ".hoodie"), ("Iceberg", "metadata")):
        there = folder / mark
        if there.is_dir() and (name == "Hudi" or any(there.glob("*.metadata.json"))):
            raise InputError(
                f"{str(folder)!r} is a table of {name}, which cannot be read here; write its rows as Parquet or CSV first, or "
                "name its files by a pattern if all of them count"
            )
