"""Fixtures of the tests of OpenAI-compatible servers."""

from __future__ import annotations

import pytest
from faults import tiny_model
from tiny_reference import TinyReference


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> str:
    """The folder of the tiny model's tokenizer."""
    return str(tiny_model().save_tokenizer(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def reference(tokenizer) -> TinyReference:
    """The definition on the tiny model."""
    return TinyReference(tokenizer)
