"""The command line that every benchmark has: a table for people, and as the last line one JSON object of figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from rich.console import Console
from rich.table import Table

Figures: TypeAlias = Mapping[str, float]
S = TypeVar("S")


def run(measure: Callable[[S], Figures], *, full: S, small: S, description: str | None) -> None:
    """Measures at one of two sizes and prints what comes of it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="a size for tests, whose figures say little")
    figures = measure(small if parser.parse_args().small else full)
    print(json.dumps({name: _significant(value) for name, value in figures.items()}))


def show(*parts: str | Table) -> None:
    """Prints paragraphs and tables at the width of the page."""
    console = Console(width=120)
    for part in parts:
        console.print(part, highlight=False)


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
