"""Guidance, logit bias and temperature on label scores: token by token, before summation, against the definition."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from contract import assert_same, reference_for, requests_for, score

from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends import FakeBackend, Request
from llmclf.backends.logit_processing import Processing
from llmclf.errors import CalibrationWarning, InputError, PromptError
from llmclf.logits import log_softmax
from llmclf.tables.rows import read_rows

TEXTS = ["A fine film.", "Neither funny nor sad, and far too long.", "Größe, 東京 🙂"]
LABELS = ["positive", "negative"]  # one token each to SmolLM2
LONG = ["not spam", "not sure", "a person or a group"]
PROMPT = "Review: {{ text }}\nSentiment:"


def classifier(backend, labels=LABELS, **params) -> LLMClassifier:
    return LLMClassifier(backend, labels=labels, **{"prompt": PROMPT, **params}).fit(TEXTS)


def log_odds(clf) -> np.ndarray:
    scores = clf.decision_function(TEXTS)
    return scores if scores.ndim == 1 else scores[:, 1:] - scores[:, :1]


def processed_requests(**values) -> list[Request]:
    """The contract's requests under a processing; their unconditional prompt is the bare cue."""
    cue = Prompt("Sentiment:").renderer(["x"]).render({})
    processing = Processing(**values)
    if processing.guidance != 1:
        processing = Processing(**{**values, "unconditional": cue})
    return [Request(own.prompt, own.completions, own.terminator, processing) for own in requests_for()]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"logit_bias": ((5, 2.0), (7, -1.5))},
        {"guidance": 2.0},
        {"guidance": -0.5},
        {"guidance": 1.5, "logit_bias": ((11, 3.0),), "temperature": 0.8},
    ],
    ids=str,
)
def test_every_route_is_the_reference(tiny, model_folder, values):
    """The trie, and pairs where there is none, give what one plain pass per completion gives, in any company and batch."""
    requests = processed_requests(**values)
    expected = score(reference_for(tiny), requests)
    assert_same(score(tiny, requests), expected)
    for request, answer in zip(requests, expected, strict=True):
        assert_same(score(tiny, [request]), [answer])
    # In one batch with rows that are left as they are.
    plain = requests_for()
    mixed = score(tiny, [own for pair in zip(plain, requests, strict=True) for own in pair])
    assert_same(mixed[1::2], expected)
    assert_same(mixed[::2], score(reference_for(tiny), plain))
    pairs = open_backend(f"hf:{model_folder('no_attention')}")
    assert_same(score(pairs, requests[:3]), score(reference_for(pairs), requests[:3]))


def test_the_real_model_agrees_with_transformers(smollm2):
    """SmolLM2's scores are those of transformers' own processors, applied by hand at every token."""
    import torch
    from transformers import SequenceBiasLogitsProcessor, TemperatureLogitsWarper

    tokenizer, model = smollm2.tokenizer, smollm2.model
    clf = classifier(
        smollm2, LONG, guidance=1.7, logit_bias={" sure": 1.5}, temperature=0.6, unconditional_prompt="Sentiment:"
    )
    token = tokenizer(" sure")["input_ids"]
    assert len(token) == 1
    bias = SequenceBiasLogitsProcessor([[token, 1.5]])
    warp = TemperatureLogitsWarper(0.6)

    def logprobs(text: str) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return torch.log_softmax(model(ids).logits[:, -1].double(), dim=-1)

    for text, scores in zip(TEXTS, clf.score_labels(TEXTS), strict=True):
        for label, found in zip(clf.classes_, scores, strict=True):
            expected, said = 0.0, ""
            prompt = PROMPT.replace("{{ text }}", text)
            for own in tokenizer(f" {label}")["input_ids"]:
                c, u = logprobs(prompt + said), logprobs("Sentiment:" + said)
                ids = torch.tensor([[own]])
                expected += torch.log_softmax(warp(ids, bias(ids, u + 1.7 * (c - u))), dim=-1)[0, own].item()
                said += tokenizer.decode([own])
            assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("knobs", [{"temperature": 0.3}, {"logit_bias": {5: 4.0}}, {"guidance": 3.0}], ids=str)
def test_scores_stay_log_probabilities(tiny_bpe, knobs):
    """Over all tokens of the vocabulary the processed probabilities of what comes next sum to one."""
    clf = classifier(tiny_bpe, **knobs)
    view = tiny_bpe.view(clf.pipeline_.scorer.request({"text": TEXTS[0]}))
    logprobs = log_softmax(view.processed)
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=-1), 1.0, atol=1e-12)
    sums = [
        sum(logprobs[column, token] for column, token in zip(columns, target, strict=True))
        for columns, target in zip(view.trie.columns, view.trie.targets, strict=True)
    ]
    np.testing.assert_allclose(clf.score_labels(TEXTS[:1])[0], sums, atol=1e-4)


class TestGuidance:
    def test_at_one_and_at_zero_it_is_one_of_the_prompts(self, tiny):
        """With weight 1 the scores are those of the prompt, with weight 0 those of the prompt without the row."""
        plain = classifier(tiny, LONG)
        np.testing.assert_array_equal(
            classifier(tiny, LONG, guidance=1.0).score_labels(TEXTS), plain.score_labels(TEXTS)
        )
        without_row = plain.pipeline_.scorer.unconditional_request(LONG)
        expected = score(tiny, [without_row])[0].sums
        found = classifier(tiny, LONG, guidance=0.0).score_labels(TEXTS)
        np.testing.assert_allclose(found, np.tile(expected, (len(TEXTS), 1)), atol=1e-4)

    def test_labels_of_one_token_gain_their_pmi_with_each_unit(self, smollm2):
        """log-odds(gamma) = log-odds(0) + gamma * PMI log-odds, so that far out guidance and PMI name the same label."""
        pmi = log_odds(classifier(smollm2, scoring="pmi"))
        without_row = log_odds(classifier(smollm2, guidance=0.0))
        for gamma in (0.5, 1.0, 2.0, 4.0):
            found = log_odds(classifier(smollm2, guidance=gamma))
            np.testing.assert_allclose(found, without_row + gamma * pmi, atol=5e-4)
        far = classifier(smollm2, guidance=1e4).predict(TEXTS)
        assert far.tolist() == classifier(smollm2, scoring="pmi").predict(TEXTS).tolist()

    def test_it_is_pmi_where_the_prompt_without_the_row_has_no_preference(self, smollm2):
        """Where an offset has evened out the labels after the bare prompt, weight 1 gives the odds of PMI exactly."""
        without_row = float(log_odds(classifier(smollm2, guidance=0.0))[0])
        even = classifier(smollm2, guidance=1.0, logit_bias={"positive": -without_row})
        np.testing.assert_allclose(log_odds(even), log_odds(classifier(smollm2, scoring="pmi")), atol=5e-4)

    def test_labels_of_several_tokens_are_guided_at_each(self, tiny_bpe):
        """Every token's distribution is normalised by itself, so the sum is not the guided sum."""
        c, u = (classifier(tiny_bpe, LONG, guidance=gamma).score_labels(TEXTS) for gamma in (1.0, 0.0))
        guided = classifier(tiny_bpe, LONG, guidance=2.0).score_labels(TEXTS)
        whole = u + 2.0 * (c - u)
        assert np.abs((guided - guided[:, :1]) - (whole - whole[:, :1])).max() > 0.1

    def test_other_tokens_after_the_other_prompt_are_refused(self, smollm2):
        """Labels that are other tokens after the prompt without the row cannot be compared token by token."""
        prompt = Prompt(PROMPT, delimiter="")
        clf = classifier(smollm2, ["tive", "x"], prompt=prompt, guidance=2.0, unconditional_prompt="Sentiment: posi")
        with pytest.raises(PromptError, match=r"let both prompts end alike"):
            clf.predict(TEXTS)

    def test_choices_of_the_row_are_guided(self, tiny_bpe):
        """Rows that bring their own labels are compared with these after the prompt without the row."""
        rows = [{"q": "one", "own": ["a b", "c"]}, {"q": "two", "own": ["d", "e f"]}]
        prompt = Prompt("{{ q }}\nAnswer:", choices="own")
        c, u, g = (
            LLMClassifier(tiny_bpe, labels=[0, 1], prompt=prompt, guidance=gamma).fit(rows).score_labels(rows)
            for gamma in (1.0, 0.0, 1.5)
        )
        assert np.isfinite(g).all()
        assert not np.allclose(g, c)
        assert not np.allclose(g, u)

    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"guidance": 2.0, "scoring": "pmi"}, "use one of them"),
            ({"guidance": float("nan")}, "guidance=nan"),
            ({"guidance": "2"}, "guidance='2'"),
            ({"guidance": 2.0, "prompt": "{{ text }}"}, "give one with"),
            (
                {"unconditional_prompt": "A", "prompt": Prompt(PROMPT, unconditional="B")},
                "say the same thing",
            ),
        ],
    )
    def test_what_it_cannot_use_is_refused(self, tiny_bpe, params, match):
        """Each error names the value and the cure, before the model is asked."""
        with pytest.raises(InputError, match=match):
            classifier(tiny_bpe, **params)


class TestTemperature:
    def test_the_odds_of_labels_of_one_token_are_divided(self, smollm2):
        """At the root the normaliser is common to all labels, so T divides the log-odds exactly."""
        plain = log_odds(classifier(smollm2))
        for temperature in (0.25, 2.0, 8.0):
            np.testing.assert_allclose(
                log_odds(classifier(smollm2, temperature=temperature)), plain / temperature, atol=5e-4
            )

    def test_it_is_no_calibrator_for_labels_of_several_tokens(self, tiny_bpe):
        """Each token's distribution is flattened by itself: the sums are not the sums divided by T."""
        plain, hot = (classifier(tiny_bpe, LONG, temperature=t).score_labels(TEXTS) for t in (1.0, 2.0))
        assert np.abs((hot - hot[:, :1]) - (plain - plain[:, :1]) / 2).max() > 0.1

    @pytest.mark.parametrize("temperature", [0, 1e-310, -1.0, float("inf"), float("nan"), "1", None, True])
    def test_what_leaves_no_probability_is_refused(self, tiny_bpe, temperature):
        """Only positive, finite temperatures leave every label a finite score."""
        with pytest.raises(InputError, match=f"temperature={temperature!r}"):
            classifier(tiny_bpe, temperature=temperature)


class TestLogitBias:
    def test_a_label_of_one_token_gains_the_offset_in_its_odds(self, smollm2):
        """The softmax is taken after the offset, so odds rise by it exactly and the mass goes along."""
        plain, raised = classifier(smollm2), classifier(smollm2, logit_bias={"positive": 3.0})
        np.testing.assert_allclose(log_odds(raised), log_odds(plain) + 3.0, atol=1e-4)
        assert (raised.label_mass(TEXTS) > plain.label_mass(TEXTS)).all()

    def test_words_texts_and_ids_name_the_same_token(self, smollm2):
        """A label's word is meant as it follows the prompt; a text with its space, and the id, are the same."""
        token = smollm2.tokenizer(" positive")["input_ids"][0]
        by_word, by_text, by_id = (
            classifier(smollm2, logit_bias={key: 2.0}).score_labels(TEXTS) for key in ("positive", " positive", token)
        )
        np.testing.assert_array_equal(by_word, by_text)
        np.testing.assert_array_equal(by_word, by_id)

    def test_the_text_of_a_control_token_means_that_token(self, tiny_bpe):
        """As in a template, which is the author's text as well."""
        end = tiny_bpe.tokenizer.convert_tokens_to_ids("<|im_end|>")
        found = [classifier(tiny_bpe, logit_bias={key: 3.0}).score_labels(TEXTS) for key in ("<|im_end|>", end)]
        np.testing.assert_array_equal(*found)

    def test_other_words_take_their_share(self, smollm2):
        """An offset on a word that is no label lowers all labels alike at their first token."""
        plain = classifier(smollm2).score_labels(TEXTS)
        change = classifier(smollm2, logit_bias={" The": 5.0}).score_labels(TEXTS) - plain
        assert (change < 0).all()
        np.testing.assert_allclose(change[:, 0], change[:, 1], atol=1e-4)

    @pytest.mark.parametrize(
        ("logit_bias", "match"),
        [
            ({"a person or a group": 1.0}, r"is \d+ tokens to this model \(.*raise the whole class with prior="),
            ({10**6: 1.0}, "1000000"),
            ({-1: 1.0}, "-1"),
            ({"positive": float("inf")}, "expected a finite offset"),
            ({"positive": "2"}, "'2'"),
            ({True: 1.0}, "names True"),
            ({"": 1.0}, "names ''"),
            ([("positive", 1.0)], "expected a dict"),
        ],
    )
    def test_what_is_no_token_is_refused(self, tiny_bpe, logit_bias, match):
        """Each error names the word, what it is to the model, and the cure."""
        with pytest.raises(InputError, match=match):
            classifier(tiny_bpe, LONG, logit_bias=logit_bias).predict(TEXTS)


def test_backends_that_see_no_distribution_refuse_before_they_are_asked():
    """No knob is silently left out, neither through the classifier nor through a request."""
    for knobs in ({"guidance": 2.0}, {"temperature": 2.0}, {"logit_bias": {"positive": 1.0}}):
        with pytest.raises(InputError, match="use a local model"):
            classifier(FakeBackend(), **knobs)
    requests = processed_requests(temperature=2.0)
    with pytest.raises(InputError, match="use a local model"):
        list(FakeBackend().score(requests))


X = [f"Text number {i}, quite short." for i in range(30)]


@pytest.fixture(scope="module")
def y(tiny_bpe):
    """Labels of X that the scores say something about: the model's own, some of them turned round."""
    labels = classifier(tiny_bpe).predict(X)
    labels[::5] = np.where(labels[::5] == "positive", "negative", "positive")
    return labels


# The tiny model is random, and a fit says so.
@pytest.mark.filterwarnings("ignore:these scores say nothing")
class TestRefit:
    @pytest.fixture
    def fitted(self, tiny_bpe, y):
        return LLMClassifier(tiny_bpe, prompt=PROMPT, calibrator="bias_temperature", temperature=2.0).fit(X, y)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("temperature", 1.0), ("guidance", 2.0), ("logit_bias", {5: 1.0}), ("scoring", "mean")],
    )
    def test_a_changed_knob_acts_and_warns_until_the_next_fit(self, fitted, y, name, value):
        """What a calibrator was not fitted on is said; after another fit all is well."""
        before = fitted.predict_proba(X)
        fitted.set_params(**{name: value})
        with pytest.warns(CalibrationWarning, match=f"{name}=.* fit again"):
            after = fitted.predict_proba(X)
        assert not np.allclose(before, after)
        fitted.fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted.predict_proba(X)

    def test_every_method_follows_at_once(self, tiny_bpe, tmp_path):
        """The first call after a change already has the new knobs, and so has what is saved."""
        knobs = {"temperature": 3.0, "guidance": 2.0, "unconditional_prompt": "Mood:"}
        for name in ("label_mass", "score_labels", "predict_proba"):
            fresh = getattr(classifier(tiny_bpe, **knobs), name)(TEXTS)
            np.testing.assert_allclose(getattr(classifier(tiny_bpe).set_params(**knobs), name)(TEXTS), fresh, atol=1e-9)
        expected = classifier(tiny_bpe, **knobs)
        assert classifier(tiny_bpe).set_params(**knobs).score_rows(TEXTS) == expected.score_rows(TEXTS)
        classifier(tiny_bpe).set_params(**knobs).save(tmp_path / "saved")
        again = load(tmp_path / "saved")
        np.testing.assert_allclose(again.predict_proba(TEXTS), expected.predict_proba(TEXTS), atol=1e-9)

    def test_the_order_of_offsets_means_nothing(self, fitted, y):
        """The same offsets in another order are the same scores, without a warning."""
        fitted.set_params(logit_bias={5: 1.0, 7: 2.0}).fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted.set_params(logit_bias={7: 2.0, 5: 1.0}).predict_proba(TEXTS)

    def test_a_threshold_belongs_to_its_scores(self, tiny_bpe):
        """Also without a calibrator a changed knob is said, once a threshold was chosen."""
        clf = classifier(tiny_bpe)
        clf.fit_threshold(X * 4, clf.predict(X * 4), max_error=0.3)
        with pytest.warns(CalibrationWarning, match="threshold belong to scores with temperature=1"):
            clf.set_params(temperature=3.0).predict_proba(TEXTS)

    def test_without_corrections_there_is_nothing_to_warn_of(self, tiny_bpe):
        """A classifier that fitted nothing may change its knobs."""
        clf = classifier(tiny_bpe)
        before = clf.predict_proba(TEXTS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            after = clf.set_params(temperature=3.0).predict_proba(TEXTS)
        assert not np.allclose(before, after)

    def test_knobs_are_saved(self, tiny_bpe, y, tmp_path):
        """A loaded classifier scores as it did, without a warning, and warns as it did."""
        clf = LLMClassifier(
            tiny_bpe,
            prompt=PROMPT,
            calibrator="bias_temperature",
            guidance=1.5,
            unconditional_prompt="Mood:",
            logit_bias={5: 1.0},
            temperature=0.5,
        ).fit(X, y)
        clf.save(tmp_path / "saved")
        again = load(tmp_path / "saved")
        assert (again.guidance, again.temperature, again.logit_bias) == (1.5, 0.5, {5: 1.0})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
        again.set_params(guidance=1.0)
        with pytest.warns(CalibrationWarning, match=r"guidance=1\.5.*guidance=1\.0"):
            again.predict_proba(TEXTS)

    def test_the_report_says_which(self, fitted, y):
        """Whoever reads a report sees the knobs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = fitted.report(X, y)
        assert report.to_dict()["provenance"]["processing"]["temperature"] == 2.0


def test_each_knob_has_its_own_answers_in_the_cache(tiny_bpe, tmp_path):
    """No score of one knob is taken for another's, and none is asked twice."""
    cache = tmp_path / "scores.sqlite"
    knobs = [
        {},
        {"temperature": 2.0},
        {"guidance": 2.0},
        {"guidance": 2.0, "unconditional_prompt": "Mood:"},
        {"logit_bias": {5: 1.0}},
    ]
    first = [classifier(tiny_bpe, cache=cache, **own).score_labels(TEXTS) for own in knobs]
    again = [classifier(tiny_bpe, cache=cache, **own).score_labels(TEXTS) for own in knobs]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in itertools.combinations(first, 2):
        assert not np.allclose(one, other)


def test_a_journal_belongs_to_its_knobs(tiny_bpe):
    """A job's fingerprint names what is done to the logits, and nothing where nothing is done."""
    plain = classifier(tiny_bpe).pipeline_.fingerprint()
    hot = classifier(tiny_bpe, temperature=2.0).pipeline_.fingerprint()
    assert "temperature" not in plain
    assert {name for name in hot if hot[name] != plain.get(name)} == {"temperature", "guidance", "logit_bias"}


def test_the_generative_bias_asks_about_what_the_model_wrote(tiny_bpe, monkeypatch):
    """The bias is minus the log of the mean label probability over texts that the model generated, seeded."""
    from llmclf.fitting import content_free

    monkeypatch.setattr(content_free, "N_GENERATED_ROWS", 12)
    monkeypatch.setattr(content_free, "_SIDE_BY_SIDE", 6)
    monkeypatch.setattr(content_free, "MAX_GENERATED_TOKENS", 8)
    fitted = [classifier(tiny_bpe, bias="generative", random_state=seed) for seed in (0, 0, 1)]
    biases = [clf.bias_.bias_ for clf in fitted]
    np.testing.assert_array_equal(biases[0], biases[1])
    assert not np.allclose(biases[0], biases[2])
    plain = classifier(tiny_bpe)
    rows = content_free.generated_rows(
        tiny_bpe, plain.pipeline_.scorer.renderer, read_rows(TEXTS), np.random.RandomState(0)
    )
    assert all("Sentiment:" not in row["text"] and row["text"].strip() for row in rows.records)
    mean = np.log(np.exp(log_softmax(plain.pipeline_.scorer.class_scores(rows, "sum"))).mean(axis=0))
    np.testing.assert_allclose(biases[0], mean.mean() - mean, atol=1e-9)


def test_the_generative_bias_needs_a_model_that_writes_and_one_field(tiny_bpe):
    """A server, a chat and a prompt of several fields are refused with the cure."""
    with pytest.raises(InputError, match="use a local model or 'domain'"):
        classifier(FakeBackend(), bias="generative")
    with pytest.raises(PromptError, match="shows exactly one field, once"):
        classifier(tiny_bpe, bias="generative", prompt=Prompt("{{ text }} {{ text }}:"))
    with pytest.raises(PromptError, match="shows exactly one field, once"):
        classifier(tiny_bpe, bias="generative", prompt=Prompt(PROMPT, chat=True))
