"""llama.cpp's own library as a contender of throughput.py, over the token tree that llmclf computes.

The tokens that all rows share are decoded once. A row's tokens belong to as many sequences as its label trie has leaves, and
every inner node of that trie to the sequences that pass through it, so that each is decoded once, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from throughput_contenders import Case, Contender, Opening, Sums

_BATCH_TOKENS = 512
_CONTEXT = 4096
_MAX_SEQUENCES = 256  # llama.cpp's own limit


class LabelTree(NamedTuple):
    """The inner nodes of some labels' tokens.

    Attributes
    ----------
    nodes : list of (token, depth, list of leaves that stand below it)
    steps : list of lists of (node, token), one per label
        The label's tokens, and the node at which each is predicted; -1 is the prompt's last token.
    n_leaves : int
    """

    nodes: list[tuple[int, int, list[int]]]
    steps: list[list[tuple[int, int]]]
    n_leaves: int


def label_tree(labels: Sequence[tuple[int, ...]]) -> LabelTree:
    paths = sorted({label[:length] for label in labels for length in range(1, len(label))}, key=len)
    place = {path: i for i, path in enumerate(paths)}
    inner = {path[:-1] for path in paths}
    leaves = [path for path in paths if path not in inner]
    below: list[list[int]] = [[] for _ in paths]
    for i, leaf in enumerate(leaves):
        for length in range(1, len(leaf) + 1):
            below[place[leaf[:length]]].append(i)
    return LabelTree(
        nodes=[(path[-1], len(path), below[i]) for i, path in enumerate(paths)],
        steps=[[(place.get(label[:i], -1), token) for i, token in enumerate(label)] for label in labels],
        n_leaves=max(1, len(leaves)),
    )


def n_shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """With how many tokens all prompts begin alike, short of the last one of each."""
    limit = min(map(len, prompts)) - 1
    first, last = min(prompts), max(prompts)
    return next((i for i in range(limit) if first[i] != last[i]), limit)


class LlamaTree(Contender):
    """llama.cpp's library; the variant says which numbers its weights are: "float32", "q8_0" or those of the model's "file".

    In float32, keys and values are float32, too, and the fused attention, which rounds to 16 bits, is off: so the scores are
    llmclf's. The 8-bit kernels that rearrange weights for AMX end in a segmentation fault (llama-cpp-python 0.3.36, a processor
    with AMX), so weights stay as they are in the file.
    """

    packages = ("llama_cpp_python",)

    def __init__(self, opening: Opening) -> None:
        import llama_cpp

        self.api = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, None)
        llama_cpp.llama_backend_init()
        loading = llama_cpp.llama_model_default_params()
        loading.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(opening.path.encode(), loading)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocabulary = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = _CONTEXT
        options.n_batch = _CONTEXT
        options.n_ubatch = _BATCH_TOKENS
        options.n_seq_max = _MAX_SEQUENCES
        options.n_threads = options.n_threads_batch = opening.threads
        options.kv_unified = True  # a token may belong to several sequences
        if opening.variant == "float32":
            options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
            options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(_CONTEXT, 0, _MAX_SEQUENCES)
        self._sequences = [
            np.ctypeslib.as_array(self.batch.seq_id[i], shape=(_MAX_SEQUENCES,)) for i in range(_CONTEXT)
        ]

    def score(self, case: Case, rows: range) -> Sums:
        prompts = [self._tokens(prompt) for prompt in case.prompts[rows.start : rows.stop]]
        # Every completion begins with a space, at which this tokenizer always cuts.
        tree = label_tree([self._tokens(completion) for completion in case.completions])
        if tree.n_leaves > _MAX_SEQUENCES:
            raise ValueError(f"{tree.n_leaves} leaves; llama.cpp has {_MAX_SEQUENCES} sequences")
        n_prefix = n_shared(prompts)
        self._read_prefix(prompts[0][:n_prefix])
        sums: Sums = []
        waiting: list[tuple[int, ...]] = []
        for prompt in prompts:
            own = prompt[n_prefix:]
            n_tokens = sum(map(len, waiting)) + len(own) + (len(waiting) + 1) * len(tree.nodes)
            if waiting and (n_tokens > _BATCH_TOKENS or (len(waiting) + 1) * tree.n_leaves > _MAX_SEQUENCES):
                sums += self._score_batch(waiting, tree, n_prefix)
                waiting = []
            waiting.append(own)
        return sums + self._score_batch(waiting, tree, n_prefix)

    def _read_prefix(self, tokens: Sequence[int]) -> None:
        self.api.llama_memory_clear(self.memory, True)
        for position, token in enumerate(tokens):
            self._put(token, position, [0], False)
        self._decode()
        for sequence in range(1, _MAX_SEQUENCES):
            self.api.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)

    def _score_batch(self, prompts: Sequence[tuple[int, ...]], tree: LabelTree, n_prefix: int) -> Sums:
        for i, prompt in enumerate(prompts):
            first = i * tree.n_leaves
            for position, token in enumerate(prompt, n_prefix):
                is_last = position == n_prefix + len(prompt) - 1
                self._put(token, position, range(first, first + tree.n_leaves), is_last)
            for token, depth, leaves in tree.nodes:
                self._put(token, n_prefix + len(prompt) - 1 + depth, [first + leaf for leaf in leaves], True)
        self._decode()
        n_each = len(tree.nodes) + 1
        shape = (len(prompts) * n_each, self.n_vocabulary)
        logits = np.ctypeslib.as_array(self.api.llama_get_logits(self.context), shape=shape)
        largest = logits.max(axis=1, keepdims=True)
        normalisers = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1, dtype=np.float64))
        sums = [
            [
                float(sum(logits[row + node + 1, token] - normalisers[row + node + 1] for node, token in steps))
                for steps in tree.steps
            ]
            for row in range(0, shape[0], n_each)
        ]
        self.api.llama_memory_seq_rm(self.memory, -1, n_prefix, -1)
        return sums

    def _put(self, token: int, position: int, sequences: Sequence[int], is_predicted: bool) -> None:
        i = self.batch.n_tokens
        self.batch.token[i] = token
        self.batch.pos[i] = position
        self.batch.n_seq_id[i] = len(sequences)
        self._sequences[i][: len(sequences)] = sequences
        self.batch.logits[i] = is_predicted
        self.batch.n_tokens = i + 1

    def _decode(self) -> None:
        if self.batch.n_tokens:
            code = self.api.llama_decode(self.context, self.batch)
            self.batch.n_tokens = 0
            if code:
                raise RuntimeError(f"llama_decode gave {code}")

    def _tokens(self, text: str) -> tuple[int, ...]:
        data = text.encode()
        ids = (self.api.llama_token * (len(data) + 8))()
        n = self.api.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), False, False)
        return tuple(ids[:n])

    def close(self) -> None:
        self.api.llama_batch_free(self.batch)
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)


def rewritten(gguf: Path, target: Path, type_name: str) -> Path:
    """The same model as a GGUF file with its matrices in another type ("F32" or "Q8_0"), all else in float32."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize, quantize

    reader = GGUFReader(gguf)
    architecture: Any = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        element = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        kind = GGMLQuantizationType[type_name] if values.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
