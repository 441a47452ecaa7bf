"""The report opened from the disk in headless Chromium."""

from __future__ import annotations

from typing import Any

from browser import Browser

from experiments.tables.cells import sheets


def test_every_page_opens_without_a_complaint_or_a_request(report: Any, browser: Browser) -> None:
    browser.screen(1280, 900)
    browser.open(report.folder / "index.html")
    links = browser.evaluate("[...document.querySelectorAll('.contents a')].map(a => a.getAttribute('href'))")
    assert sorted(links) == sorted(entry.page for entry in report.made)
    assert browser.evaluate("document.querySelectorAll('.findings > li').length") == sum(
        len(entry.config.claims) for entry in report.entries
    )
    for entry in report.made:
        browser.open(report.folder / entry.page)
        shown = browser.evaluate("[...document.querySelectorAll('tbody th')].map(th => th.textContent)")
        assert set(shown) == {row.label for row in entry.result.rows}
        assert browser.evaluate("document.querySelectorAll('figure img').length") == len(entry.pictures)
    browser.open(report.folder / "status.html")
    assert browser.evaluate("document.querySelectorAll('tbody tr').length") == 2
    assert browser.problems == []
    inside = report.folder.absolute().as_uri()
    assert {request for request in browser.requests if not request.startswith((inside, "data:,"))} == set()


def test_keyboard_reaches_the_origin_of_a_number(report: Any, browser: Browser) -> None:
    (entry,) = (entry for entry in report.made if entry.id == "skip_tuning/02")
    browser.screen(1280, 900)
    browser.open(report.folder / entry.page)
    focused = "document.activeElement"
    browser.press("Tab")
    assert browser.evaluate(f"{focused}.className") == "skip"
    for _ in range(12):
        browser.press("Tab")
        if browser.evaluate(f"{focused}.closest('td') !== null"):
            break
    assert browser.evaluate(f"{focused}.dataset.row + {focused}.dataset.kind") == "0here"
    assert browser.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    browser.press("ArrowDown", "ArrowRight")
    assert browser.evaluate(f"{focused}.dataset.row + {focused}.dataset.kind") == "1here ratio"
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('dialog').open")
    text = browser.evaluate("document.querySelector('dialog').textContent")
    for row in entry.result.rows[:2]:  # the number and its baseline
        assert str(row.values["fid"].value) in text
    assert all(id in text for id in entry.result.rows[1].record)
    assert entry.result.provenance.commit in text and "torch" in text and "100000–100749" in text
    browser.press("Escape")
    assert not browser.evaluate("document.querySelector('dialog').open")
    assert browser.evaluate(f"{focused}.dataset.row") == "1"
    # One more Tab leaves the table: it is a single stop.
    browser.press("Tab")
    assert browser.evaluate(f"{focused}.closest('table')") is None


def test_a_number_known_to_the_store_tells_its_machine_by_click(report: Any, browser: Browser) -> None:
    (entry,) = (entry for entry in report.made if entry.id == "skip_tuning/02")
    browser.screen(390, 844, phone=True)
    browser.open(report.folder / entry.page)
    browser.evaluate("document.querySelector('td.here button').click()")
    assert "a machine of this test" in browser.evaluate("document.querySelector('dialog').textContent")


def test_nothing_is_cut_off_on_a_phone_in_the_dark(report: Any, browser: Browser) -> None:
    browser.screen(360, 740, phone=True, dark=True)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    widest = sorted(
        report.made, key=lambda entry: max(len(sheet.head) for sheet in sheets(entry.result, entry.config))
    )[-6:]
    for name in ("index.html", "status.html", *(entry.page for entry in widest)):
        browser.open(report.folder / name)
        assert browser.evaluate(wide) == 0, name
    background, ink = (
        browser.evaluate(f"getComputedStyle(document.body).{key}.match(/\\d+/g).map(Number)")
        for key in ("backgroundColor", "color")
    )
    assert max(background[:3]) < 64 and min(ink[:3]) > 192


def test_claims_can_be_filtered(report: Any, browser: Browser) -> None:
    browser.screen(1280, 900)
    browser.open(report.folder / "index.html")
    browser.evaluate("document.querySelector('.filter input[value=supported]').click()")
    visible = "[...document.querySelectorAll('.claim:not([hidden])')]"
    shown = browser.evaluate(f"{visible}.map(claim => claim.dataset.verdicts)")
    assert shown and all("supported" in verdicts for verdicts in shown)
    assert len(shown) < browser.evaluate("document.querySelectorAll('.claim').length")
