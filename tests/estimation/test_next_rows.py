"""Rows to label next: exact probabilities, no row without a chance, and waves that stay unbiased."""

from __future__ import annotations

import warnings
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import next_rows
from llmclf.estimation.goals import GOALS
from llmclf.estimation.waves import combined_inclusion, joined_inclusion

GOAL = st.sampled_from(GOALS)


def some_proba(seed: int, n_rows: int, n_classes: int, concentration: float) -> np.ndarray:
    """Probabilities of a model that is more or less sure."""
    p = np.random.default_rng(seed).dirichlet([concentration] * n_classes, n_rows) + 1e-9
    return p / p.sum(axis=1, keepdims=True)


@settings(max_examples=150, deadline=None)
@given(
    GOAL,
    st.integers(0, 10_000),
    st.integers(1, 400),
    st.integers(2, 6),
    st.sampled_from([0.02, 0.3, 3.0]),
    st.floats(0.05, 1.0),
    st.data(),
)
def test_probabilities(
    goal: str, seed: int, n_rows: int, n_classes: int, concentration: float, uniform: float, data: st.DataObject
) -> None:
    """Exactly as many rows as asked for; probabilities sum to that, are never 0 and never above 1."""
    budget = data.draw(st.integers(1, n_rows))
    proba = some_proba(seed, n_rows, n_classes, concentration)
    chosen = next_rows(proba, budget, goal, uniform_share=uniform, random_state=seed)
    assert len(set(chosen.rows.tolist())) == len(chosen.rows) == budget
    assert chosen.inclusion.sum() == pytest.approx(budget)
    assert chosen.inclusion.min() > 0
    assert chosen.inclusion.max() <= 1
    for stratum in np.unique(chosen.strata):
        members = chosen.strata == stratum
        drawn = members[chosen.rows].sum()
        assert np.unique(chosen.inclusion[members]).tolist() == [drawn / members.sum()]


@settings(max_examples=60, deadline=None)
@given(GOAL, st.integers(0, 10_000), st.integers(20, 400), st.integers(2, 5), st.data())
def test_later_waves(goal: str, seed: int, n_rows: int, n_classes: int, data: st.DataObject) -> None:
    """No row is asked twice in three waves, and what stands for inclusion probabilities stays in (0, 1]."""
    sizes = data.draw(st.lists(st.integers(1, n_rows // 4), min_size=3, max_size=3))
    proba = some_proba(seed, n_rows, n_classes, 0.3)
    truth = np.random.default_rng(seed).integers(0, n_classes, n_rows)
    sample: dict = {}
    for wave, budget in enumerate(sizes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            chosen = next_rows(proba, budget, goal, random_state=wave, **sample)
        sample = chosen.sample(truth[chosen.rows])
        assert len(set(sample["rows"].tolist())) == len(sample["rows"]) == sum(sizes[: wave + 1])
        assert (sample["inclusion"] > 0).all()
        assert (sample["inclusion"] <= 1).all()
        np.testing.assert_array_equal(sample["y"], truth[sample["rows"]])


def test_seed_decides() -> None:
    """The same seed draws the same rows, another seed others."""
    proba = some_proba(0, 1000, 3, 0.3)
    first, again, other = (next_rows(proba, 50, random_state=seed).rows.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_each_row_is_drawn_as_often_as_said() -> None:
    """Over many draws each row is drawn with the probability that stands beside it."""
    proba = some_proba(3, 40, 2, 0.3)
    counts = np.zeros(40)
    for seed in range(1500):
        chosen = next_rows(proba, 12, random_state=seed)
        counts[chosen.rows] += 1
    error = np.sqrt(chosen.inclusion * (1 - chosen.inclusion) / 1500)
    assert (np.abs(counts / 1500 - chosen.inclusion) <= 5 * error + 1e-12).all()


def test_two_waves_are_unbiased_by_enumeration() -> None:
    """All pilots of 2 of 16 rows, and a second wave that depends on their labels: the mean estimate is the truth."""
    rng = np.random.default_rng(5)
    proba = some_proba(5, 16, 2, 0.5)
    truth = (rng.random(16) < proba[:, 1]).astype(int)
    values = truth + 0.1 * np.arange(16)
    estimates = []
    for pilot in combinations(range(16), 2):
        chosen = next_rows(
            proba, 3, y=truth[list(pilot)], rows=list(pilot), random_state=0, inclusion=np.full(2, 2 / 16)
        )
        assert chosen.earlier_share > 0
        # The mean over all second waves of this pilot: each stratum's mean stands for what is drawn of it.
        old, new = np.array(pilot), np.setdiff1d(np.arange(16), pilot)
        a = chosen.earlier_share
        weights_old = 1 / chosen.sample(truth[chosen.rows])["inclusion"][:2]
        total = weights_old @ values[old]
        for stratum in np.unique(chosen.strata[new]):
            members = new[chosen.strata[new] == stratum]
            n_drawn = (chosen.strata[chosen.rows] == stratum).sum()
            weight = (1 - a) / chosen.inclusion[members[0]]
            draws = [values[list(drawn)].sum() * weight for drawn in combinations(members, n_drawn)]
            total += np.mean(draws)
        estimates.append(total)
    assert np.mean(estimates) == pytest.approx(values.sum())


def test_two_waves_are_unbiased_by_simulation() -> None:
    """A rare class, a pilot that often shows none of it, a design that follows the pilot: no bias beyond the noise."""
    rng = np.random.default_rng(0)
    proba_1 = rng.beta(0.3, 8.0, 600)
    proba = np.column_stack([1 - proba_1, proba_1])
    truth = (rng.random(600) < 0.5 * proba_1 + 0.02).astype(int)
    estimates = []
    for seed in range(600):
        pilot = np.random.default_rng(seed).choice(600, 20, replace=False)
        chosen = next_rows(proba, 60, y=truth[pilot], rows=pilot, random_state=seed)
        sample = chosen.sample(truth[chosen.rows])
        estimates.append((sample["y"] / sample["inclusion"]).sum() / 600)
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth.mean()) < 3.5 * error


def test_pilot_moves_the_design() -> None:
    """Where labelled rows differ more than the model says, more is drawn."""
    proba = np.tile([[0.99, 0.01], [0.01, 0.99]], (1000, 1))
    rows = np.arange(100)
    right, half_wrong = rows % 2, np.where(rows % 4 == 1, 0, rows % 2)  # every other predicted 1 is a 0
    fine, wrong = (
        next_rows(proba, 200, y=y, rows=rows, random_state=0, uniform_share=0.2)
        .inclusion[1001:]
        .reshape(-1)[::2]
        .mean()
        for y in (right, half_wrong)
    )
    assert wrong > 1.3 * fine


def test_chosen_rows_speak_for_themselves() -> None:
    """Rows that were chosen and not drawn count once each, and the new ones for all others."""
    proba = some_proba(0, 500, 2, 0.5)
    chosen = next_rows(proba, 50, y=[0, 1, 1], rows=[3, 7, 9], inclusion=1.0, random_state=0)
    sample = chosen.sample([0] * 50)
    assert sample["inclusion"][:3].tolist() == [1.0, 1.0, 1.0]
    assert (1 / sample["inclusion"]).sum() == pytest.approx(500)


def test_threshold_asks_where_a_threshold_may_lie() -> None:
    """For a threshold most labels go where few errors are expected, in equal shares, and the doubtful rows get some."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 0.5, 5000)
    chosen = next_rows(np.column_stack([1 - p, p]), 200, "threshold", max_error=0.02, random_state=0)
    confidence = np.maximum(p, 1 - p)
    sure, doubtful = chosen.inclusion[confidence > 0.99], chosen.inclusion[confidence < 0.7]
    assert sure.mean() > 1.8 * doubtful.mean() > 0
    assert sure.max() / sure.min() < 1.2


def test_calibration_asks_at_every_confidence() -> None:
    """A model that is sure of nearly all rows gets more labels than a uniform draw where it is not."""
    p = np.concatenate([np.full(9500, 0.999), np.linspace(0.5, 0.99, 500)])
    proba = np.column_stack([1 - p, p])
    chosen = next_rows(proba, 200, "calibration", uniform_share=0.2, random_state=0)
    assert (chosen.rows >= 9500).sum() > 60


def test_rows_that_could_not_be_scored() -> None:
    """They can be drawn, too."""
    proba = some_proba(0, 300, 3, 0.5)
    proba[::10] = np.nan
    chosen = next_rows(proba, 60, random_state=0)
    assert chosen.inclusion[::10].min() > 0.02
    assert np.isnan(proba[chosen.rows, 0]).any()


def test_one_class_matters() -> None:
    """With pos_label the rows that may be of this class get the labels."""
    proba = some_proba(1, 3000, 4, 0.4)
    chosen = next_rows(proba, 100, pos_label="d", classes=list("abcd"), uniform_share=0.2, random_state=0)
    open_ = (proba[:, 3] > 0.2) & (proba[:, 3] < 0.8)
    assert chosen.inclusion[open_].mean() > 3 * chosen.inclusion[proba[:, 3] < 0.01].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": 5}, "4 rows have no label yet"),
        ({"goal": "fun"}, "goal='fun'"),
        ({"uniform_share": 0.0}, "uniform_share=0.0"),
        ({"y": [1]}, "y= is given without rows="),
        ({"rows": [1]}, "rows= is given without y="),
        ({"inclusion": [0.5]}, "inclusion= is about rows labelled before"),
        ({"y": [1], "rows": [4]}, "rows 0 to 3"),
        ({"y": [1, 0], "rows": [1, 1]}, "row 1 occurs 2 times"),
        ({"y": [1, 0], "rows": [0, 1], "inclusion": [0.5, 0.0]}, "expected above 0"),
        ({"y": [1, 0], "rows": [0, 1], "inclusion": 0.5}, "inclusion=0.5"),
        ({"y": [1, 0], "rows": [0, 1], "strata": [0]}, "strata has 1 entries for 4 rows"),
        ({"proba": [[0.5, 0.6]]}, "sums to"),
        ({"proba": [[np.nan, np.nan]]}, "NaN in every row"),
        ({"proba": [["a", "b"]]}, "is not a number; expected numbers"),
        ({"goal": "accuracy", "pos_label": 1}, "pos_label belongs"),
        ({"goal": "threshold", "max_error": 1.5}, "max_error=1.5"),
    ],
)
def test_refuses(arguments: dict, message: str) -> None:
    """What cannot be used is refused by name."""
    given_ = {"proba": [[0.5, 0.5]] * 4, "budget": 2, **arguments}
    with pytest.raises(InputError, match=message):
        next_rows(given_.pop("proba"), given_.pop("budget"), given_.pop("goal", "share"), **given_)


def test_sample_refuses_gaps() -> None:
    """A missing label would make the others a sample of unknown probabilities."""
    chosen = next_rows([[0.5, 0.5]] * 10, 3, random_state=0)
    with pytest.raises(InputError, match="missing"):
        chosen.sample([0, None, 1])
    with pytest.raises(InputError, match="no label for row"):
        chosen.sample({int(chosen.rows[0]): 1})


@given(st.floats(0.0, 0.99))
def test_a_certain_row_stays_certain(share):
    """Rounding does not carry an inclusion probability above 1, which every estimate would refuse."""
    before, new = combined_inclusion(np.ones(1), np.array([1.0 - share]), share)
    assert before[0] <= 1.0
    assert new[0] <= 1.0
    assert np.allclose([before[0], new[0]], 1.0)


def test_labels_are_taken_by_their_places_where_these_are_given() -> None:
    """A mapping of any kind, or a Series whose index holds the places, in whatever order."""
    drawn = next_rows(np.random.default_rng(0).dirichlet([1.0, 1.0], 300), 20, random_state=0)
    wanted = (drawn.rows % 2).tolist()
    backwards = {int(place): int(place) % 2 for place in drawn.rows[::-1]}
    for given_labels in (wanted, backwards, MappingProxyType(backwards), pd.Series(backwards), pd.Series(wanted)):
        assert drawn.sample(given_labels)["y"].tolist() == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"y": [0], "rows": ["a"]},
        {"y": [0], "rows": [None]},
        {"y": [0], "rows": [0.5]},
        {"y": [0, 1], "rows": [1, 2], "inclusion": "a"},
        {"y": [0, 1], "rows": [1, 2], "inclusion": ["a", "b"]},
        {"random_state": "a"},
        {"random_state": -1},
    ],
)
def test_words_in_place_of_numbers_are_refused(options) -> None:
    """By an error that names what was given."""
    with pytest.raises(InputError, match=next(iter(reversed(options)))):
        next_rows(np.random.default_rng(0).dirichlet([1.0, 1.0], 100), 10, **options)


@pytest.mark.parametrize("seed", range(3))
def test_waves_read_from_files_count_as_the_draw_has_them(seed: int) -> None:
    """From the probabilities of each wave and the numbers of rows alone follow those that `sample` gives."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([0.5, 0.5], 900)
    waves, sample, parts = [], {}, []
    for number, budget in enumerate((60, 90, 120)):
        drawn = next_rows(proba, budget, random_state=number, **sample)
        sample = drawn.sample(rng.integers(0, 2, budget))
        waves.append((drawn.inclusion[drawn.rows], budget))
        parts.append(drawn.rows)
    np.testing.assert_array_equal(np.concatenate(parts), sample["rows"])
    np.testing.assert_allclose(np.concatenate(joined_inclusion(waves, 900)), sample["inclusion"])


def test_waves_in_another_order_are_refused() -> None:
    """Where the probabilities cannot be those of a later wave, the message says what order is expected."""
    with pytest.raises(InputError, match="wave 2 was not drawn after 30 other rows were labelled.*0.25"):
        joined_inclusion([(np.full(30, 0.5), 30), (np.full(10, 0.9), 10)], 1000)
