"""Plain calls of a transformers model, without padding, mask or cache: they define a score, and each route is held to them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

_HALF = (torch.bfloat16, torch.float16)
_LARGEST_STATE = 1 << 20  # numbers of one tensor that is kept to be put back


class PlainCalls:
    """The plain calls of one model, each of which finds the model as it was loaded.

    Parameters
    ----------
    model : transformers causal language model
    longest : int
        The largest number of tokens that it can read.
    """

    def __init__(self, model: Any, longest: int) -> None:
        self.model = model
        self.longest = longest
        self.state = ModuleState(model)
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(self, sequences: Sequence[Sequence[int]], n_last: int) -> torch.Tensor:
        """The logits (n, n_last, vocabulary) at the last places of n sequences of one length, read in one call."""
        self.state.restore()
        ids = torch.tensor([list(sequence) for sequence in sequences], device=self.model.device)
        options = {"logits_to_keep": n_last} if self._keeps_last else {}
        with torch.inference_mode():
            logits: torch.Tensor = self.model(input_ids=ids, use_cache=False, **options).logits
        return logits[:, -n_last:]

    def hidden_states(self, ids: Sequence[int]) -> list[torch.Tensor]:
        """The states (1, n, hidden) of one text: of its embeddings, then of each layer; none where the model shows none."""
        self.state.restore()
        tokens = torch.tensor([list(ids)], device=self.model.device)
        with torch.inference_mode():
            output = self.model(input_ids=tokens, use_cache=False, output_hidden_states=True)
        return list(getattr(output, "hidden_states", None) or ())

    def target_logits(
        self, context: Sequence[int], targets: Sequence[Sequence[int]], batch_tokens: int
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Places of targets of one length, and the logits (n, length, vocabulary) that predict each of their tokens.

        A target's last token is read like the others, though nothing is predicted from it: there are models whose answers
        depend on how much they read at once, and the definition reads all of it, unless it is one more than the model can read.
        At most `batch_tokens` tokens are read at a time, and at least one pair.
        """
        by_length: dict[int, list[int]] = {}
        for place, target in enumerate(targets):
            by_length.setdefault(len(target), []).append(place)
        for length, places in by_length.items():
            size = max(1, batch_tokens // (len(context) + length))
            for start in range(0, len(places), size):
                some = places[start : start + size]
                pairs = [(*context, *targets[place])[: self.longest] for place in some]
                yield some, self.logits(pairs, len(pairs[0]) - len(context) + 1)[:, :length]


class ModuleState:
    """What the small modules of a model keep besides weights, put back before each call.

    Some rotary embeddings stretch themselves to the longest text that they have read and stay so, and a score must not depend on
    what was asked before.
    """

    def __init__(self, model: Any) -> None:
        self._kept: list[tuple[Any, dict[str, Any], dict[str, tuple[torch.Tensor, torch.Tensor]]]] = []
        for module in model.modules():
            if next(module.children(), None) is not None or next(module.parameters(), None) is not None:
                continue
            own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
            tensors = {name: value for name, value in own.items() if isinstance(value, torch.Tensor)}
            tensors |= dict(module.named_buffers(recurse=False))
            if tensors and all(tensor.numel() <= _LARGEST_STATE for tensor in tensors.values()):
                plain = {name: value for name, value in own.items() if name not in tensors}
                self._kept.append((module, plain, {name: (t, t.detach().clone()) for name, t in tensors.items()}))

    def restore(self) -> None:
        for module, plain, tensors in self._kept:
            for name, value in plain.items():
                if getattr(module, name, None) is not value:
                    setattr(module, name, value)
            for name, (tensor, copy) in tensors.items():
                # Some write into the tensor, some replace it.
                if getattr(module, name, None) is not tensor or not torch.equal(tensor, copy):
                    # A copy of the copy: the next call may write into what it finds.
                    tensors[name] = (copy.clone(), copy)
                    setattr(module, name, tensors[name][0])


_IS_EXACT: ContextVar[bool] = ContextVar("llmclf_is_exact", default=False)


@contextmanager
def in_float32() -> Iterator[None]:
    """Compute in float32 within the block whatever the weights are stored in; each is widened while it is used, and no longer."""
    token = _IS_EXACT.set(True)
    try:
        with _Widening():
            yield
    finally:
        _IS_EXACT.reset(token)


def is_exact() -> bool:
    """Whether this is called within a block of `in_float32`: layers that round what they multiply must not do so there."""
    return _IS_EXACT.get()


class _Widening(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.endswith("_") and not func.__name__.endswith("__") and args[0].dtype in _HALF:
            return func(*args, **(kwargs or {}))  # what is changed in place is the tensor itself, not a wider copy
        return func(*tree_map(_widened, args), **tree_map(_widened, kwargs or {}))


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        # What is packed for a product can only be unpacked.
        return value.float() if value.dtype in _HALF and value.layout == torch.strided else value
    return torch.float32 if isinstance(value, torch.dtype) and value in _HALF else value
