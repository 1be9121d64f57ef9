"""The demo on the real model and the real reviews, small."""

from __future__ import annotations

import html

import pytest

from llmclf.demo import run_demo


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::llmclf.errors.LlmclfWarning")
def test_the_demo_measures_and_draws(tmp_path):
    """Calibration lowers the log loss on held-out reviews; numbers are in range; the PNG is a picture with its whole axes."""
    lines: list[str] = []
    result = run_demo(
        tmp_path / "out" / "reliability.png",
        page=tmp_path / "out" / "report.html",
        n_calibration=80,
        n_test=60,
        report=lines.append,
    )
    assert result.after["log_loss"] < result.before["log_loss"]
    assert result.pooled["log_loss"] < result.before["log_loss"]
    for measured in (result.before, result.after, result.pooled):
        assert 0.3 < measured["accuracy"] <= 1.0
        assert 0.0 <= measured["ece"] <= 1.0
    assert result.temperature > 0
    assert sum(result.bias.values()) == pytest.approx(0.0, abs=1e-9)
    assert set(result.bias) == {"fresh", "rotten"}
    assert result.rows_per_second > 0
    assert len(lines) == 5
    assert result.verdict in html.unescape((tmp_path / "out" / "report.html").read_text())
    assert (tmp_path / "out" / "reliability.png").read_bytes().startswith(b"\x89PNG")
