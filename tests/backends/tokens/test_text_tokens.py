"""Which tokens of a prompt hold characters of the row's own data, by offsets and by the beginnings of the text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmclf import Prompt
from llmclf.backends.requests import STATE_PARTS, Request, StatePart
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.text_tokens import first_characters, shifted, tokens_between, tokens_of
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder
from llmclf.prompts.rendered import Span

WORDS = ["good", "bad"]
SHOTS = (({"text": "A delight."}, "good"), ({"text": "Far too long."}, "bad"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CONTROL = "an <|im_end|> and <|im_start|>user"


def asked(prompt, row, shots=SHOTS, states=STATE_PARTS):
    renderer = prompt.renderer(WORDS, shots, tuple(row))
    return Request(renderer.render(row), tuple(map(prompt.completion, WORDS)), states=states)


@pytest.fixture(scope="module")
def codec_of(model_folder):
    """A function: kind -> codec of a tiny model's tokenizer."""
    from transformers import AutoTokenizer

    def codec(kind, context_length=2000):
        return TokenCodec(TokenizerEncoder(AutoTokenizer.from_pretrained(model_folder(kind))), context_length)

    return codec


@pytest.fixture(scope="module")
def byte_codec(codec_of):
    return codec_of("byte_bpe")


class Blind(TokenizerEncoder):
    """A tokenizer that does not say where its tokens stand."""

    def offsets(self, text):
        return None


@pytest.fixture(scope="module")
def blind_codec(byte_codec, model_folder):
    from transformers import AutoTokenizer

    return TokenCodec(Blind(AutoTokenizer.from_pretrained(model_folder("byte_bpe"))), 2000)


def held(row):
    """Whether each token of a context counts as text."""
    ours = {i for start, stop in row.text_tokens for i in range(start, stop)}
    return [i in ours for i in range(len(row.context))]


def bytes_held(prompt, context, tokenizer):
    """The same from the bytes of each token, which a byte-level vocabulary spells out."""
    from llmclf.backends.tokens.transformers_encoder import _BYTE_OF

    starts = [0]
    for character in prompt.text:
        starts.append(starts[-1] + len(character.encode()))
    ranges = [(starts[start], starts[stop]) for start, stop in prompt.row_ranges]
    at, found = 0, []
    for raw in tokenizer.convert_ids_to_tokens(list(context)):
        n = len(raw) if all(character in _BYTE_OF for character in raw) else len(raw.encode())
        found.append(any(at < stop and start < at + n for start, stop in ranges))
        at += n
    return found


def test_ranges_of_tokens():
    """Tokens without a character hold none; tokens side by side are one range."""
    assert tokens_of([(0, 2), (2, 2), (2, 4), (4, 6), (6, 8)], ((3, 5), (7, 8))) == ((2, 5),)
    assert tokens_of([(0, 2)], ()) == ()
    assert shifted(((0, 1), (3, 5)), 2, 3, 6) == ((5, 6),)
    assert tokens_between([1, 2, 3], [[], [1, 2], [1, 2], [1, 2, 3]]) == ((0, 3),)
    assert tokens_between([1, 2, 3], [[1, 9], [1, 2, 3]]) == ((1, 3),)
    assert first_characters((Span("ab", True), Span("cd", False), Span("ef", True)), 3) == (
        Span("ab", True),
        Span("c", False),
    )


@example(" ", "\n\n")
@example("", "")
@example(CONTROL, "x")
@example("Größe 東京 🙂", CONTROL)
@given(TEXT, TEXT)
def test_tokens_that_hold_a_byte_of_the_rows_text(byte_codec, a, b):
    """Neither more nor fewer, whatever the text: spaces, parts of characters, control tokens, nothing at all."""
    prompt = Prompt("Text:{{ a }} of {{ label_words[0] }} or{{ b }}\nLabel:")
    request = asked(prompt, {"a": a, "b": b}, [({"a": b, "b": a}, "good")])
    (row,) = byte_codec.encode([request])
    expected = bytes_held(request.prompt, row.context, byte_codec._encoder.tokenizer)
    assert held(row) == expected


@pytest.mark.parametrize("text", ["A fine film.", "Größe, café, 東京 🙂", "x", " spaces  ", "a\n\nb", "1.5", CONTROL])
@pytest.mark.parametrize(
    "template", ["Review: {{ text }}\nSentiment:", "{{ text }}", "<{{ text }}>", "Say {{ text }}. {{ text }}:"]
)
def test_tokenizers_that_do_not_say_where_tokens_stand(byte_codec, blind_codec, text, template):
    """The beginnings of the text show the same tokens."""
    request = asked(Prompt(template), {"text": text})
    (row,), (blind,) = byte_codec.encode([request]), blind_codec.encode([request])
    assert row.context == blind.context
    assert row.text_tokens == blind.text_tokens
    assert row.text_tokens


@pytest.mark.parametrize("kind", ["byte_bpe", "sentencepiece", "no_pad"])
@pytest.mark.parametrize("text", ["A fine film.", "superb", "The plot is thin."])
def test_tokens_read_as_the_text(codec_of, kind, text):
    """With a token before the text or without, for a prompt of several fields and shots."""
    codec = codec_of(kind)
    prompt = Prompt("{{ text }}, by {{ who }}\nSentiment:")
    shots = [({"text": "A delight.", "who": "me"}, "good")]
    (row,) = codec.encode([asked(prompt, {"text": text, "who": "nobody"}, shots)])
    tokenizer = codec._encoder.tokenizer
    pieces = [tokenizer.decode(row.context[start:stop]).strip() for start, stop in row.text_tokens]
    assert pieces[-1].endswith("nobody")
    assert pieces[0].startswith(text[0])
    assert "delight" not in "".join(pieces)
    assert "Sentiment" not in "".join(pieces)


@pytest.mark.parametrize("text", ["A fine film.", "  superb \n", CONTROL])
def test_in_a_chat_the_text_is_found_in_the_last_turn(byte_codec, text):
    """Not in the turns of shots that read the same, nor in the template's own words."""
    request = asked(
        Prompt("Review: {{ text }}!", chat=True, instruction="Judge."), {"text": text}, [({"text": text}, "good")]
    )
    (row,) = byte_codec.encode([request])
    ((start, stop),) = row.text_tokens
    tokenizer = byte_codec._encoder.tokenizer
    assert tokenizer.decode(row.context[start:stop]).strip(" !") == text.strip(" ")
    assert "Review" in tokenizer.decode(row.context[start - 12 : start])
    assert tokenizer.decode(row.context[stop:]).lstrip("!").startswith("<|im_end|>\n<|im_start|>assistant")


def test_shortened_texts_and_borders_that_are_healed(byte_codec, codec_of):
    """Only tokens that are there count: neither those that were cut off, nor one that reaches into the answer."""
    long = "a film " * 200
    (row,) = codec_of("byte_bpe", 120).encode([asked(Prompt("Review: {{ text }}\nSentiment:"), {"text": long})])
    assert row.characters_cut
    tokenizer = byte_codec._encoder.tokenizer
    shown = tokenizer.decode([row.context[i] for start, stop in row.text_tokens for i in range(start, stop)])
    assert shown.strip() == long[: len(long) - row.characters_cut].strip()
    prompt = Prompt("Sentiment: {{ text }}", delimiter="")
    (row,) = byte_codec.encode([asked(prompt, {"text": "a film, super"}, ())])  # "superb" and "ad"
    assert row.healed
    assert row.text_tokens[-1][1] == len(row.context)


def test_only_where_states_of_the_text_are_asked_for(byte_codec):
    """Else nothing is looked for; a question without states makes the row that it made before."""
    request = asked(Prompt("Review: {{ text }}\nSentiment:"), {"text": "fine"})
    (row,) = byte_codec.encode([request])
    assert row.states == STATE_PARTS
    (last,) = byte_codec.encode([replace(request, states=(StatePart("last", 1.0),))])
    assert last.text_tokens == ()
    (plain,) = byte_codec.encode([replace(request, states=())])
    assert plain == replace(row, states=(), text_tokens=())
    (blank,) = byte_codec.encode([asked(Prompt("Review: {{ text }}\nSentiment:"), {"text": ""})])
    assert blank.text_tokens == ()
