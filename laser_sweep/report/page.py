"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import json
from importlib.resources import files

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from laser_sweep.figures import Chart
from laser_sweep.report.content import Report

WIDTH = 680
"""Of a figure, in pixels: what fits between the margins of a page of A4."""


def page(report: Report) -> str:
    """The page. Whatever comes from data is escaped; its own policy forbids the page to load anything."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files("laser_sweep.report") / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        report=report, width=WIDTH, plotly=Markup(get_plotlyjs()), script_json=script_json
    )


def script_json(chart: Chart) -> Markup:
    """A figure for a script element, in which nothing can end that element."""
    figure = json.loads(chart.figure.to_json())
    figure["layout"]["width"] = WIDTH
    text = json.dumps(figure, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
