"""Hidden states are those of a plain call of each row's prompt alone, and asking for them changes no score and makes no pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from architectures import BATCHES, loaded, rows, tiny_model
from contract import TEXTS, assert_same, plain_model, reference_for, requests_for, score

from llmclf import Prompt, open_backend
from llmclf.backends.local.hidden_states import PassReader, agree, plain_states
from llmclf.backends.logit_processing import Processing
from llmclf.backends.requests import STATE_PARTS, Request, StatePart
from llmclf.errors import InputError, ModelError

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ALL_PARTS = (*STATE_PARTS, StatePart("text", 1.0), StatePart("last", 0.01), StatePart("text", 0.3))
WORDS = ["good", "bad"]
BOOK = "The old cat sat on the mat near the door, and the dog ran to the park before it came home again. " * 2


def with_states(requests, parts=STATE_PARTS):
    return [replace(request, states=parts) for request in requests]


def assert_states(ours, expected):
    """As plain calls', number by number: within 1e-4 times 1, its own size and the root mean square of its state."""
    for i, (answer, wanted) in enumerate(zip(ours, expected, strict=True)):
        assert answer.states.dtype == np.float32
        assert answer.state_parts == wanted.state_parts
        n = len(answer.state_parts)
        for part, plain in zip(np.split(answer.states, n), np.split(wanted.states, n), strict=True):
            assert agree(part, plain), (i, np.abs(part - plain).max())


def assert_as_plain(backend, requests, context_length=None, parts=ALL_PARTS):
    """The states of plain calls, beside the very scores that are given without them."""
    asked = with_states(requests, parts)
    answers = score(backend, asked)
    assert_states(answers, score(reference_for(backend, context_length), asked))
    without = score(backend, requests)
    assert answers == without
    assert all(answer.states is None and answer.state_parts == () for answer in without)
    return answers


def requests_with(prompt, records, shots=()):
    renderer = prompt.renderer(WORDS, shots, tuple(records[0]))
    completions = tuple(map(prompt.completion, WORDS))
    return [Request(renderer.render(record), completions, prompt.request_terminator(completions)) for record in records]


def of_documents():
    """Some questions about each of two books: text in what rows share, and text behind it."""
    texts = [f"{book} {body}" for book in (BOOK, BOOK.upper()) for body in TEXTS]
    return requests_for(texts, shots=())


def choices():
    template = "{{ text }}{% for c in options %}\n- {{ c }}{% endfor %}\nAnswer:"
    prompt = Prompt(template, choices="options", text_field="text")
    renderer = prompt.renderer(WORDS, (), ("text", "options"))
    made = []
    for text in TEXTS[:4]:
        record = {"text": text, "options": [f"not {text[:3]}", "never mind", "or both"]}
        made.append(Request(renderer.render(record), tuple(map(prompt.completion, record["options"])), "longest"))
    return made


CASES = {
    "zero-shot": lambda: requests_for(shots=()),
    "shots": lambda: requests_for(),
    "documents": of_documents,
    "table": lambda: requests_with(
        Prompt(), [{"title": text[:9], "body": text, "stars": i} for i, text in enumerate(TEXTS)]
    ),
    "fields and words": lambda: requests_with(
        Prompt("{{ label_words | join(' or ') }}? {{ a }} by {{ b }}:"),
        [{"a": text, "b": "me"} for text in TEXTS],
        [({"a": "A delight.", "b": "you"}, "good")],
    ),
    "choices": choices,
    "healed": lambda: requests_with(
        Prompt("Text: {{ text }}", delimiter=""), [{"text": t} for t in ("A film, super", "so", "x")]
    ),
    "no text": lambda: requests_with(Prompt("Text: {{ text }}\nLabel:"), [{"text": text} for text in ("", "a", " ")]),
    "data that begins and ends the prompt": lambda: requests_with(Prompt("{{ text }}"), [{"text": t} for t in TEXTS]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_states_of_the_real_model(smollm2, case):
    """SmolLM2's states are those of transformers, whatever the prompt."""
    requests = CASES[case]()
    assert_as_plain(smollm2, requests[:: len(requests) // 3], parts=STATE_PARTS)


@pytest.mark.parametrize("case", CASES)
def test_states_with_tokenizers_of_each_kind(tiny, case):
    """Byte-level or of pieces, with a token before the text or without; in batches that cut shared beginnings."""
    assert_as_plain(open_backend(tiny.name, batch_tokens=40), CASES[case]())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_states_in_batches_of_any_size(tiny_bpe, case, batch_tokens):
    """One row a batch or all in one, whatever rows share."""
    assert_as_plain(open_backend(tiny_bpe.name, batch_tokens=batch_tokens), CASES[case]())


def test_states_of_a_chat(tiny_bpe):
    """The text of the last turn, and the token after which the answer begins."""
    prompt = Prompt("Review: {{ text }}!", chat=True, instruction="Good or bad?")
    shots = [({"text": "A delight."}, "good")]
    assert_as_plain(tiny_bpe, requests_with(prompt, [{"text": text} for text in TEXTS], shots))


@pytest.mark.parametrize("kind", ["byte_bpe", "sliding_window", "softcap", "no_attention"])
def test_states_of_texts_that_are_shortened(model_folder, kind):
    """Of what is left of the text, on attention of several kinds and on none."""
    backend = open_backend(f"hf:{model_folder(kind)}", context_length=100)
    answers = assert_as_plain(backend, requests_for([BOOK, *TEXTS, BOOK * 3], shots=()), 100)
    assert [answer.characters_cut > 0 for answer in answers] == [True, *[False] * len(TEXTS), True]


def test_the_definition_by_hand(smollm2):
    """The mean of hidden_states[18] over the words of the text, after that of hidden_states[24] at the last token."""
    import torch

    model, tokenizer = plain_model("smollm2")
    text = "A fine film: neither funny nor sad."
    (request,) = requests_with(Prompt("Review: {{ text }}\nSentiment:"), [{"text": text}])
    (answer,) = score(smollm2, with_states([request]))
    encoding = tokenizer(request.prompt.text, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoding.pop("offset_mapping")[0].tolist()
    start = request.prompt.text.index(text)
    words = [i for i, (first, last) in enumerate(offsets) if last > start and first < start + len(text)]
    with torch.inference_mode():
        states = model(input_ids=encoding["input_ids"], output_hidden_states=True).hidden_states
    assert len(states) == 31
    expected = torch.cat((states[24][0, -1], states[18][0, words].mean(dim=0))).numpy()
    assert len(words) == 9
    np.testing.assert_allclose(answer.states, expected, rtol=1e-4, atol=1e-4)


ARCHITECTURES = [
    "llama",
    "gpt2",
    "opt",
    "gemma2",
    "mixtral",
    "mamba",
    "bloom",
    "rwkv",
    "llama4_text",
    "phi3, longrope",
    "zamba2",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_states_on_every_route(name):
    """Tries, pairs, or one for short rows and the other for long ones; layers of any name, also those that are used twice."""
    engine = loaded(tiny_model(name))
    asked = [
        replace(row, states=ALL_PARTS, text_tokens=((1, 3), (4, max(5, len(row.context) - 1))))
        for row in rows((6, 12, 50))
    ]
    for batch_tokens in BATCHES:
        taken = {}
        answers, without = dict(engine.score(asked, batch_tokens, taken)), dict(engine.score(asked, batch_tokens))
        for i, row in enumerate(asked):
            for ours, plain in zip(answers[i], without[i], strict=True):
                np.testing.assert_array_equal(ours, plain)
            pairs = np.split(taken[i], len(ALL_PARTS)), np.split(plain_states(engine.calls, row, 4), len(ALL_PARTS))
            assert all(map(agree, *pairs))


def test_an_architecture_without_plain_states_is_refused():
    """It shows several streams as one state: one error, which names what can be used instead; its scores are there."""
    engine = loaded(tiny_model("gemma3n_text"))
    asked = rows((6, 12))
    with pytest.raises(
        ModelError, match=r"Gemma3nForCausalLM shows no hidden states .* use features='tfidf' or Embeddings"
    ):
        dict(engine.score([replace(row, states=STATE_PARTS) for row in asked], 64, {}))
    assert len(dict(engine.score(asked, 64, {}))) == 2


def test_half_precision_is_right_within_its_rounding():
    """bfloat16 has 8 bits; states are read where float32 shows that they stand."""
    import torch

    model = tiny_model("llama").to(torch.bfloat16)
    engine = loaded(model)
    asked = [replace(row, states=ALL_PARTS, text_tokens=((1, 5),)) for row in rows((6, 12, 50))]
    taken = {}
    dict(engine.score(asked, 60, taken))
    for i, row in enumerate(asked):
        plain = plain_states(engine.calls, row, 4)
        assert taken[i].dtype == np.float32
        assert np.sqrt(np.mean((taken[i] - plain) ** 2)) < 0.02 * np.sqrt(np.mean(plain**2))


def test_states_come_from_the_same_passes(tiny_bpe, monkeypatch):
    """The model reads as often, and as many tokens, as it does for scores alone; also on the pair route."""
    read = []
    hook = tiny_bpe.model.register_forward_pre_hook(
        lambda module, args, named: read.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    try:
        score(tiny_bpe, with_states(requests_for()))  # where the states stand is looked up once
        for requests in (requests_for(), of_documents()):
            for route in ("trie", "pairs"):
                monkeypatch.setattr(type(tiny_bpe._loaded), "route_of", lambda engine, row, route=route: route)
                counts = []
                for asked in (requests, with_states(requests)):
                    tiny_bpe._loaded._prefixes.clear()
                    read.clear()
                    score(tiny_bpe, asked)
                    counts.append(list(read))
                assert counts[0] == counts[1]
                assert counts[0]
    finally:
        hook.remove()


def test_nothing_is_watched_where_no_states_are_asked(tiny_bpe, monkeypatch):
    """Scores alone cost what they did."""
    monkeypatch.setattr(PassReader, "__init__", lambda *args: pytest.fail("states are read that nobody asked for"))
    assert_same(score(tiny_bpe, requests_for()), score(reference_for(tiny_bpe), requests_for()))


def test_rows_that_ask_for_other_states_share_a_batch(tiny_bpe):
    """Each gets what it asks for, in its order; rows that ask for none get none."""
    requests = of_documents()
    wishes = [(), STATE_PARTS, ALL_PARTS, STATE_PARTS[::-1], (StatePart("last", 1.0),)]
    asked = [replace(request, states=wishes[i % len(wishes)]) for i, request in enumerate(requests)]
    answers, expected = score(tiny_bpe, asked), score(reference_for(tiny_bpe), asked)
    assert answers == score(tiny_bpe, requests)
    assert [answer.state_parts for answer in answers] == [request.states for request in asked]
    asking = [i for i, request in enumerate(asked) if request.states]
    assert_states([answers[i] for i in asking], [expected[i] for i in asking])
    assert all(answers[i].states is None for i in range(0, len(asked), len(wishes)))


def test_what_was_asked_before_changes_no_digit_of_a_state(tiny_bpe):
    """Beginnings that are kept without states, with those of other layers, or not at all."""
    requests = of_documents()
    expected = [answer.states for answer in score(tiny_bpe, with_states(requests))]
    for before in ((), (StatePart("text", 1.0),), ALL_PARTS):
        score(tiny_bpe, with_states(requests[::-1], before))
        again = [answer.states for answer in score(tiny_bpe, with_states(requests))]
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("kind", ["byte_bpe", "no_attention"])
def test_guided_rows_have_the_states_of_their_own_prompt(model_folder, kind):
    """Not those of the prompt without the row, which is read beside it."""
    backend = open_backend(f"hf:{model_folder(kind)}")
    requests = requests_for()
    processing = Processing(guidance=1.5, unconditional=requests[-1].prompt, temperature=0.7)
    assert_as_plain(backend, [replace(request, processing=processing) for request in requests])


def test_a_prompt_without_a_row_has_its_last_token(tiny_bpe):
    """For text as well: nothing of it is anybody's data."""
    prompt = Prompt("Review: {{ text }}\nSentiment:")
    request = Request(prompt.renderer(WORDS).render_unconditional(), (" good", " bad"))
    (answer,) = score(tiny_bpe, with_states([request], (StatePart("last", 0.6), StatePart("text", 0.6))))
    last, text = np.split(answer.states, 2)
    np.testing.assert_array_equal(last, text)


def test_broken_states_are_their_rows_error(model_folder):
    """NaN in a layer is never a feature."""
    backend = open_backend(f"hf:{model_folder('byte_bpe')}", context_length=99)
    engine = backend._loaded
    (answer,) = score(backend, with_states(requests_for(TEXTS[:1])))
    assert answer.error is None
    read = PassReader.vectors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PassReader, "vectors", lambda reader: [vector * np.inf for vector in read(reader)])
        (answer,) = score(backend, with_states(requests_for(TEXTS[:1])))
    assert "no finite hidden states" in answer.error
    assert answer.states is None
    assert engine is backend._loaded


@pytest.mark.parametrize(
    "part",
    [StatePart("first", 0.5), StatePart("last", 0.0), StatePart("text", 1.1), StatePart("last", float("nan")), ("last", 0.5)],
)  # fmt: skip
def test_states_that_no_model_has(tiny_bpe, part):
    """Other tokens, or a depth that is none."""
    with pytest.raises(InputError, match="states="):
        score(tiny_bpe, with_states(requests_for(), (part,)))
