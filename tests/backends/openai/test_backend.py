"""The handle of a server's model in a classifier: options, bounds, cache, saving, keys and Ctrl-C."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contract import LABELS, TEXTS
from faults import FakeServer, Mutate, Status, backend_for
from sklearn.base import clone
from tiny_reference import CHAT, noisy

from llmclf import LLMClassifier, load, open_backend
from llmclf.errors import (
    CalibrationWarning,
    InputError,
    ModelError,
    ModelNameError,
    RenamedWarning,
)
from llmclf.jobs import label_table
from llmclf.logits import softmax

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_undecided_rows_are_told(tokenizer):
    """The mask marks the rows whose bounds leave the best class open; exact routes leave none."""
    labels = ["fine", "film", "superb", "delight"]
    with FakeServer("vllm") as server:
        options = {"base_url": server.url, "tokenizer": tokenizer}
        bounded = LLMClassifier(
            open_backend("openai:tiny", use_route="top_logprobs", top_calls=1, **options),
            labels=labels,
            prompt="{{ text }}:",
        ).fit(TEXTS)
        scores, low, high = bounded.score_labels(TEXTS, return_bounds=True)
        proba, undecided = bounded.predict_proba(TEXTS, return_undecided=True)
        for i in range(len(TEXTS)):
            best = int(scores[i].argmax())
            rivals = max(high[i, k] for k in range(4) if k != best)
            assert undecided[i] == (low[i, best] <= rivals and bool((low[i] < high[i]).any()))
        assert undecided.any()
        np.testing.assert_allclose(proba, softmax(scores))
        exact = LLMClassifier(open_backend("openai:tiny", **options), labels=labels, prompt="{{ text }}:").fit(TEXTS)
        truth, open_rows = exact.predict(TEXTS, return_undecided=True)
        assert not open_rows.any()
        # Whatever is decided is decided rightly.
        predicted, again = bounded.predict(TEXTS, return_undecided=True)
        np.testing.assert_array_equal(again, undecided)
        np.testing.assert_array_equal(predicted[~undecided], truth[~undecided])


def test_the_old_name_of_the_undecided_rows_still_works(tokenizer):
    """`undecided_` warns, and is the mask of the rows that the calling thread scored last; another thread has its own."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, top_calls=1)
        clf = LLMClassifier(backend, labels=["fine", "film", "superb", "delight"], prompt="{{ text }}:").fit(TEXTS)
        with pytest.raises(AttributeError, match="once rows were scored"):
            _ = clf.undecided_
        _, expected = clf.predict_proba(TEXTS, return_undecided=True)
        for score in (clf.predict, clf.predict_proba, clf.predict_log_proba, clf.decision_function, clf.score_labels):
            score(TEXTS)
            with pytest.warns(RenamedWarning, match="return_undecided=True"):
                np.testing.assert_array_equal(clf.undecided_, expected)
        with ThreadPoolExecutor(1) as pool, pytest.raises(AttributeError, match="once rows were scored"):
            pool.submit(lambda: clf.undecided_).result()
        for other in (clone(clf), pickle.loads(pickle.dumps(clf))):
            with pytest.raises(AttributeError):
                _ = other.undecided_
        clf.fit(TEXTS)
        with pytest.raises(AttributeError, match="once rows were scored"):
            _ = clf.undecided_


def test_threads_share_a_classifier_whose_rows_are_open(tokenizer, tmp_path):
    """Sixteen threads with different rows get the classes and the masks that one thread gets, with a cache and without."""
    pieces = [[f"{text} {i}"[: 12 + 3 * i] for text in TEXTS] for i in range(16)]
    # The token that the server draws narrows the bounds, too.
    with FakeServer("vllm", draws_by_prompt=True) as server:
        for cache in (None, tmp_path / "scores.sqlite"):
            backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, top_calls=1)
            clf = LLMClassifier(
                backend, labels=["fine", "film", "superb", "delight"], prompt="{{ text }}:", cache=cache
            ).fit(TEXTS)
            expected = [clf.predict(piece, return_undecided=True) for piece in pieces]
            assert len({mask.tobytes() for _, mask in expected}) > 1
            state = dict(vars(clf))

            def ask(i, clf=clf):
                result = clf.predict(pieces[i], return_undecided=True)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    return *result, clf.undecided_

            with warnings.catch_warnings(), ThreadPoolExecutor(16) as pool:
                warnings.simplefilter("ignore", FutureWarning)
                for _ in range(5):
                    for i, (labels, mask, old) in enumerate(pool.map(ask, range(16))):
                        np.testing.assert_array_equal(labels, expected[i][0])
                        np.testing.assert_array_equal(mask, expected[i][1])
                        np.testing.assert_array_equal(old, expected[i][1])
            assert vars(clf) == state


def test_means_need_tokens(tokenizer):
    """A mean per token is refused where the route does not see a label's tokens, before any row is asked."""
    with FakeServer("openai_chat") as server:
        clf = LLMClassifier(backend_for(server), labels=["a", "b"], prompt=CHAT, scoring="mean")
        with pytest.raises(InputError, match="does not see them"):
            clf.fit(TEXTS).predict(TEXTS)
    with FakeServer("vllm") as server:
        clf = LLMClassifier(backend_for(server), labels=LABELS, prompt="{{ text }}:", scoring="mean").fit(TEXTS)
        assert np.isfinite(clf.predict_proba(TEXTS)).all()


def test_a_saved_classifier_sends_no_key_elsewhere(tmp_path, monkeypatch):
    """A folder may come from anybody: it cannot make a key go to an address that the caller did not name."""
    import json

    monkeypatch.setenv("OTHER_SECRET", "s-1")
    with FakeServer("vllm") as server:
        LLMClassifier(backend_for(server), labels=LABELS, prompt="{{ text }}:").fit(TEXTS).save(tmp_path / "clf")
        file = tmp_path / "clf" / "classifier.json"
        values = json.loads(file.read_text(encoding="utf-8"))
        values["model_options"] |= {"base_url": "http://elsewhere.example/v1", "api_key_env": "OTHER_SECRET"}
        file.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(InputError, match=r"would send the key in OTHER_SECRET to http://elsewhere.*model_options"):
            load(tmp_path / "clf")
        there = {"base_url": "http://elsewhere.example/v1"}
        for word, key in (({"api_key_env": ""}, None), ({"api_key_env": "OTHER_SECRET"}, "OTHER_SECRET")):
            assert load(tmp_path / "clf", model_options={**there, **word}).backend_.server_options.api_key_env == key
        assert load(tmp_path / "clf", trust=True).backend_.server_options.api_key_env == "OTHER_SECRET"
        # A server that has moved is named anew.
        moved = load(tmp_path / "clf", model_options={"base_url": server.url, "api_key_env": ""})
        assert len(moved.predict(TEXTS)) == len(TEXTS)


def test_errors_may_be_left_out_after_loading(tmp_path):
    """`on_error` is a parameter like others: it can be set after the fit, and after a load."""
    state = {"on": False}
    with FakeServer("vllm", lambda _: Status(400) if state["on"] else None) as server:
        clf = LLMClassifier(backend_for(server), labels=LABELS, prompt="{{ text }}:").fit(TEXTS)
        _ = clf.backend_.route
        clf.save(tmp_path / "clf")
        state["on"] = True
        loaded = load(tmp_path / "clf")
        with pytest.raises(ModelError, match="could not be scored"):
            loaded.predict(TEXTS)
        assert loaded.set_params(on_error="missing").predict(TEXTS).tolist() == [None] * len(TEXTS)


@pytest.mark.parametrize("scoring", ["sum", "bytes", "pmi"])
def test_undecided_rows_with_every_scoring_and_calibrator(scoring, tokenizer):
    """Bounds go through scorings and corrections without a crash, and what they call decided is decided rightly."""
    texts = [f"{text} {i}" for i in range(5) for text in TEXTS]
    labels = {"x": ["fine", "good"], "y": ["film", "bad"], "z": "superb"}
    with FakeServer("vllm") as server:
        prompt = "{{ text }}\nOpinion:"
        y = noisy(backend_for(server, tokenizer=tokenizer), labels, texts, prompt=prompt, scoring=scoring)

        def fitted(**options):
            backend = backend_for(server, tokenizer=tokenizer, **options)
            clf = LLMClassifier(backend, labels=labels, prompt=prompt, scoring=scoring, calibrator="temperature")
            return clf.fit(texts, y)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)  # a random model's scores say little about the labels
            exact = fitted()
            bounded = fitted(use_route="top_logprobs", top_calls=2)
        bounded.pipeline_ = replace(bounded.pipeline_, corrections=exact.pipeline_.corrections)
        truth, open_rows = exact.predict(texts, return_undecided=True)
        predicted, undecided = bounded.predict(texts, return_undecided=True)
        np.testing.assert_array_equal(predicted[~undecided], truth[~undecided])
        assert not open_rows.any()
        assert undecided.shape == (len(texts),)
        # One object says the same, and a job writes what it says.
        frame = pd.DataFrame({"text": texts})
        table = label_table(frame, text_column="text", classifier=bounded).table
        np.testing.assert_array_equal(table["undecided"].to_numpy(), undecided)
        np.testing.assert_array_equal(table["label"].to_numpy(), predicted)


def test_the_bare_string_with_the_environment(monkeypatch, tokenizer):
    """`model="openai:NAME"` takes the address from OPENAI_BASE_URL and the key from OPENAI_API_KEY."""
    with FakeServer("vllm", key="k-123") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        clf = LLMClassifier("openai:tiny", labels=LABELS, prompt="{{ text }}:").fit(TEXTS)
        assert clf.predict_proba(TEXTS).shape == (len(TEXTS), len(LABELS))
        assert clf.backend_.route in ("echo", "named_tokens")
        assert "k-123" not in repr(clf.backend_)


def test_no_text_is_asked_twice(tmp_path):
    """With a score cache a second classifier asks nothing, whatever the server answers now."""
    with FakeServer("vllm") as server:
        clf = LLMClassifier(
            backend_for(server), labels=LABELS, prompt="{{ text }}:", cache=tmp_path / "scores.sqlite"
        ).fit(TEXTS)
        first = clf.predict_proba(TEXTS)
        before = len(server.requests)
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), first)
        assert len(server.requests) == before


def test_bounds_outlive_the_cache(tmp_path, tokenizer):
    """Bounds are kept with the scores: what was open stays open when it comes from the cache."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, top_calls=1)
        clf = LLMClassifier(backend, labels=LABELS, prompt="{{ text }}:", cache=tmp_path / "scores.sqlite").fit(TEXTS)
        _, undecided = clf.predict(TEXTS, return_undecided=True)
        fresh = clf.score_labels(TEXTS, return_bounds=True)
        kept = clf.score_labels(TEXTS, return_bounds=True)
        for one, other in zip(fresh, kept, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(clf.predict(TEXTS, return_undecided=True)[1], undecided)


def test_save_load_and_pickle(tmp_path, tokenizer):
    """A saved or pickled classifier keeps address, options and the name of the key's variable, and answers the same."""
    texts = [f"text {i}" for i in range(30)]
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, concurrency=3)
        clf = LLMClassifier(backend, labels=["fine", "film"], prompt="{{ text }}:", calibrator="temperature")
        clf.fit(texts, ["fine", "film"] * 15)
        clf.save(tmp_path / "clf")
        loaded = load(tmp_path / "clf")
        assert loaded.backend_ == backend
        np.testing.assert_allclose(loaded.predict_proba(texts), clf.predict_proba(texts))
        np.testing.assert_allclose(pickle.loads(pickle.dumps(clf)).predict_proba(texts), clf.predict_proba(texts))


def test_a_calibrator_of_another_model_is_refused(tmp_path):
    """A calibrator belongs to the model that answered; another one is refused, or warned of where the user insists."""
    texts = [f"text {i}" for i in range(30)]
    renamed = Mutate(lambda reply: {**reply, "model": "tiny-2"} if "model" in reply else reply)
    state = {"moved": False}
    with FakeServer("vllm", lambda _: renamed if state["moved"] else None) as server:
        clf = LLMClassifier(
            backend_for(server), labels=["fine", "film"], prompt="{{ text }}:", calibrator="temperature"
        )
        clf.fit(texts, ["fine", "film"] * 15).save(tmp_path / "clf")
        before = clf.predict_proba(texts)
        del clf
        state["moved"] = True
        moved = load(tmp_path / "clf")
        with pytest.raises(ModelError, match=r"answered_by was 'tiny' and is 'tiny-2'.*check_model=False"):
            moved.predict(texts)
        insists = load(tmp_path / "clf", check_model=False)
        with pytest.warns(CalibrationWarning, match="answered_by was 'tiny'"):
            after = insists.predict_proba(texts)
        np.testing.assert_allclose(after, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "expected an address"),
        ({"base_url": "http://me:secret@host/v1"}, "holds a user name"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"rpm": 2.5}, "rpm=2.5"),
        ({"timeout": -1}, "timeout=-1"),
        ({"max_cost": 1.0}, "needs price"),
        ({"price": {"in": 1}}, "expected {'input'"),
        ({"use_route": "magic"}, "use_route='magic'"),
        ({"top_calls": 0}, "top_calls=0"),
        ({"tolerance": 2}, "tolerance=2"),
        ({"extra": {"x": object()}}, "expected plain JSON"),
        ({"extra": {"prompt": "x"}}, "extra has 'prompt'"),
        ({"context_length": -5}, "context_length=-5"),
        ({"tokenizer": 3}, "tokenizer=3"),
    ],
)
def test_bad_options_are_refused_at_once(options, message):
    """An option that cannot be used is refused when the handle is made, naming the value; a secret is not repeated."""
    with pytest.raises(InputError, match=message) as caught:
        open_backend("openai:tiny", **options)
    assert "secret" not in str(caught.value)


def test_bad_names_and_keys(monkeypatch):
    """A string without a model, an unset variable and a key with a line break are refused with the cure."""
    with pytest.raises(ModelNameError, match="openai:NAME"):
        open_backend("openai:")
    with FakeServer("vllm") as server:
        with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
            _ = backend_for(server, api_key_env="NO_SUCH_KEY").route
        monkeypatch.setenv("ODD_KEY", "secret\n")
        with pytest.raises(InputError, match="ODD_KEY holds characters") as caught:
            _ = backend_for(server, api_key_env="ODD_KEY").route
        assert "secret" not in str(caught.value)
        assert server.requests == []


def test_ctrl_c_on_the_command_line(tmp_path):
    """Ctrl-C stops at once with exit code 130, and what was answered before is in the cache."""
    import signal
    import time

    from llmclf.scoring.score_cache import ScoreCache

    rows = "text\n" + "".join(f"text number {i}\n" for i in range(2000))
    (tmp_path / "in.csv").write_text(rows, encoding="utf-8")
    program = str(Path(sys.executable).with_name("llmclf"))
    with FakeServer("vllm", latency=0.05) as server:
        command = [program, "predict", "in.csv", "out.csv", "--text-column", "text", "--labels", "fine,film"]
        command += [
            "--prompt",
            "{{ text }}:",
            "--model",
            "openai:tiny",
            "--base-url",
            server.url,
            "--cache",
            "kept.sqlite",
        ]
        command += ["--model-option", "concurrency=4", "--model-option", "use_route=named_tokens"]
        running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while server.count("/v1/completions") < 60 and time.monotonic() < until:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, said = running.communicate(timeout=30)
        assert running.returncode == 130
        assert time.monotonic() - begun < 10
        assert "interrupted" in said
        seen = len(server.requests)
    assert not (tmp_path / "out.csv").exists()
    assert 0 < ScoreCache(tmp_path / "kept.sqlite").info()["rows"] < 2000
    assert seen == len(server.requests)
