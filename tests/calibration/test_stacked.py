"""Pools of label scores and features: honest down to strengths, never far from the best member, and saved without loss."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone

from llmclf.calibration import StackedCalibrator, VectorCalibrator, calibrator_from_dict, pool_of
from llmclf.errors import CalibrationWarning, InputError
from llmclf.metrics import log_loss

MEMBERS = [
    "frequencies",
    "temperature",
    "ucpa_temperature",
    "bias_temperature",
    "weak_bias_temperature",
    "vector",
    "matrix",
    "label scores",
]


def drawn(n=120, k=3, seed=0, strength=2.0, told=1.5):
    """Scores, labels, and features of which one set tells the class and one is noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    scores = rng.normal(size=(n, k)) * 2 + strength * np.eye(k)[y] + np.linspace(0, 3, k)
    features = {
        "telling": rng.normal(size=(n, 40)) + told * rng.normal(size=(k, 40))[y] * 0.5,
        "noise": rng.normal(size=(n, 10)),
    }
    return scores, y, features


@pytest.fixture(scope="module")
def fitted():
    scores, y, features = drawn()
    return StackedCalibrator().fit(scores, y, features=features)


def test_members(fitted):
    """Label maps, and two heads for each set, and one for all sets together."""
    heads = ["telling", "label scores + telling", "noise", "label scores + noise", "label scores + telling + noise"]
    assert list(fitted.members_) == [*MEMBERS, *heads]
    assert fitted.heads == heads
    frame = fitted.to_frame()
    assert list(frame.index) == [*MEMBERS, *heads]
    assert frame.loc["telling", "log_loss"] < frame.loc["noise", "log_loss"]
    assert (frame["accuracy_low"] <= frame["accuracy"]).all()
    assert (frame["log_loss"] <= frame["log_loss_high"]).all()
    assert frame["weight"].to_dict() == pytest.approx(fitted.weights_)


@pytest.mark.slow
def test_features_help():
    """On other rows, the pool with features beats the pool without, and noise alone costs next to nothing."""
    scores, y, features = drawn(600)
    train, test = np.arange(120), np.arange(120, 600)
    losses = {}
    for names in ((), ("telling",), ("noise",), ("telling", "noise")):
        some = {name: features[name] for name in names}
        one = StackedCalibrator().fit(scores[train], y[train], features={k: v[train] for k, v in some.items()})
        proba = one.predict_proba(scores[test], {k: v[test] for k, v in some.items()})
        losses[names] = log_loss(y[test], proba, classes=range(3))
    assert losses[("telling",)] < losses[()] - 0.1
    assert losses[("noise",)] < losses[()] + 0.02
    assert losses[("telling", "noise")] < losses[("telling",)] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 57])
def test_no_label_leaks(row):
    """A row's cross-fitted probabilities do not depend on its own label: not by members, strengths, scales or weights.

    The folds depend on the labels, so each class's number of rows is kept and the folds are compared, too.
    """
    scores, y, features = drawn(80, seed=4)
    one = StackedCalibrator().fit(scores, y, features=features)
    folds = one._fits.folds
    changed = y.copy()
    # Exchange its label with that of a row in the same fold: outside of that fold nothing has changed.
    other = next(i for i in np.flatnonzero(folds == folds[row]) if y[i] != y[row])
    changed[[row, other]] = y[[other, row]]
    groups = folds  # the folds themselves as groups keep them the same
    pools = [StackedCalibrator().fit(scores, some, groups=groups, features=features) for some in (y, changed)]
    same = [np.flatnonzero(pool._fits.folds == pool._fits.folds[row]) for pool in pools]
    assert same[0].tolist() == same[1].tolist()
    found = [pool.cross_fitted()[same[0]] for pool in pools]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.slow
def test_cross_fitted_is_honest_on_noise():
    """Where nothing tells the labels, cross-fitted log loss is that of the frequencies, whatever the number of features."""
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(6):
        y = rng.integers(0, 2, 60)
        one = StackedCalibrator().fit(rng.normal(size=(60, 2)), y, features={"wide": rng.normal(size=(60, 500))})
        gaps.append(-one.cross_fitted()[np.arange(60), y].mean() - np.log(2))
    assert np.mean(gaps) > -0.02


@pytest.mark.slow
def test_calibrated_by_construction():
    """On other rows, the mean confidence and the accuracy agree."""
    gaps = []
    for seed in range(5):
        scores, y, features = drawn(1200, seed=seed)
        one = StackedCalibrator().fit(scores[:200], y[:200], features={k: v[:200] for k, v in features.items()})
        proba = one.predict_proba(scores[200:], {k: v[200:] for k, v in features.items()})
        gaps.append(proba.max(axis=1).mean() - (proba.argmax(axis=1) == y[200:]).mean())
    assert abs(np.mean(gaps)) < 0.03


def test_copies_do_not_judge_each_other():
    """Texts five times over: a head that remembers every text is not taken for a good one."""
    rng = np.random.default_rng(1)
    y, wide = rng.integers(0, 2, 40), rng.normal(size=(40, 200))
    rows = np.repeat(np.arange(40), 5)
    scores = rng.normal(size=(40, 2))[rows]
    together = StackedCalibrator().fit(scores, y[rows], features={"wide": wide[rows]}, groups=rows)
    apart = StackedCalibrator().fit(scores, y[rows], features={"wide": wide[rows]}, groups=np.arange(200))
    assert apart.to_frame().loc["wide", "accuracy"] > 0.95
    assert together.to_frame().loc["wide", "accuracy"] < 0.75


def test_a_class_of_one_row():
    """Heads that start from frequencies are left out and named; those that start from the label scores stay."""
    scores, y, features = drawn(120)
    y[y == 2] = 0
    y[7] = 2
    one = StackedCalibrator().fit(scores, y, classes=range(3), features=features)
    assert set(one.left_out_) == {"telling", "noise"}
    assert "fewer than two labelled rows" in one.left_out_["telling"]
    assert "label scores + telling" in one.members_
    assert one.to_frame().loc["telling", "weight"] == 0
    assert np.isnan(one.to_frame().loc["telling", "log_loss"])


def test_few_rows_leave_out_flexible_maps():
    """On fewer than 100 rows neither a matrix nor a head learns from the label scores; the others stay, and the names say why."""
    scores, y, features = drawn(120)
    few = StackedCalibrator().fit(scores[:90], y[:90], classes=range(3), features={"telling": features["telling"][:90]})
    many = StackedCalibrator().fit(scores, y, classes=range(3), features={"telling": features["telling"]})
    assert set(few.left_out_) == set(many.members_) - set(few.members_) == {"matrix", "label scores"}
    assert all("fewer than 100 labelled rows" in reason for reason in few.left_out_.values())


@pytest.mark.slow
def test_more_classes_than_rows():
    """Seventy-seven classes and thirty rows: the label scores stay in charge."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 77, 1030)
    scores = rng.normal(size=(1030, 77)) * 2 + 5 * np.eye(77)[y]
    features = rng.normal(size=(1030, 50))
    one = StackedCalibrator().fit(scores[:30], y[:30], classes=range(77), features={"noise": features[:30]})
    raw = log_loss(y[30:], np.exp(scores[30:] - np.logaddexp.reduce(scores[30:], axis=1)[:, None]), classes=range(77))
    assert log_loss(y[30:], one.predict_proba(scores[30:], {"noise": features[30:]}), classes=range(77)) < raw + 0.1


def test_few_rows():
    """On fewer than 20 rows the scores stay as they are, and a warning says so."""
    scores, y, features = drawn(19)
    with pytest.warns(CalibrationWarning, match="19 labelled rows; 20 or more"):
        one = StackedCalibrator().fit(scores, y, classes=range(3), features=features)
    expected = np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])
    assert one.predict_proba(scores, features) == pytest.approx(expected)
    with pytest.warns(CalibrationWarning, match="all rows belong to one group"):
        StackedCalibrator().fit(*drawn(60)[:2], groups=["ann"] * 60)


@pytest.mark.parametrize("calibrator", [None, "vector", VectorCalibrator(ridge=2.0)])
def test_json_round_trip(calibrator):
    """Through JSON text, and as arrays, predictions stay the same; what cannot be is refused."""
    scores, y, features = drawn(60)
    one = StackedCalibrator(calibrator).fit(scores, y, features=features)
    text = json.dumps(one.to_dict(), sort_keys=True)  # as some tools write it: no meaning hangs on the order of keys
    for described in (json.loads(text), one.to_dict(arrays=True)):
        restored = calibrator_from_dict(described)
        assert (restored.predict_proba(scores, features) == one.predict_proba(scores, features)).all()
        assert repr(restored) == repr(one)
    with pytest.raises(InputError, match="did not outlive save and load"):
        restored.cross_fitted()
    broken = json.loads(text)
    dict(broken["fitted"]["members"])["telling"]["coefficients"] = [[1.0, 2.0, 3.0]]
    with pytest.raises(InputError, match="which fitting cannot produce"):
        calibrator_from_dict(broken)
    broken = json.loads(text)
    broken["fitted"]["pool"]["linear"] = [1.0]
    with pytest.raises(InputError, match="weights"):
        calibrator_from_dict(broken)


@pytest.mark.slow
def test_pickle_and_clone(fitted):
    """Both work as with any estimator."""
    scores, _, features = drawn()
    copied = pickle.loads(pickle.dumps(fitted))
    assert (copied.predict_proba(scores, features) == fitted.predict_proba(scores, features)).all()
    assert copied.cross_fitted() == pytest.approx(fitted.cross_fitted(), abs=1e-9)
    assert not hasattr(clone(fitted), "members_")


def test_head_logits_are_all_that_predictions_need(fitted):
    """From scores and the heads' logits come the same probabilities as from scores and features."""
    scores, _, features = drawn(30, seed=9)
    logits = fitted.head_logits(features, 30)
    assert {name: one.shape for name, one in logits.items()} == dict.fromkeys(fitted.heads, (30, 3))
    assert fitted.predict_proba(scores, logits) == pytest.approx(fitted.predict_proba(scores, features), abs=1e-12)


def test_what_cannot_be_used_is_refused(fitted):
    """Absent features, features of another number of rows, and a calibrator that is none."""
    scores, y, features = drawn()
    with pytest.raises(InputError, match="features lack 'noise'"):
        fitted.predict_proba(scores, {"telling": features["telling"]})
    with pytest.raises(InputError, match="'telling' have 119 rows, and there are 120"):
        StackedCalibrator().fit(scores, y, features={"telling": features["telling"][1:]})
    for wrong in ("nearest", 3, StackedCalibrator()):
        with pytest.raises(InputError, match="cannot be a member of a pool"):
            StackedCalibrator(wrong).fit(scores, y)
    with pytest.raises(InputError, match="cannot be a member of a pool"):
        pool_of(__import__("sklearn.linear_model").linear_model.LogisticRegression())


@pytest.mark.slow
def test_weights_are_repetition():
    """A row of weight 2 is the row twice, with features, too."""
    scores, y, features = drawn(60)
    repeats = np.arange(60) % 2 + 1
    rows = np.repeat(np.arange(60), repeats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighted = StackedCalibrator().fit(scores, y, sample_weight=repeats, features=features)
        repeated = StackedCalibrator().fit(scores[rows], y[rows], features={k: v[rows] for k, v in features.items()})
    assert weighted.predict_proba(scores, features) == pytest.approx(repeated.predict_proba(scores, features), abs=1e-3)


@pytest.mark.parametrize("name", ["matrix", "frequencies", "label scores", "identity"])
def test_a_name_that_is_taken(name):
    """A feature set that would be a second member of one name is refused."""
    scores, y, features = drawn(60)
    with pytest.raises(InputError, match=f"second member called {name!r}"):
        StackedCalibrator().fit(scores, y, features={name: features["noise"]})


def test_a_fitted_pool_is_small():
    """It keeps its rows and what was said of them, not what was fitted on the way."""
    scores, y, features = drawn(200)
    one = StackedCalibrator().fit(scores, y, features=features)
    _ = one.cross_fitted()
    kept = sum(array.nbytes for array in features.values()) + scores.nbytes
    judged = sum(array.nbytes for array in one._judged.values())
    assert len(pickle.dumps(one)) < 3 * (kept + judged) + 200_000
    assert not one._fits._known
