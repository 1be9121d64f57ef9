"""Reading saved classifiers: whatever is damaged shows when the folder is read, as one error that names the file and the cure."""

from __future__ import annotations

import json
import math
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmclf import Embeddings, LLMClassifier, Prompt, load, open_backend
from llmclf.backends import FakeBackend
from llmclf.calibration import SelectedThreshold
from llmclf.errors import (
    InputError,
    LlmclfWarning,
    ModelError,
    ModelNameError,
    SavedAddressError,
    StoreError,
    UnknownOptionError,
)
from llmclf.loading import load_pipeline
from llmclf.pipeline import FittedPipeline

LABELS = {"fine": ["good", "great"], "dull": "bad"}
Y = np.where(np.arange(26) % 2, "fine", "dull")
TEXTS = [f"{'lovely' if y == 'fine' else 'grey'} {i}" for i, y in enumerate(Y)]
NEW = ["lovely 3", "grey", "neither of them", "東京"]
OLD = Path(__file__).parent / "old_formats"
CURE = "copy the folder again, or fit and save the classifier once more"


class Stateful(FakeBackend):
    """A backend without weights whose states depend on the text."""

    shows_states = True

    def score(self, requests):
        for place, answer in super().score([replace(request, states=()) for request in requests]):
            request = requests[place]
            draw = np.random.default_rng(list(request.prompt.text.encode()))
            states = draw.normal(size=3 * len(request.states)).astype(np.float32) if request.states else None
            yield place, replace(answer, state_parts=request.states, states=states)


def of_texts(**options: Any) -> LLMClassifier:
    clf = LLMClassifier(Stateful(), labels=LABELS, prompt="{{ text }}:", random_state=0, **options).fit(TEXTS, Y)
    clf.threshold_ = SelectedThreshold(0.5, 0.9, 0.1, 0.2, 20, 24, 0.3, 0.95)
    return clf


def of_a_table() -> LLMClassifier:
    rows = [{"title": text, "body": text[::-1], "n": i} for i, text in enumerate(TEXTS)]
    prompt = Prompt("{{ title }} {{ body }}:", instruction="Answer.")
    clf = LLMClassifier(
        FakeBackend(), labels=["b", "a"], prompt=prompt, calibrator="isotonic", n_shots=2, random_state=0
    )
    return clf.fit(rows, ["a", "b"] * 13)


MADE = {
    "states": lambda: of_texts(features=["states", "tfidf"], bias="batch", prior="uniform", n_shots=2),
    "words": lambda: of_texts(features="tfidf", calibrator="vector"),
    "few rows": lambda: of_texts(features="tfidf", n_shots=8),
    "auto": lambda: of_texts(calibrator="auto"),
    "table": of_a_table,
}


def saved(clf: LLMClassifier, folder: Path) -> Path:
    """The folder of a classifier, as if its backend were one of this machine's models."""
    clf.pipeline_ = replace(clf.pipeline_, backend=open_backend("smollm2"))
    clf.save(folder)
    return folder


def with_embeddings(folder: Path, target: Path) -> Path:
    """A folder that reads embeddings where the other reads states."""
    values = read(folder)
    length = len(dict(values["corrections"]["calibrator"]["fitted"]["members"])["states"]["scalings"][0][1]["mean"])
    described = Embeddings("openai:e5", base_url="http://127.0.0.1:9/v1").to_dict()
    described |= {"n_features_out": length, "identity": {"embedder": "server", "model": "e5"}}
    values["features"][0] = {"kind": "embeddings", "name": "states", "embeddings": described}
    return copy_with(folder, target, values)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of each of `MADE`, and "pool", which a version wrote that was the first to have pools."""
    root = tmp_path_factory.mktemp("saved")

    @cache
    def made(name: str) -> Path:
        if name == "pool":
            return OLD / "pool"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LlmclfWarning)
            return saved(MADE[name](), root / name.replace(" ", "_"))

    return made


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "classifier.json").read_text(encoding="utf-8"))


def copy_with(folder: Path, target: Path, values: Any) -> Path:
    """A copy of a folder with other JSON in it, NaN and infinity as Python writes them."""
    if not target.exists():
        shutil.copytree(folder, target)
    (target / "classifier.json").write_text(json.dumps(values), encoding="utf-8")
    return target


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of each value in nested JSON; of long lists the first two, one in the middle and the last."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for place in sorted({0, 1, len(value) // 2, len(value) - 1} & set(range(len(value)))):
            yield from places(value[place], (*path, place))


OTHERS = (None, True, "other", "", -1, 0, 2.5, math.nan, math.inf, [], {}, [[]], {"\0array": 3}, [1.0], ["a", "a"])


def mutations(values: dict[str, Any]) -> Iterator[tuple[tuple, str]]:
    """Each way to damage one value: its path, and what is done there."""
    for path in places(values):
        yield path, "delete"
        yield from ((path, f"set {number}") for number in range(len(OTHERS)))
        found = at(values, path)
        if isinstance(found, list):
            yield from ((path, change) for change in ("shorter", "longer", "turned", "doubled"))
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            yield from ((path, change) for change in ("negative", "one more", "text"))
        if isinstance(found, str):
            yield path, "longer text"
        if isinstance(found, dict):
            yield path, "another key"


def at(values: Any, path: tuple) -> Any:
    for key in path:
        values = values[key]
    return values


def damaged(values: dict[str, Any], path: tuple, change: str) -> dict[str, Any] | None:
    """A copy with one value changed; None where the change changes nothing."""
    values = deepcopy(values)
    holder, key = at(values, path[:-1]), path[-1]
    before = deepcopy(holder)
    found = holder[key]
    if change == "delete":
        del holder[key]
    elif change.startswith("set "):
        holder[key] = OTHERS[int(change[4:])]
    elif change == "another key":
        found["another"] = 1
    else:
        holder[key] = {
            "shorter": lambda: found[:-1],
            "longer": lambda: [*found, *found[-1:]],
            "turned": lambda: found[::-1],
            "doubled": lambda: found * 2,
            "negative": lambda: -found,
            "one more": lambda: found + 1,
            "text": lambda: str(found),
            "longer text": lambda: found + "x",
        }[change]()
    return None if repr(holder) == repr(before) else values


def outcome(folder: Path, path: tuple, X: Any) -> str:
    """What becomes of a folder: refused, or as good as whole; raises AssertionError for all else."""
    try:
        clf = load(folder)
    except StoreError as error:
        assert "classifier.json" in str(error) or "written by a" in str(error), error
        assert CURE in str(error) or "fit and save it again" in str(error), error
        return "refused"
    except (ModelNameError, UnknownOptionError):
        assert path[0] in ("model", "model_options")
        return "no such model"
    clf.pipeline_ = replace(clf.pipeline_, backend=Stateful())
    try:
        proba = clf.predict_proba(X)
    except ModelError as error:
        assert path[0] == "calibrated_on"
        assert "belong to another model" in str(error)
        return "of another model"
    assert proba.shape == (len(X), 2)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-9)
    assert clf.predict(X).tolist() == clf.classes_[proba.argmax(axis=1)].tolist()
    assert repr(clf.pipeline_)
    return "as good as whole"


def rows_for(name: str) -> Any:
    return [{"title": text, "body": "any", "n": 1} for text in NEW] if name == "table" else NEW


def try_all(folder: Path, target: Path, name: str, chosen: list[tuple[tuple, str]]) -> dict[str, int]:
    """How often each outcome was seen; a list of all that went wrong is raised."""
    values, counts, wrong = read(folder), {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        for path, change in chosen:
            changed = damaged(values, path, change)
            if changed is None:
                continue
            try:
                seen = outcome(copy_with(folder, target, changed), path, rows_for(name))
            except Exception as error:  # the point of the test
                wrong.append(f"{'/'.join(map(str, path))}: {change}: {error!r}")
            else:
                counts[seen] = counts.get(seen, 0) + 1
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)}", *wrong])
    return counts


@pytest.mark.parametrize("name", ["pool", "few rows", "table"])
def test_one_damaged_value_shows_when_the_folder_is_read(folder_of, name, tmp_path):
    """Or does not matter: a sample of all values, deleted, of another type, negative, NaN, in lists of another length."""
    every = list(mutations(read(folder_of(name))))
    counts = try_all(folder_of(name), tmp_path / "copy", name, random.Random(0).sample(every, 25))
    assert counts["refused"] > 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pool", *MADE])
def test_every_damaged_value_shows_when_the_folder_is_read(folder_of, name, tmp_path):
    """Each value of the folder, in each way."""
    counts = try_all(folder_of(name), tmp_path / "copy", name, list(mutations(read(folder_of(name)))))
    assert counts["refused"] > 100, counts


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_damaged_description_of_embeddings_shows_when_the_folder_is_read(folder_of, is_whole, tmp_path):
    """No embedder is asked for that."""
    folder = with_embeddings(folder_of("pool"), tmp_path / "whole")
    assert load(folder).pipeline_.has_heads
    every = [(path, change) for path, change in mutations(read(folder)) if path[0] == "features"]
    n_refused = 0
    for path, change in every if is_whole else random.Random(1).sample(every, 25):
        changed = damaged(read(folder), path, change)
        if changed is None:
            continue
        try:
            load(copy_with(folder, tmp_path / "copy", changed))
        except StoreError as error:
            assert "classifier.json" in str(error)
            assert CURE in str(error)
            n_refused += 1
        except (ModelNameError, UnknownOptionError):
            assert path[-1] == "model"
        except SavedAddressError:
            assert path[-1] in ("model", "base_url", "api_key_env")
    assert n_refused > 8


# --- what must not slip through, by name ---------------------------------------------------------------------------------


def pool(values: dict[str, Any]) -> dict[str, Any]:
    return values["corrections"]["calibrator"]["fitted"]


def member(values: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(pool(values)["members"])[name]


def other_scaling(values: dict[str, Any]) -> None:
    n = len(values["features"][1]["vocabularies"]["word"]) + len(values["features"][1]["vocabularies"]["char_wb"])
    member(values, "tfidf")["scalings"][0][1] = {"kind": "standardised", "mean": [0.0] * n, "unit": [1.0] * n}


def one_term_less(values: dict[str, Any]) -> None:
    values["features"][1]["vocabularies"]["word"].pop()


def terms_moved(values: dict[str, Any]) -> None:
    values["features"][1]["vocabularies"]["char_wb"].reverse()


def one_coefficient_less(values: dict[str, Any]) -> None:
    member(values, "tfidf")["coefficients"].pop()


def head_without_its_set(values: dict[str, Any]) -> None:
    member(values, "states")["scalings"][0][0] = "embeddings"


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no features": lambda values: values.pop("features"),
    "null features": lambda values: values.update(features=None),
    "empty features": lambda values: values.update(features=[]),
    "one feature set less": lambda values: values["features"].pop(),
    "a feature set twice": lambda values: values.update(features=values["features"][:1] * 2),
    "feature sets moved": lambda values: values["features"].reverse(),
    "no feature sets of the pool": lambda values: pool(values).update(feature_sets=[]),
    "feature sets as one text": lambda values: pool(values).update(feature_sets="states"),
    "another scaling": other_scaling,
    "one term less": one_term_less,
    "terms in another order": terms_moved,
    "one coefficient less": one_coefficient_less,
    "a head of an unknown set": head_without_its_set,
    "a head of another name": lambda values: member(values, "tfidf").update(name="states"),
    "numbers as text": lambda values: member(values, "tfidf").update(offset=["-0.7", "-0.7"]),
    "NaN in the prior": lambda values: values["corrections"].update(log_prior=[math.nan, 0.0]),
    "a prior of three classes": lambda values: values["corrections"].update(log_prior=[0.0, 0.0, 0.0]),
    "a huge bias": lambda values: values["corrections"]["bias"].update(bias=[1e30, 0.0]),
    "a bias of three classes": lambda values: values["corrections"]["bias"].update(
        bias=[0.0] * 3, prior=[0.2, 0.2, 0.6]
    ),
    "weights that sum to 2": lambda values: pool(values)["pool"].update(linear=[2.0, *[0.0] * 6]),
    "weights that sum to 0": lambda values: pool(values)["pool"].update(linear=[0.0] * 7),
    "a negative weight": lambda values: pool(values)["pool"].update(linear=[-0.5, 1.5, *[0.0] * 5]),
    "a negative exponent": lambda values: pool(values)["pool"].update(logarithmic=[-0.5, *[0.0] * 6]),
    "NaN among the weights": lambda values: pool(values)["pool"].update(logarithmic=[math.nan, *[0.0] * 6]),
    "a share above 1": lambda values: pool(values)["pool"].update(share=1.5),
    "a weight without a member": lambda values: pool(values)["members"].pop(),
    "a member twice": lambda values: pool(values)["members"].__setitem__(0, pool(values)["members"][1]),
    "a member of other classes": lambda values: member(values, "frequencies")["calibrator"].update(classes=[1, 0]),
    "a loss less": lambda values: pool(values)["losses"].pop("tfidf"),
    "columns in another order": lambda values: values["corrections"]["calibrator"].update(classes=[1, 0]),
    "classes in another order": lambda values: values["classes"].reverse(),
    "classes and words in another order": lambda values: (values["classes"].reverse(), values["words"].reverse()),
    "words as one text": lambda values: values.update(words=["bad", ["good", "great"]]),
    "a word of two classes": lambda values: values.update(words=[["bad"], ["bad", "great"]]),
    "an order of names that is none": lambda values: values.update(named_order=[0, 0]),
    "an unknown calibrator as a member": lambda values: values["corrections"]["calibrator"].update(
        parameters={"calibrator": "temprature"}
    ),
    "fingerprints as one text": lambda values: values.update(calibrated_fingerprints="abc"),
    "no template": lambda values: values["prompt"].pop("template"),
    "a chat that is no truth value": lambda values: values["prompt"].update(chat="false"),
    "no model that the calibrator belongs to": lambda values: values.update(calibrated_on=None),
    "no losses": lambda values: pool(values).update(losses={}),
    "a shot without a text": lambda values: values["shots"][0][0].update(text=None),
    "a fit on unknown scores": lambda values: values["fitted_on_scores"].update(scoring="total"),
    "a fit with guidance that is no number": lambda values: values["fitted_on_scores"].update(guidance="1"),
    "an unknown scoring": lambda values: values.update(scoring="total"),
    "a shot with a foreign word": lambda values: values["shots"][0].__setitem__(1, "splendid"),
    "fields of other rows": lambda values: values.update(field_names=["body"]),
    "null in place of a number": lambda values: member(values, "states").update(intercepts=[None, 0.0]),
    "a format that is none": lambda values: values.update(format="3"),
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_what_fits_nothing_else_is_refused(folder_of, change, tmp_path):
    """By one error that names the file and the cure, before a row is asked about."""
    values = read(folder_of("pool"))
    change(values)
    folder = copy_with(folder_of("pool"), tmp_path / "copy", values)
    for reading in (load, load_pipeline):
        with pytest.raises(StoreError, match=r"classifier\.json' is damaged.*" + CURE):
            reading(folder)


def test_no_meaning_hangs_on_the_order_of_keys(folder_of, tmp_path):
    """Nor on how the JSON is laid out."""
    values = json.loads(json.dumps(read(folder_of("pool")), sort_keys=True))
    assert_same_probabilities(copy_with(folder_of("pool"), tmp_path / "copy", values))


def test_a_folder_of_the_first_version_with_pools(folder_of, tmp_path):
    """It gives the probabilities of then, and so does what is written of it, in which heads say what they start from."""
    assert_same_probabilities(folder_of("pool"))
    load(folder_of("pool")).save(tmp_path / "again")
    assert_same_probabilities(tmp_path / "again")
    assert '"offset"' in json.dumps(read(folder_of("pool")))
    assert '"offset"' not in json.dumps(read(tmp_path / "again"))


def assert_same_probabilities(folder: Path) -> None:
    expected = json.loads((OLD / "expected_pool.json").read_text(encoding="utf-8"))
    clf = load(folder)
    clf.pipeline_ = replace(clf.pipeline_, backend=Stateful())
    np.testing.assert_allclose(clf.predict_proba(expected["texts"]), expected["proba"], atol=1e-9)


# --- versions ------------------------------------------------------------------------------------------------------------


def test_only_folders_with_a_pool_are_of_the_newer_format(folder_of):
    """Versions that know no pools read the others, and say of these that another version wrote them."""
    assert read(folder_of("pool"))["format"] == read(folder_of("few rows"))["format"] == 4
    assert read(folder_of("table"))["format"] == read(OLD / "classifier")["format"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 6},
            r"written by a newer version of llmclf \(format 6, .*; update llmclf, or fit and save it again",
        ),
        ({"score_version": 99}, r"written by a newer version.*score version 99"),
        ({"format": 2}, r"written by an older version of llmclf \(format 2, .*\); fit and save it again"),
        ({"score_version": 1}, r"written by an older version.*score version 1"),
        ({"format": 6, "corrections": "of another kind"}, "written by a newer version"),
    ],
)
def test_other_versions_are_named(folder_of, change, message, tmp_path):
    """As newer or older, whatever else they changed."""
    folder = copy_with(folder_of("pool"), tmp_path / "copy", {**read(folder_of("pool")), **change})
    with pytest.raises(StoreError, match=message):
        load(folder)


def test_options_that_cannot_be_used_are_no_damage(folder_of, tmp_path):
    """A sound folder is not called damaged where the caller's options are wrong, or a key would go elsewhere."""
    folder = with_embeddings(folder_of("pool"), tmp_path / "copy")
    with pytest.raises(InputError, match="'colour' is not an option of Embeddings"):
        load(folder, embedding_options={"colour": 1})
    values = read(folder)
    options = values["features"][0]["embeddings"]["options"]
    options |= {"base_url": "http://elsewhere.example/v1", "api_key_env": "OTHER_SECRET"}
    copy_with(folder, folder, values)
    with pytest.raises(SavedAddressError, match="would send the key in OTHER_SECRET to http://elsewhere.example/v1"):
        load(folder)
    for word in ({"trust": True}, {"embedding_options": {**options, "api_key_env": ""}}):
        assert load(folder, **word).pipeline_.has_heads


def test_a_pipeline_comes_back_from_its_own_values(folder_of):
    """With its arrays as they are, as workers of a job get it; no folder and no JSON is between."""
    for name in ("pool", "few rows", "table"):
        values = load_pipeline(folder_of(name)).to_dict()
        again = FittedPipeline.from_dict(values).to_dict()
        assert repr(again) == repr(values)
