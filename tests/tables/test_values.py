"""A value's form in JSON, whatever library it comes from and wherever it stands."""

from __future__ import annotations

import datetime
import enum
import json
import math
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.tables.values import is_missing, json_value

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5)
BERLIN = pd.Timestamp("2026-07-01", tz="Europe/Berlin")


class Mood(enum.Enum):
    GOOD = "good"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (math.nan, None),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float32("nan"), None),
        (np.float64("-inf"), "-Infinity"),
        (np.float32(0.5), 0.5),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
        (np.timedelta64("NaT"), None),
        (Decimal("NaN"), None),
        (Decimal("1.50"), "1.50"),
        (WHEN, "2026-01-02T03:04:05"),
        (BERLIN, "2026-07-01T00:00:00+02:00"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(days=1, seconds=2), "P1DT0H0M2S"),
        (np.timedelta64(90, "s"), "P0DT0H1M30S"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (pd.Period("2026-01", "M"), "2026-01"),
        (Mood.GOOD, "good"),
        (np.str_("x"), "x"),
        (np.bool_(True), True),
        (2**80, 2**80),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        (np.array(["a", None], dtype=object), ["a", None]),
        ((1, (2,)), [1, [2]]),
        ({1: "a", None: "b", 2.5: "c", False: "d"}, {"1": "a", "null": "b", "2.5": "c", "false": "d"}),
        ({datetime.date(2026, 1, 2): pd.NaT}, {"2026-01-02": None}),
    ],
    ids=repr,
)
def test_forms(value, form):
    """Each value has one form, alone and in lists and objects, and the form is JSON that any reader reads."""
    for nested, expected in ((value, form), ([value], [form]), ({"a": [{"b": value}]}, {"a": [{"b": form}]})):
        made = json_value(nested)
        assert made == expected
        assert json.loads(json.dumps(made, allow_nan=False)) == expected


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        frozenset(),
        1j,
        object(),
        range(3),
        {"a": {2}},
        [{1}],
        {(1, 2): 3},
        {1: 0, "1": 1},
    ],
)
def test_values_without_a_form(value):
    """Sets, complex numbers and keys that would collide are refused by type, not written as something else."""
    with pytest.raises(TypeError, match="has no JSON form"):
        json_value(value)


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_what_json_knows_stays(value):
    """JSON's own values are their own form, except for the floats that it lacks."""

    def plain(one):
        if isinstance(one, float) and not math.isfinite(one):
            return None if math.isnan(one) else {True: "Infinity", False: "-Infinity"}[one > 0]
        if isinstance(one, list):
            return [plain(item) for item in one]
        return {key: plain(item) for key, item in one.items()} if isinstance(one, dict) else one

    assert repr(json_value(value)) == repr(plain(value))


def test_missing_values_of_numpy_and_decimals():
    """NaT of numpy and a decimal's NaN are missing as well."""
    assert all(map(is_missing, (np.datetime64("NaT"), np.timedelta64("NaT"), Decimal("NaN"))))
    assert not any(map(is_missing, (np.datetime64("2026"), np.timedelta64(1, "s"), Decimal("Infinity"))))
