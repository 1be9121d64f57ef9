"""Columns that hold the answer: which are recognised, which are not, and what a prompt does with them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from llmclf import LLMClassifier, load
from llmclf.backends import FakeBackend, LocalBackend
from llmclf.errors import InputError, PromptWarning
from llmclf.fitting.answer_columns import answer_columns
from llmclf.jobs import label_table
from llmclf.labels import label_set
from llmclf.tables import read_rows

LABELS = ["good", "bad", "so-so"]
Y = [LABELS[i % 3] for i in range(30)]
TEXTS = [f"text number {i}" for i in range(30)]


def found(columns: dict, y=Y, labels=None, **options) -> dict[str, bool]:
    labels = label_set(LABELS if labels is None else labels)
    rows = read_rows(pd.DataFrame(columns))
    return answer_columns(rows, None if y is None else labels.indices(y), labels, text_field="text", **options)


@pytest.mark.parametrize(
    ("column", "says_it"),
    [
        (Y, True),
        ([label.upper() for label in Y], True),
        ([f" {label}\n" for label in Y], True),
        ([LABELS.index(label) for label in Y], False),
        ([float(LABELS.index(label)) for label in Y], False),
        ([{"good": "++", "bad": "--", "so-so": "~"}[label] for label in Y], False),
        ([label[0] for label in Y], False),
    ],
)
def test_copies_of_the_label_are_recognised(column, says_it):
    """Equal to y, in another case, with spaces around, or encoded: all of them give the answer away."""
    assert found({"text": TEXTS, "copy": column}) == {"copy": says_it}


def test_a_copy_with_a_gap_is_a_copy():
    """A column of codes in which one value is missing, and which therefore holds floats, gives the answer away as well."""
    codes = [float(LABELS.index(label)) for label in Y]
    codes[0] = float("nan")
    assert found({"text": TEXTS, "copy": codes}) == {"copy": False}


def test_one_column_per_class_is_a_copy():
    """Columns that say of each class whether it is this one hold the answer together."""
    columns = {f"is_{label}": [int(one == label) for one in Y] for label in LABELS}
    assert found({"text": TEXTS, **columns}) == dict.fromkeys(columns, False)


@pytest.mark.parametrize(
    "column",
    [
        TEXTS,
        list(range(30)),
        [i % 5 for i in range(30)],
        ["same"] * 30,
        [LABELS[(i // 2) % 3] for i in range(30)],
        [label == "good" for label in Y],
    ],
)
def test_other_columns_are_not_copies(column):
    """Numbers of rows, texts, constants, other people's labels and a hint at one class of three are shown as before."""
    assert found({"text": TEXTS, "other": column}) == {}


def test_few_rows_prove_nothing():
    """A column that divides four rows as y does may do so by chance; one that says their words, or has y's name, does not."""
    y = ["good", "bad", "bad", "good"]
    assert found({"text": TEXTS[:4], "stars": [5, 1, 1, 5]}, y) == {}
    assert found({"text": TEXTS[:4], "mood": y}, y) == {"mood": True}
    yes_no = ["yes", "no", "no", "yes"]
    assert found({"text": TEXTS[:4], "reply": yes_no}, yes_no, ["yes", "no"]) == {}
    assert found({"text": TEXTS[:4], "reply": yes_no}, yes_no, ["yes", "no"], y_name="reply") == {"reply": True}


def test_a_repeated_text_is_no_copy():
    """Texts may repeat and go with y one to one; only a text that says the label's own words is the label."""
    assert found({"text": [{"good": "Fine.", "bad": "Awful.", "so-so": "Well."}[y] for y in Y]}) == {}
    assert found({"text": Y}) == {"text": True}


def test_without_y_the_labels_words_are_recognised():
    """A table to be labelled that has the labels already says so, but for values that many columns have."""
    assert found({"text": TEXTS, "mood": Y}, None) == {"mood": True}
    assert found({"text": TEXTS, "reply": ["yes", "no"] * 15}, None, ["yes", "no"]) == {}


@pytest.mark.parametrize("n_shots", [0, 3])
@pytest.mark.parametrize("name", ["label", "mood"])
def test_a_default_prompt_never_shows_the_label(name, n_shots):
    """With the whole data frame as X, neither the row nor the shots show y, and a warning says so once."""
    frame = pd.DataFrame({"review": TEXTS, "year": [1990 + i % 7 for i in range(30)], name: Y})
    clf = LLMClassifier(FakeBackend(), labels=LABELS, n_shots=n_shots, random_state=0)
    with pytest.warns(PromptWarning, match=rf"leaves out the column '{name}'") as caught:
        clf.fit(frame, frame[name])
    assert len(caught) == 1
    scorer = clf.pipeline_.scorer
    assert scorer.used_fields == ("review", "year")
    text = scorer.request(frame.iloc[0].to_dict()).prompt.text
    assert f"{name}:" not in text
    assert text.count("review:") == 1 + n_shots


def test_the_label_may_be_there_or_not_afterwards(tmp_path):
    """Rows to be predicted may have the column or lack it, also after save and load, and get the same answer."""
    frame = pd.DataFrame({"review": TEXTS, "label": Y, "year": [1990 + i % 7 for i in range(30)]})
    clf = LLMClassifier(FakeBackend(), labels=LABELS)
    with pytest.warns(PromptWarning, match="leaves out"):
        clf.fit(frame, frame["label"])
    expected = clf.predict_proba(frame)
    without = frame.drop(columns="label")
    np.testing.assert_array_equal(clf.predict_proba(without), expected)
    np.testing.assert_array_equal(clf.predict_proba(without.to_dict("records")), expected)
    with pytest.raises(ValueError, match="year"):
        clf.predict(without.drop(columns="year"))
    local = LLMClassifier(LocalBackend("smollm2"), labels=LABELS)
    with pytest.warns(PromptWarning, match="leaves out"):
        local.fit(frame, frame["label"])
    local.save(tmp_path / "clf")
    assert load(tmp_path / "clf").pipeline_.scorer.used_fields == ("review", "year")
    load(tmp_path / "clf").pipeline_and_rows(without)


def test_a_template_that_shows_the_label_is_warned_of():
    """The author's own template is asked as he wrote it, with one warning; one that does not show the label has none."""
    frame = pd.DataFrame({"review": TEXTS, "label": Y})
    shows = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ review }} ({{ label }}):")
    with pytest.warns(PromptWarning, match="shows the column 'label': gives the answer away"):
        shows.fit(frame, frame["label"])
    loops = "{% for name, value in fields.items() %}{{ name }}: {{ value }}\n{% endfor %}Mood:"
    with pytest.warns(PromptWarning, match="shows the column 'label'"):
        LLMClassifier(FakeBackend(), labels=LABELS, prompt=loops).fit(frame, frame["label"])
    LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ review }}:").fit(frame, frame["label"])


def test_a_table_of_labels_alone_is_refused():
    """Where nothing but the label is there, nothing is asked."""
    frame = pd.DataFrame({"label": Y})
    with pytest.raises(InputError, match="no column besides the column 'label', which holds the answer"):
        LLMClassifier(FakeBackend(), labels=LABELS).fit(frame, frame["label"])


def test_a_job_does_not_show_labels_that_are_there_already():
    """A table that is labelled by a model alone, and holds the labels already, is asked without them."""
    frame = pd.DataFrame({"review": TEXTS, "mood": Y})
    with pytest.warns(PromptWarning, match="leaves out the column 'mood': holds the words of the labels"):
        shown = label_table(frame, labels=LABELS, model=FakeBackend()).table
    plain = label_table(frame[["review"]], labels=LABELS, model=FakeBackend()).table
    assert shown["label"].tolist() == plain["label"].tolist()


def test_texts_give_no_warning():
    """Texts are asked as they are, whatever they say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LLMClassifier(FakeBackend(), labels=LABELS).fit(TEXTS, Y)
        LLMClassifier(FakeBackend(), labels=LABELS).fit(["fine", "awful", "well"] * 10, Y)
