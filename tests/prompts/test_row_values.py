"""Which characters of a prompt are the row's own data: not those of shots, label words or field names, in any template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf import Prompt
from llmclf.prompts.rendered import RenderedPrompt, Span, Turn

WORDS = ["good", "bad"]


def own(prompt: RenderedPrompt) -> list[str]:
    """The row's own pieces of the last turn's text."""
    return [prompt.turns[-1].text[start:stop] for start, stop in prompt.row_ranges]


def rendered(prompt, row, shots=(), n_characters=None):
    return prompt.renderer(WORDS, shots, tuple(row)).render(row, n_characters)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, ["a film", "2.5"]),
        ("{{ text }}", ["a film"]),
        ("{{ text }}{{ stars }}:", ["a film2.5"]),
        ("{{ text | upper }} ({{ stars }}):", ["A FILM", "2.5"]),
        ("{% for name, value in fields.items() %}{{ name }}={{ value }};{% endfor %}", ["a film", "2.5"]),
        ("{% for name, value in fields | dictsort %}{{ name }}={{ value }};{% endfor %}", ["2.5", "a film"]),
        ("{% for name in fields.keys() %}{{ name }}: {{ fields[name] }}\n{% endfor %}", ["a film", "2.5"]),
        ("{% for name in fields %}{{ name }}: {{ fields[name] }}\n{% endfor %}", ["a film", "2.5"]),
        ("{{ fields | join('/') }} {{ text }}:", ["a film"]),
        ("{{ label_words | join(', ') }}? {{ text }}:", ["a film"]),
        ("{{ label_words[0] }}{{ text }}{{ label_words[1] }}:", ["a film"]),
        ("{% for word in label_words %}{{ loop.index }}. {{ word }}\n{% endfor %}{{ text }}:", ["a film"]),
        ("{% set words = label_words | join(' or ') %}{{ text }}: {{ words }}?", ["a film"]),
        ("{% set shown = text | trim %}{{ shown }}:", ["a film"]),
        ("{% set shown = label_words[0] ~ text %}{{ shown }}:", ["gooda film"]),
        ("{% if stars > 2 %}{{ 'many' }} stars: {% endif %}{{ text }}", ["a film"]),
        ("{% for text in label_words %}{{ text }} {% endfor %}{{ text }}:", ["good", "bad", "a film"]),
        ("{% macro show(x) %}<{{ x }}>{% endmacro %}{{ show(text) }}:", ["<a film>"]),
        ("{% set t %}{{ text }}!{% endset %}{{ t }}:", ["a film!"]),
        ("{% set t %}  {{ text }}  {% endset %}{{ t | trim }} it is:", ["a film"]),
        ("{% set t %}{{ text }}{% endset %}{{ t[:3] }}, it is:", ["a f, it is:"]),
        ("{{ fields }}:", ["{'text': 'a film', 'stars': 2.5}"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("n_shots", [0, 2])
def test_the_rows_own_data_is_found_in_any_template(template, expected, chat, n_shots):
    """Values of fields, however they are filtered, assigned or looped over; of a block that is captured and changed, all."""
    row = {"text": "a film", "stars": 2.5}
    shots = [({"text": "a film", "stars": 5}, "good")] * n_shots
    prompt = rendered(Prompt(template, chat=chat), row, shots)
    assert own(prompt) == expected
    if n_shots and not chat:
        assert prompt.row_ranges[0][0] > prompt.text.lower().index("a f")


def test_data_directly_behind_a_shots_word_is_told_apart():
    """Without any text between them, the word of a shot and the text of the row are one piece of data, of two owners."""
    prompt = rendered(Prompt("{{ text }}", separator="", delimiter=""), {"text": "good"}, [({"text": "x"}, "good")])
    assert prompt.turns[0].spans == (Span("xgoodgood", True),)
    assert prompt.row_ranges == ((5, 9),)


def test_choices_that_the_prompt_shows_are_the_rows_own():
    """Each row brings its own list of answers."""
    template = "{{ question }}{% for c in choices %}\n- {{ c }}{% endfor %}\nAnswer:"
    prompt = Prompt(template, choices="choices", text_field="question")
    row = {"question": "Why?", "choices": ["so", "or so"]}
    assert own(rendered(prompt, row)) == ["Why?", "so", "or so"]


def test_shortened_text_and_prompts_without_a_row():
    """What is cut is gone; the prompt of the task has nothing of a row, nor has one that is written by hand."""
    renderer = Prompt("Text: {{ text }}:").renderer(WORDS)
    prompt = renderer.render({"text": "abcdef"})
    assert own(prompt.shortened(3)) == ["abc"]
    assert own(renderer.render({"text": ""})) == []
    assert renderer.render_unconditional().row_ranges == ()
    assert RenderedPrompt((Turn(None, (Span("x", True),)),)).row_ranges == ()


def test_prompts_are_compared_without_it():
    """Where a row's data begins is no part of a question, so that answers which are kept stay known."""
    one = rendered(Prompt("{{ text }}:"), {"text": "x"})
    other = RenderedPrompt(one.turns, one.text_length)
    assert one == other
    assert hash(one) == hash(other)
    assert "row_ranges" not in repr(one)


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.sampled_from(WORDS)), max_size=2))
def test_all_of_the_rows_text_and_nothing_else(a, b, shots):
    """Whatever texts hold (marks, braces, what the template says), their characters are found where they stand."""
    prompt = Prompt("{{ a }}; {{ label_words[0] }}{{ b | string }}; {{ a }}", separator="{{ a }}")
    made = rendered(prompt, {"a": a, "b": b}, [({"a": text, "b": text}, word) for text, word in shots])
    assert own(made) == [piece for piece in (a, b, a) if piece]
    assert made.text[-len(f"{a}; good{b}; {a}") :] == f"{a}; good{b}; {a}"
