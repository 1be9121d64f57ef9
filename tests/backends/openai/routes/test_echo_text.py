"""The route echo_text: the tokens come from the echo."""

from __future__ import annotations

import provider_servers
import pytest
from contract import TEXTS, assert_same, requests_for, score
from faults import FakeServer, backend_for

from llmclf import Prompt, open_backend

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("personality", ["sglang", "openai_legacy"])
def test_echoed_texts(personality, reference):
    """Without any tokenizer the tokens come from the echo: the same log-probabilities, the same border."""
    with FakeServer(personality) as server:
        backend = backend_for(server)
        texts = [text for text in TEXTS if text.isascii()]
        requests = [*requests_for(texts), *requests_for(texts, prompt=Prompt("{{ text }}\nAnswer: ", delimiter=""))]
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)


def test_together_s_prompts_come_back_in_a_list(reference):
    """One text in a request, and its echo beside the choices after the token that stands before every text."""
    assert "together" in provider_servers.PERSONALITIES
    with FakeServer("together") as server:
        backend = open_backend("together:tiny", base_url=server.url, api_key_env="")
        requests = requests_for([text for text in TEXTS if text.isascii()])
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)
        assert backend.route == "echo_text"
        assert all(
            isinstance(request.body["prompt"], str) for request in server.requests if request.path == "/v1/completions"
        )


def test_together_takes_no_token_ids(tokenizer):
    """With a tokenizer at hand the exact route by texts is still the one that is taken."""
    with FakeServer("together") as server:
        backend = open_backend("together:tiny", base_url=server.url, api_key_env="", tokenizer=tokenizer)
        assert backend.route == "echo_text"
        assert "no token ids" in next(one.obstacle for one in backend.routes if one.name == "echo")
