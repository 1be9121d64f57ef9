"""Certificates in answers, and what the watch says of a server's decisions."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from certificates.made import certificate, of_an_earlier_version, saved
from serving import application, ask

from llmclf.errors import StoreError
from llmclf.serve import decision_records
from llmclf.serve.decision_records import DecisionRecords
from llmclf.serve.event_log import EventLog
from llmclf.serve.promises import Promise, PromisesKept
from llmclf.serve.questions import Answer
from llmclf.serve.watched import WatchedLogs


def certified(folder, **changes):
    """A saved classifier with a certificate."""
    saved(folder)
    certificate(folder, **changes).save(folder)
    return folder


def test_a_certificate_is_valid_expired_broken_or_none(tmp_path):
    """Its id and its state, as they are when they are asked for; another classifier's is broken."""
    folder = certified(tmp_path / "a")
    promise = Promise.of(folder)
    assert promise.to_dict() == {"id": promise.certificate.id, "status": "valid"}
    assert Promise.of(certified(tmp_path / "b", **LONG_AGO)).to_dict()["status"] == "expired"
    saved(tmp_path / "c")
    assert Promise.of(tmp_path / "c").to_dict() == {"id": None, "status": "none"}
    of_an_earlier_version(folder)
    earlier = Promise.of(folder)
    assert earlier.to_dict() == {"id": None, "status": "broken"}
    assert "format 1, of an earlier version of llmclf" in earlier.fault
    (folder / "certificate.json").write_text("{}")
    broken = Promise.of(folder)
    assert broken.to_dict() == {"id": None, "status": "broken"}
    assert "certificate.json" in broken.fault


def said_of(served):
    """What is said of the certificate of the one classifier: in answers, the list of models, readiness and metrics."""
    options = {"good": None, "bad": None}
    one_of = [{"type": "choice", "instructions": "?", "choices": [{"value": "good"}, {"value": "bad"}]}]
    question = {"type": "choice", "criteria": options}
    models = ask(served, "/v1/models").json
    answers = [
        ask(served, "/v1/classify", {"inputs": ["x"]}).json,
        ask(served, "/v1/systemone", {"state": "x", "questions": {"q": question}}).json["x_llmclf"],
        ask(served, "/v1/decisions", {"input": "x", "questions": one_of}).json["x_llmclf"],
        models["models"][0]["x_llmclf"],
        models["data"][0]["x_llmclf"],
    ]
    ready = ask(served, "/readyz")
    assert ready.status == 200  # whoever balances load has no part in it
    return [answer["certificate"] for answer in answers], ready.json.get("certificates")


LONG_AGO = {"issued": "2020-01-31T12:00:00+00:00", "expires": "2021-01-31T12:00:00+00:00"}


def test_every_answer_has_the_certificates_id_and_state(tmp_path):
    """In all three protocols and in the list of models; readiness counts those that do not hold."""
    folder = certified(tmp_path / "a")
    promise = Promise.of(folder)
    assert said_of(application(promise=promise)) == ([{"id": promise.id, "status": "valid"}] * 5, None)
    old = Promise.of(certified(tmp_path / "b", **LONG_AGO))
    assert said_of(application(promise=old)) == ([{"id": old.id, "status": "expired"}] * 5, {"expired": 1})
    (folder / "certificate.json").write_text("{}")
    said = [{"id": None, "status": "broken"}] * 5, {"broken": 1}
    assert said_of(application(promise=Promise.of(folder))) == said
    assert said_of(application()) == ([{"id": None, "status": "none"}] * 5, None)


def test_a_certificate_expires_while_the_server_runs(tmp_path):
    """From one answer to the next; it is noticed once."""
    expires = datetime.now(UTC) + timedelta(seconds=2)
    promise = Promise.of(certified(tmp_path / "a", expires=expires.isoformat()))
    others = {"old": Promise.of(certified(tmp_path / "b", **LONG_AGO)), "none": Promise()}
    kept = PromisesKept({"moods": promise, **others})
    served = application(promise=promise)
    assert said_of(served)[0][0]["status"] == "valid"
    assert kept.expired() == {}
    time.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds()) + 0.01)
    assert said_of(served) == ([{"id": promise.id, "status": "expired"}] * 5, {"expired": 1})
    assert kept.expired() == {"moods": promise}
    assert kept.expired() == {}


def classifier(promise=None, name="moods"):
    return SimpleNamespace(name=name, version="v1", classes=["bad", "good"], promise=promise or Promise())


def test_decisions_are_written_in_the_background(tmp_path):
    """All of them once the records are closed, errors by their kind; those of other models are none."""
    events = []
    records = DecisionRecords(tmp_path / "log", [classifier()], EventLog(events.append))
    answers = [Answer((0.25, 0.75), True, 0.5), Answer(kind="invalid_row", message="field 'text' is blank")]
    for i in range(500):
        records.note("moods", [replace(one, id=f"r{i}:{place}") for place, one in enumerate(answers)])
    records.note("smollm2", answers)
    records.close(60)
    columns = records.logs["moods"].read()
    assert len(columns) == 1000
    assert columns.ids[:3] == ("r0:0", "r0:1", "r1:0")
    assert columns.errors[:2] == (None, "invalid_row")
    assert columns.labels[0] == 1
    assert (records.left_out.total(), events) == (0, [])


def test_a_log_that_cannot_be_written_is_said_and_counted(tmp_path, monkeypatch):
    """The answers have gone out all the same."""
    events = []
    records = DecisionRecords(tmp_path / "log", [classifier()], EventLog(events.append))

    def fails(rows):
        raise StoreError("the disk is full")

    monkeypatch.setattr(records.logs["moods"], "append", fails)
    records.note("moods", [Answer((0.25, 0.75), id="r:0")])
    records.close(60)
    assert records.left_out == {"moods": 1}
    assert [(one["event"], one["kind"]) for one in events] == [
        ("decision_log_fails", "StoreError"),
        ("decisions_lost", "StoreError"),
    ]


GOOD = (0.25, 0.75)


@contextmanager
def locked(records, name):
    """Another process is at work in the log of a model, and does not end."""
    [(_, path)] = records.logs[name].files()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def gauges_of(records):
    return {(name, *of.values()): value for name, _, of, value in records.gauges()}


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_log_that_fails_takes_no_decisions_of_others(tmp_path):
    """The limit is each model's own; what is beyond it is said once and counted, by model."""
    events = []
    both = [classifier(name="a"), classifier(name="b")]
    records = DecisionRecords(tmp_path / "log", both, EventLog(events.append), most_waiting=10)
    with locked(records, "a"):
        for i in range(30):
            records.note("a", [Answer(GOOD, id=f"a{i}")])
        records.note("b", [Answer(GOOD, id=f"b{i}") for i in range(10)])
        until(lambda: len(records.logs["b"].read()) == 10)
        gauges = gauges_of(records)
        assert gauges["llmclf_serve_decisions_left_out", "a"] == 20
        assert gauges["llmclf_serve_decisions_left_out", "b"] == gauges["llmclf_serve_decisions_waiting", "b"] == 0
        until(lambda: gauges_of(records)["llmclf_serve_decision_log_failing", "a"])
    records.close(60)
    assert records.logs["a"].read().ids == tuple(f"a{i}" for i in range(10))
    assert [(one["event"], one["model"]) for one in events] == [
        ("decisions_left_out", "a"),
        ("decision_log_fails", "a"),
        ("decision_log_works", "a"),
    ]
    assert (events[0]["rows"], events[0]["limit"], events[-1]["left_out"]) == (1, 10, 20)


def test_a_locked_log_holds_up_no_end(tmp_path, monkeypatch):
    """What is not written in the seconds that there are is counted and said before the end."""
    monkeypatch.setattr(decision_records, "_BUSY_SECONDS", 300.0)
    events = []
    records = DecisionRecords(tmp_path / "log", [classifier()], EventLog(events.append))
    with locked(records, "moods"):
        records.note("moods", [Answer(GOOD, id=f"r{i}") for i in range(3)])
        ending = threading.Thread(target=records.close, args=(0.5,), daemon=True)
        ending.start()
        ending.join(60)
        assert not ending.is_alive()
        assert records.left_out == {"moods": 3}
        [lost] = events
        assert lost.items() >= {"event": "decisions_lost", "rows": 3, "kind": "TimeoutError"}.items()


def test_at_the_end_logs_that_fail_come_last(tmp_path, monkeypatch):
    """So that they take nothing of the time in which others can be written."""
    monkeypatch.setattr(decision_records, "RETRY", 300.0)
    events = []
    both = [classifier(name="a"), classifier(name="b")]
    records = DecisionRecords(tmp_path / "log", both, EventLog(events.append))
    with locked(records, "a"):
        records.note("a", [Answer(GOOD, id=f"a{i}") for i in range(3)])
        until(lambda: gauges_of(records)["llmclf_serve_decision_log_failing", "a"])
        records.note("b", [Answer(GOOD, id="b0")])
        records.close(1.0)
        assert records.logs["b"].read().ids == ("b0",)
    assert records.left_out == {"a": 3}
    assert events[-1].items() >= {"event": "decisions_lost", "model": "a", "rows": 3, "kind": "StoreError"}.items()


def test_decisions_that_cannot_be_kept_take_no_others_with_them(tmp_path):
    """Neither a number that is none nor an id that is another's; they are counted by what is wrong with them."""
    events = []
    records = DecisionRecords(tmp_path / "log", [classifier()], EventLog(events.append))
    rows = [Answer(GOOD, id=f"r{i}") for i in range(1000)]
    rows[300] = Answer(GOOD, label_mass=math.nan, id="r300")
    rows[999] = Answer(GOOD, id="r998")
    records.note("moods", rows)
    records.close(60)
    assert records.logs["moods"].read().ids == tuple(f"r{i}" for i in range(999) if i != 300)
    assert records.left_out == {"moods": 2}
    assert [(one["event"], one["rows"], one["kind"]) for one in events] == [("decisions_lost", 2, "InputError")]


def test_what_the_watch_says_is_among_the_metrics():
    """The gauges of the last look by model, each alarm once, and a look that fails as an event."""
    events = []
    alarm = {"kind": "shift", "text": "Confidence: no longer as it was."}

    class Report:
        alarms = (alarm,)

        def gauges(self):
            return {"llmclf_watch_rows": 7.0}

    class Look:
        is_broken = False

        def report(self):
            if self.is_broken:
                raise StoreError("gone")
            return Report()

    look = Look()
    watched = WatchedLogs({"moods": look}, EventLog(events.append), every=3600)
    assert list(watched.gauges()) == []
    watched.look()
    watched.look()
    assert list(watched.gauges()) == [("llmclf_watch_rows", "See llmclf watch.", {"model": "moods"}, 7.0)]
    look.is_broken = True
    watched.look()
    assert [event["event"] for event in events] == ["alarm", "watch_failed"]
    watched.close()
