"""llama.cpp's server, which speaks several of the protocols: chats, Responses and Anthropic's Messages."""

from __future__ import annotations

import json

import pytest
import servers
from writing import written

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.downloads import SMOLLM2
from llmclf.errors import ServerError


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    with servers.llama_server(SMOLLM2.locate(), tmp_path_factory.mktemp("llama")) as url:
        yield url


def test_it_opens_by_its_name(llama):
    """By the table's entry the exact route is found, as with `openai:` and the address."""
    backend = open_backend("llamacpp:smol", base_url=llama)
    assert backend.route == "grammar"
    assert backend.identity()["backend"] == "llamacpp"


@pytest.mark.parametrize(
    ("name", "options"),
    [("llamacpp:smol", {}), ("openai:smol", {"wire": "responses"}), ("anthropic:smol", {})],
)
def test_it_writes_in_three_protocols(llama, name, options):
    """An answer comes back as text; one that is cut off says so."""
    backend = open_backend(name, base_url=llama, **options)
    (answer,) = written(backend, max_tokens=40, temperature=0.0)
    assert answer.text.strip()
    (short,) = written(backend, max_tokens=1, temperature=0.0, text="Count from one to ten thousand, in words.")
    assert short.stop == "length" or len(short.text.split()) > 3  # the Responses API has a least limit


def test_a_grammar_and_a_schema_bind_its_answers(llama):
    """Both are followed strictly; the same seed draws the same."""
    backend = open_backend("llamacpp:smol", base_url=llama)
    grammar = 'root ::= "good" | "bad"'
    (answer,) = written(backend, max_tokens=8, grammar=grammar)
    assert answer.text in ("good", "bad")
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": ["A", "B"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    (answer,) = written(backend, max_tokens=40, schema=schema)
    assert json.loads(answer.text)["label"] in ("A", "B")
    drawn = [written(backend, max_tokens=12, seed=7)[0].text for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_a_plain_text_is_continued(llama):
    """A prompt that is no chat goes to completions."""
    (answer,) = written(open_backend("llamacpp:smol", base_url=llama), max_tokens=4, temperature=0.0, role=None)
    assert answer.text


def test_its_refusal_is_shown(llama):
    """A request that cannot be answered fails with the server's own words."""
    backend = open_backend("llamacpp:smol", base_url=llama)
    with pytest.raises(ServerError, match=r"answered 400|grammar"):
        written(backend, grammar="this is no grammar", max_tokens=4)


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimatedScoresWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [("llamacpp:smol", {}), ("openai:smol", {"wire": "responses"}), ("anthropic:smol", {})],
)
def test_what_it_takes_is_found_out(llama, name, options):
    """The probe sees a schema and a seed where they work, and rows get shares of drawn answers."""
    backend = open_backend(name, base_url=llama, use_route="sampled", n_samples=3, max_samples=3, **options)
    facts = backend.probe.answers
    assert facts.wire == ("chat" if not options and name.startswith("llama") else options.get("wire", "anthropic"))
    assert facts.seeds == (facts.wire == "chat")
    clf = LLMClassifier(
        backend,
        labels=["good", "bad"],
        prompt=Prompt("Review: {{ text }}", instruction="Answer good or bad.", chat=True),
        on_error="missing",
    ).fit(["A fine film."])
    proba = clf.predict_proba(["A fine film.", "A bore."])
    assert proba.shape == (2, 2)
