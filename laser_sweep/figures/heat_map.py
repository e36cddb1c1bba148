"""The gain of each place and fraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from laser_sweep.analysis.comparisons import measures_in, untouched_row
from laser_sweep.figures.cells import Y_TITLE, cells, facet_axis, grid, layer_axis, rho_axis, y_title
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, DIVERGING, EMPTY, facetted, nothing, panels_height, styled
from laser_sweep.figures.words import count, figures_text, plain
from laser_sweep.measures import Measure, Measures

X_TITLE = "layer ℓ"
_NUMBERS_FIT = 16  # layers; in more columns a cell has room for a sign only
_ROW, _FRAME = 30, 190  # pixels
_CELL = {"texttemplate": "%{text}", "hoverongaps": False, "xgap": 2, "ygap": 2}
_NOTE = "outlined: within one standard error; ✗ failed; · not measured"


def gain_heat_map(trials: pd.DataFrame, tau: str) -> Chart:
    """Gain over the untouched model, in points of accuracy or in return, layer across and ρ up.

    `trials` are those of one comparison. A cell within one standard error is hollow; a failed one and one that was not
    measured are marked. `customdata` of each cell is its trial_key. Where an option or the intervention is swept, each
    value has a facet of its own. Colours stop at the largest gain, or at the median change where that is larger: beyond
    it, harm is all one colour, since an edit that breaks a model would else make every gain look white.
    """
    table, measures = cells(trials, tau), measures_in(trials)
    title = f"{plain(tau)}: gain over the untouched model"
    if table.empty:
        return Chart(nothing(title, f"no trial edits {plain(tau)}", X_TITLE, Y_TITLE), f"No trial edits {tau}.")
    facets, layers, rhos = facet_axis(table), layer_axis(table), rho_axis(table)
    figure = facetted(facets)
    for row, facet in enumerate(facets, start=1):
        part = table[table["facet"].eq(facet)]
        for trace in _traces(part, layers, rhos, measures):
            figure.add_trace(trace, row=row, col=1)
        for shape in _outlines(part, layers, rhos):
            figure.add_shape(shape, row=row, col=1)
    height = _FRAME + panels_height(len(facets), len(rhos), _ROW)
    unit = "points of accuracy" if measures.score.points else measures.score.name
    styled(figure, title, f"in {unit}; {_NOTE}", height=height, coloraxis=_colours(table["gain"], measures))
    figure.update_layout(plot_bgcolor=EMPTY)
    figure.update_xaxes(type="category", categoryarray=layers, showgrid=False)
    figure.update_yaxes(type="category", categoryarray=rhos, showgrid=False, title_text=y_title(facets, rhos))
    figure.update_xaxes(title_text=X_TITLE, row=len(facets), col=1)
    return Chart(figure, _alt(table, tau, trials, measures, len(facets) * len(layers) * len(rhos)))


def _traces(part: pd.DataFrame, layers: Sequence[str], rhos: Sequence[str], measures: Measures) -> list[go.Heatmap]:
    done, known = part["status"].eq("done"), part["gain"].notna()
    part = part.assign(
        text=part["gain"].map(lambda gain: _cell_text(gain, len(layers), measures.score)),
        hover=[_hover(row, measures) for _, row in part.iterrows()],
        points=measures.score.scale * part["gain"],
    )
    return [
        _layer("gain", part[done & known & ~part["within_noise"]], layers, rhos),
        _layer("within one standard error", part[done & part["within_noise"]], layers, rhos),
        _layer("done, without a gain", part[done & ~known].assign(text="?"), layers, rhos),
        _layer("failed", part[~done].assign(text="✗"), layers, rhos),
        _missing(part, layers, rhos),
    ]


def _layer(name: str, part: pd.DataFrame, layers: Sequence[str], rhos: Sequence[str]) -> go.Heatmap:
    """The cells of one kind; those of other kinds are gaps in it."""
    shown = part.copy()
    if name == "gain":
        colour: dict[str, Any] = {"coloraxis": "coloraxis"}
    else:
        shown["points"] = 0.0
        colour = {"colorscale": [[0, "white"], [1, "white"]], "showscale": False}
    return go.Heatmap(
        name=name,
        x=list(layers),
        y=list(rhos),
        z=np.array(grid(shown, "points", layers, rhos), dtype=np.float64),
        customdata=grid(shown, "trial_key", layers, rhos),
        text=[[text or "" for text in line] for line in grid(shown, "text", layers, rhos)],
        hovertext=grid(shown, "hover", layers, rhos),
        hovertemplate="%{hovertext}<extra></extra>",
        **_CELL,
        **colour,
    )


def _missing(part: pd.DataFrame, layers: Sequence[str], rhos: Sequence[str]) -> go.Heatmap:
    asked = set(zip(part["rho"], part["layer"], strict=True))
    gaps = [[(rho, layer) not in asked for layer in layers] for rho in rhos]
    return go.Heatmap(
        name="not measured",
        x=list(layers),
        y=list(rhos),
        z=[[0.0 if gap else None for gap in line] for line in gaps],
        text=[["·" if gap else "" for gap in line] for line in gaps],
        hovertemplate="layer %{x}, ρ %{y}: not measured<extra></extra>",
        colorscale=[[0, EMPTY], [1, EMPTY]],
        showscale=False,
        **_CELL,
    )


def _hover(row: pd.Series[Any], measures: Measures) -> str:
    where = f"layer {row['layer']}, ρ {row['rho']}"
    if row["status"] != "done":
        return f"{where}: failed"
    score = measures.score
    change = score.change(row["gain"], row["stderr"] if np.isfinite(row["stderr"]) else None)
    gain = f"<br>gain {change}{score.points}" if change else ""
    return f"{where}{gain}<br>{figures_text(row['score'], row['loss'], measures)}"


def _cell_text(gain: float, columns: int, score: Measure) -> str:
    if np.isnan(gain):
        return ""
    if columns <= _NUMBERS_FIT:
        return score.change(gain)
    return "+" if gain > 0 else "-" if gain < 0 else "0"


def _outlines(part: pd.DataFrame, layers: Sequence[str], rhos: Sequence[str]) -> list[dict[str, Any]]:
    """The frames of hollow cells, one shape for gains and one for losses, since plotly takes long over many."""
    hollow = part[part["status"].eq("done") & part["within_noise"]]
    shapes = []
    for colour, cells_of_it in (
        (CATEGORIES[0], hollow[hollow["gain"].ge(0)]),
        (CATEGORIES[1], hollow[hollow["gain"].lt(0)]),
    ):
        places = zip(cells_of_it["layer"], cells_of_it["rho"], strict=True)
        path = "".join(_frame(layers.index(layer), rhos.index(rho)) for layer, rho in places)
        if path:
            shapes.append({"type": "path", "path": path, "line": {"color": colour, "width": 1.2}})
    return shapes


def _frame(x: int, y: int) -> str:
    """A rectangle in the cell with these numbers, by which a shape can name categories.

    It would take `0.58` for the category of that name; with so many digits no category is named.
    """
    left, right, low, high = x - 0.440021, x + 0.440021, y - 0.420021, y + 0.420021
    return f"M{left:.6f},{low:.6f}L{right:.6f},{low:.6f}L{right:.6f},{high:.6f}L{left:.6f},{high:.6f}Z"


def _colours(gains: pd.Series[float], measures: Measures) -> dict[str, Any]:
    known = measures.score.scale * gains.dropna()
    least = 1.0 if measures.score.points else 10.0**-measures.score.decimals
    limit = least if known.empty else max(least, float(known.max()), float(known.abs().median()))
    steps = [-limit, -limit / 2, 0, limit / 2, limit]
    beyond = "≤ " if not known.empty and known.min() < -1.0001 * limit else ""
    ticks = [f"{step:+.{measures.score.decimals}f}" if step else "0" for step in steps]
    title = measures.score.points.strip() or measures.score.name
    bar: dict[str, Any] = {"title": {"text": title, "side": "top", "font": {"size": 12}}, "thickness": 12}
    bar |= {"tickvals": steps, "ticktext": [beyond + ticks[0], *ticks[1:]]}
    scale = [[place / (len(DIVERGING) - 1), colour] for place, colour in enumerate(DIVERGING)]
    return {"colorscale": scale, "cmin": -limit, "cmax": limit, "cmid": 0, "colorbar": bar}


def _alt(table: pd.DataFrame, tau: str, trials: pd.DataFrame, measures: Measures, num_cells: int) -> str:
    untouched, score = untouched_row(trials), measures.score
    against = "" if untouched is None else f", which has {score.label}{score.text(untouched[score.column])}"
    failed, missing = int(table["status"].ne("done").sum()), num_cells - len(table)
    known = table[table["status"].eq("done") & table["gain"].notna()].sort_values("gain", kind="stable")
    rest = f"{count(failed, 'cell')} failed, {missing:,} of {num_cells:,} were not measured."
    if known.empty:
        return f"No gain of {tau} over the untouched model{against} is known; {rest}"
    worst, best = known.iloc[0], known.iloc[-1]
    within = int(known["within_noise"].sum())
    ends = [f"{score.change(cell['gain'])}{score.points} at {_where(cell)}" for cell in (best, worst)]
    return (
        f"Gain of {tau} over the untouched model{against}: best {ends[0]}, worst {ends[1]}; {within:,} of "
        f"{count(len(known), 'measured cell')} {'is' if within == 1 else 'are'} within one standard error, {rest}"
    )


def _where(cell: pd.Series[Any]) -> str:
    facet = f", {cell['facet']}" if cell["facet"] else ""
    return f"layer {cell['layer']}, ρ {cell['rho']}{facet}"
