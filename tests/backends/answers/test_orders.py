"""Orders of the options depend on seed, row and request alone, and no option stands first more often than another."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.answers.orders import option_order, request_seed, row_key

LABELS = st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True)


@given(LABELS, st.integers(0, 2**40), st.binary(max_size=8), st.integers(0, 5))
def test_each_label_stands_at_each_place_once_in_a_block(labels, seed, key, block):
    """Of as many requests in a row as there are labels, all orders together are a Latin square."""
    n = len(labels)
    orders = [option_order(seed, key, block * n + number, labels) for number in range(n)]
    for places in zip(*orders, strict=True):
        assert sorted(places) == list(range(n))
    for order in orders:
        assert sorted(order) == list(range(n))


@given(LABELS, st.integers(0, 9), st.integers(0, 30), st.randoms())
def test_the_order_of_the_given_labels_does_not_matter(labels, seed, number, random):
    """A user who names the labels in another order asks the same questions."""
    turned = random.sample(labels, len(labels))
    key, other = row_key(["text"], labels), row_key(["text"], turned)
    assert key == other
    one = [labels[k] for k in option_order(seed, key, number, labels)]
    assert one == [turned[k] for k in option_order(seed, other, number, turned)]


def test_seeds_and_rows_have_orders_of_their_own():
    """Over many rows every order is as frequent as the others, and another seed gives other orders."""
    labels = ["a", "b", "c"]
    keys = [row_key([str(i)], labels) for i in range(3000)]
    first = Counter(option_order(0, key, 0, labels) for key in keys)
    assert len(first) == 6
    assert max(first.values()) < 1.25 * min(first.values())
    assert [option_order(0, key, 0, labels) for key in keys] != [option_order(1, key, 0, labels) for key in keys]
    # What was drawn in an earlier version must be drawn again: a resumed job goes on with it.
    assert [option_order(7, b"row", number, labels) for number in range(3)] == PINNED
    assert request_seed(7, b"row", 3) == PINNED_SEED


PINNED = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
PINNED_SEED = 930734671


def test_texts_and_labels_are_told_apart():
    """A text that looks like a label, and parts cut elsewhere, give other keys."""
    assert row_key(["ab"], ["c"]) != row_key(["a"], ["bc"])
    assert row_key(["a", "b"], ["c"]) != row_key(["ab"], ["c"])
