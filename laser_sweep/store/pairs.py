"""Two stored trials on the same examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from laser_sweep.analysis.statistics import PairedGain, paired_gain
from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_predictions

Row: TypeAlias = "Mapping[str, Any] | pd.Series[Any]"
_ASKED = ["example_id", "gold"]  # a number alone may be of another data set under the same name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What pairing two trials on the `num_examples` that both were asked says.

    `gain` is that of the second over the first. `disagreements` counts the examples to which they gave other answers,
    right or wrong. `alone` is how many examples only the first was asked, and only the second.
    """

    num_examples: int
    gain: PairedGain
    disagreements: int
    alone: tuple[int, int]


class Pairs:
    """Pairs trials of a store; the answers of each are read once."""

    def __init__(self, store: str | Path) -> None:
        self._store = store
        self._answers: dict[str, pd.DataFrame] = {}

    def pair(self, first: Row, second: Row) -> Pair | str:
        """The pair of two rows of trials, or why there is none, in a line."""
        one, other = first["trial_key"], second["trial_key"]
        for name in ("dataset", "split"):
            if first[name] != second[name]:
                return f"{one} was asked {name} {first[name]}, {other} {second[name]}: no example in common"
        answers = self.answers(one), self.answers(other)
        for key, given in zip((one, other), answers, strict=True):
            if given.empty:
                return f"{key} has no stored predictions: it cannot be paired"
        both = answers[0].merge(answers[1], on=_ASKED, suffixes=("_first", "_second"))
        if both.empty:
            return f"{one} and {other} were asked other examples of {first['dataset']} {first['split']}: none in common"
        if both["episode_return_first"].notna().all():
            scores = [both[f"episode_return_{which}"].to_numpy(dtype=np.float64) for which in ("first", "second")]
        else:
            scores = [both[f"correct_{which}"].to_numpy(dtype=np.bool_) for which in ("first", "second")]
        return Pair(
            num_examples=len(both),
            gain=paired_gain(scores[1], scores[0]),
            disagreements=int(both["prediction_first"].ne(both["prediction_second"]).sum()),
            alone=(len(answers[0]) - len(both), len(answers[1]) - len(both)),
        )

    def answers(self, key: str) -> pd.DataFrame:
        """The predictions of a trial, without rows where none are stored."""
        if key not in self._answers:
            try:
                self._answers[key] = read_predictions(self._store, key)
            except RequestError:  # no trial of this store has any
                self._answers[key] = pd.DataFrame()
        return self._answers[key]

    def loss_stderr(self, key: str) -> float | None:
        """Standard error, sd / √n, of the mean of -log p(gold) / length, or of the action error; None where it cannot
        be known."""
        answers = self.answers(key)
        if len(answers) < 2:
            return None
        losses = -answers["gold_log_prob"] / answers["gold_length"]
        losses = answers["action_error"] if losses.isna().all() else losses
        return None if losses.isna().any() else float(losses.std(ddof=1) / np.sqrt(len(losses)))
