"""From prompts and completions to token ids: joint tokenisation, control tokens, shortening.

Let ids(s) be the tokens of s. A completion l after a prompt p is scored on the tokens of ids(p + l) that follow the tokens
of p. Prompt and completion are always tokenised together, because tokens do not respect the border between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ...errors import PromptError, RowError
from ...prompts.rendered import RenderedPrompt, Span, Turn
from ..logit_processing import Processing, TokenProcessing
from ..requests import Request, StatePart, needs_terminator
from .chat_rendering import ChatRenderer
from .longest_fit import longest_fit
from .text_tokens import Ranges, common_prefix, first_characters, shifted, tokens_between, tokens_of

_CHARACTERS_AT_ONCE = 1 << 20  # that are tokenised together; tokenizers keep far more of each than its tokens
_CHARACTERS_PER_TOKEN = 4
"""Of text that is usual. A text with more characters for each token of the context is cut to what fits before any completion but
one is joined to it."""
_OPENING = 64
"""Characters of such a text after which the completions are compared."""
_BEGINNINGS_KEPT = 8  # prompts of which the tokens before the row are kept


@dataclass(frozen=True)
class TokenRow:
    """One request in tokens.

    Attributes
    ----------
    context : tuple of int
        What every completion is conditional on: the prompt's tokens, or fewer where a token straddles the border.
    targets : tuple of tuples of int
        The tokens of each completion that are scored.
    processing : TokenProcessing or None
        What is done to the logits at each of them.
    excludes_longer : bool
        One completion begins another, and stands for the answers that do not go on to it.
    states : tuple of StatePart
        The hidden states that are asked for.
    text_tokens : tuple of (start, stop)
        The tokens of the context that hold characters of the row's own data, where states of them are asked for.
    n_common : int
        How many tokens of the context are known to be the same for each row of its prompt; see `TokenCodec.with_common`.
    """

    context: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    characters_cut: int = 0
    healed: bool = False
    terminated: bool = False
    processing: TokenProcessing | None = None
    excludes_longer: bool = False
    states: tuple[StatePart, ...] = ()
    text_tokens: Ranges = ()
    n_common: int = 0

    @property
    def n_inputs(self) -> int:
        """The longest sequence that the model must read: a last target is predicted, never read."""
        return len(self.context) + max(len(target) for target in self.targets) - 1


class Encoder(Protocol):
    """A tokenizer, wherever it runs: control tokens act in the author's text and stay text in the data.

    Attributes
    ----------
    eos_id : int or None
        The model's end-of-answer token.
    head : list of int
        The ids that it puts before a text (a BOS token, for many models).
    """

    @property
    def eos_id(self) -> int | None: ...

    @property
    def head(self) -> list[int]: ...

    def encode(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        """The ids of each text, without `head`."""
        ...

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]] | None:
        """The ids of a text in which all tokens act, and the characters of each; None where that cannot be had."""
        ...

    def chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        """A chat as the model reads it, up to the answer's first token; None where the model does not know chats."""
        ...

    def answered_chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        """A chat whose last turn is an answer that is there; None where that cannot be had."""
        ...


class TokenCodec:
    """Tokenises requests for one tokenizer.

    Parameters
    ----------
    encoder : Encoder
    context_length : int
        The largest number of tokens that the model can read at once.
    """

    def __init__(self, encoder: Encoder, context_length: int) -> None:
        self.context_length = context_length
        self._encoder = encoder
        self._chats = ChatRenderer(encoder)
        self._beginnings: dict[tuple[Turn, ...], list[int]] = {}
        self._lock = threading.Lock()  # threads that share a model share its codec

    def encode(self, requests: Sequence[Request]) -> list[TokenRow]:
        """Tokenise requests; a prompt that is too long is shortened in its text field alone.

        Raises
        ------
        PromptError
            A prompt cannot be made to fit, shares no token with its continuation, or two completions are the same; or a
            request's processing names a word that is not one token, or a prompt whose completions are other tokens.
            A `RowError` knows all requests that are to blame.
        """
        try:
            return self._rows(requests)
        except RowError as error:
            problems = self._problems(requests) if len(requests) > 1 else {0: str(error)}
            raise RowError(str(error), problems) from error

    def _problems(self, requests: Sequence[Request]) -> dict[int, str]:
        """The requests that cannot be tokenised, by their places, and why."""
        problems = {}
        for place, request in enumerate(requests):
            try:
                self._rows([request])
            except RowError as error:
                problems[place] = str(error)
        return problems

    def _rows(self, requests: Sequence[Request]) -> list[TokenRow]:
        most = _CHARACTERS_PER_TOKEN * self.context_length
        encoded = self._encode([request for request in requests if request.prompt.text_length <= most])
        rows = []
        for request in requests:
            prompt = request.prompt
            row = next(encoded) if prompt.text_length <= most else None
            if row is None or row.n_inputs > self.context_length:
                row, prompt = self._shorten(request, row)
            if request.processing is not None:
                row = replace(row, processing=self._processing(replace(request, prompt=prompt), row))
            if request.states:
                is_text = any(part.tokens == "text" for part in request.states)
                text_tokens = self._text_tokens(prompt, row.context) if is_text else ()
                row = replace(row, states=request.states, text_tokens=text_tokens)
            rows.append(row)
        return rows

    def _text_tokens(self, prompt: RenderedPrompt, context: tuple[int, ...]) -> Ranges:
        """The tokens of a context that hold characters of the row's own data."""
        spans, ranges = prompt.turns[0].spans, prompt.row_ranges
        if prompt.is_chat:
            chat = self._chats.chat(prompt.turns)
            # The white space at a turn's ends may be trimmed, and is not looked for.
            text = prompt.turns[-1].text
            n_before = len(text) - len(text.lstrip())
            spans = chat.spans
            ranges = shifted(ranges, chat.last_start - n_before, chat.last_start, chat.last_stop)
        if not ranges:
            return ()
        head = [] if prompt.is_chat else self._encoder.head
        found = self._encoder.offsets("".join(span.text for span in spans))
        if found is not None:
            ids, offsets = found
            with_head = _with_head(head, ids)
            if tuple(with_head[: len(context)]) == context:
                n_head = len(with_head) - len(ids)
                return shifted(tokens_of(offsets, ranges), n_head, 0, len(context))
        ids = self._encoder.encode([spans])[0]
        n_head = len(_with_head(head, ids)) - len(ids)
        beginnings = self._encoder.encode([first_characters(spans, at) for pair in ranges for at in pair])
        return shifted(tokens_between(ids, beginnings), n_head, 0, len(context))

    def with_common(self, requests: Sequence[Request], rows: Sequence[TokenRow]) -> list[TokenRow]:
        """The rows of some requests, each of which knows what it has in common with every other row of its prompt.

        That is what stands before the first character of the row's own data: instruction, shots, names of fields. At least one
        token of each context is the row's own.
        """
        return [
            replace(
                row, n_common=min(common_prefix(self._beginning(request.prompt), row.context), len(row.context) - 1)
            )
            for request, row in zip(requests, rows, strict=True)
        ]

    def _beginning(self, prompt: RenderedPrompt) -> list[int]:
        """The tokens of what stands before a row's own data; none for a prompt without a row."""
        if not prompt.row_ranges:
            return []
        *earlier, last = prompt.turns
        start = prompt.row_ranges[0][0]
        key = (*earlier, Turn(last.role, first_characters(last.spans, start)))
        with self._lock:
            ids = self._beginnings.get(key)
            if ids is None:
                ids = self._tokens_before_row(key, start)
                while len(self._beginnings) >= _BEGINNINGS_KEPT:
                    self._beginnings.pop(next(iter(self._beginnings)))
                self._beginnings[key] = ids
        return ids

    def _tokens_before_row(self, turns: tuple[Turn, ...], start: int) -> list[int]:
        """The tokens of turns of which the last ends where a row's own data begins, at its character `start`."""
        *earlier, last = turns
        if last.role is None:
            return _with_head(self._encoder.head, self._encoder.encode([last.spans])[0])
        # In the place of the row stands a word: what a template makes of a row's white space must not matter.
        stand_in = Turn(last.role, (*last.spans, Span("x", True)))
        chat = self._chats.chat((*earlier, stand_in))
        n_trimmed = len(stand_in.text) - len(stand_in.text.lstrip())
        return self._encoder.encode([first_characters(chat.spans, chat.last_start + start - n_trimmed)])[0]

    def prompt(self, prompt: RenderedPrompt) -> list[int]:
        """The tokens of a prompt alone, as `encode` begins its contexts."""
        ids = self._encoder.encode([self._prompt_spans(prompt)])[0]
        return ids if prompt.is_chat else _with_head(self._encoder.head, ids)

    def frame(self, prompt: RenderedPrompt) -> str | None:
        """What the model's chat template writes around the turns of a prompt, now; None for plain text.

        Raises
        ------
        PromptError
            As `encode`.
        """
        return self._chats.frame([str(turn.role) for turn in prompt.turns]) if prompt.is_chat else None

    def token(self, prompt: RenderedPrompt, text: str) -> int:
        """The one token that a text is directly after a prompt.

        Raises
        ------
        PromptError
            It is several tokens.
        """
        spans = self._prompt_spans(prompt)
        # The author's own text, as a template is: the text of a control token means that token.
        before, joint = self._encoder.encode([spans, (*spans, Span(text, False))])
        tokens = joint[common_prefix(before, joint) :]
        if len(tokens) != 1:
            raise PromptError(
                f"logit_bias names {text!r}, which is {len(tokens)} tokens to this model ({', '.join(map(str, tokens))}), and an "
                "offset belongs to one; name one of these ids, or raise the whole class with prior="
            )
        return int(tokens[0])

    def _encode(self, requests: Sequence[Request]) -> Iterator[TokenRow]:
        """The rows of requests, a few at a time: every completion of each is tokenised with its prompt."""
        shared: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] = {}
        some: list[Request] = []
        n_characters = 0
        for request in requests:
            # All of the prompt: shots, an instruction, or a client's own question may be far longer than the text.
            n_prompt = sum(len(span.text) for turn in request.prompt.turns for span in turn.spans)
            more = n_prompt * (1 + len(request.completions)) + sum(map(len, request.completions))
            if some and n_characters + more > _CHARACTERS_AT_ONCE:
                yield from self._encode_some(some, shared)
                some, n_characters = [], 0
            some.append(request)
            n_characters += more
        yield from self._encode_some(some, shared)

    def _encode_some(
        self, requests: Sequence[Request], shared: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]
    ) -> list[TokenRow]:
        texts: list[tuple[Span, ...]] = []
        for request in requests:
            prompt = self._prompt_spans(request.prompt)
            texts.append(prompt)
            texts.extend((*prompt, Span(completion, True)) for completion in request.completions)
        encoded = iter(self._encoder.encode(texts))
        rows = []
        for request in requests:
            head = [] if request.prompt.is_chat else self._encoder.head
            prompt_ids = _with_head(head, next(encoded))
            joint = [_with_head(head, next(encoded)) for _ in request.completions]
            row = self._align(request, prompt_ids, joint)
            # Rows that are asked for the same labels hold them once.
            rows.append(replace(row, targets=shared.setdefault(row.targets, row.targets)))
        return rows

    def _align(self, request: Request, prompt_ids: list[int], joint: list[list[int]]) -> TokenRow:
        # All completions start from the same point, the last one where every joint tokenisation agrees with the prompt's:
        # otherwise one completion would be charged for tokens that another gets for free.
        start = min(common_prefix(prompt_ids, ids) for ids in joint)
        # A completion that ends inside the common part would have nothing left to score.
        start = min(start, min(len(ids) for ids in joint) - 1)
        if start < 1:
            raise RowError(
                f"prompt {request.prompt.text[-40:]!r} and its continuation share no token, so there is nothing to condition "
                "on; begin the template with some text"
            )
        targets = [tuple(ids[start:]) for ids in joint]
        _refuse_equal(request, targets)
        terminated = _needs_end(request, targets)
        if terminated:
            if self._encoder.eos_id is None:
                raise PromptError(
                    "the labels need an end-of-answer token to be told apart, and none is known here; give the prompt a text "
                    "terminator, such as Prompt(terminator='\\n'), or a server's backend the model's tokenizer (tokenizer=...)"
                )
            targets = [(*target, self._encoder.eos_id) for target in targets]
        excludes_longer = request.terminator == "longest" and needs_terminator(targets)
        return TokenRow(
            tuple(prompt_ids[:start]),
            tuple(targets),
            healed=start < len(prompt_ids),
            terminated=terminated,
            excludes_longer=excludes_longer,
        )

    def _processing(self, request: Request, row: TokenRow) -> TokenProcessing:
        wanted = request.processing
        assert wanted is not None
        unconditional: tuple[int, ...] = ()
        if wanted.guidance != 1:
            unconditional = self._unconditional(request, wanted, row)
        offsets: dict[int, float] = {}
        for key, offset in wanted.logit_bias:
            token = key if isinstance(key, int) else self.token(request.prompt, key)
            offsets[token] = offsets.get(token, 0.0) + offset
        return TokenProcessing(wanted.guidance, unconditional, tuple(sorted(offsets.items())), wanted.temperature)

    def _unconditional(self, request: Request, wanted: Processing, row: TokenRow) -> tuple[int, ...]:
        """The context without the row, after which the completions are the same tokens as after the prompt."""
        assert wanted.unconditional is not None
        (other,) = self._encode_some([Request(wanted.unconditional, request.completions, request.terminator)], {})
        if other.targets != row.targets:
            raise RowError(
                f"guidance compares the labels token by token, and after the unconditional prompt {wanted.unconditional.text!r} "
                f"they are other tokens than after {request.prompt.text[-40:]!r}; let both prompts end alike"
            )
        if other.n_inputs > self.context_length:
            raise PromptError(
                f"the unconditional prompt has {other.n_inputs} tokens, and the model reads {self.context_length}; shorten it"
            )
        return other.context

    def _shorten(self, request: Request, row: TokenRow | None) -> tuple[TokenRow, RenderedPrompt]:
        """The longest row that fits, and its prompt; `row` is that of the whole text where it is known, and does not fit."""
        length = request.prompt.text_length
        longest, guess = length, _CHARACTERS_PER_TOKEN * self.context_length
        if row is not None:
            longest, guess = length - 1, length * self.context_length // row.n_inputs
        while True:
            n_inputs = self._inputs_of(request, row)
            n_characters = longest_fit(n_inputs, self.context_length, longest, guess)
            if not n_characters:
                raise RowError(
                    f"a prompt has {n_inputs([length])[0]} tokens, the model reads {self.context_length}, and its text field has "
                    f"only {length} characters to give; use fewer shots, a shorter instruction or a model with a longer context"
                )
            prompt = _first_characters(request.prompt, n_characters)
            (row,) = self._encode_some([Request(prompt, request.completions, request.terminator)], {})
            if row.n_inputs <= self.context_length:
                return replace(row, characters_cut=length - n_characters), prompt
            # Another completion has more tokens.
            longest = guess = n_characters - 1

    def _inputs_of(self, request: Request, row: TokenRow | None) -> Callable[[Sequence[int]], list[int]]:
        """A function: lengths of the text -> what the model would read with the longest completion after each.

        `row` is one of this request, of whatever length, and shows which completion has the most tokens; without it, the
        completions are looked at after the first characters.
        """
        if row is not None:
            targets, is_terminated = row.targets, row.terminated
        else:
            opening = _first_characters(request.prompt, min(_OPENING, request.prompt.text_length))
            targets = self._joint([opening], request.completions)
            is_terminated = _needs_end(request, targets)
        sizes = list(map(len, targets))
        completion = request.completions[sizes.index(max(sizes))]
        head = [] if request.prompt.is_chat else self._encoder.head

        def n_inputs(lengths: Sequence[int]) -> list[int]:
            prompts = [_first_characters(request.prompt, length) for length in lengths]
            joint = self._joint(prompts, [completion])
            return [len(_with_head(head, list(ids))) - 1 + is_terminated for ids in joint]

        return n_inputs

    def _joint(self, prompts: Sequence[RenderedPrompt], completions: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The tokens of each prompt with each completion, without what goes before a text."""
        all_spans = map(self._prompt_spans, prompts)
        texts = [(*spans, Span(completion, True)) for spans in all_spans for completion in completions]
        return tuple(map(tuple, self._encoder.encode(texts)))

    def _prompt_spans(self, prompt: RenderedPrompt) -> tuple[Span, ...]:
        if not prompt.is_chat:
            return prompt.turns[0].spans
        return self._chats.spans(prompt.turns)


def _needs_end(request: Request, targets: Sequence[tuple[int, ...]]) -> bool:
    """Whether each completion ends with the end-of-answer token."""
    return request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(targets))


def _first_characters(prompt: RenderedPrompt, length: int) -> RenderedPrompt:
    """The prompt with so many characters of its text field; itself where that is all."""
    return prompt if length == prompt.text_length else prompt.shortened(length)


def _with_head(head: list[int], ids: list[int]) -> list[int]:
    """BOS before the ids, unless the author wrote it."""
    return ids if not head or ids[: len(head)] == head else [*head, *ids]


def _refuse_equal(request: Request, targets: Sequence[tuple[int, ...]]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for target, completion in zip(targets, request.completions, strict=True):
        if target in seen:
            raise RowError(
                f"the completions {seen[target]!r} and {completion!r} are the same tokens to this model; "
                "give the labels different words"
            )
        seen[target] = completion


def is_author(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether text[start:stop] lies wholly in the author's own text."""
    position = 0
    for span in spans:
        end = position + len(span.text)
        if span.is_data and start < end and position < stop:
            return False
        position = end
    return True


def find(ids: Sequence[int], part: Sequence[int]) -> int:
    """Where `part` begins in `ids`; 0 where it is not to be found."""
    for start in range(len(ids) - len(part) + 1):
        if list(ids[start : start + len(part)]) == list(part):
            return start
    return 0
