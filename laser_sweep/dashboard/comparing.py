"""Trials side by side: what differs between them, and on which examples they disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from laser_sweep.analysis.multiplicity import adjusted_p_values
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.store.pairs import Pair, Pairs
from laser_sweep.store.stored import leaves, read_config

_LABELS = (
    "sweep",
    "model",
    "model_revision",
    "dtype",
    "dataset",
    "split",
    "limit",
    "intervention",
    "tau",
    "layer",
    "rho",
    "parameters",
    "worker",
    "device",
    "attempt",
)


class LivePairs(Pairs):
    """Pairs trials of a store that is followed, whose predictions are read one trial at a time."""

    def __init__(self, store: LiveStore) -> None:
        super().__init__(store.root)
        self._live = store

    def answers(self, key: str) -> pd.DataFrame:
        return self._live.predictions(key)


@dataclass(frozen=True, slots=True)
class Against:
    """One trial against another: how they pair, or why not, and the p-value corrected (Holm) for all of them."""

    pair: Pair | str
    p_value: float | None = None


def against_first(rows: Sequence[pd.Series[Any]], store: LiveStore) -> list[Against]:
    """Every other trial against the first, on the examples that both were asked."""
    pairs = LivePairs(store)
    found = [pairs.pair(rows[0], row) for row in rows[1:]]
    corrected = iter(adjusted_p_values([pair.gain.p_value for pair in found if isinstance(pair, Pair)]).tolist())
    return [Against(pair, next(corrected)) if isinstance(pair, Pair) else Against(pair) for pair in found]


def settings(row: pd.Series[Any]) -> dict[str, str]:
    """All that a trial was, by name: its own labels, then what its configuration says."""
    found = {name: _text(row[name]) for name in _LABELS}
    config = leaves(read_config(row["config_json"]))
    return found | {
        f"config {name}": value if isinstance(value, str) else json.dumps(value) for name, value in config.items()
    }


def differing(trials: Sequence[Mapping[str, str]], *, everything: bool = False) -> dict[str, tuple[str, ...]]:
    """Each setting with its value in every trial, of those in which not all are alike, or of all."""
    names = dict.fromkeys(name for one in trials for name in one)
    values = {name: tuple(one.get(name, "") for one in trials) for name in names}
    return {name: found for name, found in values.items() if everything or len(set(found)) > 1}


def side_by_side(predictions: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What each trial said to the examples that all of them were asked.

    Columns: `example_id`, `gold`, `subject`, `relation`, `right` (how many are), and for trial number i `said_i`,
    `right_i`, `log_prob_i` (of the gold answer, nats).
    """
    joined = predictions[0][["example_id", "gold", "subject", "relation"]].assign(**_answers(predictions[0], 0))
    for number, table in enumerate(predictions[1:], start=1):
        answers = table[["example_id", "gold"]].assign(**_answers(table, number))
        joined = joined.merge(answers, on=["example_id", "gold"], validate="one_to_one")
    return joined.assign(right=joined[[f"right_{number}" for number in range(len(predictions))]].sum(axis=1))


def episodes_side_by_side(predictions: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What each trial got in the episodes that all of them played.

    Columns: `example_id`, `gold` (the target), and for trial number i `return_i` and `length_i`.
    """
    joined = predictions[0][["example_id", "gold"]]
    for number, table in enumerate(predictions):
        names = {"episode_return": f"return_{number}", "episode_length": f"length_{number}"}
        played = table[["example_id", "gold", *names]].rename(columns=names)
        joined = joined.merge(played, on=["example_id", "gold"], validate="one_to_one")
    return joined


def disagreements(joined: pd.DataFrame, number: int) -> pd.DataFrame:
    """The rows of `side_by_side` of `number` trials where one is right and another wrong."""
    return joined[joined["right"].between(1, number - 1)]


def _answers(table: pd.DataFrame, number: int) -> dict[str, pd.Series[Any]]:
    return {
        f"said_{number}": table["prediction"],
        f"right_{number}": table["correct"].astype(bool),
        f"log_prob_{number}": table["gold_log_prob"],
    }


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
