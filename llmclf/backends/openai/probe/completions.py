"""What a server does with texts that it continues: its tokenizer, echo, named tokens and grammars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ...http.replies import choices, expect, mapping, sequence, string
from ...wires.token_replies import (
    NO_DISTRIBUTION,
    Position,
    chat_reader,
    completion_reader,
    echoed,
    shows_distribution,
    token_grammar,
)
from .asking import AGREE, COLD, TOP, WRONG_PARAMETERS, Asker, agree

TEXTS = ("The capital of France is", "Once upon a time there was a", "The opposite of hot is", "One, two, three,")
_CUT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Drawn:
    """A token that a server generated after a prompt."""

    prompt: str
    text: str
    position: Position


class CompletionsProbe:
    """Finds out what ``/completions`` and the paths beside it do.

    Parameters
    ----------
    asker : Asker
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._flag: dict[str, Any] = {}

    async def run(self, facts: dict[str, Any]) -> None:
        """Add what was seen to some facts, the fields of a `Probe`."""
        generated = await self._generate(facts)
        await self._describe(facts)
        await self._tokenizer(facts)
        if generated is not None:
            await self._repeat(facts, generated)
            await self._echo(facts, generated)
            await self._force(facts, generated)

    async def _describe(self, facts: dict[str, Any]) -> None:
        models = await self._asker.optional(
            "/models", None, lambda r: sequence(mapping(r, "the reply").get("data"), "data")
        )
        for entry in models or ():
            if isinstance(entry, dict) and (entry.get("id") == self._asker.model or len(models) == 1):
                length = entry.get("max_model_len")
                if isinstance(length, int) and length > 0:
                    facts["context_length"] = length
        props = await self._asker.optional("//props", None, lambda r: mapping(r, "the reply"))
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
            ("vllm", {"model": self._asker.model, "prompt": TEXTS[0], "add_special_tokens": False}),
            ("llama_server", {"content": TEXTS[0], "add_special": False, "parse_special": False}),
        ):
            if await self._asker.optional("//tokenize", body, read):
                facts["tokenizer"] = kind
                break

    async def _generate(self, facts: dict[str, Any]) -> Drawn | None:
        """One generated token after the first text, drawn at temperature 1, where masked and raw numbers are the same."""
        for k in TOP:
            for flag in ({"return_tokens_as_token_ids": True}, {}):
                self._flag = flag
                drawn = await self._draw(TEXTS[0], k)
                if drawn is not None:
                    token_ids = drawn.position.chosen.token is not None
                    facts.update(
                        completions=True, top_logprobs=k, token_ids=token_ids, id_flag=bool(flag) and token_ids
                    )
                    if not token_ids:
                        self._flag = {}
                    self._asker.notes.clear()
                    return drawn
                if self._asker.status not in WRONG_PARAMETERS:  # it was not the parameters that it refused
                    return None
        return None

    async def _draw(self, text: str, k: int, temperature: float = 1.0) -> Drawn | None:
        body = {"prompt": text, "max_tokens": 1, "logprobs": k, "temperature": temperature, "seed": 1, **self._flag}
        drawn: Drawn | None = await self._asker.ask(
            "/completions",
            {**self._asker.body, **body},
            partial(_drawn, text),
            f"completions with {k} log-probabilities",
        )
        return drawn

    async def _repeat(self, facts: dict[str, Any], generated: Drawn) -> None:
        """Twice the same; and at a low temperature, where a server that shows what it draws from gives other numbers."""
        k = facts["top_logprobs"]
        one, two = await self._draw(TEXTS[0], k, 0.0), await self._draw(TEXTS[0], k, 0.0)
        facts["repeatable"] = one == two
        cold = await self._draw(TEXTS[0], k, COLD)
        facts["raw"] = cold is None or agree(cold.position, generated.position)

    async def _echo(self, facts: dict[str, Any], generated: Drawn) -> None:
        """Compare what the server says of tokens that it generated with what it says of the same tokens when it reads them."""
        drawn = [generated, *[await self._draw(text, facts["top_logprobs"]) for text in TEXTS[1:]]]
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
                last = await self._asker.ask(
                    "/completions", {**self._asker.body, **body}, echoed, f"echo with max_tokens={limit}"
                )
                if last is None:
                    break
                if not last:
                    facts["echo"] = "ignored"
                    self._asker.notes.append("echo: the server ignores it and generates a token instead")
                    return
                chosen = one.position.chosen
                # Where one more token is generated, the last but one belongs to the prompt.
                same = [entry for entry in last[-2:] if (entry.token, entry.text) == (chosen.token, chosen.text)]
                values = [entry.logprob for entry in same if entry.logprob is not None]
                if values and chosen.logprob is not None:
                    compared += 1
                    agreed += any(abs(value - chosen.logprob) < AGREE for value in values)
            if compared:
                facts["echo_tokens"] = limit
                facts["echo"] = "exact" if agreed == compared else "shifted"
                if agreed < compared:
                    self._asker.notes.append("echo: the log-probabilities are those of other tokens (off by one)")
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
        notes = len(self._asker.notes)
        body = {"prompt": TEXTS[0], "max_tokens": 1, "logprobs": 1, "temperature": 1.0, "seed": 1}
        body = {**self._asker.body, **body, **self._flag, "logprob_token_ids": [entry.token, other]}
        answer = await self._asker.ask("/completions", body, completion_reader(1), "named_tokens")
        if answer is not None:
            values = {shown.token: shown.logprob for shown in answer[0][0].top}
            value = values.get(entry.token)
            facts["named_tokens"] = other in values and value is not None and abs(value - entry.logprob) < AGREE
        body = {
            "prompt": TEXTS[0],
            "max_tokens": 1,
            "logprobs": 1,
            "temperature": 0.0,
            "grammar": token_grammar([entry.token]),
        }
        answer = await self._asker.ask("/completions", {**self._asker.body, **body}, completion_reader(1), "grammar")
        if answer is not None:
            chosen = answer[0][0].chosen
            forced = chosen.token == entry.token and chosen.logprob is not None
            facts["grammar"] = forced and abs(float(chosen.logprob or 0.0) - entry.logprob) < AGREE
        del self._asker.notes[notes:]


def _drawn(prompt: str, reply: Any) -> Drawn:
    (choice,) = choices(reply, 1)
    positions = chat_reader(reply)
    expect(len(positions) >= 1, "no token was generated")
    expect(shows_distribution(positions[0]), NO_DISTRIBUTION)
    return Drawn(prompt, string(choice.get("text"), "text"), positions[0])
