"""docs/benchmarks.md: written anew, but for what is kept by hand."""

from __future__ import annotations

from benchmarks.__main__ import MARKER, TARGETS, Report, page, targets


def report(name: str, **figures: float) -> Report:
    return Report(name, "What it measures.", "a table   \nof figures", figures, 60.0)


def test_the_page_shows_what_each_benchmark_says_and_printed() -> None:
    text = page([report("edit"), report("store")], "", load=0.5)
    assert "## edit\n\nWhat it measures.\n\n```text\na table\nof figures\n```" in text
    assert text.index("## edit") < text.index("## store") < text.index(MARKER) < text.index("still to be measured")
    assert "in 2 minutes" in text


def test_what_is_kept_by_hand_stays_and_the_rest_goes() -> None:
    first = page([report("edit")], "", load=0)
    mended = first.partition(MARKER)[0] + MARKER + "\n\n## gpu\n\n300 times as fast.\n"
    second = page([report("store")], mended, load=0)
    assert second.endswith(MARKER + "\n\n## gpu\n\n300 times as fast.\n")
    assert "## edit" not in second
    assert page([report("store")], second, load=0) == second


def test_a_figure_stands_beside_its_target() -> None:
    rows = targets([report("planning", seconds_per_10000_trials=6.0), report("store", written_per_second=200.0)])
    assert "| planning | seconds to plan 10,000 trials | ≤ 5 | 6 | not met |" in rows
    assert "| store | trials stored a second | ≥ 200 | 200 | met |" in rows
    assert targets([report("edit", edit_ms=1.0)]) == ""


def test_no_target_is_named_twice() -> None:
    assert len({(target.name, target.key) for target in TARGETS}) == len(TARGETS)
