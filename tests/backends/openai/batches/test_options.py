"""The options of batches: what is refused, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.backends.openai.batches.options import BatchOptions
from llmclf.errors import InputError

COUNTS = ("window", "max_requests", "max_bytes", "max_rounds", "parallel")


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers(name):
    """numpy's integers become Python's; anything else is refused by name."""
    assert type(getattr(BatchOptions(**{name: np.int64(3)}), name)) is int
    for value in (-1, True, 2.0, "3", None):
        with pytest.raises(InputError, match=f"{name}=.*expected a whole number of at least"):
            BatchOptions(**{name: value})
    assert BatchOptions(max_rounds=0).max_rounds == 0


@pytest.mark.parametrize("value", [0, -1.0, True, float("inf"), float("nan"), "3", None])
def test_the_time_between_looks_is_positive(value):
    """Only a finite number above 0 is taken."""
    with pytest.raises(InputError, match="poll_seconds=.*expected a positive number of seconds"):
        BatchOptions(poll_seconds=value)
