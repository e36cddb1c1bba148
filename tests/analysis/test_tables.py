"""Pages for a terminal and for Markdown."""

from __future__ import annotations

import io

from rich.console import Console

from laser_sweep.analysis.tables import Page

PAGE = Page(
    "laser fc_in[1]",
    ("prompt", "± se"),
    (("a|b [bold]c[/bold] *d*", "1.5"), ("<b>_e_</b>", "10.0")),
    ("'the' to 2 of `3`",),
    ("± se",),
)


def test_markdown_keeps_what_stands_in_a_cell() -> None:
    assert PAGE.markdown() == (
        "# laser fc\\_in\\[1\\]\n"
        "\n"
        "| prompt | ± se |\n"
        "| --- | ---: |\n"
        "| a\\|b \\[bold\\]c\\[/bold\\] \\*d\\* | 1.5 |\n"
        "| \\<b\\>\\_e\\_\\</b\\> | 10.0 |\n"
        "\n"
        "* 'the' to 2 of \\`3\\`\n"
    )


def test_a_terminal_shows_what_stands_in_a_cell_and_takes_none_of_it_for_markup() -> None:
    console = Console(file=io.StringIO(), width=60, color_system=None)
    console.print(PAGE.table())
    shown = console.file.getvalue()
    assert "a|b [bold]c[/bold] *d*    1.5" in shown
    assert "<b>_e_</b>               10.0" in shown
