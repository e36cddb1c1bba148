"""Which answers an edit changes: the same examples asked before and after it."""

from __future__ import annotations

import numpy as np
import pandas as pd

OUTCOMES = ("flipped to right", "flipped to wrong", "right in both", "wrong in both")
_KEPT = ("group", "subject", "relation", "frequency")


def flips(edited: pd.DataFrame, untouched: pd.DataFrame) -> pd.DataFrame:
    """One row for each example of two trials' predictions, in the order of `edited`.

    Columns: `example_id`, `gold`, `before` and `after` (the answers), `outcome` (one of OUTCOMES),
    `gold_log_prob_before` and `gold_log_prob_after` (nats), and the data set's own `group`, `subject`, `relation` and
    `frequency`.

    Raises ValueError where the two were not asked the same examples.
    """
    before = _aligned(untouched, edited)
    was_right, is_right = before["correct"].to_numpy(bool), edited["correct"].to_numpy(bool)
    changed, unchanged = np.where(is_right, *OUTCOMES[:2]), np.where(is_right, *OUTCOMES[2:])
    return pd.DataFrame(
        {
            "example_id": edited["example_id"].to_numpy(),
            "gold": edited["gold"].to_numpy(),
            "before": before["prediction"].to_numpy(),
            "after": edited["prediction"].to_numpy(),
            "outcome": np.where(was_right != is_right, changed, unchanged),
            "gold_log_prob_before": before["gold_log_prob"].to_numpy(),
            "gold_log_prob_after": edited["gold_log_prob"].to_numpy(),
            **{name: edited[name].to_numpy() for name in _KEPT},
        }
    )


def flip_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many rows of `flips` there are of each outcome, those that do not occur among them."""
    found = table["outcome"].value_counts()
    return {outcome: int(found.get(outcome, 0)) for outcome in OUTCOMES}


def right_before(table: pd.DataFrame) -> pd.Series[bool]:
    """Which examples of `flips` the untouched model got right."""
    return table["outcome"].isin(["right in both", "flipped to wrong"])


def right_after(table: pd.DataFrame) -> pd.Series[bool]:
    """Which examples of `flips` the edited model got right."""
    return table["outcome"].isin(["right in both", "flipped to right"])


def _aligned(predictions: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """`predictions` in the order of `others`."""
    for frame in (predictions, others):
        if frame.empty:
            raise ValueError("no predictions: an answer can only be held against another one")
        twice = frame["example_id"][frame["example_id"].duplicated()]
        if not twice.empty:
            raise ValueError(f"example {twice.iloc[0]} stands twice in the predictions: give those of one trial")
    ids, wanted = set(predictions["example_id"]), set(others["example_id"])
    if ids != wanted:
        lonely = min(ids ^ wanted, key=lambda one: (len(one), one))
        raise ValueError(
            f"the trials were not asked the same examples: {len(wanted):,} and {len(ids):,}, {len(ids & wanted):,} of "
            f"them the same; example {lonely} was asked in one of them only"
        )
    aligned = predictions.set_index("example_id").loc[others["example_id"]].reset_index()
    # Examples are numbered in every data set, so that their numbers alone do not show that they are the same.
    differs = aligned["gold"].to_numpy() != others["gold"].to_numpy()
    if differs.any():
        place = int(differs.argmax())
        raise ValueError(
            f"the trials were not asked the same examples: the answer to {others['example_id'].iloc[place]} is "
            f"{others['gold'].iloc[place]!r} in one and {aligned['gold'].iloc[place]!r} in the other"
        )
    return aligned
