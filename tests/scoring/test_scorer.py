"""Bad rows: with on_error="missing" they become NaN with a reason, else all are named before anything is asked."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import CalibrationWarning, InputError, ModelError, RowError

LABELS = ["good", "bad"]
GOOD = [f"text number {i}" for i in range(8)]
BAD = {
    "None": (None, "the text is missing"),
    "NaN": (math.nan, "the text is missing"),
    "NA": (pd.NA, "the text is missing"),
    "NaT": (pd.NaT, "the text is missing"),
    "empty": ("", "field 'text' is blank"),
    "blank": (" \n\u3000", "field 'text' is blank"),
    "surrogate": ("half \ud83d of it", "half of a surrogate pair"),
    "other half": ("\udc00", "half of a surrogate pair"),
    "number": (5, "the text is an int; expected a str"),
    "bytes": (b"x", "the text is a bytes; expected a str"),
    "list": (["x"], "the text is a list; expected a str"),
}


class Counting(FakeBackend):
    """Counts what it is asked; refuses long prompts, and cannot answer some others."""

    def __init__(self, knows_places: bool = True) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.knows_places = knows_places

    def __deepcopy__(self, memo):
        return self

    def score(self, requests):
        long = {place: "too long" for place, one in enumerate(requests) if len(one.prompt.text) > 500}
        if long:
            raise RowError("too long", long if self.knows_places else None)
        self.asked += [request.prompt.text for request in requests]
        for place, answer in super().score(requests):
            refused = "refuse me" in requests[place].prompt.text
            yield place, (RowScores((), error="the server refused it") if refused else answer)


def classifier(**parameters):
    return LLMClassifier(Counting(), labels=LABELS, **{"on_error": "missing", **parameters})


def assert_only_missing(clf, X, bad: dict[int, str], alone=None):
    """NaN, None and the reason in the bad rows; the others as if they were alone."""
    good = [i for i in range(len(X)) if i not in bad]
    proba = clf.predict_proba(X)
    assert np.isnan(proba).any(axis=1).nonzero()[0].tolist() == sorted(bad)
    assert np.isnan(proba).all(axis=1).nonzero()[0].tolist() == sorted(bad)
    if alone is not None:
        np.testing.assert_array_equal(proba[good], clf.predict_proba(alone))
    assert [i for i, label in enumerate(clf.predict(X)) if label is None] == sorted(bad)
    answers = clf.score_rows(X)
    for number, reason in bad.items():
        assert reason in answers[number].error
    assert all(answers[i].error is None for i in good)
    for method in (clf.predict_log_proba, clf.score_labels, clf.label_mass, clf.decision_function):
        assert [i for i, row in enumerate(np.isnan(method(X))) if np.any(row)] == sorted(bad)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [0, 3, 8])
@pytest.mark.parametrize("scoring", ["sum", "bytes", "pmi"])
def test_one_bad_text_does_not_stop_the_others(name, place, scoring):
    """A bad text of any kind, wherever it stands, is NaN with its reason; the others are answered as without it."""
    value, reason = BAD[name]
    clf = classifier(scoring=scoring).fit(GOOD)
    X = [*GOOD[:place], value, *GOOD[place:]]
    assert_only_missing(clf, X, {place: reason}, GOOD)


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"list"}))  # a list of lists is a table
def test_a_bad_text_is_bad_alone_and_among_its_like(name):
    """What becomes of a row does not depend on its neighbours: alone it is NaN as well."""
    value, reason = BAD[name]
    clf = classifier().fit(GOOD)
    assert_only_missing(clf, [value, value], {0: reason, 1: reason})
    assert np.isnan(clf.predict_proba([value])).all()


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize(
    "make",
    [list, tuple, lambda X: np.array(X, dtype=object), lambda X: pd.Series(X, dtype=object)],
    ids=["list", "tuple", "array", "Series"],
)
def test_raise_names_every_bad_row_before_anything_is_asked(name, make):
    """on_error='raise': one error names all bad rows by number, and the model is not called."""
    value, _ = BAD[name]
    backend = Counting()
    clf = LLMClassifier(backend, labels=LABELS).fit(GOOD)
    X = make([*GOOD[:2], value, *GOOD[2:], value])
    with pytest.raises(InputError, match=r"2\b.*\b9\b.*on_error='missing'"):
        clf.predict_proba(X)
    assert backend.asked == []


@pytest.mark.parametrize(
    "X",
    [
        pd.Series(["a", None, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series(["a", None, "b"], dtype="string[pyarrow]"),
        pl.Series(["a", None, "b"]),
        pl.Series(["a", None, "b"], dtype=pl.Categorical),
        pd.array(["a", None, "b"], dtype="string"),
        np.array(["a", None, "b"], dtype=object),
        np.ma.array(["a", "x", "b"], mask=[0, 1, 0]),
    ],
    ids=["string", "category", "arrow", "polars", "polars category", "extension array", "objects", "masked"],
)
def test_gaps_of_every_library(X):
    """A gap in any kind of column is a missing text."""
    clf = classifier().fit(["any"])
    assert_only_missing(clf, X, {1: "missing"}, ["a", "b"])


TABLE = [{"a": f"title {i}", "b": i} for i in range(6)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"a": None, "b": 1}, "field 'a' is missing"),
        ({"a": "x", "b": pd.NaT}, "field 'b' is missing"),
        ({"a": "x", "b": "\ud800"}, "field 'b' holds half of a surrogate pair"),
        ({"a": "x", "b": 0}, "could not be rendered: division by zero"),
        ({"a": "x", "b": "y"}, "could not be rendered: unsupported operand"),
        (None, "the row is a NoneType; expected a dict"),
        ("a text", "the row is a str; expected a dict"),
        ({"a": "x"}, "the row lacks the field 'b'"),
        ({}, "the row lacks the field 'a'"),
    ],
)
@pytest.mark.parametrize("place", [0, 4])
def test_bad_rows_of_a_table(row, reason, place):
    """A missing field, a value for which the template fails and a row of another form are NaN, the others are answered."""
    prompt = Prompt("{{ a }} {{ 6 / b }}:")
    good = [{**one, "b": one["b"] + 1} for one in TABLE]
    clf = classifier(prompt=prompt).fit(good)
    X = [*good[:place], row, *good[place:]]
    assert_only_missing(clf, X, {place: reason}, good)
    backend = Counting()
    strict = LLMClassifier(backend, labels=LABELS, prompt=prompt).fit(good)
    with pytest.raises(InputError, match=rf"row {place}\b"):
        strict.predict([*X, *good])
    assert backend.asked == []


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_gaps_in_a_data_frame(make):
    """A missing value counts only where the prompt shows it."""
    frame = make({"a": ["x", None, "y"], "b": ["p", "q", None]})
    clf = classifier(prompt="{{ a }}:").fit(frame)
    assert_only_missing(clf, frame, {1: "field 'a' is missing"})


def test_arrays_of_two_dimensions():
    """NaN and infinity in a 2-D array are bad rows; with on_error='raise' all of them are named."""
    X = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 4.0], [5.0, np.inf], [-np.inf, np.inf]])
    clf = classifier().fit(X[[0, 2]])
    bad = {1: "field 'x0' is missing", 3: "field 'x1' is infinite", 4: "field 'x0' is infinite"}
    assert_only_missing(clf, X, bad, X[[0, 2]])
    with pytest.raises(
        InputError, match=r"\(row 1, field 'x0': NaN\).*infinite.*row 3, field 'x1': inf.*row 4, field 'x0': -inf"
    ):
        clf.set_params(on_error="raise").predict(X)


@pytest.mark.parametrize("scoring", ["sum", "bytes", "pmi"])
@pytest.mark.parametrize(
    "choices", [None, math.nan, "ab", ["a"], ["a", "b", "c"], ["a", None], ["a", " "], ["a", "\ud800"]]
)
def test_rows_without_their_choices(choices, scoring):
    """A row whose choices are absent or too few is NaN; rows with choices are answered."""
    good = [{"q": f"q{i}", "options": [f"first {i}", f"second {i}"]} for i in range(4)]
    clf = classifier(prompt=Prompt("{{ q }} Answer:", choices="options"), scoring=scoring).fit(good)
    assert_only_missing(clf, [*good[:2], {"q": "x", "options": choices}, *good[2:]], {2: "options"}, good)


@pytest.mark.parametrize("knows_places", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_rows_that_the_backend_refuses(knows_places, cached, tmp_path):
    """Rows that are too long, or that a server refuses, are NaN; with on_error='raise' the too long ones are all named."""
    clf = classifier(cache=tmp_path / "c.sqlite" if cached else None)
    clf.model = Counting(knows_places)
    X = [GOOD[0], "x" * 600, GOOD[1], "refuse me", "y" * 600, "x" * 600, GOOD[2]]
    clf.fit(GOOD)
    bad = {1: "too long", 3: "the server refused it", 4: "too long", 5: "too long"}
    assert_only_missing(clf, X, bad, GOOD[:3])
    clf.set_params(on_error="raise")
    if knows_places:
        clf.pipeline_.backend.asked.clear()
        clf.set_params(cache=None)
        with pytest.raises(RowError, match=r"2 of 6 rows cannot be scored \(row 1: too long; row 4: too long\)"):
            clf.predict(X)
        assert clf.pipeline_.backend.asked == []
    with pytest.raises(ModelError, match="row 1 could not be scored: the server refused it"):
        clf.predict([GOOD[0], "refuse me"])


def training(n: int = 60):
    X = [f"text number {i}" for i in range(n)]
    return X, ["good" if "1" in text else "bad" for text in X]


@pytest.mark.filterwarnings("ignore:.*calibrat:llmclf.errors.CalibrationWarning")
@pytest.mark.parametrize("n_shots", [0, 4])
def test_fit_leaves_bad_rows_out(n_shots):
    """Bad training rows are neither shots nor calibration rows, whatever their kind; a warning counts and names them."""
    X, y = training()
    bad = {5: None, 11: "\ud800", 17: " ", 23: 7, 29: "x" * 600, 35: "refuse me"}
    clf = classifier(calibrator="temperature", n_shots=n_shots, random_state=0)
    broken = [bad.get(i, text) for i, text in enumerate(X)]
    if n_shots:
        broken[29] = broken[35] = None  # what only the model refuses may become a shot
    with pytest.warns(CalibrationWarning, match=r"^6 of 60 training rows .*row 5: the text is missing; row 11: field"):
        clf.fit(broken, y)
    assert not set(clf.calibration_rows_) & set(bad)
    assert len(clf.calibration_rows_) == 60 - 6 - n_shots
    assert {row["text"] for row, _ in clf.shots_} <= set(X) - {X[i] for i in bad}
    if not n_shots:
        kept = [i for i in range(60) if i not in bad]
        whole = classifier(calibrator="temperature").fit([X[i] for i in kept], [y[i] for i in kept])
        assert clf.calibrator_.temperature_ == whole.calibrator_.temperature_
        np.testing.assert_array_equal(clf.calibration_rows_, kept)


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
@pytest.mark.parametrize("bias", ["contextual", "domain", "batch", "ucpa"])
def test_biases_with_bad_rows(bias):
    """A bias is what it is without the bad rows."""
    X, _ = training()
    broken = [*X[:20], None, " ", "\ud800", *X[20:]]
    clf, whole = (classifier(bias=bias, random_state=0).fit(rows) for rows in (broken, X))
    np.testing.assert_allclose(clf.predict_proba(X), whole.predict_proba(X))


def test_fit_needs_good_rows():
    """Where no row is left the error says how many were bad, and why."""
    with pytest.raises(
        InputError, match=r"none of the 2 training rows is left .*2 cannot be asked about \(row 0: the text is"
    ):
        classifier(calibrator="temperature").fit([None, " "], ["good", "bad"])
    with pytest.raises(InputError, match=r"only 1 training rows that can be shown"):
        classifier(n_shots=2).fit(["a", None, " "], ["good", "bad", "bad"])
    with pytest.raises(
        ModelError, match=r"none of the 10 training rows could be scored \(row 0: the server refused it"
    ):
        classifier(calibrator="temperature").fit(["refuse me"] * 10, LABELS * 5)
    classifier().fit([None])  # nothing is learned from the rows, so they need not be good


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
def test_report_counts_bad_rows():
    """The report leaves bad rows out and counts them."""
    X, y = training()
    clf = classifier().fit(X)
    report = clf.report([*X, None, "\ud800"], [*y, "good", "bad"])
    assert report.to_dict()["rows"] == {"n": 60, "n_unlabelled": 0, "n_unscored": 2, "n_classes": 2}
