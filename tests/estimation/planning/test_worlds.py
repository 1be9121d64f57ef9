"""Tests of the worlds from which a pilot may have come: how far they differ, and what their labels are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from llmclf.errors import EstimationWarning
from llmclf.estimation import LabelledSample
from llmclf.estimation.planning.pilot import read_pilot
from llmclf.estimation.planning.worlds import World


def rows(n_rows: int, slope: float = 1.0, seed: int = 0):
    """Labels of rows with normal log-odds, and their probabilities."""
    rng = np.random.default_rng(seed)
    t = rng.normal(0.0, 2.5, n_rows)
    p = expit(slope * t)
    return (rng.random(n_rows) < expit(t)).astype(int), np.column_stack([1 - p, p])


@pytest.mark.parametrize("design", ["simple", "unequal", "clusters"])
def test_worlds_differ_as_the_design_says(design):
    """The shares of a class in the worlds vary as much as the estimate from such a sample does."""
    y, proba = rows(2000)
    rng = np.random.default_rng(0)
    inclusion = np.where(y == 1, 0.4, 0.1) if design == "unequal" else np.full(2000, 0.1)
    # Authors of eight texts each, who are of one mind.
    clusters = np.arange(2000) // 8 if design == "clusters" else None
    if clusters is not None:
        y = np.repeat(y[::8], 8)
        chosen = np.flatnonzero(np.repeat(rng.random(250) < 0.1, 8))
    else:
        chosen = np.flatnonzero(rng.random(2000) < inclusion)
    sample = LabelledSample.checked(proba, y[chosen], chosen, inclusion=inclusion[chosen], clusters=clusters)
    pilot = read_pilot(sample, None, None)
    shares = [World.drawn(pilot, rng).shares @ pilot.columns for _ in range(2000)]
    assert np.mean(shares) == pytest.approx(float(sample.mean(sample.one_hot)[1]), abs=0.01)
    variance = sample.contributions(sample.one_hot, finite_population=False)[:, 1]
    assert np.std(shares) == pytest.approx(float(np.sqrt(variance @ variance)), rel=0.1)


def test_a_class_that_no_row_has_may_be_half_a_row():
    """The labels that are like none of the pilot's stand for one row, half of them of the class that is asked for."""
    y, proba = rows(100)
    pilot = read_pilot((np.zeros_like(y), np.column_stack([proba, proba[:, 0]]) / (1 + proba[:, :1])), [0, 1, 2], None)
    rng = np.random.default_rng(0)
    cases = {0: 0, 1: 0, 2: 0}
    for _ in range(400):
        world = World.drawn(pilot, rng)
        labels = world.labels(world.rows(1000, rng), 2, rng)
        for label in cases:
            cases[label] += int((labels == label).sum()) / 400_000
    assert cases[2] == pytest.approx(0.5 / 101, rel=0.15)
    assert cases[1] == pytest.approx(0.25 / 101, rel=0.15)
    labels = world.labels(world.rows(100_000, rng), None, rng)
    assert {1, 2} <= set(labels.tolist())
    world = World.likeliest(pilot)
    assert set(world.labels(world.rows(1000, rng), 2, rng).tolist()) == {0}


def test_the_reliability_of_few_rows_stays_near_what_is_usual():
    """Ten rows that are all right do not make a classifier infallible; many rows show their own line."""
    with pytest.warns(EstimationWarning, match="only 10 labelled rows"):
        few = World.likeliest(read_pilot(([1] * 10, [0.8] * 10), None, None))
    intercept, slope = few.reliability
    assert 0.8 < expit(intercept + slope * few.pilot.log_odds[0]) < 0.95
    intercept, slope = World.likeliest(read_pilot(rows(20_000, slope=2.0), None, None)).reliability
    assert (intercept, slope) == (pytest.approx(0.0, abs=0.1), pytest.approx(0.5, abs=0.04))


def test_reliabilities_differ_by_what_is_open():
    """Of few rows as much as classifiers do, of many as little as the errors of a logistic regression."""
    rng = np.random.default_rng(0)
    with pytest.warns(EstimationWarning, match="only 10 labelled rows"):
        few = read_pilot(([1, 0] * 5, [0.5] * 10), None, None)
    slopes = [World.drawn(few, rng).reliability[1] for _ in range(300)]
    assert np.std(slopes) == pytest.approx(0.5, rel=0.15)  # at even odds, no row tells the slope
    y, proba = rows(2000)
    many = read_pilot((y, proba), None, None)
    lines = np.array([World.drawn(many, rng).reliability for _ in range(300)])
    design = np.column_stack([np.ones(2000), many.log_odds])
    p = expit(many.log_odds)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))))
    assert lines.std(axis=0) == pytest.approx(errors, rel=0.25)
