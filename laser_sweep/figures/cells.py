"""The trials of one τ as cells: layer x ρ, and a facet for each intervention and each value of a swept option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from laser_sweep.analysis.comparisons import measures_in, untouched_row
from laser_sweep.analysis.discordance import gain_stderr
from laser_sweep.figures.words import options_of, rho_text

ALL_LAYERS = "all"
Y_TITLE = "ρ, fraction of the rank kept"


def cells(trials: pd.DataFrame, tau: str) -> pd.DataFrame:
    """A row for each cell that was asked for, of the rows of one comparison.

    Columns: `facet` (empty where there is one only), `layer` (a number, or `all` for all together) and `rho` as they
    stand on an axis, `trial_key`, `status`, `error`, `gain` and `stderr`, `within_noise`, `score` and `loss`. Of two
    trials in one cell, which differ in what no axis shows, the one finished last counts.
    """
    rows = trials[trials["tau"].eq(tau) & trials["rho"].notna()].sort_values("finished_at", kind="stable")
    untouched = untouched_row(trials)
    measures = measures_in(trials)
    score, loss = rows[measures.score.column].astype(float), rows[measures.loss.column].astype(float)
    base = float("nan") if untouched is None else float(untouched[measures.score.column])
    gain = rows["gain"].astype(float).fillna(score - base)
    stderr = gain_stderr(rows)
    table = pd.DataFrame(
        {
            "facet": facets(rows),
            "layer": rows["layer"].map(layer_text),
            "rho": rows["rho"].map(rho_text),
            "trial_key": rows["trial_key"],
            "status": rows["status"],
            "error": rows["error"],
            "gain": gain,
            "stderr": stderr,
            "within_noise": gain.abs().le(stderr),
            "score": score,
            "loss": loss,
        }
    )
    return table.drop_duplicates(["facet", "layer", "rho"], keep="last").reset_index(drop=True)


def facets(rows: pd.DataFrame) -> pd.Series[str]:
    """What tells trials of one place and ρ apart: `clustered clusters=4`; empty where nothing does."""
    options = [options_of(edits) for edits in rows["edits"]]
    names = dict.fromkeys(name for one in options for name in one)
    swept = [name for name in names if len({str(one.get(name)) for one in options}) > 1]
    kinds = rows["intervention"].nunique() > 1
    labels = [
        " ".join([kind] * kinds + [f"{name}={one[name]}" for name in swept if name in one])
        for kind, one in zip(rows["intervention"].fillna(""), options, strict=True)
    ]
    return pd.Series(labels, index=rows.index, dtype=object)


def layer_text(layer: Any) -> str:
    """A layer as it stands on an axis."""
    return ALL_LAYERS if pd.isna(layer) else str(int(layer))


def layer_axis(table: pd.DataFrame) -> list[str]:
    """The layers of cells in order, all together last."""
    return sorted(
        table["layer"].unique(), key=lambda text: (text == ALL_LAYERS, -1 if text == ALL_LAYERS else int(text))
    )


def rho_axis(table: pd.DataFrame) -> list[str]:
    """The fractions of cells, smallest first."""
    return sorted(table["rho"].unique(), key=float)


def y_title(facets: Sequence[str], rhos: Sequence[str]) -> str:
    """The title of the axis of ρ, short where a panel is too low for more."""
    return Y_TITLE if len(facets) == 1 and len(rhos) > 5 else "ρ"


def facet_axis(table: pd.DataFrame) -> list[str]:
    """The facets of cells: by name, numbers in their order."""

    def place(label: str) -> tuple[tuple[str, float, str], ...]:
        return tuple(
            (name, _number(value), value) for name, _, value in (part.partition("=") for part in label.split(" "))
        )

    return sorted(table["facet"].unique(), key=place)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def grid(table: pd.DataFrame, column: str, layers: Sequence[str], rhos: Sequence[str]) -> list[list[Any]]:
    """A column of the cells of one facet as rows of ρ with a value for each layer, None where there is no cell."""
    found = dict(zip(zip(table["rho"], table["layer"], strict=True), table[column], strict=True))
    return [[found.get((rho, layer)) for layer in layers] for rho in rhos]
