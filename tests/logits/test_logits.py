"""Tests of the arithmetic on logits, held to transformers' processors, to scipy, and to the laws that each has."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import llmclf.logits
from llmclf.errors import InputError
from llmclf.logits import (
    Processor,
    add_logit_bias,
    apply_chain,
    apply_temperature,
    chain,
    entropy,
    guide,
    log_softmax,
    logsumexp,
    min_p,
    perplexity,
    presence_and_frequency_penalty,
    repetition_penalty,
    sample,
    sequence_logprob,
    softmax,
    top_k,
    top_p,
)

INF, NAN = np.inf, np.nan

ONE_FINITE = [-INF, -INF, 3.0, -INF, -INF, -INF]
HARD_ROWS = [
    [1e4, -1e4, 0.0, 1e4, -1e4, 5.0],
    [1e4, 1e4 - 1, 1e4 - 2, -INF, -INF, 1e4 - 3],
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
    [1.0, 3.0, 3.0, -INF, 1.0, 3.0],
    ONE_FINITE,
    [-1e4, -1e4, -1e4 + 1, -1e4 - 1, -1e4, -INF],
    [0.0, -0.0, 1e-300, -1e-300, 0.0, -0.0],
]


def given_logits(seed=0):
    """Logits of one, two and three dimensions, random and hard ones."""
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(6, 50)) * 5
    masked = np.where(rng.random((8, 30)) < 0.3, -INF, rng.normal(size=(8, 30)) * 3)
    ties = rng.integers(-3, 4, size=(10, 20)).astype(float)
    return {
        "one row": rng.normal(size=12),
        "rows": wide,
        "masked": masked,
        "ties": ties,
        "hard": np.array(HARD_ROWS),
        "three dimensions": np.stack([np.array(HARD_ROWS), rng.normal(size=(7, 6)) * 4]),
    }


TABLES = given_logits()
table = pytest.mark.parametrize("x", TABLES.values(), ids=TABLES.keys())


def rows_of(x):
    return x.reshape(-1, x.shape[-1])


def theirs(processor, x, ids=None):
    """What a processor of transformers makes of logits, row by row as it needs them."""
    import torch

    rows = torch.from_numpy(rows_of(x).copy())
    ids = torch.zeros((len(rows), 1), dtype=torch.long) if ids is None else torch.as_tensor(ids)
    return processor(ids, rows).numpy().reshape(x.shape)


def close(found, expected):
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


finite = st.floats(-30, 30, width=32)
rows = arrays(np.float64, st.integers(1, 12), elements=finite)
masked_rows = arrays(np.float64, st.integers(1, 12), elements=finite | st.just(-INF)).filter(lambda x: x.max() > -INF)
shares = st.floats(0.01, 1.0)


def kept(x):
    return set(np.flatnonzero(x > -INF).tolist())


class TestAgainstScipy:
    @table
    def test_softmax(self, x):
        """Sums, log-probabilities and probabilities are scipy's, over any axis."""
        close(logsumexp(x), scipy.special.logsumexp(x, axis=-1))
        close(log_softmax(x), scipy.special.log_softmax(x, axis=-1))
        close(softmax(x), scipy.special.softmax(x, axis=-1))
        finite_only = np.maximum(x, -1e4)
        close(log_softmax(finite_only, axis=0), scipy.special.log_softmax(finite_only, axis=0))
        close(logsumexp(x, keepdims=True), scipy.special.logsumexp(x, axis=-1, keepdims=True))

    @table
    def test_entropy(self, x):
        """Entropy is scipy's, with 0 log 0 = 0."""
        close(np.asarray(entropy(x)), scipy.stats.entropy(scipy.special.softmax(x, axis=-1), axis=-1))

    def test_entropy_of_certainty(self):
        """One finite logit has entropy 0, and not -0; equal ones have the logarithm of their number."""
        assert entropy(ONE_FINITE) == 0
        assert not np.signbit(entropy([3.0]))
        assert entropy(np.zeros(8)) == pytest.approx(math.log(8), abs=1e-14)

    def test_sequence_logprob(self):
        """A sequence has the sum of its tokens' log-probabilities, for stacks of sequences too."""
        rng = np.random.default_rng(3)
        x, ids = rng.normal(size=(2, 4, 5, 7)), rng.integers(7, size=(2, 4, 5))
        expected = np.take_along_axis(scipy.special.log_softmax(x, axis=-1), ids[..., None], -1)[..., 0].sum(-1)
        close(sequence_logprob(x, ids), expected)
        close(np.asarray(sequence_logprob(x[0, 0], ids[0, 0].tolist())), expected[0, 0])

    def test_sequences_at_the_limits(self):
        """No tokens have probability 1, and a masked token has probability 0."""
        assert sequence_logprob(np.zeros((3, 0, 5)), np.zeros((3, 0))).tolist() == [0.0, 0.0, 0.0]
        assert sequence_logprob([ONE_FINITE], [0]) == -INF
        assert sequence_logprob([ONE_FINITE], [2]) == 0

    def test_perplexity(self):
        """Perplexity is the inverse of the geometric mean of the probabilities, from 1 to infinity."""
        p = np.random.default_rng(4).uniform(0.01, 1, size=(3, 5))
        close(perplexity(np.log(p)), 1 / scipy.stats.gmean(p, axis=-1))
        assert perplexity([[0.0, 0.0], [-INF, 0.0], [-1e4, -1e4]]).tolist() == [1.0, INF, INF]
        assert perplexity(log_softmax(np.zeros((6, 9)))[:, 0]) == pytest.approx(9)


class TestAgainstTransformers:
    @table
    @pytest.mark.parametrize("temperature", [0.01, 0.7, 1.0, 3.0, 1e6])
    def test_temperature(self, x, temperature):
        """Division is transformers' division, to the last bit."""
        from transformers import TemperatureLogitsWarper

        found = apply_temperature(x, temperature)
        np.testing.assert_array_equal(found, theirs(TemperatureLogitsWarper(temperature), x))

    @table
    @pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 1000])
    def test_top_k(self, x, k):
        """The same tokens are kept, with all ties at the border."""
        from transformers import TopKLogitsWarper

        np.testing.assert_array_equal(top_k(x, k), theirs(TopKLogitsWarper(k), x))

    @table
    @pytest.mark.parametrize("p", [1e-9, 0.1, 0.31, 0.52, 0.83, 0.95, 0.999])
    def test_top_p(self, x, p):
        """The kept logits are the same; which of several equal ones, the two libraries settle otherwise."""
        from transformers import TopPLogitsWarper

        sums = np.cumsum(np.sort(softmax(x), axis=-1)[..., ::-1], axis=-1)
        assert np.abs(sums - p).min() > 1e-9, "a true borderline case, which rounding decides"
        found, expected = top_p(x, p), theirs(TopPLogitsWarper(p), x)
        np.testing.assert_array_equal(np.sort(found), np.sort(expected))
        for one, other, row in zip(rows_of(found), rows_of(expected), rows_of(x), strict=True):
            if len(np.unique(row)) == len(row):
                np.testing.assert_array_equal(one, other)

    @table
    @pytest.mark.parametrize("p", [1e-9, 0.05, 0.3, 0.77, 1.0])
    def test_min_p(self, x, p):
        """The same tokens are kept."""
        from transformers import MinPLogitsWarper

        gap = np.abs(x - x.max(axis=-1, keepdims=True) - math.log(p))
        clear = (gap == 0) | (gap > 1e-9)  # transformers compares probabilities, where 1e-300 and 0 are the same logit
        np.testing.assert_array_equal(min_p(x, p)[clear], theirs(MinPLogitsWarper(p), x)[clear])

    @table
    @pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 10.0])
    def test_repetition_penalty(self, x, penalty):
        """Each token that is there is punished once, for ids of each row and for ids of all."""
        from transformers import RepetitionPenaltyLogitsProcessor

        lead, n = x.shape[:-1], x.shape[-1]
        ids = np.random.default_rng(5).integers(n, size=(*lead, 5))
        ids[..., 1] = ids[..., 0]
        processor = RepetitionPenaltyLogitsProcessor(penalty)
        np.testing.assert_array_equal(repetition_penalty(x, ids, penalty), theirs(processor, x, rows_of(ids)))
        same = np.array([3, 1, 1])
        expected = theirs(processor, x, np.tile(same, (len(rows_of(x)), 1)))
        np.testing.assert_array_equal(repetition_penalty(x, same, penalty), expected)

    @table
    def test_logit_bias(self, x):
        """An offset is a sequence bias of one token."""
        from transformers import SequenceBiasLogitsProcessor

        bias = {0: 2.5, 3: -1.25, 5: -100.0}
        found = add_logit_bias(x, bias)
        close(found, theirs(SequenceBiasLogitsProcessor({(token,): value for token, value in bias.items()}), x))

    @pytest.mark.parametrize("gamma", [-0.5, 0.0, 0.3, 1.0, 1.5, 8.0])
    def test_guidance(self, gamma):
        """Guidance is transformers' own, which asks a model for the unconditional logits."""
        import torch
        from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor

        rng = np.random.default_rng(6)
        c, u = rng.normal(size=(2, 40)) * 4, rng.normal(size=(2, 40)) * 4
        c[0, :2] = 1e4, -1e4

        class Model:
            def __call__(self, ids, **_):
                return type("Output", (), {"logits": torch.from_numpy(u)[:, None], "get": lambda *_: None})()

        processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(gamma, Model())
        np.testing.assert_allclose(guide(c, u, gamma), theirs(processor, c), rtol=1e-9, atol=1e-9)


class TestLaws:
    @given(masked_rows, st.floats(-1e3, 1e3), shares, st.integers(1, 12))
    def test_a_shift_changes_nothing(self, x, shift, p, k):
        """A constant on all logits changes no probability and no set of kept tokens."""
        x = np.round(x, 2)
        sums = np.cumsum(np.sort(softmax(x))[::-1])
        assume(np.abs(sums - p).min() > 1e-9)
        assume(np.abs(x - x.max() - math.log(p)).min() > 1e-9)
        shift = float(round(shift * 64)) / 64
        moved = x + shift
        assume(len(np.unique(moved)) == len(np.unique(x)))  # ties that rounding makes
        np.testing.assert_allclose(softmax(moved), softmax(x), rtol=1e-9, atol=1e-12)
        for cut in (lambda y: top_k(y, k), lambda y: top_p(y, p), lambda y: min_p(y, p)):
            assert kept(cut(moved)) == kept(cut(x))

    def test_odds(self):
        """A logit of 10 against one of 5 is e^5 = 148.413 times as likely, whatever else there is."""
        p = softmax([10.0, 5.0, 7.5, -INF])
        assert p[0] / p[1] == pytest.approx(148.413, abs=5e-4)

    @given(masked_rows, shares)
    def test_nucleus_is_smallest(self, x, p):
        """The nucleus reaches p; without its least likely token it does not; no token outside is likelier than one inside."""
        found = top_p(x, p)
        inside, probability = sorted(kept(found)), softmax(x)
        assert (found[inside] == x[inside]).all()
        if p == 1:
            assert inside == sorted(kept(x))
            return
        assert probability[inside].sum() >= p - 1e-12
        assert probability[inside].sum() - probability[inside].min() < p + 1e-12
        outside = np.delete(x, inside)
        assert outside.max(initial=-INF) <= x[inside].min()

    def test_nucleus_at_its_border(self):
        """A set that reaches p exactly is the nucleus; the token after it is out."""
        x = np.log([0.5, 0.25, 0.125, 0.125])
        assert softmax(x)[:2].sum() == 0.75
        assert kept(top_p(x, 0.75)) == {0, 1}
        assert kept(top_p(x, np.nextafter(0.75, 1))) == {0, 1, 2}
        assert kept(top_p(x, 0.5)) == {0}

    def test_nucleus_of_equals(self):
        """Of equal tokens those with the lowest ids are in the nucleus."""
        assert kept(top_p([0.0, 1.0, 1.0, 1.0, 1.0], 0.4)) == {1, 2}
        assert kept(top_p(np.zeros(100), 0.0999)) == set(range(10))

    def test_min_p_at_its_border(self):
        """A token with exactly p times the largest probability is kept, at p = 1 all the likeliest."""
        assert kept(min_p([0.0, math.log(0.25), math.log(0.25) - 1e-9], 0.25)) == {0, 1}
        assert kept(min_p([1.0, 2.0, 2.0, np.nextafter(2.0, 0)], 1)) == {1, 2}

    @given(masked_rows, st.integers(1, 14))
    def test_top_k_is_monotone(self, x, k):
        """A larger k keeps the tokens of a smaller one, each at least the k likeliest that are not masked."""
        smaller, larger = kept(top_k(x, k)), kept(top_k(x, k + 1))
        assert smaller <= larger
        assert len(smaller) >= min(k, len(kept(x)))
        threshold = np.sort(x)[::-1][min(k, len(x)) - 1]
        assert smaller == kept(np.where(x >= threshold, x, -INF))

    @given(masked_rows, st.floats(0.05, 20), st.floats(0.05, 20))
    def test_temperatures_compose(self, x, first, second):
        """T1 and then T2 is their product."""
        found = apply_temperature(apply_temperature(x, first), second)
        np.testing.assert_allclose(found, apply_temperature(x, first * second), rtol=1e-12)

    @given(rows, finite, finite)
    def test_bias_adds(self, x, first, second):
        """Two offsets are their sum, in odds the product of their exponentials, and their order is irrelevant."""
        found = add_logit_bias(add_logit_bias(x, {0: first}), {0: second})
        np.testing.assert_allclose(found, add_logit_bias(x, {0: first + second}), atol=1e-12)
        if len(x) > 1:
            a, b = add_logit_bias(x, {0: first, 1: second}), add_logit_bias(x, {1: second, 0: first})
            np.testing.assert_array_equal(a, b)
            odds = log_softmax(a)[0] - log_softmax(a)[1]
            assert odds == pytest.approx(x[0] - x[1] + first - second, abs=1e-9)

    @given(arrays(np.float64, (2, 5), elements=finite), st.floats(-3, 3), st.floats(-3, 3))
    def test_guidance_is_linear(self, pair, gamma, other):
        """Guidance at 0 and 1 is each side's distribution, and between and beyond them it is a line, up to a constant."""
        c, u = pair
        np.testing.assert_array_equal(guide(c, u, 1), log_softmax(c))
        np.testing.assert_array_equal(guide(c, u, 0), log_softmax(u))
        mean = (guide(c, u, gamma) + guide(c, u, other)) / 2
        off = guide(c, u, (gamma + other) / 2) - mean
        np.testing.assert_allclose(off, off[0], atol=1e-9)
        np.testing.assert_allclose(
            softmax(guide(c + 3, u - 7, gamma)), softmax(guide(c, u, gamma)), rtol=1e-9, atol=1e-12
        )

    def test_guidance_follows_the_condition(self):
        """Above 1, what the condition makes likelier becomes likelier still: p ~ u (c/u)^gamma, by hand."""
        c, u = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
        expected = u * (c / u) ** 2.5
        close(softmax(guide(np.log(c), np.log(u), 2.5)), expected / expected.sum())

    def test_masks_in_guidance(self):
        """A token masked on either side is masked; at 0 and 1 only one side counts."""
        c, u = np.array([0.0, -INF, 1.0, -INF]), np.array([0.0, 1.0, -INF, -INF])
        assert kept(guide(c, u, 1.5)) == kept(guide(c, u, -1.0)) == kept(guide(c, u, 0.5)) == {0}
        assert kept(guide(c, u, 1)) == {0, 2}
        assert kept(guide(c, u, 0)) == {0, 1}

    def test_guidance_broadcasts(self):
        """One unconditional row guides all rows."""
        c, u = TABLES["rows"], TABLES["rows"][0]
        for gamma in (0, 1, 2.0):
            np.testing.assert_array_equal(guide(c, u, gamma), guide(c, np.tile(u, (len(c), 1)), gamma))

    def test_repetition_counts_once(self):
        """Positive logits are divided and negative ones multiplied, once each, and 0 and masked ones stay."""
        x = [4.0, -4.0, 0.0, -INF, 1.0]
        assert repetition_penalty(x, [0, 0, 0, 1, 2, 3], 2.0).tolist() == [2.0, -8.0, 0.0, -INF, 1.0]
        assert repetition_penalty(x, [], 2.0).tolist() == x
        assert repetition_penalty([x, x], [[], []], 2.0).tolist() == [x, x]
        assert repetition_penalty(x, np.array([4], dtype=np.uint8), 0.5).tolist() == [4.0, -4.0, 0.0, -INF, 2.0]

    def test_repetition_depends_on_the_zero(self):
        """The repetition penalty is not invariant to a shift: the same distribution, two results."""
        x = np.array([2.0, 1.0])
        before, after = repetition_penalty(x, [0], 2.0), repetition_penalty(x - 2, [0], 2.0)
        assert softmax(before)[0] == pytest.approx(0.5)
        assert softmax(after)[0] == pytest.approx(softmax(x)[0])

    @given(arrays(np.float64, 5, elements=finite), st.lists(st.integers(0, 4), max_size=9), finite, finite)
    def test_presence_and_frequency(self, x, ids, presence, frequency):
        """Every token loses `frequency` for each time that it is there, and `presence` if it is there at all."""
        expected = [x[i] - ids.count(i) * frequency - (presence if i in ids else 0) for i in range(5)]
        found = presence_and_frequency_penalty(x, ids, presence=presence, frequency=frequency)
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_penalties_row_by_row(self):
        """Ids with the leading shape of the logits belong to their own rows."""
        rng = np.random.default_rng(7)
        x, ids = rng.normal(size=(2, 3, 6)), rng.integers(6, size=(2, 3, 4))
        both = presence_and_frequency_penalty(x, ids, presence=0.5, frequency=-0.25)
        for place in np.ndindex(2, 3):
            one = presence_and_frequency_penalty(x[place], ids[place], presence=0.5, frequency=-0.25)
            np.testing.assert_array_equal(both[place], one)
            np.testing.assert_array_equal(
                repetition_penalty(x, ids, 2.0)[place], repetition_penalty(x[place], ids[place], 2.0)
            )


class TestLimits:
    def test_temperature_zero(self):
        """At 0 only the likeliest token is left, of equal ones that with the lowest id."""
        assert apply_temperature([1.0, 3.0, 3.0, -INF], 0).tolist() == [-INF, 3.0, -INF, -INF]
        assert kept(apply_temperature(np.zeros(5), 0.0)) == {0}

    def test_temperature_infinity(self):
        """At infinity all tokens that are not masked are equally likely."""
        assert apply_temperature([1.0, -1e4, -INF], INF).tolist() == [0.0, 0.0, -INF]

    @table
    def test_temperature_goes_to_its_limits(self, x):
        """Tiny temperatures share all among the likeliest, huge ones among all that are not masked."""
        coarse = np.round(x, 9)  # two logits that differ by 1e-300 are not yet at the limit for T=1e-300
        likeliest = coarse == coarse.max(axis=-1, keepdims=True)
        for tiny in (1e-300, 5e-324):
            expected = likeliest / likeliest.sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(softmax(apply_temperature(coarse, tiny)), expected, atol=1e-12)
        for huge in (1e12, 1e300, INF):
            expected = (x > -INF) / (x > -INF).sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(softmax(apply_temperature(x, huge)), expected, atol=1e-7)

    def test_overflow_only_shifts_its_row(self):
        """A row that would leave float64 is shifted, one that would not is divided as it is."""
        found = apply_temperature([[1e10, 1e10, 0.0], [1e-300, 2e-300, -INF], [-1e10, -2e10, -INF]], 1e-300)
        assert found.tolist() == [[0.0, 0.0, -INF], [1.0, 2.0, -INF], [0.0, -INF, -INF]]

    def test_one_finite_logit(self):
        """Where one token is possible, it stays, and every function says so without a warning."""
        x = np.array(ONE_FINITE)
        for found in (
            apply_temperature(x, 0),
            apply_temperature(x, 1),
            top_k(x, 1),
            top_k(x, 6),
            top_p(x, 1e-300),
            top_p(x, 1),
            min_p(x, 5e-324),
            min_p(x, 1),
            add_logit_bias(x, {0: 5.0, 1: -INF}),
            presence_and_frequency_penalty(x, [0, 1, 1], presence=1e308, frequency=-1e308),
        ):
            np.testing.assert_array_equal(found, x)
        assert kept(guide(x, np.zeros(6), 1e308)) == {2}
        assert softmax(x).tolist() == [0, 0, 1, 0, 0, 0]
        assert sample(x, 0) == sample(x, 0, method="gumbel") == 2

    def test_top_p_of_one_keeps_the_tail(self):
        """At p = 1 tokens stay whose probability is lost in the rounding of the sum; masked ones do not come back."""
        x = np.array([0.0, -50.0, -1e4, -INF])
        np.testing.assert_array_equal(top_p(x, 1), x)
        assert kept(top_p(x, np.nextafter(1, 0))) == {0}

    def test_guidance_beyond_float64(self):
        """A weight beyond float64's range leaves the token that gains most by the condition."""
        c, u = np.array([[0.0, 1.0, 2e4], [1.0, 0.0, -INF]]), np.array([[0.0, 2.0, 1e4], [0.0, 0.0, 0.0]])
        assert softmax(guide(c, u, 1e308)).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        assert softmax(guide(c, u, -1e308)).tolist() == [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]

    def test_guidance_beyond_float64_only_shifts_its_row(self):
        """A row beyond float64's range changes no other."""
        c, u = np.array([[0.0, 2e4], [1.0, 2.0]]), np.array([[0.0, 0.0], [3.0, 3.0]])
        both = guide(c, u, 2e304)
        assert kept(both[0]) == {1}
        np.testing.assert_array_equal(both[1], guide(c[1], u[1], 2e304))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
    def test_narrow_input(self, dtype):
        """Narrow types give float64, as exact as if they had been wide from the start."""
        x = np.array([[3, 1, 2, -4], [0, 0, 5, 5]], dtype=dtype)
        wide = x.astype(np.float64)
        for function in ALL_FUNCTIONS:
            found = function(x)
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, function(wide))

    def test_huge_logits(self):
        """Logits at the end of float64's range have distributions, without NaN and without a warning."""
        x = np.array([1.7e308, -1.7e308, -INF])
        for function in ALL_FUNCTIONS[1:]:
            assert not np.isnan(function(x)).any()
        assert softmax(x).tolist() == [1, 0, 0]
        assert logsumexp([INF, 800.0]) == INF

    def test_nan_rows_pass_through_softmax(self):
        """A row of NaN, which was not scored, stays NaN and leaves the others as they are."""
        x = np.array([[0.0, 0.0], [NAN, NAN], [NAN, 0.0]])
        for function in (softmax, log_softmax):
            found = function(x)
            assert np.isnan(found[1:]).all()
            assert np.isfinite(found[0]).all()
        assert np.isnan(logsumexp(x)).tolist() == np.isnan(entropy(x)).tolist() == [False, True, True]

    def test_logsumexp_of_nothing(self):
        """The sum of no probability has the logarithm -inf."""
        assert logsumexp([[-INF, -INF], [0.0, -INF]]).tolist() == [-INF, 0.0]

    def test_no_rows(self):
        """A table without rows gives one without rows."""
        empty = np.zeros((0, 4))
        for function in ALL_FUNCTIONS:
            assert function(empty).shape in ((0, 4), (0,))
        assert sample(empty, 0, size=3).shape == (3, 0)


ALL_FUNCTIONS = [
    lambda x: guide(x, x[..., ::-1], 1.5),
    logsumexp,
    log_softmax,
    softmax,
    entropy,
    lambda x: apply_temperature(x, 0),
    lambda x: apply_temperature(x, 0.3),
    lambda x: apply_temperature(x, INF),
    lambda x: top_k(x, 2),
    lambda x: top_k(x, 100),
    lambda x: top_p(x, 0.7),
    lambda x: top_p(x, 1),
    lambda x: min_p(x, 0.3),
    lambda x: add_logit_bias(x, {1: 0.5}),
    lambda x: add_logit_bias(x, {}),
    lambda x: repetition_penalty(x, [0, 1], 1.5),
    lambda x: repetition_penalty(x, [], 1.5),
    lambda x: presence_and_frequency_penalty(x, [0, 0], presence=0.5, frequency=0.25),
    lambda x: guide(x, x, 1),
    lambda x: guide(x, x, 0),
    lambda x: apply_chain(x, chain(temperature=2.0, top_k=2)),
    lambda x: apply_chain(x, ()),
]


class TestInputStays:
    @pytest.mark.parametrize("function", ALL_FUNCTIONS)
    def test_not_modified(self, function):
        """The input is as it was, and the result is another array, which may be written to."""
        x = np.random.default_rng(8).normal(size=(3, 6))
        before = x.copy()
        found = function(x)
        np.testing.assert_array_equal(x, before)
        assert not np.shares_memory(found, x)
        found[...] = 0
        np.testing.assert_array_equal(x, before)

    def test_a_processor_that_writes(self):
        """A processor of one's own that writes into what it gets does not reach the caller's logits."""

        def ban_first(logits, token_ids):
            logits[..., 0] = -INF
            return logits

        x = np.zeros(3)
        assert kept(apply_chain(x, [ban_first])) == {1, 2}
        assert x.tolist() == [0, 0, 0]


class TestSample:
    @pytest.mark.parametrize("method", ["inverse", "gumbel"])
    def test_shapes_and_seeds(self, method):
        """The same seed gives the same ids, in the shape of the rows with one axis before them for `size`."""
        x = TABLES["three dimensions"]
        one = sample(x, 1, method=method)
        assert one.shape == (2, 7)
        assert one.dtype == np.intp
        np.testing.assert_array_equal(one, sample(x, np.random.default_rng(1), method=method))
        many = sample(x, 1, size=40, method=method)
        assert many.shape == (40, 2, 7)
        np.testing.assert_array_equal(many, sample(x, 1, size=40, method=method))
        assert (many != sample(x, 2, size=40, method=method)).any()
        assert sample(x[0, 0], 1, method=method).shape == ()
        assert sample(x[0, 0], size=1, method=method).shape == (1,)
        np.testing.assert_array_equal(sample(x, 1, size=1, method=method)[0], one)

    @pytest.mark.parametrize("method", ["inverse", "gumbel"])
    def test_a_generator_moves_on(self, method):
        """A Generator is drawn from, so that its next draw differs; draws one by one are those made together."""
        x = np.zeros(50)
        random = np.random.default_rng(3)
        one_by_one = [int(sample(x, random, method=method)) for _ in range(20)]
        assert len(set(one_by_one)) > 5
        assert one_by_one == sample(x, 3, size=20, method=method).tolist()

    @pytest.mark.parametrize("method", ["inverse", "gumbel"])
    def test_frequencies(self, method):
        """Frequencies fit the softmax distribution, and masked tokens are never drawn (chi-square, fixed seed)."""
        x = np.array([[-INF, 0.0, 1.0, -INF, 2.0, -1.0, -INF], [3.0, -INF, -INF, 1.0, 1.0, 2.5, 0.0]])
        n = 40_000
        ids, p = sample(x, 11, size=n, method=method), softmax(x)
        for row in range(2):
            counts = np.bincount(ids[:, row], minlength=7)
            assert (counts[x[row] == -INF] == 0).all()
            possible = p[row] > 0
            assert scipy.stats.chisquare(counts[possible], n * p[row][possible]).pvalue > 0.01
        independent = np.zeros((7, 7))
        np.add.at(independent, (ids[:, 0], ids[:, 1]), 1)
        expected = n * np.outer(p[0], p[1])
        filled = expected > 5
        assert ((independent - expected)[filled] ** 2 / expected[filled]).sum() < scipy.stats.chi2.ppf(
            0.999, filled.sum()
        )

    def test_gumbel_in_pieces(self, monkeypatch):
        """How many random numbers are held at once changes no id."""
        x = TABLES["rows"]
        whole = sample(x, 5, size=30, method="gumbel")
        monkeypatch.setattr("llmclf.logits.sampling.AT_ONCE", 2 * x.size + 1)
        np.testing.assert_array_equal(whole, sample(x, 5, size=30, method="gumbel"))

    @pytest.mark.parametrize("u", [0.0, np.nextafter(1, 0), 0.25, 0.5])
    def test_masked_at_the_ends(self, u, monkeypatch):
        """Not even the least and the greatest random number draws a masked token."""

        class Fixed(np.random.Generator):
            def random(self, size):
                return np.full(size, u)

        rng = np.random.default_rng(9)
        x = np.concatenate((np.full((2000, 2), -INF), rng.normal(size=(2000, 5)), np.full((2000, 3), -INF)), axis=1)
        x[:, 4] = -INF
        ids = sample(x, Fixed(np.random.PCG64(0)))
        assert np.isfinite(np.take_along_axis(x, ids[:, None], 1)).all()

    def test_inverse_is_the_cumulative_distribution(self):
        """A point on a border belongs to the token after it."""

        class Fixed(np.random.Generator):
            def random(self, size):
                return np.array([0.0, 0.25, 0.49, 0.5, 0.75, 0.9])[:, None]

        found = sample(np.zeros(4), Fixed(np.random.PCG64(0)), size=6)
        assert found.tolist() == [0, 1, 1, 2, 3, 3]


class TestChain:
    def test_order(self):
        """Processors come in the documented order, that of transformers' generate, however they are written."""
        found = chain(
            min_p=0.1,
            top_p=0.9,
            top_k=5,
            temperature=0.7,
            frequency_penalty=0.25,
            presence_penalty=0.5,
            repetition_penalty=1.2,
            logit_bias={3: 1},
        )
        assert repr(found) == (
            "(logit_bias={3: 1.0}, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.25, temperature=0.7, "
            "top_k=5, top_p=0.9, min_p=0.1)"
        )
        assert chain() == ()

    def test_applied_one_by_one(self):
        """A chain is its functions one after the other, and gives transformers' result."""
        import torch
        import transformers as tf

        x, ids = TABLES["rows"], [3, 3, 7, 11]
        found = apply_chain(
            x,
            chain(
                logit_bias={7: 4.0},
                repetition_penalty=1.3,
                presence_penalty=0.5,
                frequency_penalty=0.25,
                temperature=0.7,
                top_k=20,
                top_p=0.9,
                min_p=0.02,
            ),
            ids,
        )
        by_hand = repetition_penalty(add_logit_bias(x, {7: 4.0}), ids, 1.3)
        by_hand = presence_and_frequency_penalty(by_hand, ids, presence=0.5, frequency=0.25)
        close(found, min_p(top_p(top_k(apply_temperature(by_hand, 0.7), 20), 0.9), 0.02))

        # The same chain without the penalties that transformers lacks.
        expected = torch.from_numpy(x.copy())
        for processor in (
            tf.SequenceBiasLogitsProcessor({(7,): 4.0}),
            tf.RepetitionPenaltyLogitsProcessor(1.3),
            tf.TemperatureLogitsWarper(0.7),
            tf.TopKLogitsWarper(20),
            tf.TopPLogitsWarper(0.9),
            tf.MinPLogitsWarper(0.02),
        ):
            expected = processor(torch.tensor([ids] * len(x)), expected)
        steps = chain(logit_bias={7: 4.0}, repetition_penalty=1.3, temperature=0.7, top_k=20, top_p=0.9, min_p=0.02)
        close(apply_chain(x, steps, ids), expected.numpy())

    def test_presence_and_frequency(self):
        """The two penalties of OpenAI's interface are two steps, which together are the function of both."""
        steps = chain(presence_penalty=0.5, frequency_penalty=0.125)
        assert apply_chain(np.zeros(3), steps, [0, 0, 1]).tolist() == [-0.75, -0.625, 0.0]
        assert [step.name for step in steps] == ["presence_penalty", "frequency_penalty"]

    def test_temperature_changes_the_nucleus(self):
        """A temperature before top-p and one after it keep different tokens; the chain has it before."""
        x = np.log([0.6, 0.3, 0.1])
        assert kept(top_p(apply_temperature(x, 3.0), 0.6)) == {0, 1}
        assert kept(apply_temperature(top_p(x, 0.6 - 1e-9), 3.0)) == {0}
        assert kept(apply_chain(x, chain(top_p=0.6, temperature=3.0))) == {0, 1}

    def test_bias_changes_the_penalty(self):
        """A bias before the repetition penalty is punished with the logit; the chain has it before."""
        assert repetition_penalty(add_logit_bias([1.0, 0.0], {0: 1.0}), [0], 2.0).tolist() == [1.0, 0.0]
        assert add_logit_bias(repetition_penalty([1.0, 0.0], [0], 2.0), {0: 1.0}).tolist() == [1.5, 0.0]
        assert apply_chain([1.0, 0.0], chain(repetition_penalty=2.0, logit_bias={0: 1.0}), [0]).tolist() == [1.0, 0.0]

    def test_top_k_comes_before_top_p(self):
        """Top-p measures what top-k has left."""
        x = np.log([0.4, 0.3, 0.2, 0.1])
        assert kept(apply_chain(x, chain(top_k=2, top_p=0.55))) == {0}
        assert kept(top_k(top_p(x, 0.55), 2)) == {0, 1}

    def test_min_p_does_not_measure_the_nucleus(self):
        """Min-p comes last, where the likeliest token is still the same."""
        x = np.log([0.5, 0.3, 0.2])
        assert kept(apply_chain(x, chain(top_p=0.75, min_p=0.7))) == {0}

    def test_own_bias_dict(self):
        """A chain keeps its own copy of the bias."""
        bias = {0: 1.0}
        steps = chain(logit_bias=bias)
        bias[0] = 50.0
        assert apply_chain([0.0, 0.0], steps).tolist() == [1.0, 0.0]

    def test_pickles(self):
        """A chain survives pickling, since jobs send it to other processes."""
        steps = pickle.loads(pickle.dumps(chain(logit_bias={1: 2.0}, temperature=0.5, top_k=2, top_p=0.9, min_p=0.1)))
        assert apply_chain([0.0, 1.0, 2.0], steps).tolist() == [-INF, 6.0, 4.0]

    def test_own_processors(self):
        """Any function of logits and token ids is a processor, and sees the ids."""
        seen = []

        def watch(logits, token_ids):
            seen.append(tuple(token_ids))
            return logits

        step = Processor("watch", 1, watch)
        assert repr(step) == "watch=1"
        found = apply_chain(np.array([1, 2]), [step, *chain(temperature=2.0), watch], (4, 5))
        assert found.tolist() == [0.5, 1.0]
        assert seen == [(4, 5), (4, 5)]


TWO_ROWS = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])


def broken(value, at=(1, 2)):
    x = TWO_ROWS.copy()
    x[at] = value
    return x


def shorter(logits, token_ids):
    return logits[..., 1:]


def gives(value):
    def custom(logits, token_ids):
        return value

    return custom


ERRORS = {
    # softmax
    "log_softmax all -inf": (
        lambda: log_softmax(broken(-INF, 1)),
        "row 1 is all -inf, which is not a distribution; leave at",
    ),
    "log_softmax +inf": (
        lambda: log_softmax(broken(INF)),
        "row 1 holds +inf, which is not a distribution; to make one token certain, mask",
    ),
    "softmax one row": (
        lambda: softmax([-INF, -INF]),
        "the logits are all -inf, which is not a distribution; leave at least",
    ),
    "softmax one row +inf": (lambda: softmax([INF, 0]), "the logits hold +inf, which"),
    "softmax axis 0": (lambda: softmax(broken(-INF, (slice(None), 2)), axis=0), "row 2 is all -inf"),
    "softmax 3-D": (lambda: softmax(np.array([TWO_ROWS, broken(-INF, 1)])), "row (1, 1) is all -inf"),
    "entropy": (lambda: entropy([-INF]), "all -inf"),
    "logsumexp of nothing": (
        lambda: logsumexp(np.zeros((2, 0))),
        "shape (2, 0), with no entries along axis -1; expected",
    ),
    # logits of processors
    "NaN": (
        lambda: top_k(broken(NAN), 1),
        "top_k: logits[1, 2]=nan; expected finite logits, or -inf for masked tokens",
    ),
    "+inf": (lambda: top_p(broken(INF), 0.5), "top_p: logits[1, 2]=inf; expected finite"),
    "NaN, one row": (lambda: min_p([0.0, NAN], 0.5), "min_p: logits[1]=nan; expected"),
    "all -inf": (
        lambda: apply_temperature(broken(-INF, 1), 1),
        "apply_temperature: logits are all -inf in row 1, so no token",
    ),
    "all -inf, one row": (
        lambda: sample([-INF]),
        "sample: logits are all -inf, so no token is possible; leave at least one",
    ),
    "all -inf, 3-D": (lambda: top_k([broken(-INF, 1)], 1), "all -inf in row (0, 1)"),
    "no vocabulary": (
        lambda: top_k(np.zeros((2, 0)), 1),
        "top_k: logits have shape (2, 0); expected (..., vocabulary)",
    ),
    "a number": (lambda: top_k(3.0, 1), "top_k: logits have shape (); expected"),
    "ragged": (
        lambda: top_k([[1.0], [1.0, 2.0]], 1),
        "top_k: logits are not an array of numbers; expected one of shape",
    ),
    "bias, NaN": (lambda: add_logit_bias([NAN, 0], {}), "add_logit_bias: logits[0]=nan"),
    "repetition, NaN": (lambda: repetition_penalty([NAN, 0], [], 2), "repetition_penalty: logits[0]=nan"),
    "presence, +inf": (lambda: presence_and_frequency_penalty([INF, 0], []), "frequency_penalty: logits[0]=inf"),
    "sequence, NaN": (lambda: sequence_logprob([[NAN, 0]], [1]), "sequence_logprob: logits[0, 0]=nan"),
    "chain, NaN": (lambda: apply_chain([NAN, 0], ()), "apply_chain: logits[0]=nan"),
    # settings
    **{
        f"temperature {t!r}": (
            lambda t=t: apply_temperature([1.0], t),
            f"apply_temperature: temperature={t!r}; expected a number",
        )
        for t in (-1, -1e-300, NAN, None, "1", True, 10**400, 1j)
    },
    **{
        f"k {k!r}": (lambda k=k: top_k([1.0], k), f"top_k: k={k!r}; expected a whole number of at least 1")
        for k in (0, -3, 2.0, True, None, "2", np.float64(2))
    },
    **{
        f"top_p {p!r}": (lambda p=p: top_p([1.0], p), f"top_p: p={p!r}; expected a number above 0 and at most 1; leave")
        for p in (0, -0.5, 1.0000001, NAN, INF, True, None, "1")
    },
    **{
        f"min_p {p!r}": (lambda p=p: min_p([1.0], p), f"min_p: p={p!r}; expected a number above 0 and at most 1; leave")
        for p in (0, -0.5, 1.0000001, NAN, INF, True, None, "1")
    },
    **{
        f"penalty {p!r}": (
            lambda p=p: repetition_penalty([1.0], [], p),
            f"repetition_penalty: penalty={p!r}; expected a finite number above 0. 1 changes nothing",
        )
        for p in (0, -1.2, NAN, INF, True, None)
    },
    **{
        f"{name} {v!r}": (
            lambda name=name, v=v: presence_and_frequency_penalty([1.0], [], **{name: v}),
            f"presence_and_frequency_penalty: {name}={v!r}; expected a finite number",
        )
        for name in ("presence", "frequency")
        for v in (NAN, INF, -INF, None, True)
    },
    **{
        f"gamma {g!r}": (lambda g=g: guide([1.0], [1.0], g), f"guide: gamma={g!r}; expected a finite number")
        for g in (NAN, INF, -INF, None, True)
    },
    # bias
    "bias no mapping": (
        lambda: add_logit_bias([1.0], [(0, 1)]),
        "bias=[(0, 1)]; expected a mapping, {token id: offset}",
    ),
    "bias beyond": (
        lambda: add_logit_bias([0, 0, 0], {3: 1}),
        "token id 3 in bias is not a token; expected 0 or more, below the vocabulary's size of 3",
    ),
    "bias negative": (
        lambda: add_logit_bias([0, 0, 0], {-1: 1}),
        "token id -1 in bias is not a token; expected 0 or more",
    ),
    "bias text": (
        lambda: add_logit_bias([0, 0, 0], {"yes": 1}),
        "token id 'yes' in bias; expected a whole number, below the vocabulary's size of 3",
    ),
    "bias bool": (lambda: add_logit_bias([0, 0, 0], {True: 1}), "token id True in bias; expected a whole number"),
    "bias float": (lambda: add_logit_bias([0, 0, 0], {1.0: 1}), "token id 1.0 in bias; expected a whole number"),
    **{
        f"bias offset {v!r}": (
            lambda v=v: add_logit_bias([0, 0], {1: v}),
            f"bias[1]={v!r}; expected a finite offset in nats, or -inf",
        )
        for v in (NAN, INF, None, "1", True)
    },
    "bias bans all": (
        lambda: add_logit_bias(TWO_ROWS, dict.fromkeys(range(3), -INF)),
        "add_logit_bias: would leave all tokens masked in row 0; leave a token",
    ),
    "bias overflows": (
        lambda: add_logit_bias([1e308], {0: 1.7e308}),
        "add_logit_bias: would leave a logit that is not below +inf; leave",
    ),
    # token ids
    "id beyond": (
        lambda: repetition_penalty([0, 0], [0, 2], 2),
        "repetition_penalty: token id 2 is not in the vocabulary; expected 0 to 1",
    ),
    "id negative": (
        lambda: presence_and_frequency_penalty([0, 0], [-1]),
        "presence_and_frequency_penalty: token id -1 is not in",
    ),
    "id float": (lambda: repetition_penalty([0, 0], [0.0], 2), "token_ids are of type float64; expected whole numbers"),
    "id bool": (lambda: repetition_penalty([0, 0], [True], 2), "token_ids are of type bool; expected whole"),
    "ids of other rows": (
        lambda: repetition_penalty(TWO_ROWS, [[0], [1], [2]], 2),
        "token_ids have shape (3, 1); expected one dimension, or (2,) and one more",
    ),
    "ids ragged": (
        lambda: repetition_penalty(TWO_ROWS, [[0], [1, 2]], 2),
        "token_ids are ragged; expected the same number for every row",
    ),
    "id alone": (lambda: repetition_penalty([0, 0], 1, 2), "token_ids have shape (); expected one dimension"),
    "sequence id": (
        lambda: sequence_logprob([[0, 0]], [2]),
        "sequence_logprob: token id 2 is not in the vocabulary; expected 0 to 1",
    ),
    "sequence shape": (
        lambda: sequence_logprob(TWO_ROWS, [0]),
        "logits have shape (2, 3) and token_ids (1,); expected (..., T, vocabulary) and",
    ),
    "sequence of one": (lambda: sequence_logprob([0.0], 0), "logits have shape (1,) and token_ids (); expected"),
    # too extreme
    "penalty too small": (
        lambda: repetition_penalty([1e10, 0], [0], 1e-300),
        "would leave a logit that is not below +inf; penalty=1e-300 is too extreme",
    ),
    "penalty too large": (
        lambda: repetition_penalty([-1e10], [0], 1e300),
        "would leave all tokens masked; penalty=1e+300 is too extreme",
    ),
    "presence too large": (
        lambda: presence_and_frequency_penalty([0, 0], [0, 0], frequency=-1e308),
        "would leave a logit that is not below +inf; presence=0.0 and frequency=-1e+308 are too extreme",
    ),
    # perplexity
    "perplexity empty": (
        lambda: perplexity([]),
        "perplexity: logprobs have shape (0,); expected (..., T) with at least one token",
    ),
    "perplexity above 0": (
        lambda: perplexity([[-1.0, 0.1]]),
        "perplexity: logprobs[0, 1]=0.1; expected log-probabilities, at most 0. Convert logits with log_softmax",
    ),
    "perplexity NaN": (lambda: perplexity([NAN]), "perplexity: logprobs[0]=nan; expected log-probabilities"),
    "perplexity number": (lambda: perplexity(-1.0), "perplexity: logprobs have shape (); expected"),
    # guide
    "vocabularies": (
        lambda: guide([0, 0], [0, 0, 0], 2),
        "conditional has a vocabulary of 2 tokens and unconditional of 3; expected the same one",
    ),
    "vocabulary of 1": (
        lambda: guide([0, 0], [0], 2),
        "conditional has a vocabulary of 2 tokens and unconditional of 1;",
    ),
    "guide shapes": (
        lambda: guide(np.zeros((2, 3)), np.zeros((4, 3)), 2),
        "guide: shapes (2, 3) and (4, 3) do not fit; expected the same number of rows",
    ),
    "guide masks all": (
        lambda: guide([0, -INF], [-INF, 0], 2),
        "guide: would leave all tokens masked; no token is possible on both sides",
    ),
    "guide conditional": (lambda: guide([NAN, 0], [0, 0], 2), "guide: conditional[0]=nan; expected finite"),
    "guide unconditional": (lambda: guide([0, 0], [-INF, -INF], 1), "guide: unconditional are all -inf, so no token"),
    # sample
    **{
        f"seed {s!r}": (lambda s=s: sample([0.0], s), f"sample: seed={s!r}; expected a whole number of at least 0")
        for s in (-1, 1.5, "a", True)
    },
    **{
        f"size {s!r}": (
            lambda s=s: sample([0.0], 0, size=s),
            f"sample: size={s!r}; expected a whole number of at least 1",
        )
        for s in (0, -1, 2.0, True, (2,))
    },
    "method": (lambda: sample([0.0], 0, method="best"), "sample: method='best'; expected 'inverse' or 'gumbel'"),
    # chain
    "chain bias": (
        lambda: chain(logit_bias={-1: 1.0}),
        "add_logit_bias: token id -1 in bias is not a token; expected 0 or more",
    ),
    "chain offset": (lambda: chain(logit_bias={1: NAN}), "add_logit_bias: bias[1]=nan; expected"),
    "chain repetition": (lambda: chain(repetition_penalty=0), "repetition_penalty: penalty=0; expected"),
    "chain presence": (lambda: chain(presence_penalty=NAN), "presence_and_frequency_penalty: presence=nan; expected"),
    "chain frequency": (
        lambda: chain(frequency_penalty=INF),
        "presence_and_frequency_penalty: frequency=inf; expected",
    ),
    "chain temperature": (lambda: chain(temperature=-1), "apply_temperature: temperature=-1; expected"),
    "chain top_k": (lambda: chain(top_k=0), "top_k: k=0; expected a whole number"),
    "chain top_p": (lambda: chain(top_p=0), "top_p: p=0; expected"),
    "chain min_p": (lambda: chain(min_p=2), "min_p: p=2; expected"),
    "chain bias later": (
        lambda: apply_chain([0, 0], chain(logit_bias={2: 1})),
        "token id 2 in bias is not a token; expected 0 or more, below the vocabulary's size of 2",
    ),
    "other shape": (
        lambda: apply_chain(TWO_ROWS, [shorter]),
        "apply_chain: shorter: returned logits of shape (2, 2); expected (2, 3), the shape of",
    ),
    "None": (
        lambda: apply_chain([0, 0], [gives(None)]),
        "apply_chain: custom: returned NoneType; expected a numpy array of logits",
    ),
    "result NaN": (
        lambda: apply_chain([0, 0], [gives(np.array([0, NAN]))]),
        "apply_chain: custom: its logits[1]=nan; expected finite",
    ),
    "result +inf": (
        lambda: apply_chain([0, 0], [gives(np.array([0, INF]))]),
        "apply_chain: custom: its logits[1]=inf; expected",
    ),
    "result masked": (
        lambda: apply_chain([0, 0], [gives(np.full(2, -INF))]),
        "apply_chain: custom: its logits are all -inf, so no token is possible",
    ),
    "named processor": (
        lambda: apply_chain([0, 0], [Processor("ban", "all", gives(np.full(2, -INF)))]),
        "apply_chain: ban='all': its logits are all -inf",
    ),
    "no function": (
        lambda: apply_chain([0, 0], [*chain(top_k=1), 0.7]),
        "apply_chain: processors[1]=0.7 is not callable; expected a function of logits and",
    ),
}


class TestErrors:
    @pytest.mark.parametrize("name", ERRORS)
    def test_message(self, name):
        """An error is an InputError that names what was given, what was expected and the cure."""
        call, message = ERRORS[name]
        with pytest.raises(InputError) as caught:
            call()
        assert message in str(caught.value)
        assert isinstance(caught.value, ValueError)


class TestPublic:
    def test_names(self):
        """Everything public is there, in order."""
        names = llmclf.logits.__all__
        assert names == sorted(names)
        assert all(hasattr(llmclf.logits, name) for name in names)

    @pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), 0.5])
    def test_numpy_numbers(self, number):
        """Settings may be numpy's numbers."""
        x = np.array([0.0, 1.0])
        assert apply_temperature(x, number).tolist() == [0.0, 2.0]
        assert top_p(x, number).tolist() == [-INF, 1.0]
        assert top_k(x, np.int32(1)).tolist() == [-INF, 1.0]
        assert add_logit_bias(x, {np.int64(0): number}).tolist() == [0.5, 1.0]
        assert sample(x, np.int64(3), size=np.int64(2)).shape == (2,)


@settings(max_examples=60)
@given(masked_rows, st.floats(1e-3, 1e3), st.integers(1, 12), shares, shares, st.integers(0, 2**32))
def test_every_chain_leaves_a_token(x, temperature, k, p, least, seed):
    """Whatever is cut, the likeliest token stays, and what is drawn is a token that was kept."""
    found = apply_chain(x, chain(temperature=temperature, top_k=k, top_p=p, min_p=least))
    assert int(x.argmax()) in kept(found) <= kept(x)
    assert int(sample(found, seed)) in kept(found)
