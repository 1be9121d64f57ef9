"""The inspector's page in a real browser: its sliders compute what Python computes, and it does nothing else."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from pages import HOSTILE, Watched
from playwright.sync_api import Page

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.inspector import Explanation, explain, explain_prompt
from llmclf.inspector.distribution import NextTokens
from llmclf.inspector.page import inspector_page
from llmclf.logits import Processor, apply_chain, chain, entropy, log_softmax

TEXT = "A fine film, but far too long."
PROMPT = "Review: {{ text }}\nSentiment:"
LABELS = {"positive": ["positive", "good"], "negative": "negative", "odd": "not sure"}
BOXES = {
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repetition_penalty": "repetition",
}


@pytest.fixture(scope="module")
def explained(smollm2) -> Explanation:
    clf = LLMClassifier(smollm2, labels=LABELS, prompt=PROMPT).fit([TEXT])
    return explain(clf, TEXT, temperature=0.7, top_k=20, top_p=0.9, logit_bias={" good": 2.0}, repetition_penalty=1.2)


@pytest.fixture(scope="module")
def opened(browser, explained, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "why.html"
    explained.to_html(path)
    watched = Watched(browser, path)
    yield watched
    watched.page.close()


def settled(page: Page) -> None:
    """Wait until what was set is shown."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def listed(page: Page) -> list[dict]:
    """The rows of the table in full precision."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#tokens tbody tr")].map((row) => ({id: Number(row.dataset.id),
            kept: row.dataset.kept === "true", probability: Number(row.dataset.probability),
            logprob: Number(row.dataset.logprob)}))"""
    )


def set_all(page: Page, settings: dict) -> None:
    """Everything off, then these values through the number boxes."""
    page.click("#off")
    for name, value in settings.items():
        if name == "logit_bias":
            for token, offset in value.items():
                page.fill(f"#bias-{token}-number", str(offset))
        else:
            page.fill(f"#{BOXES[name]}-number", str(value))
    settled(page)


def assert_as_in_python(page: Page, explained: Explanation, settings: dict) -> None:
    """Every listed row, which rows are listed, in which order, and the line above them."""
    found, rows = explained.next_tokens, listed(page)
    processed = apply_chain(found.logits, chain(**settings), found.context)
    before, after = log_softmax(found.logits), log_softmax(processed)
    for own in rows:
        expected = after[own["id"]]
        assert own["kept"] == np.isfinite(expected)
        assert own["probability"] == pytest.approx(math.exp(expected), abs=1e-9)
        if own["kept"]:
            assert own["logprob"] == pytest.approx(expected, abs=1e-6)
    rank = np.empty(len(before), dtype=int)
    rank[np.argsort(-before, kind="stable")] = np.arange(len(before))
    order = np.lexsort((rank, -after))[:30]
    np.testing.assert_allclose([own["probability"] for own in rows[:30]], np.exp(after[order]), atol=1e-9)
    assert set(found.named) <= {own["id"] for own in rows}
    facts = page.locator("#facts")
    assert int(facts.get_attribute("data-kept")) == np.isfinite(after).sum()
    assert float(facts.get_attribute("data-entropy")) == pytest.approx(float(entropy(processed)), abs=1e-6)


class TestSliders:
    def test_the_page_begins_as_given(self, opened, explained):
        """At first it shows what to_dict says, row for row."""
        opened.page.click("#reset")
        settled(opened.page)
        given = explained.to_dict()["distribution"]
        rows = listed(opened.page)
        assert [own["id"] for own in rows] == [own["id"] for own in given["tokens"]]
        for own, expected in zip(rows, given["tokens"], strict=True):
            assert own["kept"] == expected["kept"]
            assert own["probability"] == pytest.approx(expected["processed_probability"], abs=1e-9)
        offset = {own["token"]: own["id"] for own in given["tokens"]}[" good"]
        settings = {
            "logit_bias": {offset: 2.0}, "repetition_penalty": 1.2, "temperature": 0.7, "top_k": 20, "top_p": 0.9,
        }  # fmt: skip
        assert_as_in_python(opened.page, explained, settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"temperature": 0},
            {"temperature": 0.01},
            {"temperature": 1e-300},
            {"temperature": 5},
            {"top_k": 1},
            {"top_k": 49_152},
            {"top_p": 0.001},
            {"top_p": 0.999},
            {"top_p": 1},
            {"min_p": 0.5},
            {"min_p": 1},
            {"repetition_penalty": 1.7},
            {"repetition_penalty": 0.6},
            {"temperature": 2.5, "top_p": 0.5},
            {"temperature": 0.4, "top_k": 7, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.1},
        ],
        ids=str,
    )
    def test_it_computes_what_python_computes(self, opened, explained, settings):
        """Probabilities to 1e-9 and log-probabilities to 1e-6, for every knob, at its ends and together with others."""
        set_all(opened.page, settings)
        assert_as_in_python(opened.page, explained, settings)

    @pytest.mark.parametrize("seed", range(6))
    def test_any_settings(self, opened, explained, seed):
        """Drawn at random, biases on several tokens included."""
        random = np.random.default_rng(seed)
        tokens = opened.page.evaluate(
            """() => [...document.querySelectorAll("#biases input[type=range]")].map((own) => Number(own.id.slice(5)))"""
        )
        settings = {
            "logit_bias": {int(t): round(float(random.uniform(-10, 10)), 3) for t in random.choice(tokens, 4, False)},
            "repetition_penalty": round(float(random.uniform(0.5, 2)), 3),
            "temperature": round(float(random.uniform(0.05, 3)), 3),
            "top_k": int(random.integers(1, 2000)),
            "top_p": round(float(random.uniform(0.05, 1)), 3),
            "min_p": round(float(random.uniform(0.001, 0.2)), 4),
        }
        set_all(opened.page, settings)
        assert_as_in_python(opened.page, explained, settings)

    def test_sliders_and_boxes_move_together(self, opened, explained):
        """Whichever is moved, the other follows and the table shows it."""
        page = opened.page
        set_all(page, {})
        slide = "(own, value) => { own.value = value; own.dispatchEvent(new Event('input')); }"
        page.locator("#temperature").evaluate(slide, 2.5)
        settled(page)
        assert page.input_value("#temperature-number") == "2.5"
        assert_as_in_python(page, explained, {"temperature": 2.5})
        page.locator("#top-k").evaluate(slide, 500)
        settled(page)
        k = int(page.input_value("#top-k-number"))
        assert k == round(math.sqrt(49_152))
        assert_as_in_python(page, explained, {"temperature": 2.5, "top_k": k})
        page.fill("#top-k-number", "3")
        settled(page)
        assert int(page.input_value("#top-k")) == round(1000 * math.log(3) / math.log(49_152))

    def test_an_impossible_value_changes_nothing_and_is_marked(self, opened, explained):
        """The browser marks the box, and the table stays."""
        page = opened.page
        set_all(page, {"top_p": 0.5})
        for box, value in (("top-p", "2"), ("top-k", "0"), ("top-k", "1.5"), ("temperature", "-1"), ("top-p", "")):
            page.fill(f"#{box}-number", value)
            settled(page)
            assert not page.locator(f"#{box}-number").evaluate("(own) => own.checkValidity()")
            page.fill(f"#{box}-number", {"top-p": "0.5", "top-k": "49152", "temperature": "1"}[box])
        settled(page)
        assert_as_in_python(page, explained, {"top_p": 0.5})

    def test_another_token_can_be_biased(self, opened, explained):
        """A token from the list gets a slider of its own."""
        page = opened.page
        set_all(page, {})
        token = page.locator("#more option").nth(8).get_attribute("value")
        page.select_option("#more", token)
        page.fill(f"#bias-{token}-number", "3")
        settled(page)
        assert_as_in_python(page, explained, {"logit_bias": {int(token): 3.0}})

    def test_it_was_quiet_all_the_time(self, opened):
        """No message, no error, no request but for the file."""
        assert opened.quiet()


def test_ties_are_broken_as_in_python(browser, tmp_path, explained):
    """Equal logits: top-k keeps all at the border, top-p the lowest ids, temperature 0 the lowest."""
    logits = np.repeat([3.0, 2.0, 1.0, -np.inf], 25)[np.random.default_rng(0).permutation(100)]
    tied = NextTokens(logits, (), (5, 7, 7), {3: ["x"]}, lambda ids: [f"t{i}" for i in ids])
    values = {**explained.to_dict(), "distribution": {**explained.to_dict()["distribution"], "vocabulary": 100}}
    (tmp_path / "ties.html").write_text(inspector_page(values, tied), encoding="utf-8")
    watched = Watched(browser, tmp_path / "ties.html")
    for settings in ({"top_k": 30}, {"top_p": 0.31}, {"temperature": 0}, {"top_k": 3, "top_p": 0.5}, {"top_p": 0.9}):
        set_all(watched.page, settings)
        expected = np.isfinite(apply_chain(logits, chain(**settings), tied.context))
        assert int(watched.page.locator("#facts").get_attribute("data-kept")) == expected.sum()
        for own in listed(watched.page):
            assert own["kept"] == expected[own["id"]]
    assert watched.quiet()
    watched.page.close()


ODD = Processor("odd", "one in two", lambda logits, ids: np.where(np.arange(len(logits)) % 2, -np.inf, logits))


@pytest.mark.parametrize(
    ("steps", "n_before"),
    [
        (chain(logit_bias={5: -math.inf, 7: 50.0}), 0),
        (chain(presence_penalty=1.0, frequency_penalty=-0.5, top_p=0.9), 0),
        (chain(temperature=math.inf), 0),
        ((ODD, *chain(temperature=0.5)), 1),
        (chain(logit_bias={5: 2.0}, top_k=9) + chain(logit_bias={7: 3.0}, min_p=0.1), 2),
    ],
    ids=str,
)
def test_no_step_is_dropped(browser, tmp_path, steps, n_before):
    """Bans, penalties and steps of any name and order are in the page's numbers; what has no slider is named."""
    logits = np.random.default_rng(0).normal(size=500) * 3
    texts = {3: HOSTILE[0], 4: "\ud800", 5: "\u202e", 6: "]]>"}
    found = NextTokens(logits, steps, (1, 2, 2), {3: [HOSTILE[1]]}, lambda ids: [texts.get(i, f"t{i}") for i in ids])
    given = found.to_dict()
    json.dumps(given, allow_nan=False)
    values = {"model": {"backend": "local"}, "prompt": "x", "distribution": given, "answer": None}
    path = tmp_path / "steps.html"
    path.write_text(inspector_page(values, found), encoding="utf-8")
    watched = Watched(browser, path)
    rows = listed(watched.page)
    assert [own["id"] for own in rows] == [own["id"] for own in given["tokens"]]
    for own, expected in zip(rows, given["tokens"], strict=True):
        assert own["kept"] == expected["kept"]
        assert own["probability"] == pytest.approx(expected["processed_probability"], abs=1e-9)
    assert watched.page.locator("#fixed").count() == (n_before > 0)
    for step in steps[:n_before]:
        assert step.name in watched.page.locator("#fixed").inner_text()
    assert HOSTILE[0].replace(" ", "␣") in watched.page.locator("#tokens").inner_text()
    set_all(watched.page, {"temperature": 2.0})
    stay = [step for step in steps if step.name in ("presence_penalty", "frequency_penalty")]
    after = log_softmax(apply_chain(logits, (*steps[:n_before], *stay, *chain(temperature=2.0)), found.context))
    assert watched.page.locator("#unslid").count() == bool(stay)
    for own in listed(watched.page):
        assert own["probability"] == pytest.approx(math.exp(after[own["id"]]), abs=1e-9)
    assert watched.quiet()
    watched.page.close()


@pytest.mark.parametrize(("scheme", "is_light"), [("light", True), ("dark", False)])
def test_light_and_dark(browser, explained, tmp_path, scheme, is_light):
    """Text is far in brightness from what it stands on."""
    explained.to_html(tmp_path / "why.html")
    page = Watched(browser, tmp_path / "why.html", color_scheme=scheme).page

    def brightness(selector: str, name: str) -> float:
        colour = page.locator(selector).first.evaluate(f"(node) => getComputedStyle(node).{name}")
        return sum(map(float, re.findall(r"\d+", colour)[:3])) / 765

    paper = brightness("body", "backgroundColor")
    assert (paper > 0.5) is is_light
    for selector, name in (("h1", "color"), ("code.token", "color"), (".bar-after", "fill"), ("small", "color")):
        assert abs(brightness(selector, name) - paper) > 0.3
    assert abs(brightness(".label", "color") - brightness(".label", "backgroundColor")) > 0.3
    page.close()


def test_the_tree_holds_every_label(opened, explained):
    """Each word stands at the end of its tokens' path, with the sum of their log-probabilities."""
    found = opened.page.evaluate(
        """() => [...document.querySelectorAll("#tree .leaf")].map((leaf) => {
            const path = [];
            for (let own = leaf.closest("li"); own; own = own.parentElement.closest("li")) path.unshift(own);
            return [leaf.dataset.word, path.map((own) => Number(own.dataset.id)), path.map((own) => Number(own.dataset.logprob))];
        })"""
    )
    lines = {line["word"]: line for line in explained.to_dict()["labels"]}
    assert {word for word, *_ in found} == set(lines)
    for word, ids, logprobs in found:
        assert ids == [token["id"] for token in lines[word]["tokens"]]
        assert math.fsum(logprobs) == pytest.approx(lines[word]["sum"], abs=1e-9)
    assert opened.page.locator("#tree .leaf.predicted").count() >= 1


def test_the_path_adds_up_in_the_page(browser, smollm2, tmp_path):
    """Changes sum to log p, factors multiply to p, for each of the classes."""
    X = [f"Text number {i}, quite short." for i in range(40)]
    clf = LLMClassifier(smollm2, labels=LABELS, prompt=PROMPT)
    y = clf.fit(X).predict(X)
    y[:9] = np.resize(["positive", "negative", "odd"], 9)
    clf.set_params(bias="batch", calibrator="temperature", prior="uniform", scoring="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(X, y)
        explain(clf, TEXT).to_html(tmp_path / "path.html")
    watched = Watched(browser, tmp_path / "path.html")
    cells = watched.page.evaluate(
        """() => [...document.querySelectorAll("#path td[data-change]")].map((own) =>
            [own.dataset.class, Number(own.dataset.change), Number(own.dataset.factor)])"""
    )
    for k, p in enumerate(clf.predict_proba([TEXT])[0]):
        own = [cell for cell in cells if int(cell[0]) == k]
        assert len(own) == 6
        assert math.exp(math.fsum(change for _, change, _ in own)) == pytest.approx(p, rel=1e-9)
        assert math.prod(factor for *_, factor in own) == pytest.approx(p, rel=1e-9)
    assert watched.quiet()
    watched.page.close()


@pytest.mark.filterwarnings("ignore:the word .* looks like a description")
def test_hostile_texts_are_text(browser, tiny_bpe, tmp_path):
    """In prompt, labels, words and row: nothing runs, nothing is asked for, and all is shown as it is."""
    labels = {hostile: f"{hostile} {place}" for place, hostile in enumerate(HOSTILE)}
    clf = LLMClassifier(tiny_bpe, labels=labels, prompt="{{ text }} \u202e:").fit(["x"])
    explained = explain(clf, "".join(HOSTILE)[:150])
    explained.to_html(tmp_path / "hostile.html")
    watched = Watched(browser, tmp_path / "hostile.html")
    settled(watched.page)
    assert watched.quiet(), watched.events
    body = watched.page.locator("body").inner_text()
    assert HOSTILE[0] in body
    assert HOSTILE[2] in watched.page.locator("#words").inner_text()
    assert watched.page.evaluate("document.querySelectorAll('img, base, iframe, link').length") == 0
    assert watched.page.evaluate("document.querySelectorAll('script').length") == 3
    watched.page.close()


@pytest.mark.parametrize("kind", ["prompt", "server", "many classes"])
def test_every_kind_of_explanation_has_a_page(browser, tiny_bpe, tmp_path, kind):
    """A bare prompt has no labels, a server no distribution, and of many classes the likeliest are shown first."""
    if kind == "prompt":
        explained = explain_prompt(tiny_bpe, "The capital", temperature=math.inf)
    elif kind == "server":
        explained = explain(LLMClassifier(FakeBackend(), labels=["a", "b"]).fit([TEXT]), TEXT)
    else:
        labels = [f"{i + 10} label" for i in range(30)]
        explained = explain(LLMClassifier(tiny_bpe, labels=labels, prompt=PROMPT).fit([TEXT]), TEXT)
    explained.to_html(tmp_path / "page.html")
    watched = Watched(browser, tmp_path / "page.html", viewport={"width": 400, "height": 800})
    page = watched.page
    settled(page)
    assert watched.quiet(), watched.events
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#tokens").count() == (kind != "server")
    assert page.locator("#path").count() == (kind != "prompt")
    assert page.locator("#whole-path").count() == (kind == "many classes")
    if kind == "prompt":
        assert page.locator("#temperature-number").get_attribute("placeholder") == "inf"
        assert len({round(own["probability"], 12) for own in listed(page)}) == 1
    page.close()


def test_it_works_in_a_notebooks_frame(browser, explained, tmp_path):
    """Inside the sandboxed frame the sliders are there, too."""
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><title>x</title>{explained._repr_html_()}", encoding="utf-8")
    watched = Watched(browser, path)
    frame = watched.page.frame_locator("iframe")
    assert frame.locator("#knobs").is_visible()
    assert frame.locator("#tokens tbody tr svg").count() > 20
    watched.page.close()


def test_it_reads_without_scripts(browser, explained, tmp_path):
    """Where no script runs, the numbers of Python stand there."""
    path: Path = tmp_path / "why.html"
    explained.to_html(path)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert not page.locator("#knobs").is_visible()
    shown = page.locator("#tokens tbody tr").first.inner_text().split()
    first = explained.to_dict()["distribution"]["tokens"][0]
    assert f"{first['processed_probability']:.4f}" in shown
    context.close()
