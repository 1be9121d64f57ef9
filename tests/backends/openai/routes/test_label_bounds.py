"""Bounds on labels' probabilities where a server names only the likeliest tokens: the truth always lies between them."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from contract import TEXTS, requests_for, score
from faults import FakeServer, Mutate, backend_for, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf import Prompt
from llmclf.backends.http.replies import BadReplyError
from llmclf.backends.openai.probe import Probe
from llmclf.backends.openai.routes import chat, shown_tokens, top_logprobs
from llmclf.backends.openai.routes.base import RouteOptions, ServerFacts
from llmclf.backends.openai.routes.label_bounds import END, LabelBounds, Unclear, midpoint
from llmclf.backends.wires import token_replies as completions

CHAT = Prompt("Review: {{ text }}\nGood or bad?", instruction="Judge films.", chat=True)
EOS = "<|im_end|>"
# Twins of the same bytes, halves of "é", and the end of the answer.
VOCABULARY = [b"a", b"a", b"b", b"ab", b"ab", b"\xc3", b"\xc3", b"\xa9", "é".encode(), b"a\xc3", None]
WORDS = ["a", "b", "ab", "aé", "é", "ba", "aa", "éa", "abab"]


pytestmark = pytest.mark.usefixtures("no_waiting")


# --- the law ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bounds_law(data):
    """For any distribution over a small vocabulary and any k, the probability of any label lies in its interval."""
    n = data.draw(st.integers(2, 6))
    seed = data.draw(st.integers(0, 10_000))
    label = st.lists(st.integers(0, n - 1), min_size=1, max_size=3).map(tuple)
    labels = data.draw(st.lists(label, min_size=2, max_size=5, unique=True))
    k = data.draw(st.integers(1, n))
    cap = data.draw(st.integers(1, k))  # a server may name fewer than it is asked for

    @functools.cache
    def distribution(prefix):
        return np.random.default_rng([seed, *prefix]).dirichlet(np.full(n, 0.5)) + 1e-12

    bounds = LabelBounds(labels, is_tokens=True)
    prefix = ()
    widths = [float(len(labels))]
    for _ in range(data.draw(st.integers(1, 12))):
        if prefix is None:
            break
        p = distribution(prefix)
        top = np.argsort(-p)[:cap].tolist()
        drawn = data.draw(st.sampled_from([*top, int(np.argmin(p))]))
        listed = {f"token_id:{t}": float(np.log(p[t])) for t in [drawn, *top]}
        name = f"token_id:{drawn}"
        logprobs = {"tokens": [name], "token_logprobs": [listed[name]], "top_logprobs": [listed]}
        seen = shown_tokens.by_id(top_logprobs._read_ids(reply(logprobs)), k)
        bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear)
        found = bounds.intervals()
        for own, (low, high) in zip(labels, found, strict=True):
            truth = math.prod(float(distribution(own[:j])[own[j]]) for j in range(len(own)))
            assert low - 1e-9 <= truth <= high + 1e-9
        widths.append(sum(high - low for low, high in found))
        prefix = bounds.next_prefix(0.0)
    assert np.all(np.diff(widths) < 1e-4)  # every answer narrows them, but for the slack of rounding


def reply(logprobs, reason="length"):
    return {"choices": [{"index": 0, "text": "", "logprobs": logprobs, "finish_reason": reason}]}


def shown_text(token: int, form: str) -> str:
    raw = VOCABULARY[token]
    if raw is None:
        return EOS
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if form == "empty":
            return ""
        return "bytes:" + "".join(f"\\x{b:02x}" for b in raw) if form == "legacy" else raw.decode(errors="replace")


def shown_place(p, drawn: int, cap: int, form: str) -> dict:
    """A place of a chat-shaped answer; ``bytes`` as OpenAI has them or as vLLM has them, the drawn token first or apart."""
    top = np.argsort(-p)[:cap].tolist()
    listed = [drawn, *(t for t in top if t != drawn)][:cap] if form == "drawn first" else top

    def entry(token):
        text = shown_text(token, form)
        raw = VOCABULARY[token]
        known = {"bytes": list(raw)} if form == "bytes" and raw is not None else {"bytes": list(text.encode())}
        return {"token": text, "logprob": float(np.log(p[token])), **known}

    return {**entry(drawn), "top_logprobs": [entry(t) for t in listed]}


def shown_keyed(p, drawn: int, cap: int, form: str) -> dict:
    """The same in the older shape, where tokens that are written alike push one another out of the object."""
    top = np.argsort(-p)[:cap].tolist()
    listed = [drawn, *top] if form != "legacy" else top
    return {
        "tokens": [shown_text(drawn, form)],
        "token_logprobs": [float(np.log(p[drawn]))],
        "top_logprobs": [{shown_text(t, form): float(np.log(p[t])) for t in listed}],
    }


def spelled(remaining, distribution, state=(), *, by_path: bool) -> float:
    """The probability that tokens are drawn that spell a label, over all ways."""
    if not remaining:
        return 1.0
    p = distribution(state)
    total = 0.0
    for token, raw in enumerate(VOCABULARY):
        symbols = (END,) if raw is None else tuple(raw)
        if remaining[: len(symbols)] == symbols:
            after = (*state, token) if by_path else (*state, *symbols)
            total += float(p[token]) * spelled(remaining[len(symbols) :], distribution, after, by_path=by_path)
    return total


def exclusive(label, labels, distribution, *, by_path):
    """Probability that a label is written and then none of the longer labels that it begins."""
    longer = [other for other in labels if other != label and other[: len(label)] == label]
    nearest = [one for one in longer if not any(o != one and one[: len(o)] == o for o in longer)]

    def written(remaining, state, text):
        if not remaining:
            return 1.0 - sum(spelled(other[len(label) :], distribution, state, by_path=by_path) for other in nearest)
        p, total = distribution(state), 0.0
        for token, raw in enumerate(VOCABULARY):
            symbols = (END,) if raw is None else tuple(raw)
            if remaining[: len(symbols)] == symbols:
                after = (*state, token) if by_path else (*state, *symbols)
                total += float(p[token]) * written(remaining[len(symbols) :], after, (*text, *symbols))
        return total

    return written(label, (), ())


def drawn_labels(data):
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=4, unique=True))
    terminated = data.draw(st.booleans())
    return [tuple(word.encode()) + ((END,) if terminated else ()) for word in words], terminated


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bounds_law_of_texts(data):
    """Halves of characters, twins, ends, lost entries, capped lists: a text's probability over all its cuts lies inside."""
    labels, terminated = drawn_labels(data)
    seed = data.draw(st.integers(0, 10_000))
    k = data.draw(st.integers(1, len(VOCABULARY)))
    cap = data.draw(st.sampled_from([k, max(1, k - 3)]))
    form = data.draw(st.sampled_from(["replaced", "empty", "legacy", "bytes", "drawn first"]))
    is_keyed = data.draw(st.booleans())

    @functools.cache
    def distribution(text):
        draw = np.random.default_rng([seed, *(symbol + 1 for symbol in text)])
        return draw.dirichlet(np.full(len(VOCABULARY), draw.choice([0.3, 3.0, 100.0]))) + 1e-12

    excludes = data.draw(st.booleans())
    truths = [exclusive(label, labels if excludes else (), distribution, by_path=False) for label in labels]
    bounds = LabelBounds(labels, is_tokens=False, excludes_longer=excludes)
    prefix = ()
    for _ in range(8):
        if prefix is None:
            break
        p = distribution(prefix)
        drawn = data.draw(st.integers(0, len(VOCABULARY) - 1))
        logprobs = shown_keyed(p, drawn, cap, form) if is_keyed else {"content": [shown_place(p, drawn, cap, form)]}
        place = shown_tokens.read_first(reply(logprobs, "stop" if VOCABULARY[drawn] is None else "length"))
        seen = shown_tokens.by_bytes(place, k, terminated=terminated)
        bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear)
        for truth, (low, high) in zip(truths, bounds.intervals(), strict=True):
            assert low - 1e-9 <= truth <= high + 1e-9
        prefix = bounds.next_prefix(0.0, top_logprobs._is_text)
        assert prefix is None or bytes(prefix).decode() is not None


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bounds_law_of_chats(data):
    """A place of a chat tells of the tokens before it alone: what leads to the same text by other tokens stays open."""
    labels, terminated = drawn_labels(data)
    seed = data.draw(st.integers(0, 10_000))
    k = data.draw(st.integers(1, len(VOCABULARY)))
    form = data.draw(st.sampled_from(["replaced", "empty", "bytes", "drawn first"]))

    @functools.cache
    def distribution(path):
        draw = np.random.default_rng([seed, *path])
        return draw.dirichlet(np.full(len(VOCABULARY), draw.choice([0.3, 3.0]))) + 1e-12

    path, places = (), []
    for _ in range(4):
        p = distribution(path)
        drawn = data.draw(st.sampled_from([int(p.argmax()), 0, 1, len(VOCABULARY) - 1]))
        places.append(shown_place(p, drawn, k, form))
        path = (*path, drawn)
        if VOCABULARY[drawn] is None:
            break
    ended = VOCABULARY[path[-1]] is None
    positions = completions.chat_reader(reply({"content": places}, "stop" if ended else "length"))
    excludes = data.draw(st.booleans())
    bounds = LabelBounds(labels, is_tokens=False, excludes_longer=excludes)
    chat._follow(bounds, positions, k, terminated)
    for label, (low, high) in zip(labels, bounds.intervals(), strict=True):
        truth = exclusive(label, labels if excludes else (), distribution, by_path=True)
        assert low - 1e-9 <= truth <= high + 1e-9


# --- one at a time ---------------------------------------------------------------------------------------------------------


def test_tokens_of_the_same_text_add():
    """Two tokens that are written alike, and all ways to cut a label into tokens, add their probabilities."""
    word = tuple(b"yes")
    bounds = LabelBounds([word, tuple(b"no")], is_tokens=False)
    shown = [(word, 0.3), (word, 0.2), (tuple(b"y"), 0.1), (tuple(b"no"), 0.15)]
    bounds.add((), [(symbols, math.log(p)) for symbols, p in shown])
    (low, high), _ = bounds.intervals()
    assert low == pytest.approx(0.5)
    assert high >= 0.6
    assert bounds.next_prefix(0.0) == tuple(b"y")
    bounds.add(tuple(b"y"), [(tuple(b"es"), math.log(0.9)), (tuple(b"o"), math.log(0.05))])
    (low, high), _ = bounds.intervals()
    assert low == pytest.approx(0.5 + 0.1 * 0.9)


def test_a_label_that_another_begins_with():
    """What follows a label's own end, where another label goes on, is nothing that the first one lacks."""
    bounds = LabelBounds([(5,), (5, 7)], is_tokens=True)
    bounds.add((), [((5,), math.log(0.6)), ((6,), math.log(0.4))])
    (low, high), (_, longer) = bounds.intervals()
    assert low == pytest.approx(0.6)
    assert high == pytest.approx(0.6)
    assert longer == pytest.approx(0.6)


def place(entries, chosen=0, **fields):
    found = [completions.Entry(None, text, None if p is None else math.log(p)) for text, p in entries]
    return completions.Position(found[chosen], tuple(found), **fields)


def test_half_a_character_may_be_on_the_way():
    """A likely token that is shown as U+FFFD may begin a label with such a character, and no label without."""
    position = place([("\N{REPLACEMENT CHARACTER}".encode(), 0.7), (b"no", 0.2), (b"x", 0.09)])
    seen = shown_tokens.by_bytes(position, 3, terminated=False)
    bounds = LabelBounds([tuple("東".encode()), tuple(b"no")], is_tokens=False)
    bounds.add((), seen.shown, least=seen.least, unclear=seen.unclear)
    (low, high), (_, plain) = bounds.intervals()
    assert low == 0.0
    assert 0.7 <= high < 0.8
    assert plain < 0.22


def test_bytes_written_as_text_are_read():
    """OpenAI's older completions write a token that is no text as escaped bytes, with what is text in between."""
    assert completions._entry("bytes:\\xe5\\xa5", -1.0).text == b"\xe5\xa5"
    assert completions._entry("bytes: \\xe5a", -1.0).text == b" \xe5a"
    assert completions._entry("bytes: of data", -1.0).text == b"bytes: of data"


@pytest.mark.parametrize("text", [b"<|im_end|>", b"</s>", b"<|eot_id|>", b"<end_of_turn>", b""])
def test_what_may_be_the_end(text):
    """A text of a control token may be the end of the answer, and surely is where the answer ended with it."""
    labels = [(*b"1", END), (*b"10", END)]
    for end, least in ((None, 0.0), (text or None, 0.8 if text else 0.0)):
        bounds = LabelBounds(labels, is_tokens=False)
        bounds.add((), [((*b"1",), math.log(0.9))])
        seen = shown_tokens.by_bytes(place([(text, 0.8), (b"0", 0.1), (b"?", 0.001)], end=end), 3, terminated=True)
        bounds.add((*b"1",), seen.shown, least=seen.least, unclear=seen.unclear)
        (low, high), _ = bounds.intervals()
        assert low == pytest.approx(0.9 * least)
        assert high >= 0.9 * 0.8
    named = completions.Position(*[completions.Entry(7, b"", math.log(0.5))], ())
    assert shown_tokens.by_bytes(named, 1, terminated=True).shown == [((END,), math.log(0.5))]


def test_the_end_is_known_where_an_answer_ended():
    """The token that an answer stopped with is its end, at every place; one of ordinary letters is not."""
    for text, reason, end in (
        (EOS, "stop", EOS.encode()),
        (EOS, "length", None),
        ("b", "stop", None),
        ("", "stop", None),
    ):
        content = [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in ("a", text)]
        found = completions.chat_reader(reply({"content": content}, reason))
        assert [position.end for position in found] == [end, end]


def test_how_probable_a_hidden_token_may_be():
    """The least of the likeliest tokens counts: not the drawn one, and nothing where entries may have been lost."""
    entries = [(b"a", 0.5), (b"b", 0.3), (b"c", 0.001)]
    assert shown_tokens._max_hidden(place(entries), 3) == pytest.approx(0.001)
    assert shown_tokens._max_hidden(place(entries), 2) == pytest.approx(0.3)
    assert shown_tokens._max_hidden(place(entries, chosen=2), 3) == pytest.approx(0.3)
    assert shown_tokens._max_hidden(place(entries, chosen=2), 20) == pytest.approx(0.3)
    assert shown_tokens._max_hidden(place(entries, is_keyed=True), 3) == pytest.approx(0.001)
    assert shown_tokens._max_hidden(place(entries, is_keyed=True), 4) == 1.0
    assert shown_tokens._max_hidden(place(entries, chosen=2, is_keyed=True), 3) == 1.0
    alone = completions.Position(completions.Entry(None, b"a", math.log(0.5)), ())
    assert shown_tokens._max_hidden(alone, 20) == 1.0


def test_an_unnamed_token_may_be_anything():
    """A token without text where texts are needed leaves every label as much as it has."""
    position = place([(b"a", 0.4), (None, 0.35), (b"c", 0.001)])
    seen = shown_tokens.by_bytes(position, 3, terminated=False)
    bounds = LabelBounds([(*b"a",), (*b"z",)], is_tokens=False)
    bounds.add((), seen.shown, least=seen.least, unclear=seen.unclear)
    assert bounds.intervals()[1][1] >= 0.35


def test_a_byte_token_is_a_byte_or_a_text():
    """A token that is written "<0x41>" may be the letter A."""
    seen = shown_tokens.by_bytes(place([(b"<0x41>", 0.6)]), 1, terminated=False)
    assert seen.unclear == [Unclear(math.log(0.6), ((0x41,), (*b"<0x41>",)))]


def test_tiny_probabilities_have_a_logarithm():
    """A log-probability of -800 is no probability of zero whose logarithm would be taken."""
    bounds = LabelBounds([(1,), (2,)], is_tokens=True)
    bounds.add((), [((1,), -800.0), ((2,), -0.1)])
    row = shown_tokens.bounded_scores(bounds)
    assert row.lower[0] == -math.inf
    assert row.lower[0] <= row.sums[0] <= row.upper[0] < -700
    assert math.isfinite(midpoint(0.0, 0.0))


def test_questions_end_with_the_decision():
    """Once the best label stands and no branch is above the tolerance, nothing more is asked."""
    bounds = LabelBounds([(1,), (2, 3)], is_tokens=True)
    bounds.add((), [((1,), math.log(0.9)), ((2,), math.log(0.05))])
    assert bounds.is_decided()
    assert bounds.next_prefix(0.1) is None
    assert bounds.next_prefix(0.01) == (2,)
    assert bounds.next_prefix(0.01, lambda prefix: prefix != (2,)) is None
    split = LabelBounds([(*b"ab",), (*b"c",)], is_tokens=False)
    split.add((), [((*b"ab",), math.log(0.8)), ((*b"a",), math.log(0.05))])
    assert split.next_prefix(0.1) is None
    assert split.next_prefix(0.01) == (*b"a",)
    close = LabelBounds([(1,), (2, 3)], is_tokens=True)
    close.add((), [((1,), math.log(0.05)), ((2,), math.log(0.06))])
    assert close.next_prefix(1.0) == (2,)


# --- over a socket -----------------------------------------------------------------------------------------------------------


def text_truth(ids, label: str, *, terminated: bool = False) -> float:
    """Probability that the tiny model writes a text, added over all ways to cut it into tokens."""
    model = tiny_model()

    def rest(ids: tuple[int, ...], remaining: bytes) -> float:
        logprobs = model.logprobs(list(ids))
        if not remaining:
            return math.exp(logprobs[model.eos_id]) if terminated else 1.0
        return sum(
            math.exp(logprobs[token]) * rest((*ids, token), remaining[len(piece) :])
            for token, piece in enumerate(model.token_bytes)
            if token not in model.special_ids and remaining.startswith(piece)
        )

    return rest(tuple(ids), label.encode())


@pytest.mark.parametrize("personality", ["openai_chat", "vllm", "llama_server"])
@pytest.mark.parametrize("labels", [("1", "10"), ("é", "ée", "東京")])
def test_ends_in_a_chat_hold_the_truth(personality, labels):
    """Labels that begin with one another are told apart by the end of the answer, however the server shows it."""
    texts = [*TEXTS, *(f"Text {i}" for i in range(40))]
    requests = requests_for(texts, labels=labels, prompt=replace(CHAT, terminator="eos_if_nested"), shots=())
    assert requests[0].completions == labels
    with FakeServer(personality) as server:
        backend = backend_for(server, use_route="chat", concurrency=1)
        _ = backend.route
        before = len(server.requests)
        answers = score(backend, requests)
        asked = {json.dumps(r.body["messages"]): r.body["messages"] for r in server.requests[before:]}
        n_scored = 0
        for request, row in zip(requests, answers, strict=True):
            if row.error is not None:
                assert "the answer is empty" in row.error
                continue
            n_scored += 1
            assert row.terminated
            messages = [{"role": str(turn.role), "content": turn.text} for turn in request.prompt.turns]
            ids = server.model.encode(server.model.chat(asked[json.dumps(messages)]))
            for label, low, high in zip(labels, row.lower, row.upper, strict=True):
                assert math.exp(low) - 1e-6 <= text_truth(ids, label, terminated=True) <= math.exp(high) + 1e-6
        assert n_scored > 30


def test_a_branch_that_ends_within_a_character_stays_open():
    """However probable half a character is, no text can be sent that ends with it."""
    asked = []

    class Ask:
        probe = Probe("tiny", top_logprobs=2)
        server = ServerFacts(probe)

        async def complete(self, body, read, **_):
            asked.append(body["prompt"])
            names = {"bytes:\\xe6\\x9d": -0.2, "x": -3.0}
            return read(reply({"tokens": ["x"], "token_logprobs": [-3.0], "top_logprobs": [names]}))

    (request,) = requests_for(TEXTS[:1], labels=["東京", "杉"], prompt=Prompt("{{ text }}", delimiter=""), shots=())
    row = asyncio.run(top_logprobs.TopLogprobs(RouteOptions(10, 0.0)).score_text(Ask(), request))
    assert asked == [request.prompt.turns[0].text]
    assert min(row.upper) > -0.25


@pytest.mark.parametrize("read", [shown_tokens.read_first, top_logprobs._read_ids])
def test_an_answer_without_tokens_is_a_bad_reply(read):
    """An empty list of tokens, in either shape, says nothing that could be believed."""
    for empty in ({"content": []}, {"tokens": [], "token_logprobs": [], "top_logprobs": []}):
        with pytest.raises(BadReplyError):
            read(reply(empty))


@pytest.mark.parametrize("personality", ["sglang", "openai_legacy", "llama_cpp_python"])
def test_no_half_character_is_asked_about(personality):
    """A prefix that ends within a character is left open: no prompt has a character that nobody wrote."""
    labels = ["東京", "東方", "Größe", "Grüße"]
    requests = requests_for(TEXTS[:3], labels=labels, shots=())
    with FakeServer(personality) as server:
        backend = backend_for(server, use_route="top_logprobs", tolerance=0.0, top_calls=30)
        _ = backend.route
        before = len(server.requests)
        answers = score(backend, requests)
        prompts = [request.body["prompt"] for request in server.requests[before:]]
        assert all("\N{REPLACEMENT CHARACTER}" not in prompt for prompt in prompts)
        assert len(prompts) == len(set(prompts))
        for request, row in zip(requests, answers, strict=True):
            # The first token's law alone is that of the text: what follows depends on how a text is cut.
            assert all(low <= value <= high for low, value, high in zip(row.lower, row.sums, row.upper, strict=True))
            assert len(row.sums) == len(request.completions)


@pytest.mark.parametrize("what", ["no position", "no ids"])
def test_an_answer_that_tells_nothing_is_asked_again(what, tmp_path):
    """No token, or tokens without numbers, are a bad reply: another attempt, and then the row's error."""
    tokenizer = str(tiny_model().save_tokenizer(tmp_path))

    def change(reply):
        for choice in reply["choices"]:
            shown = choice["logprobs"]
            if what == "no position":
                shown.update(tokens=[], token_logprobs=[], top_logprobs=[])
            else:
                shown["top_logprobs"] = [dict.fromkeys(top, -9999.0) for top in shown["top_logprobs"]]
        return reply

    state = {"left": 0}

    def fault(_):
        state["left"] -= 1
        return Mutate(change) if state["left"] >= 0 else None

    with FakeServer("vllm", fault) as server:
        backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, max_retries=2, top_calls=20)
        _ = backend.route
        requests = requests_for(TEXTS[:1], shots=())
        state["left"] = 1
        (healed,) = score(backend, requests)
        assert healed.error is None
        assert backend.usage.retries == 1
        before = len(server.requests)
        state["left"] = 100
        (failed,) = score(backend, requests)
        assert "after 3 attempts" in failed.error
        assert len(server.requests) - before == 3


def test_every_answer_is_asked_for_once(tmp_path):
    """No prefix is asked about twice, whatever the server answers."""
    tokenizer = str(tiny_model().save_tokenizer(tmp_path))
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, tolerance=0.0, concurrency=1)
        _ = backend.route
        before = len(server.requests)
        score(backend, requests_for(TEXTS[:1], shots=()))
        prompts = [request.body["prompt"] for request in server.requests[before:] if "prompt" in request.body]
        assert all(one != two for one, two in pairwise(prompts))
