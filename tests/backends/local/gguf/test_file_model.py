"""A model whose matrices stay in their GGUF file is the one whose weights are decoded: scores, states, what it writes."""

from __future__ import annotations

import warnings

import gguf
import numpy as np
import pytest
from contract import TEXTS, assert_contract, assert_same, reference_for, requests_for, score
from gguf import GGMLQuantizationType
from gguf_files import HIDDEN, TYPES, can_decode, llama, stored, vocabulary, write

from llmclf import open_backend
from llmclf.backends.local import loaded_model, weights
from llmclf.backends.local.gguf import file_model, layers, sizes
from llmclf.backends.local.products.processor import has_bfloat16
from llmclf.backends.requests import STATE_PARTS
from llmclf.downloads import cache_dir
from llmclf.errors import InputError, MemoryWarning, ModelError

DECODED = [name for name in TYPES if can_decode(name)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setenv("LLMCLF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def smollm2_file():
    """The real model, from its file."""
    return open_backend("smollm2", memory="file")


def both(path, **options):
    """The same file opened in both ways."""
    return tuple(open_backend(f"gguf:{path}", memory=memory, device="cpu", **options) for memory in ("file", "decoded"))


@pytest.mark.model
@pytest.mark.parametrize("type_name", DECODED)
def test_every_type_scores_as_if_decoded(tmp_path, home, type_name):
    """All types that gguf decodes: the same scores, states and text, from matrices in the file."""
    if HIDDEN % gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][0]:
        pytest.skip("blocks of another size")
    path = llama(tmp_path / "tiny.gguf", type_name, tied=type_name == "Q6_K")
    in_file, decoded = both(path)
    requests = requests_for(TEXTS[:2])
    assert_same(score(in_file, requests), score(decoded, requests))
    assert in_file.identity() == decoded.identity()
    assert in_file.generate("The film", 6).token_ids == decoded.generate("The film", 6).token_ids
    assert layers.reads_file(in_file.model)
    assert not layers.reads_file(decoded.model)
    kept = sum(parameter.numel() for parameter in in_file.model.parameters())
    assert kept <= 6 * HIDDEN  # the norms


@pytest.mark.model
def test_the_contract_holds_in_the_file(tmp_path, home):
    """Whatever batch, order and company, as the reference answers; an output layer of many slabs among it."""
    path = llama(tmp_path / "tiny.gguf", "Q4_K")
    backend = open_backend(f"gguf:{path}", memory="file")
    assert backend.route == "trie"
    assert_contract(backend, reference_for(backend))


@pytest.mark.model
def test_slabs_and_tiles_change_nothing(tmp_path, home, monkeypatch):
    """A matrix that is decoded and multiplied piece by piece, by one thread or several, gives the same product."""
    path = llama(tmp_path / "tiny.gguf", "Q5_K")
    requests = requests_for(TEXTS[:4])
    backend = open_backend(f"gguf:{path}", memory="file")
    whole = score(backend, requests)
    monkeypatch.setattr(layers, "_SLAB", 7 * HIDDEN)
    monkeypatch.setattr(layers, "_TILE", 3 * HIDDEN)
    monkeypatch.setattr(layers.torch, "get_num_threads", lambda: 3)
    for module in backend.model.modules():
        if isinstance(module, layers.FileLinear):
            module._workspace._process = 0  # new threads
    assert_same(score(backend, requests), whole, atol=1e-5)


def test_the_real_model_scores_as_if_decoded(smollm2, smollm2_file):
    """SmolLM2: scores to 1e-4, states to what plain calls differ by, the same text and the same identity."""
    from dataclasses import replace

    from llmclf.backends.local.hidden_states import agree

    requests = [replace(request, states=STATE_PARTS) for request in requests_for(TEXTS[:4])]
    ours, theirs = score(smollm2_file, requests), score(smollm2, requests)
    assert_same(ours, theirs)
    for one, other in zip(ours, theirs, strict=True):
        parts = len(one.state_parts)
        assert parts == len(STATE_PARTS)
        for mine, wanted in zip(np.split(one.states, parts), np.split(other.states, parts), strict=True):
            assert agree(mine, wanted)
    assert (
        smollm2_file.generate("The capital of France is", 5).token_ids
        == smollm2.generate("The capital of France is", 5).token_ids
    )
    assert smollm2_file.identity() == smollm2.identity()
    assert smollm2_file.route == smollm2.route == "trie"
    assert smollm2_file.end_ids == smollm2.end_ids


def test_a_view_shows_the_same_logits(smollm2, smollm2_file):
    """What the inspector shows."""
    (request,) = requests_for(TEXTS[:1])
    ours, theirs = smollm2_file.view(request), smollm2.view(request)
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0.0, atol=1e-3)


@pytest.mark.model
def test_nothing_is_written(tmp_path, home):
    """No folder of converted weights, and no other file of more than a hash."""
    backend = open_backend(f"gguf:{llama(tmp_path / 'tiny.gguf')}", memory="file")
    backend.identity()
    assert not (home / "models").exists()
    assert sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) < 1000
    assert cache_dir() == home


@pytest.mark.model
def test_half_precision_rounds_each_weight(tmp_path, home):
    """In bfloat16 the products are those of the decoded model, and the routes are checked in float32 as there."""
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16 product")
    path = llama(tmp_path / "tiny.gguf", "Q8_0")
    in_file, decoded = both(path, dtype="bfloat16")
    assert in_file.identity() == decoded.identity()
    assert in_file.identity()["dtype"] == "bfloat16 products"
    assert in_file.route == decoded.route == "trie"
    for name in ("model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj", "lm_head"):
        ours, theirs = (backend.model.get_submodule(name).weight for backend in (in_file, decoded))
        assert ours.dtype == theirs.dtype == layers.torch.bfloat16
        assert layers.torch.equal(ours, theirs)
    requests = requests_for(TEXTS[:4])
    assert_same(score(in_file, requests), score(decoded, requests), atol=0.05)
    assert {parameter.dtype for parameter in in_file.model.parameters()} == {layers.torch.float32}


@pytest.mark.model
def test_the_batch_is_larger(tmp_path, home, monkeypatch):
    """2,048 columns where each pass decodes the weights, unless the user says otherwise."""
    path = llama(tmp_path / "tiny.gguf", "Q8_0")
    seen = []
    real = loaded_model.LoadedModel.score
    monkeypatch.setattr(
        loaded_model.LoadedModel,
        "score",
        lambda self, rows, budget, *more: seen.append(budget) or real(self, rows, budget, *more),
    )
    for options in ({}, {"batch_tokens": 99}):
        for backend in both(path, **options):
            score(backend, requests_for(TEXTS[:2]))
    assert seen == [2048, 1024, 99, 99]


@pytest.mark.model
def test_rows_in_another_order_stay_in_the_file(tmp_path, home):
    """Bloom's queries, keys and values stand together in the file, and head by head in the model."""
    random = np.random.default_rng(0)
    n = len(vocabulary())
    shapes = {"token_embd": (n, HIDDEN)}
    vectors = {"token_embd_norm": HIDDEN, "output_norm": HIDDEN}
    for i in range(2):
        shapes |= {
            f"blk.{i}.attn_qkv": (3 * HIDDEN, HIDDEN),
            f"blk.{i}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{i}.ffn_up": (4 * HIDDEN, HIDDEN),
            f"blk.{i}.ffn_down": (HIDDEN, 4 * HIDDEN),
        }
        vectors |= {f"blk.{i}.attn_norm": HIDDEN, f"blk.{i}.ffn_norm": HIDDEN}
    tensors = {f"{name}.weight": (stored(shape, "Q8_0", random), "Q8_0") for name, shape in shapes.items()}
    for name, size in vectors.items():
        tensors[f"{name}.weight"] = (random.normal(1.0, 0.1, size).astype(np.float32), "F32")
    for name, size in {**vectors, **{name: shape[0] for name, shape in shapes.items() if name != "token_embd"}}.items():
        tensors[f"{name}.bias"] = (random.normal(0.0, 0.1, size).astype(np.float32), "F32")
    values = {
        "context_length": 256,
        "embedding_length": HIDDEN,
        "feed_forward_length": 4 * HIDDEN,
        "block_count": 2,
        "attention.head_count": 4,
        "attention.layer_norm_epsilon": 1e-5,
    }
    path = write(tmp_path / "bloom.gguf", "bloom", values, tensors)
    in_file, decoded = both(path)
    requests = requests_for(TEXTS[:3])
    assert_same(score(in_file, requests), score(decoded, requests))
    assert in_file.model.get_submodule("transformer.h.0.self_attention.query_key_value")._matrix.order is not None


@pytest.mark.model
def test_an_architecture_whose_matrices_are_changed_is_refused(tmp_path, home, monkeypatch):
    """With its name and the cure, before the vocabulary is read; chosen automatically, the weights are decoded."""
    from transformers import AutoTokenizer
    from transformers import modeling_gguf_pytorch_utils as utils

    class Doubled(utils.TensorProcessor):
        def process(self, weights, name, **kwargs):
            return utils.GGUFTensor(weights * 2 if name == "blk.1.ffn_up.weight" else weights, name, {})

    class Turned(utils.TensorProcessor):
        def process(self, weights, name, **kwargs):
            return utils.GGUFTensor(weights.T if name == "blk.1.ffn_up.weight" else weights, name, {})

    class Mirrored(utils.TensorProcessor):
        def process(self, weights, name, **kwargs):
            return utils.GGUFTensor(weights[:, ::-1] if name == "blk.1.ffn_up.weight" else weights, name, {})

    class TakenApart(utils.TensorProcessor):
        def process(self, weights, name, **kwargs):
            return utils.GGUFTensor(weights, None if name == "blk.1.ffn_up.weight" else name, {})

    path = llama(tmp_path / "tiny.gguf")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *args, **kwargs: pytest.fail("the vocabulary is read"))
    for processor in (Doubled, Turned, Mirrored, TakenApart):
        monkeypatch.setitem(utils.TENSOR_PROCESSORS, "llama", processor)
        with pytest.raises(
            InputError, match=r"architecture 'llama' a tensor \('blk.1.ffn_up.weight'\).*memory='decoded'"
        ):
            open_backend(f"gguf:{path}", memory="file").identity()


@pytest.mark.model
def test_large_tensors_that_no_layer_multiplies_with_are_refused(tmp_path, home, monkeypatch):
    """Experts that are stored as one tensor, say: they would have to be decoded at once and kept."""
    monkeypatch.setattr(file_model, "_LARGEST_DECODED", 100)
    with pytest.raises(InputError, match=r"'output_norm.weight'.*not used as it stands"):
        open_backend(f"gguf:{llama(tmp_path / 'tiny.gguf')}", memory="file").identity()


@pytest.mark.model
def test_a_file_that_lacks_weights_is_refused(tmp_path, home, monkeypatch):
    """As it is where they are decoded: with the names of what is missing, or does not fit."""
    path = llama(tmp_path / "tiny.gguf", block_count=3)
    with pytest.raises(ModelError, match=r"lacks weights that LlamaForCausalLM needs: model.layers.2"):
        open_backend(f"gguf:{path}", memory="file").identity()
    path = llama(tmp_path / "tiny.gguf", block_count=1)
    with pytest.raises(ModelError, match="it has 1 layers and holds 2"):
        open_backend(f"gguf:{path}", memory="file").identity()
    path = llama(tmp_path / "tiny.gguf", feed_forward_length=256)
    with pytest.raises(ModelError, match=r"mlp.*is \[512, 256\] and should be \[256, 256\]"):
        open_backend(f"gguf:{path}", memory="file").identity()


@pytest.mark.model
def test_large_models_stay_in_the_file_on_their_own(tmp_path, home, monkeypatch):
    """Where decoded weights are more than half of the free memory; that is said, and saying memory= ends the warning."""
    path = llama(tmp_path / "tiny.gguf")
    monkeypatch.setattr(loaded_model, "_LATEST", [])
    loaded_model._MODELS.clear()
    n_decoded = 4 * weights.read_header(path).n_weights
    monkeypatch.setattr(sizes, "free_memory", lambda: 2 * n_decoded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not layers.reads_file(open_backend(f"gguf:{path}").model)
    loaded_model._MODELS.clear()
    monkeypatch.setattr(sizes, "free_memory", lambda: 2 * n_decoded - 2)
    with pytest.warns(MemoryWarning, match=r"would be 0\.0 GB, more than half of the free memory.*memory='file'"):
        chosen = open_backend(f"gguf:{path}").model
    assert layers.reads_file(chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What is open is shared, however it came to be so.
        assert open_backend(f"gguf:{path}", memory="file").model is chosen
        assert open_backend(f"gguf:{path}").model is chosen
        assert not layers.reads_file(open_backend(f"gguf:{path}", memory="decoded").model)


@pytest.mark.model
def test_what_fits_no_memory_is_refused(tmp_path, home, monkeypatch):
    """Decoded weights with the hint at memory='file', and a file larger than memory and swap in any way."""
    path = llama(tmp_path / "tiny.gguf")
    n_decoded = 4 * weights.read_header(path).n_weights
    monkeypatch.setattr(sizes, "all_memory", lambda: (n_decoded - 2, 1))
    with pytest.raises(ModelError, match=r"decoded weights of .* would take .*give memory='file'"):
        open_backend(f"gguf:{path}", memory="decoded").identity()
    assert not (home / "models").exists()
    open_backend(f"gguf:{path}", memory="file").identity()
    loaded_model._MODELS.clear()
    monkeypatch.setattr(sizes, "all_memory", lambda: (path.stat().st_size - 2, 1))
    with pytest.raises(ModelError, match=r"the GGUF file .* has .*give a smaller model"):
        open_backend(f"gguf:{path}", memory="file").identity()


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        ("hf:org/name", {"memory": "file"}, "memory='file' is for gguf: models, and the model is 'hf:org/name'"),
        ("hf:org/name", {"memory": "decoded"}, "memory='decoded' is for gguf: models"),
        (
            "smollm2",
            {"memory": "file", "device": "cuda:1"},
            "is for a CPU, and the device is 'cuda:1'; give device='cpu'",
        ),
        ("smollm2", {"memory": "disk"}, "memory='disk': expected 'file', 'decoded' or None"),
        ("smollm2", {"memory": True}, "memory=True: expected"),
    ],
)
def test_bad_choices_are_refused_at_once(model, options, match):
    """Before anything is opened, with what was expected."""
    with pytest.raises(InputError, match=match):
        open_backend(model, **options)


def test_the_choice_moves_no_score():
    """Caches and journals ignore it."""
    assert open_backend("smollm2", memory="file").description == {"model": "smollm2"}
    assert "memory='file'" in repr(open_backend("smollm2", memory="file"))


@pytest.mark.model
def test_a_broken_file_is_refused_in_either_way(tmp_path, home):
    """Before anything is converted."""
    path = llama(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-100])
    for memory in ("file", "decoded", None):
        with pytest.raises(ModelError, match="could not be read .*the download may not have ended"):
            open_backend(f"gguf:{path}", memory=memory).identity()
    assert not (home / "models").exists()


@pytest.mark.model
def test_tokens_outside_of_the_vocabulary_are_refused(tmp_path, home):
    """As the embeddings of torch refuse them, and not with another row."""
    import torch

    backend = open_backend(f"gguf:{llama(tmp_path / 'tiny.gguf')}", memory="file")
    embedding = backend.model.get_input_embeddings()
    assert embedding.num_embeddings == len(vocabulary())
    torch.testing.assert_close(embedding(torch.tensor([[5, 5, 0]]))[0], embedding.weight[[5, 5, 0]])
    for token in (-1, len(vocabulary())):
        with pytest.raises(IndexError, match="outside of the vocabulary"):
            embedding(torch.tensor([[0, token]]))


@pytest.mark.model
def test_an_embedding_keeps_what_it_does_besides(tmp_path):
    """One that scales what it has looked up still does, and padding is a token like any other."""
    import torch

    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) * 3.0

    rows = stored((40, 64), "Q8_0", np.random.default_rng(0))
    matrix = layers.FileMatrix(rows, "Q8_0", 64)
    embedding = layers.FileEmbedding(matrix, Scaled(40, 64, padding_idx=39), torch.float32)
    ids = torch.tensor([[3, 39, 3], [0, 1, 2]])
    torch.testing.assert_close(embedding(ids), 3.0 * embedding.weight[ids])
