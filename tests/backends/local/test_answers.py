"""A local model asked by what it writes, beside its own exact scores."""

from __future__ import annotations

import asyncio
import copy
import pickle

import numpy as np
import pytest
from contract import LABELS, TEXTS, requests_for, score

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.backends import LocalAnswers
from llmclf.backends.base import processes_logits, sees_tokens, shows_states
from llmclf.errors import CapabilityError, EstimatedScoresWarning, InputError, UnknownOptionError

pytestmark = pytest.mark.filterwarnings("ignore::llmclf.errors.EstimatedScoresWarning")
PLAIN = Prompt("Review: {{ text }}\nSentiment:", terminator="\n")


@pytest.fixture
def answers_of(tiny_bpe):
    """A function: the tiny model with a route by answers."""
    return lambda route, **options: open_backend(tiny_bpe.name, use_route=route, **options)


@pytest.mark.model
def test_drawn_shares_agree_with_exact_scores(smollm2):
    """On the real model, bounds from forty answers hold the probability of the label and the end of its line."""
    requests = requests_for(TEXTS[:3], ["positive", "negative"], PLAIN)
    exact = score(smollm2, requests)
    backend = open_backend("smollm2", use_route="sampled", n_samples=40, max_samples=40, max_answer_tokens=4)
    held = 0
    for answer, reference in zip(score(backend, requests), exact, strict=True):
        assert answer.error is None
        held += all(
            low <= value <= high for low, value, high in zip(answer.lower, reference.sums, answer.upper, strict=True)
        )
    assert held >= 2


def test_the_same_seed_draws_the_same(answers_of):
    """Alone, in company and in another order; another seed draws otherwise."""
    requests = requests_for(TEXTS, ["a", "e", "i", "o"], Prompt("{{ text }}:", delimiter=""))
    backend = answers_of("sampled", n_samples=40, max_samples=40, max_answer_tokens=1)
    found = score(backend, requests)
    assert [score(backend, [request])[0] for request in requests] == found
    assert score(backend, requests[::-1]) == found[::-1]
    assert answers_of("sampled", seed=1).identity() != answers_of("sampled").identity()


@pytest.mark.parametrize("route", ["sampled", "verbalized", "mixed"])
def test_a_model_that_answers_no_label_has_no_scores(answers_of, route):
    """A random model's answers are rows' errors, and nothing is guessed from them; an event loop may be running."""
    requests = requests_for(TEXTS[:2], LABELS, Prompt("{{ text }}", chat=True), shots=())

    async def inside():
        options = {} if route == "verbalized" else {"n_samples": 2, "max_samples": 4}
        return score(answers_of(route, **options), requests)

    for answer in asyncio.run(inside()):
        assert answer.token_logprobs == ()
        assert answer.error is not None


def test_plain_text_is_continued_as_it_is_and_cannot_be_asked_about(answers_of):
    """A prompt in plain text names its labels itself; only a chat can be asked for all shares."""
    (request,) = requests_for(TEXTS[:1], LABELS)
    assert answers_of("sampled").shown_prompt(request) == request.prompt.text
    (chat,) = requests_for(TEXTS[:1], LABELS, Prompt("{{ text }}", chat=True), shots=())
    assert "Answer with exactly one of these labels" in answers_of("sampled").shown_prompt(chat)
    with pytest.raises(CapabilityError, match=r"plain text that a model continues; use Prompt\(..., chat=True\)"):
        score(answers_of("verbalized"), [request])


def test_too_long_a_row_is_cut_in_its_text(answers_of):
    """Instruction, labels and the end of the prompt stay; where nothing of the text can be cut, the row is an error."""
    backend = answers_of("sampled", n_samples=4, max_samples=4)
    for chat in (False, True):
        prompt = Prompt("Text: {{ text }}\nLabel:", instruction="Judge.", chat=chat)
        long, short = requests_for(["word " * 5000, "word"], ["a", "e"], prompt, shots=())
        first, second = score(backend, [long, short])
        assert 23_000 < first.characters_cut < 25_000
        assert second.characters_cut == 0
        assert "none of 4 answers" in (first.error or "none of 4 answers")
    (row,) = requests_for(["word"], ["a", "e"], Prompt("Text: {{ text }}" + " and so on" * 500 + "\nLabel:"), shots=())
    assert "its text field has only 4 characters to give" in score(backend, [row])[0].error


def test_it_is_a_handle_with_its_own_options(answers_of):
    """Equal ones are equal, pickles keep the description, and what needs log-probabilities is refused."""
    backend = answers_of("sampled", n_samples=3)
    assert isinstance(backend, LocalAnswers)
    assert pickle.loads(pickle.dumps(backend)) == backend == copy.deepcopy(backend)
    assert (processes_logits(backend), shows_states(backend), sees_tokens(backend)) == (False, False, False)
    assert backend.identity()["route"] == "sampled"
    with pytest.raises(InputError, match="mean"):
        LLMClassifier(backend, labels=LABELS, scoring="mean").fit(TEXTS).predict(TEXTS)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_samples": 3}, InputError, "no use_route= among them; name one of 'verbalized', 'sampled', 'mixed'"),
        ({"use_route": "echo"}, InputError, "use_route='echo': expected 'verbalized', 'sampled', 'mixed'"),
        ({"use_route": "sampled", "batch_tokens": 8}, UnknownOptionError, "batch_tokens"),
        ({"use_route": "verbalized", "n_samples": 3}, InputError, "n_samples=3 belongs to"),
        ({"use_route": "sampled", "effort": "high"}, InputError, "effort='high': a model on this machine takes none"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, error, match):
    """Before any weights are loaded."""
    with pytest.raises(error, match=match):
        open_backend("smollm2", **options)


def test_the_first_use_warns_once(answers_of):
    """And says that the model has exact scores."""
    requests = requests_for(TEXTS[:1], LABELS)
    with pytest.warns(EstimatedScoresWarning, match="also has the route 'trie', which reads log-probabilities"):
        score(answers_of("sampled", n_samples=1, max_samples=2), requests)
    np.testing.assert_equal(len(score(answers_of("sampled", n_samples=1, max_samples=2), requests)), 1)
