"""What a server was seen to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...wires.answer_facts import AnswerFacts


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
