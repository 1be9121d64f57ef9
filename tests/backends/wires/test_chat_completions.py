"""Replies of chats are read as texts, in the order of their numbers, or refused."""

from __future__ import annotations

import pytest

from llmclf.backends.answers.generates import GeneratedText, GenerationRequest
from llmclf.backends.http.replies import BadReplyError
from llmclf.backends.wires.answer_facts import AnswerFacts
from llmclf.backends.wires.chat_completions import ChatCompletions
from llmclf.errors import ServerError
from llmclf.prompts.rendered import Span, Turn

WIRE = ChatCompletions()


def choice(index=0, content="yes", reason="stop", **message):
    return {"index": index, "finish_reason": reason, "message": {"role": "assistant", "content": content, **message}}


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        ([choice(1, "b"), choice(0, "a")], [GeneratedText("a"), GeneratedText("b")]),
        ([choice(0, "a")], [GeneratedText("a")]),
        ([choice(content=None)], [GeneratedText("")]),
        ([choice(content=[{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}])], [GeneratedText("yes")]),
        ([choice(reason="length")], [GeneratedText("yes", "length")]),
        ([choice(reason="content_filter")], [GeneratedText("yes", "refusal")]),
        ([choice(reason="tool_calls")], [GeneratedText("yes", "other")]),
        ([choice(reason=None)], [GeneratedText("yes", "other")]),
        ([choice(content=None, refusal="No.")], [GeneratedText("No.", "refusal")]),
        ([choice(content="<think>no</think>\n yes")], [GeneratedText("yes")]),
        ([choice(content="<think>no", reason="length")], [GeneratedText("", "length")]),
        ([choice(content="<think>no")], [GeneratedText("", "other")]),
        ([choice(content="yes <think>no</think>")], [GeneratedText("yes <think>no</think>")]),
    ],
)
def test_choices_are_read(choices, texts):
    """By their numbers, without thoughts; what ended them is known."""
    assert WIRE.texts({"choices": choices}, 2) == texts


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ([], "the reply is a list"),
        ({}, "choices is missing"),
        ({"choices": []}, "choices has 0 items; expected at least 1 and at most 2"),
        ({"choices": [choice(0), choice(1), choice(1)]}, "choices has 3 items, and 2 were asked for"),
        ({"choices": [choice(0), choice(0)]}, "no index of its own between 0 and 1"),
        ({"choices": [choice(True)]}, "no index of its own"),
        ({"choices": ["yes"]}, "a choice is a str"),
        ({"choices": [{"index": 0, "message": "yes"}]}, "message is a str"),
        ({"choices": [choice(content={"text": "yes"})]}, "content is a dict"),
    ],
)
def test_other_replies_are_refused(reply, reason):
    """With what is wrong with them."""
    with pytest.raises(ServerError if "asked for" in reason else BadReplyError, match=reason):
        WIRE.texts(reply, 2)


def test_a_request_holds_what_the_server_takes():
    """What it does not take is left out, or raised to what it takes."""
    turns = (Turn("system", (Span("Judge.", False),)), Turn("user", (Span("A bore.", True), Span(" Which?", False))))
    request = GenerationRequest(
        turns, 9, n=2, temperature=0.0, seed=3, stop=("\n",), schema={"type": "object"}, effort="low"
    )
    body = WIRE.body("m", AnswerFacts(limit="max_tokens").adapted(request), limit="max_tokens")
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "A bore. Which?"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "n": 2,
        "seed": 3,
        "stop": ["\n"],
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
    }
    plain = WIRE.body("m", AnswerFacts(temperatures=False).adapted(GenerationRequest(turns, 9, temperature=0.0)))
    assert set(plain) == {"model", "messages", "max_completion_tokens", "temperature"}
    assert plain["temperature"] == 1.0
