"""How far each sweep has come: what its configuration asked for, and what of it is stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from laser_sweep.analysis.comparisons import edits_of, ranked
from laser_sweep.dashboard.filters import Mask
from laser_sweep.figures.cells import layer_text
from laser_sweep.figures.words import options_of, rho_text
from laser_sweep.store.stored import read_config

Cell: TypeAlias = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""τ, ℓ and ρ as text, and the values of swept options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One model on one data set in one sweep.

    `done` and `failed` count its trials, on all splits. `missing` counts the cells of the grids that it asked for which
    nothing in the store has, None where a search chooses the trials. With `at_least` there may be more until the sweep
    has ended: the store does not say how many layers a model has, only in which ones trials were seen.
    `best` is the row with the best val accuracy, on most examples where there are several numbers of them, and
    `confirmed` the row of the same edits on test; None where there is none.
    """

    sweep: str
    model: str
    dataset: str
    searches: tuple[str, ...]
    done: int
    failed: int
    missing: int | None
    at_least: bool
    best: pd.Series[Any] | None
    confirmed: pd.Series[Any] | None
    last: pd.Timestamp


def progress(trials: pd.DataFrame, shown: Mask) -> list[Progress]:
    """Of each sweep that has trials among those `shown`, which has had a result last first.

    All `trials` of the store count for what is missing: a trial that an earlier sweep stored is not run again.
    """
    models = {str(name): _Model(rows) for name, rows in trials.groupby("model_revision", sort=False)}
    of = ["sweep", "model", "dataset"]
    ended = {name for name, rows in trials.groupby(of, sort=False) if _has_ended(rows)}
    found = []
    for (sweep, model, dataset), rows in trials[shown].groupby(of, sort=False):
        configs = [config for config in map(read_config, rows["config_json"].unique()) if config]
        missing, at_least = _missing(rows, configs, models)
        at_least &= (sweep, model, dataset) not in ended
        best = _best(rows)
        found.append(
            Progress(
                sweep=str(sweep),
                model=str(model),
                dataset=str(dataset),
                searches=tuple(dict.fromkeys(_search(config) for config in configs)),
                done=int(rows["status"].eq("done").sum()),
                failed=int(rows["status"].eq("failed").sum()),
                missing=missing,
                at_least=at_least,
                best=best,
                confirmed=None if best is None else _confirmed(rows, best),
                last=rows["finished_at"].max(),
            )
        )
    return sorted(found, key=lambda one: one.last, reverse=True)


class _Model:
    """What the store knows of a model: the τ and layers that it was edited in, and every cell that is stored."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        matrices = rows.dropna(subset=["tau", "layer"])
        groups = ("attn", "mlp", "all")
        self.taus = [str(tau) for tau in matrices["tau"].unique() if tau not in groups]
        self.layers = int(matrices["layer"].max()) + 1 if len(matrices) else 1

    def cells(
        self, dataset: str, split: str, limit: int | None, intervention: str, options: Sequence[str]
    ) -> set[Cell]:
        rows = self._rows
        rows = rows[
            rows["dataset"].eq(dataset)
            & rows["split"].eq(split)
            & (rows["limit"].isna() if limit is None else rows["limit"].isna() | rows["limit"].eq(limit))
            & rows["intervention"].eq(intervention)
            & rows["tau"].notna()
        ]
        return {
            (tau, layer_text(layer), rho_text(rho), _chosen(options_of(edits), options) if options else ())
            for tau, layer, rho, edits in zip(rows["tau"], rows["layer"], rows["rho"], rows["edits"], strict=True)
        }


def _missing(
    rows: pd.DataFrame, configs: Iterable[Mapping[str, Any]], models: Mapping[str, _Model]
) -> tuple[int | None, bool]:
    dataset = str(rows["dataset"].iloc[0])  # of a guard, whose data set no grid is on, every trial was chosen
    grids = [one for one in configs if _search(one) == "grid" and (one.get("dataset") or {}).get("name") == dataset]
    if not grids:
        return None, False
    missing: set[tuple[object, ...]] = set()
    at_least = False
    model = models[str(rows["model_revision"].iloc[0])]
    for config in grids:
        evaluation = config.get("evaluation") or {}
        intervention = config.get("intervention") or {}
        if intervention.get("method") == "none":
            continue
        swept = [name for name, value in (intervention.get("options") or {}).items() if isinstance(value, list)]
        at_least |= "each" in (*_listed(config.get("tau")), *_listed(config.get("layer")))
        for split in ("val", "test") if evaluation.get("split") == "all" else ("val",):
            limit = evaluation.get("limit" if split == "val" else "test_limit")
            there = model.cells(dataset, split, limit, str(intervention.get("name")), swept)
            asked = set(_asked(config, model, swept))
            missing |= {(split, limit, intervention.get("name"), *cell) for cell in asked - there}
    return len(missing), at_least


def _asked(config: Mapping[str, Any], model: _Model, swept: Sequence[str]) -> Iterator[Cell]:
    """The cells of the grid of a configuration."""
    intervention = config["intervention"]
    options = intervention.get("options") or {}
    zero = intervention.get("method") == "zero"
    taus = [tau for asked in _listed(config.get("tau")) for tau in (model.taus if asked == "each" else [str(asked)])]
    layers = [layer for asked in _listed(config.get("layer")) for layer in _layers(asked, model.layers)]
    rhos = [0.0] if zero else [float(rho) for rho in _listed(config.get("rho"))]
    chosen = [
        tuple(zip(swept, map(str, values), strict=True))
        for values in itertools.product(*(options[name] for name in swept))
    ]
    for tau, layer, rho, values in itertools.product(dict.fromkeys(taus), dict.fromkeys(layers), rhos, chosen):
        if _changes(intervention, rho, {**options, **dict(values)}):
            yield tau, layer, rho_text(rho), values


def _changes(intervention: Mapping[str, Any], rho: float, options: Mapping[str, Any]) -> bool:
    """Whether a sweep runs such an edit: one that leaves the model as it is is none."""
    if intervention.get("method") == "removed":
        return rho != 0
    return rho != 1 or intervention.get("method") == "zero" or options.get("allocation", "fraction") != "fraction"


def _layers(asked: object, count: int) -> list[str]:
    if asked == "each":
        return [str(layer) for layer in range(count)]
    if asked == "all":
        return ["all"]
    return [str(count - 1 if asked == "last" else int(str(asked)) % count)]


def _chosen(options: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(options.get(name))) for name in names)


def _has_ended(rows: pd.DataFrame) -> bool:
    """A sweep measures its winner on test when all else is done."""
    last = rows.groupby("split")["finished_at"].max()
    return "test" in last and ("val" not in last or bool(last["test"] >= last["val"]))


def _best(rows: pd.DataFrame) -> pd.Series[Any] | None:
    val = rows[rows["split"].eq("val") & rows["status"].eq("done")]
    most = val[val["num_examples"].eq(val["num_examples"].max())]
    order = ranked(most)
    return None if order.empty else order.iloc[0]


def _confirmed(rows: pd.DataFrame, best: pd.Series[Any]) -> pd.Series[Any] | None:
    test = rows[rows["split"].eq("test") & rows["status"].eq("done")]
    edits = edits_of(best)
    same = test[[edits_of(row) == edits for _, row in test.iterrows()]]
    return None if same.empty else same.sort_values("num_examples").iloc[-1]


def _search(config: Mapping[str, Any]) -> str:
    search = config.get("search")
    return str(search.get("name")) if isinstance(search, dict) else "grid"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
