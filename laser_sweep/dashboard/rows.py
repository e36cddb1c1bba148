"""Trials as they stand on a screen: percentages and points, and what of them a table asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from laser_sweep.dashboard.tables import Row
from laser_sweep.figures.words import place_text

_COPIED = ("trial_key", "sweep", "model", "dataset", "split", "intervention", "tau", "status", "num_examples")
_NAMES = {"gain_p_value": "p_value", "log_loss": "log_loss", "parameters": "parameters", "error": "error"}
_PERCENT = ("accuracy", "accuracy_stderr")
_EPISODES = ("mean_return", "return_stderr", "action_error")


def on_screen(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of `trials` with columns as tables show them; the index stays."""
    frame = trials[[*_COPIED, *_NAMES]].rename(columns=_NAMES)
    for name in _PERCENT:
        frame[name] = 100 * trials[name].astype(float)
    for name in _EPISODES:
        frame[name] = trials[name].astype(float)
    frame["gain"] = trials["gain"].astype(float) * trials["mean_return"].isna().map({True: 100.0, False: 1.0})
    frame["layer"] = trials["layer"].astype(float)
    frame["rho"] = trials["rho"].astype(float)
    frame["seconds"] = trials[["seconds_factor", "seconds_edit", "seconds_eval"]].astype(float).sum(axis=1)
    frame["finished"] = trials["finished_at"]
    return frame


def asked_for(frame: pd.DataFrame, request: Mapping[str, Any]) -> tuple[pd.DataFrame, int]:
    """The rows that ag-grid's infinite row model asks for, and how many there are after its filters.

    `request` has startRow, endRow, sortModel and filterModel.
    """
    for name, condition in (request.get("filterModel") or {}).items():
        if name in frame:
            frame = frame[_passes(frame[name], condition)]
    order = [one for one in request.get("sortModel") or () if one.get("colId") in frame]
    if order:
        frame = frame.sort_values(
            [one["colId"] for one in order], ascending=[one["sort"] == "asc" for one in order], kind="stable"
        )
    start, end = int(request.get("startRow") or 0), int(request.get("endRow") or 100)
    return frame.iloc[start:end], len(frame)


def records(frame: pd.DataFrame, trials: pd.DataFrame) -> list[Row]:
    """Rows of `on_screen` for JSON; `trials` has the same rows of the store, by the same index."""
    shown = frame.assign(
        finished=frame["finished"].dt.strftime("%Y-%m-%d %H:%M:%S"),
        place=[place_text(trials.loc[at]) for at in frame.index],
    )
    whole_layers = shown["layer"].isna() & shown["tau"].notna()
    table = shown.astype(object).where(shown.notna(), None)
    table["layer"] = [
        "all" if whole else None if layer is None else int(layer)
        for whole, layer in zip(whole_layers, table["layer"], strict=True)
    ]
    return plain_rows(table)


def plain_rows(table: pd.DataFrame) -> list[Row]:
    """The rows of a table for JSON, None where there is no value."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _passes(values: pd.Series[Any], condition: Mapping[str, Any]) -> pd.Series[bool]:
    if "conditions" in condition:
        passing = [_passes(values, one) for one in condition["conditions"]]
        join = np.logical_and if condition["operator"] == "AND" else np.logical_or
        joined: Any = join.reduce([one.to_numpy() for one in passing])
        return pd.Series(joined, index=values.index)
    operation = condition["type"]
    blank: pd.Series[bool] = values.isna() | values.eq("")
    if operation in ("blank", "notBlank"):
        return blank if operation == "blank" else ~blank
    if condition["filterType"] == "text":
        return _text_passes(values.fillna("").astype("str").str.lower(), operation, str(condition["filter"]).lower())
    wanted = float(condition["filter"])
    if operation == "inRange":
        return values.gt(wanted) & values.lt(float(condition["filterTo"]))
    comparison = {
        "equals": values.eq,
        "notEqual": values.ne,
        "greaterThan": values.gt,
        "greaterThanOrEqual": values.ge,
        "lessThan": values.lt,
        "lessThanOrEqual": values.le,
    }[operation]
    return comparison(wanted)


def _text_passes(values: pd.Series[str], operation: str, wanted: str) -> pd.Series[bool]:
    negative = operation in ("notContains", "notEqual")
    passing: Any
    if operation in ("contains", "notContains"):
        passing = values.str.contains(wanted, regex=False)
    elif operation in ("equals", "notEqual"):
        passing = values.eq(wanted)
    else:
        passing = values.str.startswith(wanted) if operation == "startsWith" else values.str.endswith(wanted)
    found: pd.Series[bool] = ~passing if negative else passing
    return found
