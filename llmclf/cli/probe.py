"""`llmclf probe`."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from typing import Annotated, Any

import typer

from ..backends import Backend, OpenAIBackend, Request, open_backend
from ..backends.base import shown_prompt
from ..backends.http.async_bridge import AsyncBridge
from ..backends.http.client import Client
from ..backends.http.replies import mapping, sequence, string
from ..backends.http.server_handle import SERVERS
from ..backends.openai.probe import Probe
from ..backends.openai.routes import RouteReport
from ..errors import CapabilityError, InputError
from ..prompts.prompt import Prompt
from .console import say, say_json
from .options import ApiKeyEnv, BaseUrl, Labels, ModelOption, PromptOption, open_model, parse_labels, parse_prompt


def probe(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A server's: openai:NAME, mistral:NAME, ollama:NAME, systemone:NAME and so on. Default: the only model that the "
            "server lists.",
        ),
    ] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    model_option: ModelOption = None,
    show_prompt: Annotated[
        bool,
        typer.Option(
            "--show-prompt", help="Also print what the model would read about a row, with all that the route adds."
        ),
    ] = False,
    labels: Labels = None,
    prompt: PromptOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines for people.")] = False,
) -> None:
    """Ask a server a few tiny questions, and say what it really does and by which route labels will be scored.

    \b
    Examples:
      llmclf probe --base-url http://localhost:8000/v1
      llmclf probe openai:my-model --base-url http://localhost:8000/v1
      llmclf probe openai:my-model --model-option use_route=verbalized --show-prompt --labels good,bad
    """
    if model is None:
        model = _only_model(base_url, api_key_env)
    if model.partition(":")[0] not in SERVERS:
        names = ", ".join(f"{scheme}:NAME" for scheme in SERVERS)
        raise InputError(f"{model!r} does not name a model behind a server; expected one of {names}")
    backend: Any = open_backend(open_model(model, base_url, api_key_env, model_option))
    try:
        values = backend.identity()
        route = backend.route
    except CapabilityError:
        if json:
            say_json(dumps({"model": model, "route": None}, indent=2))
        raise
    facts, usage = values.pop("probe", {}), backend.usage
    probed = backend.probe if isinstance(backend, OpenAIBackend) else None
    routes = backend.routes if isinstance(backend, OpenAIBackend) else []
    asked = _shown_prompt(backend, parse_labels(labels), parse_prompt(prompt, chat=True)) if show_prompt else None
    if json:
        data = {**values, "route": route, "probe": {**facts, "notes": list(probed.notes) if probed else []}}
        data |= {"routes": [asdict(one) for one in routes], "usage": usage.to_dict()}
        data |= {} if asked is None else {"prompt": asked}
        say_json(dumps(data, indent=2))
        return
    say(f"model: {values['model']}, answered by {values.get('answered_by') or 'a server that does not say'}")
    if probed is not None:
        for line in [*_facts(probed), *_table(routes)]:
            say(line)
    kinds = {one.name: f"{_kind(one)}: {one.summary}" for one in routes}
    say(f"route: {route} ({kinds.get(route, 'probabilities of the options, as the server gives them')})")
    costs = [one.cost for one in routes if one.name == route and one.cost is not None]
    for cost in costs:
        say(f"cost: {cost}")
    if asked is not None:
        say("what the model reads, without the markup of a chat template:")
        for line in asked.splitlines():
            say(f"  {line}".rstrip())
    say(f"{usage.requests} requests, {usage.tokens_in} tokens read, {usage.tokens_out} written")


def _only_model(base_url: str | None, api_key_env: str | None) -> str:
    """The model string of the one model that a server lists."""
    handle = OpenAIBackend("openai:-", base_url=base_url, api_key_env=api_key_env)

    def read(reply: Any) -> list[str]:
        listed = sequence(mapping(reply, "the reply").get("data"), "data")
        return [string(mapping(entry, "a model").get("id"), "id") for entry in listed]

    async def ask(client: Client) -> list[str]:
        return await client.call("/models", None, read, max_retries=0)

    names = AsyncBridge(Client(handle.server_options)).call(ask)
    if len(names) != 1:
        raise InputError(f"the server lists {len(names)} models ({', '.join(names[:20])}); name one: openai:NAME")
    return f"openai:{names[0]}"


def _shown_prompt(backend: Backend, labels: dict[str, list[str]] | None, prompt: Prompt | None) -> str:
    """What a model reads about a row, for labels and a prompt of the user or for made-up ones."""
    words = [some[0] for some in (labels or _LABELS).values()]
    prompt = prompt or Prompt(chat=True)
    renderer = prompt.renderer(words)
    row = dict.fromkeys(renderer.field_names, "(the text of the row)")
    return shown_prompt(backend, Request(renderer.render(row), tuple(map(prompt.completion, words))))


def _kind(route: RouteReport) -> str:
    return "estimates" if route.on_request else "exact" if route.is_exact else "bounded"


def _facts(probe: Probe) -> list[str]:
    ids = "by id" if probe.token_ids else "by their text"
    lines = [
        f"prompt log-probabilities (echo): {_ECHO[probe.echo]}",
        f"log-probabilities of tokens that are asked for: {'yes' if probe.named_tokens else 'no'}; of tokens forced by a "
        f"grammar: {'yes' if probe.grammar else 'no'}",
        f"log-probabilities are {'the raw ones' if probe.raw else 'those after temperature and masks'}",
        f"likeliest tokens shown: {probe.top_logprobs or 'none'} of a completion, {probe.chat_top_logprobs or 'none'} of a "
        f"chat, {ids}",
        f"tokenises on request: {'yes' if probe.tokenizer else 'no'}; context: {probe.context_length or 'not told'} tokens",
        f"the same request twice: {'the same numbers' if probe.repeatable else 'other numbers'}",
    ]
    return [*lines, *(f"note: {note}" for note in probe.notes)]


def _table(routes: list[RouteReport]) -> list[str]:
    width = max(len(one.name) for one in routes)
    yes = {False: "yes", True: "on request: estimates from written answers"}
    rows = [f"  {one.name:{width}}  {f'no: {one.obstacle}' if one.obstacle else yes[one.on_request]}" for one in routes]
    return ["routes that the server allows, best first:", *rows]


_LABELS = {"label one": ["label one"], "label two": ["label two"]}
_ECHO = {
    "exact": "yes, and they agree with the same tokens generated",
    "ignored": "no: the server ignores echo and generates instead",
    "shifted": "unusable: they are those of other tokens (off by one)",
    "refused": "no",
}
