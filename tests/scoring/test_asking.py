"""Questions that ask for hidden states: asked once, kept with their answers, and served to questions without."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from race.worlds import ASKED, CountingBackend, StatesBackend

from llmclf import Prompt
from llmclf.answer_cache import checksum_of
from llmclf.backends import FakeBackend, RowScores
from llmclf.backends.requests import STATE_PARTS, Request, StatePart
from llmclf.errors import InputError
from llmclf.labels import label_set
from llmclf.scoring.asking import ask_cached, ask_once
from llmclf.scoring.score_cache import ScoreCache, request_key
from llmclf.scoring.scorer import Scorer
from llmclf.tables.rows import read_rows

OTHER_PARTS = (StatePart("last", 1.0),)
LABELS = label_set(["a", "b"], None)
RENDERER = Prompt("Text: {{ text }}\nLabel:").renderer(["a", "b"])


class Stateful(FakeBackend):
    """A model without weights that shows states: numbers that depend on text, part and place."""

    shows_states = True

    def __init__(self, seed=0):
        super().__init__(seed)
        self.asked = []

    def score(self, requests):
        self.asked += requests
        for place, answer in super().score([replace(request, states=()) for request in requests]):
            yield place, with_states(answer, requests[place])


def with_states(answer, request):
    if not request.states:
        return answer
    seeds = [[len(request.prompt.text), *part.tokens.encode(), int(100 * part.depth)] for part in request.states]
    states = np.concatenate([np.random.default_rng(seed).normal(size=4) for seed in seeds]).astype(np.float32)
    return replace(answer, state_parts=request.states, states=states)


def question(text="x", states=()):
    return Request(RENDERER.render({"text": text}), (" a", " b"), states=states)


@pytest.fixture
def cache(tmp_path):
    return ScoreCache(tmp_path / "scores.sqlite")


def ask(backend, questions, cache):
    backend.asked.clear()
    return ask_cached(backend, questions, cache, is_strict=True)


def test_states_are_no_part_of_what_a_score_is():
    """The key of a question is the same with and without, so that scores which are kept stay known."""
    identity = FakeBackend().identity()
    keys = {request_key(identity, question(states=states)) for states in ((), STATE_PARTS, OTHER_PARTS)}
    assert len(keys) == 1


@pytest.mark.parametrize("asking", ["once", "cached"])
def test_equal_questions_are_asked_once(cache, asking):
    """Equal texts that want equal states."""
    backend = Stateful()
    questions = [question("x", STATE_PARTS), question("y", STATE_PARTS), question("x", STATE_PARTS)]
    answers = ask(backend, questions, cache) if asking == "cached" else ask_once(backend, questions, is_strict=True)
    assert backend.asked == questions[:2]
    assert answers[0] is answers[2]
    assert answers[0].states.shape == (8,)
    assert not np.array_equal(answers[0].states, answers[1].states) or len(questions[0].prompt.text) == len(
        questions[1].prompt.text
    )


def test_kept_states_are_served_rounded(cache):
    """From the cache come 11 bits of each number, from the model all of them; neither asks twice."""
    backend = Stateful()
    (first,) = ask(backend, [question(states=STATE_PARTS)], cache)
    (again,) = ask(backend, [question(states=STATE_PARTS)], cache)
    assert backend.asked == []
    assert again == first
    assert again.state_parts == STATE_PARTS
    assert not np.array_equal(again.states, first.states)
    np.testing.assert_allclose(again.states, first.states, rtol=2.0**-11)


def test_a_kept_answer_without_the_wanted_states_is_asked_again(cache):
    """Also one with other states; what is kept then has the new ones."""
    backend = Stateful()
    plain, first, other = (question(states=states) for states in ((), STATE_PARTS, OTHER_PARTS))
    (alone,) = ask(backend, [plain], cache)
    assert backend.asked == [plain]
    (answer,) = ask(backend, [first], cache)
    assert backend.asked == [first]
    assert answer == alone
    (answer,) = ask(backend, [other], cache)
    assert backend.asked == [other]
    assert answer.states.shape == (4,)
    ask(backend, [other, plain], cache)
    assert backend.asked == []
    ask(backend, [first], cache)
    assert backend.asked == [first]
    assert cache.info()["rows"] == 1


def test_a_question_without_states_is_served_by_an_answer_with(cache):
    """It gets the same scores, and no states."""
    backend = Stateful()
    (rich,) = ask(backend, [question(states=STATE_PARTS)], cache)
    (answer,) = ask(backend, [question()], cache)
    assert backend.asked == []
    assert answer == rich
    assert answer.states is None
    assert answer.state_parts == ()


WISHES = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from([(), STATE_PARTS, OTHER_PARTS])), min_size=1, max_size=6
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(WISHES, min_size=1, max_size=4))
def test_any_mixture_of_questions_gets_what_it_asks_for(tmp_path_factory, calls):
    """With a cache that knows some of them, with other states or none: as if each were asked alone."""
    path = tmp_path_factory.mktemp("mixed") / "scores.sqlite"
    backend, cache = Stateful(), ScoreCache(path)
    for wishes in calls:
        questions = [question(text, states) for text, states in wishes]
        answers = ask(backend, questions, cache)
        assert len(backend.asked) == len(set(backend.asked)) <= len(set(questions))
        for one, answer in zip(questions, answers, strict=True):
            (expected,) = ask_once(Stateful(), [one], is_strict=True)
            assert answer == expected
            assert answer.state_parts == one.states
            if one.states:
                np.testing.assert_allclose(answer.states, expected.states, rtol=2.0**-11)
            else:
                assert answer.states is None


def change(cache, edit):
    """Damage the only row, with a checksum that fits."""
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        key, value = connection.execute("SELECT key, value FROM scores").fetchone()
        values = json.loads(value)
        edit(values["states"])
        value = json.dumps(values)
        connection.execute("UPDATE scores SET value = ?, checksum = ?", (value, checksum_of(key, value)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda states: states.update(float16=states["float16"][:-4]),
        lambda states: states.update(float16="!" + states["float16"][1:]),
        lambda states: states.update(float16=7),
        lambda states: states.update(exponents=[10**30, 0]),
        lambda states: states.update(exponents=[1.5]),
        lambda states: states.update(parts=[["last"]]),
        lambda states: states.update(parts=[["last", "deep"], ["text", 0.6]]),
        lambda states: states.update(parts=[]),
        lambda states: states.clear(),
    ],
)
def test_damaged_states_are_asked_again(cache, edit):
    """A row whose states cannot be read is unknown, to all questions; asking heals it."""
    backend = Stateful()
    (first,) = ask(backend, [question(states=STATE_PARTS)], cache)
    change(cache, edit)
    assert cache.get([request_key(backend.identity(), question())]) == {}
    (again,) = ask(backend, [question(states=STATE_PARTS)], cache)
    assert len(backend.asked) == 1
    np.testing.assert_array_equal(again.states, first.states)
    ask(backend, [question(states=STATE_PARTS)], cache)
    assert backend.asked == []


def test_states_that_are_no_numbers_are_not_kept(cache):
    """As scores that are none."""
    with pytest.raises(InputError, match="finite"):
        cache.put([("k", RowScores(((-1.0,),), state_parts=OTHER_PARTS, states=np.array([np.nan], dtype=np.float32)))])
    assert cache.get(["k"]) == {}


def scorer(backend, **parameters):
    return Scorer(backend, Prompt(), LABELS, ("text",), **parameters)


def test_the_scorer_asks_for_states_of_rows_alone():
    """Each row's question has them, the question without a row has not."""
    one = scorer(Stateful(), states=STATE_PARTS)
    assert one.request({"text": "x"}).states == STATE_PARTS
    assert one.unconditional_request(["a", "b"]).states == ()
    assert scorer(Stateful()).request({"text": "x"}) == replace(one.request({"text": "x"}), states=())


@pytest.mark.parametrize("scoring", ["sum", "pmi"])
@pytest.mark.parametrize("is_cached", [False, True])
def test_rows_come_with_their_states_and_the_same_scores(tmp_path, scoring, is_cached):
    """Whatever the scoring, with a cache or without."""
    rows = read_rows(["x", "yy", "zzz", "x"])
    cache = tmp_path / "scores.sqlite" if is_cached else None
    one, plain = scorer(Stateful(), states=STATE_PARTS, cache=cache), scorer(Stateful(), cache=cache)
    one.check(rows, scoring)
    answers = one.answers(rows)
    assert [answer.states.shape for answer in answers] == [(8,)] * 4
    np.testing.assert_array_equal(one.class_scores(rows, scoring, answers), plain.class_scores(rows, scoring))


def test_states_of_a_backend_that_shows_none_are_refused_before_anything_is_asked():
    """One error, which names the backend and what can be used instead."""
    rows = read_rows(["x"])
    with pytest.raises(
        InputError, match=r"FakeBackend\(seed=0\) shows no hidden states .*'tfidf' or Embeddings.*local model"
    ):
        scorer(FakeBackend(), states=STATE_PARTS).check(rows, "sum")
    with pytest.raises(InputError, match="StatePart"):
        scorer(Stateful(), states=(StatePart("first", 0.5),)).check(rows, "sum")


def counting_scorer(backend=None, **options) -> Scorer:
    prompt = Prompt("{{ text }}\nOpinion:")
    return Scorer(
        CountingBackend() if backend is None else backend, prompt, label_set(["good", "bad"]), ("text",), **options
    )


class TestHowMany:
    """How many questions a model would be asked is how many it is asked."""

    @pytest.fixture(autouse=True)
    def nothing_asked(self):
        ASKED.clear()

    def test_without_a_cache_each_different_row_is_asked(self):
        """Equal rows once."""
        rows = read_rows(["a", "b", "a"])
        assert counting_scorer().n_to_ask(rows) == 2
        counting_scorer().answers(rows)
        assert len(ASKED) == 2

    def test_what_a_cache_knows_is_not_asked(self, tmp_path):
        """The count says it beforehand, and asks nothing itself."""
        one = counting_scorer(cache=tmp_path / "scores.sqlite")
        one.answers(read_rows(["a", "b"]))
        ASKED.clear()
        rows = read_rows(["a", "c", "d"])
        assert one.n_to_ask(rows) == 2
        assert not ASKED
        one.answers(rows)
        assert len(ASKED) == 2
        assert one.n_to_ask(rows) == 0

    def test_states_that_a_cache_lacks_are_asked_for(self, tmp_path):
        """A kept answer without states does not serve; one with states serves a question without."""
        plain = counting_scorer(StatesBackend(), cache=tmp_path / "scores.sqlite")
        rich = replace(plain, states=STATE_PARTS)
        rows = read_rows(["a", "b"])
        plain.answers(rows)
        assert (plain.n_to_ask(rows), rich.n_to_ask(rows)) == (0, 2)
        rich.answers(rows)
        assert (plain.n_to_ask(rows), rich.n_to_ask(rows)) == (0, 0)

    def test_rows_that_cannot_be_asked_about_do_not_count(self):
        """They have an error instead."""
        one = counting_scorer(on_error="missing")
        assert one.n_to_ask(read_rows(["a", " "])) == 1
