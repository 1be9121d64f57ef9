"""What a server does with chats, in whatever protocol: the tokens that it shows of an answer, and the answers themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ....errors import CapabilityError
from ....prompts.rendered import Span, Turn
from ...answers.generates import GeneratedText, GenerationRequest
from ...answers.options import AnswerSettings
from ...answers.stated_shares import UnusableAnswerError, read_json
from ...answers.verbalized import shares_schema
from ...providers import Provider
from ...wires.answer_facts import AnswerFacts
from ...wires.base import Wire, merged
from ...wires.token_replies import NO_DISTRIBUTION, Position, shows_distribution
from .asking import COLD, TOP, WRONG_PARAMETERS, Asker, agree
from .completions import TEXTS

_DRAWS = 8  # answers that may end at once by chance before a chat counts as one that shows no token
_QUESTION = (Turn("user", (Span("What is the capital of France? Answer with one word.", False),)),)
_ASKED_FOR_JSON = (Turn("user", (Span('Answer with this JSON object and nothing else: {"A": 60, "B": 40}', False),)),)
_ANSWER_TOKENS, _JSON_TOKENS = 16, 40
_CHAT = (Turn("user", (Span("What is the capital of France?", False),)),)


class WireProbe:
    """Finds out what a server does in one protocol.

    Parameters
    ----------
    asker : Asker
    provider : Provider
        What is known of its servers.
    wire : Wire
    """

    def __init__(self, asker: Asker, provider: Provider, wire: Wire) -> None:
        self._asker = asker
        self._provider = provider
        self._wire = wire

    async def chats(self, facts: dict[str, Any]) -> bool:
        """Whether chats are answered with log-probabilities in a protocol."""
        for request, k, limit in self._chat_forms():
            what = f"{'chat' if self._wire.name == 'chat' else self._wire.title} with {k} log-probs"
            answer = await self._chat_token(request, k, limit, what)
            if answer is not None and not shows_distribution(answer):
                self._asker.notes.append(f"{what}: {NO_DISTRIBUTION}")
                return False
            if answer is not None:
                facts.update(
                    chat=True, chat_limit=limit, chat_top_logprobs=k, chat_wire=self._wire.name, effort=request.effort
                )
                cold = await self._chat_token(replace(request, temperature=COLD), k, limit, f"{what}, drawn")
                if cold is not None:
                    facts["raw"] = facts.get("raw", True) and agree(answer, cold)
                again = await self._chat_token(request, k, limit, what)
                facts.setdefault("repeatable", again is not None and again.top == answer.top)
                return True
        return False

    def _chat_forms(self) -> Iterator[tuple[GenerationRequest, int, str]]:
        """Questions for the first token of a chat, each of which is asked if the server has refused the parameters before it."""
        efforts = dict.fromkeys((None, None if "reasoning_effort" in self._asker.extra else self._provider.effort))
        most = self._provider.top_logprobs or TOP[0]
        for effort in efforts:
            request = GenerationRequest(_CHAT, max_tokens=1, effort=effort)
            for limit in sorted(self._wire.limits, key=lambda name: name != self._provider.limit):
                for k in dict.fromkeys((most, *(k for k in TOP if k < most))):
                    yield request, k, limit
                    if self._asker.status not in WRONG_PARAMETERS:  # it was not the parameters that it refused
                        break
                if self._asker.status not in WRONG_PARAMETERS:
                    break
            if self._asker.status not in (200, *WRONG_PARAMETERS):  # without log-probabilities, or refused
                return

    async def continues(self, facts: dict[str, Any]) -> None:
        """The token after a text, in a protocol of its own."""
        request = GenerationRequest((Turn(None, (Span(TEXTS[0], False),)),), max_tokens=1)
        for k in TOP:
            what = f"{self._wire.title}: a text continued with {k} log-probs"
            drawn = await self._chat_token(request, k, self._wire.limits[0], what)
            if drawn is not None and shows_distribution(drawn):
                cold = await self._chat_token(replace(request, temperature=COLD), k, self._wire.limits[0], what)
                again = await self._chat_token(request, k, self._wire.limits[0], what)
                facts.update(completions=True, top_logprobs=k, raw=cold is None or agree(cold, drawn))
                facts["repeatable"] = again is not None and again.top == drawn.top
                return
            if drawn is not None:
                self._asker.notes.append(f"{what}: {NO_DISTRIBUTION}")
            if drawn is not None or self._asker.status not in WRONG_PARAMETERS:
                return

    async def answers(self, settings: AnswerSettings) -> AnswerFacts:
        """What the server does with a chat whose answer is read as text.

        Raises
        ------
        CapabilityError
            It gives no answer.
        """
        most = settings.max_answer_tokens or _ANSWER_TOKENS
        plain = GenerationRequest(_QUESTION, most, temperature=0.0, effort=settings.effort)
        limits = sorted(self._wire.limits, key=lambda name: name != self._provider.limit)
        facts: AnswerFacts | None = None
        for candidate in (
            AnswerFacts(self._wire.name, name, temperatures=warm) for warm in (True, False) for name in limits
        ):
            if await self._texts(plain, candidate, "answer of a chat") is not None:
                facts = candidate
                break
            if self._asker.status not in WRONG_PARAMETERS:
                break
        if facts is None:
            said = self._asker.notes[-1] if self._asker.notes else "it did not say why"
            raise CapabilityError(
                f"the server does not answer chats for {self._asker.model!r} ({said}); use a model that does, or another "
                "max_answer_tokens= or effort= where the server speaks of these"
            )
        # What a server does not take is no fault here, so that it needs no note.
        notes = list(self._asker.notes)
        two = replace(plain, n=1 + self._wire.takes_n, temperature=1.0, seed=1 if self._wire.takes_seed else None)
        texts = await self._texts(two, facts, "two answers")
        facts = replace(facts, seeds=self._wire.takes_seed and texts is not None, choices=len(texts or ()) == 2)
        if texts is None and self._wire.takes_n and self._wire.takes_seed:
            seeded = await self._texts(replace(two, n=1), facts, "seed")
            texts = await self._texts(replace(two, seed=None), facts, "two answers")
            facts = replace(facts, seeds=seeded is not None, choices=len(texts or ()) == 2)
        schema = replace(
            plain, turns=_ASKED_FOR_JSON, max_tokens=max(most, _JSON_TOKENS), schema=shares_schema(("A", "B"))
        )
        texts = await self._texts(schema, facts, "schema")
        try:
            read_json(texts[0].text if texts else "", ("A", "B"))
            facts = replace(facts, schema=True)
        except UnusableAnswerError:
            pass
        self._asker.notes = notes
        return facts

    async def _texts(self, request: GenerationRequest, facts: AnswerFacts, what: str) -> list[GeneratedText] | None:
        """The answers to a request; None if the server refuses it."""
        body = merged(self._wire.body(self._asker.model, facts.adapted(request), limit=facts.limit), self._asker.extra)
        texts: list[GeneratedText] | None = await self._asker.ask(
            self._wire.path(self._asker.model, is_chat=True),
            body,
            lambda reply: self._wire.texts(reply, request.n),
            what,
            request.n * max(request.max_tokens, self._wire.least_tokens),
        )
        return texts

    async def _chat_token(self, request: GenerationRequest, k: int, limit: str, what: str) -> Position | None:
        """The first token of an answer. An answer that was over before it shows none, so another is drawn."""
        body = merged(self._wire.body(self._asker.model, request, top_logprobs=k, limit=limit), self._asker.extra)
        path = self._wire.path(self._asker.model, is_chat=request.turns[0].role is not None)
        for _ in range(_DRAWS):
            answer: list[Position] | None = await self._asker.ask(
                path, body, self._wire.positions, what, self._wire.least_tokens
            )
            if answer is None:
                return None
            if answer:
                return answer[0]
        self._asker.notes.append(f"{what}: {_DRAWS} answers in a row ended before their first token")
        self._asker.status = 200
        return None
