"""The kinds of values in a table's columns, piece by piece: files and databases need them before the first row."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ...errors import InputError, type_of
from ...tables.formats import missing_pyarrow
from ...tables.values import is_missing, json_value

KINDS = ("bool", "int", "float", "str", "datetime", "date", "decimal", "bytes", "json")
"""Kinds of values; ``json`` are lists, dicts, and values of several kinds."""

_OF_TYPE: dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    datetime.datetime: "datetime",
    pd.Timestamp: "datetime",
    datetime.date: "date",
    Decimal: "decimal",
    bytes: "bytes",
    type(None): "",
}
_SAFE = {bool, float, type(None)}
_LACKING = {
    "UTF-8": "half a surrogate pair, which is not UTF-8",
    "64 bits": "an integer of more than 64 bits",
    "JSON": "a value that has no JSON form",
}
_OF_ARROW = {"string": "str", "large_string": "str", "string_view": "str", "bool": "bool", "null": ""}


class ColumnKinds:
    """The columns of a table in the order in which they first appear, and what they hold.

    Attributes
    ----------
    names : list of str
    unlike : dict
        Where a value stands that some formats cannot hold, by what it lacks: ``"UTF-8"`` for half a surrogate pair,
        ``"64 bits"`` for a longer integer, ``"JSON"`` for a value that is, or holds, what JSON does not know.

    Examples
    --------
    >>> kinds = ColumnKinds()
    >>> kinds.add(pd.DataFrame({"a": [1, 2]}))
    >>> kinds.add(pd.DataFrame({"a": [0.5], "b": ["x"]}))
    >>> kinds.names, kinds.kinds
    (['a', 'b'], {'a': 'float', 'b': 'str'})
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._found: dict[str, set[str]] = {}
        self._arrow: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._n_rows = 0
        self.unlike: dict[str, str] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Take in the next piece.

        Raises
        ------
        InputError
            Two columns have the same name, or a name is not a text.
        """
        for name in frame.columns:
            if not isinstance(name, str):
                raise InputError(f"the column name {name!r} is {type_of(name)}; expected str")
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise InputError(f"the table has two columns of the name {twice!r}; rename one of them")
        for name in frame.columns:
            if name not in self._found:
                self.names.append(name)
                self._found[name] = set()
            self._take(name, frame[name])
        self._n_rows += len(frame)

    def refuse(self, *lacks: str, where: str) -> None:
        """Refuse a table with values that a format cannot hold.

        Raises
        ------
        InputError
            The table has a value that lacks one of `lacks`.
        """
        for name in lacks:
            if name in self.unlike:
                raise InputError(
                    f"{where} cannot be written: {self.unlike[name]}; change the value, or write another format"
                )

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of every column; a column without values counts as text."""
        return {name: _joined(self._found[name]) for name in self.names}

    def arrow_schema(self, added: dict[str, str]) -> Any:
        """A pyarrow.Schema of these columns and of some more whose kinds are known.

        Raises
        ------
        InputError
            The values of a column have no common Arrow type.
        MissingDependencyError
            pyarrow is not installed.
        """
        try:
            import pyarrow as pa
        except ImportError as error:
            raise missing_pyarrow() from error

        fields = []
        for name in self.names:
            exact = self._arrow.get(name)
            if isinstance(exact, Exception):
                raise InputError(
                    f"the values of the column {name!r} have no common type in Parquet ({exact}); write CSV or JSONL"
                )
            column_type = arrow_type(self.kinds[name]) if exact is None or pa.types.is_null(exact) else exact
            fields.append(pa.field(name, column_type))
        return pa.schema([*fields, *(pa.field(name, arrow_type(kind)) for name, kind in added.items())])

    def _take(self, name: str, column: pd.Series) -> None:
        dtype = column.dtype
        if self._last.get(name) == dtype and not pd.api.types.is_object_dtype(dtype):
            if _holds_bytes(dtype):
                self._look(name, column)
            return  # a type that says all
        self._last[name] = dtype
        kinds = self._found[name]
        if isinstance(dtype, pd.ArrowDtype):
            kinds.add(_kind_of_arrow(dtype.pyarrow_dtype))
            self._add_arrow_type(name, dtype.pyarrow_dtype)
            if _holds_bytes(dtype):
                self._look(name, column)
        elif pd.api.types.is_object_dtype(dtype):
            values = [value for value in column.tolist() if not is_missing(value)]
            types = set(map(type, values))
            self._look(name, column)
            kinds |= {_OF_TYPE.get(kind) or _kind_of_numpy(kind) for kind in types}
            if kinds & {"json", "decimal", "datetime"}:
                self._infer(name, values)
        elif pd.api.types.is_bool_dtype(dtype):
            kinds.add("bool")
        elif pd.api.types.is_integer_dtype(dtype):
            kinds.add("int")
        elif pd.api.types.is_float_dtype(dtype):
            kinds.add("float")
        elif pd.api.types.is_datetime64_any_dtype(dtype):
            kinds.add("datetime")
            self._infer(name, column)
        elif pd.api.types.is_string_dtype(dtype):
            kinds.add("str")
        else:  # categories and the like
            kinds |= {_OF_TYPE.get(type(value)) or _kind_of_numpy(type(value)) for value in column.dropna().unique()}

    def _infer(self, name: str, values: Any) -> None:
        try:
            import pyarrow as pa
        except ImportError:
            return
        try:
            self._add_arrow_type(name, pa.array(values, from_pandas=True).type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            self._arrow[name] = error

    def _look(self, name: str, column: pd.Series) -> None:
        """Note the first values that not every format has a form for."""
        for number, value in enumerate(column.tolist(), start=self._n_rows):
            if type(value) in _SAFE:
                continue
            lack, why = _lack(value)
            if lack and lack not in self.unlike:
                self.unlike[lack] = f"row {number} (counted from 0), column {name!r}, holds {_LACKING[lack]}{why}"

    def _add_arrow_type(self, name: str, column_type: Any) -> None:
        import pyarrow as pa

        before = self._arrow.get(name)
        if before is None or isinstance(before, Exception):
            self._arrow.setdefault(name, column_type)
            return
        try:
            schemas = [pa.schema([(name, before)]), pa.schema([(name, column_type)])]
            self._arrow[name] = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except pa.ArrowException as error:
            self._arrow[name] = error


def arrow_type(kind: str) -> Any:
    """The Arrow type of a kind."""
    import pyarrow as pa

    return {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
        "str": pa.string(),
        "datetime": pa.timestamp("us"),
        "date": pa.date32(),
        "decimal": pa.decimal128(38, 9),
        "bytes": pa.binary(),
        "json": pa.string(),
    }[kind]


def _joined(kinds: set[str]) -> str:
    known = kinds - {""}
    if not known:
        return "str"
    if len(known) == 1:
        return next(iter(known))
    return "float" if known == {"int", "float"} else "json"


def _lack(value: Any) -> tuple[str, str]:
    """What a format may lack that this value needs, or nothing; and why."""
    if type(value) is int:
        return ("", "") if -(2**63) <= value < 2**63 else ("64 bits", "")
    try:
        text = value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        return "UTF-8", ""
    except (TypeError, ValueError, RecursionError) as error:
        return "JSON", f" ({error})"
    return "", ""


def _holds_bytes(dtype: Any) -> bool:
    """Whether the values of an Arrow type are bytes, or hold some, which JSON lacks."""
    return isinstance(dtype, pd.ArrowDtype) and any(
        word in str(dtype.pyarrow_dtype) for word in ("binary", "map<", "extension<")
    )


def _kind_of_arrow(column_type: Any) -> str:
    import pyarrow as pa

    name = str(column_type)
    if name in _OF_ARROW:
        return _OF_ARROW[name]
    tests = (
        (pa.types.is_integer, "int"),
        (pa.types.is_floating, "float"),
        (pa.types.is_timestamp, "datetime"),
        (pa.types.is_date, "date"),
        (pa.types.is_decimal, "decimal"),
        (pa.types.is_binary, "bytes"),
        (pa.types.is_large_binary, "bytes"),
    )
    kind = next((kind for test, kind in tests if test(column_type)), "json")
    return _kind_of_arrow(column_type.value_type) if kind == "json" and pa.types.is_dictionary(column_type) else kind


def _kind_of_numpy(column_type: type) -> str:
    for base, kind in ((np.bool_, "bool"), (np.integer, "int"), (np.floating, "float"), (np.datetime64, "datetime")):
        if issubclass(column_type, base):
            return kind
    return next((kind for base, kind in _OF_TYPE.items() if kind and issubclass(column_type, base)), "json")
