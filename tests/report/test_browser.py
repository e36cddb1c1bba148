"""The page in a real browser that has no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(
    browser: Any, html: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page, what its console says, and the addresses that it asks for."""
    file: Path = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    opened.wait_for_selector("html[data-drawn=all]", timeout=60_000)
    yield opened, said, asked
    context.close()


def test_every_figure_is_drawn_without_a_complaint_or_a_request(
    seen: tuple[Any, list[str], list[str]],
) -> None:
    page, said, asked = seen
    assert page.locator("figure .main-svg").count() >= page.locator("figure").count() > 5
    assert said == []
    assert [address for address in asked if not address.startswith(("file:", "data:", "blob:"))] == []
    assert len([address for address in asked if address.startswith("file:")]) == 1


def test_the_heat_map_is_seen(seen: tuple[Any, list[str], list[str]]) -> None:
    page, _, _ = seen
    heat_map = page.get_by_label("Gain of fc_in over the untouched model")
    assert heat_map.is_visible()
    assert "+25.0" in heat_map.inner_text()
    assert heat_map.locator(".heatmaplayer image").count() > 0
    x, y, width, height = (heat_map.bounding_box()[side] for side in ("x", "y", "width", "height"))
    assert x >= 0
    assert min(width, height) > 150
    assert y > 0


def test_nothing_sticks_out_of_the_page_on_a_phone(seen: tuple[Any, list[str], list[str]]) -> None:
    page, _, _ = seen
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})


def test_it_prints_on_several_pages_with_no_figure_on_two(seen: tuple[Any, list[str], list[str]]) -> None:
    page, _, _ = seen
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.emulate_media(media="print")
    figures = page.locator("figure")
    assert {figures.nth(n).evaluate("e => getComputedStyle(e).breakInside") for n in range(figures.count())} == {
        "avoid"
    }
    heights = figures.evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(heights) < 1016  # pixels between the margins of A4
    page.emulate_media(media="screen")


def test_a_page_that_is_printed_at_once_has_all_figures(browser: Any, html: str, tmp_path: Path) -> None:
    """Before the last one had its turn to be drawn."""
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_context(offline=True).new_page()
    page.add_init_script("window.setTimeout = () => 0")  # no figure after the first gets its turn
    page.goto(file.as_uri(), wait_until="load")
    undrawn = page.locator("figure:not(:has(.main-svg))")
    assert undrawn.count() > 0
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert undrawn.count() == 0
    page.context.close()
