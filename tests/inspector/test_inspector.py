"""Explanations: every number is the classifier's own, on models, prompts and corrections of every kind."""

from __future__ import annotations

import io
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from llmclf import LLMClassifier, Prompt, load
from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import CalibrationWarning, InputError, ModelError
from llmclf.inspector import explain, explain_prompt
from llmclf.inspector.explanation import MAX_TREE_TOKENS
from llmclf.inspector.score_steps import path_of
from llmclf.inspector.terminal import print_explanation
from llmclf.logits import apply_chain, chain, log_softmax

TEXT = "A fine film."
PROMPT = "Review: {{ text }}\nSentiment:"
LABELS = {"good": ["positive", "fine film"], "bad": "negative", "odd": "not sure"}
X = [f"Text number {i}, quite short." for i in range(30)]


@pytest.fixture(scope="module")
def y(tiny_bpe):
    labels = LLMClassifier(tiny_bpe, labels=LABELS, prompt=PROMPT).fit(X).predict(X)
    labels[:6] = np.resize(["good", "bad", "odd"], 6)
    return labels


def terminal(values) -> str:
    console = Console(width=140, file=io.StringIO())
    print_explanation(values, console)
    return console.file.getvalue()


# --- numbers -----------------------------------------------------------------------------------------------------------

CLASSIFIERS = {
    "plain": {},
    "mean": {"scoring": "mean"},
    "bytes": {"scoring": "bytes"},
    "pmi": {"scoring": "pmi"},
    "bias": {"bias": "ucpa"},
    "calibrator": {"calibrator": "bias_temperature"},
    "all": {"bias": "batch", "calibrator": "temperature", "prior": "uniform", "n_shots": 2, "scoring": "pmi"},
    "isotonic": {"calibrator": "isotonic"},
    "knobs": {"guidance": 1.5, "logit_bias": {5: 2.0}, "temperature": 0.7, "calibrator": "vector"},
    "chat": {"prompt": Prompt("{{ text }}", chat=True)},
    "eos": {"prompt": Prompt(PROMPT, terminator="eos")},
}


@pytest.mark.parametrize("params", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_the_path_is_the_classifiers(tiny_bpe, y, params):
    """Changes add up to log p, factors multiply to p, and p is what predict_proba says, for every kind of correction."""
    clf = LLMClassifier(tiny_bpe, labels=LABELS, random_state=0, **{"prompt": PROMPT, **params})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels of a random model
        clf.fit(X, y)
        values = explain(clf, TEXT).to_dict()
        proba = clf.predict_proba([TEXT])[0]
    path = values["path"]
    assert path["classes"] == clf.classes_.tolist()
    assert path["probabilities"] == pytest.approx(proba.tolist(), rel=1e-12)
    for k, p in enumerate(proba):
        changes = [step["change"][k] for step in path["steps"]]
        assert math.fsum(changes) == pytest.approx(path["steps"][-1]["scores"][k], abs=1e-12)
        assert math.prod(step["factor"][k] for step in path["steps"]) == pytest.approx(p, rel=1e-9)
    assert path["steps"][0]["scores"] == clf.score_labels([TEXT])[0].tolist()
    assert values["prediction"] == clf.predict([TEXT])[0]
    assert values["label_mass"] == pytest.approx(clf.label_mass([TEXT])[0], rel=1e-12)
    # Each label's tokens are those of score_rows, and their places in the tree say the same.
    answer = clf.score_rows([TEXT])[0]
    assert [[t["logprob"] for t in line["tokens"]] for line in values["labels"]] == [
        list(t) for t in answer.token_logprobs
    ]
    for line in values["labels"]:
        nodes, total = values["tree"], 0.0
        for token in line["tokens"]:
            node = next(n for n in nodes if n["id"] == token["id"])
            total += node["logprob"]
            nodes = node["children"]
        assert {"class": line["class"], "word": line["word"]} in node["words"]
        assert node["sum"] == pytest.approx(line["sum"], abs=1e-9) == total
        assert line["mean"] == pytest.approx(line["sum"] / len(line["tokens"]))
        assert line["bytes"] == pytest.approx(line["sum"] / len(line["word"].encode()))
    assert all(values["labels"][0]["tokens"][-1].get("is_terminator", False) == values["terminated"] for _ in "x")
    terminal(values)
    json.dumps(values, allow_nan=False)


scores = st.lists(st.floats(-1e3, 0), min_size=3, max_size=3)


@given(scores, st.lists(scores, max_size=4))
@settings(max_examples=200, deadline=None)
def test_steps_add_up(raw, later):
    """Whatever the steps are, the changes of a class add up to the logarithm of its probability, and those sum to one."""
    path = path_of(np.array(raw), [(str(i), np.array(own)) for i, own in enumerate(later)], ["a", "b", "c"])
    assert sum(path["probabilities"]) == pytest.approx(1.0)
    for k in range(3):
        total = math.fsum(step["change"][k] for step in path["steps"])
        assert total == pytest.approx(path["steps"][-1]["scores"][k], abs=1e-9)
        assert math.exp(total) == pytest.approx(path["probabilities"][k], rel=1e-9, abs=1e-300)


SETTINGS = [
    {},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9},
    {"logit_bias": {"positive": 2.0, " film": -1.0, 7: 3.0}, "repetition_penalty": 1.2},
    {"temperature": 0.0},
    {"temperature": float("inf"), "min_p": 0.5},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5},
]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_the_distribution_is_the_models(smollm2, given):
    """Before and after the chain: each listed number is that of llmclf.logits on the model's logits, in the order of after."""
    clf = LLMClassifier(smollm2, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    found = explain(clf, TEXT, **given).to_dict()["distribution"]
    ids, logits = smollm2.next_logits(PROMPT.replace("{{ text }}", TEXT))
    offsets = {
        key if isinstance(key, int) else smollm2.token_of("x", f" {key.strip()}"): offset
        for key, offset in given.get("logit_bias", {}).items()
    }
    after = apply_chain(logits, chain(**{**given, "logit_bias": offsets or None}), ids)
    before, processed = log_softmax(logits), log_softmax(after)
    assert found["vocabulary"] == len(logits)
    assert found["kept"] == np.isfinite(processed).sum()
    for token in found["tokens"]:
        i = token["id"]
        assert token["logit"] == pytest.approx(logits[i], abs=1e-4)
        assert token["logprob"] == pytest.approx(before[i], abs=1e-4)
        assert token["rank"] == 1 + (before > before[i]).sum()
        assert token["kept"] == np.isfinite(processed[i])
        assert token["processed_probability"] == pytest.approx(np.exp(processed[i]), abs=1e-4)
        assert token["offset"] == offsets.get(i)
    listed = [token["id"] for token in found["tokens"]]
    shown = [token["processed_probability"] for token in found["tokens"]]
    assert shown[:30] == sorted(shown[:30], reverse=True)
    assert set(offsets) <= set(listed)
    labels = {word for token in found["tokens"] for word in token["labels"]}
    assert labels == {"positive", "negative"}


def test_the_classifiers_own_knobs_come_first(smollm2):
    """The distribution after the chain is the one that the labels were scored by."""
    knobs = {"guidance": 1.5, "logit_bias": {"positive": 2.0}, "temperature": 0.7}
    clf = LLMClassifier(smollm2, labels=["positive", "negative"], prompt=PROMPT, **knobs).fit([TEXT])
    values = explain(clf, TEXT).to_dict()
    by_word = {token["labels"][0]: token for token in values["distribution"]["tokens"] if token["labels"]}
    for line in values["labels"]:
        assert by_word[line["word"]]["processed_logprob"] == pytest.approx(line["sum"], abs=1e-4)
    assert [step["name"] for step in values["distribution"]["processors"]] == ["logit_bias", "temperature"]
    hotter = explain(clf, TEXT, temperature=3.0).to_dict()
    assert hotter["distribution"]["processors"][-1]["value"] == 3.0
    assert hotter["labels"] == values["labels"]


def test_offsets_for_one_token_add_up(smollm2):
    """By its text, by its id, and the classifier's own: all count."""
    clf = LLMClassifier(smollm2, labels=["positive", "negative"], prompt=PROMPT, logit_bias={" good": 1.0}).fit([TEXT])
    token = smollm2.token_of("x", " good")
    found = explain(clf, TEXT, logit_bias={" good": 2.0, token: 0.5}).to_dict()["distribution"]
    assert found["processors"] == [{"name": "logit_bias", "value": [[token, 3.5]]}]


class Unseen(FakeBackend):
    """A server that does not show the first label."""

    def score(self, requests):
        for place, answer in super().score(requests):
            rest = answer.token_logprobs[1:]
            yield place, RowScores(((-math.inf,), *rest), (-math.inf, *answer.lower[1:]), (-3.0, *answer.upper[1:]))


@pytest.mark.filterwarnings("ignore::llmclf.errors.LlmclfWarning")
def test_a_label_that_was_not_shown_is_explained():
    """The floor that corrections take it to lie at is a step, from which on the changes add up to log p."""
    clf = LLMClassifier(Unseen(), labels=["a", "b", "c"], calibrator="temperature")
    clf.fit(X, ["a", "b", "c"] * 10)
    explained = explain(clf, X[0])
    path = json.loads(explained.to_json())["path"]
    assert [step["name"] for step in path["steps"]] == ["raw", "floor", "calibrator", "normalise"]
    assert path["steps"][0]["change"][0] is None
    assert path["probabilities"] == pytest.approx(clf.predict_proba(X[:1])[0].tolist(), rel=1e-12)
    for k, p in enumerate(path["probabilities"]):
        changes = [step["change"][k] for step in path["steps"] if step["change"][k] is not None]
        assert math.exp(math.fsum(changes)) == pytest.approx(p, rel=1e-9)
    assert "-inf" in terminal(explained.to_dict())
    assert explained.to_html().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("n_words", "has_tree"), [(60, True), (110, False)])
def test_a_very_long_label_has_no_tree_and_says_so(tiny_bpe, n_words, has_tree):
    """What nesting cannot hold is left out with a word; all else is there, as JSON and as a page."""
    rows = [{"q": "one", "own": [("é " * n_words).strip(), "b"]}, {"q": "two", "own": ["c", "d"]}]
    prompt = Prompt("{{ q }}:", choices="own")
    explained = explain(LLMClassifier(tiny_bpe, labels=[0, 1], prompt=prompt).fit(rows), rows[0])
    values = json.loads(explained.to_json())
    assert (len(values["labels"][0]["tokens"]) <= MAX_TREE_TOKENS) == has_tree
    assert len(values["labels"][0]["tokens"]) > MAX_TREE_TOKENS / 2
    assert (values["tree"] is not None) == ("hidden" not in values) == has_tree
    assert (
        ("the tree is left out" in explained.to_html())
        == ("the tree is left out" in terminal(values))
        == (not has_tree)
    )


def test_what_has_ended_does_not_go_on(tiny_bpe):
    """An alternative that is the end of the answer is that alone."""
    end = next(iter(tiny_bpe.end_ids))
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT, logit_bias={end: 50.0}).fit([TEXT])
    first = explain(clf, TEXT).to_dict()["alternatives"][0]
    assert (first["id"], first["text"]) == (end, first["token"])


def test_alternatives_are_likelier_than_nothing_else(smollm2):
    """Five beginnings that are no label's, none of them less likely than any other token that is none."""
    clf = LLMClassifier(smollm2, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    values = explain(clf, TEXT).to_dict()
    _, logits = smollm2.next_logits(PROMPT.replace("{{ text }}", TEXT))
    firsts = {line["tokens"][0]["id"] for line in values["labels"]}
    expected = [i for i in np.argsort(-logits, kind="stable")[:20].tolist() if i not in firsts][:5]
    assert [own["id"] for own in values["alternatives"]] == expected
    assert all(own["text"].startswith(own["token"]) for own in values["alternatives"])
    said = smollm2.generate(PROMPT.replace("{{ text }}", TEXT), 16)
    assert values["answer"]["text"] == said.text
    assert [token["perplexity"] for token in values["answer"]["tokens"]] == pytest.approx(said.perplexities.tolist())


def test_a_bare_prompt_has_a_distribution_and_an_answer(smollm2):
    """Without labels there is no path, and the likeliest token is what the model says first."""
    values = explain_prompt(smollm2, "The capital of France is", temperature=0.5).to_dict()
    assert values["distribution"]["tokens"][0]["token"] == values["answer"]["tokens"][0]["token"]
    assert "path" not in values
    assert " Paris" in {token["token"] for token in values["distribution"]["tokens"]}
    assert "Next token" in terminal(values)


def test_a_server_shows_its_scores_and_says_what_it_hides():
    """Without whole distributions there are labels and path, and a sentence in place of the rest."""
    clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit([TEXT])
    explained = explain(clf, TEXT)
    values = explained.to_dict()
    assert values["distribution"] is values["tree"] is values["alternatives"] is None
    assert values["path"]["probabilities"] == pytest.approx(clf.predict_proba([TEXT])[0].tolist(), rel=1e-12)
    assert "FakeBackend does not show a whole distribution" in terminal(values)
    with pytest.raises(InputError, match="does not show a whole distribution"):
        explain(clf, TEXT, temperature=2.0)


def test_tables_and_choices(tiny_bpe):
    """A row of a table is a mapping; rows that bring their own labels show these."""
    frame = pd.DataFrame({"a": ["one", "two"], "b": ["three", "four"]})
    clf = LLMClassifier(tiny_bpe, labels=["x", "y"], prompt="{{ a }} and {{ b }}:").fit(frame)
    values = explain(clf, {"a": "one", "b": "three"}).to_dict()
    assert values["row"] == {"a": "one", "b": "three"}
    assert explain(clf, frame.iloc[0]).to_dict() == values
    assert values["path"]["probabilities"] == pytest.approx(clf.predict_proba(frame[:1])[0].tolist(), rel=1e-12)
    rows = [{"q": "one", "own": ["a b", "c"]}, {"q": "two", "own": ["d", "e f"]}]
    clf = LLMClassifier(tiny_bpe, labels=[0, 1], prompt=Prompt("{{ q }}\nAnswer:", choices="own")).fit(rows)
    assert [line["word"] for line in explain(clf, rows[1]).to_dict()["labels"]] == ["d", "e f"]


def test_a_text_that_fills_the_context_is_explained(tiny_bpe):
    """The distribution is that after the shortened prompt, and where nothing more can be read, nothing is said."""
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    with pytest.warns(UserWarning, match="were shortened"):
        values = explain(clf, "word " * 2000).to_dict()
    assert values["characters_cut"] > 0
    assert values["distribution"]["context_tokens"] <= 256


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"logit_bias": [1]}, "expected a dict"),
        ({"logit_bias": {" good": math.nan}}, "' good': nan"),
        ({"foo": 1}, "foo=1 is not a processor"),
        ({"logit_bias": {"": 1.0}}, "0 tokens"),
        ({"logit_bias": {"several words here": 1.0}}, "tokens to this model"),
        ({"logit_bias": {10**6: 1.0}}, "1000000"),
    ],
)
def test_bad_settings_are_refused(tiny_bpe, given, match):
    """Each error names the value."""
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    with pytest.raises(InputError, match=match):
        explain(clf, TEXT, **given)
    with pytest.raises(InputError, match=match):
        explain_prompt(tiny_bpe, "a", **given)
    with pytest.raises(InputError, match="prompt=5 is an int"):
        explain_prompt(tiny_bpe, 5)


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;title\x07", "[bold]x[/bold]", "a\u202eb", "</script><b>&\"'", "\x00"])
def test_hostile_texts_are_text_in_the_terminal(tiny_bpe, text):
    """Control sequences, markup, bidirectional marks and half surrogates are shown as what they are."""
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    shown = terminal(explain(clf, text).to_dict())
    assert not {"\x1b", "\x07", "\u202e", "\x00"} & set(shown)
    if text.startswith("["):
        assert text in shown


def test_half_a_surrogate_pair_is_refused(tiny_bpe):
    """What is no character is no text, and the error says where it stands."""
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    with pytest.raises(InputError, match="half of a surrogate pair"):
        explain(clf, "before \ud800 after")


# --- command line ------------------------------------------------------------------------------------------------------


def test_the_command_line_says_the_same(run, smollm2, tmp_path):
    """Terminal, JSON and page come from one explanation, for labels, for a saved classifier and for a bare prompt."""
    asked = [
        "inspect",
        TEXT,
        "--labels",
        "positive,negative",
        "--prompt",
        PROMPT.replace("\n", "\\n"),
        "--model",
        smollm2.name,
    ]
    knobs = [
        "--temperature",
        0.7,
        "--top-k",
        20,
        "--top-p",
        0.9,
        "--logit-bias",
        " positive=+2",
        "--repetition-penalty",
        1.2,
    ]
    shown = run(*asked, *knobs)
    assert shown.code == 0, shown.err
    assert "Why: from scores to probability" in shown.out
    values = json.loads(run(*asked, *knobs, "--json").out)
    clf = LLMClassifier(smollm2, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    expected = explain(
        clf, TEXT, temperature=0.7, top_k=20, top_p=0.9, logit_bias={" positive": 2.0}, repetition_penalty=1.2
    ).to_dict()
    assert values == expected
    page = run(*asked, *knobs, "--html", tmp_path / "why.html")
    assert page.code == 0, page.err
    assert (tmp_path / "why.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    clf.save(tmp_path / "saved")
    saved = json.loads(run("inspect", TEXT, "--classifier", tmp_path / "saved", "--json").out)
    assert saved["path"] == expected["path"]
    bare = json.loads(run("inspect", "x", "--model", smollm2.name, "--logit-bias", "id:7=1.5", "--json").out)
    assert bare["distribution"]["processors"] == [{"name": "logit_bias", "value": [[7, 1.5]]}]


@pytest.mark.filterwarnings("always:.*is now called")
def test_the_offsets_may_still_be_called_bias(run):
    """The flag of an earlier version is read, with one line that has the new name, and the help does not show it."""
    result = run("inspect", TEXT, "--bias", "a=1", "--logit-bias", "a=2")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("warning:") == 1
    assert "--bias TOKEN=OFFSET is now called --logit-bias TOKEN=OFFSET" in result.err
    assert "--logit-bias names 'a' twice" in result.err
    text = run("inspect", "--help").out
    assert "--logit-bias" in text
    assert "--bias" not in text


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--logit-bias", "positive"], "expected TOKEN=OFFSET"),
        (["--logit-bias", "=2"], "expected TOKEN=OFFSET"),
        (["--logit-bias", "a=b"], "expected TOKEN=OFFSET"),
        (["--logit-bias", "id:x=1"], "expected a token id"),
        (["--logit-bias", "a=1", "--logit-bias", "a=2"], "twice"),
        (["--top-p", "2"], "top_p"),
        (["--prompt", "{{ text }}"], "give --labels"),
        (["--chat"], "give --labels"),
        (["--scoring", "mean"], "give --labels"),
        (["--logit-bias", " good=nan"], "' good': nan"),
        (["--classifier", "nowhere"], "holds no saved classifier"),
        (["--model", "openai:x"], "use a local model"),
    ],
)
def test_bad_options_are_refused(run, arguments, match):
    """Each error names the option and the cure, before a model is loaded."""
    result = run("inspect", TEXT, *arguments)
    assert result.code in (1, 2)
    assert match in result.err.replace("\n", " ")


def test_a_table_row_is_json(run, tiny_bpe, tmp_path):
    """For a classifier of tables the text is an object of its columns, and anything else is refused."""
    frame = pd.DataFrame({"a": ["one", "two"], "b": ["three", "four"]})
    LLMClassifier(tiny_bpe, labels=["x", "y"], prompt="{{ a }} and {{ b }}:").fit(frame).save(tmp_path / "saved")
    good = run("inspect", '{"a": "one", "b": "three"}', "--classifier", tmp_path / "saved", "--json")
    assert json.loads(good.out)["row"] == {"a": "one", "b": "three"}
    for bad in ("one", "[1]"):
        assert "JSON object of its columns" in run("inspect", bad, "--classifier", tmp_path / "saved").err.replace(
            "\n", " "
        )


def test_explanations_have_a_notebook_form(tiny_bpe):
    """The page stands in a frame of its own, and the short form names the label."""
    clf = LLMClassifier(tiny_bpe, labels=["positive", "negative"], prompt=PROMPT).fit([TEXT])
    explained = explain(clf, TEXT)
    assert explained._repr_html_().startswith("<iframe")
    assert clf.predict([TEXT])[0] in repr(explained)


def test_another_model_than_the_calibrators_is_refused(tiny_bpe, y, model_folder, tmp_path):
    """What predict_proba refuses is not explained either; where it only warns, so does explain."""
    clf = LLMClassifier(tiny_bpe, labels=LABELS, prompt=PROMPT, calibrator="prior").fit(X, y)
    clf.save(tmp_path / "clf")
    other = {"model": f"hf:{model_folder('no_pad')}"}
    path = tmp_path / "clf" / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))
    with pytest.raises(ModelError, match="belong to another model"):
        explain(load(tmp_path / "clf"), TEXT)
    with pytest.warns(CalibrationWarning, match="belong to another model"):
        explain(load(tmp_path / "clf", check_model=False), TEXT)
