"""What a local model writes, as routes by answers ask for it."""

from __future__ import annotations

from ....logits import chain
from ....prompts.rendered import RenderedPrompt
from ...answers.generates import GeneratedText, GenerationRequest, Stop
from ..backend import LocalBackend

_STOPS: dict[str, Stop] = {"eos": "end", "stop": "end", "length": "length"}


class LocalWriter:
    """Writes with a local model; see `llmclf.backends.answers.generates.GeneratesText`. Nothing in it waits."""

    takes_schema = takes_grammar = False
    takes_n = takes_seed = True

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    async def generate(self, request: GenerationRequest) -> list[GeneratedText]:
        prompt = RenderedPrompt(request.turns)
        is_cold = request.temperature == 0.0
        written = self._backend.generate_many(
            prompt,
            1 if is_cold else request.n,
            request.max_tokens,
            () if is_cold or request.temperature == 1.0 else chain(temperature=request.temperature),
            None if is_cold else request.seed,
            request.stop,
        )
        return [GeneratedText(one.text, _STOPS[one.finish_reason]) for one in written]
