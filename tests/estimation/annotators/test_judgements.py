"""Tests of judgements of several annotators: both forms, and labels made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from llmclf.errors import InputError
from llmclf.estimation import annotator_agreement, combine_labels
from llmclf.estimation.annotators.judgements import read_judgements

WIDE = pd.DataFrame({"ann": ["a", "b", None, "a"], "bob": ["a", "a", "b", None]}, index=[10, 11, 12, 13])
LONG = WIDE.rename_axis("row").reset_index().melt("row", var_name="who", value_name="label")


def test_both_forms_say_the_same():
    """A table with a column per annotator, and one line per judgement, give the same codes."""
    wide = read_judgements(WIDE)
    long = read_judgements(LONG["label"], rows=LONG["row"], annotators=LONG["who"])
    assert wide.codes.tolist() == long.codes.tolist() == [[0, 0], [1, 0], [-1, 1], [0, -1]]
    assert wide.rows == long.rows == (10, 11, 12, 13)
    assert wide.annotators == long.annotators == ("ann", "bob")


def test_numbers_with_gaps_are_whole_numbers():
    """A gap turns a column into floats; the classes stay whole numbers, and blank text is a gap too."""
    assert combine_labels([[1.0, np.nan], [2.0, 2.0]]).classes == (1, 2)
    assert combine_labels([["a", " "], ["b", "b"]]).counts.tolist() == [[1, 0], [0, 2]]


def test_majority_soft_labels_and_ties():
    """A tie has no majority unless it is broken; rows without judgements have neither."""
    labels = [["x", "x", "y"], ["x", "y", None], [None, None, None]]
    combined = combine_labels(labels)
    assert combined.majority.tolist() == ["x", None, None]
    assert combined.is_tied.tolist() == [False, True, False]
    assert combined.soft[:2] == pytest.approx(np.array([[2 / 3, 1 / 3], [0.5, 0.5]]))
    assert np.isnan(combined.soft[2]).all()
    frame = combined.to_frame()
    assert frame.columns.tolist() == ["label", "n_judgements", "is_tied", "share_x", "share_y"]
    assert frame["n_judgements"].tolist() == [3, 2, 0]


def test_ties_at_random_favour_no_class():
    """Of many ties each class gets its half, and the seed decides."""
    labels = [["x", "y"]] * 400
    broken = combine_labels(labels, ties="random", random_state=0)
    assert 160 < (broken.majority == "x").sum() < 240
    assert broken.is_tied.all()
    again = combine_labels(labels, ties="random", random_state=0)
    assert (again.majority == broken.majority).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [["a"], ["b"]]}, "1 annotator"),
        ({"labels": ["a", "b"]}, r"shape \(2,\)"),
        ({"labels": [["a", "b"]], "rows": [1]}, "rows are given without annotators"),
        ({"labels": [["a", "b"]], "annotators": [1]}, "annotators are given without rows"),
        ({"labels": [[None, None]]}, "all judgements are missing"),
        (
            {"labels": ["a", "b", "a"], "rows": [7, 7, 7], "annotators": ["ann", "bob", "ann"]},
            "row 7 has two judgements",
        ),
        ({"labels": ["a", "b"], "rows": [1, 1, 1], "annotators": ["ann", "bob"]}, "rows has 3 entries for 2 rows"),
        ({"labels": [["a", "c"]], "classes": ["a", "b"]}, "'c'"),
        ({"labels": [["a", "b"]], "classes": ["a", "a"]}, "at least two different"),
        ({"labels": [["a", 1]]}, "cannot be sorted"),
        ({"labels": [["a", ["b"]]]}, "cannot be a class"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments, message):
    """The error names what was given and the cure."""
    with pytest.raises(InputError, match=message):
        combine_labels(**arguments)


def test_unknown_words_are_refused():
    """Of ties, of scales and of tables."""
    with pytest.raises(InputError, match="ties='first'"):
        combine_labels([["a", "b"]], ties="first")
    with pytest.raises(InputError, match="scale='ratio'"):
        annotator_agreement([["a", "b"]], scale="ratio")
    with pytest.raises(InputError, match="table='rows'"):
        annotator_agreement([["a", "b"]], n_resamples=10).to_frame("rows")
