"""`llmclf certify`, `verify` and `recalibrate`: what they write and say, and with which code they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from certificates.test_signatures import write_keys
from certificates.worlds import MAX_ERROR, World, make_world
from faults import FakeServer

from llmclf import Embeddings, load
from llmclf.certificates import certificate_of
from llmclf.tables.files import read_table


@pytest.fixture(scope="module")
def world(tiny_bpe) -> World:
    return make_world(tiny_bpe)


@pytest.fixture(scope="module")
def ready(world, tmp_path_factory) -> Path:
    """A folder with a classifier and a table of fresh rows, not to be changed."""
    place = tmp_path_factory.mktemp("ready")
    world.fitted().save(place / "clf")
    X, y = world.of(World.FRESH)
    frame = pd.DataFrame({"review": X, "mood": y, "channel": ["web", "mail"] * 200, "chance": 0.5})
    frame.to_csv(place / "fresh.csv", index=False)
    return place


@pytest.fixture
def place(ready, tmp_path, monkeypatch) -> Path:
    shutil.copytree(ready, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FRESH = ["clf", "fresh.csv", "--text-column", "review", "--label-column", "mood"]
CERTIFY = ["certify", *FRESH, "--max-error", MAX_ERROR]


def test_it_certifies_and_verifies(run, place):
    """With the promise in words, a page, and an exit code for CI."""
    done = run(*CERTIFY, "--group-column", "channel", "--inclusion-column", "chance", "--expires", "30")
    assert done.code == 0, done.err
    made = certificate_of("clf")
    assert made.id in done.out
    assert "at most 15.0 % are wrong, with 95 % confidence" in " ".join(done.out.split())
    assert [part.name for part in made.content.parts] == ["bad", "good", "mail", "web"]
    assert (made.expires - made.issued).days == 30
    assert (place / "clf" / "certificate.html").read_text().startswith("<!DOCTYPE html>")
    checked = run("verify", "clf")
    assert checked.code in (0, 3)
    assert "the same model" in checked.out
    as_json = run("verify", "clf", "--json")
    assert json.loads(as_json.out)["certificate"] == made.id


def test_what_is_not_shown_ends_with_a_code_of_its_own(run, place):
    """And no certificate is there; what the rows show is said."""
    frame = pd.read_csv("fresh.csv")
    frame["mood"] = frame["mood"].sample(frac=1.0, random_state=0).tolist()
    frame.to_csv("fresh.csv", index=False)
    done = run(*CERTIFY)
    assert done.code == 3
    assert "no certificate: of 400 rows" in " ".join(done.err.split())
    assert certificate_of("clf") is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--max-error", "2"], "max_error=2"),
        (["--max-error", "0.001"], "at least 2995 are needed"),
        (["--expires", "soon"], "expires='soon'"),
        (["--group-column", "town"], "--group-column 'town' is not a column"),
        (["--key", "absent"], "does not exist"),
        (["--label-column", "town"], "'town' is not a column"),
        (["--threshold", "0.9"], "threshold='0.9'"),
    ],
)
def test_bad_arguments_end_with_2(run, place, more, words):
    """Before anything is spent."""
    done = run(*CERTIFY, *more)
    assert done.code == 2
    assert words in " ".join(done.err.split())


def test_the_form_of_the_table_must_be_that_of_the_fit(run, place):
    """A classifier of texts needs the column that holds them."""
    done = run("certify", "clf", "fresh.csv", "--label-column", "mood", "--max-error", "0.1")
    assert done.code == 2
    assert "name their column with --text-column" in " ".join(done.err.split())


def test_a_signature_is_checked_with_the_public_key(run, place):
    """Another key ends with the code of signatures."""
    private, public = write_keys(place)
    _, other = write_keys(place, "other")
    done = run(*CERTIFY, "--key", private)
    assert done.code == 0, done.err
    assert run("verify", "clf", "--public-key", public).code in (0, 3)
    wrong = run("verify", "clf", "--public-key", other)
    assert wrong.code == 8
    assert "signed by another key" in " ".join(wrong.err.split())


def test_hashes_are_verified_with_their_rows(run, place):
    """Without these, an argument is missing."""
    assert run(*CERTIFY, "--canary", "hashes").code == 0
    without = run("verify", "clf")
    assert without.code == 2
    assert "--rows" in without.err
    assert run("verify", "clf", "--rows", "fresh.csv", "--text-column", "review").code in (0, 3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "certificate.json").unlink(), 9),
        (lambda folder: (folder / "certificate.json").write_text("[]"), 7),
        (lambda folder: next(folder.glob("certificate-*.npy")).unlink(), 7),
        (lambda folder: (folder / "classifier.json").write_text("{}"), 6),
        (lambda folder: (folder / "classifier.json").unlink(), 1),
    ],
)
def test_every_fault_has_its_code(run, place, change, code):
    """In one line, without a traceback."""
    assert run(*CERTIFY).code == 0
    change(place / "clf")
    done = run("verify", "clf")
    assert done.code == code
    assert "Traceback" not in done.err


def test_a_folder_that_is_none_is_no_folder_without_a_certificate(run, place):
    """It is named: one that does not exist, a file, and one that holds no classifier."""
    (place / "empty").mkdir()
    for name, code, message in (
        ("nowhere", 2, "'nowhere' does not exist"),
        ("fresh.csv", 2, "'fresh.csv' is a file, not a folder"),
        ("empty", 9, "'empty' holds no saved classifier"),
    ):
        done = run("verify", name)
        assert done.code == code
        assert message in " ".join(done.err.split())


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_predictions_name_the_certificate_in_each_row(run, place, name):
    """In a column, by which watch tells them from those of another one."""
    predict = ["predict", "fresh.csv", name, "--text-column", "review", "--classifier", "clf"]
    assert run(*predict).code == 0
    assert "certificate" not in read_table(name).columns
    assert run(*CERTIFY).code == 0
    assert run(*predict).code == 0
    assert set(read_table(name)["certificate"]) == {certificate_of("clf").id}


def test_a_threshold_is_selected_and_kept(run, place):
    """In the folder, whose certificate is about it."""
    assert run(*CERTIFY, "--threshold", "selected").code == 0
    assert load("clf").threshold_.n_rows == 400
    assert certificate_of("clf").threshold == load("clf").threshold_.threshold


@pytest.mark.filterwarnings("default::llmclf.errors.CertificateWarning")
def test_predict_says_that_a_certificate_is_broken(run, place):
    """On standard error; the rows are labelled all the same."""
    assert run(*CERTIFY).code == 0
    (place / "clf" / "certificate.json").write_text("[]")
    done = run("predict", "fresh.csv", "out.csv", "--text-column", "review", "--classifier", "clf")
    assert done.code == 0
    assert "nothing is certified" in " ".join(done.err.split())


@pytest.mark.filterwarnings("default::llmclf.errors.LlmclfWarning")
def test_it_recalibrates(run, place):
    """Into another folder, or the same, where the certificate goes."""
    assert run(*CERTIFY).code == 0
    done = run("recalibrate", *FRESH, "-o", "again")
    assert done.code == 0, done.err
    assert "recalibrated on 400 rows" in done.out
    assert load("again").recalibration_ is not None
    assert certificate_of("clf") is not None
    same = run("recalibrate", *FRESH, "-o", "clf")
    assert same.code == 0
    assert "is removed" in " ".join(same.err.split())
    assert certificate_of("clf") is None


@pytest.mark.filterwarnings("ignore::llmclf.errors.LlmclfWarning")
def test_embeddings_behind_a_server_that_has_moved(run, world, tmp_path, monkeypatch, no_waiting):
    """Each command takes options for their server; where a key would go there, the error names the flags that allow it."""
    monkeypatch.chdir(tmp_path)
    X, y = world.of(World.FRESH)
    pd.DataFrame({"review": X, "mood": y}).to_csv("fresh.csv", index=False)
    with FakeServer("embeddings") as old:
        features = [Embeddings("openai:tiny", base_url=old.url, api_key_env="LLMCLF_TEST_KEY", max_retries=0)]
        monkeypatch.setenv("LLMCLF_TEST_KEY", "sk-test-0123456789")
        clf = world.fitted(features=features)
        clf.save("clf")
        place = ["--embedding-option", f"base_url={old.url}", "--embedding-option", "api_key_env=LLMCLF_TEST_KEY"]
        refused = run(*CERTIFY)
        assert refused.code == 2
        assert f"or {' '.join(place)}" in " ".join(refused.err.split())
        done = run(*CERTIFY, *place)
        assert done.code == 0, done.err
    with FakeServer("embeddings") as new:
        place = ["--embedding-option", f"base_url={new.url}", "--embedding-option", "api_key_env="]
        assert run("verify", "clf", "--trust").code == 1
        assert run("verify", "clf", *place).code in (0, 3)
        out = run("predict", "fresh.csv", "out.csv", "--text-column", "review", "--classifier", "clf", *place)
        assert out.code == 0, out.err
        assert run("inspect", X[0], "--classifier", "clf", "--json", *place).code == 0
        assert run("recalibrate", *FRESH, "-o", "again", *place).code == 0


def test_options_of_embeddings_that_are_not_there_are_refused(run, place):
    """And so is what is no option."""
    for command in (["verify", "clf"], CERTIFY):
        done = run(*command, "--embedding-option", "base_url=http://localhost:9/v1")
        assert done.code == (9 if command[0] == "verify" else 2)
    assert "has no embeddings" in " ".join(done.err.split())
    done = run(*CERTIFY, "--embedding-option", "base_url")
    assert "--embedding-option 'base_url': expected NAME=VALUE" in " ".join(done.err.split())
    done = run(
        "predict", "fresh.csv", "o.csv", "--labels", "a,b", "--embedding-option", "base_url=http://localhost:9/v1"
    )
    assert (done.code, "give --classifier FOLDER" in " ".join(done.err.split())) == (2, True)
