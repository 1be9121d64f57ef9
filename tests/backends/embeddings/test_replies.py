"""Replies of /v1/embeddings: a vector for every text, or one reason why not."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmclf.backends.embeddings.replies import read_counts, read_vectors
from llmclf.backends.http.replies import BadReplyError

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def reply(*vectors, order=None):
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"object": "list", "data": data if order is None else [data[i] for i in order], "model": "m"}


def packed(vector):
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


@given(
    st.integers(1, 4).flatmap(lambda n: arrays(np.float32, (n, 3), elements=FINITE)),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_either_format_in_any_order_is_read_exactly(vectors, is_packed, random):
    """Numbers and base64 give the very float32 that were sent, each at the place that its index names."""
    order = list(range(len(vectors)))
    random.shuffle(order)
    shown = [packed(vector) if is_packed else [float(value) for value in vector] for vector in vectors]
    read = read_vectors(json.loads(json.dumps(reply(*shown, order=order))), len(vectors))
    assert read.dtype == np.float32
    assert (read == vectors).all()


def test_whole_numbers_are_numbers():
    """JSON writes 1.0 as 1 where a server's printer does."""
    assert read_vectors(reply([1, 0, -2]), 1).tolist() == [[1.0, 0.0, -2.0]]


GOOD = [0.5, 1.0]
BAD = {
    "no object": ([1, 2], "the reply is a list"),
    "no data": ({"object": "list"}, "data is missing"),
    "data of another kind": ({"data": {"0": GOOD}}, "data is a dict; expected a list"),
    "fewer": (reply(GOOD), "data has 1 embeddings; expected one for each of 2 texts"),
    "none": (reply(), "data has 0 embeddings"),
    "more": (reply(GOOD, GOOD, GOOD), "data has 3 embeddings"),
    "bare lists": ({"data": [GOOD, GOOD]}, "an item of data is a list; expected an object"),
    "twice": ({"data": [{"index": 0, "embedding": GOOD}] * 2}, "index 0; expected each of 0 to 1 once"),
    "out of range": (
        {"data": [{"index": 1, "embedding": GOOD}, {"index": 2, "embedding": GOOD}]},
        "index 2; expected each of 0 to 1 once",
    ),
    "negative": ({"data": [{"index": -1, "embedding": GOOD}, {"index": 0, "embedding": GOOD}]}, "index -1"),
    "no index": ({"data": [{"embedding": GOOD}] * 2}, "index none"),
    "index of text": ({"data": [{"index": "0", "embedding": GOOD}, {"index": "1", "embedding": GOOD}]}, "index '0'"),
    "index of truth": ({"data": [{"index": False, "embedding": GOOD}, {"index": True, "embedding": GOOD}]}, "False"),
    "index of half": ({"data": [{"index": 0.0, "embedding": GOOD}, {"index": 1.0, "embedding": GOOD}]}, "0.0"),
    "no embedding": ({"data": [{"index": 0}, {"index": 1, "embedding": GOOD}]}, "an embedding is missing"),
    "empty": (reply([], GOOD), "an embedding has 0 numbers"),
    "lengths": (reply(GOOD, [*GOOD, 0.0]), "are 2 and 3 numbers long"),
    "NaN": (reply(GOOD, [float("nan"), 1.0]), "NaN or an infinite number"),
    "infinite": (reply(GOOD, [float("-inf"), 1.0]), "NaN or an infinite number"),
    "beyond float32": (reply(GOOD, [1e300, 1.0]), "NaN or an infinite number"),
    "beyond float64": (reply(GOOD, [10**400, 1.0]), "NaN or an infinite number|not a list of numbers"),
    "null": (reply(GOOD, [None, 1.0]), "an embedding holds null"),
    "text": (reply(GOOD, ["0.5", 1.0]), "an embedding holds a str"),
    "truth": (reply(GOOD, [True, 1.0]), "an embedding holds a bool"),
    "object": (reply(GOOD, {"values": GOOD}), "an embedding is a dict; expected a list"),
    "objects": (reply(GOOD, [{"value": 1.0}, 2.0]), "an embedding holds a dict"),
    "tokens": (reply(GOOD, [GOOD, GOOD]), "a vector for each token, so start it with pooling"),
    "no base64": (reply(GOOD, "not base64!"), "a text that is not base64"),
    "half a number": (reply(GOOD, base64.b64encode(b"12345").decode()), "base64 of 5 bytes"),
    "base64 of NaN": (reply(GOOD, packed([np.nan, 1.0])), "NaN or an infinite number"),
    "base64 of nothing": (reply("", ""), "an embedding has 0 numbers"),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
def test_anything_else_is_refused(body, message):
    """Fewer, more, twice, another length, NaN, texts, nothing: each has one clear reason."""
    with pytest.raises(BadReplyError, match=message):
        read_vectors(body, 2)


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ({"usage": {"prompt_tokens": 5, "total_tokens": 5}}, (5, 0, 0)),
        ({"usage": {"total_tokens": 7}}, (7, 0, 0)),
        ({"usage": {"total_tokens": "7"}}, (3, 0, 0)),
        ({"usage": {"total_tokens": True}}, (3, 0, 0)),
        ({"usage": None}, (3, 0, 0)),
        ({"usage": [4]}, (3, 0, 0)),
        ({}, (3, 0, 0)),
        ([], (3, 0, 0)),
    ],
)
def test_what_a_reply_does_not_count_is_estimated(body, counts):
    """Some servers state a total alone, some nothing."""
    assert read_counts(body, 3) == counts
