"""What a wire is: the body of a request for written answers, and what of the reply is believed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from ...errors import CapabilityError, ServerError
from ...prompts.rendered import Turn
from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import mapping, sequence, string
from .token_replies import Position, may_end

T = TypeVar("T")

_OPENS, _CLOSES = "<think>", "</think>"
_CUT = "\N{REPLACEMENT CHARACTER}"
_SHOWN = 200  # characters of a refusal


class SupportsCall(Protocol):
    """What is needed of a client: one reply at a time. `Client` asks live, `BatchRunner` through the Batch API."""

    async def call(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[Any], T],
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
    ) -> T:
        """The result that `read` makes of the reply; the tokens are what the request takes at most."""
        ...


class Wire(ABC):
    """A protocol for written answers. Objects have no state.

    Attributes
    ----------
    name : str
        As in ``wire=``.
    title : str
        For people.
    limits : tuple of str
        The names under which servers know the largest number of tokens, the usual one first; the others are tried where that is
        refused.
    least_tokens : int
        The smallest limit on an answer that it takes.
    is_openai : bool
        The server may answer the other paths of OpenAI's API too: completions, embeddings, batches, its list of models.
    shows_logprobs : bool
        The protocol has log-probabilities.
    continues_text : bool
        A text can be continued, too; otherwise chats alone are answered.
    takes_n, takes_seed, takes_schema, takes_grammar : bool
        The protocol has words for several answers, a seed, a JSON schema and a grammar; a server may know fewer of them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    limits: ClassVar[tuple[str, ...]]
    least_tokens: ClassVar[int] = 1
    is_openai: ClassVar[bool] = False
    shows_logprobs: ClassVar[bool] = True
    continues_text: ClassVar[bool] = False
    takes_n: ClassVar[bool] = False
    takes_seed: ClassVar[bool] = False
    takes_schema: ClassVar[bool] = True
    takes_grammar: ClassVar[bool] = False

    @abstractmethod
    def path(self, model: str, *, is_chat: bool) -> str:
        """Where a request goes, below the server's address, or below its root where it begins with ``//``."""

    @abstractmethod
    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        """The request.

        Parameters
        ----------
        model : str
        request : GenerationRequest
        top_logprobs : int
            So many of the likeliest tokens shall be named at each place of the answer; with 0, none.
        limit : str, optional
            The name for ``max_tokens``; default, the first of `limits`.

        Raises
        ------
        CapabilityError
            The protocol cannot say this.
        """

    @abstractmethod
    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        """What was written: at least one text, and at most `n`.

        Raises
        ------
        BadReplyError
            This is no answer.
        """

    @abstractmethod
    def positions(self, reply: Any) -> list[Position]:
        """The tokens of the one text that was written, with the likeliest that could have stood there; none of an empty text.

        Raises
        ------
        BadReplyError
            This is no answer.
        ServerError
            The model refused to answer, or the tokens are not the answer's; to ask again would cost again.
        """


def check_can_say(wire: Wire, request: GenerationRequest, top_logprobs: int) -> None:
    """Refuse what a protocol has no words for; nothing is left out in silence.

    Raises
    ------
    CapabilityError
    """
    if not wire.continues_text and request.turns[0].role is None:
        raise CapabilityError(
            f"{wire.title} answers chats alone, and the prompt is plain text; use Prompt(..., chat=True), or a server that "
            "continues text"
        )
    lacks = {
        "log-probabilities": top_logprobs and not wire.shows_logprobs,
        "seed": request.seed is not None and not wire.takes_seed,
        "schema": request.schema is not None and not wire.takes_schema,
        "grammar": request.grammar is not None and not wire.takes_grammar,
    }
    for name, is_lacking in lacks.items():
        if is_lacking:
            raise CapabilityError(f"{wire.title} has no {name}; leave that out, or use another server")


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns of a chat as OpenAI writes them, which many have taken over."""
    return [{"role": str(turn.role), "content": turn.text} for turn in turns]


def system_and_rest(turns: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """What the system says, and the other turns; for protocols in which it is not a turn."""
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    return system, [turn for turn in turns if turn.role != "system"]


def written(text: str, stop: Stop) -> GeneratedText:
    """An answer without the reasoning that some servers leave before it; of nothing but reasoning there is no answer.

    Examples
    --------
    >>> written("<think>Praise.</think>\\n\\ngood", "end"), written("<think>It is", "end")
    (GeneratedText(text='good', stop='end'), GeneratedText(text='', stop='other'))
    """
    if not text.lstrip().startswith(_OPENS):
        return GeneratedText(text, stop)
    _, closed, answer = text.partition(_CLOSES)
    return GeneratedText(answer.lstrip(), stop if closed or stop == "length" else "other")


def joined_parts(parts: Any, name: str) -> str:
    """The text of an answer that comes in parts; parts that are no text (reasoning, say) are left out."""
    texts = []
    for part in sequence(parts, name):
        if mapping(part, f"a part of {name}").get("type") == "text":
            texts.append(string(part.get("text"), f"the text of a part of {name}"))
    return "".join(texts)


def refused(words: str) -> ServerError:
    """The error of a row that the model refuses to judge."""
    said = " ".join(words.split())[:_SHOWN]
    return ServerError(
        f"the model refused to answer{': ' if said else ''}{said}; change the prompt, or leave this row to a person",
        status=200,
    )


def check_number(name: str, stated: Sequence[Any], n: int) -> None:
    """Refuse more answers than were asked for: asked again, and paid again, there would be as many.

    Raises
    ------
    ServerError
    """
    if len(stated) > n:
        raise ServerError(
            f"the reply cannot be used: {name} has {len(stated)} items, and {n} {'was' if n == 1 else 'were'} asked for",
            status=200,
        )


def check_answered(answer: GeneratedText, positions: Sequence[Position], *, is_chat: bool = True) -> None:
    """Refuse log-probabilities of what is no answer, and those of other tokens than the answer's.

    What continues a text has no thoughts beside it: there, a token of which nothing is written is the answer's all the same.

    Raises
    ------
    ServerError
    """
    if answer.stop == "refusal":
        raise refused(answer.text)
    shown = (positions[0].chosen.text or b"").decode(errors="replace") if positions else ""
    # A token may end within a character.
    is_whole = _CUT not in shown and not may_end(shown.encode("utf-8", "surrogatepass"))
    first, text = shown.strip(), answer.text.lstrip()
    is_another = bool(text) and not text.startswith(first)
    # One that ends an answer is not written, nor is white space at its ends everywhere; one that begins a longer text is.
    is_unwritten = is_chat and not answer.text and answer.stop == "length"
    if first and is_whole and (is_another or is_unwritten):
        raise ServerError(
            "the log-probabilities are those of other tokens than the answer's, perhaps of the model's reasoning; turn that off, "
            "say by extra={'reasoning_effort': 'none'}",
            status=200,
        )


def merged(body: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """A body with further fields; where both are objects, field by field. The body's own values count.

    Examples
    --------
    >>> merged({"options": {"seed": 1}}, {"options": {"num_ctx": 4096, "seed": 2}, "keep_alive": "5m"})
    {'options': {'num_ctx': 4096, 'seed': 1}, 'keep_alive': '5m'}
    """
    whole = dict(further)
    for name, value in body.items():
        below = further.get(name)
        whole[name] = merged(value, below) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return whole
