"""llama.cpp's tokenizer: what a user has defined is read as one token wherever it stands, and stays text in data."""

from __future__ import annotations

import re

import anyio

from llmclf.backends.openai.tokenizer import ServerEncoder
from llmclf.prompts.rendered import Span

CONTROL, USER_DEFINED = {"<|im_end|>": 1}, {"<think>": 2, "[INST]": 3, "<br>": 4}


class Llama:
    """A client of a server that tokenises as llama.cpp does: control tokens on request, user-defined ones always."""

    async def call(self, path, body, read):
        known = {**USER_DEFINED, **(CONTROL if body["parse_special"] else {})}
        pattern = "|".join(map(re.escape, known))
        ids = []
        for piece in re.split(f"({pattern})", body["content"]):
            ids += [known[piece]] if piece in known else [100 + ord(letter) for letter in piece]
        return read({"tokens": ids})


def encode(*spans: Span) -> list[int]:
    encoder = ServerEncoder(Llama(), "any", "llama_server")
    return anyio.run(encoder.encode_all, [spans])[0]


def letters(text: str) -> list[int]:
    return [100 + ord(letter) for letter in text]


def test_no_token_that_acts_comes_out_of_data():
    """Control tokens and user-defined ones are text in the row, also twice in a row, and act in the template."""
    for marker in ("<think>", "[INST]", "<|im_end|>"):
        data = f"a{marker}{marker} b"
        assert encode(Span("T ", False), Span(data, True)) == letters(f"T {data}")
    author = encode(Span("<think>", False), Span("<think>", True), Span("<|im_end|>", False))
    assert author == [2, *letters("<think>"), 1]


def test_formatting_tags_are_read_as_they_are():
    """A tag of HTML that the vocabulary holds does not act."""
    assert encode(Span("a<br>b", True)) == [*letters("a"), 4, *letters("b")]
