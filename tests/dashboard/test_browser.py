"""What a person does with the dashboard, in a real browser, on the store of a real sweep."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from scipy.stats import binomtest

from laser_sweep.store.reader import read_predictions, read_trials

from .conftest import Visit

PATHS = ("/", "/heat-maps", "/heat-maps?figure=coverage", "/trials", "/leaderboard", "/compare", "/failures")
CELL = ".js-plotly-plot .heatmaplayer image"
ROWS = ".ag-center-cols-container .ag-row"


def best(store: Path, count: int = 2) -> list[str]:
    """Keys of the best edits of the grid on val."""
    trials = read_trials(store)
    grid = trials[trials["sweep"].eq("grid") & trials["split"].eq("val") & trials["tau"].notna()]
    return list(grid["trial_key"].head(count))


def settings_of(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def rows(page: Any) -> list[str]:
    """The rows of the table of a page, as they stand there."""
    found = page.locator(ROWS).all()
    return [row.inner_text() for row in sorted(found, key=lambda row: int(row.get_attribute("row-index")))]


def click_cell(page: Any, across: float, down: float) -> None:
    """Clicks the first heat map, so far from its upper left corner as a share of its sides."""
    box = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)


def test_every_page_opens_complains_of_nothing_and_can_be_used_by_those_who_do_not_see_it(
    here: Visit, swept: Path
) -> None:
    first, second = best(swept)
    for path in (*PATHS, f"/trial?trial={first}", f"/compare?trial={first}&trial={second}"):
        page = here.open(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert page.title().endswith("laser_sweep")
        assert page.locator("h1").count() == 1
        assert page.evaluate(NAMELESS) == []
    assert len(here.requests) > 20


NAMELESS = """
  [...document.querySelectorAll('a[href], button, input, figure, [role=region], nav, table')]
    .filter((one) => one.offsetParent && !one.closest('.ag-root-wrapper, .modebar'))
    .filter((one) => !(one.textContent || one.ariaLabel || one.title || (one.labels || []).length))
    .map((one) => one.outerHTML.slice(0, 200))"""


def test_nothing_can_be_loaded_from_elsewhere(visit: Callable[..., Visit], served: str) -> None:
    here = visit(served)
    page = here.open("/")
    page.evaluate("new Promise((done) => { const image = new Image(); image.onerror = done;"
                  " image.src = 'http://example.org/pixel.png'; })")  # fmt: skip
    assert any("Content Security Policy" in message for message in here.messages)


def test_a_cell_of_a_heat_map_opens_its_trial_and_back_comes_back(here: Visit, swept: Path) -> None:
    page = here.open("/heat-maps?tau=fc_in", CELL)
    click_cell(page, 0.75, 0.25)  # layer 1 of two, ρ 0.1
    here.heading("Trial")
    (key,) = settings_of(page)["trial"]
    row = read_trials(swept).set_index("trial_key").loc[key]
    assert (row["tau"], row["layer"], row["rho"], row["split"]) == ("fc_in", 1, 0.1, "val")
    assert settings_of(page)["tau"] == ["fc_in"]  # filters go along
    assert f"{100 * row['accuracy']:.1f} ± " in page.inner_text("#main")
    page.go_back()
    here.heading("Heat maps")
    page.wait_for_selector(CELL)
    page.go_forward()
    here.heading("Trial")


def test_a_link_shows_somebody_else_the_same(here: Visit, visit: Callable[..., Visit], served: str) -> None:
    page = here.open("/trials", ".ag-row a")
    page.click("a[data-place='tau:fc_out']")
    page.wait_for_selector("a[data-place='tau:fc_out'][aria-current]")
    page.fill("#search", "grid")
    page.wait_for_selector("text='4 of 18 trials'")
    page.click(".ag-header-cell[col-id=log_loss]")  # sorts
    page.wait_for_url("**sort=log_loss**")
    page.wait_for_function("document.querySelector('.ag-header-cell[col-id=log_loss]').ariaSort === 'ascending'")
    theirs = visit(served)
    copy = theirs.open(page.url.removeprefix(served), ".ag-row a")
    for one in (page, copy):
        one.wait_for_function(f"document.querySelectorAll({ROWS!r}).length === 4")
        one.wait_for_load_state("networkidle")
    assert copy.input_value("#search") == "grid"
    assert copy.inner_text(".filters") == page.inner_text(".filters")
    assert rows(copy) == rows(page)
    losses = [float(row.split("\n")[4]) for row in rows(copy)]
    assert losses == sorted(losses)
    theirs.assert_clean()


def test_trials_are_selected_and_compared(here: Visit, swept: Path) -> None:
    page = here.open("/trials?sweep=grid&split=val&intervention=laser&sort=-accuracy", ".ag-row a")
    boxes = page.locator(".ag-pinned-left-cols-container .ag-row input[type=checkbox]")
    for place, said in ((0, "Select one more trial"), (6, "Compare 2 trials")):
        boxes.nth(place).click()
        page.wait_for_selector(f"text={said}")
    page.click("text=Compare 2 trials")
    here.heading("Compare")
    first, second = settings_of(page)["trial"]
    # What the page says, against the same figures worked out here.
    one, other = (read_predictions(swept, key) for key in (first, second))
    joined = one.merge(other, on="example_id", suffixes=("", "_other"))
    wins = int((joined["correct_other"] & ~joined["correct"]).sum())
    losses = int((joined["correct"] & ~joined["correct_other"]).sum())
    assert wins + losses > 20
    gain, n = (wins - losses) / len(joined), len(joined)
    stderr = math.sqrt(((wins + losses) / n - gain**2) / n)
    p_value = binomtest(wins, wins + losses).pvalue
    text = page.inner_text("#main")
    assert re.search(rf"{re.escape(f'{100 * gain:+.1f}')} ± {100 * stderr:.1f} points \(95 %: ", text)
    assert f"p = {p_value:.2g}" in text
    assert f"{wins} / {losses}" in text
    # Only what differs is there, everything on request.
    assert "config evaluation.limit" not in text
    assert page.locator("th:text-is('layer'), th:text-is('tau'), th:text-is('rho')").count() > 0
    # And the examples that only one of them answers right.
    page.wait_for_selector(f"a[aria-current]:has-text('({wins + losses})')")
    shown = page.locator(".ag-pinned-left-cols-container .ag-cell[col-id=example_id]").all_inner_texts()
    differ = joined[joined["correct"] != joined["correct_other"]]
    assert shown
    assert set(shown) <= set(differ["example_id"])
    page.click("a:text-is('everything')")
    page.wait_for_selector("text=config evaluation.limit")
    assert settings_of(page)["everything"] == ["yes"]


def test_a_value_in_a_table_filters_and_every_page_follows(here: Visit, swept: Path) -> None:
    page = here.open("/failures", ".ag-row a")
    page.click(".ag-cell[col-id=split] a:text-is('test')")
    page.wait_for_url("**split=test**")
    trials = read_trials(swept)
    failed = trials[trials["split"].eq("test") & trials["status"].eq("failed")]
    page.wait_for_function(f"document.querySelectorAll({ROWS!r}).length === {len(failed)}")
    assert f"{trials['split'].eq('test').sum()} of {len(trials)} trials" in page.inner_text(".filters")
    page.click("a[data-place='page:sweeps']")
    here.heading("Sweeps")
    assert settings_of(page) == {"split": ["test"]}


def test_every_figure_has_the_trials_that_pass_the_filters_and_no_others(here: Visit, swept: Path) -> None:
    trials = read_trials(swept)
    grid = trials[trials["sweep"].eq("grid") & trials["split"].eq("val")]
    edited, (untouched,) = grid[grid["tau"].notna()], grid[grid["tau"].isna()]["trial_key"]
    page = here.open("/heat-maps?sweep=grid&split=val", CELL)
    drawn(page, edited, untouched)
    page.click("a[data-place='layer:1']")
    drawn(page, edited[edited["layer"].eq(1)], untouched)
    page.click("a:text-is('Accuracy by layer')")
    page.click("a[data-place='rho:0.01']")
    drawn(page, edited[edited["layer"].eq(1) & edited["rho"].eq(0.01)], untouched)
    page.click("a[data-place='page:trials']")
    drawn(page, edited[edited["layer"].eq(1) & edited["rho"].eq(0.01)], untouched)
    page.click("a[data-place='clear']")
    drawn(page, edited, untouched)


def drawn(page: Any, expected: pd.DataFrame, untouched: str) -> None:
    """Waits until the edits in the figures of a page are these. The untouched model may be there as well."""
    page.wait_for_function(EDITS_DRAWN, arg=[sorted(expected["trial_key"]), untouched])


EDITS_DRAWN = """([expected, untouched]) => {
  const data = [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => plot._fullData || []);
  const found = data.flatMap((trace) => [...(trace.customdata || [])].flat(2));
  const keys = found.filter((one) => /^[0-9a-f]{16}$/.test(one));
  const edits = [...new Set(keys)].filter((key) => key !== untouched).sort();
  return JSON.stringify(edits) === JSON.stringify(expected);
}"""


def test_examples_are_filtered_by_what_became_of_them(here: Visit, swept: Path) -> None:
    page = here.open(f"/trial?trial={best(swept, 1)[0][:6]}", ".ag-row")
    page.click("a:has-text('flipped to right')")
    page.wait_for_selector("a[aria-current]:has-text('flipped to right')")
    page.wait_for_selector(".ag-row")
    outcomes = set(page.locator(".ag-cell[col-id=outcome]").all_inner_texts())
    assert outcomes == {"flipped to right"}


def test_the_keyboard_is_enough(here: Visit) -> None:
    page = here.open("/trials?sweep=grid", ".ag-row a")
    page.focus("a[data-place='tau:fc_in']")
    page.keyboard.press("Enter")
    page.wait_for_url("**tau=fc_in**")
    page.wait_for_selector("a[data-place='tau:fc_in'][aria-current]")
    page.wait_for_function("document.activeElement.dataset.place === 'tau:fc_in'")  # the focus stays where it was
    page.wait_for_selector(".ag-row a")
    page.click(".ag-row[row-index='0'] .ag-cell[col-id=accuracy]")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    here.heading("Trial")
    page.wait_for_function("document.activeElement.tagName === 'H1'")


def test_the_command_of_a_failure_can_be_copied(visit: Callable[..., Visit], served: str, swept: Path) -> None:
    here = visit(served, permissions=["clipboard-read", "clipboard-write"])
    page = here.open("/failures", ".command code")
    page.click("button.copy")
    page.wait_for_selector("text=Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text(".command code")
    assert copied.startswith("python -m laser_sweep ")
    assert f"store.path={swept}" in copied
    assert "resume=errored" in copied
    here.assert_clean()


def test_column_filters_are_part_of_the_address(here: Visit, swept: Path) -> None:
    model = {"accuracy": {"filterType": "number", "type": "greaterThan", "filter": 80}}
    page = here.open(f"/trials?sort=-accuracy&columns={json.dumps(model)}", ".ag-row a")
    accuracy = 100 * read_trials(swept)["accuracy"]
    page.wait_for_function(f"document.querySelectorAll({ROWS!r}).length === {accuracy.gt(80).sum()}")
    cells = page.locator(f"{ROWS} .ag-cell[col-id=accuracy]").all_inner_texts()
    assert sorted(float(cell.split(" ± ")[0]) for cell in cells) == sorted(
        pd.Series(accuracy[accuracy.gt(80)]).round(1)
    )
    assert "columns" in settings_of(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(visit: Callable[..., Visit], served: str, scheme: str) -> None:
    here = visit(served, color_scheme=scheme)
    page = here.open("/failures?layer=x", ".ag-row a")
    page.wait_for_load_state("networkidle")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert {text: ratio for text, ratio in contrasts if ratio < 4.5} == {}


CONTRASTS = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('');
    const box = one.getBoundingClientRect();
    if (!own || box.width < 2 || box.height < 2 || one.closest('script, svg, .none')) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(one).color)), luminance(behind(one))].sort((x, y) => y - x);
    found.push([own.slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
})()"""


NONSENSE = (
    "/nowhere",
    "/..%2f..%2fetc%2fpasswd",
    "/trial?trial=..%2F..%2Fetc%2Fpasswd",
    "/trial?trial=",
    "/trial?trial=zzzz",
    "/trial?trial=a&trial=b&trial=c",
    "/trial?outcome=%3Cscript%3Ealert(1)%3C%2Fscript%3E&trial=KEY",
    "/compare?trial=KEY",
    "/compare?trial=KEY&trial=nothing",
    "/compare?by=model&of=nobody",
    "/compare?by=nonsense&of=x",
    "/heat-maps?comparison=ffffffff",
    "/heat-maps?figure=pie",
    "/heat-maps?tau=%F0%9F%92%A5&layer=-3&rho=2",
    "/trials?sort=nothing&columns=%7B%22accuracy%22%3A%7B%7D%7D",
    "/trials?columns=%5B%5B%5B",
    "/trials?search=" + "x" * 3000,
    "/trials?search=%00%ff%fe",
    "/trials?" + "&".join(f"model=m{number}" for number in range(300)),
    "/leaderboard?everything=perhaps",
    "/failures?status=done&%3Cimg%20src=x%20onerror=alert(1)%3E=1",
)


def test_nonsense_in_an_address_is_answered_in_words(here: Visit, swept: Path) -> None:
    dialogs: list[str] = []
    here.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    key = read_trials(swept)["trial_key"].iloc[0]
    for number, path in enumerate(NONSENSE):
        path = path.replace("KEY", key)
        if number % 7 == 0:  # as who follows a link comes here
            page = here.open(path)
        else:  # as who is here already goes there, which is quicker
            here.page.evaluate("document.querySelector('#main').remove()")
            here.page.evaluate(
                "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
            )
            page.wait_for_selector("#main h1")
        text = page.inner_text("#main")
        assert page.locator("#main .notice").count() or "0 of" in page.inner_text(".filters"), path
        assert "Traceback" not in page.content()
        assert "could not be made" not in text
    page.wait_for_load_state("networkidle")
    assert not dialogs
