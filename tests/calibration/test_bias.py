"""Tests of the label-bias corrections that need no labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from llmclf.calibration import BiasCorrector, make_bias
from llmclf.errors import CalibrationWarning, InputError
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import log_loss

CONTENT_FREE = ["contextual", "domain"]
METHODS = [*CONTENT_FREE, "batch_logmean", "batch_meanlog", "ucpa", "em"]


def four_classes():
    """3000 rows of over-confident, biased log-probabilities of four classes; the golden values belong to them."""
    rng = np.random.default_rng(20260101)
    truth = log_softmax(rng.normal(size=(3000, 4)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1]))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(3000)[:, None]).sum(axis=1).clip(0, 3)
    return log_softmax(truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2])), y


class TestGoldenValues:
    def test_ucpa(self):
        """The bias for a uniform prior is that of the authors' code at convergence."""
        scores, _ = four_classes()
        found = BiasCorrector("ucpa").fit(scores).bias_
        assert found == pytest.approx([-1.42503019, 0.18440885, 1.38199057, -0.14136923], abs=1e-7)

    def test_ucpa_with_the_true_frequencies(self):
        """With the labels' frequencies it is the bias of a fit on labels, and it lowers the log loss furthest."""
        scores, y = four_classes()
        corrector = BiasCorrector("ucpa", target_prior=np.bincount(y) / len(y)).fit(scores)
        assert corrector.bias_ == pytest.approx([-0.77809775, 0.1650017, 0.73290271, -0.11980666], abs=1e-7)
        assert log_loss(y, softmax(corrector.transform(scores))) == pytest.approx(1.0940, abs=5e-5)

    def test_em(self):
        """The estimated prior is that of quapy's EM at convergence."""
        scores, _ = four_classes()
        found = BiasCorrector("em").fit(scores).prior_
        assert found == pytest.approx([0.47914211, 0.19735814, 0.08064882, 0.24285093], abs=1e-8)

    @pytest.mark.parametrize("method", CONTENT_FREE)
    def test_contextual(self, method):
        """Label probabilities are averaged before they are normalised: the published example, by hand."""
        rows = np.log([[0.30, 0.10, 0.05], [0.24, 0.12, 0.04], [0.36, 0.08, 0.06]])
        corrector = BiasCorrector(method).fit(rows)
        assert softmax(-corrector.bias_) == pytest.approx([2 / 3, 2 / 9, 1 / 9], abs=1e-12)
        corrected = softmax(corrector.transform(np.log([[0.5, 0.3, 0.2]])))
        assert corrected[0] == pytest.approx([0.192308, 0.346154, 0.461538], abs=1e-6)

    @pytest.mark.parametrize(
        ("method", "mean", "loss"),
        [
            ("batch_logmean", [0.340, 0.233, 0.176, 0.252], 1.0995),
            ("batch_meanlog", [0.248, 0.252, 0.250, 0.250], 1.1351),
            ("ucpa", [0.25] * 4, 1.1336),
        ],
    )
    def test_two_things_are_called_batch_calibration(self, method, mean, loss):
        """The mean of probabilities under-corrects a confident model, the mean of log-probabilities does not."""
        scores, y = four_classes()
        proba = softmax(BiasCorrector(method).fit(scores).transform(scores))
        assert proba.mean(axis=0) == pytest.approx(mean, abs=6e-4)
        assert log_loss(y, proba) == pytest.approx(loss, abs=6e-5)


class TestLaws:
    @pytest.mark.parametrize("method", METHODS)
    @given(st.integers(0, 2**32 - 1), st.integers(2, 5))
    @settings(max_examples=25, deadline=None)
    def test_rows_columns_weights_and_constants(self, method, seed, k):
        """Order of rows, order of columns, row constants and repetition instead of weights change nothing."""
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(40, k)) * 2 + rng.normal(size=k)
        prior = rng.dirichlet(np.full(k, 5.0))
        corrector = BiasCorrector(method, target_prior=prior)

        def found(corrector, scores, **options):
            # The logarithm of a prior that is nearly 0 magnifies rounding, so priors are compared, not biases.
            fitted = corrector.fit(scores, **options)
            return fitted.prior_ if method == "em" else fitted.bias_

        bias = found(corrector, scores)
        rows, columns = rng.permutation(40), rng.permutation(k)
        shuffled = found(BiasCorrector(method, target_prior=prior[columns]), scores[rows][:, columns])
        assert shuffled == pytest.approx(bias[columns], abs=1e-7)
        if method not in CONTENT_FREE:
            moved = scores + rng.normal(0, 50, (40, 1))
            assert found(corrector, moved) == pytest.approx(bias, abs=1e-7)
        repeats = rng.permutation(np.arange(40) % 3)
        weighted = found(corrector, scores, sample_weight=repeats)
        repeated = found(corrector, scores.repeat(repeats, axis=0))
        assert weighted == pytest.approx(repeated, abs=1e-7)

    @given(st.integers(0, 2**32 - 1), st.integers(2, 5))
    @settings(max_examples=25, deadline=None)
    def test_ucpa_reaches_its_prior_and_stays_there(self, seed, k):
        """After the correction the mean probability is the prior; correcting again changes nothing."""
        rng = np.random.default_rng(seed)
        scores, prior = rng.normal(size=(50, k)) * 3, rng.dirichlet(np.full(k, 5.0))
        corrector = BiasCorrector("ucpa", target_prior=prior)
        corrected = corrector.fit(scores).transform(scores)
        assert softmax(corrected).mean(axis=0) == pytest.approx(prior, abs=1e-9)
        assert clone(corrector).fit(corrected).bias_ == pytest.approx(np.zeros(k), abs=1e-8)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_row_alone_is_corrected_as_in_the_crowd(self, method):
        """The bias is fitted once: the company of a row at transform changes nothing."""
        scores, _ = four_classes()
        corrector = BiasCorrector(method).fit(scores)
        assert (corrector.transform(scores[:1]) == corrector.transform(scores)[:1]).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_bias_sums_to_zero(self, method):
        """Of all biases with the same effect, the one with sum 0 is kept."""
        assert BiasCorrector(method).fit(four_classes()[0]).bias_.sum() == pytest.approx(0, abs=1e-12)


class TestDictionary:
    @pytest.mark.parametrize("method", METHODS)
    def test_round_trip_through_json(self, method):
        """What JSON gives back corrects as before, to the last digit."""
        scores, _ = four_classes()
        corrector = BiasCorrector(method, target_prior=[0.1, 0.2, 0.3, 0.4]).fit(scores)
        again = BiasCorrector.from_dict(json.loads(json.dumps(corrector.to_dict())))
        assert (again.transform(scores) == corrector.transform(scores)).all()
        assert (again.prior_ == corrector.prior_).all()

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"method": "magic"}, "method='magic'"),
            ({"bias": [0.0, "1"]}, "bias="),
            ({"prior": [0.5, 0.2, 0.3]}, "prior="),
            ({"more": 1}, "exactly the entries"),
        ],
    )
    def test_bad_descriptions_are_refused(self, change, match):
        """An entry that no fit could have given is named."""
        with pytest.raises(InputError, match=match):
            BiasCorrector.from_dict({"method": "em", "bias": [0.0, 0.0], "prior": [0.5, 0.5], **change})


def test_a_label_that_was_not_seen():
    """-inf counts as 16 nats below the best label of its row, and that is said."""
    scores = np.log([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]])
    lost, floored = scores.copy(), scores.copy()
    lost[0, 2], floored[0, 2] = -np.inf, scores[0, 0] - 16
    with pytest.warns(CalibrationWarning, match=r"1 of 2 rows \(the first: row 0\) hold -inf"):
        fitted = BiasCorrector("batch_meanlog").fit(lost)
    assert fitted.bias_ == pytest.approx(BiasCorrector("batch_meanlog").fit(floored).bias_, abs=1e-12)


class TestMakeBias:
    def test_names(self):
        """Every method is a name; "batch" is the form of the paper's text."""
        assert {make_bias(method).method for method in METHODS} == set(METHODS)
        assert make_bias("batch").method == "batch_meanlog"
        assert make_bias(None) is None

    def test_a_transformer_is_cloned(self):
        """The caller's own object is never fitted."""
        own = BiasCorrector("em")
        assert make_bias(own) is not own

    @pytest.mark.parametrize("spec", ["magic", 3, BiasCorrector, object()])
    def test_anything_else_is_refused(self, spec):
        """The message lists the names."""
        with pytest.raises(InputError, match="is not a correction; expected None, one of .*'contextual'"):
            make_bias(spec)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "scores", "match"),
        [
            ({"method": "batch"}, [[0.0, 1.0]], "method='batch' is unknown.*'batch_logmean', 'batch_meanlog'"),
            ({"target_prior": [0.5, 0.6]}, [[0.0, 1.0]], "sum to 1"),
            ({"target_prior": [1.0, 0.0]}, [[0.0, 1.0]], "positive frequencies"),
            ({"target_prior": [0.2, 0.3, 0.5]}, [[0.0, 1.0]], "expected 2 positive"),
            ({}, [[0.0, np.nan]], "NaN"),
            ({}, [[0.0, np.inf]], "row 0 of the scores holds inf"),
            ({}, [[-np.inf, -np.inf]], "row 0 of the scores is -inf throughout"),
            ({}, [[0.0]], "minimum of 2"),
            ({}, [[0.3, 0.7], [0.9, 0.1]], "the scores are probabilities"),
        ],
    )
    def test_refused(self, options, scores, match):
        """The message names the value and what was expected."""
        with pytest.raises(InputError, match=match):
            BiasCorrector(**options).fit(scores)

    def test_a_class_without_probability_is_reported(self):
        """A prior that no finite bias reaches in good time is a warning, not a silent wrong number."""
        scores = np.array([[0.0, -2000.0], [0.0, -1e6]])
        with pytest.warns(CalibrationWarning, match="did not converge"):
            BiasCorrector("ucpa", target_prior=[0.4, 0.6]).fit(scores)


@parametrize_with_checks([BiasCorrector(method) for method in METHODS], xfail_strict=True)
@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
def test_scikit_learn_checks(estimator, check):
    """scikit-learn's own checks pass, all of them."""
    check(estimator)


class TestWeightsAndExtremes:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("unit", [1 / 40, 1e-300, 1e300])
    def test_weights_have_no_unit(self, method, unit):
        """Only the ratios of the weights matter, so weights that sum to 1 do no harm."""
        scores = four_classes()[0][:40]
        weights = np.arange(40) + 0.5
        expected = BiasCorrector(method).fit(scores, sample_weight=weights).bias_
        found = BiasCorrector(method).fit(scores, sample_weight=weights / weights.sum() * unit).bias_
        assert found == pytest.approx(expected, abs=1e-7)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("value", [1e300, -1e300, -3.4e38])
    def test_scores_that_are_no_log_probabilities(self, method, value):
        """Masks and overflows are refused with their row."""
        scores = four_classes()[0][:40]
        scores[7, 2] = value
        with pytest.raises(InputError, match="row 7 of the scores goes from .* not further apart"):
            BiasCorrector(method).fit(scores)

    def test_moved_to_other_frequencies(self):
        """A bias for one prior becomes that for another by the difference of their logarithms."""
        scores = four_classes()[0]
        prior = [0.1, 0.2, 0.3, 0.4]
        moved = BiasCorrector("batch_meanlog").fit(scores).move_to(prior)
        assert moved.bias_ == pytest.approx(BiasCorrector("batch_meanlog", prior).fit(scores).bias_, abs=1e-12)
        assert moved.prior_ == pytest.approx(prior)
        with pytest.raises(InputError, match=r"prior=\[0.5, 0.5\]; expected 4 positive frequencies"):
            moved.move_to([0.5, 0.5])
