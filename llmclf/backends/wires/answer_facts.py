"""What a server was seen to do with requests for written answers, and the largest number of tokens that one can have."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..answers.generates import GenerationRequest

_TEMPLATE_TOKENS = 64  # tokens that a chat template may add to the texts
_TURN_TOKENS = 9  # tokens that it may add to each turn, and one before its text


@dataclass(frozen=True)
class AnswerFacts:
    """What a server was seen to do with a chat whose answer is read as text.

    Attributes
    ----------
    wire : str
        The protocol in which it was asked; see `llmclf.backends.wires.registry`.
    limit : str
        The parameter that limits the answer.
    schema : bool
        The answer follows a JSON schema.
    choices : bool
        One request gives several answers.
    seeds : bool
        It takes a seed, whatever it does with it.
    temperatures : bool
        It takes a temperature other than 1.
    """

    wire: str = "chat"
    limit: str = "max_completion_tokens"
    schema: bool = False
    choices: bool = False
    seeds: bool = False
    temperatures: bool = True

    def adapted(self, request: GenerationRequest) -> GenerationRequest:
        """A request as the server takes it: at the temperature 1 where it takes no other."""
        return request if self.temperatures else replace(request, temperature=1.0)


def most_tokens(request: GenerationRequest) -> int:
    """The largest number of tokens that a request can have: one for each byte, and what a chat's template adds.

    Examples
    --------
    >>> from llmclf.prompts.rendered import Span, Turn
    >>> most_tokens(GenerationRequest((Turn("user", (Span("Good?", False),)),), max_tokens=8))
    78
    """
    n_bytes = sum(len(turn.text.encode("utf-8", "surrogatepass")) for turn in request.turns)
    return n_bytes + _TEMPLATE_TOKENS + _TURN_TOKENS * len(request.turns)
