"""Fitted classifiers as folders: JSON, and arrays of numbers beside it; written whole or not at all, and never executed.

An array lies in a file that is called by the hash of its bytes, so that JSON which names it names one content. Files are written
before the JSON that names them: a reader sees the classifier before or after, and never a part of each.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Floats
from .atomic_files import refuse_address, write_file, write_text
from .errors import InputError, StoreError
from .files.bounded_json import parsed_json
from .files.faults import file_fault, folder_fault

_FILE = "classifier.json"
_ARRAY = "\0array"  # the one key of an object that stands for an array; no field of a table is called so
_ARRAY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)"
    rb"(\{'descr': '<f8', 'fortran_order': False, 'shape': \(((?:\d{1,15}, ?)*(?:\d{1,15})?)\), \} *\n)",
    re.DOTALL,
)
_ARRAY_NAME = re.compile(r"[0-9a-f]{32}\.npy")
_INLINE = 1000  # numbers: an array of no more stands in the JSON itself
CURE = "copy the folder again, or fit and save the classifier once more"
_MOST_BYTES = 64_000_000  # of the JSON: a hundred times what the largest classifier that was ever saved has
_MOST_ARRAY_BYTES = 4_000_000_000  # of all arrays, each as often as it is named
_MOST_REASON = 1000  # characters of what is wrong
_ATTEMPTS = 3  # at reading a folder into which somebody else is writing


def write_folder(folder: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write `values` into a folder; an earlier classifier in the same folder is replaced in one step.

    Raises
    ------
    StoreError
        The folder holds something else, or cannot be written.
    """
    target = check_folder(folder)
    text, arrays = _written(values)
    for file in (target / _FILE, *(target / name for name in arrays)):
        if file.is_symlink():  # whose target may be any file of the user's, if the folder came from somebody else
            file.unlink()
    _write_arrays(target, arrays)
    write_text(text, target / _FILE)
    _write_arrays(target, arrays)  # once more: somebody who saves here, too, may have removed some meanwhile
    for file in _array_files(target):
        if file.name not in arrays:
            with suppress(OSError):
                file.unlink()


def written_sha256(values: Mapping[str, Any]) -> str:
    """The `classifier_sha256` of the folder that `write_folder` would make of `values`.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_folder(folder, {"bias": np.zeros(2000)})
    >>> written_sha256({"bias": np.zeros(2000)}) == classifier_sha256(folder)
    True
    """
    return sha256(_written(values)[0].encode("utf-8")).hexdigest()


def classifier_sha256(folder: str | os.PathLike[str]) -> str:
    """The hash of the JSON in the folder of a saved classifier, which names all arrays by hashes of theirs.

    Raises
    ------
    StoreError
        The folder holds no saved classifier, or its JSON cannot be read.
    """
    file = _json_file(folder)
    try:
        with file.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{str(file)!r} cannot be read ({error}); {CURE}") from error


def holds_classifier(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a saved classifier in a folder, be it whole or not.

    Raises
    ------
    InputError
        There is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> holds_classifier(tempfile.mkdtemp())
    False
    """
    place = Path(folder).expanduser()
    fault = folder_fault(place)
    if fault is not None:
        raise InputError(f"{os.fspath(folder)!r} {fault}; expected the folder of a saved classifier")
    return (place / _FILE).exists() or (place / _FILE).is_symlink()


def array_bytes(values: Floats) -> bytes:
    """An array of numbers as the bytes of a ``.npy`` file, which `array_of_bytes` reads."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(values, dtype="<f8"), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def array_of_bytes(data: bytes) -> Floats:
    """The array in the bytes of a file. numpy's own reader of headers would try to read what is none as Python's literals.

    Raises
    ------
    ValueError
        These are not the bytes of `array_bytes`.
    """
    found = _ARRAY_HEADER.match(data)
    if found is None or int.from_bytes(found[1], "little") != len(found[2]):
        raise ValueError("it does not begin as an array of 64-bit floats does")
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    rest = data[found.end() :]
    if len(rest) != 8 * math.prod(shape):
        raise ValueError(f"it holds {len(rest)} bytes for an array of shape {shape}")
    values: Floats = np.frombuffer(rest, dtype="<f8").reshape(shape).astype(np.float64)
    return values


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder in which a classifier may be written: a new or empty one, or that of an earlier classifier.

    Raises
    ------
    InputError
        It is an address.
    StoreError
        The folder holds something else.
    """
    refuse_address(folder)
    target = Path(folder).expanduser()
    if target.exists() and not (target / _FILE).is_file() and (not target.is_dir() or _is_foreign(target)):
        raise StoreError(f"{str(target)!r} exists and is not a saved classifier; give another folder")
    return target


def damaged(folder: str | os.PathLike[str], reason: str) -> StoreError:
    """The error for a folder whose values fit neither each other nor what `write_folder` was ever given."""
    if len(reason) > _MOST_REASON:  # it may quote a value of any length
        reason = f"{reason[: _MOST_REASON // 2]} ... {reason[-_MOST_REASON // 2 :]}"
    return StoreError(f"{str(Path(folder).expanduser() / _FILE)!r} is damaged: {reason}; {CURE}")


def read_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The values that `write_folder` wrote.

    Raises
    ------
    StoreError
        The folder holds no saved classifier, or one that is not a JSON object, or an array is missing or not what was written.
    """
    file = _json_file(folder)
    for attempt in range(_ATTEMPTS):
        values = _read_json(file)
        try:
            _check_arrays(values, file.parent)
            whole: dict[str, Any] = _filled(values, file.parent)
            return whole
        except StoreError:
            # Whoever saves another classifier here removes the arrays of this one.
            if attempt == _ATTEMPTS - 1 or _read_json(file) == values:
                raise
    raise AssertionError("the last attempt returns or raises")


def _json_file(folder: str | os.PathLike[str]) -> Path:
    """The JSON of a saved classifier, which is there and can be read."""
    file = Path(folder).expanduser() / _FILE
    fault = folder_fault(file.parent)
    if fault is not None and file.parent.exists():
        raise StoreError(f"{str(folder)!r} holds no saved classifier: it {fault}")
    if not (file.exists() or file.is_symlink()):
        raise StoreError(f"{str(folder)!r} holds no saved classifier (no {_FILE}); give a folder that save wrote")
    fault = file_fault(file)
    if fault is not None:
        raise StoreError(f"{str(file)!r} {fault}")
    return file


def _read_json(file: Path) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"it has {size / 1e6:,.0f} MB; expected at most {_MOST_BYTES / 1e6:,.0f}")
        values = parsed_json(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, MemoryError) as error:
        raise StoreError(
            f"{str(file)!r} is damaged and cannot be read ({error or 'not enough memory'}); {CURE}"
        ) from error
    if not isinstance(values, dict):
        raise StoreError(
            f"{str(file)!r} is not a saved classifier: expected a JSON object, found {type(values).__name__}; {CURE}"
        )
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not a finite number")


def _written(values: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The JSON of `values`, and the bytes of the arrays that it names."""
    arrays: dict[str, bytes] = {}
    return json.dumps(_named(values, arrays), indent=1, ensure_ascii=True, allow_nan=False), arrays


def _named(value: Any, arrays: dict[str, bytes]) -> Any:
    """A value with the name of a file in place of each array, whose bytes go into `arrays`."""
    if isinstance(value, np.ndarray) and value.size <= _INLINE:
        return value.tolist()
    if isinstance(value, np.ndarray):
        data = array_bytes(value)
        name = f"{sha256(data).hexdigest()[:32]}.npy"
        arrays[name] = data
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {key: _named(inner, arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(inner, arrays) for inner in value]
    return value


def _check_arrays(values: Any, folder: Path) -> None:
    """Refuse arrays that are larger than any classifier's, before one of them is read."""
    total, waiting = 0, [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict) and set(value) != {_ARRAY}:
            waiting += value.values()
        elif isinstance(value, dict) and isinstance(value[_ARRAY], str) and _ARRAY_NAME.fullmatch(value[_ARRAY]):
            with suppress(OSError):  # whoever reads it says what is wrong with it
                total += (folder / value[_ARRAY]).stat().st_size
    if total > _MOST_ARRAY_BYTES:
        most = f"{_MOST_ARRAY_BYTES / 1e9:,.0f} GB"
        raise damaged(folder, f"it names arrays of {total / 1e9:,.0f} GB together; expected at most {most}")


def _filled(value: Any, folder: Path) -> Any:
    """The inverse of `_named`."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return _read_array(value[_ARRAY], folder)
        return {key: _filled(inner, folder) for key, inner in value.items()}
    return [_filled(inner, folder) for inner in value] if isinstance(value, list) else value


def _write_arrays(target: Path, arrays: Mapping[str, bytes]) -> None:
    """Write what is not there, or not as it should be."""
    for name, data in arrays.items():
        file = target / name
        if not file.is_file() or file.read_bytes() != data:
            write_file(lambda file, data=data: file.write_bytes(data), file)  # type: ignore[misc]


def _read_array(name: Any, folder: Path) -> Floats:
    """An array of float64 from its file, which is not trusted: nothing but numbers, of the content that the JSON names."""
    if not isinstance(name, str) or not _ARRAY_NAME.fullmatch(name):
        raise damaged(folder, f"{name!r} is not the name of an array")
    file = folder / name
    fault = file_fault(file)
    if fault is not None:
        raise StoreError(f"{str(file)!r} {fault}, or {CURE}")
    try:
        data = file.read_bytes()
        if sha256(data).hexdigest()[:32] != name.removesuffix(".npy"):
            raise ValueError("its content is not what was saved")
        values = array_of_bytes(data)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are NaN or infinite")
    except (OSError, ValueError, MemoryError) as error:
        raise StoreError(
            f"{str(file)!r} is damaged and cannot be read ({error or 'not enough memory'}); {CURE}"
        ) from error
    return values


def _array_files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if _ARRAY_NAME.fullmatch(file.name)]


def _is_foreign(folder: Path) -> bool:
    """Whether a folder holds something else than arrays, which a process left that was killed while it saved."""
    return any(not _ARRAY_NAME.fullmatch(file.name) for file in folder.iterdir())
