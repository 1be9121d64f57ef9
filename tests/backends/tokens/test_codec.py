"""Requests are tokenised a few at a time, and what they share is held once."""

from __future__ import annotations

import pytest
from contract import TEXTS, requests_for

from llmclf import Prompt
from llmclf.backends import Request
from llmclf.backends.tokens import codec
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder

LABELS = ["positive", "negative", "not sure", "positive news"]


@pytest.mark.model
@pytest.mark.parametrize("most", [1, 700])
def test_a_few_at_a_time_are_all_of_them(smollm2, monkeypatch, most):
    """Whatever the number of characters that are tokenised together: the same rows, whose labels are one object."""
    requests = requests_for(TEXTS, LABELS)
    made = TokenCodec(TokenizerEncoder(smollm2.tokenizer), 2048)
    whole = made.encode(requests)
    sizes = []
    encode = TokenizerEncoder.encode
    monkeypatch.setattr(
        TokenizerEncoder, "encode", lambda self, texts: (sizes.append(len(texts)), encode(self, texts))[1]
    )
    monkeypatch.setattr(codec, "_CHARACTERS_AT_ONCE", most)
    rows = made.encode(requests)
    assert rows == whole
    assert len(sizes) > 1
    assert sum(sizes) == len(requests) * (1 + len(LABELS))
    for row in rows:
        assert all(row.targets is other.targets for other in rows if other.targets == row.targets)


@pytest.mark.model
def test_all_of_a_prompt_counts_for_how_many_are_tokenised_at_once(smollm2, monkeypatch):
    """Not its text alone: what stands around a short one is tokenised with each label, too."""
    renderer = Prompt(f"{'A long instruction. ' * 50}{{{{ text }}}}").renderer(LABELS, [])
    requests = [Request(renderer.render({"text": text}), tuple(f" {one}" for one in LABELS)) for text in TEXTS[:6]]
    n_each = max(len(request.prompt.text) for request in requests) * (1 + len(LABELS)) + 100
    sizes = []
    encode = TokenizerEncoder.encode

    def counted(self, texts):
        sizes.append(sum(len(span.text) for spans in texts for span in spans))
        return encode(self, texts)

    monkeypatch.setattr(TokenizerEncoder, "encode", counted)
    monkeypatch.setattr(codec, "_CHARACTERS_AT_ONCE", 2 * n_each)
    TokenCodec(TokenizerEncoder(smollm2.tokenizer), 2048).encode(requests)
    sizes = [one for one in sizes if one > 1]  # The codec first asks about single characters.
    assert len(sizes) == 3
    assert max(sizes) <= 2 * n_each
