"""Embeddings: each text asked once, answers never trusted, and everything that scikit-learn expects of a transformer."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest
from faults import EmbeddingServer, FakeServer, Mutate, Replace, Reset, Status
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.utils import estimator_checks, get_tags

from llmclf import Embeddings
from llmclf.backends.embeddings import LocalEmbedder, ServerEmbedder
from llmclf.backends.options import options_of
from llmclf.errors import (
    BudgetError,
    InputError,
    ModelError,
    ModelNameError,
    SavedAddressError,
    ServerError,
    StoreError,
    UnknownOptionError,
)
from llmclf.features.vector_cache import NamedVector, VectorCache

URL = "http://localhost:9/v1"
TEXTS = ["A fine film.", "Far too long.", "Größe, 東京 🙂", "A fine film."]
KEY = "LLMCLF_TEST_EMBEDDING_KEY"

pytestmark = pytest.mark.usefixtures("no_waiting")


def expected(texts, *, normalize=True):
    vectors = np.stack([EmbeddingServer.vector(text) for text in texts])
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / lengths).astype(np.float32) if normalize else vectors


def asked(server):
    """All texts that a server was asked about, in the order of the requests."""
    return [text for request in server.requests for text in request.body["input"]]


def on(server, **options):
    return Embeddings("openai:tiny", base_url=server.url, **options)


# What comes out


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_vectors_are_those_of_the_server(encoding_format):
    """Each text has its own, of length 1, in float32, whatever the batch and the format of numbers."""
    with FakeServer("embeddings") as server:
        for size in (1, 2, 50):
            vectors = on(server, batch_size=size, encoding_format=encoding_format).fit_transform(TEXTS)
            assert (vectors.dtype, vectors.shape) == (np.float32, (4, 8))
            assert np.array_equal(vectors, expected(TEXTS))
        raw = on(server, normalize=False, encoding_format=encoding_format).transform(TEXTS)
    assert np.array_equal(raw, expected(TEXTS, normalize=False))


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_a_server_may_answer_the_other_format(encoding_format):
    """Numbers where base64 was asked for, and base64 where numbers were."""
    other = {"float": "base64", "base64": "float"}[encoding_format]
    with FakeServer("embeddings") as server:
        answer = server.personality.routes["/v1/embeddings"]
        server.personality.routes["/v1/embeddings"] = lambda body: answer({**body, "encoding_format": other})
        vectors = on(server, encoding_format=encoding_format).transform(TEXTS)
        assert {request.body["encoding_format"] for request in server.requests} == {encoding_format}
    assert np.array_equal(vectors, expected(TEXTS))


def test_every_kind_of_sequence_is_read():
    """Lists, tuples, arrays and Series of any library give the same."""
    kinds = [list, tuple, np.array, pd.Series, pl.Series, lambda texts: np.array(texts, dtype=object)]
    kinds.append(lambda texts: pd.Series(texts, dtype="string", index=range(10, 10 + len(texts))))
    with FakeServer("embeddings") as server:
        for kind in kinds:
            assert np.array_equal(on(server).fit_transform(kind(TEXTS)), expected(TEXTS))


def test_each_distinct_text_is_asked_once():
    """Within a call, with what stands before it; the first one alone by fit."""
    with FakeServer("embeddings") as server:
        embeddings = on(server, prefix="query: ", batch_size=2, concurrency=1)
        vectors = embeddings.fit_transform(TEXTS)
        assert asked(server) == [f"query: {text}" for text in TEXTS[:3]]
        assert np.array_equal(vectors, expected([f"query: {text}" for text in TEXTS]))
        del server.requests[:]
        embeddings.fit(TEXTS)
        assert asked(server) == ["query: A fine film."]


def test_the_order_of_the_answers_is_that_of_their_indices():
    """Servers that work in parallel answer in any order."""

    def backwards(reply):
        return {**reply, "data": reply["data"][::-1]}

    with FakeServer("embeddings", lambda request: Mutate(backwards)) as server:
        assert np.array_equal(on(server).transform(TEXTS), expected(TEXTS))


def test_options_reach_the_server():
    """Dimensions, further fields, the model's name and the key of the variable that was named."""
    with FakeServer("embeddings", key="secret-1") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, "secret-1")
        options = {"dimensions": 3, "extra": {"input_type": "passage"}, "api_key_env": KEY}
        vectors = on(server, normalize=False, **options).transform(TEXTS)
        (body,) = [request.body for request in server.requests]
    assert {**body, "input": None} == {
        "model": "tiny",
        "input": None,
        "encoding_format": "float",
        "dimensions": 3,
        "input_type": "passage",
    }
    assert np.array_equal(vectors, expected(TEXTS, normalize=False)[:, :3])


# What a server may do wrong


def changed(**fields):
    return Mutate(lambda reply: {**reply, **fields})


def with_data(change):
    return Mutate(lambda reply: {**reply, "data": change(reply["data"])})


NAN = with_data(lambda data: [{**data[0], "embedding": [float("nan")] * 8}, *data[1:]])
FAULTS = {
    "fewer": (with_data(lambda data: data[:-1]), "data has 2 embeddings; expected one for each of 3 texts"),
    "more": (with_data(lambda data: [*data, {**data[0], "index": 3}]), "data has 4 embeddings"),
    "twice": (with_data(lambda data: [data[0], data[0], data[2]]), "index 0; expected each of 0 to 2 once"),
    "NaN": (NAN, "NaN or an infinite number"),
    "text": (with_data(lambda data: [{**one, "embedding": ["a"] * 8} for one in data]), "holds a str"),
    "null": (with_data(lambda data: [{**one, "embedding": None} for one in data]), "an embedding is missing"),
    "other length": (
        with_data(lambda data: [{**data[0], "embedding": [1.0] * 7}, *data[1:]]),
        "are 7 and 8 numbers long",
    ),
    "an error in an answer": (
        Replace({"error": {"message": "the engine is overloaded", "type": "overloaded_error"}}),
        "200 with an error: the engine is overloaded",
    ),
    "no JSON": (Replace("<html>"), "200 with an error|not JSON"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_answer_is_asked_for_again(fault, message):
    """One that heals goes unseen; one that stays is one error, and nothing of it is kept."""
    with FakeServer("embeddings", [fault]) as server:
        vectors = on(server, max_retries=1).transform(TEXTS)
        assert (server.count(), np.array_equal(vectors, expected(TEXTS))) == (2, True)
    with FakeServer("embeddings", lambda request: fault) as server:
        with pytest.raises(ServerError, match=message):
            on(server, max_retries=1).fit(TEXTS[:1]).transform(TEXTS) if message.startswith("200") else on(
                server, max_retries=1
            ).transform(TEXTS)
        assert server.count() == 2


def test_a_connection_that_breaks_is_tried_again():
    """Resets, limits and failures of the server heal."""
    with FakeServer("embeddings", [Reset(), Status(429), Status(503)]) as server:
        assert np.array_equal(on(server, max_retries=3).transform(TEXTS), expected(TEXTS))
        assert server.count() == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_final_refusal_is_not_repeated(status):
    """A wrong key or an unknown model would fail again."""
    with FakeServer("embeddings", lambda request: Status(status)) as server:
        with pytest.raises(ServerError, match=f"answered {status}") as caught:
            on(server, batch_size=1, concurrency=1).transform(TEXTS)
        assert (caught.value.is_final, server.count()) == (True, 1)


SHORT = with_data(lambda data: [{**one, "embedding": one["embedding"][:5]} for one in data])


def test_another_length_than_before_is_final():
    """Within a call, between calls of one transformer, and against what fit saw: asking again would not heal it."""
    with FakeServer("embeddings", [None, SHORT]) as server:
        embeddings = on(server, batch_size=2, concurrency=1)
        with pytest.raises(ServerError, match=r"a vector of 5 numbers, and of 8 before: .*; name the exact version"):
            embeddings.transform(TEXTS)
        assert server.count() == 2
    with FakeServer("embeddings", [None, SHORT]) as server:
        embeddings = on(server).fit(TEXTS)
        with pytest.raises(ServerError, match=r"5 numbers, and of 8 before"):
            embeddings.transform(TEXTS)
    with FakeServer("embeddings", lambda request: SHORT) as server:
        later = pickle.loads(pickle.dumps(embeddings)).set_params(base_url=server.url)
        with pytest.raises(ModelError, match=r"are 5 numbers long, and were 8 in fit; fit again"):
            later.transform(TEXTS)


def test_another_model_than_before_is_final():
    """Vectors of two models are not mixed, and heads of one are not given those of another."""
    other = changed(model="tiny-2")
    with FakeServer("embeddings", [None, other]) as server:
        with pytest.raises(ServerError, match=r"'tiny-2' answered, and 'tiny' did before: .* fit again"):
            on(server, batch_size=2, concurrency=1).transform(TEXTS)
        assert server.count() == 2
    with FakeServer("embeddings") as server:
        embeddings = on(server).fit(TEXTS)
    with FakeServer("embeddings", lambda request: other) as server:
        later = pickle.loads(pickle.dumps(embeddings)).set_params(base_url=server.url)
        with pytest.raises(ModelError, match=r"its answered_by was 'tiny' and is 'tiny-2'; fit again"):
            later.transform(TEXTS)
    with FakeServer("embeddings", lambda request: changed(model=None)) as server:
        assert on(server).fit(TEXTS).identity_["answered_by"] is None


def test_dimensions_that_a_server_ignores_are_an_error():
    """Before anything is learned from vectors of another length."""
    with FakeServer("embeddings") as server:
        answer = server.personality.routes["/v1/embeddings"]
        server.personality.routes["/v1/embeddings"] = lambda body: answer({**body, "dimensions": None})
        with pytest.raises(
            ServerError, match=r"vectors of 8 numbers, and dimensions=3 was asked for.*leave dimensions out"
        ):
            on(server, dimensions=3).fit(TEXTS)
        assert server.count() == 1


def test_a_server_that_takes_fewer_texts_gets_fewer():
    """Its refusal of a whole batch is met with halves, and the rest of the call has the smaller size."""
    texts = [f"text {i}" for i in range(300)]
    with FakeServer("embeddings") as server:
        vectors = on(server, batch_size=100, concurrency=1).transform(texts)
        assert [len(request.body["input"]) for request in server.requests] == [100, 50, 50, 50, 50, 50, 50]
    assert np.array_equal(vectors, expected(texts))


def test_a_text_that_is_refused_is_named():
    """By its beginning; the others of its batch are not to blame."""
    texts = [*(f"text {i}" for i in range(7)), "an unspeakable text"]
    with FakeServer("embeddings") as server:
        with pytest.raises(ServerError, match=r"the text 'an unspeakable text' got no embedding: .*cannot be used"):
            on(server).transform(texts)
        assert server.count() < 9


# Price, counts, estimate


def test_tokens_are_counted_and_priced():
    """By the server's count; where it counts nothing, by four bytes to a token."""
    price = {"input": 1e6, "output": 0.0}
    with FakeServer("embeddings") as server:
        embeddings = on(server, price=price)
        embeddings.transform(TEXTS)
        counted = sum(len(server.model.encode(text)) for text in set(TEXTS))
        assert (embeddings.usage.requests, embeddings.usage.tokens_in) == (1, counted)
        assert embeddings.usage.cost == counted
    with FakeServer("embeddings", lambda request: Mutate(lambda reply: {**reply, "usage": None})) as server:
        embeddings = on(server, price=price)
        embeddings.transform(TEXTS)
        estimate = embeddings.estimate(TEXTS)
        assert embeddings.usage.tokens_in == estimate.tokens_in == 3 + 4 + 5
        assert embeddings.usage.cost == estimate.cost == 12.0


def test_an_estimate_sends_nothing(tmp_path):
    """Distinct texts count once, in requests of a batch each, and those in the cache not at all."""
    with FakeServer("embeddings") as server:
        options = {"batch_size": 2, "cache": tmp_path / "vectors.sqlite", "price": {"input": 2e6, "output": 0.0}}
        embeddings = on(server, **options)
        estimate = embeddings.estimate([*TEXTS, "new"])
        assert (estimate.rows, estimate.requests, estimate.tokens_in, estimate.cost) == (5, 2, 13, 26.0)
        assert (estimate.tokens_out, estimate.is_counted, server.count()) == (0, False, 0)
        embeddings.fit_transform(TEXTS)
        estimate = embeddings.estimate([*TEXTS, "new"])
        assert (estimate.rows, estimate.requests, estimate.tokens_in, estimate.cost) == (5, 1, 1, 2.0)


def test_no_request_could_pass_the_budget(tmp_path):
    """What was paid for before is in the cache, and is not paid for again."""
    texts = [f"text number {i}" for i in range(20)]
    with FakeServer("embeddings") as server:
        options = {"price": {"input": 1e6, "output": 0.0}, "cache": tmp_path / "vectors.sqlite", "batch_size": 2}
        embeddings = on(server, **options, max_cost=100.0, concurrency=1)
        with pytest.raises(BudgetError, match="max_cost=100 is reached"):
            embeddings.transform(texts)
        assert 0 < embeddings.usage.cost <= 100.0
        n_paid = len(asked(server))
        assert np.array_equal(on(server, **options).transform(texts), expected(texts))
        assert len(asked(server)) == len(set(asked(server))) == 20 > n_paid > 0


# The cache


def test_what_the_cache_knows_is_never_asked(tmp_path):
    """By another object, process or thread, bit for bit; the server may be gone."""
    cache = tmp_path / "vectors.sqlite"
    with FakeServer("embeddings") as server:
        first = on(server, cache=cache).fit_transform(TEXTS)
        url = server.url
    later = Embeddings("openai:tiny", base_url=url, cache=str(cache))
    assert np.array_equal(later.fit_transform(TEXTS), first)
    assert np.array_equal(later.fit(TEXTS).transform(TEXTS[::-1]), first[::-1])
    assert later.identity_["answered_by"] == "tiny"
    assert later.usage.requests == 0
    made = f"Embeddings('openai:tiny', base_url={url!r}, cache={str(cache)!r})"
    code = f"from llmclf import Embeddings; print({made}.transform({TEXTS!r}).tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(np.array(json.loads(printed), dtype=np.float32), first)


@pytest.mark.parametrize(
    "options",
    [{"dimensions": 4}, {"extra": {"input_type": "passage"}}, {"prefix": "query: "}, {"model": "openai:other"}],
)
def test_another_question_has_another_key(tmp_path, options):
    """Model, dimensions, further fields and prefix are part of what was asked; format, batch and speed are not."""
    with FakeServer("embeddings") as server:
        same = {"cache": tmp_path / "vectors.sqlite"}
        on(server, **same).transform(TEXTS)
        on(server, **same, encoding_format="base64", batch_size=1, rpm=600, normalize=False).transform(TEXTS)
        assert server.count() == 1
        on(server, **same).set_params(**options).transform(TEXTS)
        assert server.count() == 2


def test_threads_share_a_cache(tmp_path):
    """All of them get the same vectors, and none breaks the file."""
    texts = [f"text {i}" for i in range(40)]
    found = {}
    with FakeServer("embeddings") as server:
        embeddings = on(server, cache=tmp_path / "vectors.sqlite")

        def work(number):
            found[number] = embeddings.transform(texts[number:])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(4):
        assert np.array_equal(found[number], expected(texts[number:]))


def test_vectors_of_another_model_in_the_cache_are_not_mixed_in(tmp_path):
    """The name stands for another model now: one error, with the cure."""
    cache = tmp_path / "vectors.sqlite"
    with FakeServer("embeddings") as server:
        on(server, cache=cache).transform(TEXTS[:1])
        server.personality.name = "tiny-2"
        with pytest.raises(ModelError, match=r"by 'tiny' and 'tiny-2': those in the cache .* give cache= another path"):
            clone(on(server, cache=cache, max_retries=4)).transform(TEXTS)


def test_a_damaged_vector_is_asked_again(tmp_path):
    """Of any kind of damage: the checksum shows it, and what is no vector is none."""
    cache = VectorCache(tmp_path / "vectors.sqlite")
    vector = NamedVector(np.array([1.0, -2.5], dtype=np.float32), None)
    cache.put([("a", vector), ("b", NamedVector(vector.vector, "ü"))])
    assert cache.get(["a"])["a"].answered_by is None
    assert cache.get(["b"])["b"].answered_by == "ü"
    good = cache.pack(vector)
    for bad in (b"", b"\0", good[:-1], good[:4], b"\xff" * 12, "text", None, 5):
        assert cache.unpack(bad) is None
    with pytest.raises(InputError, match="NaN"):
        cache.put([("c", NamedVector(np.array([np.nan], dtype=np.float32), None))])
    import sqlite3

    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE embeddings SET value = ? WHERE key = 'a'", [good[:-4] + b"\0\0\0\0"])
    connection.close()
    assert list(cache.get(["a", "b"])) == ["b"]


def test_a_score_cache_may_be_the_same_file(tmp_path):
    """Each kind of answer has a table of its own, whichever came first."""
    from llmclf.backends import RowScores
    from llmclf.scoring import ScoreCache

    vector = NamedVector(np.array([1.0, -2.5], dtype=np.float32), "m")
    for first, second in ((VectorCache, ScoreCache), (ScoreCache, VectorCache)):
        path = tmp_path / f"{first.__name__}.sqlite"
        first(path), second(path)
        VectorCache(path).put([("k", vector)])
        ScoreCache(path).put([("k", RowScores(((-0.5,),)))])
        assert (VectorCache(path).info()["rows"], ScoreCache(path).info()["rows"]) == (1, 1)
        assert ScoreCache(path).clear() == 1
        assert VectorCache(path).get(["k"])["k"].answered_by == "m"


# Bad input, before anything is sent


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            pd.DataFrame({"review": TEXTS, "year": 3}),
            r"X is a table of 'review' and 'year', and texts are expected: give one column \(X\['review'\]",
        ),
        (pl.DataFrame({"review": TEXTS}), r"X is a table of 'review'"),
        (np.array(TEXTS).reshape(2, 2), r"X is a table of 'x0' and 'x1'.*X\[:, 0\] of an array"),
        ([{"review": "a"}], r"X is a table of 'review'"),
        ("a text", "X is the single text 'a text'"),
        ([], "X is empty"),
        (["a", None], r"a missing value \(row 1: None\); drop these rows or fill them in$"),
        (["a", float("nan")], "a missing value"),
        (["a", " "], r"a blank text \(row 1: ' '\)"),
        ([""], "a blank text"),
        (["a", 3], "row 1 of X is 3, an int; expected a str"),
        ([b"a"], "a bytes; expected a str"),
        (["a", "\ud83d"], "half of a surrogate pair"),
        (np.array([1.0, 2.0]), "row 0 of X is 1.0, a float; expected a str"),
        (5, "X is an int; expected texts"),
    ],
)
def test_what_is_not_a_text_is_refused(X, message):
    """With the row and the cure, before a server is needed."""
    for call in ("fit", "transform", "fit_transform", "estimate"):
        with pytest.raises(InputError, match=message):
            getattr(Embeddings("openai:tiny", base_url=URL), call)(X)


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"model": "gpt"}, ModelNameError, "'gpt' does not name a model of embeddings; expected 'openai:NAME', 'hf:"),
        ({"model": "systemone:x"}, ModelNameError, "does not name a model of embeddings"),
        ({"model": "openai:"}, ModelNameError, "expected 'openai:NAME'"),
        ({"model": "hf:./no-folder"}, ModelNameError, "names neither a folder that exists"),
        ({"model": None}, ModelNameError, "model=None"),
        ({"model": "hf:org/name"}, UnknownOptionError, "'hf:org/name' does not have the option 'base_url'"),
        ({"pooling": "mean"}, UnknownOptionError, "'openai:tiny' does not have the option 'pooling'"),
        (
            {"model": "smollm2", "base_url": None, "pooling": "max"},
            InputError,
            "pooling='max': expected 'mean', 'last'",
        ),
        ({"model": "smollm2", "base_url": None, "dimensions": 3}, UnknownOptionError, "'dimensions'"),
        ({"prefix": None}, InputError, "prefix=None is a NoneType; expected a text"),
        ({"normalize": "l2"}, InputError, "normalize='l2': expected True or False"),
        ({"cache": 3}, InputError, "cache=3 is an int; expected the path of a file"),
        ({"cache": "."}, StoreError, "is a folder, not a file"),
        ({"dimensions": 0}, InputError, "dimensions=0: expected a positive whole number"),
        ({"dimensions": 2.0}, InputError, "dimensions=2.0"),
        ({"batch_size": 0}, InputError, "batch_size=0: expected a whole number of at least 1"),
        ({"encoding_format": "int8"}, InputError, "encoding_format='int8': expected 'float', 'base64'"),
        ({"extra": {"input": 1}}, InputError, "extra has 'input', which the backend sets itself"),
        ({"extra": {"a": {1}}}, InputError, "extra=.*expected plain JSON values"),
        ({"rpm": 0}, InputError, "rpm=0"),
        ({"base_url": "localhost"}, InputError, "base_url='localhost': expected an address"),
        ({"base_url": "http://user:pass@host/v1"}, InputError, "belong into an environment variable"),
        ({"max_cost": 1.0}, InputError, "max_cost=1.0 needs price"),
        ({"api_key_env": "LLMCLF_NOT_SET"}, InputError, "LLMCLF_NOT_SET is not set"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(parameters, kind, message):
    """When it is used, not when it is given; and with what was expected."""
    embeddings = Embeddings(**{"model": "openai:tiny", "base_url": URL, **parameters})
    for call in ("fit", "transform", "fit_transform"):
        with pytest.raises(kind, match=message):
            getattr(embeddings, call)(TEXTS)


# scikit-learn


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_parameters_default_constructible,
    ],
)
def test_keeps_the_rules_of_scikit_learn(check):
    """Those of its own checks that are not about tables of numbers."""
    check("Embeddings", Embeddings("openai:tiny", base_url=URL))


def test_every_option_of_its_models_is_a_parameter():
    """Another server option is one here, too."""
    options = {field.name for kind in (ServerEmbedder, LocalEmbedder) for field in options_of(kind)}
    assert set(Embeddings("x").get_params()) == options | {"model", "prefix", "normalize", "cache"}


def test_a_description_opens_nothing(monkeypatch):
    """Estimates and descriptions need no package that sends requests."""

    def refuse(self):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(ServerEmbedder, "_connect", refuse)
    embeddings = Embeddings("openai:tiny", base_url=URL)
    embeddings.estimate(TEXTS)
    assert Embeddings.from_dict(embeddings.to_dict()).get_params() == embeddings.get_params()
    with pytest.raises(AssertionError, match="was opened"):
        embeddings.usage  # noqa: B018


def test_parameters_are_kept_as_they_were_given():
    """By get_params, clone, copies and pickles; nothing is checked or opened before it is used."""
    price = {"input": 1.0, "output": 0.0}
    embeddings = Embeddings("nonsense", price=price, prefix=None, batch_size="many")
    assert embeddings.price is price
    assert clone(embeddings).get_params() == embeddings.get_params()
    assert copy.deepcopy(embeddings).get_params() == pickle.loads(pickle.dumps(embeddings)).get_params()
    tags = get_tags(embeddings)
    assert (tags.input_tags.string, tags.input_tags.two_d_array, tags.requires_fit) == (True, False, False)


def test_what_fit_learns():
    """Length, identity and names; transform leaves the transformer as it was."""
    with FakeServer("embeddings") as server:
        embeddings = on(server)
        with pytest.raises(NotFittedError):
            embeddings.get_feature_names_out()
        before = dict(vars(embeddings))
        embeddings.transform(TEXTS)
        assert vars(embeddings) == before
        assert embeddings.fit(TEXTS) is embeddings
        assert embeddings.n_features_out_ == 8
        assert embeddings.identity_["answered_by"] == "tiny"
        assert list(embeddings.get_feature_names_out()) == [f"embeddings{i}" for i in range(8)]
        frame = embeddings.set_output(transform="pandas").transform(pd.Series(TEXTS, index=list("abcd")))
        assert (list(frame.index), frame.shape) == (list("abcd"), (4, 8))


def test_it_works_in_pipelines_searches_and_unions(tmp_path):
    """A search over what stands behind it asks about no text twice, thanks to the cache."""
    texts = [f"{word} number {i}" for i in range(12) for word in ("good", "bad")]
    y = ["good", "bad"] * 12
    with FakeServer("embeddings") as server:
        embeddings = on(server, cache=tmp_path / "vectors.sqlite")
        search = GridSearchCV(
            make_pipeline(embeddings, LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=3
        )
        assert search.fit(texts, y).predict(texts[:3]).shape == (3,)
        assert sorted(asked(server)) == sorted(texts)
        union = FeatureUnion([("words", TfidfVectorizer()), ("vectors", embeddings)]).fit(texts)
        assert union.transform(texts).shape[1] == len(union.get_feature_names_out())
        columns = ColumnTransformer([("text", embeddings, "review")]).fit(pd.DataFrame({"review": texts}))
        assert columns.transform(pd.DataFrame({"review": texts})).shape == (24, 8)


# Keys and descriptions


def test_a_key_is_nowhere(monkeypatch, tmp_path):
    """Not in what is shown, pickled, described, kept or raised, though the server repeats it."""
    monkeypatch.setenv(KEY, "canary-77")
    shown = []
    with FakeServer(
        "embeddings", [None, Status(401, {"error": {"message": "no: canary-77"}})], key="canary-77"
    ) as server:
        embeddings = on(server, api_key_env=KEY, cache=tmp_path / "vectors.sqlite").fit(TEXTS)
        with pytest.raises(ServerError, match="check the key in the environment variable") as caught:
            embeddings.transform(TEXTS)
        shown = [repr(embeddings), str(caught.value), str(embeddings.to_dict()), str(vars(embeddings))]
    contents = [pickle.dumps(embeddings), *(path.read_bytes() for path in tmp_path.iterdir())]
    assert "canary" not in "".join(shown)
    assert not any(b"canary" in content for content in contents)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_a_description_is_plain_json(is_fitted):
    """It gives the same transformer back, fitted or not, without the cache."""
    with FakeServer("embeddings") as server:
        options = {"prefix": "q: ", "normalize": False, "dimensions": 4, "price": {"input": 1.0, "output": 0.0}}
        embeddings = on(server, cache="nowhere", **options)
        if is_fitted:
            embeddings.set_params(cache=None).fit(TEXTS)
        described = json.loads(json.dumps(embeddings.to_dict(), allow_nan=False))
        again = Embeddings.from_dict(described)
        assert again.get_params() == {**embeddings.get_params(), "cache": None}
        assert again.to_dict() == described
        assert hasattr(again, "n_features_out_") == is_fitted
        assert np.array_equal(again.transform(TEXTS), embeddings.set_params(cache=None).transform(TEXTS))
        moved = Embeddings.from_dict(described, cache="c.sqlite", options={"base_url": URL, "rpm": 5})
        assert (moved.base_url, moved.rpm, moved.cache) == (URL, 5, "c.sqlite")


def test_a_description_alone_sends_nothing_anywhere(monkeypatch):
    """It may come from anybody; servers of this machine need no word for texts, and keys need one wherever they go."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv(KEY, "canary")
    address = "https://embeddings.example.com/v1"
    far = Embeddings("openai:e5", base_url=address).to_dict()
    named = Embeddings("openai:e5", base_url=address, api_key_env=KEY).to_dict()
    near = Embeddings("openai:e5", base_url=URL, api_key_env=KEY).to_dict()
    for described, sent in ((far, "texts"), (named, f"the key in {KEY}"), (near, f"the key in {KEY}")):
        with pytest.raises(
            SavedAddressError, match=rf"would send {sent} to {described['options']['base_url']}"
        ) as caught:
            Embeddings.from_dict(described)
        assert "Embeddings.from_dict(values, trust=True)" in str(caught.value)
        assert Embeddings.from_dict(described, trust=True).to_dict() == described
        assert Embeddings.from_dict(described, options=caught.value.words).base_url == described["options"]["base_url"]
    assert Embeddings.from_dict(near, options={"api_key_env": ""}).api_key_env == ""
    assert Embeddings.from_dict(far, options={"base_url": "https://other.example.com/v1"}).to_dict() != far
    assert Embeddings.from_dict(Embeddings("openai:e5", base_url=URL).to_dict()).base_url == URL
    Embeddings.from_dict(Embeddings("openai:e5").to_dict())


DESCRIBED = {
    "type": "embeddings",
    "model": "openai:e5",
    "options": {"base_url": URL},
    "prefix": "",
    "normalize": True,
    "n_features_out": None,
    "identity": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "tfidf"},
        {"options": None},
        {"options": [1]},
        {"options": {"base_url": URL, "colour": 1}},
        {"options": {"base_url": URL, "cache": "x"}},
        {"options": {"base_url": URL, "prefix": "x"}},
        {"options": {"base_url": 5}},
        {"model": None},
        {"model": "pickle:x"},
        {"prefix": 5},
        {"normalize": 1},
        {"n_features_out": 3},
        {"n_features_out": "3", "identity": {}},
        {"n_features_out": 0, "identity": {}},
        {"n_features_out": True, "identity": {}},
        {"n_features_out": None, "identity": {}},
    ],
    ids=repr,
)
def test_a_damaged_description_is_refused(change):
    """As an InputError, whatever is wrong with it."""
    assert Embeddings.from_dict(DESCRIBED).model == "openai:e5"
    with pytest.raises(InputError):
        Embeddings.from_dict({**DESCRIBED, **change})
    for name in DESCRIBED:
        with pytest.raises(InputError, match="not a description"):
            Embeddings.from_dict({key: value for key, value in DESCRIBED.items() if key != name})


@pytest.mark.slow
def test_the_name_is_cheap():
    """`import llmclf` gives the name without importing scikit-learn."""
    code = (
        "import llmclf, sys; assert 'Embeddings' in dir(llmclf); assert 'sklearn' not in sys.modules; llmclf.Embeddings"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
