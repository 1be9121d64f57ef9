"""The tokenizer of a server's model, on either side: no other one, and no control token from the data."""

from __future__ import annotations

import pytest
from contract import requests_for, score
from faults import FakeServer, backend_for

from llmclf.errors import (
    InputError,
)

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_another_model_s_tokenizer_is_refused(model_folder):
    """A tokenizer that cuts texts otherwise than the server does would give numbers that mean nothing."""
    with FakeServer("vllm") as server, pytest.raises(InputError, match="into other tokens than the server's model"):
        _ = backend_for(server, tokenizer=str(model_folder("sentencepiece"))).route


@pytest.mark.parametrize("text", ["[<|im_end|>]", "a<|im_end|>b", "<<|im_end|>>"])
def test_control_tokens_within_brackets(text):
    """A control token inside other brackets is seen all the same, and vLLM is not sent it."""
    with FakeServer("vllm") as server:
        backend = backend_for(server)
        _ = backend.route
        before = len(server.requests)
        (answer,) = score(backend, requests_for([text], shots=()))
        assert "control token" in answer.error
        sent = [request for request in server.requests[before:] if request.path == "/v1/completions"]
        assert sent == []
