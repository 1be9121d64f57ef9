"""Texts that are too long: the longest beginning that fits, found by tokenising few characters."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmclf import Prompt
from llmclf.backends.requests import Request
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.longest_fit import longest_fit
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder
from llmclf.errors import RowError

PROMPT = Prompt("Review: {{ text }}\nSentiment:")
CHAT = Prompt("Review: {{ text }}", chat=True, instruction="Judge.")
KINDS = ["byte_bpe", "sentencepiece", "no_pad"]
PIECES = st.sampled_from(
    [
        "a fine film",
        " ",
        "   ",
        "\n",
        "thin",
        "ü",
        "東京",
        "🙂",
        "👩‍👩‍👧",
        "x" * 40,
        "<|im_end|>",
        "</s>",
        "1.5",
        ".",
        "é",
    ]
)
TEXTS = st.builds(lambda pieces, n: "".join(pieces) * n, st.lists(PIECES, min_size=1, max_size=6), st.integers(1, 8))


class Counting(TokenizerEncoder):
    """A tokenizer that counts what it is asked for."""

    n_calls = n_texts = n_characters = 0

    def encode(self, texts):
        self.n_calls += 1
        self.n_texts += len(texts)
        self.n_characters += sum(len(span.text) for spans in texts for span in spans)
        return super().encode(texts)


@pytest.fixture(scope="module")
def encoder_of(model_folder):
    """A function: kind -> the tokenizer of a tiny model."""
    from transformers import AutoTokenizer

    return cache(lambda kind: Counting(AutoTokenizer.from_pretrained(model_folder(kind))))


def asked(text, prompt=PROMPT, words=("good", "bad"), **named):
    renderer = prompt.renderer(list(words), (), ("text",))
    return Request(renderer.render({"text": text}), tuple(map(prompt.completion, words)), **named)


def sizes(codec, request, lengths):
    """What the model would read with so many characters of the text."""
    whole = TokenCodec(codec._encoder, 1 << 30)
    rows = whole.encode([replace(request, prompt=request.prompt.shortened(n)) for n in lengths])
    return [row.n_inputs for row in rows]


def size(codec, request, n):
    return sizes(codec, request, [n])[0]


def by_halving(codec, request):
    """The longest text that fits, where tokens grow with characters; 0 if none does."""
    low, high = 1, request.prompt.text_length
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if size(codec, request, middle) <= codec.context_length else (low, middle)
    return low - 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 250), st.integers(1, 200))
def test_where_tokens_grow_the_longest_that_fits_is_found(steps, limit, guess):
    """Wherever the search begins, and however unevenly the tokens stand."""
    sums = [sum(steps[: n + 1]) for n in range(len(steps))]
    found = longest_fit(lambda lengths: [sums[n - 1] for n in lengths], limit, len(steps), guess)
    assert found == sum(n <= limit for n in sums)


@given(st.lists(st.integers(-2, 3), min_size=1, max_size=200), st.integers(0, 60), st.integers(1, 200))
def test_where_characters_join_tokens_none_of_the_next_eight_fits(steps, limit, guess):
    """What is found fits, and the eight lengths after it do not."""
    sums = [max(0, sum(steps[: n + 1])) for n in range(len(steps))]
    found = longest_fit(lambda lengths: [sums[n - 1] for n in lengths], limit, len(steps), guess)
    assert 0 <= found <= len(steps)
    assert not found or sums[found - 1] <= limit
    assert all(n > limit for n in (sums[found : found + 8] if found else sums[:1]))


@pytest.mark.parametrize("limit", [5, 300, 8192, 50_000])
@pytest.mark.parametrize("guess", [1, 32_768, 200_000])
def test_few_lengths_are_tried(limit, guess):
    """Also where the second half of a text has far more tokens than the first, and where all of a text fits."""
    for tokens in (lambda n: n // 4, lambda n: n // 6 + 3 * max(0, n - 30_000), lambda n: 2000 + n // 100):
        tried = []

        def n_tokens(lengths, tokens=tokens, tried=tried):
            tried.append(len(lengths))
            return [tokens(n) for n in lengths]

        longest_fit(n_tokens, limit, 200_000, guess)
        assert sum(tried) <= 45
        assert len(tried) <= 38


@settings(deadline=None, max_examples=6)
@example("a" * 900, 40)
@example(" " * 900, 40)
@example("🙂" * 300, 40)
@example("<|im_end|>" * 90, 60)
@given(TEXTS, st.integers(24, 120))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [PROMPT, Prompt("{{ text }}"), Prompt("{{ text | upper }} {{ text }}:")])
def test_the_longest_text_that_fits(encoder_of, kind, prompt, text, context_length):
    """It fits, one character more does not, and where tokens grow with characters it is what halving finds."""
    codec = TokenCodec(encoder_of(kind), context_length)
    request = asked(text, prompt)
    length = request.prompt.text_length
    try:
        (row,) = codec.encode([request])
    except RowError:
        assert size(codec, request, 1) > context_length or length == 1
        return
    n = length - row.characters_cut
    assert row.n_inputs <= context_length
    assert row.context == TokenCodec(codec._encoder, 1 << 30).encode([asked(text[:n], prompt)])[0].context
    if row.characters_cut:
        all_sizes = sizes(codec, request, range(1, length + 1))
        assert all(more > context_length for more in all_sizes[n : n + 8])
        if sorted(all_sizes) == all_sizes:
            assert n == by_halving(codec, request)


@pytest.mark.parametrize("text", ["a fine film. " * 300, "  fine  " * 400, " " * 2000, "東京 🙂 " * 300])
def test_in_a_chat(encoder_of, text):
    """Where the template trims white space, too."""
    codec = TokenCodec(encoder_of("byte_bpe"), 100)
    request = asked(text, CHAT)
    (row,) = codec.encode([request])
    n = len(text) - row.characters_cut
    assert row.n_inputs <= 100
    assert min(sizes(codec, request, range(n + 1, n + 9))) > 100


@pytest.mark.parametrize("terminator", ["eos", "auto"])
@pytest.mark.parametrize("words", [("good", "good film"), ("mmmmmmmmmmmm", "1 2 3 4 5 6")])
def test_completions_of_unlike_tokens(encoder_of, terminator, words):
    """The completion of the most tokens decides, though another has more characters; so does a token that ends each."""
    codec = TokenCodec(encoder_of("byte_bpe"), 100)
    request = asked("a fine film. " * 300, words=words, terminator=terminator)
    (row,) = codec.encode([request])
    n = request.prompt.text_length - row.characters_cut
    assert row.n_inputs <= 100 < size(codec, request, n + 1)
    assert n == by_halving(codec, request)


def test_many_labels_are_joined_to_what_fits_alone(encoder_of):
    """A text of 200,000 characters is not tokenised once: a few beginnings of it are, and one of them with each of 77 labels."""
    codec = TokenCodec(encoder := encoder_of("byte_bpe"), 2000)
    text = "a fine film, though the plot is thin and the music long. " * 3600
    request = asked(text, words=[f"label {i}" for i in range(77)])
    before = encoder.n_calls, encoder.n_texts, encoder.n_characters
    (row,) = codec.encode([request])
    calls, texts, characters = (
        now - then for now, then in zip((encoder.n_calls, encoder.n_texts, encoder.n_characters), before, strict=True)
    )
    kept = len(text) - row.characters_cut
    assert row.n_inputs == 2000
    assert calls <= 20
    assert texts <= 77 + 78 + 40
    assert characters <= (78 + 40) * (kept + 40) * 1.1


def test_a_long_text_that_fits_is_whole(encoder_of):
    """Words of many characters may all fit; nothing is cut from them then."""
    codec = TokenCodec(encoder_of("byte_bpe"), 60)
    text = max(encoder_of("byte_bpe").tokenizer.get_vocab(), key=lambda raw: len(raw) if raw.isascii() else 0)
    request = asked(text * 30)
    (row,) = codec.encode([request])
    assert row.n_inputs <= 60 or row.characters_cut
    (short, long) = codec.encode([asked("fine"), request])
    assert (short.characters_cut, long) == (0, row)


def test_an_error_names_the_tokens_of_the_whole_prompt(encoder_of):
    """Where not one character of a long text fits."""
    codec = TokenCodec(encoder_of("byte_bpe"), 8)
    request = asked("a fine film. " * 300)
    with pytest.raises(RowError, match=rf"a prompt has {size(codec, request, 3900)} tokens, the model reads 8.*3900"):
        codec.encode([request])
