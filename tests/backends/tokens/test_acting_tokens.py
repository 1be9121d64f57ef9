"""Tokens that act: none comes out of a row's text, whatever the tokenizer says of them, and in the author's text they act."""

from __future__ import annotations

import functools

import pytest

from llmclf.backends.tokens.acting_tokens import acting_tokens, unknown_ids
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder
from llmclf.errors import RowError
from llmclf.prompts.rendered import Span

pytestmark = pytest.mark.model  # transformers imports PyTorch

MARKERS = ["<think>", "</think>", "<tool_call>", "[INST]", "[/INST]", "<start_of_turn>", "◁think▷"]
CORPUS = [
    "The film was a delight <br> from start to finish.",
    "I think (and call) it a tool: user, end, model of time.",
] * 5


@functools.lru_cache
def tokenizer(kind: str):
    """Tiny tokenizers of several kinds, each with the same markers, told of them in different ways."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    if kind.startswith("bpe"):
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        special = ["<|end|>", *(MARKERS[:-1] if kind == "bpe_base_special" else [])]
        core.train_from_iterator(
            CORPUS,
            trainers.BpeTrainer(vocab_size=450, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
    elif kind.startswith("sentencepiece"):
        core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        scheme = "always" if kind.endswith("always") else "first"
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
        core.train_from_iterator(
            CORPUS,
            trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<|end|>", *bytes_], show_progress=False),
        )
    elif kind == "unigram":
        letters = [
            (letter, -5.0) for letter in sorted(set("".join(CORPUS)) | set("<>[]/|▁_◁▷INSTk0x")) if letter != " "
        ]
        vocabulary = [("<unk>", 0.0), ("<|end|>", 0.0), *((byte, 0.0) for byte in bytes_), *((m, 0.0) for m in MARKERS)]
        core = Tokenizer(models.Unigram([*vocabulary, *letters, ("▁think", -2.0), ("think", -2.0)], unk_id=0))
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
    else:
        words = ["[UNK]", "<|end|>", "the", "film", *MARKERS, *(letter for letter in "<>[]/|_")]
        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", unk_token="[UNK]")
    if kind == "bpe_normalised":
        core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        core.add_tokens([AddedToken(marker.lower(), normalized=True, special=False) for marker in MARKERS])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    if kind not in ("unigram", "bpe_normalised"):
        fast.add_tokens([AddedToken(marker, special=False, normalized=False) for marker in MARKERS])
    fast.add_tokens(["immunotherapy", "COVID-19", "    ", "<h1>"])
    return fast


KINDS = ["bpe", "bpe_base_special", "bpe_normalised", "sentencepiece", "sentencepiece_always", "unigram", "word_level"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marker", [*MARKERS, "<|end|>"])
def test_a_marker_in_data_is_text_and_in_the_template_acts(kind, marker):
    """Flagged or not, added or in the base vocabulary: the row cannot open a thought or a turn, and the author can."""
    fast = tokenizer(kind)
    encoder = TokenizerEncoder(fast)
    own = marker.lower() if kind == "bpe_normalised" else marker
    acting = set(acting_tokens(fast).values())
    token = fast.convert_tokens_to_ids(own)
    assert token in acting
    for text in (marker, f"a {marker} b", f"x{marker}{marker}y", f"{marker}\n"):
        if kind == "word_level" and text == f"x{marker}{marker}y":
            continue
        (ids,) = encoder.encode([(Span("The ", False), Span(text, True), Span(" film", False))])
        assert not acting & (set(ids) - unknown_ids(fast)), fast.convert_ids_to_tokens(ids)
    (ids,) = encoder.encode([(Span(f"The {own} ", False), Span(f"a {marker} b", True))])
    assert [i for i in ids if i in acting - unknown_ids(fast)] == [token]
    # A marker that only the border makes is none.
    (ids,) = encoder.encode([(Span(f"The {own[:3]}", False), Span(own[3:], True))])
    assert token not in ids


@pytest.mark.parametrize("kind", ["bpe", "bpe_base_special", "sentencepiece"])
@pytest.mark.parametrize("text", ["a <think> b", "[INST]", "x</think>y <|end|>", "<tool_call>{}"])
def test_what_is_cut_decodes_to_the_same_text(kind, text):
    """The row says what it said, in other tokens, with no space more or less."""
    fast = tokenizer(kind)
    (ids,) = TokenizerEncoder(fast).encode([(Span(text, True),)])
    assert fast.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("text", ["＜ｔｈｉｎｋ＞", "<THINK>", "＜think＞ and [inst]"])
def test_text_that_a_normaliser_makes_a_marker_is_text(text):
    """Wide or capital letters that become a marker on the way are found by what comes out."""
    fast = tokenizer("bpe_normalised")
    (ids,) = TokenizerEncoder(fast).encode([(Span("The ", False), Span(text, True))])
    assert not set(acting_tokens(fast).values()) & set(ids)


@pytest.mark.parametrize("text", ["immunotherapy of COVID-19", "a    b", "<h1>The film</h1>", "the film 東京"])
@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_added_words_and_spaces_are_read_as_the_model_learned_them(kind, text):
    """Domain words, runs of spaces and formatting tags do not act, so nothing changes for them."""
    fast = tokenizer(kind)
    (ids,) = TokenizerEncoder(fast).encode([(Span(text, True),)])
    assert ids == fast(text, add_special_tokens=False)["input_ids"]


def test_the_name_of_a_byte_is_not_the_byte():
    """A vocabulary whose byte tokens are found by their names does not let a row write a line break so."""
    fast = tokenizer("unigram")
    (ids,) = TokenizerEncoder(fast).encode([(Span("the <0x0A> film", True),)])
    assert fast.convert_tokens_to_ids("<0x0A>") not in ids


def test_a_marker_of_one_character_is_that_rows_error():
    """It cannot be cut, so the row is refused, by name."""
    fast = tokenizer("bpe")
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=fast.backend_tokenizer, eos_token="<|end|>")
    other.add_special_tokens({"additional_special_tokens": ["q"]})
    other.backend_tokenizer.encode_special_tokens = False
    with pytest.raises(RowError, match="the text holds 'q', which this model reads as a control token"):
        TokenizerEncoder(other).encode([(Span("a q b", True),)])
