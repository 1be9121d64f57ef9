"""What a folder, a job file or a description says about servers is followed at the caller's word only."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from faults import FakeServer

from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends.http import addresses
from llmclf.errors import InputError, SavedAddressError
from llmclf.jobs import estimate_table, label_table
from llmclf.loading import load_pipeline
from llmclf.pipeline import FittedPipeline

OWN = "LLMCLF_TEST_SECRET"
FAR = "https://evil.example.test/v1"
TABLE = pd.DataFrame({"text": ["Fine.", "Long."]})


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No server is named by the environment; a secret of the user's is there; the resolver knows no name."""
    monkeypatch.setattr(addresses, "_resolved", lambda host: [])
    names = ("BASE_URL", "API_KEY", "CUSTOM_HEADERS", "ORG_ID", "PROJECT_ID")
    for name in (*(f"OPENAI_{name}" for name in names), "TYPESAFE_BASE_URL", "TYPESAFE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(OWN, "canary-of-the-user")


@pytest.fixture
def folder(tmp_path):
    """A function: options of a saved classifier's backend -> its folder."""

    def made(scheme: str = "openai", **options):
        model = open_backend(f"{scheme}:tiny", **{"base_url": "http://127.0.0.1:9/v1", **options})
        target = tmp_path / "folder"
        LLMClassifier(model, labels=["good", "bad"], prompt=Prompt(chat=True)).fit(["Any."]).save(target)
        return target

    return made


CASES = {
    # options in the folder, the environment, words that do, words that do not
    "far": (
        {"base_url": FAR},
        {},
        [{"base_url": FAR}, {"base_url": "https://own.example.test"}],
        [{"api_key_env": ""}],
    ),
    "far, own key": (
        {"base_url": FAR, "api_key_env": OWN},
        {},
        [{"base_url": FAR, "api_key_env": OWN}, {"base_url": FAR, "api_key_env": ""}],
        [{"base_url": FAR}, {"api_key_env": OWN}, {"api_key_env": ""}, {"base_url": "https://own.example.test"}],
    ),
    "near, own key": (
        {"api_key_env": OWN},
        {},
        [{"api_key_env": ""}, {"base_url": "http://127.0.0.1:9/v1", "api_key_env": OWN}],
        [{"api_key_env": OWN}, {"base_url": "http://127.0.0.1:9/v1"}],
    ),
    "near, usual key": (
        {},
        {"OPENAI_API_KEY": "k"},
        [{"api_key_env": ""}, {"base_url": "http://127.0.0.1:9/v1"}],
        [{"api_key_env": "OPENAI_API_KEY"}, {}],
    ),
    "said by the environment": ({"base_url": FAR}, {"OPENAI_BASE_URL": "HTTPS://Evil.example.test:443"}, [{}], []),
    "said by the environment, usual key": (
        {"base_url": FAR},
        {"OPENAI_BASE_URL": FAR, "OPENAI_API_KEY": "k"},
        [{}],
        [],
    ),
    "said by the environment, own key": (
        {"base_url": FAR, "api_key_env": OWN},
        {"OPENAI_BASE_URL": FAR},
        [{"api_key_env": OWN}, {"api_key_env": ""}],
        [{}],
    ),
    "another port": ({"base_url": FAR}, {"OPENAI_BASE_URL": "https://evil.example.test:8443/v1"}, [], [{}]),
    "another scheme": ({"base_url": FAR}, {"OPENAI_BASE_URL": "http://evil.example.test/v1"}, [], [{}]),
    "no address": ({"base_url": FAR}, {"OPENAI_BASE_URL": "http://[", "OPENAI_API_KEY": "k"}, [], [{}]),
    "no address in the folder": ({"base_url": None, "api_key_env": OWN}, {}, [{"api_key_env": OWN}], [{}]),
    "nothing in the folder": ({"base_url": None}, {"OPENAI_API_KEY": "k"}, [{}], []),
    "near, no key": ({}, {}, [{}], []),
    "near, headers": (
        {},
        {"OPENAI_CUSTOM_HEADERS": "X-Key: k"},
        [{"base_url": "http://127.0.0.1:9/v1"}],
        [{}, {"api_key_env": ""}],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_words(folder, name, monkeypatch):
    """For an address, for a key and for both; trust is the word for all, and the message names what would be sent where."""
    options, variables, enough, too_little = CASES[name]
    path = folder(**options)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    for word in enough:
        assert load(path, model_options=word)
        load_pipeline(path, model_options=word)
    for word in too_little:
        with pytest.raises(SavedAddressError) as caught:
            load(path, model_options=word)
        message = str(caught.value)
        assert "load(folder, trust=True)" in message
        assert all(value in message for value in caught.value.words.values())
        # The words that the message names are enough.
        load(path, model_options={**word, **caught.value.words})
        with pytest.raises(SavedAddressError):
            FittedPipeline.from_dict(json.loads((path / "classifier.json").read_text()), model_options=word)
    assert load(path, trust=True).backend_.options == load(path, model_options=options, trust=True).backend_.options


def test_other_kinds_of_servers_have_their_own_variables(folder, monkeypatch):
    """The usual key of one is no word for the key of another."""
    path = folder("systemone", base_url=FAR, api_key_env="OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", FAR)
    with pytest.raises(SavedAddressError, match="the key in OPENAI_API_KEY to https://evil.example.test/v1"):
        load(path)
    monkeypatch.setenv("TYPESAFE_BASE_URL", FAR)
    with pytest.raises(SavedAddressError):
        load(path)
    load(path, model_options={"api_key_env": "OPENAI_API_KEY"})


def test_a_provider_that_only_a_file_names(folder, monkeypatch):
    """Its usual address is no word of the caller, unless the caller has a key of it; a program on this machine needs none."""
    for variable in ("MISTRAL_API_KEY", "MISTRAL_BASE_URL", "OLLAMA_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    path = folder("mistral", base_url=None)
    with pytest.raises(
        SavedAddressError, match=r"texts to https://api\.mistral\.ai/v1.*or set MISTRAL_API_KEY"
    ) as caught:
        load(path)
    load(path, model_options=caught.value.words)
    monkeypatch.setenv("MISTRAL_API_KEY", "k")
    assert load(path).backend_.server_options.api_key_env == "MISTRAL_API_KEY"
    load(folder("ollama", base_url=None))


def test_jobs(folder):
    """A folder that a job is given asks for the same word; a classifier that was loaded has had it."""
    path = folder(base_url=FAR)
    for act in (label_table, estimate_table):
        with pytest.raises(SavedAddressError, match="trust=True"):
            act(TABLE, text_column="text", classifier=path)
    assert estimate_table(TABLE, text_column="text", classifier=path, trust=True).rows == 2
    assert estimate_table(TABLE, text_column="text", classifier=load(path, trust=True)).rows == 2


def test_a_trusted_job_goes_on_without_asking_again(folder, monkeypatch, tmp_path):
    """Also where the limit on its cost makes another backend of it."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with FakeServer("openai_chat", key="k") as server:
        price = {"input": 1.0, "output": 1.0}
        path = folder(base_url=server.url, price=price, max_cost=100.0)
        for _ in range(2):
            done = label_table(
                TABLE, text_column="text", classifier=path, trust=True, journal=tmp_path / "j", resume=True
            )
            assert done.summary.labelled == 2
        assert all(request.headers["authorization"] == "Bearer k" for request in server.requests)


def test_commands(folder, run, tmp_path, monkeypatch):
    """predict, inspect, label and estimate refuse what a folder alone says, name the flags, and send nothing."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    table = tmp_path / "in.csv"
    TABLE.to_csv(table, index=False)
    with FakeServer("openai_chat", key="k") as server:
        path = folder(base_url=server.url)
        commands = {
            "predict": (table, tmp_path / "out.csv", "--text-column", "text"),
            "inspect": ("Fine.",),
            "label": (table, tmp_path / "labelled.csv", "--text-column", "text", "--quiet"),
            "estimate": (table, "--text-column", "text"),
        }
        for name, rest in commands.items():
            refused = run(name, *rest, "--classifier", path)
            assert refused.code == 2
            flags = f"--base-url {server.url} --api-key-env OPENAI_API_KEY"
            assert f"the key in OPENAI_API_KEY to {server.url}" in refused.err
            assert f"--trust, or {flags}; --api-key-env '' sends no key" in refused.err
            assert not server.requests
        for name, rest in commands.items():
            if name == "label":
                rest = (*rest, "--resume")
            if name != "inspect":  # which needs a model of this machine
                for word in (("--trust",), flags.split(), ("--base-url", server.url)):
                    done = run(name, *rest, "--classifier", path, *word)
                    assert done.code == 0, done.err
        assert server.requests


def test_a_job_file(folder, run, tmp_path):
    """It may come from anybody, too: its own address and key, and those of its folder, want a flag."""
    table, job = tmp_path / "in.csv", tmp_path / "job.toml"
    TABLE.to_csv(table, index=False)
    with FakeServer("openai_chat", key="canary-of-the-user") as server:
        start = f'input = "{table}"\noutput = "{tmp_path / "out.csv"}"\ntext_column = "text"\nresume = true\n'
        ours = f'base_url = "{server.url}"\napi_key_env = "{OWN}"\n'
        options = f'[model_options]\nbase_url = "{server.url}"\napi_key_env = "{OWN}"\n'
        path = folder()
        texts = [
            start + 'labels = "good,bad"\nchat = true\nmodel = "openai:tiny"\n' + ours,
            start + 'labels = "good,bad"\nchat = true\nmodel = "openai:tiny"\n' + options,
            start + f'classifier = "{path}"\n' + ours,
        ]
        for text in texts:
            job.write_text(text)
            for command in ("label", "estimate"):
                for few in ((), ("--api-key-env", OWN), ("--base-url", server.url)):
                    if few and "model_options" in text:
                        continue
                    refused = run(command, "--job", job, *few)
                    assert refused.code == 2
                    assert f"would send the key in {OWN} to {server.url}" in refused.err
            assert not server.requests
        for text in texts:
            job.write_text(text)
            both = ("--base-url", server.url, "--api-key-env", OWN)
            for word in (("--trust",), both):
                if word == both and "model_options" in text:
                    continue
                done = run("label", "--job", job, "--quiet", *word)
                assert done.code == 0, done.err
        assert server.requests
        job.write_text(texts[0] + "trust = true\n")
        assert "unknown key 'trust'" in run("label", "--job", job).err


def test_a_job_file_does_not_vouch_for_a_folder(folder, run, tmp_path):
    """Neither of two files is the caller."""
    table, job = tmp_path / "in.csv", tmp_path / "job.toml"
    TABLE.to_csv(table, index=False)
    path = folder(base_url=FAR)
    job.write_text(f'input = "{table}"\ntext_column = "text"\nclassifier = "{path}"\nbase_url = "{FAR}"\n')
    refused = run("estimate", "--job", job)
    assert (refused.code, "the job file would send texts to" in refused.err) == (2, True)
    assert run("estimate", "--job", job, "--base-url", FAR).code == 0


def test_an_input_error():
    """Whoever catches those of bad input catches this."""
    assert issubclass(SavedAddressError, InputError)
