"""Chats as a model's own template writes them: what it made of the conversation is checked before anything is scored.

A template is a program of somebody else. It may refuse a system turn, change or drop what it is given, open a thought that the
answer would be scored in, or write the time of day. Each of these is one `PromptError`, which names the fault and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol

import jinja2

from ...errors import PromptError, RowError
from ...prompts.rendered import Span, Turn
from ...prompts.templates import Mark, mark_turns

TEMPLATE_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template that fails may raise: its own words, and whatever its expressions do."""

_CURE = "use chat=False, or give the tokenizer another chat_template"
_THOUGHT = "think|thought|reason|scratchpad|reflect|analysis|monologue|inner_prefix"
# A tag in any of the brackets that models use.
_TAG = re.compile(r"<\|?[^<>\s]{1,60}?\|?>|\[[^\[\]\s]{1,60}\]|◁[^◁▷\s]{1,60}▷|<｜[^<>\s]{1,60}｜>")
_CLOSES = re.compile(r"^\W*(?:/|end|close)|[/_]end\W*$|_suffix", re.IGNORECASE)


class KnowsChats(Protocol):
    """What this module needs of an encoder."""

    def chat(self, messages: Sequence[dict[str, str]]) -> str | None: ...

    def answered_chat(self, messages: Sequence[dict[str, str]]) -> str | None: ...


class Chat(NamedTuple):
    """A conversation up to the answer's first token.

    Attributes
    ----------
    spans : tuple of Span
        A piece is data where the turn's was.
    last_start, last_stop : int
        The characters of the last turn's text, without the white space at its ends.
    """

    spans: tuple[Span, ...]
    last_start: int
    last_stop: int


class ChatRenderer:
    """Writes conversations with a tokenizer's chat template, and checks what came of them.

    Parameters
    ----------
    encoder : Encoder
    """

    def __init__(self, encoder: KnowsChats) -> None:
        self._encoder = encoder
        self._checked: set[tuple[str, ...]] = set()

    def spans(self, turns: Sequence[Turn]) -> tuple[Span, ...]:
        """The pieces of a conversation up to the answer's first token; see `chat`."""
        return self.chat(turns).spans

    def chat(self, turns: Sequence[Turn]) -> Chat:
        """A conversation up to the answer's first token.

        White space at the ends of a turn may be trimmed; everything else is there unchanged.

        Raises
        ------
        PromptError
            The template fails, or does not write what an answer can be scored after.
        RowError
            It does so only with the text of this row.
        """
        roles = tuple(str(turn.role) for turn in turns)
        if roles not in self._checked:
            self.frame(roles)
            self._checked.add(roles)
        try:
            return self._chat(turns)
        except PromptError as error:
            raise RowError(f"in this row {error}") from error

    def frame(self, roles: Sequence[str]) -> str:
        """What the template writes around turns of these roles, now: a part of what a score depends on.

        Raises
        ------
        PromptError
            As `spans`, whatever the turns say.
        """
        turns = [Turn(role, (Span(f"Words of turn {i}.", False),)) for i, role in enumerate(roles)]
        first = _joined(self._chat(turns).spans)
        self._check_end(turns, first)
        return first

    def _chat(self, turns: Sequence[Turn]) -> Chat:
        ends = [Mark() for _ in turns]
        messages, mark = mark_turns([_bracketed(turn, end) for turn, end in zip(turns, ends, strict=True)])
        plain = [{"role": str(turn.role), "content": turn.text} for turn in turns]
        text = self._render(messages, turns)
        after = 0
        for number, (turn, end, message) in enumerate(zip(turns, ends, messages, strict=True)):
            inner = message["content"].partition(end.opening)[2].partition(end.closing)[0]
            if not inner:
                continue
            place = text.find(f"{end.opening}{inner}{end.closing}")
            if place < 0 or (turn.role != "system" and place < after):
                self._refuse(f"changes, drops or moves the words of turn {number + 1} ({turn.role})")
            after = place if turn.role != "system" else after
        before, _, after_opening = text.partition(ends[-1].opening)
        inner = after_opening.partition(ends[-1].closing)[0]
        start, length = (len(_joined(mark.split(_without(ends, part)))) for part in (before, inner))
        text = _without(ends, text)
        spans = mark.split(text)
        if _joined(spans) != self._render(plain, turns):
            # Twice, as a day may end between two times.
            if len({self._render(plain, turns) for _ in range(3)}) > 1:
                self._refuse("writes another text each time (the time of day, or something drawn at random)")
            self._refuse("does something else with these words than with others")
        return Chat(spans, start, start + length)

    def _render(self, messages: list[dict[str, str]], turns: Sequence[Turn]) -> str:
        try:
            text = self._encoder.chat(messages)
        except TEMPLATE_FAULTS as error:
            if isinstance(error, PromptError):
                raise
            self._refuse_failed(error, turns)
        if text is None:
            raise PromptError(
                "Prompt(chat=True) needs a model with a chat template, and this one has none; use chat=False"
            )
        return text

    def _refuse_failed(self, error: Exception, turns: Sequence[Turn]) -> NoReturn:
        rest = [turn for turn in turns if turn.role != "system"]
        cure = _CURE
        if len(rest) < len(turns) and self._takes(rest):
            cure = (
                "it takes no system turn, so write the instruction into the prompt's template, and leave instruction= out "
                "(a prompt without a template has one)"
            )
        elif len(turns) > 1 and self._takes(turns[-1:]):
            cure = "it takes a single turn of the user, so leave out instruction= and shots"
        raise PromptError(
            f"the model's chat template cannot write this conversation ({type(error).__name__}: {error}); {cure}"
        ) from error

    def _takes(self, turns: Sequence[Turn]) -> bool:
        try:
            self._encoder.chat([{"role": str(turn.role), "content": turn.text} for turn in turns])
        except TEMPLATE_FAULTS:
            return False
        return True

    def _check_end(self, turns: Sequence[Turn], text: str) -> None:
        """Refuse a rendering after which the answer would not be an answer's beginning."""
        last = turns[-1].text
        tail = text[text.rindex(last) + len(last) :]
        opened = open_thought(tail)
        if opened is not None:
            self._refuse(
                f"opens a thought before the answer ({opened!r}), also where enable_thinking=False asks for none, so that words "
                "would be scored inside it"
            )
        before = self._before_answer(turns)
        if before is None or before == tail:
            return
        # What is added to the beginning of an answer may only be a thought that is closed again.
        if before.startswith(tail.rstrip()) and before.strip() != tail.strip():
            missing = before[len(tail.rstrip()) :]
            self._refuse(f"stops before the answer begins: it writes {missing!r} before the answers of earlier turns")

    def _before_answer(self, turns: Sequence[Turn]) -> str | None:
        """What the template writes between the last turn and an answer that is there; None where it cannot say."""
        answer = "Words of the answer."
        messages = [{"role": str(turn.role), "content": turn.text} for turn in turns]
        try:
            text = self._encoder.answered_chat([*messages, {"role": "assistant", "content": answer}])
        except TEMPLATE_FAULTS:
            return None
        last = turns[-1].text
        if text is None or last not in text or answer not in text[text.rindex(last) :]:
            return None
        return text[text.rindex(last) + len(last) : text.rindex(answer)]

    def _refuse(self, fault: str) -> NoReturn:
        raise PromptError(f"the model's chat template {fault}; {_CURE}")


def open_thought(tail: str) -> str | None:
    """The tag of a thought that is open at the end of a text; None if there is none.

    Examples
    --------
    >>> open_thought("<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n")
    >>> open_thought("<|Assistant|><think>\\n")
    '<think>'
    >>> open_thought("<|start|>assistant<|channel|>analysis<|message|>")
    '<|channel|>analysis<|message|>'
    """
    channel = re.search(
        r"<\|channel\|?>\s*(?!final)\w+(?:<\|message\|>)?(?!.*(?:<\|end\|>|<channel\|>))", tail, re.DOTALL
    )
    if channel is not None:
        return channel.group()
    opened: list[str] = []
    for match in _TAG.finditer(tail):
        tag = match.group()
        if not re.search(_THOUGHT, tag, re.IGNORECASE):
            continue
        if _CLOSES.search(tag.strip("<>|[]◁▷｜")) or "/" in tag[:3]:
            opened = opened[:-1]
        else:
            opened.append(tag)
    return opened[-1] if opened else None


def _joined(spans: Sequence[Span]) -> str:
    return "".join(span.text for span in spans)


def _without(marks: Sequence[Mark], text: str) -> str:
    for mark in marks:
        text = text.replace(mark.opening, "").replace(mark.closing, "")
    return text


def _bracketed(turn: Turn, end: Mark) -> Turn:
    """A turn with brackets around all of it but the white space at its ends, which a template may trim."""
    spans = list(turn.spans)
    head = tail = ""
    while spans and not spans[0].text.strip():
        head += spans.pop(0).text
    while spans and not spans[-1].text.strip():
        tail = spans.pop().text + tail
    if not spans:
        return Turn(turn.role, (Span(head + tail, False),))
    text, is_data = spans[0]
    head, spans[0] = head + text[: len(text) - len(text.lstrip())], Span(text.lstrip(), is_data)
    text, is_data = spans[-1]
    tail, spans[-1] = text[len(text.rstrip()) :] + tail, Span(text.rstrip(), is_data)
    return Turn(turn.role, (Span(head + end.opening, False), *spans, Span(end.closing + tail, False)))
