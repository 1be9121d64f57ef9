"""The watch over a log: what it finds, that looking costs nothing, and what it says to do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from monitoring.watched import CLASSES, THRESHOLD, a_baseline, audit, draw, records

from llmclf.certificates import ReferenceRows
from llmclf.errors import InputError
from llmclf.monitoring import Baseline, DecisionLog, DecisionRecord, Watch, WatchReport, watch


def a_log(folder, proba) -> DecisionLog:
    log = DecisionLog(folder, classes=CLASSES, certificate="c1", model="m")
    log.append(records(proba))
    log.close()
    return log


def table_of(rows) -> pd.DataFrame:
    """Decisions as `llmclf label` writes them."""
    p = np.array([one.probabilities for one in rows])
    return pd.DataFrame(
        {
            "id": [one.id for one in rows],
            "label": [one.label for one in rows],
            "p_praise": p[:, 0],
            "p_complaint": p[:, 1],
            "accepted": [one.accepted for one in rows],
        }
    )


def accepted_rows(confidence) -> np.ndarray:
    return np.flatnonzero(confidence >= THRESHOLD)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[DecisionLog, np.ndarray, np.ndarray]:
    """A log of a classifier that keeps its promise, with truth and confidences."""
    proba, truth, confidence = draw(2000, seed=2)
    return a_log(tmp_path_factory.mktemp("kept"), proba), truth, confidence


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> tuple[DecisionLog, np.ndarray, np.ndarray]:
    """One whose rows are right 15 points less often."""
    proba, truth, confidence = draw(2000, seed=3, gap=0.15)
    return a_log(tmp_path_factory.mktemp("broken"), proba), truth, confidence


def test_a_kept_promise_raises_no_alarm(kept):
    """And the report says how far the audit has come."""
    log, truth, confidence = kept
    report = watch(log, a_baseline(), audit(truth, accepted_rows(confidence)[:300]))
    assert (report.alarms, report.exit_code) == ([], 0)
    assert report.verdict.startswith("No alarm: 2,000 rows are like those of the certificate; ")
    assert [action["kind"] for action in report.actions] == ["continue"]
    audited = report.to_dict()["audited"]
    assert audited["n_accepted"] == audited["promise"]["n"] == 300
    assert audited["error"]["low"] <= audited["error"]["value"] <= audited["error"]["high"]


def test_without_labels_the_report_asks_for_an_audit(kept):
    """Of as many rows as the test is made for."""
    report = watch(kept[0], a_baseline(), horizon=120)
    assert report.exit_code == 0
    assert "no row is audited yet" in report.verdict
    [action] = report.actions
    assert (action["kind"], action["n_labels"]) == ("continue", 120)


def test_a_broken_promise_is_found(broken):
    """The most urgent alarm decides the exit code, and the report says what to do."""
    log, truth, confidence = broken
    report = watch(log, a_baseline(), audit(truth, accepted_rows(confidence)[:250]))
    assert report.exit_code == 4
    assert [alarm["kind"] for alarm in report.alarms] == ["promise", "calibration"]
    kinds = [action["kind"] for action in report.actions]
    assert kinds == ["stop", "recalibrate", "certify"]
    recalibrate = report.actions[1]
    assert recalibrate["n_labels"] > 0
    assert THRESHOLD <= recalibrate["region"][0] < recalibrate["region"][1] <= 1.0
    assert 0 < report.alarms[0]["row"] < 250


def test_a_threshold_that_keeps_the_promise_is_named(tmp_path):
    """Where only the less confident of the accepted rows have become wrong."""
    proba, truth, confidence = draw(4000, seed=4)
    doubtful = (confidence >= THRESHOLD) & (confidence < 0.97)
    truth[doubtful] = np.where(np.random.default_rng(0).random(doubtful.sum()) < 0.5, 0, 1)
    report = watch(a_log(tmp_path, proba), a_baseline(), audit(truth, np.arange(1500)))
    assert report.exit_code == 4
    action = report.actions[0]
    assert action["kind"] == "change_threshold"
    assert 0.9 < action["threshold"] < 1.0
    assert f"{action['threshold']:.4g}" in action["text"]


def test_calibration_may_break_while_the_promise_is_kept(tmp_path):
    """Rows that are never accepted have become wrong."""
    proba, truth, confidence = draw(3000, seed=5)
    truth[confidence < 0.75] = 1 - proba.argmax(axis=1)[confidence < 0.75]
    report = watch(a_log(tmp_path, proba), a_baseline(), audit(truth, np.arange(600)))
    assert report.exit_code == 5
    assert [action["kind"] for action in report.actions] == ["recalibrate", "certify"]
    assert report.actions[0]["region"][1] <= 0.8


def test_rows_of_another_kind_are_found(tmp_path):
    """A shift asks for an audit, and does not say that rows are wrong."""
    proba, _, _ = draw(3000, seed=6, shape=0.3)
    report = watch(a_log(tmp_path, proba), a_baseline())
    assert report.exit_code == 3
    assert {"confidence", "accepted"} <= {alarm["statistic"] for alarm in report.alarms}
    assert [action["kind"] for action in report.actions] == ["audit"]
    assert report.actions[0]["region"][1] <= 0.8


def test_errors_and_undecided_rows_are_found(tmp_path):
    """The certificate's rows had none of either."""
    proba, _, _ = draw(1000, seed=7)
    log = DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model="m")
    rows = [
        DecisionRecord(one.id, one.time, error="Timeout") if i % 5 == 0 else replace(one, undecided=i % 5 == 1)
        for i, one in enumerate(records(proba))
    ]
    with log:
        log.append(rows)
    report = watch(log, a_baseline())
    assert {alarm["statistic"] for alarm in report.alarms} == {"errors", "undecided"}
    assert report.to_dict()["rows"]["errors"] == {"Timeout": 200}


def test_looking_often_changes_nothing(tmp_path, broken):
    """A watch that is asked after every few rows says in the end what one says that looks once."""
    _, truth, confidence = broken
    proba, _, _ = draw(2000, seed=3, gap=0.15)
    log = DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model="m", max_rows=300)
    often = Watch(log, a_baseline())
    labels = audit(truth, accepted_rows(confidence)[:250])
    with log:
        for start in range(0, 2000, 130):
            log.append(records(proba[start : start + 130], start))
            often.report(labels[:5] if start > 130 else None)
    one, other = often.report(labels).to_dict(), watch(log, a_baseline(), labels).to_dict()
    assert json.dumps(one["audited"]) == json.dumps(other["audited"])
    assert one["alarms"] == other["alarms"]
    for mine, theirs in zip(one["shifts"], other["shifts"], strict=True):
        assert mine.pop("mean") == pytest.approx(theirs.pop("mean"))
        assert mine == theirs


def test_a_table_says_what_its_log_says(tmp_path, broken):
    """The columns that label writes, as a frame or as a file, with ids that are numbers."""
    log, truth, confidence = broken
    columns = log.read()
    table = pd.DataFrame(
        {
            "number": np.arange(2000),
            "new_label": [CLASSES[k] for k in columns.labels],
            "new_accepted": columns.accepted == 1,
            "new_p_praise": columns.probabilities[:, 0],
            "new_p_complaint": columns.probabilities[:, 1],
            "new_label_mass": columns.label_mass,
            "new_undecided": columns.undecided,
            "new_error": None,
        }
    )
    table.to_csv(tmp_path / "labelled.csv", index=False)
    labels = audit(truth, accepted_rows(confidence)[:250])
    options = {"id_column": "number", "prefix": "new_"}
    expected = watch(log, a_baseline(), labels).to_dict()
    labels["id"] = [one.removeprefix("r") for one in labels["id"]]
    for source in (table, tmp_path / "labelled.csv"):
        found = watch(source, a_baseline(), labels, **options).to_dict()
        for name in ("shifts", "audited", "classes"):
            for one in found["shifts"] + expected["shifts"]:
                one["alarm"] = None if one["alarm"] is None else one["alarm"]["row"]  # a table has no times
            assert found[name] == expected[name]


def test_a_table_without_decisions_is_decided_by_the_threshold(broken):
    """As predict without a threshold writes it."""
    log, truth, confidence = broken
    columns = log.read()
    table = pd.DataFrame({"id": columns.ids, "label": [CLASSES[k] for k in columns.labels]})
    table["p_praise"], table["p_complaint"] = columns.probabilities.T
    report = watch(table, a_baseline(), audit(truth, accepted_rows(confidence)[:250]))
    assert report.to_dict()["audited"]["n_accepted"] == 250
    assert report.exit_code == 4


def test_rows_that_cannot_be_used_are_counted(kept):
    """Ids that the log does not have, and labels that are given again."""
    log, truth, _ = kept
    labels = pd.concat([audit(truth, [3, 5, 3]), pd.DataFrame({"id": ["none", "r9"], "label": ["praise", ""]})])
    audited = watch(log, a_baseline(), labels).to_dict()["audited"]
    assert (audited["n"], audited["n_used"], audited["n_unknown"], audited["n_repeated"]) == (3, 2, 1, 1)


def test_an_id_with_two_decisions_counts_if_they_agree(tmp_path):
    """A row that a table, or two files of a log, have twice is one; what cannot be told apart is left out."""
    proba, truth, _ = draw(40, seed=8)
    rows = [records(proba), records(proba[:1]), records(1 - proba[1:2], 1)]
    # The same class and another confidence: another text under an id that was given twice.
    rows.append(records(0.98 * proba[2:3] + 0.01, 2))
    for n_parts, n_used in ((3, 2), (4, 1)):
        parts = rows[:n_parts]
        with DecisionLog(tmp_path / str(n_parts), classes=CLASSES, certificate="c1", model="m", max_rows=1) as log:
            for part in parts:
                log.append(part)
        for source in (log, table_of([one for part in parts for one in part])):
            report = watch(source, a_baseline(), audit(truth, [0, 1, 2]))
            audited = report.to_dict()["audited"]
            assert (audited["n_used"], audited["n_ambiguous"]) == (n_used, 3 - n_used)
            assert any("several decisions that differ" in one for one in report.left_out)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (pd.DataFrame({"id": ["r1"]}), {}, "no column 'label'"),
        (pd.DataFrame({"id": ["r1"], "label": ["neither"]}), {}, "column 'label': .*'neither'"),
        (pd.DataFrame({"id": ["r1", "r1"], "label": list(CLASSES)}), {}, "gives the id 'r1' two labels"),
        (
            pd.DataFrame({"id": ["r1", "r1"], "label": ["praise"] * 2, "inclusion": [0.5, 0.25]}),
            {"inclusion_floor": 0.1},
            "gives the id 'r1' two inclusion probabilities",
        ),
        (pd.DataFrame({"id": ["", "r1"], "label": list(CLASSES)}), {}, "row 0 is empty"),
        (pd.DataFrame({"id": ["a"], "label": ["praise"]}), {}, "none of the 1 audited ids, such as 'a'"),
        (pd.DataFrame({"id;label": ["r1;praise"]}), {}, "if ';' separates the cells, give delimiter="),
        (None, {"model": 5}, "model=5"),
        (pd.DataFrame({"id": ["r1"], "label": ["praise"], "inclusion": [0.5]}), {}, "inclusion_floor="),
        (pd.DataFrame({"id": ["r1"], "label": ["praise"], "inclusion": [2]}), {}, "row 0: .*2.*at most 1"),
        (
            pd.DataFrame({"id": ["r1"], "label": ["praise"], "inclusion": [0.1]}),
            {"inclusion_floor": 0.2},
            "below inclusion_floor=0.2",
        ),
        ([1, 2], {}, "audited=list"),
        (None, {"alpha": 5}, "alpha=5"),
        (None, {"horizon": 0}, "horizon=0"),
        (None, {"horizon": 10**12}, "horizon=1000000000000; .*at most 1,000,000"),
        (pd.DataFrame({"id": ["r1"], "label": ["praise"]}), {"inclusion_floor": 0.1}, "have no column inclusion"),
        (None, {"min_shift": -1}, "min_shift=-1"),
        (None, {"calibration_tolerance": 0.5}, "calibration_tolerance=0.5"),
        (None, {"inclusion_floor": 0}, "inclusion_floor=0"),
    ],
)
def test_what_cannot_be_used_is_named(kept, labels, options, message):
    """With the value, and what was expected."""
    with pytest.raises(InputError, match=message):
        watch(kept[0], a_baseline(), labels, **options)


def test_logs_and_tables_that_do_not_fit_are_named(tmp_path, kept):
    """Of another certificate, of other classes, or without the columns."""
    log = kept[0]
    with pytest.raises(InputError, match="no decisions made under the certificate c2; it has those of: c1"):
        watch(log.folder, a_baseline(certificate="c2"))
    with pytest.raises(InputError, match="made under another certificate than c2"):
        watch(log, a_baseline(certificate="c2"))
    other = DecisionLog(tmp_path, classes=("a", "b"), certificate="c1", model="m")
    with pytest.raises(InputError, match="has the classes"):
        watch(other, a_baseline())
    with pytest.raises(InputError, match="no column 'label'"):
        watch(pd.DataFrame({"id": [1]}), a_baseline())
    table = pd.DataFrame({"label": ["praise"], "p_praise": [0.5], "p_complaint": [0.5], "accepted": ["perhaps"]})
    with pytest.raises(InputError, match="--id-column"):
        watch(table, a_baseline())
    with pytest.raises(InputError, match="'perhaps' is neither True nor False"):
        watch(table.assign(id=1), a_baseline())
    with pytest.raises(InputError, match="certificate=None"):
        watch(log, None)
    with pytest.raises(InputError, match="log=int"):
        watch(5, a_baseline())
    with pytest.raises(InputError, match="has no certificate; run llmclf certify"):
        watch(log, tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("p_praise", 97.0, "'p_praise', row 1: 97; expected a probability"),
        ("p_praise", -0.5, "'p_praise', row 1: -0.5"),
        ("p_complaint", np.inf, "'p_complaint', row 1: inf"),
        ("label_mass", 1.5, "'label_mass', row 1: 1.5"),
        ("p_complaint", None, "'p_complaint', row 1 is empty, and the row has a label"),
    ],
)
def test_numbers_of_a_table_that_are_no_probabilities_are_named(column, value, message):
    """Percentages would look like a shift."""
    table = pd.DataFrame(
        {"id": [1, 2], "label": "praise", "p_praise": [0.75, 0.75], "p_complaint": [0.25, 0.25], "label_mass": [1.0, 1]}
    )
    assert watch(table, a_baseline()).to_dict()["rows"]["n"] == 2
    table.loc[1, column] = value
    with pytest.raises(InputError, match=message):
        watch(table, a_baseline())


def test_certified_rows_that_belong_together_are_no_reason_for_an_alarm():
    """Ten rows of each of 60 authors say as much about later rows as 60 rows do; rows of another kind are found all the same."""

    def told(n_groups, shift=0.0):
        alarms = 0
        for seed in range(12):
            rng = np.random.default_rng(seed)
            proba = _rows_of_authors(rng, 60, 10)
            n = len(proba)
            accepted = proba.max(axis=1) >= 0.8
            reference = ReferenceRows(proba, accepted, np.full(n, 0.9), np.zeros(n, dtype=bool), np.ones(n, dtype=bool))
            baseline = Baseline(reference, CLASSES, max_error=0.07, threshold=0.8, n_groups=n_groups)
            later = _rows_of_authors(rng, 6000, 1, shift)
            label = np.array(CLASSES)[later.argmax(axis=1)]
            table = pd.DataFrame(
                {"id": range(6000), "label": label, "p_praise": later[:, 0], "p_complaint": later[:, 1]}
            )
            alarms += watch(table, baseline).exit_code == 3
        return alarms

    assert told(None) >= 3
    assert told(60) == 0
    assert told(60, shift=2.0) == 12


def test_intervals_of_certified_class_shares_count_authors():
    """Authors of one to twenty rows: the true share lies in 36 of 40 intervals of 95 % at least, and not if rows count."""
    covered = {True: 0, False: 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sizes = rng.choice([1, 5, 20], 40)
        logits = np.repeat(rng.normal(0.0, 2.0, 40), sizes) + rng.normal(0, 0.3, sizes.sum())
        praise = 1.0 / (1.0 + np.exp(-logits))
        proba, n = np.column_stack([praise, 1.0 - praise]), int(sizes.sum())
        for knows in covered:
            groups = np.repeat(np.arange(40), sizes) if knows else None
            no = np.zeros(n, dtype=bool)
            reference = ReferenceRows(proba, ~no, np.full(n, 0.9), no, ~no, groups)
            table = pd.DataFrame({"id": [1], "label": ["praise"], "p_praise": [0.9], "p_complaint": [0.1]})
            shown = watch(table, Baseline(reference, CLASSES, max_error=0.07)).to_dict()["classes"][0]["reference"]
            covered[knows] += shown["low"] <= 0.5 <= shown["high"]
    assert covered[True] >= 36
    assert covered[False] <= 30


def _rows_of_authors(rng, n_authors: int, n_each: int, shift: float = 0.0) -> np.ndarray:
    logits = np.repeat(rng.normal(1.5 + shift, 1.0, n_authors), n_each) + rng.normal(0, 0.5, n_authors * n_each)
    praise = 1.0 / (1.0 + np.exp(-logits))
    return np.column_stack([praise, 1.0 - praise])


def test_an_uneven_audit_is_weighted(tmp_path):
    """Rows that the audit prefers, of which many are wrong, do not break a promise that is kept over all rows."""
    proba, truth, confidence = draw(6000, seed=9)
    rows = accepted_rows(confidence)
    wrong = proba.argmax(axis=1) != truth
    inclusion = np.where(confidence < 0.93, 0.8, 0.1)
    drawn = rows[np.random.default_rng(0).random(len(rows)) < inclusion[rows]]
    labels = audit(truth, drawn)
    log = a_log(tmp_path, proba)
    promise = float(wrong[rows].mean()) + 0.01
    blind = watch(log, a_baseline(max_error=promise), labels)
    assert blind.exit_code == 4
    labels["inclusion"] = inclusion[drawn]
    weighted = watch(log, a_baseline(max_error=promise), labels, inclusion_floor=0.1)
    assert weighted.exit_code == 0
    error = weighted.to_dict()["audited"]["error"]
    assert error["low"] < wrong[rows].mean() < error["high"]
    strict = watch(log, a_baseline(max_error=promise / 3), labels, inclusion_floor=0.1)
    assert strict.exit_code == 4


def test_certificates_that_are_expired_or_drawn_unevenly_are_said(kept):
    """An expired one raises an alarm; uneven rows are not compared with."""
    past = datetime.now(UTC) - timedelta(days=1)
    report = watch(kept[0], a_baseline(expires=past))
    assert report.exit_code == 6
    assert [action["kind"] for action in report.actions] == ["certify"]
    assert report.gauges()["llmclf_watch_certificate_expired"] == 1.0
    uneven = watch(kept[0], a_baseline(is_even=False))
    assert uneven.to_dict()["shifts"] == []
    assert "drawn unevenly" in uneven.verdict
    assert "nothing is compared" in uneven.to_html()


def test_reports_are_plain(broken):
    """JSON without NaN, a line per test, and gauges whose names Prometheus takes."""
    log, truth, confidence = broken
    report = watch(log, a_baseline(), audit(truth, accepted_rows(confidence)[:250]))
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert WatchReport(again).to_dict() == again
    frame = report.to_frame()
    assert frame["test"].tolist()[-2:] == ["promise", "calibration"]
    assert (frame["largest_log_e_value"] >= 0).all()
    gauges = report.gauges()
    assert all(re.fullmatch(r"llmclf_watch_[a-z0-9_]+", name) for name in gauges)
    assert all(isinstance(value, float) and np.isfinite(value) for value in gauges.values())
    assert gauges["llmclf_watch_promise_alarm"] == 1.0
    assert gauges["llmclf_watch_exit_code"] == 4.0


def test_models_are_told_apart(tmp_path):
    """Where several decide by turns under one certificate, one of them is watched, and what the others did is said."""
    proba, truth, confidence = draw(2000, seed=2)
    shifted, _, _ = draw(2000, seed=6, shape=0.3)
    logs = {name: DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model=name) for name in ("good@1", "bad@2")}
    for start in range(0, 2000, 500):
        part = slice(start, start + 500)
        logs["good@1"].append(records(proba[part], start))
        logs["bad@2"].append([replace(one, id=f"b{one.id}") for one in records(shifted[part], start)])
    for log in logs.values():
        log.close()
    with pytest.raises(InputError, match=r"several models .* 'good@1', 'bad@2'; say which .* model= \(--model\)"):
        watch(tmp_path, a_baseline())
    with pytest.raises(InputError, match="no decisions of the model 'good@2'; it has those of: 'good@1', 'bad@2'"):
        watch(tmp_path, a_baseline(), model="good@2")
    with pytest.raises(InputError, match="of the model 'bad@2', and not of model='good@1'"):
        watch(logs["bad@2"], a_baseline(), model="good@1")
    report = watch(tmp_path, a_baseline(), audit(truth, accepted_rows(confidence)[:300]), model="good@1")
    assert (report.exit_code, report.to_dict()["rows"]["n"], report.to_dict()["models"]) == (0, 2000, ["good@1"])
    assert report.left_out == ["2,000 rows decided by the model bad@2"]
    assert "2,000 rows decided by the model bad@2" in report.to_html()
    assert watch(tmp_path, a_baseline(), model="bad@2").exit_code == 3


def test_a_model_that_begins_meanwhile_is_noticed(tmp_path):
    """A watch that goes on does not mix its rows in, nor pass them over."""
    proba, _, _ = draw(100, seed=2)
    a_log(tmp_path, proba)
    often, one = Watch(tmp_path, a_baseline()), Watch(tmp_path, a_baseline(), model="m")
    assert often.report().to_dict()["rows"]["n"] == one.report().to_dict()["rows"]["n"] == 100
    with DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model="n") as other:
        other.append([replace(record, id=f"n{record.id}") for record in records(proba)])
    with pytest.raises(InputError, match="several models"):
        often.report()
    report = one.report()
    assert (report.to_dict()["rows"]["n"], report.left_out) == (100, ["100 rows decided by the model n"])


@pytest.mark.parametrize("n_read", [100, 0])
def test_a_model_that_begins_in_the_place_of_another_is_not_mixed_in(tmp_path, n_read):
    """The log that was watched is removed: the tests do not go on with another model's rows, however often one looks."""
    proba, _, _ = draw(100, seed=2)
    a_log(tmp_path, proba[:n_read])
    watch = Watch(tmp_path, a_baseline())
    assert watch.report().to_dict()["rows"]["n"] == n_read
    for path in tmp_path.iterdir():
        path.unlink()
    with DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model="n") as other:
        other.append([replace(record, id=f"n{record.id}") for record in records(proba)])
    if not n_read:
        assert watch.report().to_dict()["rows"]["n"] == 100
        return
    for _ in range(2):
        with pytest.raises(
            InputError, match="the model 'm', which was watched in .* is gone, and the model 'n' .* new watch"
        ):
            watch.report()
    assert Watch(tmp_path, a_baseline()).report().to_dict()["rows"]["n"] == 100


def test_rows_of_a_table_that_another_certificate_decided_are_left_out(tmp_path):
    """By the column that label adds, and by the metadata of its Parquet files; audited labels of theirs count nowhere."""
    proba, truth, confidence = draw(1000, seed=2)
    table = table_of(records(proba))
    table["certificate"] = np.where(np.arange(1000) < 400, "c0", "c1")
    table.loc[:9, "certificate"] = None
    rows = accepted_rows(confidence)
    table.to_csv(tmp_path / "labelled.csv", index=False)
    expected = watch(table.iloc[400:].drop(columns="certificate"), a_baseline(), audit(truth, rows[rows >= 400]))
    for source in (table, tmp_path / "labelled.csv", table.rename(columns={"certificate": "predicted_certificate"})):
        report = watch(source, a_baseline(), audit(truth, rows))
        assert set(report.left_out) == {
            "10 rows decided under no certificate",
            "390 rows decided under the certificate c0",
            f"{(rows < 400).sum()} audited rows with an id of no decision under the certificate",
        }
        for name in ("shifts", "classes", "rows", "alarms"):
            assert report.to_dict()[name] == expected.to_dict()[name]
        assert report.to_dict()["audited"]["promise"] == expected.to_dict()["audited"]["promise"]
    with pytest.raises(
        InputError, match="no decisions made under the certificate c2; it has those of: no certificate, c0, c1"
    ):
        watch(table, a_baseline(certificate="c2"))


@pytest.mark.parametrize(("said", "name"), [("c1", None), ("c0", "c0"), (None, "no certificate")])
def test_a_parquet_file_says_under_which_certificate_it_was_labelled(tmp_path, said, name):
    """In its metadata, where it has no column of certificates."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written = pa.Table.from_pandas(table_of(records(draw(300, seed=2)[0])))
    described = json.dumps({"version": "1", "certificate": {"id": said, "status": "valid" if said else "none"}})
    pq.write_table(written.replace_schema_metadata({"llmclf": described}), tmp_path / "labelled.parquet")
    if name is None:
        assert watch(tmp_path / "labelled.parquet", a_baseline()).to_dict()["rows"]["n"] == 300
    else:
        with pytest.raises(InputError, match=f"certificate c1; it has those of: {name}"):
            watch(tmp_path / "labelled.parquet", a_baseline())


def test_rows_that_another_threshold_has_decided_are_refused():
    """By the first of them; a confidence that was rounded at the threshold is none."""
    table = table_of(records(draw(300, seed=2)[0]))
    table.loc[5, ["p_praise", "p_complaint", "accepted", "label"]] = [THRESHOLD - 1e-9, 1 - THRESHOLD, True, "praise"]
    assert watch(table, a_baseline()).to_dict()["rows"]["n"] == 300
    with pytest.raises(
        InputError, match=r"row \d+ of a table .* is accepted, and the certificate accepts rows from 0.9 on"
    ):
        watch(table, a_baseline(threshold=0.9))
    table.loc[7, ["p_praise", "p_complaint", "accepted", "label"]] = [0.95, 0.05, False, "praise"]
    with pytest.raises(InputError, match="row 7 of a table has the confidence 0.95 and is not accepted"):
        watch(table, a_baseline())
    assert watch(table.drop(columns="accepted"), a_baseline(threshold=0.9)).to_dict()["rows"]["n"] == 300


def test_an_empty_folder_is_the_beginning_of_a_log(tmp_path):
    """A watch that has seen it reads what comes; a folder with other files is none."""
    often = Watch(tmp_path, a_baseline())
    for report in (often.report(), often.report()):
        assert (report.exit_code, report.alarms, report.to_dict()["rows"]["n"]) == (0, [], 0)
        assert report.verdict == "No alarm: there are no decisions yet."
    early = often.report({"of an earlier log": "praise"})
    assert early.left_out == ["1 audited row with an id of no decision under the certificate"]
    early.to_html()
    a_log(tmp_path, draw(50, seed=2)[0])
    assert often.report().to_dict()["rows"]["n"] == 50
    with pytest.raises(InputError, match="no decisions made under the certificate c2"):
        watch(tmp_path, a_baseline(certificate="c2"))


def test_an_empty_log_is_no_alarm(tmp_path):
    """Nothing has happened yet."""
    log = DecisionLog(tmp_path, classes=CLASSES, certificate="c1", model="m")
    report = watch(log, a_baseline())
    assert report.exit_code == 0
    report.to_html()
    json.dumps(report.to_dict(), allow_nan=False)
