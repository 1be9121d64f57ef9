"""Tokenizers behind a server: exact ids without a copy of the tokenizer on this side.

vLLM and llama.cpp's server tokenise on request. llama.cpp can read a text without control tokens. vLLM cannot, so there a row is
refused if its data holds one: it could open a turn of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from ...errors import PromptError, RowError, ServerError
from ...prompts.rendered import Span
from ..http.async_bridge import together
from ..http.client import Client
from ..http.replies import expect, mapping, sequence, string
from ..tokens.acting_tokens import is_markup
from ..tokens.codec import find, is_author

T = TypeVar("T")

# How models write their control tokens. The pattern is tried at every position, since one may stand within other brackets.
_CONTROL_LIKE = re.compile(r"(?=(<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\]))")

_TEMPLATE_STATUS = (400, 422, 500)
"""How servers answer if a chat template fails."""
_REMEMBERED = 10_000
_AROUND = 64  # tokens that may stand around a text


class ServerEncoder:
    """The tokenizer of a server, for use in a worker thread of the event loop that the client runs in.

    Parameters
    ----------
    client : Client
    model : str
        The served model's name.
    kind : {"vllm", "llama_server"}
    """

    def __init__(self, client: Client, model: str, kind: str) -> None:
        self._client = client
        self._model = model
        self._kind = kind
        self.eos_id: int | None = None
        self.head: list[int] = []
        self._bos_token = ""
        self._controls: dict[str, int | None] = {}
        self._always: set[str] = set()  # control tokens that the server also reads where it should read none

    async def open(self, bos_token: str = "", eos_token: str = "") -> ServerEncoder:
        """Find out what the tokenizer puts before a text, and the id of the end-of-answer token if its text is known."""
        self._bos_token = bos_token
        inner, outer = await self._tokenize("a"), await self._tokenize("a", whole=True)
        self.head = outer[: find(outer, inner)]
        self.eos_id = await self._control(eos_token) if eos_token else None
        return self

    def encode(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        return _in_loop(self.encode_all, list(texts))

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]] | None:
        return None  # servers show no states, which is all that offsets are asked for

    def chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        try:
            return _in_loop(self._chat, list(messages))
        except ServerError as error:
            if error.status not in _TEMPLATE_STATUS:
                raise
            raise PromptError(
                f"the server's chat template cannot write this conversation ({error}); if it takes no system turn, write the "
                "instruction into the prompt's template; else use chat=False"
            ) from error

    def answered_chat(self, messages: Sequence[dict[str, str]]) -> str | None:
        return None  # a server opens an answer of its own after every conversation, or continues the last one

    async def encode_all(self, texts: Sequence[Sequence[Span]]) -> list[list[int]]:
        """`encode`, from within the event loop."""
        return await together(*(partial(self._encode, spans) for spans in texts))

    async def _encode(self, spans: Sequence[Span]) -> list[int]:
        text = "".join(span.text for span in spans)
        controls = [match for match in _CONTROL_LIKE.finditer(text) if await self._control(match.group(1)) is not None]
        if self._kind == "vllm":
            for match in controls:
                if not is_author(spans, *match.span(1)):
                    raise RowError(
                        f"the data holds {match.group(1)!r}, which this server reads as one token, perhaps as a control token; "
                        "give the backend the model's tokenizer (tokenizer='folder or name'), which keeps it text"
                    )
            return await self._tokenize(text, control=True)
        ids: list[int] = []
        position = 0
        for match in controls:
            if match.start(1) < position:
                continue
            always = match.group(1) in self._always
            if is_author(spans, *match.span(1)) and not always:
                ids += await self._piece(text[position : match.start(1)])
                ids += await self._tokenize(match.group(1), control=True)
                position = match.end(1)
            elif always and not is_author(spans, *match.span(1)):
                # llama.cpp reads what a user has defined as one token wherever it stands, so it is cut inside.
                ids += await self._piece(text[position : match.end(1) - 1])
                position = match.end(1) - 1
        return ids + await self._piece(text[position:])

    async def _piece(self, text: str) -> list[int]:
        return await self._tokenize(text) if text else []

    async def _control(self, text: str) -> int | None:
        """The id of a text that the server reads as one control token; None for ordinary text."""
        if text not in self._controls:
            if len(self._controls) >= _REMEMBERED:
                self._controls.clear()
                self._always.clear()
            as_control = await self._tokenize(text, control=True)
            is_one = len(as_control) == 1
            if is_one and self._kind == "llama_server":
                is_always = await self._tokenize(text) == as_control
                is_one = not is_always or is_markup(text)
                if is_always and is_one:
                    self._always.add(text)
            self._controls[text] = as_control[0] if is_one else None
        return self._controls[text]

    async def _tokenize(self, text: str, *, control: bool = False, whole: bool = False) -> list[int]:
        if self._kind == "vllm":
            body = {"model": self._model, "prompt": text, "add_special_tokens": whole}
        else:
            body = {"content": text, "add_special": whole, "parse_special": control}
        # A token has at least one byte of the text, but for those that the model puts around it.
        most = len(text.encode("utf-8", "surrogatepass")) + _AROUND
        is_some = any(map(str.isalnum, text))  # of the rest a tokenizer may leave nothing
        return await self._client.call("//tokenize", body, partial(_ids, least=int(is_some), most=most))

    async def _chat(self, messages: list[dict[str, str]]) -> str:
        quiet = {"enable_thinking": False}
        if self._kind == "llama_server":
            body: dict[str, Any] = {"messages": messages, "chat_template_kwargs": quiet}
            text = await self._client.call("//apply-template", body, _prompt)
            # The server leaves out what it puts before every text itself, and here nothing else would add it.
            return text if not self.head or text.startswith(self._bos_token) else self._bos_token + text
        body = {
            "model": self._model,
            "messages": messages,
            "add_generation_prompt": True,
            "add_special_tokens": False,
            "chat_template_kwargs": quiet,
        }
        ids = await self._client.call("//tokenize", body, _ids)
        text = await self._client.call("//detokenize", {"model": self._model, "tokens": ids}, _prompt)
        if await self._tokenize(text, control=True) != ids:
            raise PromptError(
                "this server's tokens of a chat do not decode to its text; give the backend the model's tokenizer "
                "(tokenizer='folder or name')"
            )
        return text


def _in_loop(function: Callable[[Any], Coroutine[Any, Any, T]], argument: Any) -> T:
    """Run a coroutine function in the event loop that this worker thread belongs to, and wait for it."""
    import anyio.from_thread

    return anyio.from_thread.run(function, argument)


def _ids(reply: Any, least: int = 1, most: int | None = None) -> list[int]:
    ids = sequence(mapping(reply, "the reply").get("tokens"), "tokens")
    expect(len(ids) >= least, "a text has no tokens")
    expect(most is None or len(ids) <= most, f"a text has {len(ids):,} tokens; expected at most {most}")
    # Not `checks.is_whole_number`: this runs for every token of a text, and asking for an abstract class is slow.
    expect(all(isinstance(token, int) and not isinstance(token, bool) for token in ids), "tokens are not whole numbers")
    return list(ids)


def _prompt(reply: Any) -> str:
    return string(mapping(reply, "the reply").get("prompt"), "prompt")
