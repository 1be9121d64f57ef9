"""Data set cards: what a data set is, where its rows come from, and what a classifier needs to work on it.

A card is a small TOML file without data. The rows are read from a folder of the user, or from a file inside a package
that pip can fetch, and are used only if their sha256 is the one on the card.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from jinja2 import meta

from .checks import is_whole_number
from .downloads import PackagedFile
from .errors import DownloadError, InputError

_LABEL = "label"


@dataclass(frozen=True)
class FolderSource:
    """Rows in ``NAME/train.jsonl`` and ``NAME/test.jsonl`` of the folder that the variable LLMCLF_DATA names.

    `origin` names the files from which the rows were taken, `sha256` is the checksum of each split's file.
    """

    origin: tuple[str, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class PackageSource:
    """Rows in a CSV file inside a package; llmclf splits them.

    `columns` maps a column on the card to one in the CSV file; the order of the rows depends on `seed` and the texts.
    """

    file: PackagedFile
    columns: Mapping[str, str]
    seed: int


@dataclass(frozen=True)
class DatasetCard:
    """A labelled data set: its rows, its classes and a prompt for them. Made by `load_card`.

    Attributes
    ----------
    name, description : str
        The card's file name without ``.toml``, and one sentence.
    task : {"classification", "pair", "choice"}
        One text and fixed classes, two texts and fixed classes, or a row's own completions to choose from.
    language : tuple of str
        Language tags.
    licence, redistribution, citation, notes : str
        What the licence allows, whom to cite, and what to know before trusting a number.
    split, get : str
        How the rows were split into train and test, and how to get them.
    columns, text_columns : tuple of str
        All columns of the rows, and those that the prompt uses.
    choices_column : str or None
        The column that holds each row's list of completions, for the task ``"choice"``.
    prompt_template, instruction : str, str or None
        jinja2 templates, the first over the text columns, the second over ``label_words``.
    classes : dict
        Class -> its label words; no words for the task ``"choice"``.
    rows : dict of str to int
        Split -> number of rows.
    source : FolderSource or PackageSource
        Where the rows are read from.

    Examples
    --------
    >>> card = load_card("agnews")
    >>> card.labels["Sci/Tech"]
    ['technology', 'science']
    >>> print(card.prompt_template)
    Article: {{ text }}
    Topic:
    """

    name: str
    description: str
    task: str
    language: tuple[str, ...]
    licence: str
    redistribution: str
    citation: str
    notes: str
    split: str
    get: str
    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    choices_column: str | None
    prompt_template: str
    instruction: str | None
    classes: Mapping[str | int, tuple[str, ...]]
    rows: Mapping[str, int]
    source: FolderSource | PackageSource

    @property
    def labels(self) -> dict[str | int, list[str]] | list[str | int]:
        """Class -> label words; for the task ``"choice"``, where each row has its own words, the list of classes."""
        if self.task == "choice":
            return list(self.classes)
        return {value: list(words) for value, words in self.classes.items()}

    def load(self, split: str = "train", n: int | None = None) -> pd.DataFrame:
        """The rows of one split, in a random order that is always the same.

        Parameters
        ----------
        split : {"train", "test"}
            Which rows.
        n : int, optional
            Only the first `n` rows, which are a random sample; all rows if there are fewer.

        Returns
        -------
        DataFrame with the card's columns, and ``0, 1, ...`` as its index.

        Raises
        ------
        InputError
            The split is not on the card, or `n` is not a positive integer.
        DownloadError
            The rows are missing or are not the expected ones; the message says how to get them.
        """
        if split not in self.rows:
            raise InputError(f"Got split={split!r} but expected one of {', '.join(map(repr, self.rows))}")
        if n is not None and not is_whole_number(n, 1):
            raise InputError(f"Got n={n!r} but expected a positive integer, or None for all rows")
        if isinstance(self.source, FolderSource):
            frame = self._read_folder(self.source, split)
        else:
            frame = self._read_package(self.source, split)
        return frame[list(self.columns)].iloc[:n].reset_index(drop=True)

    def _read_folder(self, source: FolderSource, split: str) -> pd.DataFrame:
        about = f"{self.get} Origin: {', '.join(source.origin)}. Licence: {self.licence}"
        folder = os.environ.get("LLMCLF_DATA")
        if not folder:
            raise DownloadError(
                f"the rows of {self.name!r} are not part of llmclf, and LLMCLF_DATA is not set. {about}"
            )
        path = Path(folder).expanduser() / self.name / f"{split}.jsonl"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DownloadError(
                f"the rows of {self.name!r} could not be read from {path}: {error.strerror}. {about}"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != source.sha256[split]:
            raise DownloadError(
                f"the sha256 of {path} is {digest}, expected {source.sha256[split]}: these are not the rows that the "
                f"card describes. {about}"
            )
        # Not splitlines(): it also splits at characters that a text may contain.
        return pd.DataFrame([json.loads(line) for line in content.rstrip(b"\n").split(b"\n")])

    def _read_package(self, source: PackageSource, split: str) -> pd.DataFrame:
        # A text may be just "None" or "NA", so no word means a missing value.
        table = pd.read_csv(source.file.locate(), encoding="utf-8", keep_default_na=False, na_values=[])
        frame = pd.DataFrame({name: table[column] for name, column in source.columns.items()}).assign(idx=table.index)
        text = self.text_columns[0]
        frame = frame[frame[_LABEL].isin(list(self.classes)) & (frame[text].str.strip() != "")].drop_duplicates(text)
        # Sorted by hashes: as random as a shuffle, and the same in every version of every library.
        keys = [hashlib.sha256(f"{source.seed} {value}".encode()).digest() for value in frame[text]]
        frame = frame.iloc[sorted(range(len(keys)), key=keys.__getitem__)]
        n_test = self.rows["test"]
        return frame.iloc[:n_test] if split == "test" else frame.iloc[n_test:]


def list_cards() -> list[str]:
    """Names of all cards, sorted.

    Examples
    --------
    >>> "rotten_tomatoes" in list_cards()
    True
    """
    return sorted(path.stem for path in _folder().glob("*.toml"))


def load_card(name: str) -> DatasetCard:
    """The card of one data set, one of `list_cards`.

    Raises
    ------
    InputError
        No card has this name, or the card has a mistake.

    Examples
    --------
    >>> load_card("sst2").labels
    {'negative': ['negative'], 'positive': ['positive']}
    """
    known = list_cards()
    if name not in known:
        raise InputError(f"Got the data set {name!r} but the only cards are {', '.join(known) or 'none'}")
    try:
        card = _read_card(tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8")))
        _expect(card.name == name, f"name = {card.name!r} is not the file's name")
        return card
    except ValueError as error:
        raise InputError(f"the card {name}.toml cannot be used: {error}") from error


def _folder() -> Path:
    # In a wheel the cards lie inside the package; in a checkout, beside it.
    inside = Path(__file__).parent / "_cards"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "datasets"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


# What a key may hold; a question mark means that the key is optional.
_KINDS = {
    "text": ("a text that is not empty", _is_text),
    "texts": ("a list of texts", lambda value: isinstance(value, list) and value and all(map(_is_text, value))),
    "number": ("a whole number, not negative", lambda value: type(value) is int and value >= 0),
    "class": ("a text or a whole number", lambda value: _is_text(value) or type(value) is int),
    "table": ("a table", lambda value: isinstance(value, dict)),
    "tables": ("an array of tables", lambda value: isinstance(value, list) and all(isinstance(t, dict) for t in value)),
}
_TEXT_KEYS = ("name", "description", "task", "licence", "redistribution", "citation", "notes", "split", "get")
_KEYS = {
    "card": dict.fromkeys(_TEXT_KEYS, "text")
    | dict.fromkeys(("language", "columns", "text_columns"), "texts")
    | {"prompt_template": "text", "instruction": "text?", "choices_column": "text?"}
    | {"rows": "table", "source": "table", "classes": "tables"},
    "rows": {"train": "number", "test": "number"},
    "classes": {"value": "class", "words": "texts?"},
    "folder source": {"origin": "texts", "sha256": "table"},
    "sha256": {"train": "text", "test": "text"},
    "package source": dict.fromkeys(("package", "version", "member", "sha256"), "text")
    | {"columns": "table", "seed": "number"},
}


def _expect(condition: object, message: str) -> None:
    if not condition:
        raise InputError(message)


def _check(table: Mapping[str, Any], part: str) -> None:
    keys = _KEYS[part]
    unknown = ", ".join(map(repr, sorted(set(table) - set(keys))))
    _expect(not unknown, f"the {part} has the unknown key {unknown}; known: {', '.join(sorted(keys))}")
    for key, kind in keys.items():
        if key not in table:
            _expect(kind.endswith("?"), f"the {part} lacks the key {key!r}")
        else:
            expected, is_right = _KINDS[kind.rstrip("?")]
            _expect(is_right(table[key]), f"{key} = {table[key]!r} of the {part} is not {expected}")


def _read_card(table: dict[str, Any]) -> DatasetCard:
    _check(table, "card")
    _check(table["rows"], "rows")
    for entry in table["classes"]:
        _check(entry, "classes")
    columns, text_columns = table["columns"], table["text_columns"]
    template, instruction, choices = table["prompt_template"], table.get("instruction"), table.get("choices_column")
    tasks = ("classification", "pair", "choice")
    _expect(table["task"] in tasks, f"task = {table['task']!r} is not one of {', '.join(tasks)}")
    is_choice = table["task"] == "choice"
    _expect(is_choice == (choices is not None), "choices_column belongs to the task 'choice' and to no other")
    for column in (_LABEL, *text_columns, *([choices] if choices else [])):
        _expect(column in columns, f"the column {column!r} is not among columns = {columns}")
    used = sorted(_variables(template))
    _expect(used == sorted(text_columns), f"prompt_template uses {used}, but text_columns = {text_columns}")
    _expect(template == template.rstrip(), f"prompt_template = {template!r} ends in white space")
    extra = sorted(_variables(instruction or "") - {"label_words"})
    _expect(not extra, f"instruction uses {extra}, but can use label_words alone")
    classes = {entry["value"]: tuple(entry.get("words", ())) for entry in table["classes"]}
    _expect(
        len(classes) == len(table["classes"]) > 1, "there must be at least two classes, and their values must differ"
    )
    words = [word for words in classes.values() for word in words]
    _expect(len(set(words)) == len(words), "a word stands for two classes")
    for value, class_words in classes.items():
        _expect(
            bool(class_words) != is_choice,
            f"the class {value!r} needs words, except in the task 'choice', where it must have none",
        )
        _expect(type(value) is type(next(iter(classes))), "classes must be all texts or all numbers")
    lists = {key: tuple(table[key]) for key in ("language", "columns", "text_columns")}
    optional = {"choices_column": choices, "instruction": instruction}
    source = _read_source(table["source"], columns)
    return DatasetCard(**(table | lists | optional | {"classes": classes, "source": source}))


def _read_source(table: dict[str, Any], columns: list[str]) -> FolderSource | PackageSource:
    if "package" not in table:
        _check(table, "folder source")
        _check(table["sha256"], "sha256")
        return FolderSource(tuple(table["origin"]), table["sha256"])
    _check(table, "package source")
    source_columns = [*table["columns"], "idx"]
    _expect(
        source_columns == columns,
        f"the columns of the package source and idx are {source_columns}, but columns = {columns}",
    )
    file = PackagedFile(*(table[key] for key in ("package", "version", "member", "sha256")))
    return PackageSource(file, table["columns"], table["seed"])


def _variables(template: str) -> set[str]:
    try:
        return meta.find_undeclared_variables(jinja2.Environment().parse(template))
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{template!r} is not a valid jinja2 template: {error.message}") from error
