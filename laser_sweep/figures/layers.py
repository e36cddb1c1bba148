"""The score or the loss against the layer that is edited: the figure of the LASER talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd
import plotly.graph_objects as go

from laser_sweep.analysis.comparisons import measures_in, untouched_row
from laser_sweep.figures.cells import ALL_LAYERS, cells, facet_axis, layer_axis, rho_axis
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import BAND, DASHES, SYMBOLS, UNTOUCHED, facetted, loss_axis, nothing, sequence, styled
from laser_sweep.figures.words import axis_title, plain
from laser_sweep.measures import Measure

Metric: TypeAlias = Literal["score", "loss"]

X_TITLE = "layer ℓ that is edited"


def by_layer(trials: pd.DataFrame, metric: Metric, tau: str) -> Chart:
    """A line for each ρ, coloured by it, the score (accuracy in %, return) or the loss up, the layer across.

    `trials` are those of one comparison. The untouched model is a horizontal line, with a band of its standard error
    for the score (that of the loss is not in the table). Lines break where a layer was not measured or failed; edits
    of all layers together have no place here. `customdata` of each point is its trial_key.
    """
    table = cells(trials, tau)
    table = table[table["layer"].ne(ALL_LAYERS) & table["status"].eq("done")]
    measure = _measure(trials, metric)
    title = f"{plain(tau)}: {measure.name} by layer"
    if table.empty:
        why = f"no finished trial edits {tau} in one layer"
        return Chart(nothing(title, plain(why), X_TITLE, axis_title(measure)), f"{why[0].upper()}{why[1:]}.")
    facets, layers, rhos = facet_axis(table), layer_axis(table), rho_axis(table)
    untouched = untouched_row(trials)
    figure = facetted(facets, shared_yaxes="all")
    for row, facet in enumerate(facets, start=1):
        part = table[table["facet"].eq(facet)]
        if untouched is not None:
            _draw_untouched(figure, untouched, measure, layers, row)
        for number, (rho, colour) in enumerate(zip(rhos, sequence(len(rhos)), strict=True)):
            line = part[part["rho"].eq(rho)].set_index("layer").reindex(layers)
            figure.add_trace(_line(line, metric, measure, rho, number, colour, shown=row == 1), row=row, col=1)
    styled(
        figure,
        title,
        height=max(110 + len(facets) * max(140, min(260, 860 // len(facets))), 150 + 20 * len(rhos)),
        legend_title_text="ρ",
    )
    figure.update_xaxes(tickmode="linear" if len(layers) <= 24 else "auto", tick0=0, dtick=1)
    figure.update_xaxes(title_text=X_TITLE, row=len(facets), col=1)
    figure.update_yaxes(title_text=axis_title(measure), **(loss_axis(table["loss"]) if metric == "loss" else {}))
    return Chart(figure, _alt(table, metric, measure, tau, untouched))


def _measure(trials: pd.DataFrame, metric: Metric) -> Measure:
    measures = measures_in(trials)
    return measures.score if metric == "score" else measures.loss


def _draw_untouched(
    figure: go.Figure, row: pd.Series[Any], measure: Measure, layers: Sequence[str], place: int
) -> None:
    value = measure.scale * float(row[measure.column])
    ends = [int(layers[0]) - 0.4, int(layers[-1]) + 0.4]
    if measure.stderr:
        stderr = measure.scale * float(row[measure.stderr])
        band = [value - stderr, value - stderr, value + stderr, value + stderr]
        figure.add_trace(
            go.Scatter(
                name="untouched ± standard error", x=[*ends, *reversed(ends)], y=band, mode="lines", fill="toself",
                fillcolor=BAND, line_width=0, hoverinfo="skip", showlegend=False,
            ), row=place, col=1,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            name="untouched", x=ends, y=[value, value], mode="lines", customdata=[row["trial_key"]] * 2,
            line={"color": UNTOUCHED, "width": 1.5, "dash": "dash"}, showlegend=place == 1,
            hovertemplate=f"untouched: {measure.text(float(row[measure.column]))}<extra></extra>",
        ), row=place, col=1,
    )  # fmt: skip


def _line(
    line: pd.DataFrame, metric: Metric, measure: Measure, rho: str, number: int, colour: str, *, shown: bool
) -> go.Scatter:
    texts = [
        "" if pd.isna(value) else f"layer {layer}, ρ {rho}: {measure.text(value)}"
        for layer, value in line[metric].items()
    ]
    return go.Scatter(
        name=rho,
        legendgroup=rho,
        showlegend=shown,
        x=[int(str(layer)) for layer in line.index],
        y=measure.scale * line[metric].to_numpy(),
        customdata=line["trial_key"].astype(object).where(line["trial_key"].notna(), None),
        mode="lines+markers",
        line={"color": colour, "width": 1.6, "dash": DASHES[number % len(DASHES)]},
        marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _alt(table: pd.DataFrame, metric: Metric, measure: Measure, tau: str, untouched: pd.Series[Any] | None) -> str:
    values = table[metric].astype(float).dropna().sort_values(ascending=not measure.larger_is_better)
    name = f"{measure.name[0].upper()}{measure.name[1:]}"
    if values.empty:
        return f"{name} by the layer of {tau} that is edited: no value is known."
    best = table.loc[values.index].iloc[0]
    facet = f", {best['facet']}" if best["facet"] else ""
    text = (
        f"{name} by the layer of {tau} that is edited, a line for each of {table['rho'].nunique()} values of ρ: "
        f"best {measure.text(best[metric])} at layer {best['layer']}, ρ {best['rho']}{facet}"
    )
    if untouched is None:
        return f"{text}; the untouched model was not measured."
    base = float(untouched[measure.column])
    better = int((values > base).sum() if measure.larger_is_better else (values < base).sum())
    return f"{text}; the untouched model has {measure.text(base)}, {better:,} of {len(values):,} edits do better."
