"""What a job's rows do to a table: they take the place of those that are there, or are added to them. Whole, or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd

from ....errors import ColumnTypeWarning, InputError, warn
from .databases import NativeColumns, TableName, WritableDatabase, without_warnings
from .urls import SqlTable
from .values import Cells

if TYPE_CHECKING:
    import sqlalchemy as sa


class TableOutput:
    """A table that a job fills: a new one that takes the place of the old.

    Parameters
    ----------
    connection : Connection
    table : SqlTable
    kinds : mapping
        Column name -> kind, in the order in which the columns are written.
    native : NativeColumns or None
    """

    def __init__(
        self, connection: sa.Connection, table: SqlTable, kinds: Mapping[str, str], native: NativeColumns | None
    ) -> None:
        assert isinstance(table.database, WritableDatabase)
        self.database = table.database
        self.kinds = dict(kinds)
        self.schema = table.place.schema or connection.dialect.default_schema_name
        self.place = TableName(self.schema, table.place.table, table.name)
        same = native is not None and native.database is self.database
        self._native = native if same else None
        types = {name: own for name, own in native.types.items() if name in kinds} if native and same else {}
        self._native_types = types
        self.database.check_names(self.place.table, list(kinds), self.place.shown)
        self.database.begin_writing(connection, self.place)
        self.missing = self.database.missing_types(connection, types)
        self.old = self._existing(connection)
        self.name, self.types = self._made(connection)
        text_columns = self._native.text_columns if self._native else ()
        self._texts = self._native.texts() if self._native and text_columns else None
        self._used = {name: place for place, name in enumerate(text_columns) if self._takes_text(name)}

    def cells(self) -> Cells:
        zones = {
            name: self.database.has_zone(self.types[name]) for name in self._fixed() if self.kinds[name] == "datetime"
        }
        digits = {
            name: self.database.digits(self.types[name]) for name, kind in self.kinds.items() if kind == "decimal"
        }
        return Cells(
            self.kinds,
            self.database.rules,
            {name: has_zone for name, has_zone in zones.items() if has_zone is not None},
            {name: most for name, most in digits.items() if most is not None},
        )

    def add(self, connection: sa.Connection, frame: pd.DataFrame, cells: Cells, first: int) -> None:
        """Put some rows into the table that is filled.

        Parameters
        ----------
        connection : Connection
        frame : DataFrame
        cells : Cells
        first : int
            Number of its first row.
        """
        rows = self.rows(frame, cells, first)
        for name in cells.newly_zoned():
            self.database.make_zoned(connection, self.name, self._made_in(), name)
        if rows:
            self.database.insert(connection, self.name, self._made_in(), self._kinds_stored(), rows)
            self.database.kept(connection)

    def rows(self, frame: pd.DataFrame, cells: Cells, first: int) -> list[tuple[Any, ...]]:
        """The rows of a frame as the driver takes them."""
        return cells.rows(frame, first, self.place.shown, self._next_texts(len(frame)))

    def say_what_is_missing(self) -> None:
        """Warn of columns whose types the database does not have."""
        for name, why in self.missing.items():
            warn(f"the column {name!r} of {self.place.shown} is written as text, because {why}", ColumnTypeWarning)

    def rehearse(self, connection: sa.Connection) -> None:
        """Try `finish`, and take all back."""
        self.database.rehearse(connection, self.name, self.schema, self.place.table, self.old)

    def finish(self, connection: sa.Connection) -> None:
        """Show the rows to others."""
        self.database.put(connection, self.name, self.schema, self.place.table, self._existing(connection))
        connection.commit()

    def abandon(self, connection: sa.Connection) -> None:
        """Leave the table as it was."""
        self.database.abandon(connection, self.name, self.schema)

    # --- what is filled --------------------------------------------------------------------------------------------------

    def _made(self, connection: sa.Connection) -> tuple[str, dict[str, str]]:
        """Make the table that is filled; its name and its types."""
        types = {name: self.database.types[kind] for name, kind in self.kinds.items()}
        types |= dict.fromkeys(self.missing, self.database.types["str"])
        types |= {name: self._native_types[name].sql for name in self._kept_types()}
        name = self.database.new_name(self.place)
        self.database.create(connection, name, self.schema, types)
        return name, types

    def _made_in(self) -> str | None:
        return self.schema

    def _fixed(self) -> list[str]:
        """The columns whose types were there before the first value."""
        return self._kept_types()

    def _kept_types(self) -> list[str]:
        database = self.database
        return [
            name
            for name, own in self._native_types.items()
            if name not in self.missing and (database.keeps_all_types or database.fits(self.kinds[name], own.sql))
        ]

    def _takes_text(self, name: str) -> bool:
        return name in self._native_types

    def _kinds_stored(self) -> dict[str, str]:
        return self.kinds

    def _next_texts(self, n_rows: int) -> dict[str, list[str | None]]:
        if self._texts is None:
            return {}
        rows = list(islice(self._texts, n_rows))
        return {name: [row[place] for row in rows] for name, place in self._used.items()}

    # --- what is there ---------------------------------------------------------------------------------------------------

    def _existing(self, connection: sa.Connection) -> str | None:
        """The name of the table that is there, if there is one and it may be changed."""
        old = existing_table(connection, self.database, self.place)
        if old is None:
            return None
        self._refuse(connection, old)
        import sqlalchemy as sa

        with without_warnings():
            found = [column["name"] for column in sa.inspect(connection).get_columns(old, schema=self.schema)]
        odd = [f"has a column {name!r}, which this job does not write" for name in found if name not in self.kinds]
        odd += [f"lacks the column {name!r}, which this job writes" for name in self.kinds if name not in found]
        if odd:
            raise InputError(
                f"the table {self.place.shown} exists and {odd[0]}; give the output another table name, or drop that table"
            )
        return old

    def _refuse(self, connection: sa.Connection, old: str) -> None:
        self.database.refuse(connection, replace(self.place, table=old))


class AddedRows(TableOutput):
    """Rows that are added to a table: put aside first, and added in one transaction.

    Parameters
    ----------
    connection, table, kinds, native
        As `TableOutput` has them; the table exists.
    id_column : str or None
    replaces : bool
        Whether rows whose ids are there already take their places, or are refused.
    """

    def __init__(
        self,
        connection: sa.Connection,
        table: SqlTable,
        kinds: Mapping[str, str],
        native: NativeColumns | None,
        id_column: str | None,
        replaces: bool,
    ) -> None:
        self._id = id_column
        self._replaces = replaces
        super().__init__(connection, table, kinds, native)

    def rehearse(self, connection: sa.Connection) -> None:
        self._check_ids(connection)
        connection.rollback()

    def finish(self, connection: sa.Connection) -> None:
        quote, database = self.database.quoted, self.database
        table, staged = self._whole(connection), quote(connection, self.name)
        database.lock(connection, table)
        self._check_ids(connection)
        columns = [quote(connection, name) for name in self.kinds]
        condition = ""
        if self._id is not None and self._replaces:
            key = quote(connection, self._id)
            others = [column for column in columns if column != key]
            statement = database.update(table, staged, key, others)
            if statement is not None:
                connection.exec_driver_sql(statement)
            condition = f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {database.same(f't.{key}', f's.{key}')})"
        listed, selected = ", ".join(columns), ", ".join(f"s.{column}" for column in columns)
        connection.exec_driver_sql(f"INSERT INTO {table} ({listed}) SELECT {selected} FROM {staged} AS s{condition}")
        connection.commit()

    def abandon(self, connection: sa.Connection) -> None:
        """Temporary tables go with the connection."""

    def _check_ids(self, connection: sa.Connection) -> None:
        if self._id is None:
            return
        database, key = self.database, self.database.quoted(connection, self._id)
        table, staged = self._whole(connection), database.quoted(connection, self.name)
        shown = self.place.shown
        if connection.exec_driver_sql(f"SELECT count(*) FROM {staged} WHERE {key} IS NULL").scalar():
            raise InputError(f"{shown}: a row of this job has no id in the column {self._id!r}; give every row one")
        sides = {"this job": staged, **({f"the table {shown}": table} if self._replaces else {})}
        for side, where in sides.items():
            exact = database.exact(key)
            query = f"SELECT {exact} FROM {where} WHERE {key} IS NOT NULL GROUP BY {exact} HAVING count(*) > 1 LIMIT 1"
            twice = connection.exec_driver_sql(query).first()
            if twice is not None:
                raise InputError(
                    f"{side} has more than one row of the id {_shown(twice[0])} in the column {self._id!r}; make the ids "
                    "different, or give the output another table name"
                )
        if self._replaces:
            return
        query = (
            f"SELECT s.{key} FROM {staged} AS s JOIN {table} AS t ON {database.same(f't.{key}', f's.{key}')} LIMIT 1"
        )
        there = connection.exec_driver_sql(query).first()
        if there is not None:
            raise InputError(
                f"the table {shown} has a row of the id {_shown(there[0])} already (column {self._id!r}), and its rows are to be "
                "added; if this job has added them before, it is done; merge by the id to replace them"
            )

    def _whole(self, connection: sa.Connection) -> str:
        return self.database.quoted(connection, str(self.old), self.schema)

    def _made(self, connection: sa.Connection) -> tuple[str, dict[str, str]]:
        assert self.old is not None
        self.database.refuse_addition(connection, replace(self.place, table=self.old))
        found = self.database.native_types(connection, replace(self.place, table=self.old))
        types = {name: found[name].sql for name in self.kinds}
        self._equal = [
            name for name, own in self._native_types.items() if own.sql == types[name] and name not in self.missing
        ]
        for name, kind in self.kinds.items():
            if name not in self._equal and not self.database.fits(kind, types[name]):
                raise InputError(
                    f"the table {self.place.shown} exists, and its column {name!r} has the type {types[name]}, which does not "
                    f"hold all values of the kind {kind!r}, as this job writes them; give the output another table name, or "
                    "change the column's type"
                )
        self.missing = {}
        name = f"llmclf_{secrets.token_hex(8)}"
        self.database.create(connection, name, None, types, is_temporary=True)
        if self._id is not None:
            quoted = self.database.quoted(connection, name), self.database.quoted(connection, self._id)
            self.database.index(connection, *quoted)
        return name, types

    def _made_in(self) -> str | None:
        return None

    def _fixed(self) -> list[str]:
        return list(self.kinds)

    def _takes_text(self, name: str) -> bool:
        return name in self._equal

    def _refuse(self, connection: sa.Connection, old: str) -> None:
        """Whatever refers to a table, its rows may be added to."""


def existing_table(connection: sa.Connection, database: WritableDatabase, place: TableName) -> str | None:
    """The name of the table that is there, as it is written there.

    Raises
    ------
    InputError
        What is there is not an ordinary table.
    """
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    names = {database.as_compared(name): name for name in inspector.get_table_names(place.schema)}
    old = names.get(database.as_compared(place.table))
    if old is None and inspector.has_table(place.table, schema=place.schema):
        raise InputError(
            f"{place.shown} is not an ordinary table (it may be a view); give the output another table name"
        )
    return old


def _shown(value: Any) -> str:
    return repr(value.decode(errors="replace") if isinstance(value, bytes) else value)
