"""A transformers model in memory, and its forward passes: over token tries, over pairs, over cached prefixes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import MissingDependencyError, ModelError
from ...logits import log_softmax
from ..logit_processing import TokenProcessing
from ..tokens.codec import TokenCodec, TokenRow
from ..tokens.label_trie import LabelTrie, label_trie
from ..tokens.transformers_encoder import TokenizerEncoder, model_context_length
from .trie_batches import Batch, groups, lay_out, plan
from .trie_view import TrieView
from .weights import check_name, load

if TYPE_CHECKING:
    import torch

    from .trie_attention import TrieContext

_CHECK_TEXT = "The old cat sat on the mat near the door, and the dog ran to the park before it came home again."
_LOGIT_ROWS = 8  # rows of the vocabulary that one core's cache holds while they are normalised
_GROUP_SHARE = 0.125  # of a batch, in columns: the least that computing the beginning of a group once has to save
# Prompts without a row, with their labels, whose logits are kept, at 8 bytes a token of the vocabulary.
_UNCONDITIONAL_KEPT = 4


class _Prefix(NamedTuple):
    """Keys and values of a prompt's first tokens, per layer, and in how many tokens at a time they were computed."""

    tokens: tuple[int, ...]
    chunk: int
    states: list[tuple[torch.Tensor, torch.Tensor]]


class LoadedModel:
    """Loaded weights, and the forward passes over them. Threads that share it take turns."""

    def __init__(self, model: Any, tokenizer: Any, weights_hash: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.weights_hash = weights_hash
        self.dtype_name = str(model.dtype).removeprefix("torch.")
        self.lock = threading.RLock()
        self._codecs: dict[int, TokenCodec] = {}
        self._prefixes: list[_Prefix] = []
        self._unconditional: dict[TokenRow, np.ndarray] = {}
        self.route = "trie" if self._trie_is_exact() else "pairs"

    def codec(self, context_length: int | None) -> TokenCodec:
        limit = model_context_length(self.model)
        length = min(limit, context_length or limit)
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
                    prefix = self._prefix_states([context[:step] for step in group.steps], batch_tokens)
                    logits = self._forward(batch, prefix, n_prefix)
                    answers = self._label_logprobs(batch, logits, [rows[place].processing for place in places])
                yield from zip(places, answers, strict=True)

    def _prefix_states(self, chain: Sequence[tuple[int, ...]], chunk: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values, per layer, of the last of some prefixes, each of which begins the next; the chain is kept.

        A kept prefix is used only if it was computed in exactly the steps in which it would be computed now: the last digits of
        a state depend on them, and a score must not depend on what was asked before.
        """
        n_kept = 0
        for kept, prefix in zip(self._prefixes, chain, strict=False):
            if (kept.tokens, kept.chunk) != (prefix, chunk):
                break
            n_kept += 1
        del self._prefixes[n_kept:]
        for prefix in chain[n_kept:]:
            before = self._prefixes[-1] if self._prefixes else _Prefix((), chunk, [])
            states = self._extended(before.states, len(before.tokens), prefix, chunk)
            self._prefixes.append(_Prefix(prefix, chunk, states))
        return self._prefixes[-1].states

    def _extended(
        self, states: list[tuple[torch.Tensor, torch.Tensor]], n_known: int, prefix: tuple[int, ...], chunk: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of a prefix from those of its first `n_known` tokens, `chunk` tokens at a time."""
        import torch

        for start in range(n_known, len(prefix), chunk):
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
        return states

    def _context(
        self, mask: np.ndarray, positions: np.ndarray, prefix: list[tuple[torch.Tensor, torch.Tensor]], n_prefix: int
    ) -> TrieContext:
        import torch

        from .trie_attention import TrieContext

        device = self.model.device
        before = np.broadcast_to(np.arange(n_prefix), (len(positions), n_prefix))
        return TrieContext(
            mask=torch.from_numpy(mask).to(device),
            query_positions=torch.from_numpy(positions).to(device),
            key_positions=torch.from_numpy(np.concatenate((before, positions), axis=1)).to(device),
            prefix=prefix,
        )

    def _forward(self, batch: Batch, prefix: list[tuple[torch.Tensor, torch.Tensor]], n_prefix: int) -> torch.Tensor:
        """The logits (B, n_predict, vocabulary) of a batch."""
        return self._run(batch.tokens, self._context(batch.mask, batch.positions, prefix, n_prefix), batch.n_predict)

    def _label_logprobs(
        self, batch: Batch, logits: torch.Tensor, processings: Sequence[TokenProcessing | None]
    ) -> list[list[np.ndarray]]:
        """Of each row of a batch, the log-probabilities of the tokens of each completion."""
        plain = [b for b, processing in enumerate(processings) if processing is None]
        # Where every wanted log-probability stands: (row, column) and token, all completions of all rows in one list.
        columns = [b * batch.n_predict + c for b in plain for c in batch.tries[b].columns]
        targets = [t for b in plain for t in batch.tries[b].targets]
        pieces = iter(_in_pieces(_gather_log_softmax(logits.flatten(0, 1), columns, targets), targets))
        answers = []
        for b, (trie, processing) in enumerate(zip(batch.tries, processings, strict=True)):
            if processing is None:
                answers.append([next(pieces) for _ in trie.targets])
            else:
                of_row = logits[b, : trie.n_nodes + 1].float().cpu().numpy()
                answers.append(self._processed(trie, of_row, processing))
        return answers

    def view(self, row: TokenRow) -> TrieView:
        """One row's tokens, trie and logits."""
        logits = self.trie_logits(row)
        unconditional = None
        if row.processing is not None:
            unconditional = self._unconditional_logits(row.processing, row.targets)
        if not np.isfinite(logits.max()):
            raise ModelError("the model gave no finite logits (NaN or infinite); its weights may be broken")
        return TrieView(row, label_trie(row.targets), logits, unconditional)

    def _processed(self, trie: LabelTrie, logits: np.ndarray, processing: TokenProcessing) -> list[np.ndarray]:
        """The log-probabilities of one row's completions, from the logits (1 + n_nodes, vocabulary) of its trie, processed."""
        unconditional = self._unconditional_logits(processing, tuple(tuple(target.tolist()) for target in trie.targets))
        if not all(np.isfinite(given.max()) for given in (logits, unconditional) if given is not None):
            return [np.full(len(target), np.nan) for target in trie.targets]
        logprobs = log_softmax(processing.apply(logits, unconditional))
        return [logprobs[at, target] for at, target in zip(trie.columns, trie.targets, strict=True)]

    def _unconditional_logits(
        self, processing: TokenProcessing, targets: tuple[tuple[int, ...], ...]
    ) -> np.ndarray | None:
        """The logits after the prompt without the row, if guidance needs them; many rows share them, so the last are kept."""
        if not processing.unconditional:
            return None
        row = TokenRow(processing.unconditional, targets)
        with self.lock:
            logits = self._unconditional.get(row)
            if logits is None:
                logits = self.trie_logits(row)
                while len(self._unconditional) >= _UNCONDITIONAL_KEPT:
                    self._unconditional.pop(next(iter(self._unconditional)))
                self._unconditional[row] = logits
            return logits

    def trie_logits(self, row: TokenRow) -> np.ndarray:
        """The logits (1 + n_nodes, vocabulary) of one row: at the root of its label trie, then at each inner node."""
        with self.lock:
            if self.route == "trie":
                batch = lay_out([row], [0], 0)
                whole: np.ndarray = self._forward(batch, [], 0)[0].float().cpu().numpy().astype(np.float64)
                return whole
            trie = label_trie(row.targets)
            pairs = [self._pair_logits(row.context, [target])[0].float().cpu().numpy() for target in row.targets]
            values = np.empty((trie.n_nodes + 1, pairs[0].shape[1]))
            for columns, logits in zip(trie.columns, pairs, strict=True):
                values[columns] = logits
            return values

    def _run(self, tokens: np.ndarray, context: TrieContext, n_predict: int) -> torch.Tensor:
        import torch

        from .trie_attention import attending

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
            if row.processing is not None:
                yield place, self._processed(label_trie(row.targets), self.trie_logits(row), row.processing)
                continue
            size = max(1, batch_tokens // row.n_inputs)
            values: list[np.ndarray] = []
            for start in range(0, len(row.targets), size):
                targets = row.targets[start : start + size]
                with self.lock:
                    logits = self._pair_logits(row.context, targets)
                columns = [b * logits.shape[1] + np.arange(len(target)) for b, target in enumerate(targets)]
                values += _in_pieces(_gather_log_softmax(logits.flatten(0, 1), columns, targets), targets)
            yield place, values

    def _pair_logits(self, context: tuple[int, ...], targets: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """The logits (n, longest, vocabulary) that predict each token of each target."""
        import torch

        longest = max(len(target) for target in targets)
        tokens = np.zeros((len(targets), len(context) + longest - 1), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for b, target in enumerate(targets):
            ids = (*context, *target[:-1])
            tokens[b, : len(ids)], mask[b, : len(ids)] = ids, 1
        device = self.model.device
        with torch.inference_mode():
            logits: torch.Tensor = self.model(
                input_ids=torch.from_numpy(tokens).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                use_cache=False,
            ).logits[:, len(context) - 1 :]
        return logits

    def _trie_is_exact(self) -> bool:
        """Compare the trie with plain scoring on a few tokens: not every architecture lets its attention be replaced."""
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


def _gather_log_softmax(
    logits: torch.Tensor, columns: Sequence[np.ndarray], targets: Sequence[Sequence[int] | np.ndarray]
) -> np.ndarray:
    """log softmax(logits)[columns, targets] end to end, normalised a few rows at a time to stay in the processor's cache.

    Not torch.log_softmax: in float32 it is wrong by up to 1e-5 for each token, mostly in the same direction, since it adds up a
    whole vocabulary one by one. `sum` adds pairwise, is exact to 1e-7, and takes less time.
    """
    import torch

    if not targets:
        return np.empty(0)
    rows, tokens = np.concatenate(columns), np.concatenate(targets)
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


def _in_pieces(values: np.ndarray, targets: Sequence[Sequence[int] | np.ndarray]) -> list[np.ndarray]:
    """Values that stand end to end, one piece per target."""
    return np.split(values, np.cumsum([len(target) for target in targets])[:-1]) if targets else []


_LOCK = threading.Lock()
_MODELS: weakref.WeakValueDictionary[tuple[Any, ...], LoadedModel] = weakref.WeakValueDictionary()
_LATEST: list[LoadedModel] = []


def open_model(name: str, device: str | None, dtype: str | None) -> LoadedModel:
    """Load a model, or share one that is open already; the last one opened stays open."""
    check_name(name)  # a misspelt path should not wait for torch
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"a local model needs torch and transformers ({error}); run: pip install 'llmclf[local]'"
        ) from error
    with _LOCK:
        chosen = device or (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
        key = (name, chosen, dtype)
        loaded = _MODELS.get(key)
        if loaded is None:
            from .packed_linear import pack_linear_layers

            model, tokenizer, weights_hash = load(name, chosen, dtype)
            pack_linear_layers(model)
            loaded = LoadedModel(model, tokenizer, weights_hash)
            _MODELS[key] = loaded
        _LATEST[:] = [loaded]
        return loaded
