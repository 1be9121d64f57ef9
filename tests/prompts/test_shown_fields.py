"""What a template shows of a row: one that shows nothing is refused, with a hint where a field is written in another way."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from llmclf import LLMClassifier, Prompt, load
from llmclf.backends import FakeBackend, LocalBackend
from llmclf.errors import PromptError, PromptWarning, StoreError
from llmclf.jobs import label_table
from llmclf.prompts.shown_fields import shown_variables

LABELS = ["joy", "fear"]
TEXTS = ["What a day!", "Help!"]


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        ("Tweet: {text}\nEmotion:", r"'\{text\}'"),
        ("Tweet: {text!r}\nEmotion:", r"'\{text!r\}'"),
        ("Tweet: {text.lower()}\nEmotion:", r"text\.lower\(\)"),
        ("Tweet: {}\nEmotion:", r"'\{\}'"),
        ("Tweet: {0}\nEmotion:", r"'\{0\}'"),
        ("Tweet: {tweet}\nEmotion:", r"'\{tweet\}'"),
        ("Tweet: $text\nEmotion:", r"'\$text'"),
        ("Tweet: ${text}\nEmotion:", r"'\$\{text\}'"),
        ("Tweet: %s\nEmotion:", "'%s'"),
        ("Tweet: %(text)s\nEmotion:", r"'%\(text\)s'"),
        ("Tweet: <text>\nEmotion:", "'<text>'"),
        ("Tweet: [text]\nEmotion:", r"'\[text\]'"),
        ("Tweet: [[text]]\nEmotion:", r"'\[\[text\]\]'"),
        ("{% raw %}Tweet: {{ text }}{% endraw %}\nEmotion:", r"\{\{ text \}\}"),
        ("Which emotion?", "two braces"),
        ("", "two braces"),
        ("{# {{ text }} #}Emotion:", "two braces"),
        ("{{ 'text' }}\nEmotion:", "two braces"),
        ("{% set t = text %}Emotion:", "two braces"),
        ("{% macro m() %}{{ text }}{% endmacro %}Emotion:", "two braces"),
        ("{% set text = 'x' %}{{ text }}:", "two braces"),
        ("{% for text in label_words %}{{ text }}{% endfor %}:", "two braces"),
        ("{% for name in fields %}{{ name }}: {% endfor %}", "two braces"),
        ("{{ fields | join(', ') }}:", "two braces"),
        ("{{ label_words | join(', ') }}:", "two braces"),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_a_template_that_shows_nothing_is_refused(template, hint, chat):
    """It would give all rows the same answer; the error shows the cure, and what was probably meant for a field."""
    clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt=Prompt(template, chat=chat))
    with pytest.raises(PromptError, match=rf"(?s)shows nothing of the row.*{hint}.*\{{\{{ text \}}\}}"):
        clf.fit(TEXTS)


@pytest.mark.parametrize(
    "template",
    [
        "{{ text }}:",
        "{{ fields.text }}:",
        "{{ fields['text'] }}:",
        "{% for name, value in fields.items() %}{{ name }}={{ value }} {% endfor %}:",
        "{% for name in fields %}{{ fields[name] }} {% endfor %}:",
        "{{ fields }}:",
        "{{ fields.values() | join }}:",
        "{% if 'day' in text %}a{% else %}b{% endif %}:",
        "{{ 'a' if text else 'b' }}:",
        "{% set t = text | trim %}{% set u = t | upper %}{{ u }}:",
        "{% set t %}<{{ text }}>{% endset %}{{ t }}:",
        "{% filter upper %}{{ text }}{% endfilter %}:",
        "{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(text) }}:",
        "{% with t = text %}{{ t }}{% endwith %}:",
        "{% for c in text %}{{ loop.index }}{% endfor %}:",
        "{% set n = namespace(t='') %}{% for c in text %}{% set n.t = n.t ~ c %}{% endfor %}{{ n.t }}:",
        "<text>{{ text }}</text> {json}:",
    ],
)
def test_a_template_that_shows_the_row_somehow_is_taken(template):
    """Through a branch, a filter, a loop, an assignment or a macro: all of them show the row."""
    LLMClassifier(FakeBackend(), labels=LABELS, prompt=template).fit(TEXTS).predict(TEXTS)


def test_choices_of_the_row_need_no_field():
    """Rows that bring their own choices get different answers whatever the template says."""
    frame = pd.DataFrame({"options": [["a", "b"], ["c", "d"]]})
    LLMClassifier(FakeBackend(), labels=LABELS, prompt=Prompt("Which?", choices="options")).fit(frame).predict(frame)


def test_a_field_beside_a_real_one_is_warned_of():
    """A template that shows one field, and another only in single braces, is asked, with one warning."""
    frame = pd.DataFrame({"title": ["a", "b"], "body": ["c", "d"]})
    with pytest.warns(PromptWarning, match=r"template=\.\.\.\) says '\{body\}'.*two braces") as caught:
        clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ title }}: {body}\nMood:").fit(frame)
    assert len(caught) == 1
    clf.predict(frame)
    with pytest.warns(PromptWarning, match=r"instruction=\.\.\.\) says '\{label_words\}'"):
        LLMClassifier(FakeBackend(), labels=LABELS, prompt=Prompt(instruction="One of {label_words}.")).fit(TEXTS)


def test_jobs_refuse_it_before_anything_is_asked():
    """A labelling job says the same."""
    frame = pd.DataFrame({"tweet": TEXTS})
    for options in ({"text_column": "tweet"}, {}):
        with pytest.raises(PromptError, match=r"'\{tweet\}' is plain text"):
            label_table(frame, labels=LABELS, model=FakeBackend(), prompt="Tweet: {tweet}\nMood:", **options)


def test_a_saved_folder_of_such_a_template_is_refused(tmp_path):
    """A classifier that an earlier version saved so is not loaded, and the error shows the cure."""
    LLMClassifier(LocalBackend("smollm2"), labels=LABELS, prompt="Tweet: {{ text }}\nMood:").fit(TEXTS).save(
        tmp_path / "a"
    )
    file = tmp_path / "a" / "classifier.json"
    values = json.loads(file.read_text())
    values["prompt"]["template"] = "Tweet: {text}\nMood:"
    file.write_text(json.dumps(values))
    with pytest.raises((StoreError, PromptError), match="shows nothing of the row"):
        load(tmp_path / "a")


def test_shown_variables_are_those_from_outside():
    """Names that a template makes itself are not among them."""
    assert shown_variables("{% set a = b %}{{ a }}{{ c }}{% set d = e %}") == {"b", "c"}
