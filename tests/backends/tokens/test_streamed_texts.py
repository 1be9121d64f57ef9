"""Texts of tokens that are parts of characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.backends.tokens.transformers_encoder import streamed_texts, token_texts


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return smollm2.tokenizer


def test_parts_are_shown_by_their_bytes(tokenizer):
    """A part of a character shows its bytes, and what is whole beside it."""
    ids = tokenizer(" 🎬", add_special_tokens=False)["input_ids"]
    shown = "".join(token_texts(tokenizer, ids))
    assert shown.replace("⟩⟨", " ") == " ⟨F0 9F 8E AC⟩"


def test_parts_are_joined(tokenizer):
    """A character that several tokens write belongs to the last of them; those before it add nothing."""
    ids = tokenizer("ok 🎬 東京!", add_special_tokens=False)["input_ids"]
    texts = streamed_texts(tokenizer, ids)
    assert "".join(texts) == "ok 🎬 東京!"
    assert "" in texts
    assert not any("\ufffd" in text or "⟨" in text for text in texts)


def test_a_character_that_is_never_finished(tokenizer):
    """An answer that ends within a character shows the bytes that it has."""
    ids = tokenizer("ok 🎬", add_special_tokens=False)["input_ids"][:-1]
    assert streamed_texts(tokenizer, ids)[-1].endswith("⟩")


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=12).filter(lambda t: "\ufffd" not in t and t.isprintable()))
def test_joined_texts_are_the_text(tokenizer, text):
    """Whatever the text, the joined tokens are it."""
    ids = tokenizer("a" + text, add_special_tokens=False)["input_ids"]
    assert "".join(streamed_texts(tokenizer, ids)) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
