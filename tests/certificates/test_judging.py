"""What labelled rows show: the promise is kept as often as it says, and what is not shown is not promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.certificates.judging import (
    LabelledRows,
    calibration_of,
    guarantee_before,
    guarantee_selected,
    holm,
    parts_of,
)
from llmclf.errors import CalibrationWarning, NotCertifiedError


def rows_of(confidence, is_right, *, members=None, inclusion=None, partitions=None, predicted=None) -> LabelledRows:
    """Rows of two classes with these confidences, of which some are right."""
    confidence, is_right = np.asarray(confidence, dtype=float), np.asarray(is_right, dtype=bool)
    n = len(confidence)
    predicted = np.zeros(n, dtype=int) if predicted is None else np.asarray(predicted)
    proba = np.empty((n, 2))
    proba[np.arange(n), predicted] = confidence
    proba[np.arange(n), 1 - predicted] = 1.0 - confidence
    columns = np.where(is_right, predicted, 1 - predicted)
    members = np.arange(n) if members is None else np.asarray(members)
    return LabelledRows(proba, columns, ["bad", "good"], members, inclusion, partitions or {})


def right(n: int, n_wrong: int) -> np.ndarray:
    return np.arange(n) >= n_wrong


def test_the_bound_is_that_of_clopper_and_pearson():
    """No wrong row of 59 shows 5 %, and of 58 does not; numbers from their tables."""
    shown = guarantee_before(rows_of([0.9] * 59, right(59, 0)), 0.8, 0.05, 0.95)
    assert shown.error_bound == pytest.approx(1 - 0.05 ** (1 / 59))
    with pytest.raises(NotCertifiedError, match="at least 59 accepted ones are needed"):
        guarantee_before(rows_of([0.9] * 58, right(58, 0)), 0.8, 0.05, 0.95)


def test_rows_below_the_threshold_do_not_matter_for_the_error():
    """They are in the coverage alone."""
    rows = rows_of([0.9] * 100 + [0.6] * 100, np.r_[right(100, 1), right(100, 90)])
    shown = guarantee_before(rows, 0.8, 0.1, 0.95)
    assert (shown.n_accepted, shown.n_wrong, shown.error) == (100, 1, 0.01)
    assert shown.coverage.value == 0.5
    assert shown.coverage.low == pytest.approx(0.4287, abs=1e-4)
    assert shown.coverage.high == pytest.approx(0.5713, abs=1e-4)


def test_rows_without_probabilities_are_not_accepted():
    """They count among all rows."""
    rows = rows_of([0.9] * 100, right(100, 0))
    rows.proba[:20] = np.nan
    shown = guarantee_before(rows, 0.0, 0.1, 0.95)
    assert (shown.n_accepted, shown.coverage.value) == (80, 0.8)


@pytest.mark.parametrize(("error", "often"), [(0.1, 0.05), (0.11, 0.05)])
def test_a_promise_that_is_not_kept_is_seldom_certified(error, often):
    """Of 2,000 classifiers that err as often as was allowed, or more, at most 5 % are certified (within the count's noise)."""
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(2000):
        confidence = rng.random(150) * 0.5 + 0.5
        try:
            guarantee_before(rows_of(confidence, rng.random(150) >= error), 0.6, 0.1, 0.95)
        except NotCertifiedError:
            continue
        certified += 1
    assert certified / 2000 <= often + 3 * math.sqrt(often * (1 - often) / 2000)


def test_a_selected_threshold_keeps_its_promise_too():
    """Where no row is better than another, the best of all thresholds is certified in at most 5 % of cases."""
    rng = np.random.default_rng(1)
    certified = 0
    for _ in range(400):
        try:
            with pytest.warns(CalibrationWarning):
                guarantee_selected(rows_of(rng.random(150) * 0.5 + 0.5, rng.random(150) >= 0.1), 0.1, 0.95)
        except NotCertifiedError:
            continue
        except pytest.fail.Exception:  # no warning: a threshold was found
            certified += 1
    assert certified / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_selected_threshold_accepts_what_it_can():
    """The rows that are always wrong lie below it, and its coverage has an interval for all thresholds at once."""
    rows = rows_of([0.9] * 150 + [0.6] * 50, np.r_[right(150, 2), right(50, 50)])
    shown = guarantee_selected(rows, 0.1, 0.95)
    assert 0.6 < shown.threshold <= 0.9
    assert (shown.n_accepted, shown.n_wrong, shown.threshold_from) == (150, 2, "these rows")
    assert shown.coverage.value == 0.75
    assert shown.coverage.high - shown.coverage.value == pytest.approx(math.sqrt(math.log(40) / 400))


@given(st.integers(0, 8), st.integers(30, 120))
def test_the_number_of_rows_that_would_be_enough_is_enough(n_wrong, n):
    """So many rows with the same share of wrong ones are certified; that is what the message says."""
    rows = rows_of([0.9] * n, right(n, n_wrong))
    try:
        guarantee_before(rows, 0.5, 0.1, 0.95)
    except NotCertifiedError as error:
        needed = error.reached["rows_needed"]
        assert (needed is None) <= (n_wrong / n >= 0.08)
        if needed is not None:
            again = guarantee_before(
                rows_of([0.9] * needed, right(needed, math.floor(needed * n_wrong / n))), 0.5, 0.1, 0.95
            )
            assert again.error_bound <= 0.1
            assert f"about {needed} new labelled rows" in str(error)


def test_what_is_not_shown_is_said_with_numbers():
    """Rows, accepted and wrong ones, the bound, and the cure."""
    with pytest.raises(NotCertifiedError, match="20 of them wrong") as caught:
        guarantee_before(rows_of([0.9] * 100, right(100, 20)), 0.8, 0.1, 0.95)
    assert "more rows will hardly help" in str(caught.value)
    assert caught.value.reached["error"] == 0.2
    assert caught.value.reached["rows_needed"] is None
    with pytest.raises(NotCertifiedError, match="nothing is known of accepted rows") as caught:
        guarantee_before(rows_of([0.7] * 100, right(100, 0)), 0.8, 0.1, 0.95)
    assert caught.value.reached["n_accepted"] == 0


def test_copies_count_once():
    """Twenty rows ten times over are worth twenty."""
    members = np.arange(200) % 20
    with pytest.raises(NotCertifiedError):
        guarantee_before(rows_of([0.9] * 200, right(200, 0), members=members), 0.8, 0.1, 0.95)
    shown = guarantee_before(rows_of([0.9] * 200, right(200, 0)), 0.8, 0.1, 0.95)
    assert shown.error_bound < 0.02


def test_rows_that_were_drawn_more_often_do_not_count_more():
    """Half of the table was drawn ten times as often and is always right: the certified error is that of the table."""
    rng = np.random.default_rng(0)
    errors, coverages = [], []
    for _ in range(200):
        is_easy = rng.random(8000) < 0.5
        drawn = rng.random(8000) < np.where(is_easy, 0.5, 0.05)
        easy = is_easy[drawn]
        is_right = easy | (rng.random(drawn.sum()) < 0.8)
        confidence = np.where(rng.random(drawn.sum()) < 0.7, 0.9, 0.6)
        rows = rows_of(confidence, is_right, inclusion=np.where(easy, 0.5, 0.05))
        shown = guarantee_before(rows, 0.8, 0.3, 0.95)
        errors.append(shown.error)
        coverages.append(shown.coverage.value)
    assert np.mean(errors) == pytest.approx(0.1, abs=0.005)
    assert np.mean(coverages) == pytest.approx(0.7, abs=0.01)


def test_each_class_and_each_group_is_judged():
    """Where more are wrong than promised, that is found, and where rows are too few, nothing is claimed."""
    n = 600
    group = np.array(["web"] * 300 + ["mail"] * 280 + ["fax"] * 20, dtype=object)
    is_right = np.r_[right(300, 3), right(280, 90), right(20, 0)]
    rows = rows_of([0.9] * n, is_right, partitions={"channel": group}, predicted=np.arange(n) % 2)
    parts = {(part.partition, part.name): part for part in parts_of(rows, 0.8, 0.1, 0.95)}
    assert list(parts) == [
        ("predicted class", "bad"),
        ("predicted class", "good"),
        ("channel", "web"),
        ("channel", "mail"),
        ("channel", "fax"),
    ]
    found = {name: part.finding for (_, name), part in parts.items()}
    assert found == {"bad": "broken", "good": "broken", "web": "kept", "mail": "broken", "fax": "open"}
    assert sum(parts["predicted class", name].n_wrong for name in ("bad", "good")) == 93


def test_statements_about_many_parts_hold_together():
    """Twenty groups that err just as often as is allowed: in at most 5 % of 400 tables is any of them called kept or broken."""
    rng = np.random.default_rng(0)
    group = np.repeat([f"g{i}" for i in range(20)], 60).astype(object)
    claims = misses = 0
    for _ in range(400):
        rows = rows_of([0.9] * 1200, rng.random(1200) >= 0.1, partitions={"g": group})
        parts = parts_of(rows, 0.8, 0.1, 0.95)
        claims += any(part.finding != "open" for part in parts)
        misses += any(part.n_accepted and not part.error.low <= 0.1 <= part.error.high for part in parts)
    assert claims / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert misses / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_class_that_is_never_predicted_has_no_numbers():
    """And no claim."""
    part = parts_of(rows_of([0.9] * 100, right(100, 0)), 0.8, 0.1, 0.95)[1]
    assert (part.name, part.n_rows, part.error.value, part.p_value, part.finding) == ("good", 0, None, None, "open")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_p_values_follow_holm(p_values):
    """They are at least the given ones, at most Bonferroni's, in the same order, and the smallest is Bonferroni's."""
    corrected = holm(p_values)
    assert all(p <= c <= min(1.0, p * len(p_values)) for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert min(corrected) == min(1.0, min(p_values) * len(p_values))


def test_calibration_is_tested():
    """Calibrated confidences pass, and those of an over-confident model do not."""
    rng = np.random.default_rng(1)
    confidence = rng.random(500) * 0.5 + 0.5
    good = calibration_of(rows_of(confidence, rng.random(500) < confidence))
    bad = calibration_of(rows_of(confidence, rng.random(500) < confidence - 0.2))
    assert good.p_value > 0.05
    assert bad.p_value < 0.01 < bad.error
