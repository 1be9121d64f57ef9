"""The route echo_text: the tokens come from the echo."""

from __future__ import annotations

import pytest
from contract import TEXTS, assert_same, requests_for, score
from faults import FakeServer, backend_for

from llmclf import Prompt

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("personality", ["sglang", "openai_legacy"])
def test_echoed_texts(personality, reference):
    """Without any tokenizer the tokens come from the echo: the same log-probabilities, the same border."""
    with FakeServer(personality) as server:
        backend = backend_for(server)
        texts = [text for text in TEXTS if text.isascii()]
        requests = [*requests_for(texts), *requests_for(texts, prompt=Prompt("{{ text }}\nAnswer: ", delimiter=""))]
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)
