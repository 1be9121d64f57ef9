"""Which route is trusted at which length, on models that are a few lines of arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.local.route_checks import OPENING_LENGTH, RouteChecks, named_lengths, sampler
from llmclf.errors import ModelError

LONGEST = 5000


def sample(n):
    return tuple((7 * i * i + i) % 97 for i in range(n))


def n_tokens(row):
    return len(row.context) + max(map(len, row.targets))


def truth(row, shift=0.0):
    """A score of each token from all tokens before it."""
    return [
        np.array([-np.log(2 + sum((*row.context, *target[:j])) % 31) + shift for j in range(len(target))])
        for target in row.targets
    ]


def checks(trie=None, pairs=None, single=None, read=None, **more):
    """Checks of a model of which some way is off by what a function of (row, all rows of the call) says."""
    asked = []

    def scorer(name, off):
        def score(rows, batch_tokens):
            asked.append((name, max(map(n_tokens, rows))))
            return [(i, truth(row, off(row, rows) if off else 0.0)) for i, row in enumerate(rows)]

        return score

    scorers = {"trie": scorer("trie", trie), "pairs": scorer("pairs", pairs), "single": scorer("single", single)}
    made = RouteChecks(scorers, read or (lambda pieces, by_cache: np.zeros(97)), sample, LONGEST, **more)
    return made, asked


def past(n):
    return lambda row, rows: 0.0 if n_tokens(row) <= n else 2e-4


@given(st.integers(1, LONGEST + 1), st.sets(st.integers(1, 6000), max_size=4))
def test_a_row_is_judged_at_a_length_that_reaches_it(n, named):
    """At least its own length, at most twice that, and no further than a named length that it does not pass itself."""
    length = checks(named=named)[0].length(n)
    assert n <= length <= max(8, 2 * n)
    assert length <= max(n, LONGEST)
    assert not any(n <= one < length for one in named if one > 8)


@pytest.mark.parametrize("limit", [9, 40, 256, 300, 4096])
def test_a_route_is_kept_up_to_the_length_that_the_configuration_names(limit):
    """A trie that is off by 2e-4 nats past a window takes rows up to there, and pairs take longer ones."""
    made, _ = checks(trie=past(limit), named=[limit])
    assert [made.route(n) for n in (limit + 1, limit, 8, limit - 1, 2 * limit)] == [
        "pairs",
        "trie",
        "trie",
        "trie",
        "pairs",
    ]


@pytest.mark.parametrize("limit", [9, 40, 300, 3000])
def test_no_row_takes_a_route_that_is_wrong_at_its_length_though_nothing_names_it(limit):
    """Whatever is asked first: a row past a length that no configuration names is never scored by what fails there."""
    for order in ((limit + 1, 8, limit), (8, limit, limit + 1), (2 * limit, limit + 1)):
        made, _ = checks(trie=past(limit))
        routes = {n: made.route(n) for n in order}
        assert all(routes[n] == "pairs" for n in order if n > limit)
        assert routes.get(8, "trie") == "trie"


def test_a_short_row_beside_a_long_one_is_compared():
    """A route that changes the short row of a batch is not taken for the long one, and is for short ones among themselves."""
    made, _ = checks(trie=lambda row, rows: 2e-4 if n_tokens(row) < 40 < max(map(n_tokens, rows)) else 0.0, named=[40])
    assert [made.route(n) for n in (100, 41, 40, 12)] == ["pairs", "pairs", "trie", "trie"]


def test_what_pairs_cannot_either_is_asked_one_by_one():
    """A batch that changes a pair leaves single pairs, which are the definition."""
    made, _ = checks(trie=past(0), pairs=lambda row, rows: 2e-4 if len(row.targets) > 3 else 0.0)
    assert made.route(20) == "single"


@pytest.mark.parametrize(
    ("named", "width"), [([], 512), ([1000], 512), ([300], 299), ([60, 300], 299), ([200, 300], 299)]
)
def test_rows_side_by_side_stay_below_a_length_at_which_columns_count(named, width):
    """A model whose answers change where columns stand past 300 has batches that end before, if a length is named."""

    def counted(row, rows):
        n_before = sum(len(some.context) + len(some.targets) for some in rows[: rows.index(row)])
        return 2e-4 if n_before + len(row.context) > 300 else 0.0

    made, asked = checks(trie=counted, named=named)
    assert made.most_columns(512) == width
    assert made.most_columns(100) == 100
    assert bool(asked) == any(one < 512 for one in named)


def test_an_error_within_the_promise_is_none():
    """5e-5 nats are rounding; 1.5e-4 are not."""
    assert checks(trie=lambda row, rows: 5e-5)[0].route(30) == "trie"
    assert checks(trie=lambda row, rows: 1.5e-4)[0].route(30) == "pairs"


def test_a_length_is_checked_once_and_when_it_is_asked():
    """Nothing is read past the opening until a long row comes; what holds for it needs no check for shorter ones."""
    made, asked = checks()
    made.route(OPENING_LENGTH)
    assert max(n for _, n in asked) <= OPENING_LENGTH
    made.route(900)
    assert max(n for _, n in asked) == 1024
    n_asked = len(asked)
    for n in (900, 1024, 400, 64, 8):
        assert made.route(n) == "trie"
    assert len(asked) == n_asked


def test_a_way_that_raises_is_not_taken():
    """Too little memory or an unknown argument leaves the slower way."""

    def refuse(row, rows):
        raise RuntimeError("out of memory")

    assert checks(trie=refuse)[0].route(30) == "pairs"


def test_a_model_that_reads_less_than_it_says_is_judged_at_the_length_of_the_row():
    """Positions that end before `max_position_embeddings` concern only rows that reach them, by name."""

    def reads_90(row, rows):
        if n_tokens(row) > 90:
            raise IndexError("index out of range")
        return 0.0

    made, _ = checks(single=reads_90)
    assert [made.route(n) for n in (80, 90, 30)] == ["trie", "trie", "trie"]
    with pytest.raises(ModelError, match=r"cannot read a text of 9\d tokens"):
        made.route(91)


def test_a_model_that_sees_what_follows_is_refused():
    """A token's score must not depend on the tokens after it."""
    made, _ = checks(single=lambda row, rows: 0.01 * row.targets[0][-1])
    with pytest.raises(ModelError, match="not a causal language model"):
        made.check_definition(OPENING_LENGTH)


def test_a_model_that_answers_differently_when_asked_again_is_refused():
    """By chance or by memory: there is no score then."""
    counter = iter(range(1000))
    made, _ = checks(single=lambda row, rows: 0.01 * next(counter))
    with pytest.raises(ModelError, match="other scores when it is asked again"):
        made.check_definition(OPENING_LENGTH)


@pytest.mark.parametrize(("limit", "expected"), [(40, False), (64, True), (7, True)])
def test_a_cache_is_trusted_where_reading_on_is_plain_reading(limit, expected):
    """What was read before a length at which something changes spoils what follows for a few tokens only; it is seen."""

    def read(pieces, by_cache):
        n, before = sum(map(len, pieces)), sum(map(len, pieces[:-1]))
        stale = by_cache and 8 < limit < n <= limit + 3 and before > 0
        return np.linspace(-3, -1, 97) + (1e-3 if stale else 0.0)

    made, _ = checks(read=read, named=[limit])
    assert made.reads_by_cache(60) is expected


def test_lengths_are_found_wherever_a_configuration_names_them():
    """Windows, chunks and positions count, nested and in lists, as whole floats, too; sizes, rates and switches do not."""

    class Config:
        def to_dict(self):
            return {
                "hidden_size": 576,
                "vocab_size": 49152,
                "sliding_window": 4096,
                "use_sliding_window": True,
                "attention_chunk_size": None,
                "floor_scale": 8192.0,
                "rope_parameters": {
                    "full": {"original_max_position_embeddings": 1024, "factor": 8.0, "rope_theta": 1e4}
                },
                "window_sizes": [128, 256],
                "embedding_scale": 1.5,
                "layer_types": ["sliding_attention"],
            }

    assert named_lengths(Config()) == {4096, 8192, 1024, 128, 256}


def test_the_texts_of_a_check_are_the_same_each_time():
    """Shorter samples are the beginnings of longer ones."""
    ids = sampler(lambda text: [ord(character) for character in text])
    assert ids(2000)[:300] == ids(300)
    assert len(ids(2000)) == 2000
