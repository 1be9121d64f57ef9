"""All routes: what each protocol is answered, and how each refuses what it cannot answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import jsonschema
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import JSON, WORDS, application, ask, asked, close, fake_pipeline

from llmclf.backends import FakeBackend
from llmclf.backends.decisions.backend import confidence
from llmclf.calibration import Corrections, TemperatureCalibrator
from llmclf.serve.access import Access
from llmclf.serve.limits import Limits
from llmclf.serve.openapi import document
from llmclf.serve.protocols.classify import Classify
from llmclf.serve.protocols.decisions import outcomes_of
from llmclf.serve.protocols.system_one import SystemOne
from llmclf.serve.questions import Answer
from llmclf.tables import read_rows

TEXT = "A fine film about nothing at all."


def calibrated(**options):
    """A pipeline with a calibrator and a threshold."""
    from llmclf.calibration import SelectedThreshold

    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1], 60)
    calibrator = TemperatureCalibrator().fit(np.log(shares), (rng.random(60) > shares[:, 0]).astype(int))
    threshold = SelectedThreshold.from_dict(
        {
            "error": 0.1,
            "error_bound": 0.2,
            "threshold": 0.6,
            "max_error": 0.3,
            "confidence": 0.9,
            "coverage": 0.5,
            "n_accepted": 30,
            "n_rows": 60,
            "n_errors": 3,
        }
    )
    return fake_pipeline(corrections=Corrections(calibrator=calibrator), threshold=threshold, **options)


def choice(options=WORDS, **more):
    return {"type": "choice", "instructions": "How is it?", "criteria": dict.fromkeys(options), **more}


def system_one(questions=None, state=TEXT, **more):
    return {"state": state, "questions": {"q": choice()} if questions is None else questions, **more}


def decisions(questions=None, said=TEXT, **more):
    question = {"type": "choice", "instructions": "x", "choices": [{"value": one} for one in WORDS]}
    return {"input": said, "questions": [question] if questions is None else questions, **more}


def probabilities(pipeline, *texts):
    rows = read_rows(list(texts))
    return pipeline.probabilities(pipeline.scores(rows))


# --- answers -----------------------------------------------------------------------------------------------------------


def test_classify_answers_each_row_with_the_pipelines_own_numbers():
    """Label, probabilities, decision, label mass and what the classifier is, for texts in one request."""
    pipeline = calibrated()
    served = application({"moods": pipeline})
    texts = [TEXT, "Another one.", "Größe, 東京 🙂"]
    reply = ask(served, "/v1/classify", {"model": "moods", "inputs": texts})
    assert reply.status == 200
    said = reply.json
    assert said["model"] == "moods"
    assert (said["labels"], said["calibrated"], said["threshold"]) == ("fixed", True, 0.6)
    assert said["certificate"] == {"id": None, "status": "none"}
    expected = probabilities(pipeline, *texts)
    for result, row in zip(said["results"], expected, strict=True):
        close([result["probabilities"][name] for name in ("bad", "good")], row)
        assert result["label"] == ("bad", "good")[int(row.argmax())]
        assert result["accepted"] == bool(row.max() >= 0.6)
        assert 0 < result["label_mass"] <= 1
        assert (result["undecided"], result["error"]) == (False, None)
    assert reply.headers["x-request-id"] == said["request_id"]
    assert [name for name, _ in served.records] == ["moods"]


def test_one_bad_row_is_an_error_of_its_own_result():
    """Blank texts, numbers and null stand beside rows that are answered; the order is that of the request."""
    served = application()
    inputs = ["fine", "", "  ", None, 7, {"text": "x"}, ["x"], "good"]
    results = ask(served, "/v1/classify", {"inputs": inputs}).json["results"]
    assert [result["error"] is None for result in results] == [True, *[False] * 6, True]
    assert {result["error"]["type"] for result in results if result["error"]} == {"invalid_row"}
    assert results[3]["error"]["message"] == "'moods' reads texts; expected a string, got null"
    assert [result["label"] is None for result in results] == [False, *[True] * 6, False]


def test_tables_are_rows_of_their_fields():
    """A classifier of rows takes objects, ignores further fields, and names the one that is absent."""
    pipeline = fake_pipeline(template="{{ title }}: {{ body }}", field_names=("title", "body", "more"), is_table=True)
    served = application({"tickets": pipeline})
    rows = [{"title": "a", "body": 2, "other": [1]}, {"title": "a"}, "text", {"title": "a", "body": {"x": 1}}]
    results = ask(served, "/v1/classify", {"inputs": rows}).json["results"]
    assert results[0]["error"] is None
    assert "the field 'body' is absent" in results[1]["error"]["message"]
    assert "expected an object with the fields 'title' and 'body', got a string" in results[2]["error"]["message"]
    assert results[3]["error"]["message"].endswith("got an object")
    state = ask(served, "/v1/systemone", system_one(state=rows[0])).json["answers"]["q"]
    assert state["probabilities"] == results[0]["probabilities"]
    assert ask(served, "/v1/systemone", system_one()).status == 422


def test_system_one_answers_choices_scores_and_nouls_of_the_classes():
    """Options and levels are the classes in any order, a noul names both as its outcomes; the numbers are the classifier's."""
    pipeline = calibrated()
    served = application({"moods": pipeline})
    bad, good = probabilities(pipeline, TEXT)[0]
    questions = {
        "": None,
        "c": choice(("good", "bad")),
        "s": {"type": "score", "criteria": ["bad", "good"]},
        "n": {"type": "noul", "criteria": {"true": "good", "false": "bad"}},
    }
    del questions[""]
    reply = ask(served, "/v1/systemone", system_one(questions, model="moods"))
    assert reply.status == 200
    said = reply.json
    assert said["model"] == "moods@0123456789ab"
    answers = said["answers"]
    assert list(answers["c"]["probabilities"]) == ["good", "bad"]
    close(list(answers["c"]["probabilities"].values()), [good, bad])
    close(answers["c"]["confidence"], confidence([good, bad]))
    assert answers["c"]["choice"] == ("good" if good > bad else "bad")
    close(list(answers["s"]["probabilities"].values()), [bad, good])
    close(answers["s"]["score"], good)
    assert answers["s"]["legend"] == {"0": "bad", "1": "good"}
    close(answers["n"]["noul"], good)
    assert "confidence" not in answers["n"]
    for one in answers.values():
        assert one["x_llmclf"]["accepted"] == bool(max(bad, good) >= 0.6)
    assert said["x_llmclf"]["labels"] == "fixed"


def test_decisions_answer_in_order_with_the_values_of_the_request():
    """A choice, a score and a predicate; truth values stay truth values."""
    pipeline = fake_pipeline({"true": "yes", "false": "no"})
    served = application({"flags": pipeline})
    no, yes = probabilities(pipeline, TEXT)[0]
    questions = [
        {"type": "choice", "name": "c", "instructions": "?", "choices": [{"value": True}, {"value": False}]},
        {"type": "predicate", "instructions": "Is it?"},
        {"type": "score", "name": "s", "instructions": "?", "levels": [{"label": "false"}, {"label": "true"}]},
    ]
    messages = [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]
    for said in (TEXT, messages, [{"role": "user", "content": TEXT}]):
        body = ask(served, "/v1/decisions", decisions(questions, said)).json
        first, second, third = body["answers"]
        assert [pair["value"] for pair in first["probabilities"]] == [True, False]
        close([pair["probability"] for pair in first["probabilities"]], [yes, no])
        assert first["choice"] is bool(yes > no)
        assert (first["name"], second["name"]) == ("c", None)
        close(second["probability"], yes)
        close(third["score"], yes)
        assert [level["label"] for level in third["probabilities"]] == ["false", "true"]


def test_a_row_without_an_answer_is_a_refusal_among_decisions():
    """The protocol has a form for it; System One has none, so the request is refused there."""
    served = application()
    body = ask(served, "/v1/decisions", decisions(said=" "))
    assert body.status == 200
    (answer,) = body.json["answers"]
    assert answer["type"] == "refusal"
    assert answer["x_llmclf"]["error"]["type"] == "invalid_row"
    refused = ask(served, "/v1/systemone", system_one(state=" "))
    assert refused.status == 422
    assert refused.json["detail"][0]["loc"] == ["body", "state"]
    # Both are rows without an answer for whoever watches.
    assert [[one.kind for one in answers] for _, answers in served.records] == [["invalid_row"]] * 2
    assert b'llmclf_serve_rows_total{model="moods",outcome="failed"} 2.0' in ask(served, "/metrics").content


@pytest.mark.parametrize("kind", ["model_unavailable", "model_process_died", "model_failed"])
def test_a_row_that_may_be_asked_again_is_no_decision(kind):
    """System One has no form for it either; asked again it would stand in the log twice."""
    served = application(answerer=Failing(kind))
    assert ask(served, "/v1/systemone", system_one()).status >= 500
    assert served.records == []


class Failing:
    """Answers every row with an error."""

    def __init__(self, kind):
        self.kind = kind

    def answers(self, asks):
        return [Answer(kind=self.kind, message="it failed").to_dict() for _ in asks]


def test_what_looks_like_outcomes_of_a_predicate_costs_nothing():
    """The last two lines say what the outcomes mean; a search with backtracking would take minutes over this body."""
    served = application()
    body = ask(served, "/v1/decisions", predicate("Is it?\nTrue means: good\nFalse means: bad")).json
    close(body["answers"][0]["probability"], probabilities(fake_pipeline(), TEXT)[0][1])
    question = {"type": "predicate", "instructions": "True means: " * 16_000}
    assert ask(served, "/v1/decisions", decisions([question] * 20)).status == 400


@settings(max_examples=300, deadline=None)
@given(st.text("ab\n", max_size=6), st.text("ab ", max_size=3), st.text("ab ", max_size=3), st.booleans())
def test_the_instructions_of_a_predicate_are_what_stands_above_its_outcomes(above, yes, no, is_on_its_own_line):
    """Instructions, and below them one line for each outcome; without both lines all of it is instructions."""
    separator = "\n" if is_on_its_own_line else ""
    lines = f"True means: {yes}\nFalse means: {no}"
    found = outcomes_of(f"{above}{separator}{lines}")
    assert found == (above if is_on_its_own_line else above.removesuffix("\n"), (no, yes))
    assert outcomes_of(above) == (above, ("", ""))


def predicate(instructions):
    return decisions([{"type": "predicate", "instructions": instructions}])


def test_a_body_of_system_one_is_answered_as_such_on_either_path():
    """Some gateways call their route decisions and speak System One."""
    served = application()
    reply = ask(served, "/v1/decisions", system_one())
    assert reply.json["answers"]["q"]["type"] == "choice"
    assert (
        ask(served, "/v1/decisions", system_one({"q": choice(("a", "b"))})).json["detail"][0]["type"]
        == "unknown_choice"
    )


def test_a_model_answers_questions_with_labels_of_their_own_and_says_so():
    """Labels come with the request, the answer says that they do and that nothing is calibrated."""
    served = application(models={"fake": FakeBackend()})
    options = ("Billing", "Technical", "Café Müller 🙂", "a\nb", " ")
    questions = {
        "c": choice(options),
        "n": {"type": "noul", "instructions": "Is it {{ text }}?"},
        "s": {"type": "score", "criteria": ["low", {"level": "high"}]},
        "one": choice(("only",)),
    }
    said = ask(served, "/v1/systemone", system_one(questions, {"subject": "x"})).json
    assert list(said["answers"]["c"]["probabilities"]) == list(options)
    for one in said["answers"].values():
        shares = list(one.get("probabilities", {"yes": one.get("noul"), "no": 1 - one.get("noul", 0)}).values())
        close(sum(shares), 1)
        assert one["x_llmclf"]["accepted"] is None
    assert said["answers"]["s"]["legend"]["1"] == {"level": "high"}
    assert said["answers"]["one"]["probabilities"] == {"only": 1.0}
    assert (said["x_llmclf"]["labels"], said["x_llmclf"]["calibrated"]) == ("request", False)
    assert said["model"] == "fake@ba9876543210"
    body = {"model": "fake", "inputs": [TEXT, ""], "labels": ["b", "a"], "instructions": "Which?"}
    results = ask(served, "/v1/classify", body).json["results"]
    assert list(results[0]["probabilities"]) == ["b", "a"]
    assert results[1]["error"]["type"] == "invalid_row"


def test_the_order_of_options_and_other_questions_change_no_answer():
    """Options turned round keep their probabilities on a classifier; other questions of a request change nothing."""
    served = application({"moods": fake_pipeline({"a": "x", "b": "y", "c": "z"})})
    alone = ask(served, "/v1/systemone", system_one({"q": choice(("c", "a", "b"))})).json["answers"]["q"]
    both = ask(served, "/v1/systemone", system_one({"other": choice(("a", "b", "c")), "q": choice(("c", "a", "b"))}))
    answers = both.json["answers"]
    for answer in (alone, answers["q"]):
        del answer["x_llmclf"]["id"]
    assert answers["q"] == alone
    assert answers["other"]["probabilities"] == alone["probabilities"]


def test_names_of_models():
    """NAME, NAME@VERSION, none at all or jev-latest where only one could be meant."""
    served = application({"moods": fake_pipeline(), "other": fake_pipeline()})
    for name, status in (
        ("moods", 200),
        ("moods@0123456789ab", 200),
        ("moods@ffff", 404),
        ("x", 404),
        (None, 422),
        ("jev-latest", 404),
    ):
        body = {"inputs": ["x"], **({} if name is None else {"model": name})}
        reply = ask(served, "/v1/classify", body)
        assert reply.status == status, name
    assert (
        "served: 'moods' and 'other'"
        in ask(served, "/v1/classify", {"model": "x", "inputs": ["x"]}).json["error"]["message"]
    )
    single = application()
    for name in ("jev-latest", None):
        assert ask(single, "/v1/systemone", system_one(model=name)).status == 200
    several = application({"moods": fake_pipeline()}, {"fake": FakeBackend()})
    assert ask(several, "/v1/systemone", system_one({"q": choice(("u", "v"))}, model="jev-latest")).status == 200
    listed = ask(several, "/v1/models").json
    assert [one["name"] for one in listed["models"]] == [one["id"] for one in listed["data"]] == ["moods", "fake"]
    assert listed["models"][0]["release_date"] == "2026-01-02"


# --- refusals ----------------------------------------------------------------------------------------------------------

LONG = {"type": "choice", "criteria": dict.fromkeys(map(str, range(10_000)))}
WRONG_SYSTEM_ONE = [
    ({"questions": {"q": choice()}}, "state", "missing"),
    ({"state": TEXT}, "questions", "missing"),
    (system_one({}), "questions", "too_few_questions"),
    (system_one([]), "questions", "invalid_value"),
    (system_one(state=None), "state", "invalid_value"),
    (system_one(state=7), "state", "invalid_value"),
    (system_one({"q": 7}), "questions.q", "invalid_value"),
    (system_one({"": choice()}), "questions.", "invalid_value"),
    (system_one({"q": {"criteria": {}}}), "questions.q.type", "missing"),
    (system_one({"q": choice(type="boolean")}), "questions.q.type", "unknown_type"),
    (system_one({"q": choice(type=["choice"])}), "questions.q.type", "unknown_type"),
    (system_one({"q": choice(criteria={})}), "questions.q.criteria", "too_few_choices"),
    (system_one({"q": choice(criteria=["a"])}), "questions.q.criteria", "invalid_value"),
    (system_one({"q": choice(criteria={"good": 1, "bad": None})}), "questions.q.criteria.good", "invalid_value"),
    (system_one({"q": LONG}), "questions.q.criteria", "too_many_choices"),
    (system_one({"q": choice(("good", "ugly"))}), "questions.q.criteria", "unknown_choice"),
    (system_one({"q": choice(("good",))}), "questions.q.criteria", "missing_choice"),
    (system_one({"q": choice(("good", "bad", "x" * 500))}), "questions.q.criteria", "unknown_choice"),
    (
        system_one({"q": {"type": "score", "criteria": {"0": "bad", "1": "good"}}}),
        "questions.q.criteria",
        "invalid_value",
    ),
    (system_one({"q": {"type": "score", "criteria": ["bad", None]}}), "questions.q.criteria.1", "invalid_value"),
    (system_one({"q": {"type": "score", "criteria": ["x"] * 11}}), "questions.q.criteria", "too_many_levels"),
    (system_one({"q": {"type": "noul"}}), "questions.q", "missing"),
    (system_one({"q": {"type": "noul", "instructions": "Is it?"}}), "questions.q.criteria", "unknown_choice"),
    (system_one({"q": {"type": "noul", "criteria": {"true": "good"}}}), "questions.q.criteria", "unknown_choice"),
    (system_one({"q": choice(instructions=7)}), "questions.q.instructions", "invalid_value"),
    (system_one(assets={"a": {}}), "assets", "invalid_value"),
    (system_one(model=7), "model", "invalid_value"),
]


@pytest.mark.parametrize(("body", "place", "kind"), WRONG_SYSTEM_ONE)
def test_system_one_names_the_place_of_what_is_wrong(body, place, kind):
    """422 with the list that FastAPI has: place, message, kind; nothing is asked of the model."""
    served = application()
    reply = ask(served, "/v1/systemone", body)
    assert reply.status == 422
    (one,) = reply.json["detail"]
    assert ".".join(map(str, one["loc"])) == f"body.{place}"
    assert one["type"] == kind
    assert len(one["msg"]) < 400
    assert served.process.sent == []


def bad_decisions():
    pick = {"type": "choice", "instructions": "x", "choices": [{"value": "good"}, {"value": "bad"}]}
    return [
        ({"questions": [pick]}, "input", "missing"),
        (decisions([pick], 7), "input", "invalid_value"),
        (decisions([pick], [{"type": "function_call"}]), "input[0].type", "invalid_value"),
        (decisions([pick], [{"content": [{"type": "input_image"}]}]), "input[0].content[0].type", "invalid_value"),
        (decisions({"q": pick}), "questions", "invalid_value"),
        (decisions([]), "questions", "too_few_questions"),
        (decisions([{**pick, "type": "noul"}]), "questions[0].type", "unknown_type"),
        (decisions([{"type": "choice", "choices": []}]), "questions[0].instructions", "missing"),
        (decisions([pick, {**pick, "choices": [{"value": "good"}]}]), "questions[1].choices", "too_few_choices"),
        (
            decisions([{**pick, "choices": [{"value": 1}, {"value": 2}]}]),
            "questions[0].choices[0].value",
            "invalid_value",
        ),
        (
            decisions([{**pick, "choices": [{"value": "a"}, {"value": "a"}]}]),
            "questions[0].choices",
            "duplicate_choice",
        ),
        (
            decisions([{**pick, "choices": [{"value": str(i)} for i in range(10_000)]}]),
            "questions[0].choices",
            "too_many_choices",
        ),
        (decisions([{**pick, "name": 7}]), "questions[0].name", "invalid_value"),
        (
            decisions([{"type": "score", "instructions": "x", "levels": [{"label": "a"}]}]),
            "questions[0].levels",
            "too_few_levels",
        ),
        (decisions([{"type": "predicate", "instructions": "x"}]), "questions[0].instructions", "unknown_choice"),
    ]


@pytest.mark.parametrize(("body", "place", "kind"), bad_decisions())
def test_decisions_name_the_parameter_that_is_wrong(body, place, kind):
    """400 with OpenAI's error: message, type, param, code."""
    reply = ask(application(), "/v1/decisions", body)
    assert reply.status == 400
    error = reply.json["error"]
    assert (error["param"], error["code"], error["type"]) == (place, kind, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "missing"),
        ({"inputs": "text"}, "invalid_value"),
        ({"inputs": []}, "too_few_rows"),
        ({"inputs": ["x"] * 513}, "too_many_rows"),
        ({"inputs": ["x"], "labels": ["u", "v"]}, "unknown_choice"),
        ({"inputs": ["x"], "labels": "u,v"}, "invalid_value"),
        ({"inputs": ["x" * 200_001]}, "too_large"),
    ],
)
def test_classify_names_what_is_wrong(body, kind):
    """422, or 413 for what is too large, with kind, message and place."""
    reply = ask(application(), "/v1/classify", body)
    assert reply.status == (413 if kind == "too_large" else 422)
    assert reply.json["error"]["type"] == kind


def test_a_model_needs_labels():
    """Two different ones at least, and not ten thousand."""
    served = application(models={"fake": FakeBackend()})
    for labels, kind in (
        (None, "missing"),
        (["a"], "too_few_choices"),
        (["a", "a"], "duplicate_choice"),
        (list(map(str, range(10_000))), "too_many_choices"),
    ):
        body = {"inputs": ["x"], **({} if labels is None else {"labels": labels})}
        assert ask(served, "/v1/classify", body).json["error"]["type"] == kind
    assert ask(served, "/v1/classify", {"inputs": ["x", 7], "labels": ["a", "b"]}).json["results"][1]["error"]


BODIES = [
    (b"", "json_invalid"),
    (b"{", "json_invalid"),
    (b"[1]", "json_invalid"),
    (b"null", "json_invalid"),
    (b'{"inputs": [NaN]}', "json_invalid"),
    (b'{"inputs": [1e999]}', "json_invalid"),
    (b'{"a": ' + b"9" * 5000 + b"}", "json_invalid"),
    (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "json_invalid"),
    (b"[" * 100_000, "json_invalid"),
    (b'{"inputs": ["\\ud800"]}', "json_invalid"),
    ('{"inputs": ["é"]}'.encode("latin-1"), "json_invalid"),
    ('{"inputs": ["x"]}'.encode("utf-16"), "json_invalid"),
    (b"\xef\xbb\xbf{}", "json_invalid"),
    (b'{"inputs": ["a"], "inputs": ["b"]}', "the same key twice"),
    (b'{"state": "a", "questions": {"q": {"type": "choice", "criteria": {"b": "1", "b": "2"}}}}', "the same key twice"),
]


@pytest.mark.parametrize(("body", "kind"), BODIES)
@pytest.mark.parametrize("path", ["/v1/systemone", "/v1/decisions", "/v1/classify"])
def test_bodies_that_are_no_json(path, body, kind):
    """Each protocol says so in its own form, and none of them with a status of the server's faults."""
    reply = ask(application(), path, body)
    assert reply.status == (400 if path == "/v1/decisions" else 422)
    assert kind in reply.content.decode()
    assert b"Traceback" not in reply.content


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": -' + b"9" * 5000 + b"}", "a whole number has 5,000 digits; expected less than 1.8e308, or a text"),
        (b'{"a": ' + b"9" * 309 + b"}", "a number is too large; expected less than 1.8e308, or a text"),
        (b'{"a": -' + b"9" * 309 + b"}", "a number is too large; expected less than 1.8e308, or a text"),
        (b'{"a": 1e999}', "a number is too large; expected less than 1.8e308, or a text"),
        (b"\xef\xbb\xbf{}", "the body begins with a byte order mark, which is no JSON; send it without"),
        ('{"inputs": ["x"]}'.encode("utf-16"), "the body is not UTF-8 (byte 0); encode it as UTF-8"),
        (b'{"a": [Infinity]}', "the body is not JSON: Infinity is no number of JSON"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_the_clients_words(body, words):
    """Not in Python's, which would name functions of its own."""
    assert words in ask(application(), "/v1/classify", body).json["error"]["message"]


def test_large_numbers_that_are_numbers_of_json_are_read():
    """309 digits, whatever their sign: a row that has one is only asked where it is a text."""
    inputs = [int("1" * 309), -int("1" * 309)]
    results = ask(application(), "/v1/classify", {"inputs": inputs}).json["results"]
    assert [result["error"]["type"] for result in results] == ["invalid_row"] * 2


def test_packed_bodies_are_read_within_the_limit():
    """gzip, deflate and zstd are read; what unpacks to too much, or to nothing, is refused."""
    served = application(limits=Limits(body_bytes=100_000))
    body = json.dumps({"inputs": [TEXT]}).encode()
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "zstd": zstandard.compress(body)}
    for encoding, content in packed.items():
        assert ask(served, "/v1/classify", content, content_encoding=encoding).status == 200
        assert ask(served, "/v1/classify", content[:-9], content_encoding=encoding).status == 422
        assert ask(served, "/v1/classify", b"rubbish", content_encoding=encoding).status == 422
        more = {"gzip": gzip, "deflate": zlib, "zstd": zstandard}[encoding].compress(b"more")
        for rest in (b"rubbish", more):
            assert ask(served, "/v1/classify", content + rest, content_encoding=encoding).status == 422
    bomb = b" " * 200_000_000
    for encoding, content in {"gzip": gzip.compress(bomb), "zstd": zstandard.compress(bomb)}.items():
        assert ask(served, "/v1/classify", content, content_encoding=encoding).status == 413
    refused = ask(served, "/v1/classify", body, content_encoding="br")
    assert (refused.status, refused.headers["accept-encoding"]) == (415, "identity, gzip, deflate, zstd")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data; boundary=x", "application/json; charset=latin-1"]
)
def test_other_types_of_bodies_are_refused(kind):
    """A page in a browser can send plain text to any server without asking; JSON it cannot."""
    assert ask(application(), "/v1/classify", b'{"inputs": ["x"]}', content_type=kind).status == 415


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/vnd.api+json"])
def test_json_of_any_name_is_read(kind):
    """With its charset, too."""
    assert ask(application(), "/v1/classify", b'{"inputs": ["x"]}', content_type=kind).status == 200


def test_bodies_that_are_too_large_are_not_read():
    """Neither one that says so, nor one that does not."""
    served = application(limits=Limits(body_bytes=1000))
    body = json.dumps({"inputs": ["x" * 2000]}).encode()
    assert ask(served, "/v1/classify", body).status == 413
    assert ask(served, "/v1/classify", b"{}", content_length="5000").status == 413
    assert ask(served, "/v1/classify", b"{}", content_length="9" * 40).status == 422


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/systemone",
            {"state": "x", "questions": {"q": {"type": "choice", "criteria": {"a": "d" * 90, "b": "d" * 90}}}},
            lambda reply: reply["detail"]["message"],
        ),
        (
            "/v1/systemone",
            {
                "state": "x",
                "questions": {"q": {"type": "score", "instructions": "i" * 90, "criteria": ["a" * 90, "b"]}},
            },
            lambda reply: reply["detail"]["message"],
        ),
        (
            "/v1/decisions",
            {
                "input": "x",
                "questions": [
                    {"type": "choice", "instructions": "?", "choices": [{"value": "a" * 90}, {"value": "b" * 90}]}
                ],
            },
            lambda reply: reply["error"]["message"],
        ),
        ("/v1/classify", {"inputs": ["x"], "labels": ["a" * 90, "b" * 90]}, lambda reply: reply["error"]["message"]),
    ],
)
def test_all_that_is_said_about_a_question_has_the_limit_of_a_text(path, body, message):
    """Each part of it is within the limit; a model would read all of them, once for each option."""
    short = application(models={"fake": FakeBackend()}, limits=Limits(text_characters=100))
    reply = ask(short, path, body)
    assert reply.status == 413
    assert "characters are said about a question, its options included; expected at most 100" in message(reply.json)
    assert not short.process.sent
    assert ask(application(models={"fake": FakeBackend()}), path, body).status == 200


def test_unknown_routes_and_methods():
    """404 and 405 as JSON, with the methods that there are."""
    served = application()
    assert ask(served, "/v1/chat/completions", {}).json["error"]["type"] == "not_found"
    reply = ask(served, "/v1/classify", method="GET")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert ask(served, "/v1/systemone", method="PUT").json["detail"]["error_type"] == "method_not_allowed"
    assert ask(served, "/v1/decisions", method="DELETE").json["error"]["code"] == "method_not_allowed"
    assert ask(served, "/v1/classify/", {"inputs": ["x"]}).status == 404  # no redirect to what a client calls its host
    ask(served, "/healthz", method="A" * 3000)
    assert served.events[-1]["method"] == "other"


@pytest.mark.parametrize("model", [[], {}, True, 1.5, {"name": "moods"}])
def test_a_model_is_named_by_a_text(model):
    """Anything else is refused by each protocol in its own form."""
    served = application()
    said = [
        ask(served, "/v1/systemone", system_one(model=model)).json["detail"][0]["msg"],
        ask(served, "/v1/decisions", decisions(model=model)).json["error"]["message"],
        ask(served, "/v1/classify", {"inputs": ["x"], "model": model}).json["error"]["message"],
    ]
    assert all(one.startswith("expected the name of a model, got ") for one in said)


def test_with_too_many_connections_requests_are_refused_in_their_protocols_form():
    """503 with Retry-After, and the connection ends; only whether the server is alive is answered still."""
    served = application(is_full=True, limits=Limits(connections=7))
    words = "7 connections are open already; ask again later, and keep fewer open"
    for path, body in (("/v1/systemone", system_one()), ("/v1/decisions", decisions()), ("/v1/classify", {})):
        reply = ask(served, path, body)
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        said = reply.json["detail"] if path == "/v1/systemone" else reply.json["error"]
        assert said["message"] == words
        assert "too_many_connections" in said.values()
    assert ask(served, "/v1/models").status == ask(served, "/readyz").status == 503
    assert ask(served, "/healthz").status == 200


def test_what_the_end_leaves_unanswered_is_refused_in_its_protocols_form():
    """Whoever ends the server cancels what is under way; the client learns why."""

    async def run(path, body):
        served = application(answerer=Failing("model_failed"))
        served.process.is_ready = False  # nobody answers
        asking = asyncio.ensure_future(asked(served.application, "POST", path, json.dumps(body).encode(), JSON))
        await asyncio.sleep(0.05)
        sent = []
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            sent.append(await asking)
        return served.events[-1]

    for path, body in (("/v1/systemone", system_one()), ("/v1/decisions", decisions())):
        event = asyncio.run(run(path, body))
        assert (event["status"], event["error"]) == (503, "stopped")


def test_a_refused_body_is_read_so_that_its_client_reads_why():
    """Unless it waits to be told to send it."""
    for headers, n_read in (({}, 3), ({"expect": "100-continue"}, 0)):
        served, read = application(access=Access("correct-horse", is_local=False)), []

        async def chunks(read=read):
            for more in (True, True, False):
                read.append(more)
                yield {"type": "http.request", "body": b"x" * 1000, "more_body": more}

        reply = asyncio.run(asked(served.application, "POST", "/v1/systemone", b"", {**JSON, **headers}, chunks()))
        assert (reply.status, len(read)) == (403, n_read)


def test_several_questions_to_a_classifier_about_one_state_are_asked_once():
    """Its model gives them the same answer; that of another state is its own."""
    served = application({"moods": fake_pipeline({"a": "x", "b": "y", "c": "z"})})
    questions = {str(i): choice(("c", "a", "b") if i % 2 else ("a", "b", "c")) for i in range(50)}
    reply = ask(served, "/v1/systemone", system_one(questions)).json
    assert [len(asks) for asks in served.process.sent] == [1]
    assert len({tuple(sorted(one["probabilities"].items())) for one in reply["answers"].values()}) == 1
    assert [len(answers) for _, answers in served.records] == [1]
    several = [decisions()["questions"][0]] * 5
    assert len(ask(application(), "/v1/decisions", decisions(several)).json["answers"]) == 5


def test_equal_rows_are_asked_once_and_are_decisions_of_their_own():
    """Each of them is counted and kept."""
    served = application()
    results = ask(served, "/v1/classify", {"inputs": [TEXT, TEXT, TEXT]}).json["results"]
    assert len({one.pop("id") for one in results}) == 3
    assert results == results[:1] * 3
    assert [len(asks) for asks in served.process.sent] == [1]
    assert [len(answers) for _, answers in served.records] == [3]
    assert b'llmclf_serve_rows_total{model="moods",outcome="answered"} 3.0' in ask(served, "/metrics").content


# --- keys, hosts, logs -------------------------------------------------------------------------------------------------


def test_a_key_is_needed_for_all_but_health_and_documents():
    """No key 401 (403 for System One), a wrong one 401, in each protocol's form; the key is in no reply."""
    served = application(access=Access("correct-horse", is_local=False))
    assert ask(served, "/healthz").status == ask(served, "/docs").status == ask(served, "/openapi.json").status == 200
    for path in ("/v1/models", "/metrics", "/v1/classify", "/nowhere", "/v1/decisions"):
        assert ask(served, path, method="GET").status == 401
    missing = ask(served, "/v1/systemone", system_one())
    assert missing.status == 403
    assert missing.json["detail"]["error_type"] == "authentication_error"
    assert missing.headers["www-authenticate"] == "Bearer"
    for wrong in (
        "Bearer x",
        "Bearer correct-horse2",
        "Basic correct-horse",
        "Bearer ",
        "correct-horse",
        "Bearer \xfc",
    ):
        reply = ask(served, "/v1/systemone", system_one(), authorization=wrong)
        assert reply.status in (401, 403)
        assert b"horse" not in reply.content
    for right in ("Bearer correct-horse", "bearer  correct-horse "):
        assert ask(served, "/v1/systemone", system_one(), authorization=right).status == 200
    assert "horse" not in repr(served.application) + json.dumps(served.events)


def test_without_a_key_a_sent_one_is_ignored_and_other_hosts_are_not_served():
    """SDKs send a key always; a page that calls itself by another name than this machine's gets nothing."""
    served = application()
    assert ask(served, "/v1/systemone", system_one(), authorization="Bearer any").status == 200
    for host in ("localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert ask(served, "/healthz", host=host).status == 200
    for host in ("evil.example", "localhost.evil.example:80", ""):
        assert ask(served, "/v1/systemone", system_one(), host=host).status == 421


SECRET = "the patient is called Miriam Oldacre"


def test_neither_texts_nor_keys_are_in_logs_errors_or_metrics():
    """Whatever goes wrong, what was sent is nowhere but in the answer that repeats the options."""
    served = application(access=Access("correct-horse", is_local=False))
    key = {"authorization": "Bearer correct-horse"}
    replies = [
        ask(served, "/v1/classify", {"inputs": [SECRET]}, **key),
        ask(served, "/v1/classify", {"inputs": [SECRET], "labels": [1]}, **key),
        ask(served, "/v1/classify", {"inputs": {SECRET: SECRET}}, **key),
        ask(served, "/v1/systemone", system_one(state=[SECRET]), **key),
        ask(served, "/v1/systemone", f'{{"state": "{SECRET}'.encode(), **key),
        ask(served, "/v1/decisions", decisions(said=[{"content": 7, "x": SECRET}]), **key),
        ask(served, f"/v1/{SECRET}", {}, **key),
        ask(served, "/v1/classify", {"inputs": [SECRET]}, authorization=f"Bearer {SECRET}"),
    ]
    metrics = ask(served, "/metrics", **key).content.decode()
    said = json.dumps(served.events) + metrics + "".join(reply.content.decode() for reply in replies)
    assert "Miriam" not in said
    assert "horse" not in said
    assert 'llmclf_serve_requests_total{route="/v1/classify",status="200"} 1.0' in metrics
    assert 'llmclf_serve_rows_total{model="moods",outcome="answered"} 1.0' in metrics


def test_a_fault_of_the_server_has_a_number_and_no_traceback(monkeypatch):
    """500 in the protocol's form; the log has where it arose, without its words."""

    def write(self, asked, answers, request_id):
        raise RuntimeError(f"cannot write {asked}")

    for protocol in (SystemOne, Classify):
        monkeypatch.setattr(protocol, "write", write)
    served = application()
    for path, body in (("/v1/systemone", system_one(state=SECRET)), ("/v1/classify", {"inputs": [SECRET]})):
        reply = ask(served, path, body)
        assert reply.status == 500
        assert b"Traceback" not in reply.content
        assert reply.headers["x-request-id"] in reply.content.decode()
    assert "Miriam" not in json.dumps(served.events)
    fault = next(event for event in served.events if event["event"] == "fault")
    assert fault["kind"] == "RuntimeError"
    assert any("test_application.py" in line for line in fault["where"])


def test_texts_are_logged_where_that_was_asked_for():
    """As the body that came."""
    served = application(shows_texts=True)
    ask(served, "/v1/classify", {"inputs": [SECRET]})
    assert served.events[-1]["body"] == {"inputs": [SECRET]}


def test_request_ids_are_the_clients_where_these_are_fit_for_it():
    """In the reply's headers, its body and the log; one that is not fit is replaced."""
    served = application()
    reply = ask(served, "/v1/classify", {"inputs": ["x"]}, x_request_id="order-66")
    assert (
        reply.headers["x-request-id"]
        == reply.headers["x-typesafe-request-id"]
        == reply.json["request_id"]
        == "order-66"
    )
    event = served.events[-1]
    assert (event["request_id"], event["route"], event["status"], event["rows"]) == ("order-66", "/v1/classify", 200, 1)
    for unfit in ("a b", "x" * 129, "ü", "a\tb", '"'):
        fresh = ask(served, "/v1/classify", {"inputs": ["x"]}, x_request_id=unfit).json["request_id"]
        assert len(fresh) == 32


def test_every_decision_has_an_id_that_the_server_chose():
    """In all three protocols, as it is logged; a client that sends one request id twice gets other ones each time."""
    served = application({"moods": calibrated()})

    def ids(path, body):
        reply = ask(served, path, body, x_request_id="order-66").json
        answers = reply.get("results") or reply["answers"]
        return [one.get("x_llmclf", one)["id"] for one in (answers.values() if isinstance(answers, dict) else answers)]

    said = []
    for path, body in (
        ("/v1/classify", {"inputs": ["x", "", "x"]}),
        ("/v1/classify", {"inputs": ["x", "", "x"]}),
        ("/v1/systemone", system_one({"a": choice(), "b": choice(list(reversed(WORDS)))})),
        ("/v1/decisions", decisions()),
        ("/v1/decisions", decisions(said=" ")),
    ):
        found = ids(path, body)
        [event] = [event for event in served.events[-1:] if event["request_id"] == "order-66"]
        assert {one.partition(":")[0] for one in found} == {event["decision"]}
        # Two questions of System One about one state are one decision of a classifier.
        assert [one.partition(":")[2] for one in found] == (
            ["0"] * 2 if "systemone" in path else list("012")[: len(found)]
        )
        assert list(dict.fromkeys(found)) == [one.id for one in served.records[-1][1]]
        said += dict.fromkeys(found)
    assert len(said) == len(set(said)) == 9
    assert not any("order" in one for one in said)


def test_readiness_is_another_thing_than_life():
    """While the models are being opened the server is alive and not ready."""
    served = application(reason="the models are being opened")
    assert ask(served, "/healthz").status == 200
    assert ask(served, "/readyz").json["reason"] == "the models are being opened"
    assert ask(served, "/readyz").status == 503
    assert ask(application(), "/readyz").status == 200


# --- clients that are slow or gone -------------------------------------------------------------------------------------


def test_a_body_that_drips_is_refused_after_its_time():
    """408, and the connection is closed."""
    served = application(limits=Limits(body_seconds=0.05))

    async def drip():
        while True:
            await asyncio.sleep(0.01)
            yield {"type": "http.request", "body": b" ", "more_body": True}

    reply = asyncio.run(asked(served.application, "POST", "/v1/decisions", b"", JSON, drip()))
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert reply.json["error"]["code"] == "request_timeout"


def test_a_client_that_hangs_up_is_not_answered_and_its_rows_are_not_asked():
    """Neither in the middle of its body nor while it waits."""
    served = application(limits=Limits(pass_rows=1))
    body = json.dumps({"inputs": [f"text {i}" for i in range(50)]}).encode()

    async def cut():
        yield {"type": "http.request", "body": body[:9], "more_body": True}
        yield {"type": "http.disconnect"}

    async def leave():
        yield {"type": "http.request", "body": body, "more_body": False}
        await asyncio.sleep(0)
        yield {"type": "http.disconnect"}

    for way in (cut, leave):
        assert asyncio.run(asked(served.application, "POST", "/v1/classify", b"", JSON, way())).status == 0
    assert len(served.process.sent) < 25
    assert [event["status"] for event in served.events] == [499, 499]
    assert served.gatherer.waiting_rows == 0
    assert "llmclf_serve_clients_gone_total 2.0" in ask(served, "/metrics").content.decode()


# --- the document ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_key", [False, True])
def test_the_page_of_the_routes_loads_nothing(needs_key):
    """It has every route, no script, and no address but its own."""
    served = application(access=Access("correct-horse" if needs_key else None, is_local=not needs_key))
    page = ask(served, "/docs").content.decode()
    for path in document(Limits(), needs_key=needs_key)["paths"]:
        assert path in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert ("Bearer KEY" in page) == needs_key
    assert ask(served, "/openapi.json").json["openapi"] == "3.1.0"


def schema(name):
    whole = document(Limits(), needs_key=False)
    return {**whole["components"]["schemas"][name], "components": whole["components"]}


def test_replies_and_refusals_are_as_the_document_says():
    """Each is valid by its schema, and so are the requests."""
    served = application({"moods": calibrated()})
    nouls = {
        "n": {"type": "noul", "criteria": {"true": "good", "false": "bad"}},
        "s": {"type": "score", "criteria": ["good", "bad"]},
        "q": choice(),
    }
    levels = {"type": "score", "instructions": "x", "levels": [{"label": "good"}, {"label": "bad"}]}
    pick = decisions()["questions"][0]
    for name, path, body in (
        ("Classify", "/v1/classify", {"inputs": ["x", "", "y"]}),
        ("SystemOne", "/v1/systemone", system_one(nouls)),
        ("Decisions", "/v1/decisions", decisions([pick, levels])),
        ("Decisions", "/v1/decisions", decisions([pick], " ")),
    ):
        jsonschema.validate(body, schema(f"{name}Request"))
        reply = ask(served, path, body)
        assert reply.status == 200
        jsonschema.validate(reply.json, schema(f"{name}Reply"))
        for wrong in ({}, b"{", {**body, "model": "nowhere"}):
            jsonschema.validate(ask(served, path, wrong).json, schema(f"{name}Error"))
    jsonschema.validate(ask(served, "/v1/models").json, schema("Models"))


ANYTHING = application({"moods": fake_pipeline()}, {"fake": FakeBackend()})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "state",
        "questions",
        "model",
        "input",
        "inputs",
        "labels",
        "type",
        "criteria",
        "choices",
        "instructions",
        "levels",
        "value",
        "name",
    ]
)


@given(
    st.sampled_from(["/v1/systemone", "/v1/decisions", "/v1/classify"]),
    st.dictionaries(
        KEYS,
        JSON_VALUES
        | st.dictionaries(KEYS, JSON_VALUES, max_size=4)
        | st.lists(st.dictionaries(KEYS, JSON_VALUES, max_size=4), max_size=2),
        max_size=5,
    ),
)
@settings(max_examples=200)
def test_no_body_of_any_shape_is_a_fault_of_the_server(path, body):
    """It is answered, or refused with a status of 400 to 499."""
    reply = ask(ANYTHING, path, body)
    assert reply.status == 200 or 400 <= reply.status < 500
    assert isinstance(reply.json, dict)
