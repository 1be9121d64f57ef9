"""A language model in this process: one token trie per batch, every distinct token computed once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError, MissingDependencyError, ModelError
from .base import Request, RowScores, check_requests
from .encoders import TokenizerEncoder
from .handle import Handle
from .reference import model_context_length
from .tokens import TokenCodec, TokenRow
from .trie import Batch, groups, lay_out, plan
from .weights import check_name, load

if TYPE_CHECKING:
    import torch

    from .attention import TrieContext

_BATCH_TOKENS = {"cpu": 512, "mps": 4096, "cuda": 16384}
_CHECK_TEXT = "The old cat sat on the mat near the door, and the dog ran to the park before it came home again."
_LOGIT_ROWS = 8  # rows of the vocabulary that one core's cache holds while they are normalised
_GROUP_SHARE = 0.125  # of a batch, in columns: the least that computing the beginning of a group once has to save


class LocalBackend(Handle):
    """Score completions with a transformers model.

    The handle is a description; weights are loaded at the first call, once per process whatever the number of handles
    that describe the same model. Threads that share a model take turns.

    Parameters
    ----------
    model : str
        ``"smollm2"``, ``"hf:org/name[@revision]"``, ``"hf:folder"`` or ``"gguf:path"``.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default the first of cuda, mps and cpu that is there.
    dtype : str, optional
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; by default float32 on a CPU, else what the weights are stored in.
        The softmax is float32 always.
    batch_tokens : int, optional
        Most token columns in one forward pass. More does not change a score.
    context_length : int, optional
        Most tokens the model may read; by default what its configuration says.
    """

    option_names = ("device", "dtype", "batch_tokens", "context_length")
    passing_options = frozenset({"device", "batch_tokens"})
    shares_beginnings: ClassVar[bool] = True
    """Rows that begin alike cost less together, so who has many of them sorts them."""

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        context_length: int | None = None,
    ) -> None:
        for name, value in (("batch_tokens", batch_tokens), ("context_length", context_length)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r}: expected a positive whole number, or None for the default")
        if dtype not in (None, "float32", "bfloat16", "float16"):
            raise InputError(f"dtype={dtype!r}: expected 'float32', 'bfloat16', 'float16' or None")
        super().__init__()
        self.name = model
        self.device = device
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.context_length = context_length

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer in use."""
        return self._engine.tokenizer

    @property
    def model(self) -> Any:
        """The transformers model in use."""
        return self._engine.model

    @property
    def route(self) -> str:
        """``"trie"``, or ``"pairs"`` where the model's architecture allows no shared prefix."""
        return self._engine.route

    @property
    def _engine(self) -> _Engine:
        if self._held is None:
            self._held = _open_engine(self.name, self.device, self.dtype)
        held: _Engine = self._held
        return held

    def identity(self) -> dict[str, Any]:
        engine = self._engine
        return {
            "backend": "local",
            "model": self.name,
            "weights": engine.weights_hash,
            "dtype": engine.dtype_name,
            "context_length": self.context_length,
        }

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests)
        if not requests:
            return
        engine = self._engine
        rows = engine.codec(self.context_length).encode(requests)
        budget = self.batch_tokens or _BATCH_TOKENS[engine.model.device.type]
        for place, logprobs in engine.score(rows, budget):
            row = rows[place]
            error = None
            if not all(np.isfinite(values).all() for values in logprobs):
                error = "the model gave no finite log-probability (NaN or infinite logits); its weights may be broken"
            yield (
                place,
                RowScores(
                    () if error else tuple(tuple(values.tolist()) for values in logprobs),
                    characters_cut=row.characters_cut,
                    healed=row.healed,
                    terminated=row.terminated,
                    error=error,
                ),
            )


class _Engine:
    """Loaded weights, and the forward passes over them."""

    def __init__(self, model: Any, tokenizer: Any, weights_hash: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.weights_hash = weights_hash
        self.dtype_name = str(model.dtype).removeprefix("torch.")
        self.lock = threading.RLock()
        self._codecs: dict[int, TokenCodec] = {}
        self._prefixes: list[tuple[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]]] = []
        self.route = "trie" if self._trie_is_exact() else "pairs"

    def codec(self, context_length: int | None) -> TokenCodec:
        own = model_context_length(self.model)
        length = min(own, context_length or own)
        if length not in self._codecs:
            self._codecs[length] = TokenCodec(TokenizerEncoder(self.tokenizer), length)
        return self._codecs[length]

    def score(self, rows: Sequence[TokenRow], batch_tokens: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Token log-probabilities of every row's completions, batch by batch."""
        score = self._score_trie if self.route == "trie" else self._score_pairs
        return score(rows, batch_tokens)

    def _score_trie(self, rows: Sequence[TokenRow], batch_tokens: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        for group in groups(rows, round(_GROUP_SHARE * batch_tokens)):
            context, n_prefix = rows[group.places[0]].context, group.steps[-1]
            for places in plan(rows, group.places, n_prefix, batch_tokens):
                batch = lay_out(rows, places, n_prefix)
                # The lock is taken per batch: a caller that stops listening must not keep it.
                with self.lock:
                    for step in group.steps:
                        prefix = self._prefix_states(context[:step], batch_tokens)
                    answers = self._forward(batch, prefix, n_prefix)
                yield from zip(places, answers, strict=True)

    def _prefix_states(self, prefix: tuple[int, ...], chunk: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of a prefix, per layer; those of the last prefix, and of the prefixes of it on the way, are kept."""
        import torch

        while self._prefixes and self._prefixes[-1][0] != prefix[: len(self._prefixes[-1][0])]:
            self._prefixes.pop()
        known, states = self._prefixes[-1] if self._prefixes else ((), [])
        if len(known) == len(prefix):
            return states
        for start in range(len(known), len(prefix), chunk):
            tokens = np.array([prefix[start : start + chunk]], dtype=np.int64)
            n_new = tokens.shape[1]
            mask = np.ones((1, n_new, start + n_new), dtype=bool)
            mask[0, :, start:] = np.tril(mask[0, :, start:])
            context = self._context(mask, np.arange(start, start + n_new)[None], states, start)
            context.recorded = []
            self._run(tokens, context, 1)
            new = context.recorded
            states = (
                [
                    (torch.cat((key, more_key), dim=2), torch.cat((value, more_value), dim=2))
                    for (key, value), (more_key, more_value) in zip(states, new, strict=True)
                ]
                if states
                else new
            )
        self._prefixes.append((prefix, states))
        return states

    def _context(
        self, mask: np.ndarray, positions: np.ndarray, prefix: list[tuple[torch.Tensor, torch.Tensor]], n_prefix: int
    ) -> TrieContext:
        import torch

        from .attention import TrieContext

        device = self.model.device
        before = np.broadcast_to(np.arange(n_prefix), (len(positions), n_prefix))
        return TrieContext(
            mask=torch.from_numpy(mask).to(device),
            query_positions=torch.from_numpy(positions).to(device),
            key_positions=torch.from_numpy(np.concatenate((before, positions), axis=1)).to(device),
            prefix=prefix,
        )

    def _forward(
        self, batch: Batch, prefix: list[tuple[torch.Tensor, torch.Tensor]], n_prefix: int
    ) -> list[list[np.ndarray]]:

        context = self._context(batch.mask, batch.positions, prefix, n_prefix)
        logits = self._run(batch.tokens, context, batch.n_predict)
        n_rows = len(batch.places)
        # Where every wanted log-probability stands: (row, column) and token, all completions of all rows in one list.
        columns = [row * batch.n_predict + c for row, trie in enumerate(batch.tries) for c in trie.columns]
        targets = [t for trie in batch.tries for t in trie.targets]
        values = _gather_log_softmax(
            logits.reshape(n_rows * batch.n_predict, -1), np.concatenate(columns), np.concatenate(targets)
        )
        ends = np.cumsum([len(target) for target in targets])[:-1]
        pieces = iter(np.split(values, ends))
        return [[next(pieces) for _ in trie.targets] for trie in batch.tries]

    def _run(self, tokens: np.ndarray, context: TrieContext, n_predict: int) -> torch.Tensor:
        import torch

        from .attention import attending

        ids = torch.from_numpy(tokens).to(self.model.device)
        with torch.inference_mode(), attending(self.model, context):
            logits: torch.Tensor = self.model(
                input_ids=ids,
                position_ids=context.query_positions,
                use_cache=False,
                logits_to_keep=n_predict,
            ).logits
        if context.n_calls == 0:
            raise ModelError(f"{type(self.model).__name__} does not let its attention be chosen")
        return logits[:, -n_predict:]

    def _score_pairs(self, rows: Sequence[TokenRow], batch_tokens: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Every (prompt, completion) pair as a row of its own, for architectures without a choosable attention."""
        for place in sorted(range(len(rows)), key=lambda i: -rows[i].n_inputs):
            row = rows[place]
            size = max(1, batch_tokens // row.n_inputs)
            values: list[np.ndarray] = []
            for start in range(0, len(row.targets), size):
                with self.lock:
                    values += self._forward_pairs(row.context, row.targets[start : start + size])
            yield place, values

    def _forward_pairs(self, context: tuple[int, ...], targets: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        import torch

        longest = max(len(target) for target in targets)
        tokens = np.zeros((len(targets), len(context) + longest - 1), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for b, target in enumerate(targets):
            ids = (*context, *target[:-1])
            tokens[b, : len(ids)], mask[b, : len(ids)] = ids, 1
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.from_numpy(tokens).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                use_cache=False,
            ).logits[:, len(context) - 1 :]
        columns = np.concatenate([b * longest + np.arange(len(target)) for b, target in enumerate(targets)])
        values = _gather_log_softmax(logits.reshape(len(targets) * longest, -1), columns, np.concatenate(targets))
        return np.split(values, np.cumsum([len(target) for target in targets])[:-1])

    def _trie_is_exact(self) -> bool:
        """Compare the trie with plain scoring on a few tokens: not every architecture can be led through it."""
        # Words, not random numbers: a trained model is so ill-conditioned on noise that float32 alone moves it by 1e-3.
        ids = self.tokenizer(_CHECK_TEXT, add_special_tokens=False)["input_ids"]
        ids = (ids * (24 // len(ids) + 1))[:24]
        rows = [
            TokenRow(tuple(ids[:6]), (tuple(ids[6:9]), (*ids[6:8], ids[11]), tuple(ids[10:12]))),
            TokenRow((*ids[:3], *ids[12:18]), (tuple(ids[18:20]), (ids[20],))),
        ]
        tolerance = 1e-2 if self.dtype_name == "float32" else 0.5
        plain = dict(self._score_pairs(rows, 64))
        try:
            trie = dict(self._score_trie(rows, 64))
        except (ModelError, RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False
        finally:
            self._prefixes.clear()
        return all(
            np.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
            for place in plain
            for one, other in zip(plain[place], trie[place], strict=True)
        )


def _gather_log_softmax(logits: torch.Tensor, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """log softmax(logits)[rows, tokens], normalised a few rows at a time to stay in the processor's cache.

    Not torch.log_softmax: in float32 it is wrong by up to 1e-5 for each token, to the same side mostly, since it adds up a whole
    vocabulary one by one. A sum of its own is added up pairwise, is exact to 1e-7, and takes less time.
    """
    import torch

    tops = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    totals = torch.ones_like(tops)
    step = _LOGIT_ROWS if logits.device.type == "cpu" else len(logits)
    for start in np.unique(rows // step) * step:
        part = logits[start : start + step].float()
        top = part.amax(dim=-1, keepdim=True)
        tops[start : start + step] = top[:, 0]
        totals[start : start + step] = (part - top).exp_().sum(dim=-1)
    where = torch.from_numpy(rows).to(logits.device)
    chosen = logits[where, torch.from_numpy(tokens).to(logits.device)].float()
    wide = [values.cpu().numpy().astype(np.float64) for values in (chosen, tops[where], totals[where])]
    with np.errstate(invalid="ignore"):  # broken logits are their row's error, not a warning
        result: np.ndarray = np.minimum(wide[0] - wide[1] - np.log(wide[2]), 0.0)
    return result


_LOCK = threading.Lock()
_ENGINES: weakref.WeakValueDictionary[tuple[Any, ...], _Engine] = weakref.WeakValueDictionary()
_LATEST: list[_Engine] = []


def _open_engine(name: str, device: str | None, dtype: str | None) -> _Engine:
    """Load a model, or share it with those who have it open; the last one opened stays open."""
    check_name(name)  # a misspelt path should not wait for torch
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"a local model needs torch and transformers ({error}); run: pip install 'llmclf[local]'"
        ) from error
    with _LOCK:
        place = device or (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
        key = (name, place, dtype)
        engine = _ENGINES.get(key)
        if engine is None:
            from .packing import pack_linear_layers

            model, tokenizer, weights_hash = load(name, place, dtype)
            pack_linear_layers(model)
            engine = _Engine(model, tokenizer, weights_hash)
            _ENGINES[key] = engine
        _LATEST[:] = [engine]
        return engine
