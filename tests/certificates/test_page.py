"""The certificate's page in a real browser: it shows what Python says, and texts stay texts."""

from __future__ import annotations

import pytest
from certificates import made
from pages import HOSTILE, Watched


@pytest.fixture
def certificate(tmp_path):
    made.saved(tmp_path / "clf")
    made.certificate(tmp_path / "clf").save(tmp_path / "clf")
    return made.certificate(tmp_path / "clf")


@pytest.fixture
def opened(browser, certificate, tmp_path):
    watched = Watched(browser, tmp_path / "clf" / "certificate.html")
    yield watched
    watched.page.close()


def test_it_is_quiet(opened):
    """No console message, no dialog, no request."""
    assert opened.quiet()


def test_it_shows_the_certificate(opened, certificate):
    """Promise, dates, assumptions and parts."""
    page = opened.page
    assert page.locator("h1").inner_text() == f"Certificate {certificate.id}"
    assert page.locator("#promise").inner_text() == (
        "Of future rows that are accepted from confidence 0.8 on, at most 10.0 % are wrong, with 95 % confidence."
    )
    assert "valid until 2027-01-31" in page.locator("#validity").inner_text()
    assert "Not signed" in page.locator("#validity").inner_text()
    assert page.locator("#assumptions li").all_inner_texts() == certificate.content.assumptions
    cells = page.locator("#parts tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[:5] == ["predicted class", "bad", "40", "16", "0"]
    assert cells[7] == "kept"


def test_texts_of_the_canary_are_not_on_it(opened):
    """Who sees the page need not see the rows."""
    assert "fine" not in opened.page.content()


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_window(browser, certificate, tmp_path, width):
    """A phone's, too: tables scroll by themselves."""
    watched = Watched(browser, tmp_path / "clf" / "certificate.html", viewport={"width": width, "height": 800})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    watched.page.close()


def test_hostile_names_stay_text(browser, tmp_path):
    """Classes, groups and facts of a model may come from anybody."""
    made.saved(tmp_path / "clf")
    part = made.certificate(tmp_path / "clf").to_dict()["content"]["parts"][0]
    parts = [{**part, "partition": text, "name": text} for text in HOSTILE]
    hostile = made.certificate(
        tmp_path / "clf", parts=parts, assumptions=HOSTILE, model={text: text for text in HOSTILE}
    )
    hostile.to_html(tmp_path / "page.html")
    watched = Watched(browser, tmp_path / "page.html")
    assert watched.quiet()
    assert watched.page.locator("#parts tbody tr").count() == len(HOSTILE)
    assert watched.page.locator("img, script, iframe, base").count() == 0
    watched.page.close()
