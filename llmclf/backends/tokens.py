"""From prompts and completions to token ids: joint tokenisation, control tokens, shortening.

Let ids(s) be the tokens of s. A completion l after a prompt p is scored on the tokens of ids(p + l) that follow the tokens
of p. Prompt and completion are always tokenised together, because tokens do not respect the border between them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, PromptError
from ..prompts import RenderedPrompt, Span, mark_turns
from .base import Request, needs_terminator


@dataclass(frozen=True)
class TokenRow:
    """One request in tokens.

    Attributes
    ----------
    context : tuple of int
        What every completion is conditional on: the prompt's tokens, or fewer where a token straddles the border.
    targets : tuple of tuples of int
        The tokens of each completion that are scored.
    """

    context: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    characters_cut: int = 0
    healed: bool = False
    terminated: bool = False

    @property
    def n_inputs(self) -> int:
        """The longest sequence that the model must read: a last target is predicted, never read."""
        return len(self.context) + max(len(target) for target in self.targets) - 1


class TokenCodec:
    """Tokenises requests for one tokenizer.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    context_length : int
        The most tokens that the model can read at once.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.eos_id: int | None = tokenizer.eos_token_id
        self._encoder = _Encoder(tokenizer)
        self._bos = _leading_special_ids(tokenizer, self._encoder)

    def encode(self, requests: Sequence[Request]) -> list[TokenRow]:
        """Tokenise requests; a prompt that is too long is shortened in its text field alone.

        Raises
        ------
        PromptError
            A prompt cannot be made to fit, shares no token with its continuation, or two completions are the same.
        """
        rows = self._encode(requests)
        for place, (request, row) in enumerate(zip(requests, rows, strict=True)):
            if row.n_inputs > self.context_length:
                rows[place] = self._shorten(request, row)
        return rows

    def _encode(self, requests: Sequence[Request]) -> list[TokenRow]:
        texts: list[tuple[Span, ...]] = []
        for request in requests:
            prompt = self._prompt_spans(request.prompt)
            texts.append(prompt)
            texts.extend((*prompt, Span(completion, True)) for completion in request.completions)
        encoded = iter(self._encoder.encode(texts))
        rows = []
        for request in requests:
            head = [] if request.prompt.is_chat else self._bos
            prompt_ids = _with_head(head, next(encoded))
            joint = [_with_head(head, next(encoded)) for _ in request.completions]
            rows.append(self._align(request, prompt_ids, joint))
        return rows

    def _align(self, request: Request, prompt_ids: list[int], joint: list[list[int]]) -> TokenRow:
        # All completions start from the same point, the last one where every joint tokenisation agrees with the prompt's:
        # otherwise one completion would be charged for tokens that another gets for free.
        start = min(_common_prefix(prompt_ids, ids) for ids in joint)
        # A completion that ends inside the common part would have nothing left to score.
        start = min(start, min(len(ids) for ids in joint) - 1)
        if start < 1:
            raise PromptError(
                f"prompt {request.prompt.text[-40:]!r} and its continuation share no token, so there is nothing to condition "
                "on; begin the template with some text"
            )
        targets = [tuple(ids[start:]) for ids in joint]
        _refuse_equal(request, targets)
        terminated = request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(targets))
        if terminated:
            if self.eos_id is None:
                raise PromptError(
                    "the labels need an end-of-answer token to be told apart, and this tokenizer has none; "
                    "give the prompt a text terminator, such as Prompt(terminator='\\n')"
                )
            targets = [(*target, self.eos_id) for target in targets]
        return TokenRow(tuple(prompt_ids[:start]), tuple(targets), 0, start < len(prompt_ids), terminated)

    def _shorten(self, request: Request, row: TokenRow) -> TokenRow:
        length = request.prompt.text_length
        fits: TokenRow | None = None
        low, high = 1, length
        # Tokens grow with characters, so the longest text that fits is found by halving.
        while low < high:
            middle = (low + high) // 2
            shorter = self._encode(
                [Request(request.prompt.shortened(middle), request.completions, request.terminator)]
            )[0]
            if shorter.n_inputs <= self.context_length:
                fits, low = _cut(shorter, length - middle), middle + 1
            else:
                high = middle
        if fits is None:
            raise PromptError(
                f"a prompt has {row.n_inputs} tokens, the model reads {self.context_length}, and its text field has only "
                f"{length} characters to give; use fewer shots, a shorter instruction or a model with a longer context"
            )
        return fits

    def _prompt_spans(self, prompt: RenderedPrompt) -> tuple[Span, ...]:
        if not prompt.is_chat:
            return prompt.turns[0].spans
        if not self.tokenizer.chat_template:
            raise PromptError(
                "Prompt(chat=True) needs a model with a chat template, and this one has none; use chat=False"
            )
        messages, mark = mark_turns(prompt.turns)
        # Models that think have a switch in their template; others ignore it.
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        spans = mark.split(text)
        plain = [{"role": str(turn.role), "content": turn.text} for turn in prompt.turns]
        unmarked = self.tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        if "".join(span.text for span in spans) != unmarked:
            raise PromptError(
                "the model's chat template changes the messages that it is given (it trims them, perhaps), so data and "
                "template cannot be told apart; remove spaces and line breaks around the fields in the prompt's template"
            )
        return spans


class _Encoder:
    """Tokenises spans so that control tokens act in the author's text and stay text in the data."""

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

    def encode(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        plain = ["".join(span.text for span in spans) for spans in texts]
        odd = [place for place, text in enumerate(plain) if self._data_has_special(text, texts[place])]
        encoded = self._ids(plain, self._acting, split=False)
        for place in odd:
            encoded[place] = self._encode_pieces(plain[place], texts[place])
        return encoded

    def _data_has_special(self, text: str, spans: Sequence[Span]) -> bool:
        if self._special is None:
            return False
        return any(not _is_author(spans, *match.span()) for match in self._special.finditer(text))

    def _encode_pieces(self, text: str, spans: Sequence[Span]) -> list[int]:
        """Split at the author's control tokens by hand and read everything between as text."""
        assert self._special is not None
        ids: list[int] = []
        position = 0
        acting = [match for match in self._special.finditer(text) if _is_author(spans, *match.span())]
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


def _is_author(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether text[start:stop] lies wholly in the author's own text."""
    position = 0
    for span in spans:
        end = position + len(span.text)
        if span.is_data and start < end and position < stop:
            return False
        position = end
    return True


def _leading_special_ids(tokenizer: Any, encoder: _Encoder) -> list[int]:
    """The ids that the tokenizer puts before a text (a BOS token, for many models)."""
    probe = "a"
    inner = encoder.encode([(Span(probe, False),)])[0]
    outer = list(tokenizer(probe)["input_ids"])
    for start in range(len(outer) - len(inner) + 1):
        if outer[start : start + len(inner)] == inner:
            return outer[:start]
    return []


def _with_head(head: list[int], ids: list[int]) -> list[int]:
    """BOS before the ids, unless the author wrote it."""
    return ids if not head or ids[: len(head)] == head else [*head, *ids]


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    length = min(len(first), len(second))
    for place in range(length):
        if first[place] != second[place]:
            return place
    return length


def _refuse_equal(request: Request, targets: Sequence[tuple[int, ...]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for target, completion in zip(targets, request.completions, strict=True):
        if target in seen:
            raise PromptError(
                f"the completions {seen[target]!r} and {completion!r} are the same tokens to this model; "
                "give the labels different words"
            )
        seen[target] = completion


def _cut(row: TokenRow, characters: int) -> TokenRow:
    return TokenRow(row.context, row.targets, characters, row.healed, row.terminated)


def check_requests(requests: Sequence[Request]) -> None:
    """Refuse requests that no backend can answer."""
    for request in requests:
        if not request.completions:
            raise InputError("a request needs at least one completion")
        empty = [completion for completion in request.completions if not completion]
        if empty:
            raise PromptError("a completion is empty; give every label at least one character")
