"""Tests of risk-coverage curves, thresholds with a guarantee and conformal label sets."""

from __future__ import annotations

import math
import pickle
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from llmclf.calibration import ConformalClassifier, TemperatureCalibrator, risk_coverage_curve, select_threshold
from llmclf.calibration.tolerated_errors import tolerated_errors
from llmclf.errors import CalibrationWarning, InputError
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import accuracy, aurc


def multi():
    """3000 rows of over-confident, biased probabilities of four classes; the golden values belong to them."""
    rng = np.random.default_rng(20260101)
    truth = log_softmax(rng.normal(size=(3000, 4)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1]))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(3000)[:, None]).sum(axis=1).clip(0, 3)
    return y, softmax(truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2]))


def sure(confidence, right):
    """Labels and two-class probabilities of predictions with this confidence, right or not."""
    return np.where(right, 0, 1), np.column_stack([confidence, 1 - confidence])


class TestRiskCoverage:
    def test_by_hand(self):
        """Equal confidences are kept together; the last risk is the error rate."""
        curve = risk_coverage_curve(*sure(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, True, False, False])))
        assert curve.threshold == pytest.approx([0.9, 0.8, 0.6])
        assert curve.coverage == pytest.approx([0.25, 0.75, 1.0])
        assert curve.risk == pytest.approx([0, 1 / 3, 1 / 2])
        assert (curve.lower <= curve.risk).all()
        assert (curve.upper >= curve.risk).all()
        assert curve.upper[0] == pytest.approx(1 - 0.025)

    @given(st.integers(0, 2**32 - 1), st.integers(1, 40))
    @settings(max_examples=30, deadline=None)
    def test_laws(self, seed, n):
        """The order of rows does not matter, whole weights are repetition, and the ends are those of the metrics."""
        rng = np.random.default_rng(seed)
        y, proba = rng.integers(0, 3, n), softmax(rng.integers(-2, 3, (n, 3)))
        repeats, order = rng.integers(1, 3, n), rng.permutation(n)
        curve = risk_coverage_curve(y, proba, sample_weight=repeats)
        again = risk_coverage_curve(y[order].repeat(repeats[order]), proba[order].repeat(repeats[order], axis=0))
        for name in ("threshold", "coverage", "risk"):
            assert getattr(again, name) == pytest.approx(getattr(curve, name), abs=1e-12)
        assert (np.diff(curve.threshold) < 0).all()
        assert curve.coverage[-1] == pytest.approx(1.0)
        assert 1 - curve.risk[-1] == pytest.approx(accuracy(y, proba, sample_weight=repeats))

    def test_its_mean_is_aurc(self):
        """Without ties the mean of the risks is the area that the metric gives."""
        y, proba = multi()
        assert risk_coverage_curve(y, proba).risk.mean() == pytest.approx(aurc(y, proba).aurc, abs=1e-12)

    def test_weights_have_no_exact_interval(self):
        """Clopper and Pearson count rows, so weighted rows have no bounds."""
        assert np.isnan(risk_coverage_curve([0, 1], [0.2, 0.7], sample_weight=[1, 2]).upper).all()


# How right rows of a confidence are: calibrated, over-confident, in steps, worse where surest, and hardly at all.
MODELS = {
    "calibrated": lambda c: c,
    "over-confident": lambda c: 0.5 + 0.8 * (c - 0.5),
    "rounded": lambda c: np.round(c * 10) / 10 * 0.98,
    "worst where surest": lambda c: np.where(c > 0.97, 0.9, np.minimum(1.0, c + 0.02)),
    "no better than 92 %": lambda c: np.minimum(c, 0.92),
}


class TestSelectThreshold:
    @pytest.mark.slow
    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("n", [100, 400, 2000])
    def test_the_guarantee_holds(self, model, n):
        """The true error of the accepted rows is above the limit in no more than a tenth of the draws."""
        rng = np.random.default_rng([n, list(MODELS).index(model)])
        max_error, too_high, found = 0.1, 0, 0
        large = rng.beta(3, 1, 200_000) / 2 + 0.5
        large = np.round(large, 1) if model == "rounded" else large
        large_right = MODELS[model](large)
        for _ in range(300):
            confidence = rng.choice(large, n)
            right = rng.random(n) < MODELS[model](confidence)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CalibrationWarning)
                chosen = select_threshold(*sure(confidence, right), max_error=max_error, confidence=0.9)
            accepted = large >= chosen.threshold
            if accepted.any():
                found += 1
                too_high += 1 - large_right[accepted].mean() > max_error + 1e-3
        assert too_high <= 300 * 0.1 + 2 * math.sqrt(300 * 0.1 * 0.9)
        if model == "calibrated" and n == 2000:
            assert found > 290

    def test_the_best_point_of_the_curve_is_luck(self):
        """What this is for: the lowest threshold with an observed error below the limit breaks it about every other time."""
        rng = np.random.default_rng(0)
        broken = 0
        for _ in range(200):
            confidence = rng.random(200) / 2 + 0.5
            curve = risk_coverage_curve(*sure(confidence, rng.random(200) < confidence))
            within = np.flatnonzero(curve.risk <= 0.1)
            if within.size:
                threshold = curve.threshold[within[-1]]
                broken += 1 - (1 + threshold) / 2 > 0.1
        assert broken > 70

    def test_what_it_says_is_so(self):
        """Coverage, error and counts are those of the labelled rows at or above the threshold."""
        y, proba = multi()
        chosen = select_threshold(y, proba, max_error=0.3)
        accepted = proba.max(axis=1) >= chosen.threshold
        assert chosen.n_accepted == accepted.sum()
        assert chosen.coverage == pytest.approx(accepted.mean())
        assert chosen.error == pytest.approx((proba.argmax(axis=1) != y)[accepted].mean())
        assert chosen.error < chosen.error_bound <= 0.3
        assert (chosen.n_rows, chosen.max_error, chosen.confidence) == (3000, 0.3, 0.95)

    def test_order_and_ties(self):
        """Rows in another order give the same answer, and rows of equal confidence are accepted together."""
        rng = np.random.default_rng(3)
        confidence = rng.choice([0.6, 0.8, 0.9, 0.99], 800)
        y, proba = sure(confidence, rng.random(800) < confidence)
        order = rng.permutation(800)
        chosen = select_threshold(y, proba, max_error=0.1)
        assert select_threshold(y[order], proba[order], max_error=0.1) == chosen
        assert chosen.n_accepted in {np.sum(confidence >= level) for level in (0.9, 0.99)}

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [60, 100, 300])
    def test_the_promise_at_the_limit(self, n):
        """If every confidence is wrong just as often as allowed, a threshold passes in a twentieth of the draws at most."""
        rng, found = np.random.default_rng(n), 0
        confidence = np.linspace(1, 0.5, n)
        for _ in range(400):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CalibrationWarning)
                found += select_threshold(*sure(confidence, rng.random(n) >= 0.1), max_error=0.1).n_accepted > 0
        assert found <= 400 * 0.05 + 2 * math.sqrt(400 * 0.05 * 0.95)

    def test_the_power_below_300_rows(self):
        """A strong model's rows are accepted in a third at least on 100 labels, where ten equal shares accept next to none."""
        rng, coverage = np.random.default_rng(5), []
        for _ in range(200):
            confidence = 0.5 + rng.beta(6, 0.5, 100) / 2
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CalibrationWarning)
                coverage.append(
                    select_threshold(*sure(confidence, rng.random(100) < confidence), max_error=0.05).coverage
                )
        assert np.mean(coverage) > 0.33

    def test_every_rank_is_tried(self):
        """The lowest threshold passes above which no more rows are wrong than are tolerated, wherever it lies."""
        tolerated = tolerated_errors(300, 0.1, 0.05)
        right = np.ones(300, dtype=bool)
        right[137:] = False
        chosen = select_threshold(*sure(np.linspace(1, 0.6, 300), right), max_error=0.1)
        n_wrong = np.maximum(0, np.arange(301) - 137)
        assert chosen.n_accepted == np.flatnonzero(n_wrong <= tolerated)[-1]
        assert chosen.error_bound == pytest.approx(0.1, abs=0.02)

    def test_it_is_quick(self):
        """Ten thousand rows take less than a second."""
        rng = np.random.default_rng(0)
        confidence = 0.5 + rng.random(10_000) / 2
        start = time.process_time()
        select_threshold(*sure(confidence, rng.random(10_000) < confidence), max_error=0.3)
        assert time.process_time() - start < 1.0

    def test_a_model_that_is_always_right(self):
        """Every row is accepted, with threshold 0."""
        chosen = select_threshold(*sure(np.linspace(0.6, 1, 200), np.ones(200, dtype=bool)), max_error=0.05)
        assert (chosen.threshold, chosen.coverage, chosen.error) == (0.0, 1.0, 0.0)

    def test_too_few_labels(self):
        """Fewer rows than any outcome could convince with are refused, with the number that is needed."""
        y, proba = sure(np.full(58, 0.9), np.ones(58, dtype=bool))
        with pytest.raises(
            InputError, match="58 labelled rows cannot show that at most 0.05 .* at least 59 are needed"
        ):
            select_threshold(y, proba, max_error=0.05)
        assert select_threshold(*sure(np.full(59, 0.9), np.ones(59, dtype=bool)), max_error=0.05).coverage == 1.0

    def test_no_threshold_passes(self):
        """None is accepted, and a warning says how near it came and whether more labels would help."""
        rng = np.random.default_rng(0)
        confidence = rng.random(200) / 2 + 0.5
        with pytest.warns(CalibrationWarning, match="more labels will not help") as caught:
            chosen = select_threshold(*sure(confidence, rng.random(200) < 0.5), max_error=0.05)
        assert (chosen.threshold, chosen.coverage, chosen.n_accepted) == (math.inf, 0.0, 0)
        assert math.isnan(chosen.error)
        assert caught[0].filename == __file__
        right = np.ones(100, dtype=bool)
        right[[3, 40]] = False
        with pytest.warns(CalibrationWarning, match="about 300 labelled rows would be enough"):
            select_threshold(*sure(np.linspace(1, 0.9, 100), right), max_error=0.05)

    @pytest.mark.parametrize(
        "options", [{"max_error": 0}, {"max_error": 5}, {"max_error": 0.1, "confidence": 95}, {"max_error": "low"}]
    )
    def test_bad_levels(self, options):
        """Percentages and words are refused by name."""
        with pytest.raises(InputError, match="expected a number between 0 and 1"):
            select_threshold([0, 1], [0.1, 0.9], **options)


class TestGroups:
    def test_each_row_for_itself(self):
        """Groups of one row change nothing."""
        y, proba = multi()
        alone = select_threshold(y, proba, max_error=0.3, groups=np.arange(3000))
        assert alone == select_threshold(y, proba, max_error=0.3)

    def test_copies_count_once(self):
        """Five copies of each row give the threshold, the shares and the bound of the rows alone, whatever their order."""
        rng = np.random.default_rng(0)
        confidence = 0.5 + rng.random(300) / 2
        y, proba = sure(confidence, rng.random(300) < confidence)
        alone, rows = select_threshold(y, proba, max_error=0.2), rng.permutation(np.arange(300).repeat(5))
        chosen = select_threshold(y[rows], proba[rows], max_error=0.2, groups=[f"text {i}" for i in rows])
        assert (chosen.n_rows, chosen.n_accepted) == (1500, 5 * alone.n_accepted)
        for name in ("threshold", "coverage", "error", "error_bound"):
            assert getattr(chosen, name) == pytest.approx(getattr(alone, name), abs=1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["copies", "some copied often", "authors"])
    def test_the_promise_is_kept(self, kind):
        """At the limit, rows of groups pass in a twentieth of the draws at most, and twice as often as rows for themselves."""
        rng, found = np.random.default_rng(1), np.zeros(2)
        for _ in range(150):
            sizes = np.where(rng.random(150) < 0.1, 15, 1) if kind == "some copied often" else np.full(150, 5)
            members = np.repeat(np.arange(150), sizes)
            confidence = 0.5 + rng.random(150)[members] / 2
            wrong = (rng.random(150) < 0.1)[members]
            if kind == "authors":
                confidence = 0.5 + rng.random(len(members)) / 2
                wrong = rng.random(len(members)) < rng.beta(0.1, 0.9, 150)[members]
            for i, groups in enumerate((None, members)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", CalibrationWarning)
                    chosen = select_threshold(*sure(confidence, ~wrong), max_error=0.1, groups=groups)
                found[i] += chosen.n_accepted > 0
        assert found[1] <= 150 * 0.05 + 2 * math.sqrt(150 * 0.05 * 0.95)
        assert found[0] > 150 * 0.1

    def test_a_giant_group(self):
        """Where one group has half of the rows, its copies are no evidence about other groups."""
        groups = np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)])
        y, proba = sure(np.linspace(1, 0.6, 200), np.arange(200) != 150)
        with pytest.warns(CalibrationWarning, match="no threshold keeps the error"):
            assert select_threshold(y, proba, max_error=0.05, groups=groups).n_accepted == 0

    def test_too_few_groups(self):
        """Two hundred rows of forty texts cannot show what needs 59, and the message says so."""
        y, proba = sure(np.full(200, 0.9), np.ones(200, dtype=bool))
        with pytest.raises(
            InputError, match="200 labelled rows in 40 groups cannot show .* at least 59 groups are needed"
        ):
            select_threshold(y, proba, max_error=0.05, groups=np.arange(200) // 5)

    def test_the_curve_has_wider_intervals(self):
        """Four copies of each row give the intervals of the rows alone."""
        y, proba = multi()
        alone = risk_coverage_curve(y[:50], proba[:50])
        curve = risk_coverage_curve(y[:50].repeat(4), proba[:50].repeat(4, axis=0), groups=np.arange(50).repeat(4))
        assert curve.risk == pytest.approx(alone.risk)
        assert curve.upper == pytest.approx(alone.upper)
        assert curve.lower == pytest.approx(alone.lower)


class TestConformal:
    def test_golden_value(self):
        """Quantile, coverage and size of LAC are those of an independent package."""
        y, proba = multi()
        conformal = ConformalClassifier().fit(proba[:1000], y[:1000])
        sets = conformal.predict_set(proba[1000:])
        assert conformal.quantile_ == pytest.approx(0.97181903, abs=1e-8)
        assert sets[np.arange(2000), y[1000:]].mean() == pytest.approx(0.905, abs=1e-9)
        assert sets.sum(axis=1).mean() == pytest.approx(2.1155, abs=1e-9)

    @pytest.mark.parametrize("method", ["lac", "aps"])
    @pytest.mark.parametrize("n", [30, 200])
    def test_marginal_coverage(self, method, n):
        """Over many draws the true label is in the set as often as promised, whatever the model says."""
        rng = np.random.default_rng(n)
        covered = []
        for _ in range(400):
            truth = log_softmax(rng.normal(size=(n + 100, 5)) * 2)
            y = (np.exp(truth).cumsum(axis=1) < rng.random(n + 100)[:, None]).sum(axis=1).clip(0, 4)
            proba = softmax(2 * truth + [1.0, 0.0, 0.0, -1.0, 0.0])
            sets = ConformalClassifier(method=method, confidence_level=0.8).fit(proba[:n], y[:n]).predict_set(proba[n:])
            covered.append(sets[np.arange(100), y[n:]].mean())
        error = np.std(covered) / 20
        assert np.mean(covered) > 0.8 - 2 * error
        assert np.mean(covered) < 0.8 + 1 / (n + 1) + 3 * error

    def test_aps_takes_labels_from_the_top(self):
        """A label is in the set only with all more probable ones."""
        y, proba = multi()
        sets = ConformalClassifier(method="aps").fit(proba[:1000], y[:1000]).predict_set(proba[1000:])
        ranked = np.take_along_axis(sets, np.argsort(-proba[1000:], axis=1), axis=1)
        assert (np.diff(ranked.astype(int), axis=1) <= 0).all()

    def test_aps_of_two_classes(self):
        """The label on top is in every set, and the other one in those of the unsure rows: neither all nor nothing."""
        rng = np.random.default_rng(0)
        p = rng.random(2000)
        proba, y = np.column_stack([1 - p, p]), (rng.random(2000) < p).astype(int)
        conformal = ConformalClassifier(method="aps", confidence_level=0.9).fit(proba[:1000], y[:1000])
        sets, confidence = conformal.predict_set(proba[1000:]), proba[1000:].max(axis=1)
        assert sets[np.arange(1000), proba[1000:].argmax(axis=1)].all()
        assert (sets.all(axis=1) == (confidence <= conformal.quantile_)).all()
        assert 0.2 < sets.all(axis=1).mean() < 0.8
        assert (sets.sum(axis=1)[confidence > 0.99] == 1).all()

    @given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.sampled_from([0.5, 0.8, 0.95]), st.booleans())
    @settings(max_examples=30, deadline=None)
    def test_aps_is_never_empty(self, seed, k, level, class_conditional):
        """Whatever the model, the ties and the level, the most probable label is in its set; equal labels go together."""
        rng = np.random.default_rng(seed)
        proba, y = softmax(rng.integers(-3, 4, (60, k)) * rng.choice([0.0, 1.0, 30.0])), rng.integers(0, k, 60)
        options = {"method": "aps", "confidence_level": level, "class_conditional": class_conditional}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)
            conformal = ConformalClassifier(**options).fit(proba, y, classes=range(k))
            columns = rng.permutation(k)
            other = ConformalClassifier(**options).fit(proba[:, columns], y, classes=columns.tolist())
        sets = conformal.predict_set(proba)
        assert sets[proba == proba.max(axis=1, keepdims=True)].all()
        assert (other.predict_set(proba[:, columns]) == sets[:, columns]).all()
        if not class_conditional:
            for row, own in zip(proba, sets, strict=True):
                assert all(len(set(own[row == value])) == 1 for value in row)

    def test_the_score_of_aps(self):
        """It is the mass strictly above the label, the same for labels of equal probability."""
        proba = np.array([[0.2, 0.5, 0.2, 0.1]])
        scores = [0.5, 0.0, 0.5, 0.9]
        for label, score in enumerate(scores):
            conformal = ConformalClassifier(method="aps", confidence_level=0.5).fit(proba, [label], classes=range(4))
            assert conformal.quantile_ == pytest.approx(score)
            assert conformal.predict_set(proba)[0].tolist() == [other <= score for other in scores]

    @pytest.mark.parametrize("n", [40, 300])
    @pytest.mark.parametrize("class_conditional", [False, True])
    def test_randomized_coverage_is_exact(self, n, class_conditional):
        """With a random share of the label's own mass, a model that is nearly always right is not covered more than asked."""
        covered = []
        for seed in range(150):
            rng = np.random.default_rng([seed, n])
            p = 1 / (1 + np.exp(-rng.normal(0, 6, n + 200)))
            proba, y = np.column_stack([1 - p, p]), (rng.random(n + 200) < p).astype(int)
            options = {"confidence_level": 0.8, "class_conditional": class_conditional, "random_state": seed}
            conformal = ConformalClassifier(method="aps", randomized=True, **options).fit(proba[:n], y[:n])
            covered.append(conformal.predict_set(proba[n:])[np.arange(200), y[n:]].mean())
        error = np.std(covered) / math.sqrt(150)
        # The smaller class has more than a third of the rows.
        assert 0.8 - 3 * error < np.mean(covered) < 0.8 + 1 / ((n / 3 if class_conditional else n) + 1) + 3 * error

    def test_random_states(self):
        """A fitted object gives the same rows the same sets, and the same state gives the same object."""
        y, proba = multi()
        conformal = ConformalClassifier(method="aps", randomized=True, random_state=0).fit(proba[:500], y[:500])
        again = clone(conformal).fit(proba[:500], y[:500])
        assert again.quantile_ == conformal.quantile_
        assert (again.predict_set(proba) == conformal.predict_set(proba)).all()
        assert (conformal.predict_set(proba[:100]) == conformal.predict_set(proba)[:100]).all()
        other = clone(conformal).set_params(random_state=1).fit(proba[:500], y[:500])
        assert (other.predict_set(proba) != conformal.predict_set(proba)).any()
        restored = pickle.loads(pickle.dumps(conformal))
        assert (restored.predict_set(proba) == conformal.predict_set(proba)).all()

    @pytest.mark.parametrize("method", ["lac", "aps"])
    def test_a_rare_class_is_covered(self, method):
        """At one row in a hundred a marginal guarantee leaves the rare class out; a class-conditional one holds for it."""
        rng = np.random.default_rng(0)
        evidence = rng.normal(size=40_000) * 2 - 6.5
        y = (rng.random(40_000) < 1 / (1 + np.exp(-evidence))).astype(int)
        proba = softmax(np.column_stack([np.zeros(40_000), evidence]))
        rare = y[20_000:] == 1
        marginal = ConformalClassifier(method=method, confidence_level=0.95).fit(proba[:20_000], y[:20_000])
        assert marginal.predict_set(proba[20_000:])[rare, 1].mean() < 0.4
        own = clone(marginal).set_params(class_conditional=True).fit(proba[:20_000], y[:20_000])
        sets = own.predict_set(proba[20_000:])
        assert own.quantile_.shape == (2,)
        assert sets[rare, 1].mean() == pytest.approx(0.95, abs=0.04)
        assert sets[~rare, 0].mean() > 0.94

    def test_a_class_with_too_few_rows(self):
        """It is in every set, whatever its probability, and the warning names it and its rows; others are decided."""
        y, proba = multi()
        kept = np.r_[np.flatnonzero(y != 2)[:300], np.flatnonzero(y == 2)[:5]]
        names = np.array(["a", "b", "c", "d"])
        with pytest.warns(
            CalibrationWarning, match=r"the class 'c' \(5 rows\), so every set holds it; at least 9 of each"
        ):
            conformal = ConformalClassifier(class_conditional=True).fit(proba[kept], names[y[kept]], classes=names)
        sets = conformal.predict_set(proba)
        assert sets[:, 2].all()
        assert not sets[:, [0, 1, 3]].all()
        with pytest.warns(CalibrationWarning, match=r"'c' \(0 rows\)"):
            without = ConformalClassifier(class_conditional=True).fit(
                proba[kept[:300]], names[y[kept[:300]]], classes=names
            )
        assert without.predict_set(proba)[:, 2].all()

    def test_with_an_estimator(self):
        """Rows go through a fitted classifier, and its classes name the columns, also those absent from y."""
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(300, 2)), np.array(["a", "b", "c"])[rng.integers(0, 3, 300)]
        model = LogisticRegression().fit(X[:100], y[:100])
        without = y != "c"
        conformal = ConformalClassifier(model, method="lac").fit(X[without], y[without])
        assert conformal.classes_.tolist() == ["a", "b", "c"]
        assert conformal.predict_set(X).shape == (300, 3)
        assert (conformal.predict(X) == model.predict(X)).all()
        assert clone(conformal).method == "lac"

    def test_on_a_calibrator(self):
        """A calibrator is an estimator of score rows."""
        y, proba = multi()
        calibrator = TemperatureCalibrator().fit(np.log(proba[:500]), y[:500])
        conformal = ConformalClassifier(calibrator, confidence_level=0.8).fit(np.log(proba[500:1000]), y[500:1000])
        sets = conformal.predict_set(np.log(proba[1000:]))
        assert sets[np.arange(2000), y[1000:]].mean() == pytest.approx(0.8, abs=0.05)

    def test_too_few_rows(self):
        """Every set holds every label, and the warning says how many rows are needed."""
        y, proba = multi()
        with pytest.warns(CalibrationWarning, match="8 labelled rows are too few for confidence 0.9.*at least 9"):
            conformal = ConformalClassifier().fit(proba[:8], y[:8], classes=range(4))
        assert conformal.predict_set(proba).all()
        assert np.isfinite(ConformalClassifier().fit(proba[:9], y[:9], classes=range(4)).quantile_)

    @pytest.mark.parametrize(
        ("options", "proba", "y", "match"),
        [
            ({"method": "raps"}, [[0.5, 0.5]], [0], "method='raps' is unknown"),
            ({"confidence_level": 90}, [[0.5, 0.5]], [0], "confidence_level=90"),
            ({"randomized": True}, [[0.5, 0.5]], [0], "randomized=True splits the mass.*use method='aps'"),
            ({}, [[0.5, 0.4]], [0], "sums to 0.9"),
            ({}, [[0.5, 0.5]], [2], "is not a column number"),
            ({}, [[0.5, 0.5]], [0, 1], "2 labels and proba 1 rows"),
        ],
    )
    def test_refused(self, options, proba, y, match):
        """Bad parameters, probabilities and labels are named."""
        with pytest.raises(InputError, match=match):
            ConformalClassifier(**options).fit(proba, y)

    def test_other_columns_at_predict(self):
        """Probabilities of another number of classes are refused."""
        y, proba = multi()
        conformal = ConformalClassifier().fit(proba, y)
        with pytest.raises(InputError, match="2 columns; expected 4"):
            conformal.predict_set([[0.5, 0.5]])
