"""The report's page in a real browser: opened from disk, it asks for nothing, runs only its own script, and counts right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pages import HOSTILE, Watched
from playwright.sync_api import Browser, Page

from llmclf.logits import softmax
from llmclf.report import CalibrationReport, compare


def draw(n: int, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    proba = softmax(rng.normal(size=(n, k)) * 2)
    return (proba.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, k - 1), proba


@pytest.fixture(scope="module")
def report() -> CalibrationReport:
    y, proba = draw(800)
    return CalibrationReport(
        np.array(["billing", "delivery", "returns"], dtype=object)[y],
        proba,
        classes=["billing", "delivery", "returns"],
        proba_before=softmax(2 * np.log(proba)),
        groups={"channel": np.array(["web", "mail"])[np.arange(800) % 2]},
        texts=[f"message {i}" for i in range(800)],
        label_mass=np.linspace(0.1, 1, 800),
        max_error=0.25,
    )


@pytest.fixture
def opened(browser: Browser, report: CalibrationReport, tmp_path: Path) -> Iterator[Watched]:
    report.to_html(tmp_path / "report.html")
    watched = Watched(browser, tmp_path / "report.html")
    yield watched
    watched.page.close()


def number(text: str) -> float:
    return float(re.search(r"-?[\d.]+(e-?\d+)?", text.replace(",", ""))[0])


def readings(page: Page) -> dict[str, str]:
    names = ("threshold-value", "accepted", "coverage", "error", "interval", "cost")
    return {name: page.locator(f"#{name}").inner_text() for name in names}


class TestPage:
    def test_it_is_quiet(self, opened):
        """No console message, no dialog, no request."""
        assert opened.quiet()

    def test_the_verdict_is_the_reports(self, opened, report):
        """What the page says first is what Python says."""
        assert opened.page.locator("#verdict").inner_text() == report.verdict

    def test_the_slider_shows_the_numbers_of_python(self, opened, report):
        """At every tenth place of the slider: threshold, counts, error, interval and cost are those of operating_point."""
        page = opened.page
        points = report.to_dict()["thresholds"]
        assert int(page.locator("#threshold").get_attribute("max")) == len(points) - 1
        for index in range(0, len(points), max(1, len(points) // 10)):
            page.locator("#threshold").evaluate(
                "(slider, index) => { slider.value = index; slider.dispatchEvent(new Event('input')); }", index
            )
            shown, point = readings(page), report.operating_point(points[index]["threshold"])
            assert number(shown["threshold-value"]) == pytest.approx(point["threshold"], rel=1e-3)
            assert shown["accepted"] == f"{point['n_accepted']} of 800"
            assert number(shown["coverage"]) == pytest.approx(100 * point["coverage"], abs=0.051)
            assert shown["error"].endswith(f"({point['n_wrong']})")
            assert number(shown["error"]) == pytest.approx(100 * point["error"], abs=0.051)
            low, high = map(number, shown["interval"].split("–"))
            assert (low, high) == pytest.approx((100 * point["low"], 100 * point["high"]), abs=0.051)
            assert number(shown["cost"]) == pytest.approx(point["cost"], rel=1e-3)

    def test_it_begins_at_the_recommended_threshold(self, opened, report):
        """The page opens there, the keyboard moves it, and the button comes back."""
        page = opened.page
        chosen = report.to_dict()["selection"]
        assert readings(page)["accepted"] == f"{chosen['n_accepted']} of 800"
        page.locator("#threshold").focus()
        page.keyboard.press("ArrowLeft")
        assert readings(page)["accepted"] != f"{chosen['n_accepted']} of 800"
        assert "of rows accepted" in page.locator("#threshold").get_attribute("aria-valuetext")
        page.keyboard.press("Home")
        assert readings(page)["accepted"] == "800 of 800"
        page.get_by_role("button", name="Recommended threshold").click()
        assert readings(page)["accepted"] == f"{chosen['n_accepted']} of 800"

    def test_costs(self, opened, report):
        """With other costs the cost is that of a report with these costs, and the cheapest threshold is found."""
        page = opened.page
        page.locator("#cost-error").fill("3")
        page.locator("#cost-review").fill("0.5")
        y, proba = draw(800)
        other = CalibrationReport(y, proba, cost_error=3, cost_review=0.5)
        point = other.operating_point(report.to_dict()["selection"]["threshold"])
        assert number(readings(page)["cost"]) == pytest.approx(point["cost"], rel=1e-3)
        page.get_by_role("button", name="Cheapest here").click()
        costs = [own["cost"] for own in other.to_dict()["thresholds"]]
        assert number(readings(page)["cost"]) == pytest.approx(min(costs), rel=1e-3)

    def test_sorting(self, opened):
        """A click sorts by the numbers, another one turns the order round, and the heading says which it is."""
        page = opened.page
        heading = page.locator("#mistakes th", has_text="P(true)")
        cells = page.locator("#mistakes tbody tr td:last-child")
        heading.get_by_role("button").click()
        rising = [float(cell.get_attribute("data-value")) for cell in cells.all()]
        assert heading.get_attribute("aria-sort") == "ascending"
        assert rising == sorted(rising)
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == "descending"
        assert [float(cell.get_attribute("data-value")) for cell in cells.all()] == rising[::-1]
        page.locator("#classes th", has_text="Class").get_by_role("button").click()
        assert page.locator("#classes tbody th").all_inner_texts() == ["billing", "delivery", "returns"]

    def test_filtering(self, opened, report):
        """What is typed leaves the rows that contain it, and an empty field brings all back."""
        page = opened.page
        wanted = report.to_dict()["examples"]["mistakes"][3]["text"]
        rows = page.locator("#mistakes tbody tr")
        page.locator("[data-filter=mistakes]").fill(wanted.upper())
        texts = rows.locator("visible=true").locator("td.text").all_inner_texts()
        assert texts
        assert all(wanted in text for text in texts)
        page.locator("[data-filter=mistakes]").fill("")
        assert rows.locator("visible=true").count() == len(report.to_dict()["examples"]["mistakes"])

    def test_every_figure_is_named(self, opened):
        """Each picture has a text for those who do not see it, and no id occurs twice."""
        page = opened.page
        figures = page.locator("figure svg[role=img]")
        assert figures.count() == 4
        for figure in figures.all():
            title = figure.get_attribute("aria-labelledby")
            assert page.locator(f"#{title}").text_content().strip()
        ids = page.eval_on_selector_all("[id]", "nodes => nodes.map((node) => node.id)")
        assert len(ids) == len(set(ids))

    def test_without_scripts(self, browser, report, tmp_path):
        """All is there to read: verdict, tables and figures; only what needs a script is not shown."""
        report.to_html(tmp_path / "report.html")
        watched = Watched(browser, tmp_path / "report.html", java_script_enabled=False)
        page = watched.page
        assert page.locator("#verdict").inner_text() == report.verdict
        assert page.locator("#thresholds tbody tr").count() >= 10
        assert page.locator("figure svg").first.is_visible()
        assert not page.locator("#explorer").is_visible()
        assert not page.locator("[data-filter=mistakes]").is_visible()
        page.close()

    @pytest.mark.parametrize(("scheme", "is_light"), [("light", True), ("dark", False)])
    def test_light_and_dark(self, browser, report, tmp_path, scheme, is_light):
        """Page and figures take the reader's colours: text is far in brightness from what it stands on."""
        report.to_html(tmp_path / "report.html")
        page = Watched(browser, tmp_path / "report.html", color_scheme=scheme).page

        def brightness(selector: str, name: str) -> float:
            colour = page.locator(selector).first.evaluate(f"(node) => getComputedStyle(node).{name}")
            return sum(map(float, re.findall(r"\d+", colour)[:3])) / 765

        paper = brightness("body", "backgroundColor")
        assert (paper > 0.5) is is_light
        for selector, name in (("#verdict", "color"), ("figure svg text", "fill"), ("small", "color")):
            assert abs(brightness(selector, name) - paper) > 0.3
        page.close()

    def test_printing(self, browser, report, tmp_path):
        """Printed from the dark it is dark on white, without the parts that only a screen has, and on a few pages."""
        report.to_html(tmp_path / "report.html")
        page = Watched(browser, tmp_path / "report.html", color_scheme="dark").page
        page.emulate_media(media="print")
        assert not page.locator("#explorer").is_visible()
        colour = page.locator("#verdict").evaluate("(node) => getComputedStyle(node).color")
        assert sum(map(float, re.findall(r"\d+", colour)[:3])) < 300
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 15
        page.close()

    def test_a_small_screen(self, browser, report, tmp_path):
        """On a telephone the page itself does not scroll sideways; wide tables do within their own frame."""
        report.to_html(tmp_path / "report.html")
        page = Watched(browser, tmp_path / "report.html", viewport={"width": 390, "height": 800}).page
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()


def test_in_a_notebook(browser, report, tmp_path):
    """In the frame that a notebook shows, the page works as it does alone, and the notebook around it stays as it was."""
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><h1>Mine</h1>{report._repr_html_()}", encoding="utf-8")
    watched = Watched(browser, path)
    frame = watched.page.frame_locator("iframe")
    chosen = report.to_dict()["selection"]
    assert frame.locator("#accepted").inner_text() == f"{chosen['n_accepted']} of 800"
    assert frame.locator("#verdict").inner_text() == report.verdict
    assert watched.page.locator("h1").evaluate("(node) => getComputedStyle(node).overflowWrap") == "normal"
    assert not any(event.startswith(("console", "error", "dialog")) for event in watched.events)
    watched.page.close()


class TestHostileText:
    def test_all_of_it_is_text(self, browser, tmp_path):
        """Scripts, tags and templates in texts, classes, slices and metadata are shown and never run."""
        y, proba = draw(300, len(HOSTILE))
        report = CalibrationReport(
            np.array(HOSTILE, dtype=object)[y],
            proba,
            classes=HOSTILE,
            proba_before=softmax(2 * np.log(proba)),
            groups={HOSTILE[1]: np.array(HOSTILE, dtype=object)[np.arange(300) % len(HOSTILE)]},
            texts=[HOSTILE[i % len(HOSTILE)] for i in range(300)],
            label_mass=np.full(300, 0.3),
            metadata={HOSTILE[0]: HOSTILE[1], "prompt": {HOSTILE[2]: HOSTILE}},
            title=HOSTILE[2],
        )
        report.to_html(tmp_path / "report.html")
        watched = Watched(browser, tmp_path / "report.html")
        page = watched.page
        assert watched.quiet()
        assert page.locator("h1").inner_text() == HOSTILE[2]
        assert page.locator("script").count() == 2
        assert page.locator("img, base, iframe, link").count() == 0
        assert page.locator("style").count() == 1
        assert HOSTILE[0] in page.locator("#classes").inner_text()
        assert "{{ 7 * 7 }}{% raw %}" in page.locator("body").inner_text()
        page.get_by_role("button", name="Cheapest here").click()
        assert watched.quiet()
        page.close()

    @pytest.mark.parametrize(
        "odd", ["\ud800 <b>\udfff", "<script>" * 12_500, "\u202e" * 100_000, "\x00</script><script>alert(1)//"]
    )
    def test_odd_and_long_texts(self, browser, tmp_path, odd):
        """Halves of pairs, 100,000 tags or marks that turn the order, in each field: the page is written, and stays quiet."""
        y, proba = draw(60, 2)
        names = [f"a{odd}", f"b{odd}"]
        reports = [
            CalibrationReport(
                np.array(names, dtype=object)[y],
                shown,
                classes=names,
                groups={f"group{odd}": np.array(names, dtype=object)[y]},
                texts=[odd] * 60,
                metadata={f"key{odd}": odd, "model": odd},
                title=f"title{odd}",
            )
            for shown in (proba, softmax(2 * np.log(proba)))
        ]
        reports[0].to_html(tmp_path / "report.html")
        compare(*reports, paired=False).to_html(tmp_path / "comparison.html")
        for name, n_scripts in (("report", 2), ("comparison", 0)):
            watched = Watched(browser, tmp_path / f"{name}.html")
            assert watched.quiet(), watched.events
            assert watched.page.locator("script").count() == n_scripts
            assert "title" in watched.page.locator("h1").inner_text()
            watched.page.close()

    def test_a_script_that_got_in_would_not_run(self, browser, report, tmp_path):
        """The page's own policy refuses scripts, styles and requests that are not its own."""
        path = tmp_path / "report.html"
        foreign = "<script>alert(1)</script><img src='x.png' onerror='alert(2)'><style>h1 {display: none}</style>"
        text = report.to_html()
        path.write_text(text.replace("<main>", f"<main>{foreign}"), encoding="utf-8")
        watched = Watched(browser, path)
        assert not any(event.startswith(("dialog", "error")) for event in watched.events)
        assert sum("Content Security Policy" in event for event in watched.events) >= 3
        assert watched.page.locator("h1").is_visible()
        watched.page.close()

    def test_the_page_names_no_other_place(self, report):
        """No address of the network, in attributes or in the script, but the name of the SVG format."""
        text = report.to_html().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z]+\.", text)

    def test_a_comparison(self, browser, report, tmp_path):
        """The page of a comparison is as quiet, and has no script at all."""
        y, proba = draw(300)
        names = [HOSTILE[0], HOSTILE[1], "c"]
        labels = np.array(names, dtype=object)[y]
        a, b = (
            CalibrationReport(labels, p, classes=names, title=HOSTILE[2], metadata={HOSTILE[0]: HOSTILE[0]})
            for p in (proba, softmax(2 * np.log(proba)))
        )
        compare(a, b, paired=False).to_html(tmp_path / "comparison.html")
        watched = Watched(browser, tmp_path / "comparison.html")
        assert watched.quiet()
        assert watched.page.locator("script").count() == 0
        assert HOSTILE[2] in watched.page.locator("h1").inner_text()
        watched.page.close()


@pytest.mark.slow
def test_a_large_report_is_small(tmp_path):
    """At 100,000 rows with texts, slices and probabilities before calibration the file stays below 2 MB."""
    y, proba = draw(100_000, 10)
    report = CalibrationReport(
        y,
        proba,
        proba_before=softmax(2 * np.log(proba)),
        groups={"part": np.arange(100_000) % 20},
        texts=["a text of some length " * 60] * 100_000,
        label_mass=np.full(100_000, 0.9),
    )
    report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
