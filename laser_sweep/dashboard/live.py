"""Parts of a page that are brought up to date in place, so that nothing a person is doing there is lost.

Dash replaces a component with all that is in it: the place that has the focus, what is scrolled, an open menu. So a
page that is rendered again is taken apart into its shape and its live parts, and as long as the shape stays the same
only the parts are sent. assets/live.js puts them in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from dash.development.base_component import Component
from plotly.io.json import to_json_plotly

_LIVE = {"Graph": "figure", "AgGrid": "rowData"}  # any other component: its children


def live(name: str, component: Component, kind: str = "text") -> Component:
    """Makes a component one that is brought up to date in place; `name` is the only one on its page."""
    setattr(component, "id", live_id(name, kind))  # noqa: B010 (a component has the attributes that it was made with)
    return component


def live_id(name: Any, kind: str) -> dict[str, Any]:
    """The id of a live component of kind `text`, `chart` or `table`; `name` may be a wildcard of Dash."""
    return {"live": name, "kind": kind}


def parts(page: Component) -> list[dict[str, Any]]:
    """The live parts of a page: `id`, `prop`, and the `value` that belongs there."""
    found = []
    for component in _components(page):
        identity = getattr(component, "id", None)
        if isinstance(identity, dict) and "live" in identity:
            prop = _LIVE.get(component._type, "children")
            found.append({"id": identity, "prop": prop, "value": getattr(component, prop, None)})
    return found


def shape(page: Component) -> str:
    """A hash of all of a page that is not live."""
    return hashlib.blake2b(to_json_plotly(_bare(page)).encode(), digest_size=8).hexdigest()


def _bare(component: Any) -> Any:
    """A component and what is in it as plain values, without what is live."""
    if isinstance(component, list | tuple):
        return [_bare(one) for one in component]
    if not isinstance(component, Component):
        return component
    plain: Any = component
    props = dict(plain.to_plotly_json()["props"])
    identity = props.get("id")
    if isinstance(identity, dict) and "live" in identity:
        props.pop(_LIVE.get(component._type, "children"), None)
    if "children" in props:
        props["children"] = _bare(props["children"])
    return [component._type, props]


def _components(component: Any) -> Iterator[Component]:
    if isinstance(component, list | tuple):
        for one in component:
            yield from _components(one)
    elif isinstance(component, Component):
        yield component
        yield from _components(getattr(component, "children", None))
