"""What a model is asked to write, and what it wrote: all that routes by answers need of a server or of a local model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ...prompts.rendered import Turn

Stop = Literal["end", "length", "refusal", "other"]
"""Why a text ended: by itself, cut off at ``max_tokens``, with a refusal, or otherwise (by a filter, say)."""


@dataclass(frozen=True)
class GenerationRequest:
    """What a model is asked to write.

    Attributes
    ----------
    turns : tuple of Turn
        System, user and assistant turns, the last of them the user's; or one turn with role None, a text to be continued. Spans
        that are data must not open a turn of their own: a local model's control tokens in them stay text.
    max_tokens : int
        The text is cut off after so many tokens; those of a model's reasoning count, too.
    n : int
        So many independent texts.
    temperature : float
    seed : int or None
        Where the generator takes one: the same request with the same seed gives the same texts, as far as it can.
    stop : tuple of str
        The text ends before the first of these. A generator that cannot do that may write on.
    schema : mapping or None
        A JSON schema that the text has to follow; set only where the generator takes one.
    grammar : str or None
        A GBNF grammar that the text has to follow; set only where the generator takes one.
    effort : str or None
        How much a model may reason, in its own words ("none", "low", ...); None leaves it to the model. A generator that has no
        such parameter raises `CapabilityError`.
    """

    turns: tuple[Turn, ...]
    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    effort: str | None = None


@dataclass(frozen=True)
class GeneratedText:
    """What a model wrote.

    Attributes
    ----------
    text : str
        The answer alone, without the model's reasoning; a refusal's words where it refused.
    stop : {"end", "length", "refusal", "other"}
    """

    text: str
    stop: Stop = "end"


class GeneratesText(Protocol):
    """Whatever writes texts: a wire to a server, or a local model."""

    async def generate(self, request: GenerationRequest) -> list[GeneratedText]:
        """At least one text, and at most ``request.n``: where a server does not honour `n`, the caller asks again for the rest.

        Raises
        ------
        CapabilityError
            It cannot be asked in this way at all.
        ServerError
            The server refuses this request, or any.
        """
        ...

    @property
    def takes_schema(self) -> bool:
        """Whether its texts can be made to follow a JSON schema."""
        ...

    @property
    def takes_grammar(self) -> bool:
        """Whether its texts can be made to follow a GBNF grammar."""
        ...

    @property
    def takes_n(self) -> bool:
        """Whether one request may ask for several texts."""
        ...

    @property
    def takes_seed(self) -> bool:
        """Whether a request may carry a seed."""
        ...
