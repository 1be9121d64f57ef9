"""Documented replies of each protocol, read strictly: texts, why each ended, tokens, and what is no answer."""

from __future__ import annotations

import copy
import json

import pytest

from llmclf.backends.answers.generates import GeneratedText, GenerationRequest
from llmclf.backends.http.replies import BadReplyError, token_counts
from llmclf.backends.wires.registry import WIRES
from llmclf.errors import CapabilityError, ServerError
from llmclf.prompts.rendered import Span, Turn

TURNS = tuple(
    Turn(role, (Span(text, False),))
    for role, text in (("system", "Judge films."), ("user", "A bore."), ("assistant", "bad"), ("user", "I laughed."))
)
PLAIN = (Turn(None, (Span("I laughed. It is", False),)),)


def chat_token(text: str, value: float, *top: tuple[str, float]) -> dict:
    def item(text, value):
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    return {**item(text, value), "top_logprobs": [item(*one) for one in top]}


def gemini_token(text: str, value: float) -> dict:
    return {"token": text, "tokenId": 1000 + len(text), "logProbability": value}


TOKENS = [chat_token("go", -0.1, ("go", -0.1), ("b", -2.5)), chat_token("od", -0.2, ("od", -0.2), ("ne", -1.9))]
CHAT = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    "object": "chat.completion",
    "created": 1741570283,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "good", "refusal": None, "annotations": []},
            "logprobs": {"content": TOKENS, "refusal": None},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32},
}
RESPONSES = {
    "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "object": "response",
    "created_at": 1741476542,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-4.1-2025-04-14",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "good", "annotations": [], "logprobs": TOKENS}],
        },
    ],
    "usage": {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 2, "total_tokens": 32},
}
ANTHROPIC = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "thinking", "thinking": "Praise.", "signature": "Eq"}, {"type": "text", "text": "good"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 8,
        "output_tokens": 2,
    },
}
GEMINI = {
    "candidates": [
        {
            "content": {"parts": [{"text": "Praise.", "thought": True}, {"text": "good"}], "role": "model"},
            "finishReason": "STOP",
            "avgLogprobs": -0.15,
            "logprobsResult": {
                "topCandidates": [
                    {
                        "candidates": [
                            {"token": "go", "tokenId": 5, "logProbability": -0.1},
                            {"token": "b", "logProbability": -2.5},
                        ]
                    },
                    {"candidates": [{"token": "od", "logProbability": -0.2}, {"token": "ne", "logProbability": -1.9}]},
                ],
                "chosenCandidates": [gemini_token("go", -0.1), gemini_token("od", -0.2)],
            },
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 30,
        "cachedContentTokenCount": 8,
        "candidatesTokenCount": 1,
        "thoughtsTokenCount": 1,
        "totalTokenCount": 32,
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "Il0taoSYJ5Cez7IP",
}
OLLAMA = {
    "model": "llama3.2",
    "created_at": "2026-11-11T18:04:03.123456Z",
    "message": {"role": "assistant", "content": "good"},
    "logprobs": TOKENS,
    "done": True,
    "done_reason": "stop",
    "total_duration": 174560334,
    "prompt_eval_count": 30,
    "eval_count": 2,
}
REPLIES = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
READ = {
    "chat": (30, 0, 2),
    "responses": (30, 8, 2),
    "anthropic": (30, 8, 2),
    "gemini": (30, 8, 2),
    "ollama": (30, 0, 2),
}


def changed(reply: dict, path: str, value: object) -> dict:
    """A copy with another value at a dotted path; ``...`` takes it away."""
    copied = copy.deepcopy(reply)
    *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    inner = copied
    for part in way:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return copied


def test_every_protocol_is_read():
    """Each has a documented reply here."""
    assert set(REPLIES) == set(WIRES)


@pytest.mark.parametrize("name", REPLIES)
def test_documented_replies(name):
    """Text, end, counts and tokens; reasoning is no part of the answer."""
    wire, reply = WIRES[name], REPLIES[name]
    assert wire.texts(reply, 1) == [GeneratedText("good", "end")]
    assert token_counts(reply) == READ[name]
    if wire.shows_logprobs:
        first, second = wire.positions(reply)
        assert (first.chosen.text, first.chosen.logprob, len(first.top)) == (b"go", -0.1, 2)
        assert [entry.text for entry in second.top] == [b"od", b"ne"]
    else:
        with pytest.raises(CapabilityError, match="no log-probabilities"):
            wire.positions(reply)


STOPS = [
    ("chat", "choices.0.finish_reason", "length", "length"),
    ("chat", "choices.0.finish_reason", "content_filter", "refusal"),
    ("chat", "choices.0.finish_reason", "tool_calls", "other"),
    ("chat", "choices.0.finish_reason", None, "other"),
    ("responses", "status", "incomplete", "other"),
    ("anthropic", "stop_reason", "max_tokens", "length"),
    ("anthropic", "stop_reason", "stop_sequence", "end"),
    ("anthropic", "stop_reason", "refusal", "refusal"),
    ("anthropic", "stop_reason", "pause_turn", "other"),
    ("gemini", "candidates.0.finishReason", "MAX_TOKENS", "length"),
    ("gemini", "candidates.0.finishReason", "SAFETY", "refusal"),
    ("gemini", "candidates.0.finishReason", "MALFORMED_FUNCTION_CALL", "other"),
    ("ollama", "done_reason", "length", "length"),
    ("ollama", "done_reason", "load", "other"),
]


@pytest.mark.parametrize(("name", "path", "value", "stop"), STOPS)
def test_why_a_text_ended(name, path, value, stop):
    """A cut-off answer, a refusal and an end that nobody knows are told apart."""
    assert [one.stop for one in WIRES[name].texts(changed(REPLIES[name], path, value), 1)] == [stop]


def test_responses_that_are_cut_off():
    """The reason stands in details of its own."""
    reply = {**RESPONSES, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert WIRES["responses"].texts(reply, 1) == [GeneratedText("good", "length")]


REFUSED = [
    ("chat", changed(CHAT, "choices.0.message", {"role": "assistant", "content": None, "refusal": "I can't."})),
    ("responses", changed(RESPONSES, "output.1.content", [{"type": "refusal", "refusal": "I can't."}])),
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}),
    ("gemini", changed(changed(GEMINI, "candidates.0.finishReason", "SAFETY"), "candidates.0.content", {})),
]


@pytest.mark.parametrize(("name", "reply"), REFUSED)
def test_a_refusal_is_no_answer(name, reply):
    """It has its own end, and as a row of log-probabilities it is an error that is not asked about again."""
    (answer,) = WIRES[name].texts(reply, 1)
    assert answer.stop == "refusal"
    with pytest.raises(ServerError, match="refused to answer"):
        WIRES[name].positions(reply)


EMPTY = [
    ("chat", changed(CHAT, "choices.0.message.content", "")),
    ("chat", changed(CHAT, "choices.0.message.content", None)),
    ("responses", changed(RESPONSES, "output", [{"type": "reasoning", "id": "rs_1", "summary": []}])),
    ("anthropic", changed(ANTHROPIC, "content", [])),
    ("gemini", changed(GEMINI, "candidates.0.content", {"role": "model"})),
    ("ollama", changed(OLLAMA, "message.content", "")),
]


@pytest.mark.parametrize(("name", "reply"), EMPTY)
def test_an_empty_answer_is_empty(name, reply):
    """Nothing is made of it."""
    assert [one.text for one in WIRES[name].texts(reply, 1)] == [""]


BAD = [
    ("chat", "choices", []),
    ("chat", "choices", ...),
    ("chat", "choices.0.message.content", 7),
    ("chat", "choices.0.message", "good"),
    ("responses", "output", ...),
    ("responses", "output.1.content.0.text", None),
    ("anthropic", "content", "good"),
    ("anthropic", "stop_reason", ...),
    ("anthropic", "content.1.text", ...),
    ("gemini", "candidates", []),
    ("gemini", "candidates.0.finishReason", ...),
    ("gemini", "candidates.0.content.parts", "good"),
    ("ollama", "done", False),
    ("ollama", "message", ...),
    ("ollama", "message.content", None),
]


@pytest.mark.parametrize(("name", "path", "value"), BAD)
def test_what_is_no_reply(name, path, value):
    """Other shapes than the documented ones are refused."""
    with pytest.raises(BadReplyError):
        WIRES[name].texts(changed(REPLIES[name], path, value), 1)


BAD_TOKENS = [
    ("chat", "choices.0.logprobs", None),
    ("responses", "output.1.content.0.logprobs", []),
    ("responses", "output.1.content.0.logprobs.0.logprob", 0.5),
    ("responses", "output.1.content.0.logprobs.0.top_logprobs.1.logprob", -0.01),
    ("gemini", "candidates.0.logprobsResult", ...),
    ("gemini", "candidates.0.logprobsResult.topCandidates", []),
    ("gemini", "candidates.0.logprobsResult.chosenCandidates.0.token", ...),
    ("gemini", "candidates.0.logprobsResult.topCandidates.0.candidates.1.logProbability", -0.01),
    ("ollama", "logprobs", ...),
    ("ollama", "logprobs.0.top_logprobs.1.logprob", "-2"),
]


@pytest.mark.parametrize(("name", "path", "value"), BAD_TOKENS)
def test_what_are_no_log_probabilities(name, path, value):
    """Missing numbers, positive ones, and more probability than there is."""
    with pytest.raises(BadReplyError):
        WIRES[name].positions(changed(REPLIES[name], path, value))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("chat", "choices.0.message.content"),
        ("responses", "output.1.content.0.text"),
        ("gemini", "candidates.0.content.parts.1.text"),
        ("ollama", "message.content"),
    ],
)
def test_tokens_of_something_else_are_refused(name, path):
    """Log-probabilities of the model's reasoning are not those of its answer."""
    with pytest.raises(ServerError, match="other tokens than the answer's"):
        WIRES[name].positions(changed(REPLIES[name], path, "bad"))


def test_white_space_alone_may_stay_unwritten():
    """A chat's text may come without the white space at its ends; a token of more than that, of which nothing is written, is not
    the answer's. What continues a text has no thoughts: whatever its token is, it is the answer's.
    """
    blank, word = (chat_token(text, -0.1, (text, -0.1)) for text in ("\n\n", "go"))

    def cut(token, choice):
        return {
            **CHAT,
            "choices": [{"index": 0, "finish_reason": "length", "logprobs": {"content": [token]}, **choice}],
        }

    for token in (blank, word):
        (position,) = WIRES["chat"].positions(cut(token, {"text": ""}))
        assert position.chosen.text == token["token"].encode()
    said_nothing = {"message": {"role": "assistant", "content": ""}}
    assert len(WIRES["chat"].positions(cut(blank, said_nothing))) == 1
    with pytest.raises(ServerError, match="other tokens than the answer's"):
        WIRES["chat"].positions(cut(word, said_nothing))


def test_several_choices_in_any_order():
    """They are put in order; fewer than asked for are fewer, and more are no answer."""
    (choice,) = CHAT["choices"]
    three = [
        {**choice, "index": index, "message": {"role": "assistant", "content": text}}
        for index, text in ((2, "c"), (0, "a"), (1, "b"))
    ]
    texts = WIRES["chat"].texts({**CHAT, "choices": three}, 3)
    assert [one.text for one in texts] == ["a", "b", "c"]
    assert [one.text for one in WIRES["chat"].texts({**CHAT, "choices": three[:2]}, 3)] == ["a", "c"]
    for wrong, n in ((three, 2), ([three[0], three[0]], 3), ([{**choice, "index": None}] * 2, 2)):
        with pytest.raises(ServerError if len(wrong) > n else BadReplyError, match="choice"):
            WIRES["chat"].texts({**CHAT, "choices": wrong}, n)
    (candidate,) = GEMINI["candidates"]
    two = [{**candidate, "index": 1, "content": {"parts": [{"text": "b"}]}}, candidate]
    assert [one.text for one in WIRES["gemini"].texts({**GEMINI, "candidates": two}, 2)] == ["good", "b"]
    with pytest.raises(ServerError, match="candidates has 2 items"):
        WIRES["gemini"].texts({**GEMINI, "candidates": two}, 1)


@pytest.mark.parametrize("name", REPLIES)
def test_bodies(name):
    """A whole conversation, with every parameter that the protocol has, is JSON; roles are the protocol's own."""
    wire = WIRES[name]
    request = GenerationRequest(
        TURNS,
        9,
        n=3 if wire.takes_n else 1,
        temperature=0.5,
        seed=7 if wire.takes_seed else None,
        stop=("\n",),
        schema={"type": "object"},
        effort="low",
    )
    body = json.loads(json.dumps(wire.body("the-model", request)))
    text = json.dumps(body)
    assert all(turn.text in text for turn in TURNS)
    assert '"low"' in text
    assert "0.5" in text
    assert ('"system"' in text) == (name != "gemini")
    assert (body.get("model") == "the-model") == (name != "gemini")
    if name == "gemini":
        assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
        assert wire.path("the-model", is_chat=True) == "/models/the-model:generateContent"
        assert wire.path("a b/../c?x", is_chat=True) == "/models/a%20b%2F..%2Fc%3Fx:generateContent"
        assert wire.path("models/m", is_chat=True) == "/models/m:generateContent"
        assert wire.path("tunedModels/m", is_chat=True) == "/tunedModels/m:generateContent"
    if name == "anthropic":
        assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]


def test_plain_texts_need_a_protocol_that_continues():
    """Where chats alone are answered, a text is refused with the cure before anything is sent."""
    for wire in WIRES.values():
        request = GenerationRequest(PLAIN, 4)
        if wire.continues_text:
            assert PLAIN[0].text in json.dumps(wire.body("m", request))
        else:
            with pytest.raises(CapabilityError, match=r"Prompt\(\.\.\., chat=True\)"):
                wire.body("m", request)


def test_what_a_protocol_lacks_is_refused():
    """A grammar or a seed that cannot be said is never dropped in silence."""
    for name in ("responses", "gemini", "ollama", "anthropic"):
        with pytest.raises(CapabilityError, match="grammar"):
            WIRES[name].body("m", GenerationRequest(TURNS, 4, grammar='root ::= "a"'))
    with pytest.raises(CapabilityError, match="seed"):
        WIRES["anthropic"].body("m", GenerationRequest(TURNS, 4, seed=1))
    with pytest.raises(CapabilityError, match="log-probabilities"):
        WIRES["anthropic"].body("m", GenerationRequest(TURNS, 4), top_logprobs=5)


def test_nothing_is_stored_by_the_responses_api():
    """The server keeps no answer, and a limit below its least is raised."""
    body = WIRES["responses"].body("m", GenerationRequest(TURNS, 1), top_logprobs=20)
    assert body["store"] is False
    assert (body["max_output_tokens"], body["include"]) == (16, ["message.output_text.logprobs"])
