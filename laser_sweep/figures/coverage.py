"""What of a grid has been measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from laser_sweep.figures.cells import Y_TITLE, cells, facet_axis, grid, layer_axis, rho_axis, y_title
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, EMPTY, facetted, nothing, panels_height, styled
from laser_sweep.figures.words import count, plain

X_TITLE = "layer ℓ"
STATES = ("missing", "failed", "done")
_MARKS = {"missing": "·", "failed": "✗", "done": "✓"}
_COLOURS = {"missing": EMPTY, "failed": CATEGORIES[1], "done": CATEGORIES[4]}


def coverage(trials: pd.DataFrame, tau: str) -> Chart:
    """Whether each cell of layer x ρ is done, failed or missing; `customdata` of a cell is its trial_key.

    `trials` are those of one comparison; cells are those of every layer and ρ that any of its trials of τ has.
    """
    table = cells(trials, tau)
    title = f"{plain(tau)}: what has been measured"
    if table.empty:
        return Chart(nothing(title, f"no trial edits {plain(tau)}", X_TITLE, Y_TITLE), f"No trial edits {tau}.")
    facets, layers, rhos = facet_axis(table), layer_axis(table), rho_axis(table)
    figure = facetted(facets)
    scale = [[edge / 3, _COLOURS[state]] for place, state in enumerate(STATES) for edge in (place, place + 1)]
    table["state"] = np.where(table["status"].eq("done"), "done", "failed")
    table["hover"] = [
        f"layer {row['layer']}, ρ {row['rho']}: {row['state']}"
        + (f"<br>{_short(row['error'])}" if row["state"] == "failed" else "")
        for _, row in table.iterrows()
    ]
    for place, facet in enumerate(facets, start=1):
        part = table[table["facet"].eq(facet)]
        states = [[state or "missing" for state in line] for line in grid(part, "state", layers, rhos)]
        hover = grid(part, "hover", layers, rhos)
        figure.add_trace(
            go.Heatmap(
                x=layers, y=rhos, z=[[STATES.index(state) for state in line] for line in states],
                zmin=-0.5, zmax=2.5, colorscale=scale, customdata=grid(part, "trial_key", layers, rhos),
                text=[[_MARKS[state] for state in line] for line in states], texttemplate="%{text}",
                hovertext=[
                    [said or f"layer {layer}, ρ {rho}: missing" for said, layer in zip(line, layers, strict=True)]
                    for line, rho in zip(hover, rhos, strict=True)
                ],
                hovertemplate="%{hovertext}<extra></extra>", xgap=2, ygap=2, showscale=False,
            ), row=place, col=1,
        )  # fmt: skip
    styled(figure, title, "✓ done, ✗ failed, · missing", height=180 + panels_height(len(facets), len(rhos), 24))
    figure.update_xaxes(type="category", categoryarray=layers, showgrid=False)
    figure.update_yaxes(type="category", categoryarray=rhos, showgrid=False, title_text=y_title(facets, rhos))
    figure.update_xaxes(title_text=X_TITLE, row=len(facets), col=1)
    num_cells = len(facets) * len(layers) * len(rhos)
    done, failed = int(table["state"].eq("done").sum()), int(table["state"].eq("failed").sum())
    alt = (
        f"Of {count(num_cells, 'cell')} of {tau}, {count(len(layers), 'layer')} x {count(len(rhos), 'value')} of ρ"
        f"{f' x {len(facets)} settings' if len(facets) > 1 else ''}: "
        f"{done:,} done, {failed:,} failed, {num_cells - done - failed:,} missing."
    )
    return Chart(figure, alt)


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return plain(text if len(text) <= 80 else f"{text[:79]}…")
