"""Spaces between prompt and word: two of them are another text than was meant, and one is harmless wherever it stands."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend
from llmclf.errors import PromptWarning
from llmclf.jobs import label_table

LABELS = ["good", "bad"]
TEXTS = ["A fine film.", "Awful."]


def messages(prompt: Prompt | str, labels=LABELS, texts=TEXTS, **options) -> list[str]:
    """What a fit and two predictions warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = LLMClassifier(FakeBackend(), labels=labels, prompt=prompt, **options).fit(texts)
        clf.predict(TEXTS)
        clf.predict(TEXTS)
    assert all(issubclass(warning.category, PromptWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "end",
    [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b", "{% if text %} {% endif %}", "{% set x = 1 %} {# note #}"],
)
def test_a_prompt_that_ends_with_a_space_is_warned_of_once(end):
    """The delimiter adds a second one: one warning at fit, none at predict, and the cure is in it."""
    (message,) = messages(f"Review: {{{{ text }}}}\nSentiment:{end}")
    assert "the delimiter ' ' follows" in message
    assert "Prompt(delimiter='')" in message


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        (Prompt("{{ text }}\nSentiment: ", delimiter=""), LABELS),
        (Prompt("{{ text }}\n### Response:\n", delimiter=""), LABELS),
        (Prompt("{{ text }}\nSentiment:", delimiter=""), [" good", " bad"]),
        (Prompt("{{ text }}\nSentiment:"), ["very good", "bad"]),
        (Prompt("{{ text }}\nSentiment:", terminator="\n"), LABELS),
        (Prompt("{{ text }}\nSentiment:"), ["good\n", "bad\n"]),
        (Prompt("{{ text }} ", chat=True), LABELS),
        (Prompt("{{ text }}", chat=True, delimiter=" "), LABELS),
    ],
)
def test_one_space_is_harmless(prompt, labels):
    """Where only one of prompt, delimiter and word brings the space, what is scored is what was meant."""
    assert messages(prompt, labels) == []


@pytest.mark.parametrize(
    ("prompt", "labels", "cure"),
    [
        (Prompt("{{ text }}\nSentiment:"), [" good", " bad"], "begins with a space"),
        (Prompt("{{ text }}\nSentiment:"), {"pos": ["good", "\ngreat"], "neg": "bad"}, "begins with a space"),
        (Prompt("{{ text }}\nSentiment: ", delimiter=""), [" good", "bad"], "begins with a space"),
        (Prompt("{{ text }}", chat=True), [" good", "bad"], "a chat's answer would begin with a space"),
        (Prompt("{{ text }}\nSentiment:"), ["good ", "bad "], "ends with a space"),
        (Prompt("{{ text }}\nSentiment:"), ["good", "bad\n"], "ends with a space"),
    ],
)
def test_words_with_spaces_around_are_warned_of_once(prompt, labels, cure):
    """A space before a word that has one already, or after it, is probably not meant."""
    (message,) = messages(prompt, labels)
    assert cure in message
    assert "write it without" in message


def test_spaces_of_the_row_are_warned_of_where_they_are():
    """A template that ends with a field ends as the row does; rows without a space at their end give no warning."""
    clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ text }}").fit(TEXTS)
    clf.predict(TEXTS)
    with pytest.warns(PromptWarning, match=r"in 2 of 3 rows \(first: row 1\) the prompt ends with ' '.*trim") as caught:
        clf.predict(["x", "because ", "so\n"])
    assert len(caught) == 1
    assert messages("{{ text }}:", texts=["x ", "y "]) == []


def test_the_prompt_without_the_row_is_looked_at_too():
    """It continues with the same delimiter."""
    (message,) = messages(Prompt("{{ text }}\nLabel:", unconditional="Label: "), scoring="pmi")
    assert "the prompt without the row ends with ' '" in message


def test_a_job_warns_as_well():
    """A labelling job says it once, before it asks."""
    with pytest.warns(PromptWarning, match="the delimiter ' ' follows") as caught:
        label_table(
            pd.DataFrame({"t": TEXTS}),
            text_column="t",
            labels=LABELS,
            model=FakeBackend(),
            prompt="{{ text }}\nLabel: ",
        )
    assert len(caught) == 1
