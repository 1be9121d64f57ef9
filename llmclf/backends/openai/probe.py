"""A few tiny requests that find out what a server really does; its documentation and its silence do not tell.

Servers ignore parameters that they do not know. One that ignores ``echo`` answers with a single generated token, so that every
label would get an empty sum of 0; another's echo is off by one. So a known text is asked for in several ways, and the answers
must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from ...errors import CapabilityError, ServerError
from ...prompts.rendered import Span, Turn
from ..answers.generates import GeneratedText, GenerationRequest
from ..answers.options import AnswerSettings
from ..answers.registry import by_answers
from ..answers.stated_shares import UnusableAnswerError, read_json
from ..answers.verbalized import shares_schema
from ..http.answering_model import AnsweringModel, name_of
from ..http.client import Client
from ..http.replies import choices, expect, mapping, sequence, string
from ..providers import Provider
from ..wires.answer_facts import AnswerFacts
from ..wires.base import Wire, merged
from ..wires.token_replies import (
    NO_DISTRIBUTION,
    Position,
    chat_reader,
    completion_reader,
    echoed,
    shows_distribution,
    token_grammar,
)

_TEXTS = ("The capital of France is", "Once upon a time there was a", "The opposite of hot is", "One, two, three,")
_CUT = "\N{REPLACEMENT CHARACTER}"
_COLD = 0.5  # a temperature that would double every difference if it were in the numbers
_DRAWS = 8  # answers that may end at once by chance before a chat counts as one that shows no token
_AGREE = 0.3  # nats between two ways to the same number; half of that is one step of a half-precision logit
_QUESTION = (Turn("user", (Span("What is the capital of France? Answer with one word.", False),)),)
_ASKED_FOR_JSON = (Turn("user", (Span('Answer with this JSON object and nothing else: {"A": 60, "B": 40}', False),)),)
_ANSWER_TOKENS, _JSON_TOKENS = 16, 40
_TOP = (20, 5, 1)  # how many top log-probabilities are asked for, most first
_CHAT = (Turn("user", (Span("What is the capital of France?", False),)),)
_NO_SUCH_MODEL = re.compile(
    r"invalid model|unknown model|not a valid model|model\b.{0,200}\b(not found|not exist|not available)"
)


@dataclass(frozen=True)
class Probe:
    """What a server was seen to do.

    Attributes
    ----------
    model : str
        The name asked for.
    answered_by : str
        The model that answered, by the server's name for it: an alias may mean another model tomorrow.
    completions, chat : bool
        Whether ``/completions`` and ``/chat/completions`` answer with log-probabilities.
    echo : {"exact", "ignored", "shifted", "refused"}
        ``exact``: a prompt's log-probabilities come back and agree with those of the same tokens when generated. ``ignored``: the
        server generates instead. ``shifted``: they belong to other tokens.
    echo_tokens : int
        The ``max_tokens`` that an echo needs: 0 or 1.
    named_tokens : bool
        The log-probabilities of named tokens can be asked for (``logprob_token_ids``).
    grammar : bool
        Tokens can be forced by a grammar, and their log-probabilities are those from before it.
    raw : bool
        Log-probabilities are the model's own, before any temperature or mask.
    top_logprobs, chat_top_logprobs : int
        How many of the likeliest tokens a completion names, and how many a chat.
    token_ids : bool
        Tokens are named by their ids.
    id_flag : bool
        They are only if ``return_tokens_as_token_ids`` asks for it.
    tokenizer : {"vllm", "llama_server"} or None
        The protocol by which the server tokenises on request.
    context_length : int or None
    repeatable : bool
        The same request twice gave the same numbers.
    chat_limit : str
        The parameter that limits a chat's answer, such as ``max_completion_tokens``.
    chat_wire : str
        The protocol in which chats are answered; see `llmclf.backends.wires.registry`.
    effort : str or None
        The reasoning effort without which a chat shows no log-probabilities.
    answers : AnswerFacts or None
        What it does with chats whose answer is read as text; None where that was not asked, or does not work.
    bos_token, eos_token : str
        As far as the server tells them.
    notes : tuple of str
        What was refused, in the server's words.
    """

    model: str
    answered_by: str = ""
    completions: bool = False
    chat: bool = False
    echo: str = "refused"
    echo_tokens: int = 0
    named_tokens: bool = False
    grammar: bool = False
    raw: bool = True
    top_logprobs: int = 0
    chat_top_logprobs: int = 0
    token_ids: bool = False
    id_flag: bool = False
    tokenizer: str | None = None
    context_length: int | None = None
    repeatable: bool = True
    chat_limit: str = "max_completion_tokens"
    chat_wire: str = "chat"
    effort: str | None = None
    answers: AnswerFacts | None = None
    bos_token: str = ""
    eos_token: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def summary(self) -> dict[str, Any]:
        """The facts that scores depend on, without those that differ from one connection to the next."""
        names = ("echo", "named_tokens", "grammar", "raw", "token_ids", "tokenizer")
        facts = {name: getattr(self, name) for name in names}
        # Left out where they are as they always were, so that what was fitted before is still known.
        unusual = {"chat_wire": self.chat_wire != "chat", "effort": self.effort is not None}
        return facts | {name: getattr(self, name) for name, is_unusual in unusual.items() if is_unusual}


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
    return await _Prober(client, model, extra, models, provider, wires).run(answers)


@dataclass(frozen=True)
class Drawn:
    """A token that a server generated after a prompt."""

    prompt: str
    text: str
    position: Position


class _Prober:
    def __init__(
        self,
        client: Client,
        model: str,
        extra: Mapping[str, Any],
        models: AnsweringModel,
        provider: Provider,
        wires: Sequence[Wire],
    ) -> None:
        self._provider = provider
        self._wires = wires
        self._models = models
        self._client = client
        self._model = model
        self._extra = dict(extra)
        self._notes: list[str] = []
        self._status: int | None = None  # of the last refusal
        self._answered_by = ""
        self._forbidden: ServerError | None = None
        self._flag: dict[str, Any] = {}

    async def run(self, answers: AnswerSettings | None) -> Probe:
        first = self._wires[0]
        facts: dict[str, Any] = {"model": self._model, "chat_wire": first.name}
        if first.is_openai and first.continues_text:
            generated = await self._generate(facts)
            await self._describe(facts)
            await self._tokenizer(facts)
            if generated is not None:
                await self._repeat(facts, generated)
                await self._echo(facts, generated)
                await self._force(facts, generated)
        elif first.continues_text and first.shows_logprobs:
            await self._continue(facts, first)
        for wire in self._wires:
            if wire.shows_logprobs and await self._chat(facts, wire):
                break
        if answers is not None:
            facts["answers"] = await self._answers(answers, first)
        elif not (facts.get("completions") or facts.get("chat")):
            if self._forbidden is not None:
                raise self._forbidden
            raise CapabilityError(self._nothing_shown())
        return Probe(**facts, answered_by=self._answered_by, notes=tuple(self._notes))

    def _nothing_shown(self) -> str:
        silent = [wire for wire in self._wires if not wire.shows_logprobs]
        said = "; ".join([*(f"{wire.title} has none" for wire in silent), *self._notes])
        return (
            f"the server gives no log-probabilities for {self._model!r} ({said}); {by_answers()}; or use a server that does "
            "(vLLM, SGLang, llama.cpp's server), a model without reasoning, or a decision model ('systemone:NAME', "
            "'decisions:NAME')"
        )

    async def _ask(self, path: str, body: Mapping[str, Any], read: Any, what: str, tokens_out: int = 1) -> Any:
        """The answer, or None (and a note) if the server refuses or answers something else."""

        def noting(reply: Any) -> Any:
            answer = read(reply)
            self._models.check(reply, path)
            self._answered_by = name_of(reply).model or self._answered_by
            return answer

        try:
            return await self._client.call(path, body, noting, tokens_in=64, tokens_out=tokens_out, max_retries=2)
        except ServerError as error:
            # A wrong key, an unknown model or a missing server fails every other request, too.
            if error.status in (None, 401, 402, 408, 429) or self._is_unknown(error):
                raise
            if error.status == 403:  # of this path, perhaps, and not of others
                self._forbidden = error
            if not any(note.endswith(f": {error}") for note in self._notes):  # one refusal of several requests is one
                self._notes.append(f"{what}: {error}")
            self._status = error.status
            return None

    def _is_unknown(self, error: ServerError) -> bool:
        """Whether a refusal says that the server does not have the model; some say so with the status of a wrong request."""
        words = str(error).lower()
        if "model" not in words or self._model.lower() not in words:
            return False
        return error.status == 404 or (error.status == 400 and _NO_SUCH_MODEL.search(words) is not None)

    async def _optional(self, path: str, body: Mapping[str, Any] | None, read: Any) -> Any:
        """The answer of a path that is optional; None if the server refuses."""
        try:
            return await self._client.call(path, body, read, max_retries=0)
        except ServerError:
            return None

    async def _describe(self, facts: dict[str, Any]) -> None:
        models = await self._optional("/models", None, lambda r: sequence(mapping(r, "the reply").get("data"), "data"))
        for entry in models or ():
            if isinstance(entry, dict) and (entry.get("id") == self._model or len(models) == 1):
                length = entry.get("max_model_len")
                if isinstance(length, int) and length > 0:
                    facts["context_length"] = length
        props = await self._optional("//props", None, lambda r: mapping(r, "the reply"))
        if props is not None:
            settings = props.get("default_generation_settings")
            length = settings.get("n_ctx") if isinstance(settings, dict) else None
            if isinstance(length, int) and length > 0:
                facts["context_length"] = length
            for name in ("bos_token", "eos_token"):
                if isinstance(props.get(name), str):
                    facts[name] = props[name]

    async def _tokenizer(self, facts: dict[str, Any]) -> None:
        def read(reply: Any) -> bool:
            tokens = sequence(mapping(reply, "the reply").get("tokens"), "tokens")
            expect(len(tokens) > 1 and all(isinstance(token, int) for token in tokens), "tokens are not ids")
            return True

        for kind, body in (
            ("vllm", {"model": self._model, "prompt": _TEXTS[0], "add_special_tokens": False}),
            ("llama_server", {"content": _TEXTS[0], "add_special": False, "parse_special": False}),
        ):
            if await self._optional("//tokenize", body, read):
                facts["tokenizer"] = kind
                break

    async def _generate(self, facts: dict[str, Any]) -> Drawn | None:
        """One generated token after the first text, drawn at temperature 1, where masked and raw numbers are the same."""
        for k in _TOP:
            for flag in ({"return_tokens_as_token_ids": True}, {}):
                self._flag = flag
                drawn = await self._draw(_TEXTS[0], k)
                if drawn is not None:
                    token_ids = drawn.position.chosen.token is not None
                    facts.update(
                        completions=True, top_logprobs=k, token_ids=token_ids, id_flag=bool(flag) and token_ids
                    )
                    if not token_ids:
                        self._flag = {}
                    self._notes.clear()
                    return drawn
                if self._status not in (400, 422):  # it was not the parameters that it refused
                    return None
        return None

    async def _draw(self, text: str, k: int, temperature: float = 1.0) -> Drawn | None:
        body = {"prompt": text, "max_tokens": 1, "logprobs": k, "temperature": temperature, "seed": 1, **self._flag}
        drawn: Drawn | None = await self._ask(
            "/completions", {**self._body(), **body}, partial(_drawn, text), f"completions with {k} log-probabilities"
        )
        return drawn

    async def _repeat(self, facts: dict[str, Any], generated: Drawn) -> None:
        """Twice the same; and at a low temperature, where a server that shows what it draws from gives other numbers."""
        k = facts["top_logprobs"]
        one, two = await self._draw(_TEXTS[0], k, 0.0), await self._draw(_TEXTS[0], k, 0.0)
        facts["repeatable"] = one == two
        cold = await self._draw(_TEXTS[0], k, _COLD)
        facts["raw"] = cold is None or _agree(cold.position, generated.position)

    async def _echo(self, facts: dict[str, Any], generated: Drawn) -> None:
        """Compare what the server says of tokens that it generated with what it says of the same tokens when it reads them."""
        drawn = [generated, *[await self._draw(text, facts["top_logprobs"]) for text in _TEXTS[1:]]]
        # A token without a text of its own (the end, half a character) does not come back as it was sent.
        known = [one for one in drawn if one is not None and one.text.strip() and _CUT not in one.text]
        for limit in (0, 1):
            agreed = compared = 0
            for one in known:
                whole = one.prompt + one.text
                body = {
                    "prompt": whole,
                    "max_tokens": limit,
                    "echo": True,
                    "logprobs": 1,
                    "temperature": 1.0,
                    **self._flag,
                }
                last = await self._ask(
                    "/completions", {**self._body(), **body}, echoed, f"echo with max_tokens={limit}"
                )
                if last is None:
                    break
                if not last:
                    facts["echo"] = "ignored"
                    self._notes.append("echo: the server ignores it and generates a token instead")
                    return
                chosen = one.position.chosen
                # Where one more token is generated, the last but one belongs to the prompt.
                same = [entry for entry in last[-2:] if (entry.token, entry.text) == (chosen.token, chosen.text)]
                values = [entry.logprob for entry in same if entry.logprob is not None]
                if values and chosen.logprob is not None:
                    compared += 1
                    agreed += any(abs(value - chosen.logprob) < _AGREE for value in values)
            if compared:
                facts["echo_tokens"] = limit
                facts["echo"] = "exact" if agreed == compared else "shifted"
                if agreed < compared:
                    self._notes.append("echo: the log-probabilities are those of other tokens (off by one)")
                return

    async def _force(self, facts: dict[str, Any], generated: Drawn) -> None:
        """Ask about named tokens, and about tokens forced by a grammar."""
        shown = (*generated.position.top, generated.position.chosen)
        named = [entry for entry in shown if entry.token is not None and entry.logprob is not None]
        if not named:
            return
        # The least likely of those that are known: a server that ignores the question would name the likeliest.
        entry = min(named, key=lambda entry: entry.logprob or 0.0)
        assert entry.token is not None
        assert entry.logprob is not None
        other = entry.token + 1 if entry.token + 1 not in {e.token for e in named} else entry.token + 2
        notes = len(self._notes)
        body = {"prompt": _TEXTS[0], "max_tokens": 1, "logprobs": 1, "temperature": 1.0, "seed": 1}
        body = {**self._body(), **body, **self._flag, "logprob_token_ids": [entry.token, other]}
        answer = await self._ask("/completions", body, completion_reader(1), "named_tokens")
        if answer is not None:
            values = {shown.token: shown.logprob for shown in answer[0][0].top}
            value = values.get(entry.token)
            facts["named_tokens"] = other in values and value is not None and abs(value - entry.logprob) < _AGREE
        body = {
            "prompt": _TEXTS[0],
            "max_tokens": 1,
            "logprobs": 1,
            "temperature": 0.0,
            "grammar": token_grammar([entry.token]),
        }
        answer = await self._ask("/completions", {**self._body(), **body}, completion_reader(1), "grammar")
        if answer is not None:
            chosen = answer[0][0].chosen
            forced = chosen.token == entry.token and chosen.logprob is not None
            facts["grammar"] = forced and abs(float(chosen.logprob or 0.0) - entry.logprob) < _AGREE
        del self._notes[notes:]

    async def _chat(self, facts: dict[str, Any], wire: Wire) -> bool:
        """Whether chats are answered with log-probabilities in a protocol."""
        for request, k, limit in self._chat_forms(wire):
            what = f"{'chat' if wire.name == 'chat' else wire.title} with {k} log-probs"
            answer = await self._chat_token(wire, request, k, limit, what)
            if answer is not None and not shows_distribution(answer):
                self._notes.append(f"{what}: {NO_DISTRIBUTION}")
                return False
            if answer is not None:
                facts.update(
                    chat=True, chat_limit=limit, chat_top_logprobs=k, chat_wire=wire.name, effort=request.effort
                )
                cold = await self._chat_token(wire, replace(request, temperature=_COLD), k, limit, f"{what}, drawn")
                if cold is not None:
                    facts["raw"] = facts.get("raw", True) and _agree(answer, cold)
                again = await self._chat_token(wire, request, k, limit, what)
                facts.setdefault("repeatable", again is not None and again.top == answer.top)
                return True
        return False

    def _chat_forms(self, wire: Wire) -> Iterator[tuple[GenerationRequest, int, str]]:
        """Questions for the first token of a chat, each of which is asked if the server has refused the parameters before it."""
        efforts = dict.fromkeys((None, None if "reasoning_effort" in self._extra else self._provider.effort))
        most = self._provider.top_logprobs or _TOP[0]
        for effort in efforts:
            request = GenerationRequest(_CHAT, max_tokens=1, effort=effort)
            for limit in sorted(wire.limits, key=lambda name: name != self._provider.limit):
                for k in dict.fromkeys((most, *(k for k in _TOP if k < most))):
                    yield request, k, limit
                    if self._status not in (400, 422):  # it was not the parameters that it refused
                        break
                if self._status not in (400, 422):
                    break
            if self._status not in (200, 400, 422):  # without log-probabilities, or refused
                return

    async def _continue(self, facts: dict[str, Any], wire: Wire) -> None:
        """The token after a text, in a protocol of its own."""
        request = GenerationRequest((Turn(None, (Span(_TEXTS[0], False),)),), max_tokens=1)
        for k in _TOP:
            what = f"{wire.title}: a text continued with {k} log-probs"
            drawn = await self._chat_token(wire, request, k, wire.limits[0], what)
            if drawn is not None and shows_distribution(drawn):
                cold = await self._chat_token(wire, replace(request, temperature=_COLD), k, wire.limits[0], what)
                again = await self._chat_token(wire, request, k, wire.limits[0], what)
                facts.update(completions=True, top_logprobs=k, raw=cold is None or _agree(cold, drawn))
                facts["repeatable"] = again is not None and again.top == drawn.top
                return
            if drawn is not None:
                self._notes.append(f"{what}: {NO_DISTRIBUTION}")
            if drawn is not None or self._status not in (400, 422):
                return

    async def _answers(self, settings: AnswerSettings, wire: Wire) -> AnswerFacts:
        """What the server does with a chat whose answer is read as text.

        Raises
        ------
        CapabilityError
            It gives no answer.
        """
        most = settings.max_answer_tokens or _ANSWER_TOKENS
        plain = GenerationRequest(_QUESTION, most, temperature=0.0, effort=settings.effort)
        limits = sorted(wire.limits, key=lambda name: name != self._provider.limit)
        facts: AnswerFacts | None = None
        for candidate in (AnswerFacts(wire.name, name, temperatures=warm) for warm in (True, False) for name in limits):
            if await self._texts(wire, plain, candidate, "answer of a chat") is not None:
                facts = candidate
                break
            if self._status not in (400, 422):
                break
        if facts is None:
            said = self._notes[-1] if self._notes else "it did not say why"
            raise CapabilityError(
                f"the server does not answer chats for {self._model!r} ({said}); use a model that does, or another "
                "max_answer_tokens= or effort= where the server speaks of these"
            )
        # What a server does not take is no fault here, so that it needs no note.
        notes = list(self._notes)
        two = replace(plain, n=1 + wire.takes_n, temperature=1.0, seed=1 if wire.takes_seed else None)
        texts = await self._texts(wire, two, facts, "two answers")
        facts = replace(facts, seeds=wire.takes_seed and texts is not None, choices=len(texts or ()) == 2)
        if texts is None and wire.takes_n and wire.takes_seed:
            seeded = await self._texts(wire, replace(two, n=1), facts, "seed")
            texts = await self._texts(wire, replace(two, seed=None), facts, "two answers")
            facts = replace(facts, seeds=seeded is not None, choices=len(texts or ()) == 2)
        schema = replace(
            plain, turns=_ASKED_FOR_JSON, max_tokens=max(most, _JSON_TOKENS), schema=shares_schema(("A", "B"))
        )
        texts = await self._texts(wire, schema, facts, "schema")
        try:
            read_json(texts[0].text if texts else "", ("A", "B"))
            facts = replace(facts, schema=True)
        except UnusableAnswerError:
            pass
        self._notes = notes
        return facts

    async def _texts(
        self, wire: Wire, request: GenerationRequest, facts: AnswerFacts, what: str
    ) -> list[GeneratedText] | None:
        """The answers to a request; None if the server refuses it."""
        body = merged(wire.body(self._model, facts.adapted(request), limit=facts.limit), self._extra)
        texts: list[GeneratedText] | None = await self._ask(
            wire.path(self._model, is_chat=True),
            body,
            lambda reply: wire.texts(reply, request.n),
            what,
            request.n * max(request.max_tokens, wire.least_tokens),
        )
        return texts

    async def _chat_token(
        self, wire: Wire, request: GenerationRequest, k: int, limit: str, what: str
    ) -> Position | None:
        """The first token of an answer. An answer that was over before it shows none, so another is drawn."""
        body = merged(wire.body(self._model, request, top_logprobs=k, limit=limit), self._extra)
        path = wire.path(self._model, is_chat=request.turns[0].role is not None)
        for _ in range(_DRAWS):
            answer: list[Position] | None = await self._ask(path, body, wire.positions, what, wire.least_tokens)
            if answer is None:
                return None
            if answer:
                return answer[0]
        self._notes.append(f"{what}: {_DRAWS} answers in a row ended before their first token")
        self._status = 200
        return None

    def _body(self) -> dict[str, Any]:
        return {"model": self._model, **self._extra}


def _agree(one: Position, other: Position) -> bool:
    """Whether two answers give the same log-probabilities to the tokens that both show."""
    known = {(entry.token, entry.text): entry.logprob for entry in (*other.top, other.chosen)}
    for entry in (*one.top, one.chosen):
        value = known.get((entry.token, entry.text))
        if value is not None and entry.logprob is not None and abs(value - entry.logprob) > _AGREE:
            return False
    return True


def _drawn(prompt: str, reply: Any) -> Drawn:
    (choice,) = choices(reply, 1)
    positions = chat_reader(reply)
    expect(len(positions) >= 1, "no token was generated")
    expect(shows_distribution(positions[0]), NO_DISTRIBUTION)
    return Drawn(prompt, string(choice.get("text"), "text"), positions[0])
