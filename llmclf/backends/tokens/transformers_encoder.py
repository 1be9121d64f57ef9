"""Tokenizers of transformers, led so that control tokens act in the author's text and stay text in the data."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from ...errors import RowError
from ...prompts.rendered import Span
from .codec import find, is_author


class TokenizerEncoder:
    """A transformers tokenizer whose control tokens act in the author's text and stay text in the data.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        specials = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        specials |= set(tokenizer.all_special_tokens)
        pattern = "|".join(re.escape(text) for text in sorted(specials, key=len, reverse=True))
        self._special = re.compile(pattern) if pattern else None
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # Own copies: transformers switches these properties on the shared object in every call.
        self._acting = _fast_copy(backend, literal=False)
        self._literal = _fast_copy(backend, literal=True)
        self._literal_inner = _fast_copy(backend, literal=True, inner=True)
        self.eos_id: int | None = tokenizer.eos_token_id
        self.head = self._leading_ids()

    def encode(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        plain = ["".join(span.text for span in spans) for spans in texts]
        _refuse_surrogates(plain)
        odd = [place for place, text in enumerate(plain) if self._data_has_special(text, texts[place])]
        encoded = self._ids(plain, self._acting, split=False)
        for place in odd:
            encoded[place] = self._encode_pieces(plain[place], texts[place])
        return encoded

    def chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        return self._chat(messages, opens_answer=True)

    def answered_chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        return self._chat(messages, opens_answer=False)

    def _chat(self, messages: Sequence[dict[str, str]], *, opens_answer: bool) -> str | None:
        if not self.tokenizer.chat_template:
            return None
        # Models that think have a switch in their template; others ignore it.
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opens_answer, enable_thinking=False
        )
        return text

    def _leading_ids(self) -> list[int]:
        probe = "a"
        inner = self.encode([(Span(probe, False),)])[0]
        outer: list[int] = list(self.tokenizer(probe)["input_ids"])
        return outer[: find(outer, inner)]

    def _data_has_special(self, text: str, spans: Sequence[Span]) -> bool:
        if self._special is None:
            return False
        return any(not is_author(spans, *match.span()) for match in self._special.finditer(text))

    def _encode_pieces(self, text: str, spans: Sequence[Span]) -> list[int]:
        """Split at the author's control tokens by hand and read everything between as text."""
        assert self._special is not None
        ids: list[int] = []
        position = 0
        acting = [match for match in self._special.finditer(text) if is_author(spans, *match.span())]
        for match in [*acting, None]:
            piece = text[position : match.start() if match else len(text)]
            if piece:
                encoder = self._literal if position == 0 else self._literal_inner
                ids += self._ids([piece], encoder, split=True)[0]
            if match:
                ids.append(self.tokenizer.convert_tokens_to_ids(match.group()))
                position = match.end()
        return ids

    def _ids(self, texts: list[str], encoder: Any, split: bool) -> list[list[int]]:
        if encoder is not None:
            return [encoding.ids for encoding in encoder.encode_batch(texts, add_special_tokens=False)]
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=split)["input_ids"]
        return ids


def _refuse_surrogates(texts: Sequence[str]) -> None:
    """Refuse half of a surrogate pair, which is not a character, before a tokenizer does so without saying where."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            around = text[max(0, error.start - 20) : error.end + 20]
            raise RowError(
                f"the text holds half of a surrogate pair, which is not a character, at {around!r}; clean it, for example with "
                "text.encode('utf-8', 'replace').decode()"
            ) from error


def _fast_copy(backend: Any, *, literal: bool, inner: bool = False) -> Any:
    if backend is None:
        return None
    encoder = copy.deepcopy(backend)
    encoder.no_padding()
    encoder.no_truncation()
    encoder.encode_special_tokens = literal
    # SentencePiece marks the first word of a text; a piece that follows a control token is not the first.
    if inner and getattr(encoder.pre_tokenizer, "prepend_scheme", None) == "first":
        pre_tokenizer = encoder.pre_tokenizer
        pre_tokenizer.prepend_scheme = "never"
        encoder.pre_tokenizer = pre_tokenizer
    return encoder


def text_after(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """What tokens add to a text that they do not begin: a space before the first word is part of it; control tokens are not."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode([anchor], **options)
    text: str = tokenizer.decode([anchor, *token_ids], **options)
    return text.removeprefix(before)


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """What each token adds to a text; a part of a character, or nothing at all, shows as the vocabulary has it.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    token_ids : sequence of int
    """
    # Some tokenizers drop the space before a text's first word, so every token is looked at behind another one.
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    before = tokenizer.decode([anchor], clean_up_tokenization_spaces=False)
    texts = []
    for token, raw in zip(token_ids, tokenizer.convert_ids_to_tokens(list(token_ids)), strict=True):
        text = tokenizer.decode([anchor, token], clean_up_tokenization_spaces=False)
        is_whole = text.startswith(before) and text != before and "\ufffd" not in text
        # A model's vocabulary may be padded beyond the tokenizer's.
        texts.append(text[len(before) :] if is_whole else raw if raw is not None else f"<{token}>")
    return texts


def model_context_length(model: Any) -> int:
    """The largest number of tokens that a transformers model can read at once, by its configuration."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 1 << 30
