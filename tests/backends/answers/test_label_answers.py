"""An answer is one label, by the stated rules, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.answers.label_answers import LabelReader

MOODS = ["positive", "negative", "neutral", "neutral news"]


def read(labels, answer):
    place = LabelReader(labels).place(answer)
    return None if place is None else labels[place]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ("**NEGATIVE**", "negative"),
        ('"neutral"', "neutral"),
        ("- neutral news", "neutral news"),
        ("neutral   news", "neutral news"),
        ("Answer: positive", "positive"),
        ("**Answer:** positive", "positive"),
        ("The final answer is: **Negative**", "negative"),
        ("The label is neutral", "neutral"),
        ("positive\n\nBecause the film is praised.", "positive"),
        ("Sentiment: negative\nReason: it is called long.", "negative"),
        ("positive\nnegative", None),
        ("positive, negative", None),
        ("not positive", None),
        ("positive or negative", None),
        ("positively", None),
        ("pos", None),
        ("neutral new", None),
        ("I think it is positive", None),
        ("I cannot help with that.", None),
        ("", None),
        (" \n ", None),
        ("...", None),
        ("positiv", None),
        ("<html>positive</html>", None),
        ("{'label': 'positive'}", None),
    ],
)
def test_rules(answer, label):
    """Case, punctuation, lines and lead-ins as the module states them; anything else is none."""
    assert read(MOODS, answer) == label


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (["positif", "négatif"], "Ne\u0301gatif !", "négatif"),  # composed and not
        (["肯定", "否定"], "「肯定」。", "肯定"),
        (["положительный", "отрицательный"], "ПОЛОЖИТЕЛЬНЫЙ", "положительный"),
        (["إيجابي", "سلبي"], "إيجابي.", "إيجابي"),
        (["सकारात्मक", "नकारात्मक"], "नकारात्मक।", "नकारात्मक"),
        (["STRASSE", "weg"], "straße", "STRASSE"),
        (["👍", "👎"], " 👍 ", "👍"),
        (["👍", "👎"], "👍!", "👍"),
        (["C", "C++", "C#"], "c++", "C++"),
        (["C", "C++", "C#"], "C.", "C"),
        (["C", "C++", "C#"], "C#.", "C#"),
        (["C++", "Java"], "C", None),  # signs that have a meaning are not taken off, of the answer or of the label
        (["C++", "Java"], "C#", None),
        (["C++", "Java"], "**C++**", "C++"),
        (["-1", "0"], "1", None),
        (["-1", "0"], "+1", None),
        (["-1", "0"], "-1.", "-1"),
        (["-1", "0"], "- 0", "0"),
        ([">5", "3"], "<5", None),
        (["5", "3"], ".5", None),
        (["5", "3"], "5%", None),
        (["Yes!", "No"], "yes", "Yes!"),
        (["US", "us"], "us", "us"),
        (["US", "us"], "Us", None),
        (["topic", "answer"], "answer", "answer"),
        (["1", "10"], "10", "10"),
        (["yes", "no"], "no.", "no"),
    ],
)
def test_other_scripts_and_labels_that_are_nearly_alike(labels, answer, label):
    """Whatever the script; and what two labels share tells nothing."""
    assert read(labels, answer) == label


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip),
        min_size=1,
        unique_by=str.strip,
    )
)
def test_every_label_is_itself(labels):
    """As it is written, a label is that label and no other."""
    labels = [label.strip() for label in labels]
    for label in labels:
        if len([line for line in label.splitlines() if line.strip()]) == 1:
            assert read(labels, label) == label


@given(st.text(), st.sampled_from(MOODS), st.text())
def test_an_answer_holds_the_label_that_it_is(before, label, after):
    """Whatever stands around a label, no other label is read that the answer does not hold."""
    found = read(MOODS, before + label + after)
    assert found is None or found in (before + label + after).casefold() or found == "neutral news"
    if any(sign.isalnum() for sign in before) and "\n" not in before + after:
        assert found is None or found in (before + label + after).casefold()


def test_long_answers_take_no_time():
    """A megabyte of spaces or of lead-ins is read at once."""
    for text in ("answer" + " " * 10**6, "answer is " * 10**5, "\n" * 10**6):
        assert read(MOODS, text) is None
