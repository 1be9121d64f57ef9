"""Labels that begin other labels, as exclusive events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.nested_labels import longer_labels, without_longer

LABELS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12, unique=True)


def probability(tokens: tuple[int, ...], seed: int) -> list[float]:
    """Log-probabilities of the tokens of a language of three tokens, whose next token depends on all before it."""
    values = []
    for j, token in enumerate(tokens):
        weights = [1 + hash((seed, tokens[:j], other)) % 97 for other in range(3)]
        values.append(math.log(weights[token] / sum(weights)))
    return values


@given(LABELS)
def test_the_nearest_longer_labels_are_found(labels):
    """A label is nearest if no other stands between, as the definition says it."""
    for place, longer in enumerate(longer_labels(tuple(labels))):
        after = [k for k, one in enumerate(labels) if k != place and one[: len(labels[place])] == labels[place]]
        nearest = {k for k in after if not any(o != k and labels[k][: len(labels[o])] == labels[o] for o in after)}
        assert set(longer) == nearest


@given(LABELS, st.integers(0, 1000))
def test_the_events_are_exclusive_and_lose_nothing(labels, seed):
    """By enumeration of all answers of five tokens: each counts for the longest label that it begins with, and for no other."""
    import itertools

    expected = dict.fromkeys(labels, 0.0)
    for answer in itertools.product(range(3), repeat=5):
        begins = [label for label in labels if answer[: len(label)] == label]
        if begins:
            expected[max(begins, key=len)] += math.exp(math.fsum(probability(answer, seed)))
    values = without_longer(labels, [probability(label, seed) for label in labels])
    for label, own in zip(labels, values, strict=True):
        assert math.exp(math.fsum(own)) == pytest.approx(expected[label], abs=1e-6)


@given(LABELS, st.integers(0, 1000))
def test_labels_that_begin_no_other_keep_their_scores(labels, seed):
    """To the last digit, however many others are nested."""
    plain = [tuple(probability(label, seed)) for label in labels]
    values = without_longer(labels, plain)
    for place, longer in enumerate(longer_labels(tuple(labels))):
        assert len(values[place]) == len(plain[place])
        assert values[place][:-1] == plain[place][:-1]
        assert longer or values[place] == plain[place]


def test_a_label_that_surely_goes_on_keeps_a_finite_score():
    """Rounding may let the longer labels have all of the probability; the shorter is very unlikely then, not impossible."""
    ((short,), _) = without_longer([(1,), (1, 2)], [(0.0,), (0.0, 0.0)])
    assert -20 < short < -10
