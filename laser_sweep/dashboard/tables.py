"""Tables that sort, filter and scroll through any number of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import dash_ag_grid as dag
from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard.live import live
from laser_sweep.dashboard.parts import aria
from laser_sweep.dashboard.url import View

Column: TypeAlias = dict[str, Any]
"""A column definition of ag-grid."""
Row: TypeAlias = dict[str, Any]

TEXT_FILTERS = ("contains", "notContains", "equals", "notEqual", "startsWith", "endsWith", "blank", "notBlank")
NUMBER_FILTERS = (
    "equals",
    "notEqual",
    "greaterThan",
    "greaterThanOrEqual",
    "lessThan",
    "lessThanOrEqual",
    "inRange",
    "blank",
    "notBlank",
)
_LONGEST = 60  # rows that a table is high for
_ROW, _HEAD = 34, 44  # pixels


def text(field: str, header: str, **more: Any) -> Column:
    """A column of text."""
    params = {"filterOptions": list(TEXT_FILTERS), "maxNumConditions": 2}
    return {
        "field": field,
        "headerName": header,
        "width": 120,
        "cellDataType": "text",
        "filter": "agTextColumnFilter",
        "filterParams": params,
        "tooltipField": field,
        **more,
    }


def number(field: str, header: str, digits: int | None = None, *, signed: bool = False, **more: Any) -> Column:
    """A column of numbers with so many digits behind the point, None for as many as tell it from others."""
    shown = f"laser.number(params.value, {'null' if digits is None else digits}, {str(signed).lower()})"
    params = {"filterOptions": list(NUMBER_FILTERS), "maxNumConditions": 2}
    return {
        "field": field,
        "headerName": header,
        "width": 96,
        "cellDataType": "number",
        "filter": "agNumberColumnFilter",
        "filterParams": params,
        "type": "rightAligned",
        "valueFormatter": {"function": shown},
        **more,
    }


def with_error(field: str, error: str, header: str, digits: int, **more: Any) -> Column:
    """A column of numbers, each with its standard error, which the rows have as `error`."""
    shown = f"laser.withError(params.value, params.data && params.data.{error}, {digits})"
    return {**number(field, header, digits, width=120, **more), "valueFormatter": {"function": shown}}


def p_value(field: str, header: str, **more: Any) -> Column:
    """A column of probabilities, of which the small ones matter."""
    return {**number(field, header, **more), "valueFormatter": {"function": "laser.chance(params.value)"}}


def linked(column: Column, href: str, by: str = "") -> Column:
    """A column whose values are links: to `href` with the value of column `by` appended, by default its own."""
    return {**column, "cellRenderer": "LaserLink", "cellRendererParams": {"href": href, "by": by or column["field"]}}


def badges(column: Column) -> Column:
    """A column of a few words that are told apart by colour as well."""
    return {**column, "cellRenderer": "LaserBadge"}


def filtering(column: Column, view: View) -> Column:
    """A column whose values filter when they are clicked, unless it is filtered already."""
    name = column["field"]
    if getattr(view.filters, name):
        return column
    return linked(column, view.open(name), by=name)


def table(
    name: str,
    columns: Sequence[Column],
    rows: Sequence[Row] | None,
    view: View,
    label: str,
    *,
    key: str,
    count: int = 0,
    selectable: bool = False,
) -> tuple[Component, list[str]]:
    """A table of `rows`, known by their `key`, sorted and filtered as the view says, and what is wrong with that.

    Without `rows` it has `count` of them, which it asks for as it is scrolled.
    """
    sort, wrong_sort = sorting(view, columns)
    model, wrong_filters = column_filters(view, columns)
    definitions = [
        {**column, "sort": ("desc" if sort[1] else "asc") if sort and column["field"] == sort[0] else None}
        for column in columns
    ]
    length = count if rows is None else len(rows)
    height = _HEAD + _ROW * min(max(length, 1), _LONGEST) + 18
    options: dict[str, Any] = {
        "rowHeight": _ROW,
        "headerHeight": _HEAD - 4,
        "animateRows": False,
        "tooltipShowDelay": 400,
        "enableCellTextSelection": True,
        "suppressDragLeaveHidesColumns": True,
        "localeText": {"noRowsToShow": "no rows"},
        "theme": {"function": "laser.theme(theme)"},
    }
    if selectable:
        options["rowSelection"] = {"mode": "multiRow", "headerCheckbox": False, "enableClickSelection": False}
        options["selectionColumnDef"] = {"pinned": "left"}
    if rows is None:
        options |= {"cacheBlockSize": 100, "maxBlocksInCache": 20, "infiniteInitialRowCount": count}
    grid = dag.AgGrid(
        columnDefs=definitions,
        defaultColDef={"sortable": True, "resizable": True, "suppressHeaderMenuButton": False, "minWidth": 60},
        rowModelType="clientSide" if rows is not None else "infinite",
        getRowId=f"params.data.{key}",
        dashGridOptions=options,
        filterModel=model,
        columnSize="autoSize" if rows else None,
        eventListeners={
            "cellKeyDown": ["laser.follow(params)"],
            "sortChanged": ["laser.remember(params)"],
            "filterChanged": ["laser.remember(params)"],
        },
        className="grid",
        style={"height": f"min({height}px, 78vh)"},
        **({} if rows is None else {"rowData": list(rows)}),
    )
    region = html.Div(live(name, grid, kind="table"), role="region", **aria(label=label))
    return region, [*wrong_sort, *wrong_filters]


def sorting(view: View, columns: Sequence[Column]) -> tuple[tuple[str, bool] | None, list[str]]:
    """(column, whether the largest comes first) of a view, None where it says nothing, and what is wrong with it."""
    name = view.sort.removeprefix("-")
    if not name:
        return None, []
    if name not in {column["field"] for column in columns}:
        return None, [f"sort={view.sort}: this table has no column {name}"]
    return (name, view.sort.startswith("-")), []


def column_filters(view: View, columns: Sequence[Column]) -> tuple[dict[str, Any], list[str]]:
    """The filters inside a table, as ag-grid has them, and what is wrong with them."""
    if not view.columns:
        return {}, []
    try:
        model = json.loads(view.columns)
    except (ValueError, RecursionError):
        model = None
    if not isinstance(model, dict):
        return {}, ["columns= is not what a table writes there; it is left out"]
    kinds = {column["field"]: column["cellDataType"] for column in columns}
    kept, wrong = {}, []
    for name, condition in model.items():
        if name in kinds and _is_condition(condition, kinds[name]):
            kept[name] = condition
        else:
            wrong.append(f"columns=: the filter of column {name[:40]} cannot be read; it is left out")
    return kept, wrong


def _is_condition(condition: Any, kind: str, *, nested: bool = False) -> bool:
    if not isinstance(condition, Mapping) or condition.get("filterType") != kind:
        return False
    if "conditions" in condition:
        conditions = condition["conditions"]
        joined = (
            condition.get("operator") in ("AND", "OR") and isinstance(conditions, list) and 0 < len(conditions) <= 2
        )
        return joined and not nested and all(_is_condition(one, kind, nested=True) for one in conditions)
    operation = condition.get("type")
    if operation not in (TEXT_FILTERS if kind == "text" else NUMBER_FILTERS):
        return False
    if operation in ("blank", "notBlank"):
        return True
    wanted = str if kind == "text" else (int, float)
    names = ("filter", "filterTo") if operation == "inRange" else ("filter",)
    return all(isinstance(condition.get(name), wanted) and not isinstance(condition.get(name), bool) for name in names)
