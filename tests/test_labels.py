"""Classes and their words: what comes back is what was given, and what is odd is refused by its name."""

from __future__ import annotations

import enum
import math
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.errors import InputError, LabelWordWarning
from llmclf.labels import (
    class_array,
    label_prior,
    label_set,
    labels_of_classes,
    read_classes,
    warn_of_descriptions,
)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(enum.StrEnum):
    B = "b"
    A = "a"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["b", "a"], ["a", "b"]),
        ([3, 1, 2], [1, 2, 3]),
        ([True, False], [False, True]),
        ([Mood.GOOD, Mood.BAD], [Mood.GOOD, Mood.BAD]),
        ([Level.HIGH, Level.LOW], [Level.LOW, Level.HIGH]),
        ([Name.B, Name.A], [Name.A, Name.B]),
        ([np.int64(2), np.int64(1)], [1, 2]),
        ([np.int8(2), 1], [1, 2]),
        ([2.5, 1], [1, 2.5]),
        (["x", 1], ["x", 1]),
        ([1, "x", None.__class__], [1, "x", None.__class__]),
        ([("b", 1), ("a", 2)], [("a", 2), ("b", 1)]),
        (["a\0", "b"], ["a\0", "b"]),
        ([10**30, 1], [1, 10**30]),
        (np.array(["b", "a"]), ["a", "b"]),
        (pd.Series(["b", "a"], index=[5, 6]), ["a", "b"]),
        (pl.Series([2, 1]), [1, 2]),
        ({"b": "x", "a": "y"}, ["a", "b"]),
        ((label for label in "ba"), ["a", "b"]),
    ],
)
def test_classes_are_the_callers_objects_in_order(given, expected):
    """Classes keep type and value, sorted where they can be sorted and else as they were given, also in the array."""
    labels = label_set(given)
    assert list(labels.classes) == expected
    array = labels.array
    assert array.shape == (len(expected),)
    assert array.tolist() == expected
    for value, label in zip(array.tolist(), expected, strict=True):
        assert type(value) is type(label) or isinstance(value, np.generic) or isinstance(labels.classes[0], np.generic)


def test_plain_classes_give_a_typed_array():
    """scikit-learn expects arrays of strings and numbers; enum members stay objects."""
    assert [class_array(values).dtype.kind for values in (["a", "b"], [1, 2], [True, False], [0.5, 1.5])] == list(
        "Uibf"
    )
    assert class_array([Level.LOW, Level.HIGH]).dtype == object
    assert class_array([Name.A, Name.B]).dtype == object


def test_words():
    """A class is written as str(class) unless it has words of its own, which may be one or several."""
    assert label_set([2, 1]).words == (("1",), ("2",))
    assert label_set(["pos", "neg"], {"pos": ["good", "great"]}).words == (("neg",), ("good", "great"))
    labels = label_set({"pos": ("good", "great"), "neg": "bad"})
    assert labels.words == (("bad",), ("good", "great"))
    assert labels.first_words == ["bad", "good"]
    assert labels.all_words == ["bad", "good", "great"]
    assert labels.class_of == [0, 1, 1]


LABEL = st.one_of(st.text(min_size=1).filter(str.strip), st.integers(), st.booleans(), st.sampled_from(list(Mood)))


@given(
    st.lists(LABEL, min_size=2, max_size=6, unique=True).filter(lambda labels: len({*map(str, labels)}) == len(labels))
)
def test_every_class_finds_its_own_column(classes):
    """indices is the inverse of classes, whatever their types, and numbers the columns of words too."""
    labels = label_set(classes)
    assert set(labels.classes) == set(classes)
    assert labels.indices(labels.classes).tolist() == list(range(len(classes)))
    assert labels.array.tolist() == list(labels.classes)
    assert [labels.words[k] for k in labels.class_of] == list(labels.words)


@pytest.mark.parametrize(
    ("labels", "words", "message"),
    [
        ("ab", None, "labels='ab': expected a list of classes or a dict"),
        (b"ab", None, "expected a list of classes"),
        (5, None, "labels=5: expected a list"),
        (None, None, "labels=None: expected a list"),
        ([], None, r"labels has 0 class \(\[\]\); a classifier needs at least two"),
        (["a"], None, r"labels has 1 class \(\['a'\]\); a classifier needs at least two"),
        (["a", "b", "a"], None, "the label 'a' appears twice"),
        ([1, True], None, "the label True appears twice"),
        ([["a"], "b"], None, r"the label \['a'\] is a list; expected a str, int, bool or enum member"),
        (["a", None], None, "the label None is a NoneType"),
        (["a", math.nan], None, "the label nan is a float"),
        (["a", pd.NA], None, "the label <NA> is a NAType"),
        ([b"a", b"b"], None, "the label b'a' is a bytes"),
        (["a", " "], None, "label ' ' has the empty word ' '; give every label at least one visible character"),
        ({"a": "x", "b": ["y", ""]}, None, "label 'b' has the empty word ''"),
        ({"a": 5, "b": "x"}, None, "the words of label 'a' are 5; expected a str or a list of str"),
        ({"a": [], "b": "x"}, None, r"the words of label 'a' are \[\]"),
        ({"a": ["x", 1], "b": "y"}, None, r"the words of label 'a' are \['x', 1\]"),
        ({"a": "x", "b": "x"}, None, "the word 'x' stands for 'a' and for 'b'"),
        ({"a": ["x", "x"], "b": "y"}, None, "the word 'x' stands for 'a' and for 'a'; every word must be used once"),
        ([1, "1"], None, "the word '1' stands for 1 and for '1'"),
        (["a", "b"], {"c": "x"}, "has words for 'c', which is not one of the labels"),
        (["a", "b"], {"a": "b"}, "the word 'b' stands for 'a' and for 'b'"),
        ({"a": "x", "b": "y"}, {"a": "z"}, "gives words too; leave one of them out"),
    ],
)
def test_bad_labels_are_named(labels, words, message):
    """What cannot be a set of labels is refused with the label, the word and the cure."""
    with pytest.raises(InputError, match=message):
        label_set(labels, words)


@pytest.mark.parametrize("value", ["c", 7, ["a"], 1.5, "1"])
def test_unknown_values_of_y_are_named_with_their_row(value):
    """A value that is no label is shown with its row and the labels that there are; unhashable ones too."""
    with pytest.raises(
        InputError, match=r"\(row 2\), which is not one of the labels \['x', 3\]; add it to labels or drop"
    ):
        label_set(["x", 3]).indices(["x", 3, value])


def test_prior():
    """A prior gives the logarithms of its probabilities in the order of the classes."""
    labels = label_set(["b", "a"])
    assert label_prior(None, labels) is None
    np.testing.assert_allclose(label_prior("uniform", labels), np.log([0.5, 0.5]))
    np.testing.assert_allclose(label_prior({"b": 0.8, "a": np.float32(0.2)}, labels), np.log([0.2, 0.8]), rtol=1e-6)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("flat", "prior='flat': expected 'uniform', a dict class -> probability, or None"),
        ([0.5, 0.5], "expected 'uniform', a dict"),
        ({"a": 1.0}, r"unknown: \[\], without a probability: \['b'\]"),
        ({"a": 0.5, "b": 0.5, "c": 0.0}, r"unknown: \['c'\]"),
        ({"a": 0.7, "b": 0.5}, r"positive probabilities that sum to 1 \(sum: 1.2\)"),
        ({"a": 1.0, "b": 0.0}, "positive probabilities"),
        ({"a": 1.5, "b": -0.5}, "positive probabilities"),
        ({"a": math.nan, "b": 0.5}, "positive probabilities"),
        ({"a": "much", "b": 0.5}, "expected a number for every class"),
        ({"a": None, "b": 0.5}, "expected a number for every class"),
    ],
)
def test_bad_priors_are_named(prior, message):
    """A prior must give every class, and only them, a positive probability; they must sum to 1."""
    with pytest.raises(InputError, match=message):
        label_prior(prior, label_set(["a", "b"]))


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda values: np.array(values, dtype=object),
        pd.Series,
        lambda values: pd.Series(values, dtype=object, index=[3, 3, 3]),
        lambda values: pd.Series(values, dtype="category"),
        pl.Series,
        lambda values: pa.chunked_array([values]),
    ],
)
@pytest.mark.parametrize("values", [["b", "a", "b"], [1, 0, 1], [True, False, True], [2.0, 1.0, 2.0]])
def test_classes_of_rows_from_every_container(make, values):
    """Lists, arrays and Series give the same 1-D array of classes in the order of the rows."""
    array = read_classes(make(values), 3)
    assert array.tolist() == values
    assert {type(value) for value in array.tolist()} == {type(values[0])}


@pytest.mark.parametrize("values", [[Mood.BAD, Mood.GOOD], [Level.LOW, Level.HIGH], ["x", 1], [("a", 1), ("b", 2)]])
def test_objects_stay_objects(values):
    """Enum members, mixtures and tuples come back as they are."""
    found = read_classes(values, 2).tolist()
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_numpy_strings_are_strings():
    """Arrays of numpy's variable-width strings are read like others."""
    assert read_classes(np.array(["a", "b"], dtype=np.dtypes.StringDType()), 2).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", None], r"NaN or None \(row 1: None\); drop these rows"),
        (["a", math.nan], r"NaN or None \(row 1: nan\)"),
        (np.array(["a", None], dtype=object), r"NaN or None \(row 1: None\)"),
        (np.array(["a", math.nan], dtype=object), r"NaN or None \(row 1: nan\)"),
        (np.array([1.0, math.nan]), "contains NaN"),
        (np.array([1.0, math.inf]), "infinity"),
        (pd.Series(["a", None]), r"NaN or None \(row 1: nan\)"),
        (pd.Series([1, None], dtype="Int64"), r"NaN or None \(row 1: <NA>\)"),
        (pl.Series(["a", None]), r"NaN or None \(row 1: None\)"),
        ([1.5, 2.25], "continuous"),
        (np.array([0.1, 0.2]), "continuous"),
        (pd.Series([0.1, 0.2]), "continuous"),
        (np.eye(2), "1d array"),
        ([["a"], ["b"]], r"y has the value \['a'\] \(row 0\), a list; expected a class"),
        ([{"a": 1}, {"b": 2}], "a dict; expected a class"),
        ("ab", "y is a str; expected a list, 1-D array or Series with one class per row"),
        (iter("ab"), "iterator; expected a list"),
        ({"a": 1, "b": 2}, "y is a dict; expected a list"),
        ({"a", "b"}, "y is a set; expected a list"),
        (5, "y is an int; expected a list"),
        (["a", "b", "a"], r"X has 2 rows and y has 3; expected one class per row"),
        (["a"], r"X has 2 rows and y has 1"),
        ([], r"X has 2 rows and y has 0"),
    ],
)
def test_bad_classes_of_rows_are_named(y, message):
    """Missing, continuous, nested or too many classes are refused as scikit-learn's callers expect: with a ValueError."""
    with pytest.raises(ValueError, match=message):
        read_classes(y, 2)


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 1],
        np.array([0, 1]),
        [1, 2, 3, 4, 5],
        [1.0, 2.0],
        [True, False],
        np.array([True, False]),
        ["0", "1"],
        ["1.0", "2.0"],
        ["True", "False"],
        ["a", 1],
        [-1, 1],
    ],
)
def test_no_model_is_asked_for_digits_that_nobody_named(y):
    """Where the classes are those of y, numbers and truth values need words, or to be named."""
    with pytest.raises(InputError, match=r"y holds the (numbers|truth values) .*labels=\{.*or name them, labels=\["):
        labels_of_classes(y)


def test_numbers_with_words_and_words_are_taken_from_y():
    """Words of the prompt, also for classes that no row has; names of enum members; words among which one is a number."""
    assert labels_of_classes([0, 1, 0], {0: "bad", 1: "good", 2: "fine"}).words == (("bad",), ("good",))
    assert labels_of_classes([Level.LOW, Level.HIGH]).words == (("LOW",), ("HIGH",))
    assert labels_of_classes(["911", "calm"]).classes == ("911", "calm")
    assert labels_of_classes([0, 1], are_asked=False).classes == (0, 1)
    assert label_set([1, 2, 3]).words == (("1",), ("2",), ("3",))
    with pytest.raises(InputError, match="words for 'postive', which is not one of the labels"):
        labels_of_classes(["positive", "bad"], {"postive": "good", "bad": "bad"})


@pytest.mark.parametrize(
    "labels",
    [
        {"econ": "statements about taxes, trade and prices", "law": "law"},
        {"econ": "Any statement on how the economy does", "law": "law"},
        {"econ": ["economy", "The speaker talks of money."], "law": "law"},
        {"econ": "发言者谈论经济政策和税收", "law": "law"},
        ["The speaker says that the economy is doing well.", "other"],
        {0: "The text is about how the economy does", 1: "law"},
    ],
)
def test_a_word_that_looks_like_a_description_is_warned_of(labels):
    """No model answers with a definition; the message says where one belongs."""
    with pytest.warns(LabelWordWarning, match="looks like a description.*Prompt"):
        warn_of_descriptions(label_set(labels))


@pytest.mark.parametrize(
    "labels",
    [
        ["balance not updated after cheque or cash deposit", "card arrival"],
        ["Arts, culture, entertainment and media", "Sport"],
        {"card_payment_fee_charged": "card payment fee charged", "top_up": "top up"},
        {"balance_not_updated_after_bank_transfer": "balance not updated after bank transfer", "b": "no"},
        {"yes": "Yes, it is", "no": "No, it is not"},
        {"pos": ["good", "very good", "a masterpiece"], "neg": "bad"},
        {"a": "经济", "b": "法律"},
    ],
)
def test_names_and_answers_are_no_descriptions(labels):
    """Long names of classes and short answers are scored without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_descriptions(label_set(labels))


def test_many_missing_classes_are_named_at_once():
    """The first ten rows without a class, and how many there are."""
    y = ["a"] + [None] * 12
    with pytest.raises(InputError, match=r"\(row 1, row 2, .*row 10, \.\.\.: 12 rows\); drop these rows"):
        read_classes(y, 13)
    with pytest.raises(ValueError, match=r"NaN \w+ None \(row 0, row 2: 2 rows\)"):
        read_classes(np.array([math.nan, 1.0, math.nan]), 3)
