"""What a backend offers is seen without loading a model or asking a server."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf import Prompt
from llmclf.backends import FakeBackend, ReferenceBackend, Request, base, open_backend, requests
from llmclf.errors import InputError

OFFERED = {
    "hf:no/such-model": {
        "Generates",
        "ShowsDistributions",
        "ShowsStates",
        "CountsTokens",
        "ProcessesLogits",
        "SharesBeginnings",
    },
    "openai:any": {"Streams", "Batches", "EstimatesCost", "BehindServer", "CountsUsage", "SeesTokens"},
    "systemone:any": {"Streams", "EstimatesCost", "BehindServer", "CountsUsage", "SeesTokens"},
    "decisions:any": {"Streams", "EstimatesCost", "BehindServer", "CountsUsage", "SeesTokens"},
}
PROTOCOLS = sorted(set.union(*OFFERED.values()))


class Plain:
    """A backend as somebody else writes it, with what the protocol demands and nothing besides."""

    def identity(self):
        return {"backend": "plain"}

    def score(self, requests):
        return FakeBackend().score(requests)


@pytest.mark.parametrize("name", OFFERED)
def test_each_backend_offers_what_its_class_says(name):
    """Neither weights nor a server are there; what only one of them could tell is not asked for."""
    backend = open_backend(name, **({} if name.startswith("hf:") else {"base_url": "http://localhost:9/v1"}))
    # On Python 3.11 a question about `sees_tokens` reads it, and that may ask the server.
    asked = [one for one in PROTOCOLS if one != "SeesTokens" or name != "openai:any"]
    assert {one for one in asked if isinstance(backend, getattr(base, one))} == OFFERED[name] & set(asked)


def test_backend_with_identity_and_score_alone_is_a_backend():
    """It offers nothing else, and each question about it has the answer that fits such a backend."""
    for backend in (Plain(), FakeBackend()):
        assert isinstance(backend, base.Backend)
        assert not any(isinstance(backend, getattr(base, one)) for one in PROTOCOLS)
        assert not base.processes_logits(backend)
        assert not base.shares_beginnings(backend)
        assert not base.shows_states(backend)
        assert base.sees_tokens(backend)


def test_capability_that_is_denied_is_not_there():
    """The members of a protocol may say no."""
    backend = Plain()
    backend.processes_logits = backend.shares_beginnings = backend.sees_tokens = backend.shows_states = False
    assert not base.shows_states(backend)
    assert not base.processes_logits(backend)
    assert not base.shares_beginnings(backend)
    assert not base.sees_tokens(backend)
    backend.processes_logits = backend.shares_beginnings = backend.sees_tokens = backend.shows_states = True
    assert base.shows_states(backend)
    assert base.processes_logits(backend)
    assert base.shares_beginnings(backend)
    assert base.sees_tokens(backend)


def test_local_model_counts_and_ends(tiny_bpe):
    """What the tokenizer says, without special tokens."""
    texts = ["A fine film.", "x"]
    assert tiny_bpe.count_tokens(texts) == sum(
        len(tiny_bpe.tokenizer.encode(text, add_special_tokens=False)) for text in texts
    )
    assert tiny_bpe.count_tokens([]) == 0
    (end,) = tiny_bpe.end_ids
    assert tiny_bpe.ends_answer(end)
    assert not tiny_bpe.ends_answer(end + 1)
    assert tiny_bpe.room_after(3) == tiny_bpe.reads - 3


def test_reference_processes_logits(tiny_bpe):
    """As every backend that is compared with it where it can."""
    assert base.processes_logits(ReferenceBackend(tiny_bpe.model, tiny_bpe.tokenizer))
    assert base.processes_logits(tiny_bpe)


@pytest.mark.parametrize("name", [*(name for name in OFFERED if not name.startswith("hf:")), "fake"])
def test_states_are_refused_where_none_are_shown(name):
    """Before anything is sent, with what can be used instead; the same question without states may be asked."""
    backend = FakeBackend() if name == "fake" else open_backend(name, base_url="http://localhost:9/v1")
    prompt = Prompt("{{ text }}:").renderer(["a", "b"]).render({"text": "x"})
    request = Request(prompt, (" a", " b"), states=requests.STATE_PARTS)
    with pytest.raises(
        InputError, match=r"shows no hidden states .*features='tfidf' or Embeddings\(\.\.\.\), or a local model"
    ):
        list(backend.score([request]))
    assert not base.shows_states(backend)


def test_reference_and_local_models_show_states(tiny_bpe):
    """The reference by one more plain call of each prompt."""
    reference = ReferenceBackend(tiny_bpe.model, tiny_bpe.tokenizer)
    assert base.shows_states(reference)
    assert base.shows_states(tiny_bpe)


def test_row_scores_are_compared_without_their_states():
    """Two answers with the same scores are the same; states are no part of what is shown of them."""
    states = np.array([0.5, 1.0], dtype=np.float32)
    one = requests.RowScores(((-1.0,),), state_parts=(requests.StatePart("last", 1.0),), states=states)
    assert one == requests.RowScores(((-1.0,),))
    assert hash(one) == hash(requests.RowScores(((-1.0,),)))
    assert "states" not in repr(one)
    back = requests.RowScores.from_json(one.to_json())
    assert back.state_parts == one.state_parts
    np.testing.assert_array_equal(back.states, states)
    assert requests.RowScores.from_json(base.RowScores(((-1.0,),)).to_json()).states is None
