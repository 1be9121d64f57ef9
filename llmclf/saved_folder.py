"""Fitted classifiers as folders of JSON: readable, comparable, written whole or not at all, and never executed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic_files import write_text
from .errors import StoreError
from .files.faults import file_fault, folder_fault

_FILE = "classifier.json"


def write_folder(folder: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write `values` into a folder; an earlier classifier in the same folder is replaced in one step.

    Raises
    ------
    StoreError
        The folder holds something else, or cannot be written.
    """
    target = check_folder(folder)
    text = json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False)
    write_text(text, target / _FILE)


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder in which a classifier may be written: a new or empty one, or that of an earlier classifier.

    Raises
    ------
    StoreError
        The folder holds something else.
    """
    target = Path(folder).expanduser()
    if target.exists() and not (target / _FILE).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{str(target)!r} exists and is not a saved classifier; give another folder")
    return target


def read_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The values that `write_folder` wrote.

    Raises
    ------
    StoreError
        The folder holds no saved classifier, or one that is not a JSON object.
    """
    file = Path(folder).expanduser() / _FILE
    fault = folder_fault(file.parent)
    if fault is not None and file.parent.exists():
        raise StoreError(f"{str(folder)!r} holds no saved classifier: it {fault}")
    if not (file.exists() or file.is_symlink()):
        raise StoreError(f"{str(folder)!r} holds no saved classifier (no {_FILE}); give a folder that save wrote")
    fault = file_fault(file)
    if fault is not None:
        raise StoreError(f"{str(file)!r} {fault}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{str(file)!r} is damaged and cannot be read ({error}); copy the folder again, or save the classifier once more"
        ) from error
    if not isinstance(values, dict):
        raise StoreError(
            f"{str(file)!r} is not a saved classifier: expected a JSON object, found {type(values).__name__}"
        )
    return values
