"""A report as a comment on a pull request."""

from __future__ import annotations

import pytest

from laser_sweep.report.content import gather
from laser_sweep.report.markdown import markdown
from laser_sweep.store.store import ParquetStore

from ..measured import trial


@pytest.fixture(scope="module")
def text(store: ParquetStore) -> str:
    return markdown(gather(store.root, figures=False))


def test_every_table_has_as_many_cells_in_each_row(text: str) -> None:
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 5
    for lines in tables:
        widths = {line.replace("\\|", "").count("|") for line in lines}
        assert len(widths) == 1, lines
        assert set(lines[1]) <= set("|-: ")


def test_the_winner_and_what_came_of_it_are_there(text: str) -> None:
    assert "## tiny on colours" in text
    assert "* The winner on val, laser fc\\_in\\[2\\] ρ 0.1, on test: 70.0 ± 2.3 %" in text
    assert trial(("fc_in", 2, 0.1)).key in text


def test_what_comes_from_data_is_no_markup(text: str) -> None:
    assert "\\<script\\>alert('x')\\</script\\>\\|\\`\\*" in text
    assert "<script" not in text.replace("\\<", "")


def test_there_are_no_figures(store: ParquetStore) -> None:
    assert all(not section.galleries for section in gather(store.root, figures=False).sections)
