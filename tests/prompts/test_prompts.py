"""Prompts: what is rendered, which pieces of it are data, and what is refused before any row is rendered."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn.base import clone

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend
from llmclf.errors import PromptError
from llmclf.prompts.rendered import RenderedPrompt, Span, Turn
from llmclf.prompts.templates import mark_turns

LABELS = ["positive", "negative"]
SHOTS = [({"text": "A delight."}, "positive"), ({"text": "Too long."}, "negative")]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=60)
MARKS = "\ue000 \ue001 \ue002 \ue000a\ue001b\ue000a\ue002 \ue100\ue1ff"


def spans_of(template: str, row: dict | None = None, **parameters) -> tuple[Span, ...]:
    row = {"text": "A fine film."} if row is None else row
    return Prompt(template, **parameters).renderer(LABELS, (), tuple(row)).render(row).turns[0].spans


def data_of(spans: tuple[Span, ...]) -> list[str]:
    return [span.text for span in spans if span.is_data]


def joined(spans: tuple[Span, ...]) -> str:
    return "".join(span.text for span in spans)


# What is rendered


def test_plain_prompt_is_one_turn():
    """Instruction, shots and text follow one another in one plain turn, with the separator between them."""
    prompt = Prompt("Review: {{ text }}\nSentiment:", instruction="Choose {{ label_words | join(' or ') }}.")
    rendered = prompt.renderer(LABELS, SHOTS).render({"text": "Superb!"})
    assert not rendered.is_chat
    assert [turn.role for turn in rendered.turns] == [None]
    assert rendered.text == (
        "Choose positive or negative.\n\n"
        "Review: A delight.\nSentiment: positive\n\n"
        "Review: Too long.\nSentiment: negative\n\n"
        "Review: Superb!\nSentiment:"
    )
    assert data_of(rendered.turns[0].spans) == [
        "positive or negative",
        "A delight.",
        "positive",
        "Too long.",
        "negative",
        "Superb!",
    ]


def test_chat_prompt_is_turns():
    """In a chat the instruction is the system turn, shots are pairs of turns, and the user speaks last."""
    prompt = Prompt("Review: {{ text }}", instruction="Choose.", chat=True)
    rendered = prompt.renderer(LABELS, SHOTS).render({"text": "Superb!"})
    assert rendered.is_chat
    assert [(turn.role, turn.text) for turn in rendered.turns] == [
        ("system", "Choose."),
        ("user", "Review: A delight."),
        ("assistant", "positive"),
        ("user", "Review: Too long."),
        ("assistant", "negative"),
        ("user", "Review: Superb!"),
    ]
    assert rendered.turns[2].spans == (Span("positive", True),)
    assert rendered.turns[-1].spans == (Span("Review: ", False), Span("Superb!", True))


def test_chat_without_instruction_has_no_system_turn():
    """A template of the author's own gets no instruction that he did not write."""
    rendered = Prompt("{{ text }}?", chat=True).renderer(LABELS).render({"text": "x"})
    assert [turn.role for turn in rendered.turns] == ["user"]


def test_default_templates():
    """Without a template a text gets a cue and an instruction, and a table one line per column."""
    text = Prompt().renderer(LABELS).render({"text": "Superb!"})
    assert text.text == "Give each text one of these labels: positive, negative.\n\nText: Superb!\nLabel:"
    row = {"title": "Jaws", "year": 1975}
    table = Prompt().renderer(LABELS, (), tuple(row)).render(row)
    assert table.text.endswith("\n\ntitle: Jaws\nyear: 1975\nLabel:")
    assert data_of(table.turns[0].spans)[1:] == ["title", "Jaws", "year", "1975"]


def test_own_template_or_choices_have_no_default_instruction():
    """The sentence that lists the labels is for the default template with the same labels for all rows."""
    assert Prompt("{{ text }}:").renderer(LABELS).render({"text": "x"}).text == "x:"
    row = {"text": "x", "options": ["a", "b"]}
    assert "labels" not in Prompt(choices="options").renderer(LABELS, (), tuple(row)).render(row).text


def test_text_keeps_its_line_breaks_and_spaces():
    """Neither the template's nor the row's white space is touched."""
    assert joined(spans_of(" {{ text }}\n", {"text": "\n a \t"})) == " \n a \t\n"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, " good"),
        ({"chat": True}, "good"),
        ({"delimiter": ""}, "good"),
        ({"delimiter": "\n", "chat": True}, "\ngood"),
        ({"terminator": "\n"}, " good\n"),
        ({"terminator": "."}, " good."),
        ({"terminator": "eos"}, " good"),
        ({"terminator": None}, " good"),
        ({"terminator": ""}, " good"),
    ],
)
def test_completion_is_delimiter_word_and_text_terminator(parameters, expected):
    """A space stands before the word in plain text, nothing in a chat; only a terminator that is text is written."""
    assert Prompt(**parameters).completion("good") == expected


def test_delimiter_stands_in_the_shots_too():
    """A shot is answered in just the form in which the model is asked."""
    prompt = Prompt("{{ text }} =>", delimiter="", separator=" ; ")
    assert prompt.renderer(LABELS, SHOTS[:1]).render({"text": "x"}).text == "A delight. =>positive ; x =>"


# Data and the author's text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Review: {{ text }}\nSentiment:", [("Review: ", False), (" a ß ", True), ("\nSentiment:", False)]),
        ("<{{ text | upper | trim }}>", [("<", False), ("A SS", True), (">", False)]),
        ("{{ text }}{{ text }}!", [(" a ß  a ß ", True), ("!", False)]),
        ("{% for c in text | trim %}[{{ c }}]{% endfor %}", "[a][ ][ß]"),
        ("{% if text %}yes{% endif %}", [("yes", False)]),
        ("{% set v = text | trim %}({{ v }})", [("(", False), ("a ß", True), (")", False)]),
        ("{{ 'quoted' }} {{ label_words[0] }}", [("quoted", True), (" ", False), ("positive", True)]),
        ("{{ '%s!' | format(text) }}", [(" a ß !", True)]),
        ("{% for i in range(2) %}{{ text | trim }},{% endfor %}", "a ß,a ß,"),
        ("{{ fields['text'] }}.", [(" a ß ", True), (".", False)]),
        ("{{ text | safe }}.", [(" a ß ", True), (".", False)]),
    ],
)
def test_every_value_that_is_printed_is_data(template, expected):
    """Fields, label words and what filters make of them are data; what stands between the tags is the author's."""
    spans = spans_of(template, {"text": " a ß "})
    if isinstance(expected, str):
        assert joined(spans) == expected
        assert all(span.is_data == (span.text.strip("[],") != "") for span in spans)
    else:
        assert [tuple(span) for span in spans] == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% set v %}{{ text }}{% endset %}Say {{ v }}.", [("Say ", False), ("Ab c", True), (".", False)]),
        ("{% set v %}x {{ text }}{% endset %}Say {{ v | upper }}", [("Say ", False), ("X AB C", True)]),
        ("{% filter upper %}say {{ text }}{% endfilter %}.", [("SAY ", False), ("AB C", True), (".", False)]),
        ("{% macro m(t) %}<{{ t }}>{% endmacro %}a {{ m(text) }}", [("a ", False), ("<Ab c>", True)]),
        ("{% macro m(t) %}<{{ t }}>{% endmacro %}a {{ m(text) | lower }}", [("a ", False), ("<ab c>", True)]),
    ],
)
def test_captured_output_stays_data(template, expected):
    """Set blocks, filter blocks and macros may change the case of what they captured without losing track of the data."""
    assert [tuple(span) for span in spans_of(template, {"text": "Ab c"})] == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a{% set v %} {{ text }} {% endset %}{{ v | trim }}", "aAb c"),
        ("a{% set v %}{{ text }}{% endset %}{{ v[:2] }}|{{ v | length }}", "aAb|4"),
        ("a{% set v %}{{ text }}{% endset %}{{ v | reverse }}", "ac bA"),
        ("a{% filter truncate(3, true, '', 0) %}{{ text }}{{ text }}{% endfilter %}", "aAb "),
        ("a{% filter replace(' ', '') %}{{ text }}{% endfilter %}", "aAbc"),
        ("a{% macro m() %}{{ text }}{% endmacro %}{{ m() | list | length }}", "a4"),
        ("{% for t in [text] recursive %}{{ loop(t) | length if t | length > 1 else t }}{% endfor %}", "4"),
    ],
)
def test_captured_output_that_is_cut_or_counted_is_right(template, expected):
    """What a template captures has no hidden characters: cutting and counting give what the author expects, as data."""
    spans = spans_of(template, {"text": "Ab c"})
    assert joined(spans) == expected
    assert "Ab c"[:2] not in "".join(span.text for span in spans if not span.is_data)


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% raw %}", "%s {percent} {0}", "{# x #}", "${x}", "\\n", MARKS])
@pytest.mark.parametrize(
    "template",
    ["T: {{ text }}\nL:", "{% set v %}{{ text }}{% endset %}T: {{ v }}\nL:", "T: {{ '%s' | format(text) }}\nL:"],
)
def test_data_is_never_rendered_again(text, template):
    """Template syntax, format codes and mark characters inside a row are plain characters."""
    spans = spans_of(template, {"text": text})
    assert spans == (Span("T: ", False), Span(text, True), Span("\nL:", False))


def test_data_in_shots_and_label_words_is_never_rendered_again():
    """Shots and label words are data like the row itself."""
    words = ["{{ 7*7 }}", "{% raw %}"]
    shots = [({"text": "{{ nope }}"}, words[0])]
    rendered = Prompt("{{ text }}:", instruction="{{ label_words | join('|') }}").renderer(words, shots)
    assert rendered.render({"text": "x"}).text == "{{ 7*7 }}|{% raw %}\n\n{{ nope }}: {{ 7*7 }}\n\nx:"


@given(TEXT)
@example(MARKS)
@example("\ue000")
@example("")
def test_rendering_is_substitution(text):
    """For any text the prompt is the template with the text in its place, and the data is exactly the text."""
    spans = spans_of("Review: {{ text }}\nSentiment:", {"text": text})
    assert joined(spans) == f"Review: {text}\nSentiment:"
    assert "".join(data_of(spans)) == text
    assert all(span.text for span in spans)


@given(TEXT, TEXT)
@example(MARKS, MARKS)
def test_spans_of_a_captured_text_are_exact(first, second):
    """Any text passes through a set block and a filter block unharmed and as data."""
    template = "{% set v %}{{ a }}{% endset %}[{{ v }}]{% filter lower %}AND {{ b }}{% endfilter %}"
    spans = spans_of(template, {"a": first, "b": second})
    assert joined(spans) == f"[{first}]{f'AND {second}'.lower()}"
    assert "".join(data_of(spans)) in (first + second.lower(), joined(spans))


@given(TEXT, st.integers(0, 80))
@example(MARKS, 3)
def test_shortening_cuts_the_text_alone(text, n_characters):
    """Instruction, shots, other fields and cue survive; of the text field the beginning stays."""
    prompt = Prompt("{{ title }}: {{ text }}\nSentiment:", instruction="Choose {{ label_words | join }}.")
    shots = [({"title": "Jaws", "text": "A delight."}, "positive")]
    row = {"title": "Ran", "text": text}
    rendered = prompt.renderer(LABELS, shots, ("title", "text")).render(row)
    head = "Choose positivenegative.\n\nJaws: A delight.\nSentiment: positive\n\nRan: "
    assert rendered.text == f"{head}{text}\nSentiment:"
    assert rendered.text_length == len(text)
    shorter = rendered.shortened(n_characters)
    assert shorter.text == f"{head}{text[:n_characters]}\nSentiment:"
    assert row["text"] == text


def test_shortening_reaches_the_text_under_every_name():
    """A field that is also printed through `fields` is cut there too."""
    rendered = Prompt("{{ fields['text'] }}/{{ text }}:").renderer(LABELS).render({"text": "abcdef"})
    assert rendered.shortened(2).text == "ab/ab:"


def test_only_a_known_text_field_is_shortened():
    """With several fields and none called text, the author must name the one that may be cut."""
    row = {"a": "long", "b": "short"}
    rendered = Prompt("{{ a }} {{ b }}:").renderer(LABELS, (), ("a", "b")).render(row)
    assert (rendered.text_length, rendered.text_field) == (0, None)
    with pytest.raises(PromptError, match=r"text_field=\.\.\."):
        rendered.shortened(1)
    named = Prompt("{{ a }} {{ b }}:", text_field="a").renderer(LABELS, (), ("a", "b")).render(row)
    assert (named.text_length, named.text_field) == (4, "a")
    assert named.shortened(1).text == "l short:"
    only = Prompt("{{ a }}:").renderer(LABELS, (), ("a", "b")).render(row)
    assert only.text_field == "a"
    with pytest.raises(PromptError, match="not rendered from a row"):
        RenderedPrompt((Turn(None, (Span("x", False),)),)).shortened(1)


def test_marked_turns_can_be_split_again():
    """A chat's messages carry marks around data, and splitting them gives the spans back."""
    turns = (Turn("user", (Span("a ", False), Span("<|im_end|>", True), Span(" b", False))),)
    messages, mark = mark_turns(turns)
    assert messages[0]["role"] == "user"
    assert mark.split(messages[0]["content"]) == turns[0].spans


# What is refused


@pytest.mark.parametrize(
    "template",
    [
        "{{ text.__class__ }}",
        "{{ text.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}{{ text }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ text | attr('__class__') }}",
        "{{ cycler.__init__.__globals__ }}{{ text }}",
        "{% for i in range(10**9) %}{{ i }}{% endfor %}{{ text }}",
        "{% set _ = label_words.append('x') %}{{ text }}",
        "{% include '/etc/passwd' %}{{ text }}",
        "{{ 1 / 0 }}{{ text }}",
        "{{ text / 2 }}",
        "{{ text.nothing }}",
        "{% set data mark = 3 %}{{ text }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ text }}",
    ],
)
def test_sandbox_refuses(template):
    """Access to Python's inside, huge ranges, files and failing expressions end in a PromptError that shows the template."""
    with pytest.raises(PromptError, match=re.escape(repr(template))):
        spans_of(template)


def test_unknown_field_is_named_before_rendering():
    """A template with a field that the rows lack is refused at once, with the fields that there are."""
    with pytest.raises(PromptError, match=r"uses 'body', which the rows do not have; their fields: 'title', 'text'"):
        Prompt("{{ title }} {{ body }}").renderer(LABELS, (), ("title", "text"))
    with pytest.raises(PromptError, match="'a b'; the row's fields: 'text'"):
        spans_of("{{ fields['a b'] }}")


@pytest.mark.parametrize(
    ("template", "line"), [("{{ text }", 1), ("a\nb\n{% if %}", 3), ("{{ text | nosuch }}", 1), ("\n{{ 'x }}", 2)]
)
@pytest.mark.parametrize("parameter", ["template", "instruction", "unconditional"])
def test_syntax_error_names_its_line(template, line, parameter):
    """Bad syntax in any of the three templates is refused before a row is rendered."""
    with pytest.raises(PromptError, match=rf"not a valid jinja2 template.*\(line {line}\)"):
        Prompt(**{"template": "{{ text }}:", parameter: template}).renderer(LABELS)


@pytest.mark.parametrize("parameter", ["instruction", "unconditional"])
def test_fixed_templates_know_label_words_alone(parameter):
    """Instruction and unconditional prompt are the same for all rows, so a field in them is refused by name."""
    with pytest.raises(PromptError, match=rf"{parameter}=\.\.\.\) uses 'text'.*label_words alone"):
        Prompt("{{ text }}:", **{parameter: "{{ label_words }} {{ text }}"}).renderer(LABELS)
    fine = Prompt("{{ text }}:", **{parameter: "{% for i in range(2) %}{{ label_words[i] }} {% endfor %}"})
    assert "{" not in fine.renderer(LABELS).render({"text": "x"}).text


@pytest.mark.parametrize("parameter", ["text_field", "choices"])
def test_named_fields_must_exist(parameter):
    """The shortened field and the column of choices must be among the rows' fields."""
    with pytest.raises(PromptError, match=rf"Prompt\({parameter}='nope'\) does not name a field.*'text'"):
        Prompt("{{ text }}:", **{parameter: "nope"}).renderer(LABELS)


def test_text_field_must_be_used():
    """Cutting a field that the template does not print could never make a prompt shorter."""
    with pytest.raises(PromptError, match="text_field='b'.*does not use; it uses 'a'"):
        Prompt("{{ a }}:", text_field="b").renderer(LABELS, (), ("a", "b"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"template": 5},
        {"instruction": ["a"]},
        {"terminator": 0},
        {"separator": None},
        {"text_field": 1},
        {"words": ["a"]},
    ],
)
def test_parameters_of_another_type_are_refused(parameters):
    """A parameter that is no text (or words that are no dict) is named when the Prompt is made."""
    with pytest.raises(PromptError, match=rf"Prompt\({next(iter(parameters))}="):
        Prompt(**parameters)


@pytest.mark.parametrize("template", ["{{ text[:range(3) | length] }}", "{% set n = namespace(x=text) %}{{ n.x }}"])
def test_functions_of_the_template_language_are_no_fields(template):
    """range, namespace and the like need no column of their name."""
    assert joined(spans_of(template, {"text": "abc"})) == "abc"


def test_used_fields():
    """Only the fields that the template reads are needed; `fields` reads all."""
    names = ("a", "b", "c")
    assert Prompt("{{ a }}{% if c %}.{% endif %}").renderer(LABELS, (), names).used_fields == ("a", "c")
    assert Prompt("{{ fields }}").renderer(LABELS, (), names).used_fields == names


# The prompt without a row


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Review: {{ text }}\nSentiment:", "Sentiment:"),
        ("{% if text %}{{ text }}{% endif %} The mood is", "The mood is"),
        ("{{ text }}{# note #}\n\nLabel:", "Label:"),
        (None, "Label:"),
    ],
)
def test_unconditional_prompt_is_the_cue(template, expected):
    """By default it is what follows the last field of the template."""
    rendered = Prompt(template).renderer(LABELS, SHOTS).render_unconditional()
    assert (rendered.text, rendered.turns[0].role) == (expected, None)
    assert Prompt(template, chat=True).renderer(LABELS).render_unconditional().turns[0].role == "user"


def test_unconditional_prompt_can_be_given():
    """A custom one may name the label words; a template without a cue needs one."""
    prompt = Prompt("{{ text }}", unconditional="One of {{ label_words | join('/') }}:")
    assert prompt.renderer(LABELS).render_unconditional().text == "One of positive/negative:"
    with pytest.raises(PromptError, match=r"Prompt\(unconditional=\.\.\.\)"):
        Prompt("Review: {{ text }}").renderer(LABELS).render_unconditional()


@pytest.mark.parametrize(
    ("terminator", "plain", "nested"),
    [
        ("auto", "auto", "longest"),
        ("eos_if_nested", "auto", "auto"),
        ("eos", "eos", "eos"),
        (None, None, None),
        ("\n", None, None),
    ],
)
def test_only_labels_that_begin_others_need_another_question(terminator, plain, nested):
    """Where none does, the question keeps the form under which earlier versions kept its answer."""
    prompt = Prompt(terminator=terminator)
    assert prompt.request_terminator([" good", " bad"]) == plain
    assert prompt.request_terminator([" good", " Goodness", " bad"]) == nested


# Prompts as values

FULL = Prompt(
    "{{ a }}\nX:",
    instruction="Do it.",
    words={"pos": ["good", "great"], 0: "bad", True: "yes"},
    delimiter="",
    separator="\n",
    terminator="\n",
    chat=True,
    text_field="a",
    choices="c",
    unconditional="X:",
)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt("{{ text }}"),
        FULL,
        Prompt(words={"a": ("x", "y")}),
        *(Prompt(terminator=terminator) for terminator in ("eos", "eos_if_nested", "longest", None, "")),
    ],
)
def test_prompts_are_values(prompt):
    """Copies, pickles and dicts give an equal prompt with an equal hash."""
    copies = [copy.deepcopy(prompt), copy.copy(prompt), pickle.loads(pickle.dumps(prompt))]
    assert all(other == prompt and hash(other) == hash(prompt) for other in copies)
    again = Prompt.from_dict(prompt.to_dict())
    assert again.to_dict() == prompt.to_dict()
    assert again == prompt or isinstance(prompt.words["a"], tuple)


@given(st.dictionaries(st.sampled_from(["a", "b", 0, 1, 2.5]), st.one_of(TEXT, st.lists(TEXT)), max_size=4), TEXT, TEXT)
def test_dict_form_is_lossless(words, template, separator):
    """Every prompt survives the way to plain values and back, also through JSON's lists."""
    prompt = Prompt(template, words=words, separator=separator)
    again = Prompt.from_dict(prompt.to_dict())
    assert again == prompt
    assert hash(again) == hash(prompt)
    assert list(again.words) == list(words)


@given(TEXT, TEXT)
def test_prompts_that_differ_are_unequal(first, second):
    """Equality looks at every parameter."""
    assume(first != second)
    assert Prompt(first) != Prompt(second)
    assert Prompt("x", separator=first) != Prompt("x", separator=second)
    assert Prompt("x", words={"a": first}) != Prompt("x", words={"a": second})


def test_unknown_keys_of_a_dict_are_named():
    """A dict of another version is not read halfway."""
    with pytest.raises(PromptError, match=r"unknown prompt parameters \['temperature'\]"):
        Prompt.from_dict({"template": "x", "temperature": 1})


@pytest.mark.parametrize(
    "change",
    [{"chat": "false"}, {"chat": None}, {"nested": "shortest"}, {"nested": 1}, {"template": 3}, {"separator": None}],
)
def test_what_is_no_prompt_is_not_read(change):
    """A dict that lacks a parameter, or has one of another kind, is no prompt that was written."""
    whole = Prompt("{{ text }}:").to_dict()
    assert Prompt.from_dict(whole) == Prompt("{{ text }}:")
    with pytest.raises(PromptError):
        Prompt.from_dict({**whole, **change})
    for name in Prompt().to_dict().keys() - {"nested"}:
        with pytest.raises(PromptError, match=f"lacks the parameter '{name}'"):
            Prompt.from_dict({key: value for key, value in whole.items() if key != name})


def test_prompt_survives_clone():
    """scikit-learn's clone of an estimator keeps its prompt."""
    classifier = LLMClassifier(FakeBackend(), labels=LABELS, prompt=FULL)
    assert clone(classifier).prompt == FULL


def test_equal_rows_give_equal_prompts():
    """A rendered prompt compares and hashes by what it says, not by how it came about."""
    one, two = (Prompt("{{ text }}:").renderer(LABELS).render({"text": "x"}) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
