"""What pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard.live import live

Child: TypeAlias = Component | str | None
Children: TypeAlias = Child | Sequence[Child]


def aria(**attributes: str | None) -> Any:
    """Attributes for those who do not see the page; None leaves one out."""
    return {f"aria-{name}": value for name, value in attributes.items() if value is not None}


def link(text: Children, href: str, place: str = "", **attributes: Any) -> Component:
    """A link to another view. `place` names where it stands, for the focus to come back to in the page that follows."""
    data: Any = {"data-place": place} if place else {}
    return html.A(text, href=href, **data, **attributes)


def section(heading: Children, *children: Children, level: int = 2, **attributes: Any) -> Component:
    """A part of a page under its heading."""
    title = {2: html.H2, 3: html.H3}[level](heading)
    return html.Section([title, *flat(children)], **attributes)


def notice(*lines: Children, kind: str = "info") -> Component:
    """Something that a person should know before the rest: `info`, or `wrong`."""
    role = "alert" if kind == "wrong" else "status"
    return html.Div([html.P(line) for line in lines], className=f"notice {kind}", role=role)


def cards(items: Iterable[tuple[str, str, str]]) -> Component:
    """Figures of merit at a glance: (name, value, what else belongs to it)."""
    return html.Dl(
        [
            html.Div(
                [
                    html.Dt(name),
                    html.Dd([html.Strong(live_text(name, value)), html.Small(live_text(f"of {name}", more))]),
                ]
            )
            for name, value, more in items
        ],
        className="cards",
    )


def live_text(name: str, text: Children) -> Component:
    """Text that changes while a sweep runs."""
    return live(name, html.Span(text))


def plain_table(
    header: Sequence[Children], rows: Iterable[Sequence[Children]], caption: str, **attributes: Any
) -> Component:
    """A table small enough to be read as it stands; the first cell of a row names it."""
    return html.Div(
        html.Table(
            [
                html.Caption(caption, className="for-screen-readers"),
                html.Thead(html.Tr([html.Th(cell, scope="col") for cell in header])),
                html.Tbody(
                    [
                        html.Tr([html.Th(first, scope="row"), *(html.Td(cell) for cell in cells)])
                        for first, *cells in rows
                    ]
                ),
            ],
            **attributes,
        ),
        className="scrolled",
        tabIndex="0",
        role="region",
        **aria(label=caption),
    )


def command(line: str, name: str) -> Component:
    """A command line with a button that copies it."""
    identity = f"command-{name}"
    return html.Div(
        [
            html.Pre(html.Code(line), id=identity, tabIndex="0", role="region", **aria(label="command line")),
            html.Button("Copy", className="copy", **_copies(identity)),
        ],
        className="command",
    )


def _copies(identity: str) -> Any:
    """What assets/navigate.js knows the button by."""
    return {"data-copies": identity, **aria(label="Copy the command line")}


def tabs(label: str, choices: Iterable[tuple[str, str, bool]]) -> Component:
    """Links of which one is where we are: (text, address, whether it is)."""
    return html.Nav(
        [
            link(text, href, place=f"{label}:{text}", **aria(current="page" if here else None))
            for text, href, here in choices
        ],
        className="tabs",
        **aria(label=label),
    )


def flat(children: Iterable[Children]) -> list[Child]:
    """One list of what is there."""
    found: list[Child] = []
    for child in children:
        if isinstance(child, Sequence) and not isinstance(child, str):
            found += [one for one in child if one is not None]
        elif child is not None:
            found.append(child)
    return found
