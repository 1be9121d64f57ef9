"""The route chat: what an answer does not show is bounded, not dropped."""

from __future__ import annotations

import math

import pytest
from contract import TEXTS, requests_for, score
from faults import FakeServer, backend_for
from tiny_reference import CHAT, text_truth

from llmclf.errors import (
    CapabilityError,
)

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_bounds_of_a_chat_hold_the_truth():
    """A chat shows twenty tokens at each place of its own answer; what it does not show is bounded, not dropped."""
    labels = ["a", "the", "not", "film", "text is"]
    requests = requests_for(TEXTS[:3], labels=labels, prompt=CHAT, shots=())
    with FakeServer("openai_chat") as server:
        answers = score(backend_for(server), requests)
        chat = [request for request in server.requests if request.path.endswith("/chat/completions")][-1].body
        prompt = server.model.chat(chat["messages"])
        row = answers[2]
        for label, low, high in zip(labels, row.lower, row.upper, strict=True):
            assert math.exp(low) - 1e-6 <= text_truth(prompt, label) <= math.exp(high) + 1e-6
            assert math.isfinite(high)


def test_a_plain_prompt_on_a_chat_server_is_refused():
    """A server of chats alone cannot continue a text, and says what to do."""
    with FakeServer("openai_chat") as server, pytest.raises(CapabilityError, match=r"chat=True"):
        score(backend_for(server), requests_for())
