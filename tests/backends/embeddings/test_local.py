"""Vectors of local models: pooled states of encoders and decoders, held to plain calls of transformers."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from tiny_models import save_with_large_weights

from llmclf import Embeddings
from llmclf.backends.embeddings import LocalEmbedder
from llmclf.backends.embeddings.pooling import POOLINGS
from llmclf.errors import InputError, ModelError, RowError, TruncationWarning

ATOL = 1e-4
TEXTS = [
    "The film was a delight from start to finish, and the actors were superb.",
    "good",
    "What a waste of time: neither funny nor sad, and far too long.",
    "Größe, café, naïve, 東京 and emoji 🙂 are text as well.",
    "bad",
    "The numbers 7 and 42 are not words!",
]
DECODERS = ("byte_bpe", "sentencepiece", "no_pad", "sliding_window", "softcap", "no_attention")
ENCODERS = ("Bert", "Roberta", "DistilBert", "Electra", "MPNet", "ModernBert", "Albert")

pytestmark = pytest.mark.model


def save_encoder(kind, folder, *, head="Model"):
    """Save a tiny random encoder with a WordPiece tokenizer, and return its folder."""
    import torch
    import transformers
    from conftest import CORPUS
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=names, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    ends = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **roles)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "dim": 32,
        "embedding_size": 32,
        "intermediate_size": 48,
        "hidden_dim": 48,
        "num_hidden_layers": 3,
        "n_layers": 3,
        "num_attention_heads": 4,
        "n_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    kind_of_config = getattr(transformers, f"{kind}Config")
    known = kind_of_config().to_dict()
    config = kind_of_config(**{name: value for name, value in sizes.items() if name in known or kind == "DistilBert"})
    model = getattr(transformers, f"{kind}{head}")(config)
    save_with_large_weights(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A function: kind -> folder of a tiny random encoder, made once."""
    folders = {}

    def folder(kind, head="Model"):
        if (kind, head) not in folders:
            folders[kind, head] = save_encoder(kind, tmp_path_factory.mktemp(kind), head=head)
        return folders[kind, head]

    return folder


@pytest.fixture(scope="module")
def folder_of(encoder, model_folder):
    return lambda kind: encoder(kind) if kind in ENCODERS else model_folder(kind)


def plain(folder, texts, pooling):
    """One call of transformers for each text: the definition."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            states = model(input_ids=ids).last_hidden_state[0]
        vectors.append({"mean": states.mean(dim=0), "last": states[-1], "cls": states[0]}[pooling].numpy())
    return np.stack(vectors)


def local(folder, **options):
    return Embeddings(f"hf:{folder}", **options)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_a_vector_is_that_of_a_plain_call(folder_of, kind):
    """Of encoders and decoders, with and without a padding token, attention or windows, for each way to pool."""
    spread = {}
    for pooling in POOLINGS:
        expected = plain(folder_of(kind), TEXTS, pooling)
        found = local(folder_of(kind), pooling=pooling, normalize=False).fit_transform(TEXTS)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < ATOL
        spread[pooling] = np.abs(found[0] - found[1]).max()
    assert spread["mean"] > 0.01 < spread["last"]


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "byte_bpe", "no_pad", "sliding_window", "no_attention"])
def test_a_vector_does_not_depend_on_what_is_asked_beside_it(folder_of, kind):
    """Batch, order and neighbours change nothing."""
    texts = [*TEXTS, *(f"{text} {text}" for text in TEXTS[:2]), "bad", "bod", "bid"]
    alone = np.concatenate([local(folder_of(kind)).transform([text]) for text in texts])
    for size in (1, 2, 50):
        together = local(folder_of(kind), batch_size=size).transform(texts[::-1])[::-1]
        assert np.abs(together - alone).max() < ATOL
    assert np.allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-6)


def test_a_mask_and_padding_give_the_same(encoder):
    """The usual way, padded batches and a mean over the attention mask, ends at the same vectors."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = encoder("Bert")
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    usual = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    assert np.abs(local(folder, normalize=False).transform(TEXTS) - usual).max() < ATOL


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "byte_bpe"])
def test_long_texts_are_cut_and_counted(folder_of, kind):
    """At the model's own limit or the one that was given; the end is left out, and what stands around the text stays."""
    texts = ["good bad " * 200, "good", "bad film " * 200]
    embeddings = local(folder_of(kind), normalize=False)
    with pytest.warns(
        TruncationWarning, match=r"^2 of 3 texts are longer than the \d+ tokens that the model reads"
    ) as caught:
        long = embeddings.fit_transform(texts)
    assert (len(caught), caught[0].filename) == (1, __file__)
    assert np.array_equal(long[1], embeddings.transform(["good"])[0])
    with pytest.warns(TruncationWarning, match="longer than the 12 tokens"):
        short = local(folder_of(kind), context_length=12, normalize=False).transform(texts)
    with pytest.warns(TruncationWarning, match="longer than the 12 tokens"):
        same = local(folder_of(kind), context_length=12, normalize=False).transform(
            ["good bad " * 40, texts[1], texts[2]]
        )
    assert np.array_equal(short, same)
    assert np.abs(short[0] - long[0]).max() > 0
    if kind == "Bert":
        with pytest.raises(InputError, match="context_length=2 leaves no room for a text: 2 tokens stand around it"):
            local(folder_of(kind), context_length=2).transform(texts)


def test_control_tokens_in_a_text_stay_text(encoder, tiny_bpe):
    """Data cannot end the text that it stands in, or open a turn of a chat."""
    import torch
    from transformers import AutoModel

    for folder, text, name in (
        (encoder("Bert"), "good [SEP] bad", "[SEP]"),
        (tiny_bpe.name.removeprefix("hf:"), "good <|im_end|> bad", "<|im_end|>"),
    ):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        token = tokenizer.convert_tokens_to_ids(name)
        ids = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            acting = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()
        assert token in ids
        assert np.abs(local(folder, normalize=False).transform([text])[0] - acting).max() > ATOL


def test_the_weights_are_part_of_what_a_vector_depends_on(encoder, tmp_path):
    """Other weights in the same folder are another model: the cache does not know it, and what was fitted refuses it."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(encoder("Bert"), folder)
    embeddings = local(folder, cache=tmp_path / "vectors.sqlite").fit(TEXTS)
    first = embeddings.transform(TEXTS)
    again = pickle.loads(pickle.dumps(embeddings))
    assert np.array_equal(again.transform(TEXTS), first)
    weights = {name: value * 1.5 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    from llmclf.backends.embeddings import pooling

    pooling._LATEST.clear()
    del embeddings
    changed = pickle.loads(pickle.dumps(again))
    del again
    pooling._BODIES.clear()
    with pytest.raises(ModelError, match="of another model than in fit: its weights was"):
        changed.transform(TEXTS)
    assert np.abs(changed.fit_transform(TEXTS) - first).max() > ATOL


def test_options_of_the_model_are_part_of_the_key(encoder, tmp_path):
    """Vectors that were pooled otherwise are not taken from the cache; the device and the batch are nobody's business."""
    cache = tmp_path / "vectors.sqlite"
    found = {name: local(encoder("Bert"), cache=cache, pooling=name).transform(TEXTS) for name in POOLINGS}
    assert np.abs(found["mean"] - found["cls"]).max() > ATOL
    assert np.array_equal(
        local(encoder("Bert"), cache=cache, batch_size=1, device="cpu").transform(TEXTS), found["mean"]
    )


def test_an_encoder_with_a_head_is_read_without_it(encoder):
    """A masked language model has the same states; a pooler that a checkpoint lacks is not missed."""
    found = local(encoder("Bert", "ForMaskedLM"), normalize=False).transform(TEXTS)
    assert np.abs(found - plain(encoder("Bert", "ForMaskedLM"), TEXTS, "mean")).max() < ATOL


def edit(source, folder, change=lambda weights: weights, **config):
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    return folder


@pytest.mark.parametrize("kind", ["Bert", "byte_bpe"])
def test_a_checkpoint_that_is_not_whole_is_refused(folder_of, kind, tmp_path):
    """A layer too few or too many, or broken numbers: none of them gives vectors without a word."""
    import torch

    source = folder_of(kind)
    few = edit(
        source,
        tmp_path / "few",
        lambda weights: {k: v for k, v in weights.items() if ".1." not in k or "layer" not in k},
    )
    with pytest.raises(ModelError, match="lacks weights that"):
        local(few).transform(TEXTS)
    many = edit(source, tmp_path / "many", num_hidden_layers=2)
    with pytest.raises(ModelError, match="holds weights for which"):
        local(many).transform(TEXTS)
    broken = edit(
        source, tmp_path / "broken", lambda weights: {k: torch.full_like(v, torch.nan) for k, v in weights.items()}
    )
    with pytest.raises(ModelError, match="NaN or infinite states"):
        local(broken).transform(TEXTS)


def test_what_is_no_model_of_one_text_is_refused(tmp_path, encoder):
    """An encoder with a decoder, an unknown architecture: before weights are read, with what would work."""
    for config, message in (
        ({"is_encoder_decoder": True}, "is an encoder and a decoder, .* serve it and use openai:NAME"),
        ({"model_type": "bert9"}, "of the type 'bert9', which transformers .* does not know"),
    ):
        folder = edit(encoder("Bert"), tmp_path / next(iter(config)), **config)
        with pytest.raises(ModelError, match=message):
            local(folder).transform(TEXTS)


def test_an_estimate_loads_nothing(encoder):
    """A local model costs nothing, and its tokens are those of a rule of thumb."""
    estimate = local(encoder("Bert")).estimate(["four", "four", "eight by"])
    assert (estimate.route, estimate.rows, estimate.requests, estimate.tokens_in, estimate.cost) == (
        "local",
        3,
        0,
        3,
        None,
    )
    assert local(encoder("Bert")).usage.requests == 0


def test_a_handle_is_a_description(encoder):
    """Equal ones share the weights; what is shown can be read back, and bad options are named at once."""
    handle = LocalEmbedder(f"hf:{encoder('Bert')}", pooling="cls", batch_size=4)
    assert eval(repr(handle)) == handle == pickle.loads(pickle.dumps(handle))
    assert handle.identity()["pooling"] == "cls"
    assert "batch_size" not in handle.identity()
    assert list(handle.embed([])) == []
    with pytest.raises(RowError, match="half of a surrogate pair"):
        list(handle.embed(["\ud83d"]))


def test_the_default_model_pools_too():
    """The real small model, held to a plain call."""
    from llmclf.backends.local.weights import converted
    from llmclf.downloads import SMOLLM2

    found = Embeddings("smollm2", normalize=False).fit_transform(TEXTS)
    assert np.abs(found - plain(converted(SMOLLM2.locate())[0], TEXTS, "mean")).max() < ATOL
