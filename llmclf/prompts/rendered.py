"""A rendered prompt: turns of spans, each of which records whether it is data or the author's own text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..errors import PromptError

TEXT_FIELD = "text"
"""The name of a one-column input in templates."""


class Span(NamedTuple):
    """A piece of a prompt, and whether it is data (a row's value, a label word) or the author's own text."""

    text: str
    is_data: bool


class Turn(NamedTuple):
    """One message of a prompt; the role is None where the prompt is plain text."""

    role: str | None
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


class RowRenderer(Protocol):
    """What a rendered prompt needs of its renderer: to render its row again."""

    @property
    def text_field(self) -> str | None:
        """The field that may be shortened; None where there is none."""
        ...

    def render(self, row: Mapping[str, Any], n_characters: int | None = None) -> RenderedPrompt:
        """The prompt of a row, with at most this many characters of its text field."""
        ...

    def conversation(self, row: Mapping[str, Any], n_characters: int | None = None) -> tuple[Turn, ...]:
        """The same as turns of a chat."""
        ...


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt ready for a backend.

    Attributes
    ----------
    turns : tuple of Turn
        One turn with role None for plain text; system, user and assistant turns for a chat, the last of them the user's.
    text_length : int
        Number of characters of the field that may be shortened; 0 where there is none.
    row_ranges : tuple of (start, stop)
        The characters of the last turn's text that are the row's own data, in their order. Shots, label words and field names
        are not; nor is any of a prompt without a row.
    """

    turns: tuple[Turn, ...]
    text_length: int = 0
    _renderer: RowRenderer | None = field(default=None, repr=False, compare=False)
    _row: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    _shown_length: int | None = field(default=None, repr=False, compare=False)
    row_ranges: tuple[tuple[int, int], ...] = field(default=(), repr=False, compare=False)

    @property
    def is_chat(self) -> bool:
        return self.turns[0].role is not None

    @property
    def text(self) -> str:
        """The plain text of all turns, for display; without the markup of a chat template."""
        return "\n".join(turn.text for turn in self.turns)

    @property
    def text_field(self) -> str | None:
        """The field that may be shortened; None where there is none."""
        return self._renderer.text_field if self._renderer is not None else None

    def shortened(self, n_characters: int) -> RenderedPrompt:
        """The same prompt with only the first `n_characters` of its text field."""
        if self._renderer is None or self._row is None:
            raise PromptError("this prompt was not rendered from a row, so no field of it can be shortened")
        return self._renderer.render(self._row, n_characters=n_characters)

    def conversation(self) -> tuple[Turn, ...]:
        """The prompt as system, user and assistant turns, the last of them the user's, whatever ``Prompt(chat=...)`` says.

        A plain prompt that was not rendered from a row is one turn of the user.

        Examples
        --------
        >>> from llmclf import Prompt
        >>> prompt = Prompt("{{ text }}", instruction="Is it good?").renderer(["yes", "no"], [({"text": "A bore."}, "no")])
        >>> [(turn.role, turn.text) for turn in prompt.render({"text": "I laughed."}).conversation()]
        [('system', 'Is it good?'), ('user', 'A bore.'), ('assistant', 'no'), ('user', 'I laughed.')]
        """
        if self.is_chat:
            return self.turns
        if self._renderer is None or self._row is None:
            return (Turn("user", tuple(span for turn in self.turns for span in turn.spans)),)
        return self._renderer.conversation(self._row, self._shown_length)
