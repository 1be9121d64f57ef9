"""Tests of rows that belong together: copies of a text, and the groups that a caller names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.calibration import Corrections, MatrixCalibrator, select_threshold
from llmclf.errors import InputError
from llmclf.fitting.row_groups import read_groups, row_groups, same_texts
from llmclf.metrics import log_loss
from llmclf.report import CalibrationReport
from llmclf.tables import read_rows

pytestmark = pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # the fake knows nothing


def copied(n_texts: int = 40, n_copies: int = 5):
    """Texts that stand several times, each time with the same label, and their numbers; in random order."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], n_texts)
    numbers = rng.permutation(np.arange(n_texts).repeat(n_copies))
    return [f"text number {i}" for i in numbers], labels[numbers].tolist(), numbers


def classifier(calibrator="isotonic", **options):
    return LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator=calibrator, random_state=0, **options)


class TestSameTexts:
    @pytest.mark.parametrize(
        ("first", "second", "is_same"),
        [
            ("A fine film.", "A fine film.", True),
            ("A fine film.", "a FINE film.", True),
            ("A fine film.", "  A fine\n\tfilm. ", True),
            ("caf\u00e9", "cafe\u0301", True),
            ("A fine film.", "A fine film!", False),
            ("1", 1, False),
        ],
    )
    def test_what_is_a_copy(self, first, second, is_same):
        """Case, spaces and ways to write a character make no other text; a mark or another type does."""
        found = same_texts([{"text": first}, {"text": second}], ["text"])
        assert (found[0] == found[1]) == is_same

    def test_what_the_prompt_does_not_show(self):
        """Fields that the model does not see make no difference, and those that it sees do."""
        rows = [
            {"text": "x", "id": 1, "tone": "dry"},
            {"text": "x", "id": 2, "tone": "dry"},
            {"text": "x", "id": 3, "tone": "wet"},
        ]
        assert same_texts(rows, ["text", "tone"]).tolist() == [0, 0, 1]

    def test_copies_join_groups(self):
        """A text that two authors sent makes one group of both."""
        rows = read_rows(["hello", "my own", "Hello ", "another"])
        given = read_groups(["ann", "ann", "bob", "cid"], rows)
        assert row_groups(rows, ["text"], given).tolist() == [0, 0, 0, 1]

    def test_blank_texts_are_no_copies(self):
        """Two authors who each sent an empty message have nothing in common; what they say of each other counts."""
        rows = read_rows(["hello", "", "my own", "", ""])
        given = read_groups(["ann", "ann", "bob", "bob", "cid"], rows)
        assert row_groups(rows, ["text"], given, without_text=[1, 3, 4]).tolist() == [0, 0, 1, 1, 2]
        assert row_groups(rows, ["text"], without_text=[1, 3, 4]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame,
        pl.DataFrame,
        lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    ],
)
def test_a_column_by_its_name(table):
    """Groups may be a column of the table, of any kind of table."""
    rows = read_rows(table({"text": ["x", "y", "z"], "author": ["ann", "bob", "ann"]}))
    assert read_groups("author", rows).tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="groups='writer'; expected one group per row, or a column of the table"):
        read_groups("writer", rows)


class TestCrossFitting:
    def test_copies_are_not_parted(self):
        """A matrix, which learns labels by heart, gains from the copies of a text only where these are parted."""
        X, y, numbers = copied()
        clf = classifier("matrix").fit(X, y)
        proba, codes = clf.calibration_proba_, (np.array(y) == "b").astype(int)
        parted = Corrections(calibrator=MatrixCalibrator()).fit(clf.score_labels(X), codes, groups=np.arange(200))
        assert log_loss(codes, proba) > log_loss(codes, parted.out_of_fold()) + 0.03
        for number in range(40):
            assert len(np.unique(proba[numbers == number], axis=0)) == 1

    def test_near_copies_are_not_parted(self):
        """Copies in capitals or with other spaces belong together, though the model scores them differently."""
        X, y, numbers = copied()
        X = [text.upper() if i % 2 else text.replace(" ", "  ") for i, text in enumerate(X)]
        fitted = classifier().fit(X, y).pipeline_.calibration_rows
        assert (fitted.groups[:, None] == fitted.groups).sum() == 40 * 25
        assert (numbers[:, None] == numbers).sum() == 40 * 25

    def test_groups_that_a_caller_names(self):
        """A row's probability does not depend on the labels of its group."""
        X, groups = [f"text {i}" for i in range(60)], np.arange(60) // 3
        y = np.random.default_rng(1).choice(["a", "b"], 60)
        other = y.copy()
        other[:3] = np.where(y[:3] == "a", "b", "a")
        fits = [classifier("platt").fit(X, labels, groups=groups) for labels in (y, y[::-1])]
        assert all(len(set(fit.pipeline_.calibration_rows.groups)) == 20 for fit in fits)
        parted = classifier("isotonic").fit(X, y).calibration_proba_
        together = classifier("isotonic").fit(X, y, groups=groups).calibration_proba_
        assert not np.allclose(parted, together)

    def test_auto_gets_the_groups(self):
        """With copies, `auto` has the losses of texts that were not seen."""
        X, y, _ = copied()
        losses = classifier("auto").fit(X, y).calibrator_.losses_
        once = dict(zip(X, y, strict=True))
        alone = classifier("auto").fit(list(once), list(once.values())).calibrator_.losses_
        assert losses["temperature"] == pytest.approx(alone["temperature"], abs=0.02)

    def test_one_group_cannot_be_cross_fitted(self):
        """A fit is possible, cross-fitting is not, and the message says what is missing."""
        X, y = [f"text {i}" for i in range(30)], ["a", "b"] * 15
        clf = classifier("temperature").fit(X, y, groups=["ann"] * 30)
        with pytest.raises(InputError, match="of different groups"):
            clf.calibration_proba_  # noqa: B018
        assert (
            type(classifier("auto").fit(X, y, groups=["ann"] * 30).calibrator_.calibrator_).__name__
            == "IdentityCalibrator"
        )

    @pytest.mark.parametrize("groups", [["ann"] * 59 + [None], ["ann"] * 59, "author"])
    def test_bad_groups_are_refused_before_the_model_is_asked(self, groups):
        """A missing group, another length and a column of texts cost nothing."""
        X, y = [f"text {i}" for i in range(60)], ["a", "b"] * 30
        with pytest.raises(InputError, match="group"):
            classifier().fit(X, y, groups=groups)

    def test_metadata_routing(self):
        """scikit-learn's searches can route groups to fit."""
        with config_context(enable_metadata_routing=True):
            routed = classifier().set_fit_request(groups=True).get_metadata_routing()
        assert routed.fit.requests["groups"] is True


class TestShots:
    def test_copies_of_a_shot_calibrate_nothing(self):
        """Their answer stands in the prompt, whatever their case."""
        X, y, _ = copied()
        X = [text.upper() if i % 2 else text for i, text in enumerate(X)]
        clf = classifier("temperature", n_shots=4).fit(X, y)
        shown = {row["text"].casefold() for row, _ in clf.shots_}
        assert not shown & {X[i].casefold() for i in clf.calibration_rows_}
        assert len(clf.calibration_rows_) == 200 - 5 * len(shown)

    def test_the_group_of_a_shot_calibrates_nothing(self):
        """Rows of one thread say something about each other."""
        X, y = [f"text {i}" for i in range(60)], ["a", "b"] * 30
        clf = classifier("temperature", n_shots=2).fit(X, y, groups=np.arange(60) // 3)
        shots = {int(row["text"].split()[1]) // 3 for row, _ in clf.shots_}
        assert not shots & set((clf.calibration_rows_ // 3).tolist())
        with pytest.raises(InputError, match="all 60 rows are shots or belong to one .* fewer shots"):
            classifier("temperature", n_shots=2).fit(X, y, groups=["ann"] * 60)

    def test_copies_of_a_shot_are_counted(self):
        """Each row that copies a shot is named when a threshold is chosen."""
        X, y, _ = copied()
        clf = classifier("temperature", n_shots=1).fit(X, y)
        with pytest.raises(InputError, match="5 of these 200 rows stand in the prompt"):
            clf.fit_threshold(X, y, max_error=0.4)


class TestThresholds:
    def test_copies_of_held_out_rows_count_once(self):
        """Two hundred rows of forty texts are forty."""
        X, y, numbers = copied()
        clf = classifier(None).fit(X)
        with pytest.raises(InputError, match="200 labelled rows in 40 groups cannot show"):
            clf.fit_threshold(X, y, max_error=0.05)
        labels = clf.predict(X)
        chosen = clf.fit_threshold(X, labels, max_error=0.2).threshold_
        codes = (labels == "b").astype(int)
        assert chosen == select_threshold(codes, clf.predict_proba(X), max_error=0.2, groups=numbers)
        assert chosen.error_bound > select_threshold(codes, clf.predict_proba(X), max_error=0.2).error_bound

    def test_groups_of_held_out_rows(self):
        """They are given beside the rows, and describe nothing without these."""
        X = [f"text {i}" for i in range(120)]
        clf = classifier(None).fit(X)
        y = clf.predict(X)
        assert clf.fit_threshold(X, y, max_error=0.05).threshold_.n_accepted == 120
        with pytest.raises(InputError, match="120 labelled rows in 40 groups"):
            clf.fit_threshold(X, y, max_error=0.05, groups=np.arange(120) // 3)
        with pytest.raises(InputError, match="groups= describes the rows of X"):
            clf.fit_threshold(max_error=0.05, groups=np.arange(120) // 3)

    def test_the_groups_of_the_fit_apply_without_rows(self):
        """The calibrator's rows count as many as their groups, also where they are given again without groups."""
        X, y, groups = [f"text {i}" for i in range(120)], ["a", "b"] * 60, np.arange(120) // 3
        clf = classifier("temperature").fit(X, y, groups=groups)
        for rows in ((), (X, y)):
            with pytest.raises(InputError, match="120 labelled rows in 40 groups"):
                clf.fit_threshold(*rows, max_error=0.05)


class TestBadRows:
    """Rows that cannot be asked about are left out, and the groups of the others stay theirs."""

    def with_gaps(self):
        X: list[str | None] = [f"text {i}" for i in range(160)]
        X[::4] = [None, " "] * 20
        return X, ["a", "b"] * 80, np.arange(160) // 8

    def test_the_groups_of_the_fit(self):
        """Twenty authors stay twenty, though each sent a blank message."""
        X, y, groups = self.with_gaps()
        clf = classifier("temperature", on_error="missing").fit(X, y, groups=groups)
        fitted = clf.pipeline_.calibration_rows
        assert fitted.numbers.tolist() == [i for i in range(160) if i % 4]
        assert len(fitted.groups) == 120
        np.testing.assert_array_equal(np.unique(fitted.groups, return_inverse=True)[1], np.arange(120) // 6)
        with pytest.raises(InputError, match="120 labelled rows in 20 groups"):
            clf.fit_threshold(max_error=0.1)

    def test_thresholds_and_reports(self):
        """Blank messages join no groups, and the rest are counted by theirs."""
        X, _, groups = self.with_gaps()
        clf = classifier(None, on_error="missing").fit(X)
        y = np.where(clf.predict_proba(X)[:, 0] > 0.5, "a", "b")
        scored = [i for i in range(160) if i % 4]
        for given in (groups, None):
            chosen = clf.fit_threshold(X, y, max_error=0.3, groups=given).threshold_
            few = clf.fit_threshold(
                [X[i] for i in scored], y[scored], max_error=0.3, groups=None if given is None else given[scored]
            ).threshold_
            assert chosen == few
        with pytest.raises(InputError, match="labelled rows in 20 groups"):
            clf.fit_threshold(X, y, max_error=0.1, groups=groups)
        assert clf.report(X, y, clusters=groups).to_dict()["rows"]["n_clusters"] == 20
        assert "n_clusters" not in clf.report(X, y).to_dict()["rows"]

    def test_no_row_is_left(self):
        """The message counts rows of a shot's group and bad rows."""
        clf = classifier("prior", on_error="missing", n_shots=1)
        with pytest.raises(InputError, match="6 training rows is left .*: 4 are shots or belong to one .* 2 cannot"):
            clf.fit(["w", "x", None, "y", "z", ""], ["a", "b"] * 3, groups=[1] * 6)


class TestReport:
    def test_copies_are_clusters(self):
        """A report of forty texts in five copies has the intervals of forty rows, and says so."""
        X, y, numbers = copied()
        clf = classifier(None).fit(X)
        once = [int(np.flatnonzero(numbers == i)[0]) for i in range(40)]
        report = clf.report(X, y, max_error=0.4)
        alone = clf.report([X[i] for i in once], [y[i] for i in once], max_error=0.4)
        data, few = report.to_dict(), alone.to_dict()
        assert data["rows"]["n_clusters"] == 40
        assert "On 200 labelled rows in 40 clusters, the most" in report.verdict
        for end in ("value", "low", "high"):
            assert data["metrics"]["accuracy"]["after"][end] == pytest.approx(few["metrics"]["accuracy"]["after"][end])
            assert data["metrics"]["log_loss"]["after"][end] == pytest.approx(
                few["metrics"]["log_loss"]["after"][end], abs=0.02
            )
        assert data["selection"]["coverage"] == few["selection"]["coverage"]
        assert all(entry["flag"] is None for entry in data["classes"])
        assert "tests of classes and slices" in [entry["what"] for entry in data["not_computed"]]
        assert data["metrics"]["ece"]["after"]["p_value"] > 0.9 * few["metrics"]["ece"]["after"]["p_value"]

    def test_clusters_widen_what_is_said_of_the_labels(self):
        """Five copies show no more of whether the probabilities are informative than the text alone."""
        rng = np.random.default_rng(0)
        p, numbers = rng.random(40), np.arange(40).repeat(5)
        y = (rng.random(40) < p).astype(int)[numbers]
        proba = np.column_stack([1.0 - p, p])[numbers]
        found = [
            CalibrationReport(y, proba, clusters=clusters).to_dict()["information"] for clusters in (numbers, None)
        ]
        wide, narrow = (part["recalibration"]["high"] - part["recalibration"]["low"] for part in found)
        assert wide > 1.8 * narrow
        assert found[0]["recalibration"]["p_value"] > found[1]["recalibration"]["p_value"]

    def test_few_clusters_have_no_interval_of_log_loss(self):
        """Nine texts in twenty copies are nine, and the report says why an interval is missing."""
        X, y, _ = copied(9, 20)
        data = classifier(None).fit(X).report(X, y).to_dict()
        assert data["metrics"]["log_loss"]["after"]["low"] is None
        why = [entry["why"] for entry in data["not_computed"] if entry["what"] == "intervals of log loss"]
        assert why == [
            "clusters of these sizes count as 9 independent rows, too few to know how large a loss can be; 10 rows are needed"
        ]
        assert data["information"]["is_informative"] is None

    def test_clusters_and_groups_are_different_things(self):
        """Clusters widen the intervals; groups are slices, one line each."""
        table = pd.DataFrame(
            {"text": [f"text {i}" for i in range(120)], "author": np.arange(120) // 4, "tone": ["x", "y"] * 60}
        )
        clf = LLMClassifier(FakeBackend(), labels=["a", "b"], prompt="{{ text }}:").fit(table)
        y = ["a", "b"] * 60
        data = clf.report(table, y, clusters="author", groups="tone").to_dict()
        alone = clf.report(table, y, groups="tone").to_dict()
        assert [entry["slice"] for entry in data["slices"]] == ["x", "y"]
        for wide, narrow in ((data, alone), (data["slices"][0], alone["slices"][0])):
            after = [
                part["metrics"]["accuracy"]["after"] if "metrics" in part else part["accuracy"]
                for part in (wide, narrow)
            ]
            assert after[0]["high"] - after[0]["low"] > 1.2 * (after[1]["high"] - after[1]["low"])
        assert (data["rows"]["n_clusters"], "n_clusters" in alone["rows"]) == (30, False)
