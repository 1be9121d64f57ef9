"""Tests of groups of rows that belong together."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import InputError
from llmclf.numerics.groups import effective_number, effective_numbers, group_numbers, joined_groups


@pytest.mark.parametrize(
    "groups",
    [
        ["x", "y", "x"],
        [7, 8, 7],
        (1.5, 2.5, 1.5),
        np.array(["x", "y", "x"]),
        pd.Series([3, 1, 3]),
        [("a", 1), None or 0, ("a", 1)],
    ],
)
def test_groups_of_all_kinds(groups):
    """Text, numbers, tuples, arrays and series name groups, which are numbered as they come."""
    assert group_numbers(groups, 3).tolist() == [0, 1, 0]


@pytest.mark.parametrize("missing", [None, math.nan, np.nan, pd.NA, pd.NaT, "", " "])
def test_a_missing_group_is_refused(missing):
    """A row without a group would be a guess; the message names the row and the cure."""
    with pytest.raises(InputError, match=r"groups\[1\]=.* is missing; give the row a group, one of its own"):
        group_numbers(["a", missing, "b"], 3)


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ("author", "groups='author'; expected one group per row"),
        (3, "groups=3; expected one group per row"),
        (["a"], "groups has 1 entries for 3 rows"),
        ([["a"], ["b"], ["a"]], r"groups\[0\]=\['a'\] is a list; expected text or a number"),
        (np.zeros((3, 2)), r"groups\[0\]=.* is a list; expected text or a number"),
    ],
)
def test_what_names_no_groups_is_refused(groups, match):
    """One text, other lengths and rows of lists are named."""
    with pytest.raises(InputError, match=match):
        group_numbers(groups, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_joined_groups_are_the_smallest_that_part_nobody(pairs):
    """Rows are together if a chain of shared groups links them, and only then."""
    first, second = (group_numbers(values, len(pairs)) for values in zip(*pairs, strict=True))
    found = joined_groups(first, second)
    linked = (first[:, None] == first) | (second[:, None] == second)
    for _ in pairs:
        linked = linked @ linked
    assert ((found[:, None] == found) == linked).all()


def test_what_groups_are_worth():
    """Groups of one size count as one row each; a large one makes the others count for little."""
    assert effective_number(np.arange(60) // 3, 60) == pytest.approx(20)
    assert effective_number(np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)]), 200) < 4
    assert effective_number(None, 7) == 7
    groups = np.random.default_rng(0).integers(0, 9, 40)
    ones = [effective_number(groups[: i + 1], i + 1) for i in range(40)]
    assert effective_numbers(groups) == pytest.approx(ones)
