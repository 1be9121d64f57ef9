"""The report: its numbers against the metrics, its words, its schema, odd data, and comparisons."""

from __future__ import annotations

import json
import math
import re
import warnings
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from llmclf.calibration import select_threshold
from llmclf.errors import InputError, StoreError
from llmclf.logits import softmax
from llmclf.metrics import (
    accuracy,
    brier_score,
    calibration_interval,
    expected_calibration_error,
    log_loss,
    paired_difference,
    refinement_error,
)
from llmclf.report import CalibrationReport, compare
from llmclf.report.evidence import read_evidence
from llmclf.report.slices import surprises
from llmclf.report.verdict import p_text, span

SCHEMA = json.loads((resources.files("llmclf.report") / "report.schema.json").read_text())
CLASSES = ["billing", "delivery", "returns"]


def draw(n: int, k: int = 3, seed: int = 0, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """True columns and the probabilities that they were drawn from."""
    rng = np.random.default_rng(seed)
    proba = softmax(rng.normal(size=(n, k)) * sharpness)
    return (proba.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, k - 1), proba


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    y, proba = draw(600)
    return {
        "y": np.array(CLASSES, dtype=object)[y],
        "proba": proba,
        "classes": CLASSES,
        "proba_before": softmax(2.5 * np.log(proba)),
        "texts": [f"message {i}" for i in range(600)],
        "groups": {"channel": np.array(["web", "mail", "phone"])[np.arange(600) % 3]},
        "label_mass": np.linspace(0.2, 1.0, 600),
    }


@pytest.fixture(scope="module")
def report(rows) -> CalibrationReport:
    return CalibrationReport(**rows, max_error=0.2, metadata={"model": {"name": "m"}})


class TestNumbers:
    def test_metrics_are_those_of_the_metrics_module(self, rows, report):
        """The report computes nothing of its own: value, interval and null mean are those of llmclf.metrics."""
        y, proba, before = rows["y"], rows["proba"], rows["proba_before"]
        found = report.to_frame()
        for name, function in (
            ("accuracy", accuracy),
            ("log_loss", log_loss),
            ("brier", brier_score),
            ("ece", expected_calibration_error),
        ):
            assert found.loc[name, "value"] == pytest.approx(function(y, proba, classes=CLASSES), abs=1e-12)
            assert found.loc[name, "before"] == pytest.approx(function(y, before, classes=CLASSES), abs=1e-12)
            change = paired_difference(y, before, proba, metric=name, random_state=0, classes=CLASSES)
            assert found.loc[name, ["change", "change_low", "change_high"]].tolist() == pytest.approx(change[:3])
        low, high, _, null_mean = calibration_interval(y, proba, classes=CLASSES, random_state=0)
        assert found.loc["ece", ["low", "high", "null_mean"]].tolist() == pytest.approx([low, high, null_mean])
        assert found.loc["refinement", "value"] + found.loc["calibration", "value"] == pytest.approx(
            log_loss(y, proba, classes=CLASSES)
        )
        assert found.loc["refinement", "value"] == pytest.approx(refinement_error(y, proba, classes=CLASSES))

    def test_calibration_is_seen_and_so_is_its_lack(self, report):
        """Rows drawn from their own probabilities pass the test, sharpened ones fail it."""
        ece = report.to_dict()["metrics"]["ece"]
        assert ece["after"]["p_value"] > 0.05
        assert ece["before"]["p_value"] < 0.01
        assert "no miscalibration can be seen" in report.verdict

    @pytest.mark.parametrize("seed", range(12))
    def test_verdict_and_advice_agree(self, seed):
        """Whatever the data, a report does not call probabilities calibrated and advise to recalibrate them, nor the reverse."""
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(250, 3)) * 2 + rng.normal(size=3) * rng.choice([0, 0.3])
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        y = np.array([rng.choice(3, p=row) for row in proba])
        stated = proba ** rng.choice([0.8, 1.0, 1.25]) * np.exp(rng.normal(size=3) * rng.choice([0, 0.25]))
        verdict = CalibrationReport(y, stated / stated.sum(axis=1, keepdims=True)).to_dict()["verdict"]
        advised = any("Recalibrate" in line or "miscalibration" in line for line in verdict["advice"])
        assert advised is ("cannot be taken at their word" in verdict["text"])
        assert ("no miscalibration can be seen" in verdict["text"]) is not advised

    @pytest.mark.parametrize("n", [20, 50])
    def test_good_models_are_not_called_uninformative(self, n):
        """On few rows, a calibrated model that is right in nine rows of ten is neither called uninformative nor miscalibrated."""
        uninformative = miscalibrated = 0
        for seed in range(20):
            rng = np.random.default_rng(seed)
            p = 1 / (1 + np.exp(-5 * rng.normal(size=n)))
            verdict = CalibrationReport((rng.random(n) < p).astype(int), np.column_stack([1 - p, p])).verdict
            uninformative += "these scores" in verdict.lower()
            miscalibrated += "cannot be taken at their word" in verdict
        assert uninformative <= 1
        assert miscalibrated <= 4

    def test_scores_that_contradict_the_labels(self):
        """Reversed probabilities are called that, and nothing advises to recalibrate them."""
        rng = np.random.default_rng(0)
        p = rng.random(200)
        report = CalibrationReport((rng.random(200) < p).astype(int), np.column_stack([p, 1 - p]))
        assert report.verdict.startswith("These scores contradict the labels")
        advice = report.to_dict()["verdict"]["advice"]
        assert "order of the classes" in advice[0]
        assert not any("Recalibrate" in line for line in advice)

    @pytest.mark.parametrize("n", [1, 5])
    def test_too_few_rows_to_tell(self, n):
        """On a handful of rows the report says that it cannot tell."""
        report = CalibrationReport(["a"] * n, [[0.6, 0.4]] * n, classes=["a", "b"])
        assert "Too few rows to tell" in report.verdict

    def test_three_sentences_and_three_numbers(self, report):
        """A report begins with three short sentences, and the same as three numbers."""
        verdict = report.to_dict()["verdict"]
        sentences = re.split(r"(?<=[.])\s(?=[A-Z0-9])", verdict["text"])
        assert len(sentences) == 3
        assert max(map(len, sentences)) < 180
        assert [line["name"] for line in verdict["headlines"]] == ["accuracy", "calibration", "automation"]
        ece = report.to_dict()["metrics"]["ece"]["after"]["value"]
        assert verdict["headlines"][1]["value"] == f"{100 * ece:.1f} points"

    def test_differences_are_in_points(self, report):
        """A difference of two percentages is one of points, on the page and in Markdown."""
        for text in (report.to_html(), report.to_markdown()):
            assert re.search(r"-?\d+\.\d points", text)
            assert not re.search(r"[+-]\d+\.\d %", text)

    @pytest.mark.parametrize("constant", [True, False])
    def test_one_answer_to_everybody(self, constant):
        """Probabilities that say nothing about the labels are called so first, with what does better."""
        rng = np.random.default_rng(1)
        y = rng.integers(2, size=300)
        p = np.full(300, 0.45) if constant else 0.3 + 0.1 * rng.random(300)
        texts = [f"{'fine lovely' if k else 'dull poor'} film {i}" for i, k in enumerate(y)]
        report = CalibrationReport(y, np.column_stack([1 - p, p]), texts=texts)
        assert report.verdict.startswith(
            "These scores say nothing" if constant else "On 300 rows, these scores are not seen"
        )
        assert "TF-IDF and logistic regression are right in 100.0 %" in report.verdict
        assert "taken at their word: no" not in report.verdict
        assert "another prompt" in report.to_dict()["verdict"]["advice"][0]
        mute = CalibrationReport(y, np.column_stack([1 - p, p]), texts=[f"film {i}" for i in range(300)])
        assert "TF-IDF" not in mute.verdict

    def test_the_threshold_is_that_of_select_threshold(self, rows, report):
        """Threshold, coverage and bound; and the row of the table at this threshold counts the same."""
        chosen = select_threshold(rows["y"], rows["proba"], max_error=0.2, classes=CLASSES)
        found = report.to_dict()["selection"]
        assert (found["threshold"], found["coverage"], found["error_bound"]) == (
            chosen.threshold,
            chosen.coverage,
            chosen.error_bound,
        )
        (point,) = [own for own in report.to_dict()["thresholds"] if own["threshold"] == chosen.threshold]
        assert point["n_accepted"] == chosen.n_accepted
        assert f"{100 * chosen.coverage:.1f} % of the rows" in report.verdict

    @settings(max_examples=30, deadline=None)
    @given(threshold=st.floats(0, 1.5))
    def test_operating_point(self, rows, report, threshold):
        """Counts, error, exact interval and cost at any threshold are those of the rows at or above it."""
        confidence, wrong = rows["proba"].max(axis=1), np.array(CLASSES)[rows["proba"].argmax(axis=1)] != rows["y"]
        kept = confidence >= threshold
        point = report.operating_point(threshold)
        assert (point["n_accepted"], point["n_wrong"]) == (kept.sum(), wrong[kept].sum())
        assert point["cost"] == pytest.approx((10 * wrong[kept].sum() + (~kept).sum()) / 600)
        if kept.any():
            assert point["low"] <= point["error"] <= point["high"]
        if 0 < point["n_wrong"] < point["n_accepted"]:
            assert binom.cdf(point["n_wrong"], point["n_accepted"], point["high"]) == pytest.approx(0.025)
        else:
            assert kept.any() or point["error"] is None

    def test_the_table_of_thresholds_is_thinned_not_rounded(self):
        """Of 20,000 confidences some four hundred are listed, each with the counts of all rows, from all rows down."""
        y, proba = draw(20_000)
        points = CalibrationReport(y, proba).to_dict()["thresholds"]
        assert 300 < len(points) <= 402
        assert (points[0]["threshold"], points[0]["n_accepted"]) == (0.0, 20_000)
        confidence = proba.max(axis=1)
        for point in points[::40]:
            assert point["n_accepted"] == (confidence >= point["threshold"]).sum()
        coverage = np.array([point["coverage"] for point in points])
        assert np.abs(np.diff(coverage)).max() < 0.01

    def test_classes(self, rows, report):
        """Support, precision, recall and confidence of each class, and the confusion matrix."""
        data = report.to_dict()
        predicted = np.array(CLASSES)[rows["proba"].argmax(axis=1)]
        for own in data["classes"]:
            said, true = predicted == own["class"], rows["y"] == own["class"]
            assert (own["support"], own["predicted"]) == (true.sum(), said.sum())
            assert own["precision"]["value"] == pytest.approx((said & true).sum() / said.sum())
            assert own["recall"]["value"] == pytest.approx((said & true).sum() / true.sum())
            assert own["confidence"] == pytest.approx(rows["proba"].max(axis=1)[said].mean())
            assert own["ece"]["value"] == pytest.approx(
                expected_calibration_error(rows["y"], rows["proba"], classes=CLASSES, pos_label=own["class"])
            )
        counts = np.array(data["confusion"]["counts"])
        assert counts.sum() == 600
        assert counts[0, 1] == ((rows["y"] == "billing") & (predicted == "delivery")).sum()

    def test_rows_to_look_at(self, rows, report):
        """Mistakes fall in confidence, the least confident rows rise, and both carry their own texts and numbers."""
        examples = report.to_dict()["examples"]
        certain = [own["confidence"] for own in examples["mistakes"]]
        assert certain == sorted(certain, reverse=True)
        assert all(own["true"] != own["predicted"] for own in examples["mistakes"])
        unsure = [own["confidence"] for own in examples["uncertain"]]
        assert unsure == np.sort(rows["proba"].max(axis=1))[: len(unsure)].tolist()
        for own in (*examples["mistakes"], *examples["uncertain"]):
            assert own["text"] == f"message {own['row']}"
            assert own["true"] == rows["y"][own["row"]]

    def test_rows_without_probabilities_are_counted(self, rows):
        """NaN rows are left out, and row numbers stay those of the table that was given."""
        proba = rows["proba"].copy()
        proba[:5] = math.nan
        data = CalibrationReport(rows["y"], proba, classes=CLASSES, texts=rows["texts"]).to_dict()
        assert (data["rows"]["n"], data["rows"]["n_unscored"]) == (595, 5)
        labels = rows["y"].tolist()
        labels[4:8] = [None] * 4
        data = CalibrationReport(labels, proba, classes=CLASSES, texts=rows["texts"]).to_dict()
        assert data["rows"] == {"n": 592, "n_unlabelled": 4, "n_unscored": 4, "n_classes": 3}
        assert all(own["text"] == f"message {own['row']}" for own in data["examples"]["uncertain"])

    def test_the_same_arguments_give_the_same_numbers(self, rows, report):
        """All but the date is repeated."""
        again = CalibrationReport(**rows, max_error=0.2, metadata={"model": {"name": "m"}}).to_dict()
        first = report.to_dict()
        for data in (again, first):
            data["provenance"]["report"].pop("made")
        assert again == first


class TestAgreement:
    @pytest.mark.slow
    @pytest.mark.parametrize("confidence", [0.95, 0.8])
    def test_verdict_interval_and_p_value_say_the_same(self, confidence):
        """Of calibrated and slightly sharpened probabilities: miscalibrated is what has an interval above 0, and p below it."""
        seen = set()
        for seed in range(24):
            y, proba = draw(150, seed=seed)
            report = CalibrationReport(y, softmax(np.log(proba) * (1 + 0.25 * (seed % 4))), confidence=confidence)
            data = report.to_dict()
            ece, gain = data["metrics"]["ece"]["after"], data["information"]["recalibration"]
            found = {
                ece["low"] > 0,
                ece["p_value"] < round(1 - confidence, 9),
                "off on average, and on the whole" in report.verdict,
                "ECE; 0.0 to" not in " ".join(data["verdict"]["details"]),
            }
            assert len(found) == 1
            # The log loss alone may show what the confidence does not, at a stricter level.
            is_seen = found == {True} or (gain["value"] > 0 and gain["p_value"] < 0.2 * round(1 - confidence, 9))
            assert ("no miscalibration can be seen" not in report.verdict) == is_seen
            seen |= found
        assert seen == {True, False}

    def test_numbers_near_a_border_are_not_rounded_onto_it(self):
        """A p-value of .0496 is no 0.05, and an interval that begins just above 0 does not begin at 0.0."""
        assert p_text(0.0496) == "p = 0.0496"
        assert p_text(0.03) == "p = 0.03"
        assert span({"low": 0.0001, "high": 0.056}) == "above 0 to 5.6 %"
        assert span({"low": 0.0, "high": 0.056}) == "0.0 to 5.6 %"


class TestRareLosses:
    def test_what_was_never_wrong_still_has_an_upper_end(self):
        """Thirty rows of .99 that are all right: loss and Brier score have intervals as wide as the next mistake is costly."""
        data = CalibrationReport([0] * 30, [[0.99, 0.01]] * 30).to_dict()
        for name, worst in (("log_loss", -math.log(0.01)), ("brier", 2.0)):
            own = data["metrics"][name]["after"]
            assert own["low"] < own["value"] < own["high"]
            assert own["high"] == pytest.approx((1 - 0.025 ** (1 / 30)) * worst, rel=0.05)

    def test_where_no_interval_can_be_given_the_report_says_so(self):
        """Probabilities of 0 and 1, and few rows, have a log loss without an interval, and a reason; Brier has one."""
        for y, proba, why in (
            ([0] * 30, [[1.0, 0.0]] * 30, "no upper limit is known"),
            ([0] * 5, [[0.9, 0.1]] * 5, "n = 5 is too small"),
        ):
            data = CalibrationReport(y, proba, groups=["a"] * len(y)).to_dict()
            for entry in (data["metrics"]["log_loss"]["after"], data["slices"][0]["log_loss"]):
                assert entry["low"] is entry["high"] is None
            assert data["metrics"]["brier"]["after"]["high"] > 0.1
            (said,) = [own for own in data["not_computed"] if own["what"] == "intervals of log loss"]
            assert why in said["why"]


class TestSlices:
    def test_a_bad_slice_is_found(self):
        """Where a slice of rows is right less often than its confidences say for all rows, it is flagged and named."""
        y, proba = draw(1500, seed=3)
        channel = np.array(["web", "mail", "phone"])[np.arange(1500) % 3]
        rng = np.random.default_rng(0)
        spoilt = (channel == "phone") & (rng.random(1500) < 0.4)
        report = CalibrationReport(np.where(spoilt, rng.integers(0, 3, 1500), y), proba, groups={"channel": channel})
        flags = {own["slice"]: own["flag"] for own in report.to_dict()["slices"]}
        assert flags["phone"] == "worse"
        assert any("Look at channel = 'phone'" in sentence for sentence in report.to_dict()["verdict"]["advice"])

    def test_hard_rows_alone_are_no_flag(self):
        """A slice of unsure rows is right less often, as its confidences say, and is not flagged."""
        y, proba = draw(1500, seed=4)
        hard = np.where(proba.max(axis=1) < 0.6, "hard", "easy")
        slices = {own["slice"]: own for own in CalibrationReport(y, proba, groups=hard).to_dict()["slices"]}
        assert slices["hard"]["accuracy"]["high"] < slices["easy"]["accuracy"]["low"]
        assert slices["hard"]["flag"] is slices["easy"]["flag"] is None

    def test_names_that_read_the_same_are_refused(self):
        """Of two groupings with one name in print, one would be dropped without a word."""
        y, proba = draw(100, seed=4)
        halves = np.arange(100) % 2
        with pytest.raises(InputError, match=r"groups has the names \[1, '1'\], of which some read the same"):
            CalibrationReport(y, proba, groups={1: halves, "1": 1 - halves})

    @pytest.mark.slow
    def test_a_flag_is_an_accuracy_that_chance_does_not_allow(self):
        """Flag, p-value, and the range of accuracies beside them say the same, of slices and of classes."""
        n_flags = 0
        for seed in range(8):
            y, proba = draw(300, seed=seed)
            rng = np.random.default_rng(seed)
            groups = {"a": rng.integers(0, 5, 300), "b": rng.integers(0, 2, 300)}
            spoilt = (groups["a"] == 0) & (rng.random(300) < 0.6)
            data = CalibrationReport(np.where(spoilt, rng.integers(0, 3, 300), y), proba, groups=groups).to_dict()
            parts = [(own, own["accuracy"]) for own in data["slices"]]
            parts += [(own, own["precision"]) for own in data["classes"]]
            for own, share in parts:
                below, above = share["value"] < own["expected_low"], share["value"] > own["expected_high"]
                assert own["flag"] == ("worse" if below else "better" if above else None)
                assert (own["flag"] is not None) == (own["p_value"] < 0.05)
                assert own["expected_low"] <= own["expected_accuracy"] <= own["expected_high"]
                n_flags += own["flag"] is not None
        assert 3 <= n_flags <= 30

    @pytest.mark.slow
    def test_chance_seldom_flags_any_of_many_slices(self):
        """Of 100 reports with forty slices at random, seven have a flag or fewer, where 5 % are asked for at most."""
        flagged = 0
        for seed in range(100):
            y, proba = draw(400, seed=seed)
            evidence = read_evidence(
                y, proba, classes=None, proba_before=None, groups=None, texts=None, label_mass=None
            )
            members = np.random.default_rng(seed).integers(0, 40, 400)
            flagged += any(own["flag"] for own in surprises(evidence, members, 40, 0.05))
        assert flagged <= 7

    def test_the_numbers_of_a_slice_are_its_own(self, rows, report):
        """Accuracy, calibration error, log loss, coverage and accepted error are those of a report on the slice alone."""
        own = rows["groups"]["channel"] == "mail"
        (found,) = [part for part in report.to_dict()["slices"] if part["slice"] == "mail"]
        alone = CalibrationReport(rows["y"][own], rows["proba"][own], classes=CLASSES)
        frame = alone.to_frame()["value"]
        assert found["n_rows"] == own.sum()
        for name in ("accuracy", "ece", "log_loss"):
            assert found[name]["value"] == pytest.approx(frame[name])
        point = alone.operating_point(report.to_dict()["selection"]["threshold"])
        assert (found["coverage"], found["accepted_error"]["value"]) == (point["coverage"], point["error"])

    def test_several_partitions_and_gaps(self, rows):
        """A data frame brings one partition per column; what is missing is a slice of its own."""
        pandas = pytest.importorskip("pandas")
        groups = pandas.DataFrame({"a": ["x", None] * 300, "b": np.arange(600) % 2})
        slices = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, groups=groups).to_dict()["slices"]
        assert {(own["partition"], own["slice"]) for own in slices} == {
            ("a", "x"),
            ("a", "(missing)"),
            ("b", "0"),
            ("b", "1"),
        }

    def test_very_many_slices_are_gathered(self, rows):
        """Of six hundred slices the largest are kept, and the others stand together under one name."""
        groups = [f"user {i // 2}" for i in range(600)]
        slices = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, groups=groups).to_dict()["slices"]
        assert len(slices) == 200
        assert sum(own["n_rows"] for own in slices) == 600
        assert slices[0]["slice"] == "(101 smaller slices)"


ODD: dict[str, Any] = {
    "a class without rows": lambda y, p: (np.minimum(y, 1), p, {}),
    "one true class": lambda y, p: (np.zeros_like(y), p, {}),
    "all confidences 1, all right": lambda y, p: (y, np.eye(3)[y], {}),
    "all confidences 1, some wrong": lambda y, p: (y, np.eye(3)[(y + (np.arange(len(y)) % 5 == 0)) % 3], {}),
    "all confidences 1, all wrong": lambda y, p: (y, np.eye(3)[(y + 1) % 3], {}),
    "one confidence": lambda y, p: (y, np.full((len(y), 3), 1 / 3), {}),
    "three rows": lambda y, p: ([0, 1, 2], p[:3], {"groups": ["a", "b", "b"], "texts": ["x", "y", "z"]}),
    "one row": lambda y, p: ([1], p[:1], {"proba_before": p[:1]}),
    "150 classes": lambda y, p: (*draw(700, 150, sharpness=3.0), {}),
    "one dimension": lambda y, p: (y > 0, p[:, 0], {}),
    "unprintable names": lambda y, p: (
        np.array(["\ud800", "\x00|`", "日本"], dtype=object)[y],
        p,
        {"classes": ["\ud800", "\x00|`", "日本"], "texts": ["\ud800"] * len(y)},
    ),
}


class TestOddData:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ODD)
    def test_every_form_is_made_without_a_warning(self, name, tmp_path):
        """Odd rows make a report in all its forms, that follows the schema and says what could not be computed."""
        y, proba, options = ODD[name](*draw(200))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = CalibrationReport(y, proba, **options)
            data = report.to_dict()
            jsonschema.validate(data, SCHEMA)
            assert json.loads(report.to_json()) == data
            assert "<svg" in report.to_html(tmp_path / "report.html")
            report.to_markdown(tmp_path / "report.md")
            report.to_frame()
        assert not any(token in (tmp_path / "report.html").read_text() for token in (">nan", "nan %", "inf %", "None"))

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("a class without rows", "recall of '2'"),
            ("all confidences 1, some wrong", "log loss"),
            ("one confidence", "calibration slope"),
            ("three rows", "intervals of log loss"),
            ("one row", "refinement and calibration"),
        ],
    )
    def test_what_could_not_be_computed_is_said(self, name, said):
        """The report names what it lacks, and the reason."""
        y, proba, options = ODD[name](*draw(200))
        missing = CalibrationReport(y, proba, **options).to_dict()["not_computed"]
        assert any(own["what"].startswith(said) and own["why"] for own in missing)

    def test_too_few_rows_for_a_threshold(self):
        """The report says how many labelled rows a threshold would need."""
        y, proba = draw(40)
        data = CalibrationReport(y, proba).to_dict()
        assert data["selection"]["threshold"] is None
        assert "at least 59 are needed" in data["selection"]["reason"]
        assert any("at least 59 are needed" in sentence for sentence in data["verdict"]["advice"])

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"proba": [[0.5, 0.6]] * 600}, "sums to 1.1"),
            ({"y": ["billing"] * 5}, "y has 5 labels and proba 600 rows"),
            ({"y": ["other"] * 600}, "y\\[0\\]='other' is not one of the classes"),
            ({"classes": None, "y": ["billing"] * 600, "proba_before": None}, "1 different labels for 3 columns"),
            ({"proba": np.full((600, 3), math.nan)}, "no row of proba has probabilities"),
            ({"proba_before": [[0.5, 0.5]] * 600}, "proba_before has shape"),
            ({"texts": ["a"]}, "texts has 1 entries and proba 600 rows"),
            ({"texts": "a" * 600}, "texts has 600 entries"),
            ({"groups": ["a"]}, "groups 'slice' has shape \\(1,\\)"),
            ({"label_mass": [2.0] * 600}, "label_mass holds 2.0"),
            ({"label_mass": [0.5]}, "label_mass has shape"),
            ({"metadata": ["m"]}, "metadata is a list"),
            ({"max_error": 5}, "max_error=5"),
            ({"confidence": 95}, "confidence=95"),
            ({"n_bins": 0}, "n_bins=0"),
            ({"cost_error": -1.0}, "cost_error=-1.0"),
            ({"random_state": 1.5}, "random_state=1.5"),
        ],
    )
    def test_refused(self, rows, change, match):
        """What cannot be reported on is refused, with the value and the cure."""
        with pytest.raises(InputError, match=match):
            CalibrationReport(**{**rows, **change})

    @pytest.mark.slow
    def test_an_unwritable_file(self, report, tmp_path):
        """A page that cannot be written is an error of the store, and leaves nothing behind."""
        with pytest.raises(StoreError, match="cannot be written"):
            report.to_html(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestForms:
    def test_the_schema_is_closed(self, report):
        """Every entry is described: a schema that allowed anything would describe nothing."""
        data = report.to_dict()
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        jsonschema.validate(data, SCHEMA)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "new": 1}, SCHEMA)

    def test_to_dict_is_a_copy(self, report):
        """Who changes it does not change the report."""
        report.to_dict()["metrics"].clear()
        assert report.to_dict()["metrics"]

    def test_markdown_shows_text_as_text(self):
        """Class and slice names with markup stay names: no table cell more, no tag, no link, no mention."""
        y, proba = draw(100)
        names = ["a | b", "<script>alert(1)</script>", "[x](http://x) @someone"]
        text = CalibrationReport(np.array(names, dtype=object)[y], proba, classes=names).to_markdown()
        assert "<script" not in text
        assert not re.search(r"(?<!\\)\]\(", text)
        assert "http://" not in text
        assert "@someone" not in text
        for table in text.split("\n\n"):
            if table.startswith("| "):
                assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1

    @pytest.mark.slow
    def test_notebook(self, report):
        """In a notebook the page stands in a frame of its own, with all its quotes escaped."""
        frame = report._repr_html_()
        assert frame.startswith("<iframe")
        assert frame.count('"') == 2 * frame.split("srcdoc")[0].count('="') + 2
        assert repr(report).startswith("<CalibrationReport of 600 rows: On 600 labelled rows")

    @pytest.mark.slow
    def test_figures_as_files(self, report, tmp_path):
        """Each figure is written as a PNG, and matplotlib's own state is left as it was."""
        import matplotlib
        from matplotlib import pyplot

        before, figures = dict(matplotlib.rcParams), pyplot.get_fignums()
        paths = report.to_png(tmp_path / "figures")
        assert sorted(path.name for path in paths) == [
            "classes.png",
            "label_mass.png",
            "reliability.png",
            "risk_coverage.png",
        ]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
        assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == (before, figures)

    def test_provenance(self, report):
        """The metadata that were given, and what makes the report again."""
        found = report.to_dict()["provenance"]
        assert found["model"] == {"name": "m"}
        assert len(found["report"]["rows_sha256"]) == 64

    def test_metadata_of_any_kind(self, rows):
        """What JSON cannot hold is kept as text."""
        given_metadata = {"path": object, "x": np.float64(2.0), "n": {1: math.inf}}
        data = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, metadata=given_metadata).to_dict()
        assert data["provenance"]["x"] == 2.0
        assert data["provenance"]["n"] == {"1": "inf"}
        jsonschema.validate(data, SCHEMA)


class TestAdvice:
    def test_recalibration_is_advised_where_it_helps(self, rows):
        """Sharpened probabilities can be mended, and the report says by how much; mended ones get no such advice."""
        for proba, expected in ((rows["proba_before"], True), (rows["proba"], False)):
            advice = CalibrationReport(rows["y"], proba, classes=CLASSES).to_dict()["verdict"]["advice"]
            assert any("Recalibrate" in sentence for sentence in advice) is expected

    def test_a_class_to_look_at(self):
        """A class whose predictions are wrong more often than others of the same confidence is named."""
        y, proba = draw(2000, seed=5)
        predicted = proba.argmax(axis=1)
        rng = np.random.default_rng(1)
        y = np.where((predicted == 2) & (rng.random(2000) < 0.3), 0, y)
        report = CalibrationReport(y, proba).to_dict()
        assert [own["flag"] for own in report["classes"]][2] == "worse"
        assert any("Look at the class '2'" in sentence for sentence in report["verdict"]["advice"])

    def test_a_model_that_wants_to_say_something_else(self, rows):
        """A small label mass points to prompt and words."""
        options = {name: rows[name] for name in ("y", "proba", "classes")}
        low = CalibrationReport(**options, label_mass=np.full(600, 0.01)).to_dict()["verdict"]["advice"]
        assert any("prompt and label words" in sentence for sentence in low)


@pytest.mark.slow
class TestCompare:
    def test_the_same_rows(self, rows):
        """On the same rows the differences are paired, and the better run is named."""
        a = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, texts=rows["texts"])
        b = CalibrationReport(rows["y"], rows["proba_before"], classes=CLASSES, texts=rows["texts"])
        data = compare(a, b).to_dict()
        assert data["paired"]
        change = paired_difference(rows["y"], rows["proba"], rows["proba_before"], classes=CLASSES, random_state=0)
        found = data["metrics"]["log_loss"]["difference"]
        assert [found["value"], found["low"], found["high"]] == pytest.approx(change[:3])
        assert "A is better" in data["verdict"]
        assert data["agreement"] == 1.0
        assert data["shift"] is None

    @pytest.mark.parametrize(
        ("metadata", "names"),
        [
            (({"model": {"name": "small"}}, {"model": {"name": "large"}}), ("small", "large")),
            (({"prompt": {"template": "{{ text }}:"}}, {"prompt": {"template": "x"}}), ("“{{ text }}:”", "x")),
            (({"calibrator": None}, {"calibrator": {"name": "auto"}}), ("no\N{NO-BREAK SPACE}calibrator", "auto")),
            (({"model": "m"}, {"model": "m"}), ("A", "B")),
        ],
    )
    def test_the_sides_have_names(self, rows, metadata, names):
        """The sides of a comparison are called by what tells them apart: model, prompt or calibrator."""
        a, b = (
            CalibrationReport(rows["y"], rows[part], classes=CLASSES, metadata=given)
            for part, given in zip(("proba", "proba_before"), metadata, strict=True)
        )
        comparison = compare(a, b)
        data = comparison.to_dict()
        assert (data["a"]["name"], data["b"]["name"]) == names
        assert f"{names[0]} is better" in comparison.verdict
        assert "minus" not in comparison.to_markdown()
        named = compare(a, b, names=("short prompt", "long prompt"))
        assert "short prompt is better" in named.verdict
        assert "long prompt" in named.to_html()

    @pytest.mark.parametrize("names", [("a",), ("a", "a"), ("a", ""), "ab", (1, 2)])
    def test_names_that_tell_nothing_apart(self, rows, names):
        """Names must be two different texts."""
        a = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES)
        with pytest.raises(InputError, match="two different names"):
            compare(a, a, names=names)

    def test_rows_that_changed(self, rows):
        """Rows with another prediction are listed with their texts and class names, those that became wrong first."""
        other = rows["proba"][:, [1, 0, 2]]
        a = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, texts=rows["texts"])
        b = CalibrationReport(rows["y"], other, classes=CLASSES, texts=rows["texts"])
        changed = compare(a, b).to_dict()["changed"]
        one, two = (np.array(CLASSES)[p.argmax(axis=1)] for p in (rows["proba"], other))
        y = np.asarray(rows["y"])
        assert changed["n"] == (one != two).sum()
        assert changed["n_broken"] == ((one == y) & (two != y)).sum()
        assert changed["n_mended"] == ((one != y) & (two == y)).sum()
        kinds = [(row["b"] == row["true"], row["a"] != row["true"]) for row in changed["rows"]]
        assert kinds == sorted(kinds)
        for row in changed["rows"]:
            i = row["row"]
            assert (row["true"], row["a"], row["b"], row["text"]) == (
                str(y[i]),
                str(one[i]),
                str(two[i]),
                rows["texts"][i],
            )
            assert row["text"] in compare(a, b).to_html() or "&" in row["text"]

    def test_columns_in_another_order(self, rows):
        """The second report's classes may stand in another order; the same probabilities show no difference."""
        order = [2, 0, 1]
        a = CalibrationReport(rows["y"], rows["proba"], classes=CLASSES)
        b = CalibrationReport(rows["y"], rows["proba"][:, order], classes=[CLASSES[k] for k in order])
        data = compare(a, b).to_dict()
        assert data["paired"]
        assert all(abs(entry["difference"]["value"]) < 1e-9 for entry in data["metrics"].values())

    def test_other_rows_of_the_same_kind(self):
        """Two samples from one source: no shift, no change of calibration."""
        a, b = (CalibrationReport(*draw(800, seed=seed)) for seed in (1, 2))
        data = compare(a, b).to_dict()
        assert not data["paired"]
        assert not data["shift"]["moved"]
        assert not data["calibration_change"]["changed"]
        assert "No shift of the probabilities" in data["verdict"]

    def test_scores_that_moved_without_losing_calibration(self):
        """Easier rows: the probabilities move, and rows of the same confidence are right as often."""
        a, b = CalibrationReport(*draw(1500, seed=1)), CalibrationReport(*draw(1500, seed=2, sharpness=2.5))
        data = compare(a, b).to_dict()
        assert data["shift"]["moved"]
        assert not data["calibration_change"]["changed"]
        assert data["metrics"]["accuracy"]["difference"]["low"] > 0

    def test_calibration_that_changed(self):
        """The same confidences, and more of them wrong: that needs labels to see, and is seen with them."""
        a = CalibrationReport(*draw(1500, seed=1))
        y, proba = draw(1500, seed=2)
        rng = np.random.default_rng(0)
        b = CalibrationReport(np.where(rng.random(1500) < 0.25, rng.integers(0, 3, 1500), y), proba)
        data = compare(a, b).to_dict()
        assert not data["shift"]["moved"]
        assert data["calibration_change"]["changed"]
        assert "no longer right as often" in data["verdict"]

    @pytest.mark.slow
    def test_how_often_nothing_is_called_a_change(self):
        """The exact test of the calibration is passed by about 95 % of pairs of samples from one source."""
        changed = sum(
            compare(
                CalibrationReport(*draw(120, seed=2 * i)), CalibrationReport(*draw(150, seed=2 * i + 1)), paired=False
            ).to_dict()["calibration_change"]["changed"]
            for i in range(40)
        )
        assert changed <= 5

    def test_copies_are_no_change(self):
        """Rows that are copies of a few give the tests of drift no more rows: two samples from one source show no change."""
        found = {"moved": 0, "changed": 0}
        for i in range(20):
            samples = [draw(40, seed=500 + 2 * i + second) for second in (0, 1)]
            authors = np.repeat(np.arange(40), 10)
            a, b = (CalibrationReport(y.repeat(10), proba.repeat(10, axis=0), clusters=authors) for y, proba in samples)
            data = compare(a, b, paired=False).to_dict()
            found["moved"] += data["shift"]["moved"]
            found["changed"] += data["calibration_change"]["changed"]
            alone = compare(*(CalibrationReport(*sample) for sample in samples), paired=False).to_dict()
            assert data["shift"]["p_value"] == alone["shift"]["p_value"]
            assert data["calibration_change"]["p_value"] == alone["calibration_change"]["p_value"]
            assert data["shift"]["predicted_shares"] == alone["shift"]["predicted_shares"]
        assert max(found.values()) <= 3

    def test_differences_on_other_rows(self):
        """Their intervals are about as wide as the two runs' own standard errors say, around the difference."""
        a, b = CalibrationReport(*draw(1500, seed=1)), CalibrationReport(*draw(1000, seed=2, sharpness=2.5))
        found = compare(a, b).to_dict()["metrics"]
        for name in ("accuracy", "log_loss", "brier"):
            own = [report.to_frame().loc[name] for report in (a, b)]
            difference = found[name]["difference"]
            assert difference["value"] == pytest.approx(own[1]["value"] - own[0]["value"])
            half = math.hypot(*((part["high"] - part["low"]) / 2 for part in own))
            assert difference["value"] - difference["low"] == pytest.approx(half, rel=0.15)
            assert difference["high"] - difference["value"] == pytest.approx(half, rel=0.15)
        ece = found["ece"]["difference"]
        assert ece["low"] < ece["value"] < ece["high"]

    def test_rows_without_labels(self):
        """Against mere probabilities the label-free part is said, and what it cannot say."""
        a = CalibrationReport(*draw(800, seed=1))
        comparison = compare(a, draw(800, seed=2, sharpness=3.0)[1])
        data = comparison.to_dict()
        assert data["metrics"] == {}
        assert data["shift"]["moved"]
        assert "Without labels" in comparison.verdict
        assert comparison.to_frame().empty

    def test_forms(self, report, tmp_path):
        """A comparison is a page, Markdown, JSON and a data frame."""
        comparison = compare(report, report, paired=False)
        assert "Have the probabilities moved?" in comparison.to_html(tmp_path / "c.html")
        assert "| Metric | A | B |" in comparison.to_markdown(tmp_path / "c.md")
        assert json.loads(comparison.to_json(tmp_path / "c.json")) == comparison.to_dict()
        assert comparison.to_frame().loc["accuracy", "difference"] == 0.0
        assert comparison._repr_html_().startswith("<iframe")

    def test_refused(self, rows, report):
        """Runs that cannot be compared are refused."""
        with pytest.raises(InputError, match="different classes"):
            compare(report, CalibrationReport(*draw(100)))
        with pytest.raises(InputError, match="expected a CalibrationReport"):
            compare(rows["proba"], report)
        with pytest.raises(InputError, match="600 and 300 rows"):
            compare(report, CalibrationReport(rows["y"][:300], rows["proba"][:300], classes=CLASSES), paired=True)
        with pytest.raises(InputError, match="true classes of the two reports differ"):
            compare(report, CalibrationReport(rows["y"][::-1], rows["proba"][::-1], classes=CLASSES), paired=True)
        with pytest.raises(InputError, match="confidence=0.95 and confidence=0.9"):
            compare(report, CalibrationReport(rows["y"], rows["proba"], classes=CLASSES, confidence=0.9))
        with pytest.raises(InputError, match="2 columns and report_a 3 classes"):
            compare(report, [0.5, 0.5])
