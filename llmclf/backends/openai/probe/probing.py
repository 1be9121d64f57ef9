"""All questions to a server, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import CapabilityError
from ...answers.options import AnswerSettings
from ...answers.registry import by_answers
from ...http.answering_model import AnsweringModel
from ...http.client import Client
from ...providers import Provider
from ...wires.base import Wire
from .asking import Asker
from .chats import WireProbe
from .completions import CompletionsProbe
from .facts import Probe


async def probe(
    client: Client,
    model: str,
    extra: Mapping[str, Any],
    models: AnsweringModel,
    provider: Provider,
    wires: Sequence[Wire],
    answers: AnswerSettings | None = None,
) -> Probe:
    """Find out what a server does.

    Parameters
    ----------
    client : Client
    model : str
        The name to ask for.
    extra : mapping
        What every request also carries.
    models : AnsweringModel
        Sees the replies.
    provider : Provider
        What is known of its servers.
    wires : sequence of Wire
        The protocols to ask in, until one shows log-probabilities.
    answers : AnswerSettings, optional
        Of a route by answers that was asked for; then the server is also asked for answers, and need not show more.

    Raises
    ------
    ServerError
        It cannot be reached, or refuses key or model.
    CapabilityError
        It gives no log-probabilities at all.
    """
    asker = Asker(client, model, extra, models)
    of_wires = [WireProbe(asker, provider, wire) for wire in wires]
    facts: dict[str, Any] = {"model": model, "chat_wire": wires[0].name}
    if wires[0].is_openai and wires[0].continues_text:
        await CompletionsProbe(asker).run(facts)
    elif wires[0].continues_text and wires[0].shows_logprobs:
        await of_wires[0].continues(facts)
    for wire, asked in zip(wires, of_wires, strict=True):
        if wire.shows_logprobs and await asked.chats(facts):
            break
    if answers is not None:
        facts["answers"] = await of_wires[0].answers(answers)
    elif not (facts.get("completions") or facts.get("chat")):
        if asker.forbidden is not None:
            raise asker.forbidden
        raise CapabilityError(_nothing_shown(asker, wires))
    return Probe(**facts, answered_by=asker.answered_by, notes=tuple(asker.notes))


def _nothing_shown(asker: Asker, wires: Sequence[Wire]) -> str:
    silent = [wire for wire in wires if not wire.shows_logprobs]
    said = "; ".join([*(f"{wire.title} has none" for wire in silent), *asker.notes])
    return (
        f"the server gives no log-probabilities for {asker.model!r} ({said}); {by_answers()}; or use a server that does "
        "(vLLM, SGLang, llama.cpp's server), a model without reasoning, or a decision model ('systemone:NAME', "
        "'decisions:NAME')"
    )
