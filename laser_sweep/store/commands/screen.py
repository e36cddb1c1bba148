"""How the commands print: tables on a terminal, the same at a fixed width elsewhere, or JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from laser_sweep.trial import Trial

_WIDTH = 160  # of tables at most, or the terminal's own where that is more


def make_console() -> Console:
    """In a narrow terminal lines wrap: half a key or half a number would be of no use."""
    width = Console().width if sys.stdout.isatty() else 0
    return Console(width=max(width, _WIDTH), highlight=False)


def say(console: Console, line: str = "", style: str | None = None) -> None:
    """A line as it is spelled, however long."""
    console.print(Text(line, style=style or ""), soft_wrap=True)


def make_table(headings: Sequence[str], numbers: Sequence[str] = (), title: str = "", caption: str = "") -> Table:
    """`numbers` are the headings of columns that are set to the right."""
    table = Table(
        box=box.SIMPLE,
        title=Text(title, style="italic") if title else None,
        title_justify="left",
        caption=Text(caption) if caption else None,
        caption_justify="left",
    )
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right" if heading in numbers else "left")
    return table


def cells(values: Iterable[object]) -> list[Text]:
    """Values as they are spelled, `fc_in[all]` too, and nothing where there is none."""
    return [Text(shown(value)) for value in values]


def shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def named(trial: Trial) -> str:
    """How a person names a trial where there is little room: `fc_in[27] rho=0.01`, `14 edits`."""
    return trial.describe() if trial.tau is not None or len(trial.edits) < 3 else f"{len(trial.edits)} edits"


def percent(fraction: float | None, stderr: float | None = None) -> str:
    """`98.4 ± 0.6`, of a fraction in 0..1."""
    error = "" if stderr is None or fraction is None else f" ± {100 * stderr:.1f}"
    return "" if fraction is None else f"{100 * fraction:.1f}{error}"


def short_p(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `2,240 trials`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def print_json(value: object) -> None:
    """Strict JSON: what is not a number is null."""
    json.dump(plain(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
