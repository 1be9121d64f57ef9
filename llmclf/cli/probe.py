"""`llmclf probe`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..backends import OpenAIBackend, open_backend
from ..backends.http.async_bridge import Engine
from ..backends.http.client import Client
from ..backends.http.replies import mapping, sequence, string
from ..errors import CapabilityError, InputError
from .console import OUT, say
from .options import ApiKeyEnv, BaseUrl, ModelOption, open_model

_ROUTES = {
    "echo": "exact: the server tells how probable each token of prompt and label was",
    "named tokens": "exact: the server tells the log-probabilities of the labels' tokens, node by node of their trie",
    "grammar": "exact: each label is forced by a grammar, and its log-probabilities are those from before it",
    "echo_text": "exact: texts are echoed with the log-probabilities of their tokens",
    "top_logprobs": "bounded: only the likeliest tokens are shown; further requests narrow the bounds where it matters",
    "chat": "bounded: only the likeliest tokens of a chat's answer are shown",
}


def probe(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="openai:NAME, systemone:NAME or decisions:NAME. Default: the only model that the server lists.",
        ),
    ] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    model_option: ModelOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines for people.")] = False,
) -> None:
    """Ask a server a few tiny questions, and say what it really does and by which route labels will be scored.

    \b
    Examples:
      llmclf probe --base-url http://localhost:8000/v1
      llmclf probe openai:my-model --base-url http://localhost:8000/v1
    """
    if model is None:
        model = _only_model(base_url, api_key_env)
    scheme = model.partition(":")[0]
    if scheme not in ("openai", "systemone", "decisions"):
        raise InputError(f"{model!r} names no server's model; expected openai:NAME, systemone:NAME or decisions:NAME")
    backend: Any = open_backend(open_model(model, base_url, api_key_env, model_option))
    try:
        values = backend.identity()
        route = backend.route
    except CapabilityError:
        if json:
            OUT.print_json(data={"model": model, "route": None})
        raise
    found = values.pop("probe", {})
    usage = backend.usage
    if json:
        notes = list(getattr(getattr(backend, "probe", None), "notes", ()))
        OUT.print_json(data={**values, "route": route, "probe": {**found, "notes": notes}, "usage": usage.to_dict()})
        return
    say(f"model: {values['model']}, answered by {values.get('answered_by') or 'a server that does not say'}")
    for line in _facts(backend, found):
        say(line)
    say(f"route: {route} ({_ROUTES.get(route, 'probabilities of the options, as the server gives them')})")
    say(f"{usage.requests} requests, {usage.tokens_in} tokens read, {usage.tokens_out} written")


def _only_model(base_url: str | None, api_key_env: str | None) -> str:
    """The model string of the one model that a server lists."""
    handle = OpenAIBackend("openai:-", base_url=base_url, api_key_env=api_key_env)

    def read(reply: Any) -> list[str]:
        listed = sequence(mapping(reply, "the reply").get("data"), "data")
        return [string(mapping(entry, "a model").get("id"), "id") for entry in listed]

    async def ask(client: Client) -> list[str]:
        return await client.call("/models", None, read, max_retries=0)

    names = Engine(Client(handle.server_options)).call(ask)
    if len(names) != 1:
        raise InputError(f"the server lists {len(names)} models ({', '.join(names[:20])}); name one: openai:NAME")
    return f"openai:{names[0]}"


def _facts(backend: Any, found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    probe = backend.probe
    ids = "by id" if probe.token_ids else "by their text"
    lines = [
        f"prompt log-probabilities (echo): {_ECHO[probe.echo]}",
        f"named tokens: {'yes' if probe.named_tokens else 'no'}; forced by a grammar: {'yes' if probe.grammar else 'no'}",
        f"log-probabilities are {'the raw ones' if probe.raw else 'those after temperature and masks'}",
        f"likeliest tokens shown: {probe.top_logprobs or 'none'} of a completion, {probe.chat_top_logprobs or 'none'} of a "
        f"chat, {ids}",
        f"tokenises on request: {'yes' if probe.tokenizer else 'no'}; context: {probe.context_length or 'not told'} tokens",
        f"the same request twice: {'the same numbers' if probe.repeatable else 'other numbers'}",
    ]
    return [*lines, *(f"note: {note}" for note in probe.notes)]


_ECHO = {
    "exact": "yes, and they agree with the same tokens generated",
    "ignored": "no: the server ignores echo and generates instead",
    "shifted": "unusable: they are those of other tokens (off by one)",
    "refused": "no",
}
