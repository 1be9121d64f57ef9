"""Others' clients and our own, through `llmclf serve`: each gets back the numbers that the classifier has."""

from __future__ import annotations

import numpy as np
import pytest
from decision_servers import DecisionServer
from jevcompat.runner import run as jevcompat
from jevcompat.spec import REQUIREMENTS
from openai import OpenAI
from serving import close, save_classifier, served_process
from typesafe_sdk import Choice, Noul, RetryPolicy, Score, TypeSafeClient

from llmclf import LLMClassifier, open_backend
from llmclf.errors import ModelChangedError

pytestmark = [pytest.mark.server, pytest.mark.slow]

TEXTS = ["A fine film.", "dull, and too long", "Größe, café, 東京 🙂", "Nothing <|im_end|> to see", "x"]


@pytest.fixture(scope="module")
def served(tmp_path_factory, model_folder):
    """Classifiers behind a local model and a server's, and a pool that learned from texts and the model's states."""
    folder = tmp_path_factory.mktemp("served")
    tiny = open_backend(f"hf:{model_folder('byte_bpe')}")
    with DecisionServer() as model:
        remote = open_backend("systemone:jev-latest", base_url=model.url, concurrency=8)
        options = {"prompt": "{{ text }}\nMood:", "max_error": 0.6}
        fitted = {
            "local": save_classifier(folder / "local", tiny, n_shots=2, random_state=0, **options),
            "remote": save_classifier(folder / "remote", remote, max_error=0.6),
            "pool": save_classifier(folder / "pool", tiny, features=["states", "tfidf"], **options),
        }
        arguments = [folder / name for name in fitted]
        with served_process(*arguments, "--model", "smollm2", "--answer-seconds", "300") as server:
            yield server.ready(), fitted


def alone(clf):
    """Each text's probabilities in a call of its own, as a server has them that is asked about one: float32 shows its company.

    The first call reads what stands before the text, and the others find it there, as on a server that is ready.
    """
    clf.predict_proba(["A first text."])
    return np.vstack([clf.predict_proba([text]) for text in TEXTS])


@pytest.fixture(params=["local", "remote", "pool"])
def one(served, request):
    """A server, and the name and the object of one of its classifiers."""
    server, fitted = served
    return server, request.param, fitted[request.param]


@pytest.mark.model
def test_typesafe_sdk_gets_the_classifiers_numbers(one):
    """As a choice, a score and a noul, to 1e-9, with the mode of the distribution as the choice."""
    server, name, clf = one
    expected = alone(clf)
    with TypeSafeClient(
        api_key="any", model=name, base_url=server.url, compression=False, retry=RetryPolicy(max_retries=0)
    ) as client:
        for text, (bad, good) in zip(TEXTS, expected, strict=True):
            said = client.system_one(
                state=text,
                questions={
                    "c": Choice(criteria={"good": None, "bad": "whatever this says"}),
                    "s": Score(criteria=["bad", "good"]),
                    "n": Noul(criteria={"true": "good", "false": "bad"}),
                },
            )
            close([said.choices["c"].probabilities[c] for c in ("bad", "good")], [bad, good])
            close(said.scores["s"].score, good)
            close(said.nouls["n"].noul, good)
            assert said.choices["c"].choice == ("good" if good > bad else "bad")
        assert name in [model.name for model in client.models.list().models]


@pytest.mark.model
def test_openais_client_gets_the_classifiers_numbers(one):
    """Through its own types."""
    server, name, clf = one
    client = OpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0)
    question = {"type": "choice", "name": "mood", "instructions": "?", "choices": [{"value": "good"}, {"value": "bad"}]}
    for text, (bad, good) in zip(TEXTS, alone(clf), strict=True):
        (answer,) = client.decisions.create(input=text, model=name, questions=[question]).answers
        close([pair.probability for pair in answer.probabilities], [good, bad])
    assert name in [model.id for model in client.models.list()]


@pytest.mark.model
@pytest.mark.parametrize("scheme", ["systemone", "decisions"])
@pytest.mark.parametrize("question", [None, "yes or no", "score"])
def test_our_own_backends_get_the_classifiers_numbers(one, scheme, question):
    """A classifier whose model is the served classifier has its probabilities, by any kind of question."""
    server, name, clf = one
    kind = {"yes or no": "noul" if scheme == "systemone" else "predicate"}.get(question, question)
    url = server.url + ("/v1" if scheme == "decisions" else "")
    backend = open_backend(
        f"{scheme}:{name}", base_url=url, concurrency=1, **({} if kind is None else {"question": kind})
    )
    client = LLMClassifier(backend, labels=["bad", "good"], prompt="{{ text }}").fit(["any"])
    expected = alone(clf)
    assert expected.min() > 1e-4  # less is not believed of any server
    close(client.predict_proba(TEXTS), expected)
    assert backend.identity()["answered_by"].startswith(f"{name}@")


@pytest.mark.model
def test_decisions_abstentions_and_label_mass_are_the_classifiers(one):
    """What the plain route says of each row is what the classifier says."""
    server, name, clf = one
    results = [server.post("/v1/classify", {"model": name, "inputs": [text]}).json["results"][0] for text in TEXTS]
    expected = alone(clf)
    close([[result["probabilities"][c] for c in ("bad", "good")] for result in results], expected)
    close([result["label_mass"] for result in results], [clf.label_mass([text])[0] for text in TEXTS])
    assert [result["accepted"] for result in results] == (expected.max(axis=1) >= clf.threshold_.threshold).tolist()
    assert [result["label"] for result in results] == clf.predict(TEXTS).tolist()


@pytest.mark.model
@pytest.mark.parametrize("scheme", ["systemone", "decisions"])
def test_a_model_gives_the_same_numbers_whatever_else_is_asked(served, scheme):
    """Labels per request through our own backends: alone, together and repeated, to 1e-4, as a local model's are."""
    server, _ = served
    url = server.url + ("/v1" if scheme == "decisions" else "")
    backend = open_backend(f"{scheme}:smollm2", base_url=url)
    client = LLMClassifier(backend, labels=["red", "green", "blue"], prompt="{{ text }}").fit(["any"])
    together = client.predict_proba(TEXTS)
    alone = np.vstack([client.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-4)
    assert np.ptp(together[:, 0]) > 0


def checked(report):
    """The requirements of jevcompat that were checked; each of them passed."""
    wrong = {one.id: [finding.message for finding in one.findings] for one in report.results if one.status == "fail"}
    assert wrong == {}
    assert (report.aborted, report.case_errors, report.inconclusive) == (None, [], [])
    return {one.id for one in report.results if one.status == "pass"}


OF_KEYS = {"auth.bearer", "auth.missing", "auth.invalid"}


@pytest.mark.model
def test_the_conformance_suite_passes(served):
    """Each MUST and each SHOULD of jevcompat but those of keys, with a real model that takes any question."""
    server, _ = served
    report = jevcompat(server.url, timeout=300)  # 255 options are many for a small machine
    assert checked(report) == set(REQUIREMENTS) - OF_KEYS
    assert report.conformant


@pytest.mark.model
def test_the_conformance_suite_passes_where_a_key_is_needed():
    """Those of keys, with the same model."""
    options = ["--model", "smollm2", "--access-key-env", "LLMCLF_SERVE_KEY", "--answer-seconds", "300"]
    with served_process(*options, env={"LLMCLF_SERVE_KEY": "open-sesame-123"}) as server:
        server.ready()
        report = jevcompat(server.url, key="open-sesame-123", timeout=300, only={"auth"})
    assert checked(report) >= OF_KEYS


def test_the_conformance_suite_passes_with_a_key():
    """All of them but that of servers without a key: here behind a server's model."""
    with DecisionServer() as model:
        options = ["--model", "systemone:any", "--base-url", model.url, "--access-key-env", "LLMCLF_SERVE_KEY"]
        with served_process(*options, env={"LLMCLF_SERVE_KEY": "open-sesame-123"}) as server:
            server.ready()
            report = jevcompat(server.url, key="open-sesame-123")
    assert checked(report) == set(REQUIREMENTS) - {"auth.ignored-when-off"}
    assert report.conformant


def test_a_server_with_classes_of_its_own_says_in_its_list_who_answers(tmp_path):
    """Our client learns it there where its first question is refused, and notices when another version answers."""
    with DecisionServer() as model:
        backend = open_backend("systemone:jev-latest", base_url=model.url)
        save_classifier(tmp_path / "moods", backend)
        with served_process(tmp_path / "moods") as server:
            server.ready()
            client = open_backend("systemone:moods", base_url=server.url, max_retries=0)
            version = server.get("/v1/models").json["models"][0]["x_llmclf"]["version"]
            assert client.identity()["answered_by"] == f"moods@{version}"
            port = server.port
            assert server.stop() == 0
        save_classifier(tmp_path / "moods", backend, calibrator="bias_temperature")
        clf = LLMClassifier(client, labels=["bad", "good"], prompt="{{ text }}").fit(["any"])
        with served_process(tmp_path / "moods", "--port", str(port)) as server:
            server.ready()
            with pytest.raises(ModelChangedError, match="now stands for another model"):
                clf.predict(["x"])
