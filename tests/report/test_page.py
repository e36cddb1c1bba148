"""What stands on the page, and that it needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from laser_sweep.figures import Chart
from laser_sweep.report.content import gather
from laser_sweep.report.page import page, script_json
from laser_sweep.store.store import ParquetStore

from ..measured import done, failed, right, trial, written
from ..store.test_versions import write_2
from .conftest import EVIL


class Reader(HTMLParser):
    """Texts, tables, figures and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.labels: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._inside.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids |= {found["id"] or ""} if "id" in found else set()
        if found.get("role") == "img":
            self.labels.append(found.get("aria-label") or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append((found.get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        where = self._inside[-1] if self._inside else ""
        if where == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data
        elif where in ("td", "th"):
            self.rows[-1][-1] += data
        elif where != "style":
            self.texts.append(data.strip())

    @property
    def figures(self) -> list[dict]:
        return [json.loads(text) for kind, text in self.scripts if kind == "application/json"]


@pytest.fixture(scope="session")
def read(html: str) -> Reader:
    return Reader(html)


def test_the_page_loads_nothing(html: str, read: Reader) -> None:
    assert all(address.startswith("#") for address in read.addresses)
    assert {address[1:] for address in read.addresses} <= read.ids
    assert "default-src 'none'" in html
    assert html.count(get_plotlyjs()) == 1
    own = html.replace(get_plotlyjs(), "")
    assert not re.search(r"@import|url\(|https?://", own)


def test_every_figure_has_a_sentence_and_fits_between_the_margins_of_a_page(read: Reader) -> None:
    assert len(read.labels) == len(read.figures) > 5
    assert all(label.endswith(".") and len(label) > 20 for label in read.labels)
    assert {figure["layout"]["width"] for figure in read.figures} == {680}
    assert all(figure["layout"]["height"] <= 1000 for figure in read.figures)


def test_every_kind_of_figure_is_there(read: Reader) -> None:
    titles = [figure["layout"]["title"]["text"] for figure in read.figures]
    assert titles == [
        "log-loss against accuracy",
        "edits on top of each other, step by step",
        "fc_in: gain over the untouched model",
        "fc_in: accuracy by layer",
        "fc_in: log-loss by layer",
        "fc_in: what has been measured",
        "answers before and after the edit",
        "gain by frequency",
        "fc_in[4], 8 x 16: spectrum",
        "fc_in[3], 8 x 16: spectrum",
        "fc_in[2], 8 x 16: spectrum",
    ]


def test_the_flips_are_those_of_the_winner_on_test(read: Reader) -> None:
    assert "Of 400 examples the edit flips 80 to right and 0 to wrong, +20.0 points" in " ".join(read.labels)


def test_the_untouched_model_and_the_winner_stand_with_their_figures_on_val_and_test(read: Reader) -> None:
    untouched, winner = trial(), trial(("fc_in", 2, 0.1))
    by_key = {row[-1]: row for row in read.rows if len(row) == 9}
    assert by_key[untouched.key] == ["", "untouched", "50.0", "5.0", "1.500", "", "", "", untouched.key]
    assert by_key[winner.key][:6] == ["laser", "fc_in[2] ρ 0.1", "75.0", "4.3", "0.750", "+25.0"]
    on_test = trial(("fc_in", 2, 0.1), split="test")
    assert by_key[on_test.key][:6] == ["laser", "fc_in[2] ρ 0.1", "70.0", "2.3", "1.000", "+20.0"]
    said = " ".join(read.texts)
    assert "On test (400 examples): untouched 50.0 ± 2.5 %" in said
    assert "The winner on val, laser fc_in[2] ρ 0.1, on test: 70.0 ± 2.3 %" in said
    assert "gain +20.0 ± 2.0 points (95 %:" in said
    assert "val (100 examples): untouched model, 8 edits, 1 failed; test (400 examples)" in said


def test_p_values_are_corrected_for_the_trials_of_the_table(read: Reader) -> None:
    """25 wins and no loss among 7 finished edits: 7 · 2 · 2^-25."""
    [row] = [row for row in read.rows if row[-1] == trial(("fc_in", 2, 0.1)).key]
    assert float(row[6]) == pytest.approx(7 * 2 * 2.0**-25, rel=0.05)


def test_parts_of_val_are_a_line_each(read: Reader) -> None:
    assert ["val", "20", "1", "50.0", "fc_in[2] ρ 0.1", "75.0", "1.000"] in read.rows


def test_what_comes_from_data_is_no_markup(html: str, read: Reader) -> None:
    assert EVIL not in html
    [row] = [row for row in read.rows if EVIL in row]
    assert row == ["1", EVIL, "colours: fc_in[3] ρ 0.1"]
    assert len([kind for kind, _ in read.scripts if kind is None]) == 2  # plotly's and ours


@pytest.mark.parametrize("name", ["</script><img src=x onerror=alert(1)>", "a&b\"c'd", "<!--", "{{ 7 * 7 }}"])
def test_no_name_can_be_markup(tmp_path: Path, name: str) -> None:
    results = [done(trial(model=name, dataset=name), right(5, 10))]
    edited = trial(("fc_in", 0, 0.1), model=name, dataset=name, options={name: 1})
    results += [done(edited, right(6, 10)), done(trial(("fc_in", 0, 0.1), model=name, dataset=name), right(6, 10))]
    html = page(gather(written(tmp_path, results).root))
    read = Reader(html)
    assert f"{name} on {name}" in read.texts
    assert not any("onerror" in address for address in read.addresses)
    assert "<img" not in html.replace(get_plotlyjs(), "")
    assert len(read.figures) == len(read.labels)  # each figure's data is still one script


def test_the_data_of_a_figure_cannot_end_its_script() -> None:
    title = "</script><!-- &amp; \u2028"
    text = script_json(Chart(go.Figure(layout_title_text=title), ""))
    assert not set("<>&") & set(text)
    assert json.loads(text)["layout"]["title"]["text"] == title


def test_provenance_says_what_ran_where_and_when(read: Reader) -> None:
    [row] = [row for row in read.rows if row[0] == "tiny" and len(row) == 12]
    assert row[:6] == ["tiny", "0123abcd", "float32", "colours", "sweep", "14"]
    assert row[6:8] == ["2023-11-14 22:13", "2023-11-14 22:13"]
    assert row[9:] == ["cpu", "host", "4"]


def test_published_numbers_stand_beside_ours(published: Callable[[], ParquetStore]) -> None:
    read = Reader(page(gather(published().root)))
    rows = [row for row in read.rows if row[0] == "gptj" and len(row) == 11]
    assert rows[0][2:10] == [
        "the untouched model", "50.2 ± 1.6", "1.000", "untouched", "50.2", "1.24", "+0.0 ± 1.7", "yes",
    ]  # fmt: skip
    assert "LASER leaderboard" in rows[0][10]


def test_a_store_with_nothing_but_a_failure_has_a_page(tmp_path: Path) -> None:
    read = Reader(page(gather(written(tmp_path, [failed(trial(("fc_in", 0, 0.1)))]).root)))
    assert "No trial on val is done." in read.texts
    assert ["1", "out of memory", "colours: fc_in[0] ρ 0.1"] in read.rows


def test_a_store_of_an_earlier_version_has_a_page(tmp_path: Path) -> None:
    """It did not say which options an edit has, nor how many examples were asked for."""
    store = ParquetStore(tmp_path)
    edits = [("fc_in", 0, 0.1), ("fc_in", 1, 0.1)]
    for split in ("val", "test"):
        for one in (trial(split=split), *(trial(edit, split=split) for edit in edits)):
            write_2(store, one)
    read = Reader(page(gather(store.root)))
    assert "6 trials, 0 failed" in " ".join(read.texts)
    assert ["", "fc_in[0] ρ 0.1", "50.0", "25.0", "1.500"] in [row[:5] for row in read.rows]
    assert any("Gain of fc_in" in label for label in read.labels)


def test_an_edit_that_answers_the_same_whatever_is_asked_is_named_as_that(tmp_path: Path) -> None:
    def answers(yes: int) -> dict[str, object]:
        return {"prediction_counts": (("yes", yes), ("no", 100 - yes)), "majority_accuracy": 0.7}

    results = [
        done(one, right(number), **answers(yes))
        for split in ("val", "test")
        for one, number, yes in (
            (trial(split=split), 50, 50),
            (trial(("fc_in", 0, 0.1), split=split), 70, 100),
        )
    ]
    [section] = gather(written(tmp_path, results).root, figures=False).sections
    assert "says 'yes' to 100.0 % of the examples" in " ".join(section.findings)


def test_a_winner_that_could_be_luck_is_named_as_that(tmp_path: Path) -> None:
    untouched = right(50)
    lucky = untouched.copy()
    lucky[40:53] = ~lucky[40:53]  # 10 lost, 3 won
    lucky[60:72] = True
    results = [done(trial(), untouched), *(done(trial(("fc_in", n, 0.1)), right(49), untouched) for n in range(60))]
    results.append(done(trial(("fc_in", 99, 0.1)), lucky, untouched))
    [section] = gather(written(tmp_path, results).root, figures=False).sections
    said = " ".join(section.findings)
    assert "Picked among 61 on 100 examples" in said
    assert "was not measured on test" in said


def test_without_a_better_edit_the_untouched_model_wins(tmp_path: Path) -> None:
    results = [done(trial(), right(50)), done(trial(("fc_in", 0, 0.1)), right(40))]
    [section] = gather(written(tmp_path, results).root).sections
    assert section.findings == ("No edit is better than the untouched model on val.",)


def test_a_grid_on_test_has_its_own_figures(tmp_path: Path) -> None:
    """As evaluation.split=all makes it; and a part of val that looked at more than val did."""
    edits = [("fc_in", layer, 0.1) for layer in range(12)]
    results = [done(trial(**where), right(50)) for where in ({}, {"split": "test"}, {"limit": 50})]
    results += [done(trial(edit, split=split), right(40)) for edit in edits for split in ("val", "test")]
    results += [done(trial(("q_proj", layer, 0.1), limit=50), right(40)) for layer in range(13)]
    [section] = gather(written(tmp_path, results).root).sections
    assert [gallery.title for gallery in section.galleries] == [
        "On val (100 examples)",
        "On val (100 examples), where more edits were looked at",
        "On test (100 examples)",
    ]
