"""The page of a watch in a real browser: it asks for nothing, runs nothing, and shows what was found."""

from __future__ import annotations

import numpy as np
import pytest
from monitoring.watched import a_baseline, audit, draw
from pages import HOSTILE, Watched

from llmclf.monitoring import Baseline, DecisionLog, DecisionRecord, watch


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two classes with names that nobody should trust, and a broken promise."""
    baseline = a_baseline()
    names = (HOSTILE[0], HOSTILE[1])
    hostile = Baseline(baseline.reference, names, 0.07, threshold=0.8, certificate="c1")
    proba, truth, confidence = draw(1000, seed=3, gap=0.15)
    with DecisionLog(tmp_path_factory.mktemp("log"), classes=names, certificate="c1", model=HOSTILE[2]) as log:
        log.append(
            DecisionRecord(f"r{i}", 1.7e9 + i, names[int(row.argmax())], tuple(row), accepted=bool(row.max() >= 0.8))
            for i, row in enumerate(proba)
        )
    labels = audit(truth, np.flatnonzero(confidence >= 0.8)[:250])
    labels["label"] = [names[("praise", "complaint").index(one)] for one in labels["label"]]
    return watch(log.folder, hostile, labels)


@pytest.fixture
def opened(browser, report, tmp_path):
    report.to_html(tmp_path / "watch.html")
    watched = Watched(browser, tmp_path / "watch.html")
    yield watched
    watched.page.close()


def test_it_is_quiet(opened):
    """No console message, no dialog, no request, whatever classes and models are called."""
    assert opened.quiet()


def test_it_shows_what_was_found(opened, report):
    """Verdict, actions, tests and curves, all in view of a narrow screen, too."""
    page = opened.page
    assert page.locator("#verdict").inner_text() == report.verdict
    assert page.locator("#actions li").all_inner_texts() == [action["text"] for action in report.actions]
    assert page.locator("#tests tbody tr").count() == 2
    assert "alarm" in page.locator("#tests tbody tr").first.inner_text()
    assert page.locator("svg polyline").count() == 2
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
