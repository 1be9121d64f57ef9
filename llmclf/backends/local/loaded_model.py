"""A transformers model in memory, and its forward passes: over token tries, over pairs, over cached prefixes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ModelError
from ...logits import log_softmax
from ..logit_processing import TokenProcessing
from ..tokens.codec import TokenCodec, TokenRow
from ..tokens.label_trie import label_trie, n_inner_nodes
from ..tokens.transformers_encoder import TokenizerEncoder, model_context_length
from .generation import Generation, LogitsProcessor, Reader, generate
from .hidden_states import SAMPLE_LENGTH, HiddenStates, PassReader, Taken, text_layers
from .label_logprobs import gather_log_softmax, in_pieces
from .route_checks import LONGEST_PIECE, OPENING_LENGTH, ROUTES, RouteChecks, named_lengths, sampler
from .trie_batches import Batch, Budget, Group, groups, in_parts, lay_out, plan, read_on_alone
from .trie_view import TrieView
from .weights import check_memory, check_name, load, usable_device

if TYPE_CHECKING:
    import torch

_GROUP_SHARE = 0.125  # of a batch, in columns: the least that computing the beginning of a group once has to save
BATCH_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}
"""Token columns of one forward pass on each kind of device, where `batch_tokens` does not say."""
FILE_BATCH_TOKENS = 2048
"""The same where weights are decoded anew for each pass: so many columns make that a small part of it."""

LOGITS_BYTES = {"cpu": 150_000_000, "mps": 1 << 30, "cuda": 1 << 30}
"""Of all places of a pass that predict a token, on each kind of device."""
_UNCONDITIONAL_BYTES = 1 << 28  # of the logits that are kept of prompts without a row, with their labels


class LoadedModel:
    """Loaded weights, and the forward passes over them. Threads that share it take turns."""

    def __init__(self, model: Any, tokenizer: Any, weights_hash: str, dtype_name: str | None = None) -> None:
        from .gguf.layers import reads_file
        from .plain_calls import PlainCalls
        from .trie_passes import Prefixes, TriePasses

        self.model = model
        self.tokenizer = tokenizer
        self.weights_hash = weights_hash
        self.dtype_name = dtype_name or str(model.dtype).removeprefix("torch.")
        self.reads_file = reads_file(model)
        self.batch_tokens = FILE_BATCH_TOKENS if self.reads_file else BATCH_TOKENS[model.device.type]
        self.lock = threading.RLock()
        self._codecs: dict[int, TokenCodec] = {}
        self._hidden: HiddenStates | None = None
        self._unconditional: dict[tuple[str, tuple[int, ...], tuple[tuple[int, ...], ...]], np.ndarray] = {}
        longest = model_context_length(model)
        self.calls = PlainCalls(model, longest)
        self._passes = TriePasses(self.calls)
        self._prefixes = Prefixes(self._passes.read_on)
        self._scorers = {"trie": self._score_trie, "pairs": self._score_pairs, "single": self._score_single}
        self._sample = sampler(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self._checks = RouteChecks(
            {route: partial(self._checked, route) for route in ROUTES},
            self._read,
            self._sample,
            longest,
            named_lengths(model.config.get_text_config()),
        )
        self._checks.check_definition(min(OPENING_LENGTH, longest))
        self.route = self._route_at(min(OPENING_LENGTH, longest))

    def codec(self, context_length: int | None) -> TokenCodec:
        limit = model_context_length(self.model)
        length = min(limit, context_length or limit)
        if length not in self._codecs:
            self._codecs[length] = TokenCodec(TokenizerEncoder(self.tokenizer), length)
        return self._codecs[length]

    def score(
        self, rows: Sequence[TokenRow], batch_tokens: int, states: Taken | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Token log-probabilities of every row's completions, batch by batch, by the fastest route that is exact for each row.

        `states` gets those that a row asks for, by the row's place, before its log-probabilities are given.
        """
        with self.lock:
            batch_tokens = self._checks.most_columns(batch_tokens)
        by_route: dict[str, list[int]] = {route: [] for route in ROUTES}
        # The longest first: what is exact for it is exact for shorter ones.
        for place in sorted(range(len(rows)), key=lambda i: -rows[i].n_inputs):
            by_route[self._route_in(rows[place], batch_tokens)].append(place)
        for route, places in ((route, places) for route, places in by_route.items() if places):
            taken: Taken = {}
            some = [rows[place] for place in places]
            for i, answer in self._scorers[route](some, batch_tokens, None if states is None else taken):
                if states is not None and i in taken:
                    states[places[i]] = taken.pop(i)
                yield places[i], answer

    def budget(self, batch_tokens: int) -> Budget:
        """What a forward pass of the trie holds at most."""
        of_place = self.model.config.get_text_config().vocab_size * self.model.dtype.itemsize
        return Budget(batch_tokens, max(1, LOGITS_BYTES[self.model.device.type] // of_place))

    def route_of(self, row: TokenRow) -> str:
        """The fastest route that is exact for a row, and for the prompt without it where there is one."""
        return self._route_in(row, self.batch_tokens)

    def _route_in(self, row: TokenRow, batch_tokens: int) -> str:
        n_longest = max(map(len, row.targets))
        n_nodes = min(n_inner_nodes(row.targets), self.budget(batch_tokens).nodes)
        prompts = [row.context] if row.processing is None else [row.context, row.processing.unconditional]
        routes = (self._route_at(len(prompt) + n_longest, len(prompt) + n_nodes + 1) for prompt in prompts)
        return max(routes, key=ROUTES.index)

    def _route_at(self, n_tokens: int, n_columns: int = 0) -> str:
        with self.lock:
            return self._checks.route(n_tokens, n_columns)

    def _shown(self) -> HiddenStates:
        """Where hidden states stand: those that are plain calls' on the route of short rows."""
        with self.lock:
            if self._hidden is None:
                sample = self._sample(SAMPLE_LENGTH)
                self._hidden = HiddenStates(self.calls, sample)
                with self._exactly():
                    self._hidden.check(sample, partial(self._checked, self.route))
            return self._hidden

    def _checked(
        self, route: str, rows: Sequence[TokenRow], batch_tokens: int, states: Taken | None = None
    ) -> list[tuple[int, list[np.ndarray]]]:
        """What a route gives in float32, in which rounding hides nothing, whatever the weights are stored in."""
        self._prefixes.clear()
        try:
            with self._exactly():
                return list(self._scorers[route](rows, batch_tokens, states))
        finally:
            self._prefixes.clear()

    def _read(self, pieces: Sequence[Sequence[int]], by_cache: bool) -> np.ndarray:
        """The log-probabilities (vocabulary,) of what comes after some pieces."""
        with self._exactly():
            reader = Reader(self.calls, 1, by_cache)
            for i, piece in enumerate(pieces):
                reader.read([piece])
                if by_cache or i == len(pieces) - 1:
                    logits = reader.logits()[0]
        return log_softmax(logits)

    def _exactly(self) -> AbstractContextManager[None]:
        from .plain_calls import in_float32

        return nullcontext() if self.dtype_name == "float32" else in_float32()

    def generate(
        self,
        prompt_ids: Sequence[int],
        n: int,
        max_tokens: int,
        processors: Sequence[LogitsProcessor],
        seed: int | None,
        stop: tuple[str, ...],
    ) -> list[Generation]:
        """`n` continuations of a prompt; see `LocalBackend.generate`."""
        by_cache = self.reads_on(len(prompt_ids) + max_tokens)
        return generate(
            self.calls,
            self.tokenizer,
            self.lock,
            prompt_ids,
            by_cache=by_cache,
            n=n,
            max_tokens=max_tokens,
            processors=processors,
            seed=seed,
            stop=stop,
        )

    def reads_on(self, n_tokens: int) -> bool:
        """Whether the model, up to so many tokens, may keep what it has read: its answers are then those of plain calls."""
        with self.lock:
            return self._checks.reads_by_cache(n_tokens)

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits (vocabulary,) of what comes after some tokens."""
        with self.lock:
            logits: np.ndarray = self.calls.logits([ids], 1)[0, 0].float().cpu().numpy().astype(np.float64)
        return logits

    def _score_trie(
        self, rows: Sequence[TokenRow], batch_tokens: int, states: Taken | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Each row's completions in parts that fit into a batch, however many they are."""
        budget = self.budget(batch_tokens)
        parts = in_parts(rows, budget.nodes)
        found: dict[int, dict[int, np.ndarray]] = {}
        taken: Taken | None = None if states is None else {}
        for number, answer in self._score_parts([part for _, _, part in parts], budget, taken):
            place, which, _ = parts[number]
            if states is not None and taken is not None and number in taken:
                states[place] = taken.pop(number)
            of_row = found.setdefault(place, {})
            of_row.update(zip(which, answer, strict=True))
            if len(of_row) == len(rows[place].targets):
                yield place, [of_row[i] for i in range(len(of_row))]
                del found[place]

    def _score_parts(
        self, rows: Sequence[TokenRow], budget: Budget, states: Taken | None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        piece = min(budget.columns, LONGEST_PIECE)
        all_groups = read_on_alone(groups(rows, round(_GROUP_SHARE * budget.columns)), rows, piece)
        hidden = self._shown() if states is not None and any(row.states for row in rows) else None
        layers: tuple[int, ...] = ()  # of which the states of shared tokens are wanted
        if hidden is not None:
            shared = [rows[i] for group in all_groups for i in group.places if _begins_in(rows[i], group.steps[-1])]
            layers = text_layers(hidden, shared)
        for group in self._in_turn(all_groups):
            context, n_prefix = rows[group.places[0]].context, group.steps[-1]
            for places in plan(rows, group.places, n_prefix, budget):
                batch = lay_out(rows, places, n_prefix, self._passes.longest_block)
                some = [rows[place] for place in places]
                # The lock is taken per batch: a caller that stops listening must not keep it.
                with self.lock:
                    prefix = self._prefixes.last(context, group.steps, piece, layers, hidden)
                    reader = None
                    if hidden is not None:
                        reader = PassReader(hidden, some, batch.starts, n_prefix, prefix.hidden)
                    logits = self._passes.forward(batch, prefix.attended, n_prefix, reader)
                    answers = self._label_logprobs(batch, logits, [row.processing for row in some])
                    _put(states, places, reader)
                yield from zip(places, answers, strict=True)

    def _in_turn(self, all_groups: Iterable[Group]) -> Iterator[Group]:
        """The groups, one after the other; at the end, or when nobody listens any more, what was read for them need not stay."""
        try:
            yield from all_groups
        finally:
            with self.lock:
                self._prefixes.release()

    def _label_logprobs(
        self, batch: Batch, logits: torch.Tensor, processings: Sequence[TokenProcessing | None]
    ) -> list[list[np.ndarray]]:
        """Of each row of a batch, the log-probabilities of the tokens of each completion."""
        # Where each row's logits begin.
        starts = np.cumsum([0, *(trie.n_nodes + 1 for trie in batch.tries)])
        plain = [b for b, processing in enumerate(processings) if processing is None]
        # Where every wanted log-probability stands: row of the logits and token, all completions of all rows in one list.
        columns = [starts[b] + c for b in plain for c in batch.tries[b].columns]
        targets = [t for b in plain for t in batch.tries[b].targets]
        pieces = iter(in_pieces(gather_log_softmax(logits, columns, targets), targets))
        answers = []
        for b, (trie, processing) in enumerate(zip(batch.tries, processings, strict=True)):
            if processing is None:
                answers.append([next(pieces) for _ in trie.targets])
            else:
                of_row = logits[starts[b] : starts[b + 1]].float().cpu().numpy()
                completions = tuple(tuple(target.tolist()) for target in trie.targets)
                without = self._unconditional_logits("trie", processing.unconditional, completions)
                answers.append(self._processed(trie.targets, trie.columns, processing, of_row, without))
        return answers

    def view(self, row: TokenRow) -> TrieView:
        """One row's tokens, trie and logits."""
        trie, route = label_trie(row.targets), self.route_of(row)
        logits = self._node_logits(route, row)
        unconditional = None
        if row.processing is not None and row.processing.unconditional:
            unconditional = self._unconditional_logits(route, row.processing.unconditional, row.targets)
        if not np.isfinite(logits.max()):
            raise ModelError("the model gave no finite logits (NaN or infinite); its weights may be broken")
        return TrieView(row, trie, logits, unconditional)

    def _processed(
        self,
        targets: Sequence[np.ndarray],
        columns: Sequence[np.ndarray],
        processing: TokenProcessing,
        logits: np.ndarray,
        unconditional: np.ndarray | None,
    ) -> list[np.ndarray]:
        """Log-probabilities of completions from logits, with and without the row, that predict token j at ``columns[j]``."""
        if not all(np.isfinite(some.max()) for some in (logits, unconditional) if some is not None):
            return [np.full(len(target), np.nan) for target in targets]
        logprobs = log_softmax(processing.apply(logits, unconditional))
        return [logprobs[at, target] for at, target in zip(columns, targets, strict=True)]

    def _unconditional_logits(
        self, route: str, prompt: tuple[int, ...], targets: tuple[tuple[int, ...], ...]
    ) -> np.ndarray | None:
        """The logits after the prompt without the row, if guidance needs them; many rows share them, so the last are kept."""
        if not prompt:
            return None
        key = (route, prompt, targets)
        with self.lock:
            logits = self._unconditional.get(key)
            if logits is None:
                logits = self._node_logits(route, TokenRow(prompt, targets))
                self._unconditional[key] = logits
                while (
                    len(self._unconditional) > 1
                    and sum(kept.nbytes for kept in self._unconditional.values()) > _UNCONDITIONAL_BYTES
                ):
                    self._unconditional.pop(next(iter(self._unconditional)))
            return logits

    def _node_logits(self, route: str, row: TokenRow) -> np.ndarray:
        """The logits (1 + n_nodes, vocabulary) of one row: at the root of its label trie, then at each inner node.

        Where a model's answers depend on how much it reads at once, completions of different lengths may differ at a node that
        they share: the first one counts.
        """
        with self.lock:
            trie = label_trie(row.targets)
            if route == "trie":
                return self._trie_logits(row)
            by_target = self._target_logits(route, row)
            values = np.empty((trie.n_nodes + 1, by_target[0].shape[1]))
            for columns, logits in zip(reversed(trie.columns), reversed(by_target), strict=True):
                values[columns] = logits
            return values

    def _trie_logits(self, row: TokenRow) -> np.ndarray:
        """As `_node_logits`, a long context in pieces and many nodes in parts, as they are when the row is scored."""
        piece = min(self.batch_tokens, LONGEST_PIECE)
        n_prefix = len(row.context) - 1 if len(row.context) > piece else 0
        trie = label_trie(row.targets)
        whole: np.ndarray | None = None
        for _, which, part in in_parts([row], self.budget(self.batch_tokens).nodes):
            prefix = self._prefixes.last(row.context, (n_prefix,), piece)
            batch = lay_out([part], [0], n_prefix, self._passes.longest_block)
            logits = self._passes.forward(batch, prefix.attended, n_prefix).float().cpu().numpy()
            whole = np.empty((trie.n_nodes + 1, logits.shape[1])) if whole is None else whole
            for place, columns in zip(which, batch.tries[0].columns, strict=True):
                whole[trie.columns[place]] = logits[columns]
        self._prefixes.release()
        assert whole is not None
        return whole

    def _score_pairs(
        self, rows: Sequence[TokenRow], batch_tokens: int, states: Taken | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Every (prompt, completion) pair as a row of its own, in batches of pairs of one length: nothing is padded."""
        for place in sorted(range(len(rows)), key=lambda i: -rows[i].n_inputs):
            yield place, self._plain_logprobs("pairs", rows[place], batch_tokens, place, states)

    def _score_single(
        self, rows: Sequence[TokenRow], batch_tokens: int, states: Taken | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The definition: one pair at a time, whatever the size of a batch."""
        for place, row in enumerate(rows):
            yield place, self._plain_logprobs("single", row, batch_tokens, place, states)

    def _plain_logprobs(
        self, route: str, row: TokenRow, batch_tokens: int, place: int, states: Taken | None
    ) -> list[np.ndarray]:
        """Log-probabilities of a row's completions by plain calls: of pairs of one length, or of single pairs."""
        reader = None
        if states is not None and row.states:
            reader = PassReader(self._shown(), [row])
        if row.processing is not None:
            answer = self._processed_plainly(route, row, row.processing, reader)
        else:
            answers: dict[int, np.ndarray] = {}
            for places, logits in self._target_batches(route, row, batch_tokens, reader):
                targets = [row.targets[place] for place in places]
                columns = [b * logits.shape[1] + np.arange(len(target)) for b, target in enumerate(targets)]
                found = in_pieces(gather_log_softmax(logits.flatten(0, 1), columns, targets), targets)
                answers.update(zip(places, found, strict=True))
            answer = [answers[place] for place in range(len(row.targets))]
        _put(states, [place], reader)
        return answer

    def _processed_plainly(
        self, route: str, row: TokenRow, processing: TokenProcessing, reader: PassReader | None
    ) -> list[np.ndarray]:
        """As `_plain_logprobs`, of a row whose logits are processed: each completion with its own logits."""
        own = self._target_logits(route, row, reader)
        without: Sequence[np.ndarray | None] = [None] * len(own)
        if processing.unconditional:
            without = self._target_logits(route, TokenRow(processing.unconditional, row.targets))
        answers = []
        for target, logits, unconditional in zip(row.targets, own, without, strict=True):
            places = np.arange(len(target))
            answers += self._processed([np.array(target)], [places], processing, logits, unconditional)
        return answers

    def _target_batches(
        self, route: str, row: TokenRow, batch_tokens: int, reader: PassReader | None = None
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        size = batch_tokens if route == "pairs" else 1
        batches = self.calls.target_logits(row.context, row.targets, size)
        while True:
            with self.lock, nullcontext() if reader is None else reader.reading():
                batch = next(batches, None)
            if batch is None:
                return
            reader = None  # the first pass has them
            yield batch

    def _target_logits(self, route: str, row: TokenRow, reader: PassReader | None = None) -> list[np.ndarray]:
        """The logits (its length, vocabulary) of each completion of a row."""
        found: dict[int, np.ndarray] = {}
        for places, logits in self._target_batches(route, row, self.batch_tokens, reader):
            found.update(zip(places, logits.float().cpu().numpy(), strict=True))
        return [found[place] for place in range(len(row.targets))]


def _begins_in(row: TokenRow, n_prefix: int) -> bool:
    """Whether a row's own text begins in what its group shares."""
    return bool(row.text_tokens) and row.text_tokens[0][0] < n_prefix


def _put(states: Taken | None, places: Sequence[int], reader: PassReader | None) -> None:
    """Note what was read of some rows."""
    if states is None or reader is None:
        return
    states.update((place, vector) for place, vector in zip(places, reader.vectors(), strict=True) if vector is not None)


_LOCK = threading.Lock()
_MODELS: weakref.WeakValueDictionary[tuple[Any, ...], LoadedModel] = weakref.WeakValueDictionary()
_LATEST: list[LoadedModel] = []


def open_model(name: str, device: str | None, dtype: str | None, memory: str | None = None) -> LoadedModel:
    """Load a model, or share one that is open already; the last one opened stays open."""
    check_name(name)  # a misspelt path should not wait for torch
    chosen = usable_device(device)
    check_memory(name, chosen, dtype, memory)
    with _LOCK:
        keys = [(name, chosen, dtype, one) for one in ("decoded", "file") if memory in (None, one)]
        loaded = next((found for key in keys if (found := _MODELS.get(key)) is not None), None)
        if loaded is None:
            loaded = _opened(name, chosen, dtype, memory)
            _MODELS[name, chosen, dtype, "file" if loaded.reads_file else "decoded"] = loaded
        _LATEST[:] = [loaded]
        return loaded


def _opened(name: str, device: str, dtype: str | None, memory: str | None) -> LoadedModel:
    from .gguf.layers import reads_file
    from .products import multiplies_bfloat16, pack_linear_layers, unplain_layers

    of_products = multiplies_bfloat16(device, dtype)
    model, tokenizer, weights_hash = load(name, device, dtype, memory=memory, of_products=of_products)
    if not of_products:
        pack_linear_layers(model)
        return LoadedModel(model, tokenizer, weights_hash)
    if unplain_layers(model):  # then it is bfloat16 throughout, as transformers makes it
        del model, tokenizer  # two at a time might not fit
        return LoadedModel(*load(name, device, dtype, memory=memory))
    if not reads_file(model):
        pack_linear_layers(model, "bfloat16")
    return LoadedModel(model, tokenizer, weights_hash, "bfloat16 products")
