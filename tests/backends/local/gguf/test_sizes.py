"""Memory as it is compared with the size of a model."""

from __future__ import annotations

import psutil
import pytest

from llmclf.backends.local.gguf import sizes
from llmclf.errors import ModelError


def test_memory_is_that_of_the_machine_or_of_the_container(tmp_path, monkeypatch):
    """The limit of a control group counts where it is lower, less what it uses; files that may go are no use."""
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(sizes, "_CONTROL_GROUPS", ((tmp_path, "memory.max", "memory.current", "inactive_file"),))
    machine = psutil.virtual_memory().total
    assert sizes.all_memory()[0] == machine
    assert 0 < sizes.free_memory() <= machine
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 1000000\n")
    assert sizes.free_memory() == 3_000_000
    assert sizes.all_memory()[0] == 5_000_000
    assert sizes.should_stay_in_file(1_500_001)
    assert not sizes.should_stay_in_file(1_500_000)


def test_what_is_larger_than_memory_and_swap_is_refused(monkeypatch):
    """With its size, and that of both."""
    monkeypatch.setattr(sizes, "all_memory", lambda: (8_000_000_000, 2_000_000_000))
    sizes.check_fits("it takes", 10_000_000_000, "cure")
    with pytest.raises(ModelError, match=r"it takes 10\.5 GB, and this machine has 8\.0 GB .* 2\.0 GB of swap; cure"):
        sizes.check_fits("it takes", 10_500_000_000, "cure")
