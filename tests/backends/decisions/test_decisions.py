"""Decision servers: two protocols, several servers, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from contract import score
from decision_servers import DecisionServer, Reply, decision_gguf, faulty_mock, llama, logit, mock, softmax, sparrow
from hypothesis import given, settings
from hypothesis import strategies as st
from jevcompat.mock import FAULTS, MockConfig
from jevcompat.mock import answer as mock_answer
from jevcompat.validate import choice_confidence, score_confidence
from sklearn.base import clone
from typesafe_sdk import Choice, Noul, RetryPolicy, Score, TypeSafeClient

from llmclf import LLMClassifier, Prompt
from llmclf.backends import Request
from llmclf.backends.decisions.backend import DecisionsBackend, SystemOneBackend, ask_about, confidence
from llmclf.backends.decisions.connection import linked
from llmclf.backends.decisions.option_groups import link
from llmclf.backends.decisions.protocols import Question
from llmclf.backends.decisions.shares import average, shares
from llmclf.errors import BudgetError, CapabilityError, InputError, ModelError, ModelNameError, PromptError, ServerError
from llmclf.prompts.rendered import RenderedPrompt, Span, Turn

BACKENDS = {"systemone": SystemOneBackend, "decisions": DecisionsBackend}
TEXTS = ["A fine film.", "Too long by half.", "Größe, café, 東京 🙂", 'He said: "never {{ again }}".']
LABELS = ("positive", "negative", "Café Müller")
INSTRUCTION = "What does the reviewer think?"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("llmclf.backends.http.client._FIRST_WAIT", 0.001)
    for name in ("TYPESAFE_BASE_URL", "TYPESAFE_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["systemone", "decisions"])
def scheme(request):
    return request.param


def backend(server, scheme="systemone", model="jev-latest", **options):
    url = server if isinstance(server, str) else server.url
    return BACKENDS[scheme](f"{scheme}:{model}", base_url=url, **{"max_retries": 1, **options})


def requests_for(texts=TEXTS, labels=LABELS, instruction=INSTRUCTION, shots=(), **options):
    prompt = Prompt("{{ text }}", instruction=instruction, **options)
    renderer = prompt.renderer(list(labels), shots)
    completions = tuple(prompt.completion(label) for label in labels)
    return [Request(renderer.render({"text": text}), completions, prompt.terminator) for text in texts]


def probabilities(row):
    assert row.error is None, row.error
    return np.exp(row.sums)


# --- what is asked, and what is believed of the answer -----------------------------------------------------------------


def test_every_row_gets_the_servers_probabilities(scheme):
    """Each label's score is the logarithm of the probability that the server states, whatever the protocol."""
    with DecisionServer() as server:
        rows = score(backend(server, scheme), requests_for())
        for text, row in zip(TEXTS, rows, strict=True):
            np.testing.assert_allclose(probabilities(row), server.probabilities(text, LABELS), atol=1e-12)
            assert row.lower == row.upper == row.sums
            assert [len(tokens) for tokens in row.token_logprobs] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["yes or no", "score"])
def test_other_kinds_of_question_give_probabilities_in_the_order_of_the_labels(scheme, kind):
    """A yes-or-no question is about the second label, a score has the labels as its levels."""
    question = "score" if kind == "score" else BACKENDS[scheme].wire.yes_or_no
    labels = ("bad", "middling", "good") if kind == "score" else ("bad", "good")
    with DecisionServer() as server:
        asked = backend(server, scheme, question=question)
        assert asked.route == question
        for text, row in zip(TEXTS, score(asked, requests_for(labels=labels)), strict=True):
            np.testing.assert_allclose(probabilities(row), server.probabilities(text, labels), atol=1e-12)


def test_the_request_holds_instructions_shots_and_text_apart():
    """The instruction and the shots are the question's instructions, the text alone is the state."""
    shots = [({"text": "A bore."}, "negative"), ({"text": "A joy."}, "positive")]
    with DecisionServer() as server:
        score(backend(server), requests_for(TEXTS[:1], shots=shots))
        body = server.bodies[-1]
    assert body["model"] == "jev-latest"
    assert body["state"] == TEXTS[0]
    assert list(body["questions"]["q0"]["criteria"]) == list(LABELS)
    assert body["questions"]["q0"]["instructions"] == (
        f"{INSTRUCTION}\n\nExample: A bore.\nAnswer: negative\n\nExample: A joy.\nAnswer: positive"
    )


def test_a_chat_prompt_and_a_plain_one_ask_the_same():
    """How a prompt would be written for a language model changes nothing here."""
    shots = [({"text": "A bore."}, "negative")]
    plain, chat = (requests_for(TEXTS[:1], shots=shots, chat=chat)[0].prompt for chat in (False, True))
    assert ask_about(plain) == ask_about(chat)
    assert plain.conversation() == chat.conversation() == chat.turns


def test_a_prompt_without_instruction_still_has_instructions():
    """Some servers answer no question without instructions, so a neutral sentence stands in."""
    (request,) = requests_for(["x"], instruction=None)
    assert ask_about(request.prompt) == ("x", "Choose the option that fits best.")


def test_a_shortened_prompt_converses_about_the_shortened_text():
    """The turns of a shortened prompt hold the shortened text."""
    (request,) = requests_for(["one two three"])
    assert [turn.text for turn in request.prompt.shortened(3).conversation()] == [INSTRUCTION, "one"]


def test_a_prompt_made_by_hand_is_one_users_turn():
    """A plain prompt without a renderer is its text, said by the user."""
    prompt = RenderedPrompt((Turn(None, (Span("Text: ", False), Span("x", True))),))
    assert prompt.conversation() == (Turn("user", (Span("Text: ", False), Span("x", True))),)


def test_a_server_that_wants_descriptions_gets_the_names_as_such(scheme):
    """Options go out without a description, unless the server refuses that: then each is described by its name."""
    with DecisionServer() as server:
        score(backend(server, scheme), requests_for(TEXTS[:1]))
        assert '"description"' not in json.dumps(server.bodies)
        assert "null" in json.dumps(server.bodies) or scheme == "decisions"
    with DecisionServer(needs_descriptions=True) as server:
        (row,) = score(backend(server, scheme), requests_for(TEXTS[:1]))
        assert len(server.bodies) == 3
        np.testing.assert_allclose(probabilities(row), server.probabilities(TEXTS[0], LABELS), atol=1e-12)


def test_a_model_that_the_server_does_not_know_is_its_own_words(scheme):
    """What is rejected on connecting stops the work with the first reason that the server gave."""
    script = [Reply(400, {"error": "Unknown model: jev-latest"}), Reply(400, {"error": "something else"})]
    with DecisionServer(script=script) as server, pytest.raises(ServerError, match="Unknown model") as caught:
        score(backend(server, scheme), requests_for())
    assert caught.value.is_final


def test_rows_about_the_same_text_share_a_request_and_others_do_not(scheme):
    """Two questions about one text are one request; no request ever holds two texts."""
    requests = [*requests_for(["a", "b"]), *requests_for(["b", "c"], labels=("x", "y"))]
    with DecisionServer() as server:
        rows = score(backend(server, scheme), requests)
        assert sorted(server.n_questions) == [1, 1, 2]
        np.testing.assert_allclose(probabilities(rows[1]), server.probabilities("b", LABELS), atol=1e-12)
        np.testing.assert_allclose(probabilities(rows[2]), server.probabilities("b", ("x", "y")), atol=1e-12)


def test_permutations_are_questions_of_one_request_and_average_the_probabilities(scheme):
    """Every option stands first once, and the arithmetic mean takes the server's love of the first place away."""
    with DecisionServer(first_bonus=3.0) as server:
        (row,) = score(backend(server, scheme, permutations=3), requests_for(TEXTS[:1]))
        assert server.n_questions == [3]
        orders = [(*LABELS[by:], *LABELS[:by]) for by in range(3)]
        each = [dict(zip(order, server.probabilities(TEXTS[0], order), strict=True)) for order in orders]
    np.testing.assert_allclose(
        probabilities(row), [np.mean([one[label] for one in each]) for label in LABELS], atol=1e-12
    )


def test_the_order_and_the_company_of_rows_change_nothing(scheme):
    """Rows asked alone, together and backwards have the same scores."""
    with DecisionServer() as server:
        asked = backend(server, scheme)
        together = score(asked, requests_for())
        assert score(asked, requests_for()[::-1]) == together[::-1]
        assert [score(asked, [request])[0] for request in requests_for()] == together
        assert score(asked, []) == []


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"positive": 0.5, "negative": 0.5}, "other options"),
        ({"positive": 0.5, "negative": 0.25, "Café Müller": 0.25, "else": 0.0}, "other options"),
        ({"positive": 0.9, "negative": 0.9, "Café Müller": 0.9}, "sum to 2.7"),
        ({"positive": 0.0, "negative": 0.0, "Café Müller": 0.0}, "sum to 0.0"),
        ({"positive": 1.5, "negative": -0.25, "Café Müller": -0.25}, "expected a"),
        ({"positive": math.nan, "negative": 0.5, "Café Müller": 0.5}, "expected a"),
        ({"positive": None, "negative": 0.5, "Café Müller": 0.5}, "expected a"),
        ({"positive": "0.5", "negative": 0.25, "Café Müller": 0.25}, "expected a"),
        ({"positive": True, "negative": 0.0, "Café Müller": 0.0}, "expected a"),
        ([0.5, 0.25, 0.25], "expected an object"),
    ],
)
def test_probabilities_that_are_none_become_no_score(stated, problem):
    """A reply that is no distribution over the options asked about is asked for again, and then given up."""
    bad = Reply(200, {"model": "model-1.0", "answers": {"q0": {"type": "choice", "probabilities": stated}}})
    with DecisionServer(script=[None, bad, bad]) as server:
        asked = backend(server)
        row, healthy = score(asked, requests_for(TEXTS[:2]))
        assert problem in row.error
        assert row.token_logprobs == ()
        assert healthy.error is None
        assert asked.usage.retries == 1
        assert score(asked, requests_for(TEXTS[:1]))[0].error is None


@pytest.mark.parametrize(
    "answers",
    [
        None,
        {},
        [],
        [{"type": "choice", "name": "q0", "probabilities": []}],
        [{"type": "choice", "name": "q0", "probabilities": [{"value": "positive", "probability": 1.0}] * 3}],
        [{"type": "predicate", "name": "q0", "probability": 0.5}],
        [{"type": "choice", "name": "q1", "probabilities": [{"value": v, "probability": 1 / 3} for v in LABELS]}],
        [{"type": "choice", "probabilities": [{"value": v, "probability": 1 / 3} for v in ("a", "b", True)]}],
        ["refusal"],
    ],
)
def test_decisions_that_answer_something_else_become_no_score(answers):
    """An answer to another question, in another shape or about other values is no answer."""
    bad = Reply(200, {"model": "model-1.0", "answers": answers})
    with DecisionServer(script=[None, bad, bad]) as server:
        row, healthy = score(backend(server, "decisions"), requests_for(TEXTS[:2]))
    assert row.error is not None
    assert healthy.error is None


def test_a_bad_reply_is_healed_by_asking_again(scheme):
    """What a server says once by mistake costs a retry and no row."""
    with DecisionServer(script=[None, Reply(200, "not json"), Reply(200, {"model": "model-1.0"}), None]) as server:
        asked = backend(server, scheme, max_retries=3)
        (row,) = score(asked, requests_for(TEXTS[:1]))
        np.testing.assert_allclose(probabilities(row), server.probabilities(TEXTS[0], LABELS), atol=1e-12)
        assert asked.usage.retries == 2


# --- rounding ----------------------------------------------------------------------------------------------------------


def test_rounded_probabilities_have_bounds_that_hold_the_truth(scheme):
    """Where a server rounds to hundredths, the unrounded log-probabilities lie within the bounds, and no score is infinite."""
    labels = tuple(f"label {i}" for i in range(40))
    with DecisionServer(digits=2) as server:
        for text, row in zip(TEXTS, score(backend(server, scheme), requests_for(labels=labels)), strict=True):
            truth = np.log(softmax([logit(text, label) for label in labels]))
            assert np.isfinite(row.sums).all()
            assert (np.array(row.lower) <= truth).all()
            assert (truth <= np.array(row.upper)).all()
            assert row.lower != row.upper
            assert -math.inf in row.lower  # some option was shown as 0.00
            assert all(low <= value <= high for low, value, high in zip(row.lower, row.sums, row.upper, strict=True))


@given(st.lists(st.floats(0, 12), min_size=2, max_size=255), st.booleans())
def test_stated_probabilities_become_a_distribution_within_its_bounds(logits, rounded):
    """From any softmax, rounded or not: finite, normalised, and within bounds that hold the truth."""
    truth = np.exp(logits) / np.exp(logits).sum()
    stated = np.round(truth, 2) if rounded else truth
    if not stated.any():
        return
    found = shares(stated, rounded)
    assert np.isfinite(found.logp).all()
    assert np.exp(found.logp).sum() == pytest.approx(1.0)
    assert (found.lower <= found.logp).all()
    assert (found.logp <= found.upper).all()
    assert (np.exp(found.lower) <= truth + 1e-12).all()
    assert (truth <= np.exp(found.upper) + 1e-12).all()


def test_many_small_options_do_not_lift_the_large_one():
    """What 250 options shown as 0.00 hold together is not given to the one that is shown."""
    found = shares([0.30, *[0.0] * 254], rounded=True)
    assert np.exp(found.logp[0]) == pytest.approx(0.30, abs=0.005)


# --- few options at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["too many options ({n}), this model supports at most {cap}", "no more, please"])
@pytest.mark.parametrize("status", [400, 422])
def test_the_most_options_are_learned_from_the_refusal_and_groups_are_linked(scheme, message, status):
    """A server that takes fewer options is asked in groups, which for answers by a softmax gives all probabilities exactly."""
    labels = tuple(f"label {i}" for i in range(30))
    with DecisionServer(cap=4, cap_message=message, cap_status=status) as server:
        asked = backend(server, scheme)
        assert asked.route == "choice"
        rows = score(asked, requests_for(labels=labels))
        assert asked.route == "choice, linked groups"
        for text, row in zip(TEXTS, rows, strict=True):
            truth = softmax([logit(text, label) for label in labels])
            np.testing.assert_allclose(probabilities(row), truth, atol=1e-9)
            assert row.lower == row.upper == row.sums
        before = len(server.bodies)
        score(asked, requests_for(["new"], labels=labels))
        # 8 groups, their winners in 2 groups of 4, and the winners of these: no request is refused any more.
        assert len(server.bodies) - before == 3


def test_groups_are_asked_in_every_order():
    """Permutations and groups go together: every group is turned, and so are the winners."""
    labels = tuple(f"label {i}" for i in range(6))
    with DecisionServer(cap=3) as server:
        (row,) = score(backend(server, permutations=3), requests_for(TEXTS[:1], labels=labels))
        assert server.n_questions[-2:] == [6, 2]
        np.testing.assert_allclose(probabilities(row), softmax([logit(TEXTS[0], label) for label in labels]), atol=1e-9)


def test_rounded_groups_keep_bounds_that_hold_the_truth():
    """Bounds stay true when the answers of groups are joined."""
    labels = tuple(f"label {i}" for i in range(12))
    with DecisionServer(cap=5, digits=2) as server:
        for text, row in zip(TEXTS, score(backend(server), requests_for(labels=labels)), strict=True):
            truth = np.log(softmax([logit(text, label) for label in labels]))
            assert (np.array(row.lower) <= truth + 1e-12).all()
            assert (truth <= np.array(row.upper) + 1e-12).all()
            assert np.isfinite(row.sums).all()


def test_several_rows_of_one_request_learn_the_most_options_together():
    """Rows of the request that was refused are all asked again."""
    labels = [tuple(f"{kind} {i}" for i in range(9)) for kind in ("a", "b", "c")]
    requests = [request for own in labels for request in requests_for(["x"], labels=own)]
    with DecisionServer(cap=4, cap_message="no more, please") as server:
        for own, row in zip(labels, score(backend(server), requests), strict=True):
            np.testing.assert_allclose(probabilities(row), softmax([logit("x", label) for label in own]), atol=1e-9)
        # All together, each alone; the first in groups of 5 (together, then each group) and of 3, winners, the others like it.
        assert server.n_questions == [3, 1, 1, 1, 2, 1, 1, 3, 1, 3, 1, 3, 1]


def test_a_refused_text_is_not_taken_for_too_many_options():
    """A row that is refused for its text gets the server's reason, and the others are still asked about all options."""
    with DecisionServer(reject="POISON") as server:
        asked = backend(server)
        bad, good = score(asked, requests_for(["POISON", "fine"], labels=tuple(f"label {i}" for i in range(12))))
        assert bad.error == "the server answered 422: body.state: this text is refused"
        assert good.error is None
        assert asked.route == "choice"
        before = len(server.bodies)
        assert score(asked, requests_for(["POISON too"], labels=tuple(f"label {i}" for i in range(12))))[0].error
        assert len(server.bodies) - before == 1  # so many options were accepted before: they are not the reason


def test_a_text_that_is_too_long_is_asked_about_once():
    """A refusal that speaks of the context is about the text, so fewer options are not tried."""
    long = Reply(400, {"error": {"message": "request (633 tokens) exceeds the available context size (16 tokens)"}})
    with DecisionServer(script=[None, long]) as server:
        (row,) = score(backend(server), requests_for(["x"], labels=tuple(f"label {i}" for i in range(40))))
        assert "context size" in row.error
        assert len(server.bodies) == 2


@settings(deadline=None)
@given(
    logits=st.lists(st.floats(-2, 2), min_size=1, max_size=60),
    cap=st.integers(2, 12),
)
def test_linked_groups_of_a_softmax_are_the_softmax(logits, cap):
    """Luce's law: groups of any size, linked through their winners, give every probability exactly."""
    places = {str(i): value for i, value in enumerate(logits)}
    most_asked = 0

    async def ask(questions):
        nonlocal most_asked
        most_asked = max(most_asked, *(len(question.options) for question in questions))
        return [shares(softmax([places[o] for o in question.options]), rounded=False) for question in questions]

    (found,) = asyncio.run(linked(ask, [Question("?", tuple(places))], cap))
    np.testing.assert_allclose(found.logp, np.log(softmax(logits)), atol=1e-9)
    assert most_asked <= cap


def test_the_winner_of_a_group_has_the_bounds_of_its_place_among_winners():
    """A winner's weight is not blurred by the rounding within its group; the other options' is."""
    parts = [shares([0.6, 0.4], rounded=True), shares([1.0], rounded=False)]
    found = link(parts, shares([0.3, 0.7], rounded=False))
    least, most = 0.395 / 0.605 * 0.3, 0.405 / 0.595 * 0.3  # what the second option may weigh
    assert np.exp(found.lower[0]) == pytest.approx(0.3 / (1.0 + most))
    assert np.exp(found.upper[0]) == pytest.approx(0.3 / (1.0 + least))
    assert np.exp(found.lower[1]) == pytest.approx(least / (1.0 + least))
    assert np.exp(found.upper[1]) == pytest.approx(most / (1.0 + most))


def test_joining_one_group_changes_nothing():
    """A single group is its own answer."""
    part = shares([0.2, 0.5, 0.3], rounded=False)
    np.testing.assert_allclose(link([part], shares([1.0], rounded=False)).logp, part.logp, atol=1e-12)


def test_the_mean_of_one_answer_is_the_answer():
    """Averaging is the identity where there is one order."""
    part = shares([0.2, 0.8], rounded=True)
    assert average([part]) is part


# --- refusals and failures ---------------------------------------------------------------------------------------------


def test_a_model_that_refuses_leaves_one_row_missing():
    """A refusal is that row's error and nobody else's."""
    with DecisionServer() as server:
        rows = score(backend(server, "decisions"), requests_for(["fine", "REFUSE this", "fine too"]))
    assert [row.error for row in rows] == [None, "the model refused to answer", None]


def test_a_refused_question_leaves_the_others_of_its_request():
    """Of two questions about one text the one that is answered has its scores."""
    requests = [*requests_for(["x"], instruction="REFUSE"), *requests_for(["x"])]
    with DecisionServer() as server:
        refused, answered = score(backend(server, "decisions"), requests)
        assert server.n_questions == [2]
    assert refused.error == "the model refused to answer"
    assert answered.error is None


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "NO GOOD", "type": "invalid_request_error"}},
        {"error": "NO GOOD"},
        {"message": "NO GOOD"},
        {"detail": "NO GOOD"},
        {"detail": {"error_type": "api_usage_error", "message": "NO GOOD"}},
        {"detail": [{"loc": ["body"], "msg": "NO GOOD", "type": "too_long"}]},
        "NO GOOD",
        {},
        [],
    ],
)
def test_a_rejected_row_has_the_servers_reason_in_any_shape(scheme, status, body):
    """Every shape of error body that servers use is read, the row says why, and the rest goes on."""
    with DecisionServer(script=[None, Reply(status, body)]) as server:
        bad, good = score(backend(server, scheme), requests_for(["x", "y"], labels=("a", "b")))
        assert len(server.bodies) == 3  # nothing is asked again that was rejected
    assert f"answered {status}" in bad.error
    assert ("NO GOOD" in bad.error) == (body not in ("NO GOOD", {}, []))
    assert good.error is None


@pytest.mark.parametrize("status", [401, 403, 404, 501])
def test_what_every_row_would_suffer_stops_the_work(scheme, status):
    """A wrong key, an unknown model or a missing route is an error of its own, on connecting as well as later."""
    for script in ([Reply(status, {"detail": "NO GOOD"})], [None, Reply(status, {"detail": "NO GOOD"})]):
        with DecisionServer(script=script) as server, pytest.raises(ServerError, match="NO GOOD") as caught:
            score(backend(server, scheme), requests_for())
        assert caught.value.is_final
        assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_what_heals_is_asked_again(scheme, status):
    """A busy server costs retries; a row is given up only when they are used up."""
    busy = Reply(status, {"error": {"message": "slow down"}}, {"retry-after": "0"})
    with DecisionServer(script=[busy, None, busy, None]) as server:
        asked = backend(server, scheme)
        (row,) = score(asked, requests_for(["x"]))
        assert row.error is None
        assert (asked.usage.requests, asked.usage.retries) == (4, 2)
        server.script = [busy, busy]
        bad, good = score(backend(server, scheme), requests_for(["x", "y"]))
    assert "after 2 attempts" in bad.error
    assert good.error is None


def test_a_rejected_request_of_several_questions_is_asked_one_by_one(scheme):
    """A server that takes one question at a time answers all rows and all orders, and soon is not asked more."""
    requests = [*requests_for(["x"]), *requests_for(["x"], labels=("a", "b"))]
    with DecisionServer(most_questions=1) as server:
        rows = score(backend(server, scheme, permutations=2), requests)
        assert server.n_questions == [4, 1, 1, 1, 1]
        for labels, row in zip((LABELS, ("a", "b")), rows, strict=True):
            np.testing.assert_allclose(probabilities(row), server.probabilities("x", labels), atol=1e-9)


def test_how_many_questions_a_server_takes_is_learned():
    """A server that takes three questions at once is not refused the same number again and again."""
    with DecisionServer(most_questions=3) as server:
        asked = backend(server, permutations=8, concurrency=1)
        rows = score(asked, requests_for(["x", "y", "z"], labels=tuple("abcdefgh")))
        assert server.n_questions == [8, *[1] * 8, 4, *[1] * 4, 2, 2, 2, 2, 2, 2]
    for text, row in zip("xyz", rows, strict=True):
        np.testing.assert_allclose(probabilities(row), server.probabilities(text, "abcdefgh"), atol=1e-9)


def test_a_server_that_is_away_is_named(scheme):
    """A connection that cannot be made is a final error with the address."""
    with DecisionServer() as server:
        url = server.url
    with pytest.raises(ServerError, match=r"cannot be reached at http://127\.0\.0\.1") as caught:
        score(backend(url, scheme), requests_for())
    assert caught.value.is_final


def test_an_alias_that_moves_stops_the_work(scheme):
    """As soon as another model answers than the first one, no more scores are given, and both are named."""
    with DecisionServer("jev-1.13.0") as server:
        asked = backend(server, scheme)
        assert asked.identity()["answered_by"] == "jev-1.13.0"
        assert score(asked, requests_for())[0].error is None
        server.model = "jev-1.14.0"
        with pytest.raises(ServerError, match=r"'jev-1\.14\.0' answered, and 'jev-1\.13\.0' did before") as caught:
            score(asked, requests_for())
        assert caught.value.is_final


# --- the handle --------------------------------------------------------------------------------------------------------


def test_the_identity_names_all_that_scores_depend_on(scheme):
    """Model asked for, model that answers, question, orders and address; the address is the same with and without /v1."""
    with DecisionServer() as server:
        identity = backend(server, scheme, permutations=2).identity()
        assert identity == {
            "backend": scheme,
            "model": "jev-latest",
            "answered_by": "model-1.0",
            "question": "choice",
            "permutations": 2,
            "base_url": server.url,
        }
        assert json.loads(json.dumps(identity)) == identity
        assert backend(f"{server.url}/v1/", scheme, permutations=2).identity() == identity


def test_equal_handles_share_a_connection_and_connect_once(scheme):
    """Copies, clones and equal handles have one usage, one limit and one small question between them."""
    with DecisionServer() as server:
        first, second = backend(server, scheme), backend(server, scheme)
        assert first == second
        assert hash(first) == hash(second)
        assert first.usage is second.usage is clone(first, safe=False).usage
        threads = [threading.Thread(target=each.identity) for each in (first, second) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.bodies) == 1
        assert backend(server, scheme, permutations=2).usage is not first.usage


def test_a_pickle_is_the_description_alone(scheme):
    """What comes out of a pickle is equal, has nothing open, and its representation rebuilds it."""
    with DecisionServer() as server:
        asked = backend(server, scheme, price={"input": 1.0, "output": 2.0}, question="score")
        asked.identity()
        copy = pickle.loads(pickle.dumps(asked))
        assert copy == asked
        assert copy._held is None
        assert eval(repr(asked), dict.fromkeys(("SystemOneBackend", "DecisionsBackend"), BACKENDS[scheme])) == asked
        assert type(asked)(asked.name, **asked.options) == asked
        assert copy.identity() == asked.identity()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"base_url": "localhost:8000"}, "base_url='localhost:8000'"),
        ({"base_url": "http://user:secret@localhost"}, "environment variable"),
        ({"question": "maybe"}, "question='maybe': expected one of 'choice', "),
        ({"permutations": 0}, "permutations=0: expected a positive whole number"),
        ({"permutations": True}, "permutations=True"),
        ({"permutations": 2, "question": "score"}, "question='choice'"),
        ({"timeout": 0}, "timeout=0"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"rpm": 0}, "rpm=0"),
        ({"tpm": 1.5}, "tpm=1.5"),
        ({"price": {"input": 1.0}}, "price="),
        ({"max_cost": 1.0}, "needs price="),
        ({"api_key_env": 3}, "api_key_env=3"),
    ],
)
def test_bad_options_are_refused_at_once(scheme, options, problem):
    """Every option that cannot be used is named with what was expected, before anything is sent."""
    with pytest.raises(InputError) as caught:
        BACKENDS[scheme](f"{scheme}:x", **{"base_url": "http://localhost:1", **options})
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["systemone", "decisions:", "x", "", "openai:x"])
def test_a_name_without_its_scheme_is_refused(scheme, name):
    """A model string begins with its scheme and goes on with a name."""
    with pytest.raises(ModelNameError, match=f"'{scheme}:NAME'"):
        BACKENDS[scheme](name, base_url="http://localhost:1")


def test_the_address_may_come_from_the_environment(scheme, monkeypatch):
    """Without base_url the protocol's own variable names the server; without either both cures are named."""
    variable = {"systemone": "TYPESAFE_BASE_URL", "decisions": "OPENAI_BASE_URL"}[scheme]
    with pytest.raises(InputError, match=f"base_url=.*{variable}"):
        BACKENDS[scheme](f"{scheme}:x")
    with DecisionServer() as server:
        monkeypatch.setenv(variable, server.url + "/v1")
        asked = BACKENDS[scheme](f"{scheme}:x")
        assert asked.options == {}
        assert asked.identity()["base_url"] == server.url


def test_the_key_is_sent_where_there_is_one_and_never_kept(scheme, monkeypatch):
    """The usual variable is used if it is set, a named one must be set, and no description holds a key."""
    usual = {"systemone": "TYPESAFE_API_KEY", "decisions": "OPENAI_API_KEY"}[scheme]
    with DecisionServer() as server:
        without = backend(server, scheme)
        without.identity()
        assert "authorization" not in server.headers[-1]
        monkeypatch.setenv(usual, "secret-1")
        assert backend(server, scheme) == without
        backend(server, scheme).identity()
        assert server.headers[-1]["authorization"] == "Bearer secret-1"
        with pytest.raises(InputError, match="OTHER_KEY is not set"):
            backend(server, scheme, api_key_env="OTHER_KEY").identity()
        monkeypatch.setenv("OTHER_KEY", "secret-2")
        named = backend(server, scheme, api_key_env="OTHER_KEY")
        named.identity()
        assert server.headers[-1]["authorization"] == "Bearer secret-2"
    assert "secret" not in repr(named) + str(pickle.dumps(named)) + str(named.options)


def test_an_estimate_sends_nothing(scheme):
    """Rows, requests, tokens and cost are told without a server."""
    asked = BACKENDS[scheme](
        f"{scheme}:x", base_url="http://127.0.0.1:1", permutations=2, price={"input": 1e6, "output": 0.0}
    )
    requests = [*requests_for(["x" * 4000]), *requests_for(["x" * 4000], labels=("a", "b")), *requests_for(["y"])]
    estimate = asked.estimate(requests)
    assert (estimate.rows, estimate.requests, estimate.is_counted) == (3, 2, False)
    assert 1000 < estimate.tokens_in < 1300  # the text is read once for both questions
    assert estimate.cost == pytest.approx(estimate.tokens_in)
    assert asked.usage.requests == 0


def test_what_cannot_be_paid_for_is_not_asked(scheme):
    """The budget is an upper limit: the request that could pass it is not sent, and what was spent is counted."""
    with DecisionServer() as server:
        asked = backend(server, scheme, price={"input": 1.0, "output": 1.0}, max_cost=0.002)
        with pytest.raises(BudgetError):
            score(asked, requests_for([f"text {i} " * 50 for i in range(50)]))
        assert 0 < asked.usage.cost <= 0.002
        assert asked.usage.tokens_in > 0


@pytest.mark.parametrize(
    ("labels", "options", "problem"),
    [
        (("a", " a "), {}, "differ in more than the spaces"),
        (("a", " "), {}, "not empty"),
        (("a", "b", "c"), {"question": "yes or no"}, "there are 3 label words"),
        (tuple("abcdefghijk"), {"question": "score"}, "there are 11 label words"),
        (("a",), {"question": "score"}, "there are 1 label words"),
    ],
)
def test_labels_that_fit_no_question_are_refused_before_anything_is_sent(scheme, labels, options, problem):
    """Options must be distinct, and as many as the question allows."""
    if options.get("question") == "yes or no":
        options = {"question": BACKENDS[scheme].wire.yes_or_no}
    with DecisionServer() as server:
        with pytest.raises(PromptError, match=problem):
            score(backend(server, scheme, **options), requests_for(labels=labels))
        assert server.bodies == []


def test_an_end_of_answer_token_cannot_be_asked_for(scheme):
    """Whole options have no end to be scored: terminator='eos' is refused before anything is sent."""
    with DecisionServer() as server:
        with pytest.raises(CapabilityError, match="terminator='auto'"):
            score(backend(server, scheme), requests_for(terminator="eos"))
        assert server.bodies == []


def test_a_single_option_has_nothing_to_be_asked():
    """One option that excludes all others has probability 1, and no question is sent for it."""
    with DecisionServer() as server:
        (row,) = score(backend(server), requests_for(["x"], labels=("only",)))
        assert row.sums == (0.0,)
        assert server.n_questions == []


def test_confidence_is_the_protocols_own_formula():
    """Recomputed from probabilities it agrees with the conformance suite's reference."""
    for p in ([0.1, 0.7, 0.2], [1.0], [0.25] * 4, [0.01, 0.99], [0.4, 0.1, 0.1, 0.4]):
        assert confidence(p) == pytest.approx(choice_confidence(p), abs=1e-12)
        assert confidence(p, ordered=True) == pytest.approx(score_confidence(p), abs=1e-12)


# --- the estimator -----------------------------------------------------------------------------------------------------


def test_a_classifier_on_a_decision_server(scheme, tmp_path):
    """Fit, predict_proba and clone work, several words of a class add up, and the cache asks nothing twice."""
    with DecisionServer() as server:
        clf = LLMClassifier(
            backend(server, scheme),
            labels={"good": ["fine", "great"], "bad": "dull"},
            prompt=Prompt("{{ text }}", instruction=INSTRUCTION),
            cache=tmp_path / "scores.sqlite",
        )
        proba = clone(clf).fit(TEXTS).predict_proba(TEXTS)
        for row, text in zip(proba, TEXTS, strict=True):
            fine, great, dull = server.probabilities(text, ["fine", "great", "dull"])
            np.testing.assert_allclose(row, [dull, fine + great], atol=1e-9)
        np.testing.assert_allclose(clf.fit(TEXTS).label_mass(TEXTS), 1.0)
        assert len(server.bodies) == 1 + len(TEXTS)


def test_rows_that_a_server_rejects_can_be_left_out(scheme):
    """With on_error='missing' a rejected row is NaN and the others are not; without, it is an error that names the row."""
    texts = ["fine", "POISON", "also fine"]
    with DecisionServer() as server:
        clf = LLMClassifier(backend(server, scheme), labels=["a", "b"], prompt=Prompt("{{ text }}"))
        with pytest.raises(ModelError, match="row 1 could not be scored.*this text is refused"):
            clf.fit(texts).predict_proba(texts)
        proba = clf.set_params(on_error="missing").fit(texts).predict_proba(texts)
    assert np.isnan(proba).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(proba[[0, 2]].sum(axis=1), 1.0)


def test_rows_may_bring_their_own_choices(scheme):
    """Options that differ from row to row are asked as they are."""
    rows = [{"event": "It rained.", "choices": ["wet", "dry"]}, {"event": "It rained.", "choices": ["cold", "warm"]}]
    prompt = Prompt("{{ event }}", choices="choices", instruction="What is the street like?")
    with DecisionServer() as server:
        proba = LLMClassifier(backend(server, scheme), labels=[0, 1], prompt=prompt).fit(rows).predict_proba(rows)
        assert server.n_questions == [2]
        for row, found in zip(rows, proba, strict=True):
            np.testing.assert_allclose(found, server.probabilities("It rained.", row["choices"]), atol=1e-9)


# --- real servers ------------------------------------------------------------------------------------------------------


@contextmanager
def sdk(url):
    """The protocol's official client."""
    with TypeSafeClient(
        api_key="any", model="jev-latest", base_url=url, compression=False, retry=RetryPolicy(max_retries=0)
    ) as client:
        yield client


@pytest.fixture(scope="module")
def sparrow_url():
    with sparrow() as url:
        yield url


@pytest.fixture(scope="module")
def mock_url():
    with mock() as url:
        yield url


@pytest.mark.server
@pytest.mark.parametrize("server", ["sparrow_url", "mock_url"])
def test_the_official_client_gets_the_same_probabilities(server, request):
    """Choice, noul and score agree with typesafe-sdk on a real decision model and on the reference server."""
    url = request.getfixturevalue(server)
    labels, levels = ("positive", "negative", "mixed"), ("awful", "middling", "superb")
    choices = score(backend(url), requests_for(labels=labels))
    nouls = score(backend(url, question="noul"), requests_for(labels=labels[:2]))
    scores = score(backend(url, question="score"), requests_for(labels=levels))
    with sdk(url) as client:
        for i, text in enumerate(TEXTS):
            theirs = client.system_one(
                text,
                {
                    "choice": Choice(instructions=INSTRUCTION, criteria=dict.fromkeys(labels)),
                    "noul": Noul(instructions=INSTRUCTION, criteria={"true": "negative", "false": "positive"}),
                    "score": Score(instructions=INSTRUCTION, criteria=list(levels)),
                },
            )
            # Sparrow shows four digits, and their sum may be off by as many halves of the last as there are options.
            stated = [theirs.choices["choice"].probabilities[label] for label in labels]
            np.testing.assert_allclose(probabilities(choices[i]), stated, atol=2e-4)
            assert probabilities(nouls[i])[1] == pytest.approx(theirs.nouls["noul"].noul, abs=2e-4)
            stated = [theirs.scores["score"].probabilities[level] for level in range(3)]
            np.testing.assert_allclose(probabilities(scores[i]), stated, atol=2e-4)
            assert confidence(np.exp(choices[i].sums)) == pytest.approx(theirs.choices["choice"].confidence, abs=1e-3)


def test_a_real_decision_model_tells_refunds_from_bugs(sparrow_url):
    """A classifier on a real model gets easy texts right, and calling it twice gives the same."""
    clf = LLMClassifier(
        backend(sparrow_url),
        labels={"billing": "a charge, an invoice or a refund", "bug": "a broken feature or an error message"},
        prompt=Prompt("{{ text }}", instruction="What is the customer writing about?"),
    )
    texts = [
        "I was charged twice this month, please refund me.",
        "The invoice shows the wrong amount.",
        "The app crashes with an error message when I open settings.",
        "The export button is broken and does nothing.",
    ]
    clf.fit(texts)
    assert clf.predict(texts).tolist() == ["billing", "billing", "bug", "bug"]
    np.testing.assert_array_equal(clf.predict_proba(texts), clf.predict_proba(texts))


def test_the_reference_server_counts_what_it_read(mock_url):
    """Tokens are the server's own count, and its answers carry the model's full name."""
    asked = backend(mock_url, model="mock")
    score(asked, requests_for())
    assert asked.identity()["answered_by"].startswith("jevcompat-mock")
    assert asked.usage.tokens_in > 0


MORE_LABELS = tuple(f"Label {i} Ünïcode" for i in range(70))
CASES = {
    "choice": LABELS,
    "noul": ("negative", "Café Müller"),
    "score": tuple(f"Level {i}" for i in range(6)),
    "many": MORE_LABELS,
}
HARMLESS = {
    "plain-content-type", "text-errors", "models-404", "auth-x-api-key", "auth-plain", "auth-invalid-403-text",
    "auth-rejects-header", "reject-array-state", "strict-ids", "string-only-text", "noul-two-sided",
    "noul-needs-instructions", "forbid-extra", "accept-map-score", "no-usage", "float-usage", "extra-answer", "nan",
    "unprefixed-extra", "choice-no-confidence", "choice-second", "score-no-legend", "legend-1-based", "score-argmax",
    "confidence-over", "confidence-margin", "500-on-unknown-type", "accept-boolean", "validation-400", "error-flat",
    "first-question-only", "cap-64", "no-null-description", "id-leaks", "batch-leaks", "order-leaks",
}  # fmt: skip
"""Faults that cost no row: they are about what we never ask and never read, or can be worked around."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_no_fault_of_a_server_becomes_a_wrong_probability(fault, case):
    """Whatever requirement a server breaks: its model's probabilities arrive as they are, or an error does."""
    labels = CASES[case]
    kind = "choice" if case == "many" else case
    with faulty_mock(fault) as url:
        asked = backend(url, question=kind)
        try:
            rows = score(asked, requests_for(TEXTS[:2], labels=labels))
        except ServerError as error:
            assert error.is_final
            assert fault not in HARMLESS
            return
    for text, row in zip(TEXTS, rows, strict=False):
        if row.error is not None:
            assert fault not in HARMLESS
            assert row.token_logprobs == ()
            continue
        config = MockConfig(faults=frozenset({fault} if fault.endswith("-leaks") else ()))
        truth = _mock_says(config, text, kind, labels, describe=fault == "no-null-description")
        np.testing.assert_allclose(probabilities(row), truth, atol=1e-9)


def _mock_says(config, text, kind, labels, describe=False):
    """What the mock's model says when it is asked about one row alone."""
    options = {label: label if describe else None for label in labels}
    criteria = {
        "choice": options,
        "noul": {"true": labels[-1], "false": labels[0]},
        "score": list(labels),
    }
    question = {"type": kind, "instructions": INSTRUCTION, "criteria": criteria[kind]}
    found = mock_answer(config, text, "q0", question, 0, 1)
    return [1 - found["noul"], found["noul"]] if kind == "noul" else list(found["probabilities"].values())


@pytest.mark.parametrize("fault", ["auth-rejects-header", "auth-x-api-key", "auth-plain", "auth-invalid-403-text"])
@pytest.mark.parametrize("key", [None, "wrong"])
def test_no_fault_of_a_key_check_becomes_a_score(fault, key, monkeypatch):
    """A key that is missing or wrong stops the work with an error, in whatever form the server says so."""
    if key is not None:
        monkeypatch.setenv("TYPESAFE_API_KEY", key)
    with (
        faulty_mock(fault, key="right") as url,
        pytest.raises(ServerError, match="40[13]") as caught,
    ):
        score(backend(url), requests_for())
    assert caught.value.is_final
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("permutations", [1, 3])
def test_a_server_that_answers_the_first_question_alone_is_asked_one_by_one(permutations):
    """Questions that get no answer together get one each."""
    with faulty_mock("first-question-only") as url:
        (row,) = score(backend(url, permutations=permutations), requests_for(TEXTS[:1]))
    np.testing.assert_allclose(probabilities(row), _mock_says(MockConfig(), TEXTS[0], "choice", LABELS), atol=1e-9)


def test_a_busy_server_costs_retries_and_no_row():
    """Every third request is answered by 429; all rows arrive."""
    with faulty_mock(busy_every=3) as url:
        asked = backend(url, max_retries=8)
        rows = score(asked, requests_for([f"text {i}" for i in range(30)]))
    assert all(row.error is None for row in rows)
    assert asked.usage.retries > 0


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    model = decision_gguf(folder)
    with llama(model) as url:
        yield url
    model.unlink()


def test_llama_cpp_answers_decisions(llama_url):
    """The real llama.cpp server: each kind of question gives a distribution, and its model is named."""
    texts = ["The film was a delight.", "What a waste of time."]
    for question, labels in (("choice", LABELS), ("noul", LABELS[:2]), ("score", ("awful", "middling", "superb"))):
        asked = backend(llama_url, question=question)
        for row in score(asked, requests_for(texts, labels=labels)):
            assert probabilities(row).sum() == pytest.approx(1.0)
        assert asked.identity()["answered_by"].endswith("decision.gguf")


def test_llama_cpp_says_how_many_options_it_takes(llama_url):
    """60 options are one too many for a letter each: 52 is learned from its refusal, and the groups are linked."""
    labels = tuple(f"topic {i}" for i in range(60))
    asked = backend(llama_url)
    (row,) = score(asked, requests_for(["The film was a delight."], labels=labels))
    assert probabilities(row).sum() == pytest.approx(1.0)
    assert asked.route == "choice, linked groups"
    assert asked._connection.cap == 52


def test_llama_cpp_refuses_a_text_that_is_too_long(llama_url):
    """A text beyond the context is that row's error, with the server's own words."""
    asked = backend(llama_url)
    bad, good = score(asked, requests_for(["word " * 3000, "short"]))
    assert "exceeds the available context size" in bad.error
    assert good.error is None
    assert asked.route == "choice"
