"""The definition of a score as code: one (prompt, completion) pair at a time, without batch, cache or padding.

It is slow and obviously right, and every other backend is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..logits import log_softmax
from .base import ProcessesLogits, ShowsStates
from .logit_processing import TokenProcessing
from .nested_labels import without_longer
from .requests import Request, RowScores, check_requests
from .tokens.codec import TokenCodec, TokenRow
from .tokens.transformers_encoder import TokenizerEncoder, model_context_length


class ReferenceBackend(ProcessesLogits, ShowsStates):
    """Score with a transformers model, one plain forward pass per completion.

    Parameters
    ----------
    model : transformers causal language model
    tokenizer : its tokenizer
    context_length : int, optional
        Largest number of tokens the model may read; by default what its configuration says.
    """

    def __init__(self, model: Any, tokenizer: Any, context_length: int | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._codec = TokenCodec(TokenizerEncoder(tokenizer), context_length or model_context_length(model))

    def __repr__(self) -> str:
        return f"ReferenceBackend({type(self.model).__name__})"

    @property
    def processes_logits(self) -> bool:
        """True: whole distributions are seen."""
        return True

    @property
    def shows_states(self) -> bool:
        """True: one more plain call of a row's prompt shows them."""
        return True

    def identity(self) -> dict[str, Any]:
        return {"backend": "reference", "model": type(self.model).__name__}

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests, processes_logits=True, shows_states=True)
        for place, row in enumerate(self._codec.encode(requests)):
            logprobs = tuple(self.token_logprobs(row.context, target, row.processing) for target in row.targets)
            if row.excludes_longer:
                logprobs = without_longer(row.targets, logprobs)
            yield (
                place,
                RowScores(
                    logprobs,
                    characters_cut=row.characters_cut,
                    healed=row.healed,
                    terminated=row.terminated,
                    state_parts=row.states,
                    states=self.states(row) if row.states else None,
                ),
            )

    def states(self, row: TokenRow) -> NDArray[np.float32]:
        """The parts of the hidden states that a row asks for, end to end, by a plain call of its context."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([row.context], device=self.model.device)
            shown = self.model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        text = [i for start, stop in row.text_tokens for i in range(start, stop)]
        parts = []
        for tokens, depth in row.states:
            layer = max(1, round(depth * (len(shown) - 1)))
            places = text if tokens == "text" and text else [len(row.context) - 1]
            parts.append(shown[layer][0, places].float().mean(dim=0).cpu().numpy())
        return np.concatenate(parts)

    def token_logprobs(
        self, context: Sequence[int], target: Sequence[int], processing: TokenProcessing | None = None
    ) -> tuple[float, ...]:
        """log p(target[j] | context, target[:j]) for every j, in nats: by the model's own softmax, or a processed one."""
        logits = self._logits(context, target)
        if processing is not None:
            unconditional = self._logits(processing.unconditional, target) if processing.unconditional else None
            logits = processing.apply(logits, unconditional)
        return tuple(float(log_softmax(at)[token]) for at, token in zip(logits, target, strict=True))

    def _logits(self, context: Sequence[int], target: Sequence[int]) -> np.ndarray:
        """The logits (len(target), vocabulary) that predict each token of the target."""
        import torch

        ids = torch.tensor([[*context, *target]], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        # The logits at a position predict the token after it.
        predicting: np.ndarray = logits[len(context) - 1 : -1].float().cpu().numpy()
        return predicting
