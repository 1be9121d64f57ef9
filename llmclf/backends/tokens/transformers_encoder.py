"""Tokenizers of transformers, led so that control tokens act in the author's text and stay text in the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import RowError
from ...prompts.rendered import Span
from .acting_tokens import BYTE, acting_tokens, literal_copy, plain_copy, unknown_ids
from .codec import find, is_author


class TokenizerEncoder:
    """A transformers tokenizer whose control tokens act in the author's text and stay text in the data.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        acting = acting_tokens(tokenizer)
        self._special_ids = frozenset(acting.values())
        # What a vocabulary does not know is no command: the text of "<unk>" is read as text, its token may stand for a character.
        self._acting_ids = self._special_ids - unknown_ids(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # Own copies: transformers switches properties of the shared object in every call.
        self._whole = None if backend is None else plain_copy(backend)
        self._backend = backend
        self._exact: Any = None
        self._texts: dict[str, Any] = {}
        # A token that the tokenizer makes of no text cannot be written, neither by the author nor in data.
        known = [
            text for text, ids in zip(acting, self._ids(list(acting), self._whole), strict=True) if acting[text] in ids
        ]
        pattern = "|".join(re.escape(text) for text in sorted(known, key=len, reverse=True))
        self._special = re.compile(pattern) if pattern else None
        self._ids_of = acting
        byte = "<0x41>"
        self._reads_bytes = tokenizer.convert_tokens_to_ids(byte) in (self._ids([byte], self._whole)[0])
        self.eos_id: int | None = tokenizer.eos_token_id
        self.head = self._leading_ids()

    def encode(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        plain = ["".join(span.text for span in spans) for spans in texts]
        _refuse_surrogates(plain)
        encoded = self._ids(plain, self._whole)
        for place, (text, spans) in enumerate(zip(plain, texts, strict=True)):
            # Nearly all rows hold no such token, and are not looked at any closer.
            is_odd = not self._special_ids.isdisjoint(encoded[place]) or (self._reads_bytes and "<0x" in text)
            if is_odd and self._data_acts(text, spans, encoded[place]):
                encoded[place] = self._encode_pieces(text, spans)
        return encoded

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]] | None:
        if self._whole is None:
            return None
        if self._exact is None:
            self._exact = plain_copy(self._backend)
            self._exact.post_processor = None  # it may leave the space before a word out of the word's characters
        encoding = self._exact.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

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

    def served_chat_size(self, messages: Sequence[dict[str, str]]) -> int | None:
        """Tokens of a chat as a server writes it, which does not turn a model's thinking off; None without a template."""
        if not self.tokenizer.chat_template:
            return None
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _leading_ids(self) -> list[int]:
        probe = "a"
        inner = self.encode([(Span(probe, False),)])[0]
        outer: list[int] = list(self.tokenizer(probe)["input_ids"])
        return outer[: find(outer, inner)]

    def _data_acts(self, text: str, spans: Sequence[Span], ids: Sequence[int]) -> bool:
        """Whether a token that acts came out of the data: one whose text stands there, or one more than the author wrote."""
        n_author = 0
        for match in self._special.finditer(text) if self._special is not None else ():
            if not is_author(spans, *match.span()):
                return True
            n_author += self._ids_of[match.group()] in self._acting_ids
        if self._reads_bytes and any(not is_author(spans, *match.span()) for match in BYTE.finditer(text)):
            return True
        return sum(token in self._acting_ids for token in ids) > n_author

    def _encode_pieces(self, text: str, spans: Sequence[Span]) -> list[int]:
        """Split at the author's control tokens by hand and read everything between as text."""
        ids: list[int] = []
        position = 0
        found = self._special.finditer(text) if self._special is not None else ()
        acting = [match for match in found if is_author(spans, *match.span())]
        for match in [*acting, None]:
            piece = text[position : match.start() if match else len(text)]
            if piece:
                ids += self._text_ids(piece, "first" if position == 0 else "after")
            if match:
                ids.append(self._ids_of[match.group()])
                position = match.end()
        return ids

    def _text_ids(self, text: str, place: str) -> list[int]:
        """The ids of a text, none of which acts: where one would, the text is cut inside it, before its last character."""
        byte = BYTE.search(text) if self._reads_bytes else None
        if byte is not None:
            cut = byte.end() - 1
            return [*self._text_ids(text[:cut], place), *self._text_ids(text[cut:], "inner")]
        ids = self._literal_ids(text, place)
        if self._acting_ids.isdisjoint(ids):
            return ids
        # The shortest beginning that has such a token ends with it; whatever normalisation does, the token's text ends there.
        low, high = 1, len(text)
        while low < high:
            middle = (low + high) // 2
            if self._acting_ids.isdisjoint(self._literal_ids(text[:middle], place)):
                low = middle + 1
            else:
                high = middle
        if low == 1:
            raise RowError(
                f"the text holds {text[:1]!r}, which this model reads as a control token and which cannot be written otherwise; "
                "remove it from the text"
            )
        return [*self._text_ids(text[: low - 1], place), *self._text_ids(text[low - 1 :], "inner")]

    def _literal_ids(self, text: str, place: str) -> list[int]:
        """The ids of a text in which no added token acts, as far as the tokenizer can be told so."""
        if self._backend is None:
            return self._ids([text], None, split=True)[0]
        if place not in self._texts:
            self._texts[place] = literal_copy(self._backend, self._special_ids, place)
        return self._ids([text], self._texts[place])[0]

    def _ids(self, texts: list[str], encoder: Any, *, split: bool = False) -> list[list[int]]:
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


def text_after(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """What tokens add to a text that they do not begin: a space before the first word is part of it; control tokens are not."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode([anchor], **options)
    text: str = tokenizer.decode([anchor, *token_ids], **options)
    return text.removeprefix(before)


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """What each token adds to a text; parts of a character by their bytes ("⟨F0 9F⟩"), what adds nothing by its name.

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
        is_whole = text.startswith(before) and text != before and _CUT not in text
        # A model's vocabulary may be padded beyond the tokenizer's.
        texts.append(text[len(before) :] if is_whole else f"<{token}>" if raw is None else _with_bytes(raw))
    return texts


def streamed_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """What each token adds to the text of those before it; a character that several tokens write belongs to the last of them.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    token_ids : sequence of int

    Returns
    -------
    list of str
        Empty for a token that only begins a character. Control tokens are shown.
    """
    alone = token_texts(tokenizer, token_ids)
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    before = tokenizer.decode([anchor], clean_up_tokenization_spaces=False)
    texts: list[str] = []
    begun: list[int] = []
    for place, token in enumerate(token_ids):
        begun.append(token)
        text = tokenizer.decode([anchor, *begun], clean_up_tokenization_spaces=False).removeprefix(before)
        if len(begun) == 1 and not text.endswith(_CUT):
            texts.append(alone[place])
            begun = []
        elif not text.endswith(_CUT):
            texts.append(text)
            begun = []
        elif len(begun) == _MAX_PARTS or place == len(token_ids) - 1:
            # It stays a part: bytes that belong to no character, or an answer that ends within one.
            texts.append("")
            texts[-len(begun) :] = alone[place + 1 - len(begun) : place + 1]
            begun = []
        else:
            texts.append("")
    return texts


def _with_bytes(raw: str) -> str:
    """A token of the vocabulary as text, with bytes that are no whole character in brackets."""
    byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", raw)
    data = bytes([int(byte[1], 16)]) if byte else None
    if data is None and all(character in _BYTE_OF for character in raw):
        data = bytes(_BYTE_OF[character] for character in raw)
    if data is None:
        return raw
    shown = data.decode("utf-8", "surrogateescape")
    return re.sub(
        "[\udc80-\udcff]+", lambda part: "⟨" + " ".join(f"{ord(c) - 0xDC00:02X}" for c in part[0]) + "⟩", shown
    )


def _byte_of_characters() -> dict[str, int]:
    """The characters in which byte-level vocabularies write bytes: visible ones as they are, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_of_characters()
_CUT = "\ufffd"
_MAX_PARTS = 4  # tokens of a character, at most


def model_context_length(model: Any) -> int:
    """The largest number of tokens that a transformers model can read at once, by its configuration."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 1 << 30
