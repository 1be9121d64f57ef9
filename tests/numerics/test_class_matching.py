"""Which class a value means: values that changed their type, numbers as places, and what is refused."""

from __future__ import annotations

import decimal
import enum

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.errors import InputError
from llmclf.labels import label_set, read_classes
from llmclf.numerics.class_matching import as_code, match_classes

WORDS = ["positive", "negative"]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"


@pytest.mark.parametrize(
    ("classes", "values", "columns"),
    [
        ([1, 2], [1.0, 2.0, "1", "2.0", np.int8(2), np.float32(1), decimal.Decimal(2)], [0, 1, 0, 1, 1, 0, 1]),
        (["1", "2"], [1.0, 2.0, "1.0", "2", np.uint8(2)], [0, 1, 0, 1, 1]),
        (["01", "02"], ["01", "1", 2], [0, 0, 1]),
        (["1", "1.0"], ["1.0", "1"], [1, 0]),
        ([0.5, 1], ["0.5", "1", True], [0, 1, None]),
        ([0.5, 1.5], ["0.50", "1.5"], [0, 1]),
        ([False, True], ["True", "false", "TRUE", 1, 0.0, "1", np.True_], [1, 0, 1, 1, 0, 1, 1]),
        (["False", "True"], [True, False, "true", np.False_], [1, 0, 1, 0]),
        (["true", "false"], [True, False], [0, 1]),
        ([0, 1], [True, False, "true", "0"], [1, 0, 1, 0]),
        ([0, 1, 2], [True], [None]),
        ([1, 2, 3, 4, 5], [True], [None]),
        ([-1, 1], [True], [None]),
        ([Level.LOW, Level.HIGH], [Level.HIGH, 1, "2", 2.0], [1, 0, 1, 1]),
        (list(Mood), ["good", Mood.BAD], [0, 1]),
        (["10000000000000001", "10000000000000002"], [10000000000000002, "10000000000000001"], [1, 0]),
        ([10**30, 1], [str(10**30), 1.0], [0, 1]),
        (["a", 1], ["a", 1.0, "1"], [0, 1, 1]),
        (["a", "b"], ["a ", "A", "1", 1.5, "", b"a", ("a",), 7, -1], [None] * 9),
    ],
)
def test_a_value_means_the_class_that_it_was_before_its_type_changed(classes, values, columns):
    """Numbers, their texts, truth values and theirs find their class; True is no star of five."""
    labels = label_set(classes)
    place = [list(labels.classes).index(label) for label in classes]
    for value, column in zip(values, columns, strict=True):
        if column is None:
            with pytest.raises(InputError, match="not one of the labels"):
                labels.indices([value])
        else:
            assert labels.indices([value]).tolist() == [place[column]], value


@pytest.mark.parametrize(
    ("classes", "value"), [(["1", "1.0"], 1), (["1", "01"], 1), (["True", "true"], True), ([True, "True"], "TRUE")]
)
def test_a_value_that_could_be_two_classes_is_refused(classes, value):
    """Which of the two is meant, nobody can know."""
    with pytest.raises(InputError, match=r"\(row 0\), which could be .* or .*; give the classes themselves"):
        match_classes([value], classes)


SHAPES = [
    list,
    np.array,
    lambda values: np.array(values, dtype=object),
    lambda values: np.array(values, dtype=np.int8),
    lambda values: np.array(values, dtype=float),
    pd.Series,
    lambda values: pd.Series(values, dtype="Int64"),
    lambda values: pd.Series(values, dtype="category"),
    pl.Series,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_places_where_every_reading_agrees(shape):
    """They are 0 to K - 1, and the labels were named in sorted order."""
    y = read_classes(shape([1, 0, 1]), 3).tolist()
    assert label_set(sorted(WORDS)).indices(y).tolist() == [1, 0, 1]
    assert label_set({"negative": "bad", "positive": "good"}).indices(y).tolist() == [1, 0, 1]
    assert label_set({"positive", "negative"}).indices(y).tolist() == [1, 0, 1], "a set has no order of its own"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [WORDS, {"positive": "good", "negative": "bad"}, np.array(WORDS), pd.Series(WORDS)])
def test_numbers_are_refused_where_the_labels_were_named_in_another_order(shape, labels):
    """As places in the caller's order they mean other classes than as scikit-learn's places."""
    y = read_classes(shape([1, 0, 1]), 3).tolist()
    with pytest.raises(
        InputError, match=r"y holds the numbers 0 and 1, .* in the order 'positive' and 'negative': .*give y as"
    ):
        label_set(labels).indices(y)


@pytest.mark.parametrize(("y", "shown"), [([0, 2], "0 and 2"), ([0, 0], "0"), ([1, 2], "1 and 2"), ([0, 1], "0 and 1")])
def test_numbers_are_refused_where_a_class_is_absent(y, shown):
    """It may have shifted the places of all that follow it."""
    with pytest.raises(InputError, match=f"y holds the numbers {shown}, and there are 3 labels: .*absent class shifts"):
        label_set(["a", "b", "c"]).indices(y)


@pytest.mark.parametrize("labels", [sorted(WORDS), WORDS, {"no": "n", "yes": "y"}])
@pytest.mark.parametrize("make", [list, np.array, pd.Series, lambda y: pd.Series(y, dtype="boolean"), pl.Series])
def test_truth_values_are_never_places(labels, make):
    """Whether True is the first label or the second, only the caller knows."""
    y = read_classes(make([True, False]), 2).tolist()
    with pytest.raises(InputError, match=r"value True \(row 0\).*what the truth values stand for: labels=\{True"):
        label_set(labels).indices(y)


@pytest.mark.parametrize(
    ("labels", "y"),
    [
        ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4]),
        (["1", "2", "3", "4", "5"], [0, 1, 2, 3, 4]),
        (["1", "2", "3", "4", "5"], [1, 2, 3, 4]),
        (["0", "1", "10", "11", *map(str, range(2, 10))], list(range(12))),
        ([-1, 0, 1], [0, 1, 2]),
        ([5, 10], [0, 1]),
        (["true", "false"], [0, 1]),
        (["x", 3], [0, 1]),
        (list(Level), [0, 1]),
        (["a", "b"], [0, 1, "a"]),
        (["a", "b"], ["0", "1"]),
        (["a", "b"], [0, 1.5]),
        (["a", "b"], [-1, 1]),
        (["a", "b"], [1, 2]),
        ([("b", 1), ("a", 2)], [0, 1]),
    ],
)
def test_numbers_are_never_places_of_labels_that_read_as_numbers(labels, y):
    """Nor where they are numbers that no place has."""
    with pytest.raises(InputError, match=r"labels|label "):
        label_set(labels).indices(y)


def test_encoded_numbers_name_their_cause():
    """Classes 1 to 5 and the number 0: the tools that hand over places, and the cure."""
    with pytest.raises(InputError, match=r"the value 0 \(row 1\).*cross_val_predict.*labels=\{'1 star': '1'"):
        label_set([1, 2, 3, 4, 5]).indices([4, 0, 3])


def test_numbers_that_read_as_labels_are_these_labels():
    """Texts "0" to "9" and numbers beyond every place have one reading."""
    assert label_set(list("0123456789")).indices(range(10)).tolist() == list(range(10))
    assert label_set(list("12345")).indices([5, 1, 3]).tolist() == [4, 0, 2]
    assert match_classes([1, 2, 3], list("12345"), is_y=False).tolist() == [0, 1, 2], "a column is not encoded"
    assert match_classes([1.0, "0"], ["False", "True"], is_y=False).tolist() == [1, 0]


CLASSES = st.lists(
    st.one_of(st.text(min_size=1).filter(str.strip), st.integers(), st.booleans()), min_size=2, max_size=6, unique=True
)


@given(CLASSES.filter(lambda labels: len({*map(str, labels)}) == len(labels)), st.data())
def test_no_value_ever_means_another_class(classes, data):
    """What a class looks like after a trip through text or floats is this class again, or refused."""
    labels = label_set(classes)
    k = data.draw(st.integers(0, len(classes) - 1))
    label = labels.classes[k]
    forms = [label, str(label)]
    if isinstance(label, int) and abs(label) < 2**53:
        forms += [float(label), str(float(label))]
    value = data.draw(st.sampled_from(forms))
    try:
        column = labels.indices([value])[0]
    except InputError:
        assert value is not label
    else:
        assert column == k or (type(value) is type(labels.classes[column]) and value == labels.classes[column])


@pytest.mark.parametrize(
    "value", ["", "one", "1e5", "nan", "1_000", "１", None, float("nan"), float("inf"), "0x1", " 1", 1j, (1,)]
)
def test_what_is_no_number(value):
    """Texts that only Python would read as numbers stay texts."""
    assert as_code(value) is None


def test_texts_of_numbers_where_labels_are_words():
    """A file's "1" and "0" mean no word; the error says how to say what they stand for."""
    with pytest.raises(InputError, match=r"stands for: labels=\{'1': 'word', ...\} \(--labels '1=word"):
        match_classes(["1", "0"], ["negative", "positive"])
