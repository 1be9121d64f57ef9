"""Stated shares are read strictly, and scores lie between what rounding leaves."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.answers.draws import LogShares
from llmclf.backends.answers.label_codes import codes
from llmclf.backends.answers.pooling import log_pool
from llmclf.backends.answers.stated_shares import UnusableAnswerError, log_shares, read_json, read_lines

AB = ("A", "B")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JSON object"),
        ("I cannot do that.", "not a JSON object"),
        ('Sure: {"A": 60, "B": 40}', "not a JSON object"),
        ('{"A": 60, "B": 40} I am quite sure.', "not a JSON object"),
        ('```json\n{"A": 60, "B": 40}\n```', "not a JSON object"),
        ("[60, 40]", "a list in JSON"),
        ('{"A": 60}', "no share for 1 of 2 labels"),
        ('{"A": 60, "A": 40}', "a label twice"),
        ('{"A": 60, "B": 30, "B": 10}', "a label twice"),
        ('{"A": 60, "B": 40, "C": 0}', "shares for 3 labels; expected 2"),
        ('{"A": 60, "b": 40}', "no share for 1 of 2 labels"),
        ('{"A": "60", "B": "40"}', "a str as a share"),
        ('{"A": true, "B": 40}', "a bool as a share"),
        ('{"A": null, "B": 100}', "a NoneType as a share"),
        ('{"A": {"p": 60}, "B": 40}', "a dict as a share"),
        ('{"A": NaN, "B": 40}', "NaN as a share"),
        ('{"A": Infinity, "B": 40}', "Infinity as a share"),
        ('{"A": 1e-9999999999999999999, "B": 100}', "not a JSON object"),
        ('{"A": 1e400, "B": 40}', "not between 0 and 100"),
        ('{"A": 140, "B": -40}', "not between 0 and 100"),
        ('{"A": 0.6, "B": 0.4}', "add up to 1; expected about 100"),
        ('{"A": 60, "B": 60}', "add up to 120"),
        ('{"A": 0, "B": 0}', "add up to 0"),
        ("[" * 100_000, "not a JSON object"),
        ('{"A": ' + "9" * 10_000 + ', "B": 1}', "not between 0 and 100"),
    ],
)
def test_json_that_is_not_what_was_asked_for_is_unusable(text, reason):
    """Never a guess: each is refused with what is wrong with it."""
    with pytest.raises(UnusableAnswerError, match=reason):
        read_json(text, AB)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no share for 2 of 2"),
        ("A: 60", "no share for 1 of 2"),
        ("A: 60\nB: 40\nC: 0", "shares for 3 labels"),
        ("A: 60\nA: 40", "a label twice"),
        ("A: 60\nB: about 40", "not a letter, a colon and a number"),
        ("Here you are:\nA: 60\nB: 40", "not a letter, a colon and a number"),
        ("A: 60\nB: 40\nI am sure.", "not a letter, a colon and a number"),
        ("A: 60, B: 40", "not a letter, a colon and a number"),
        ("positive: 60\nnegative: 40", "not a letter, a colon and a number"),
        ("A: -60\nB: 160", "not a letter, a colon and a number"),
        ("A: 6e1\nB: 40", "not a letter, a colon and a number"),
        ("A: 160\nB: 40", "not between 0 and 100"),
        ("A: ６０\nB: 40", "not a letter, a colon and a number"),
    ],
)
def test_lines_that_are_not_what_was_asked_for_are_unusable(text, reason):
    """Strict lines alone."""
    with pytest.raises(UnusableAnswerError, match=reason):
        read_lines(text, AB)


PERCENT = st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any)


def _percentages(weights):
    """Percentages with one decimal that add up to 100."""
    total = sum(weights)
    tenths = [1000 * weight // total for weight in weights]
    tenths[0] += 1000 - sum(tenths)
    return [Decimal(value) / 10 for value in tenths]


@given(PERCENT, st.randoms())
def test_what_is_stated_well_is_read_as_it_is(weights, random):
    """In any order of the codes, as JSON and as lines, with and without a percent sign."""
    percentages = _percentages(weights)
    names = codes(len(percentages))
    pairs = list(zip(names, percentages, strict=True))
    random.shuffle(pairs)
    as_json = "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
    assert read_json(as_json, names) == percentages
    as_lines = "\n".join(f"{name}: {value}{random.choice(['', '%', ' %'])}" for name, value in pairs)
    assert read_lines(f"\n{as_lines}\n", names) == percentages


@given(st.text(), st.sampled_from([read_json, read_lines]))
def test_any_text_is_read_or_refused(text, read):
    """Whatever a model writes, and whatever a hostile row makes it write: no other error, and no guess."""
    try:
        percentages = read(text, AB)
    except UnusableAnswerError:
        return
    assert abs(sum(percentages) - 100) <= 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["A", "B", "C"]), x),
    )
)
def test_any_json_is_read_or_refused(value):
    """The same for whatever is JSON."""
    try:
        percentages = read_json(json.dumps(value), AB)
    except UnusableAnswerError:
        return
    assert value == {"A": pytest.approx(float(percentages[0])), "B": pytest.approx(float(percentages[1]))}


@given(PERCENT, st.sampled_from([Decimal("0.1"), Decimal(1), Decimal(5)]))
def test_what_was_rounded_lies_between_the_bounds(weights, step):
    """Of shares that a model rounds so that their sum stays 100, bounds hold those that it had before."""
    before = np.array(weights, dtype=float) / sum(weights)
    units = [Decimal(value * 100) / step for value in before]
    stated = [int(value) for value in units]
    for place in sorted(range(len(units)), key=lambda i: stated[i] - units[i])[: round(100 / step) - sum(stated)]:
        stated[place] += 1  # the largest remainders are rounded up, so that the sum stays 100
    stated = [value * step for value in stated]
    assert sum(stated) == 100
    found = log_shares(stated)
    # Numbers that look rounded to 5 may have been rounded to 1: then the bounds are wider than they need be.
    assert np.all(np.exp(found.lower) <= before + 1e-9)
    assert np.all(before <= np.exp(found.upper) + 1e-9)
    assert np.all((found.lower <= found.logp) & (found.logp <= found.upper) & (found.upper <= 0.0))
    assert np.exp(found.logp).sum() == pytest.approx(1.0)


@given(st.lists(PERCENT, min_size=2, max_size=4))
def test_pools_lie_between_their_bounds(several):
    """The pool of what was stated in several orders; one order alone is itself."""
    size = min(map(len, several))
    parts = [log_shares(_percentages(weights[:size])) for weights in several if any(weights[:size])]
    if not parts:
        return
    pool = log_pool(parts, [1 / len(parts)] * len(parts))
    assert np.all((pool.lower <= pool.logp) & (pool.logp <= pool.upper) & (pool.upper <= 0.0))
    assert np.exp(pool.logp).sum() == pytest.approx(1.0)
    assert log_pool(parts[:1], [1.0]) is parts[0]


def test_a_pool_s_bounds_hold_the_pool_of_what_lies_between_the_parts_bounds():
    """Any distributions between the bounds of the parts have a pool between its bounds."""
    random = np.random.default_rng(0)
    for _ in range(300):
        true = random.dirichlet([0.5] * 4, size=2)
        parts = []
        for p in true:
            low, high = np.maximum(p - random.uniform(0, 0.1, 4), 0), np.minimum(p + random.uniform(0, 0.1, 4), 1)
            middle = (low + high) / 2
            with np.errstate(divide="ignore"):
                parts.append(LogShares(*(np.log(x) for x in (middle / middle.sum(), low, high))))
        weight = random.uniform(0.1, 0.9)
        pool = log_pool(parts, [weight, 1 - weight])
        mean = weight * np.log(true[0]) + (1 - weight) * np.log(true[1])
        expected = mean - np.logaddexp.reduce(mean)
        assert np.all(pool.lower <= expected + 1e-9)
        assert np.all(expected <= pool.upper + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 24, 25, 576, 577])
def test_codes_are_of_one_length_and_differ(n):
    """So that no code begins another, and none can be a number."""
    names = codes(n)
    assert len(set(names)) == n
    assert len({len(name) for name in names}) == 1
    assert all(name.isalpha() and name.isupper() for name in names)
