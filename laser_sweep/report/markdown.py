"""A report as a comment on a pull request: tables, no figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from laser_sweep.report.content import Report
from laser_sweep.report.tables import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def markdown(report: Report) -> str:
    """GitHub's Markdown; what comes from data is escaped, so that no name of a model can be markup."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# LASER sweep: {_text(report.store)}"
    yield ""
    yield f"{report.lead} Written {report.written:%Y-%m-%d %H:%M} UTC by {_text(report.versions)}."
    if report.leaderboard is not None:
        yield from _table(report.leaderboard, level=2)
    for section in report.sections:
        yield from ("", f"## {_text(section.title)}", "", _text(section.lead))
        if section.findings:
            yield ""
            yield from (f"* {_text(finding)}" for finding in section.findings)
        for table in section.tables:
            yield from _table(table, level=3)
    for last in (report.failures, report.provenance):
        if last is not None:
            yield from _table(last, level=2)


def _table(table: Table, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} {_text(table.title)}", "")
    yield _row(heading.removeprefix("#") for heading in table.headings)
    yield _row(("---:" if heading.startswith("#") else "---" for heading in table.headings), escape=False)
    yield from (_row(row) for row in table.rows)
    if table.note:
        yield from ("", _text(table.note))


def _row(cells: Iterator[str] | tuple[str, ...], *, escape: bool = True) -> str:
    return f"| {' | '.join(_text(cell) if escape else cell for cell in cells)} |"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
