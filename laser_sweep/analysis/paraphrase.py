"""Robustness to paraphrase: what becomes of examples that ask for the same fact in other words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from laser_sweep.analysis.flips import right_after, right_before
from laser_sweep.analysis.statistics import PairedGain, mcnemar, paired_gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Paraphrases:
    """What an edit does to `groups` groups of examples that ask the same, `examples` in all.

    `wholly_right` compares which groups have all examples right, edited against untouched: its `wins` are the groups
    that became wholly right, its `losses` those that were and are no more, its test is exact McNemar over groups.

    The agreement of a group is the share of its pairs of examples that got the same answer, right or wrong: a model
    that says one word whatever is asked agrees with itself. `agreement_before` and `agreement_after` are means over
    groups, `agreement_stderr` is the standard error of their difference, and `agreement_p_value` that of the sign test
    over groups.
    """

    groups: int
    examples: int
    wholly_right_before: float
    wholly_right_after: float
    wholly_right: PairedGain
    agreement_before: float
    agreement_after: float
    agreement_stderr: float
    agreement_p_value: float


def paraphrases(table: pd.DataFrame) -> Paraphrases:
    """Compares the groups of a table of `flips`, as far as they are in it; an example without others is left out.

    Raises ValueError where no two examples are of one group.
    """
    sizes = table.groupby("group")["group"].transform("size")
    rows = table[sizes.gt(1)]
    if rows.empty:
        raise ValueError(
            "no two examples are of one group: paraphrases of a question share the `group` of the data set"
        )
    whole = pd.DataFrame({"before": right_before(rows), "after": right_after(rows)}).groupby(rows["group"]).all()
    agreement = rows.groupby("group")[["before", "after"]].agg(_agreement)
    change = (agreement["after"] - agreement["before"]).to_numpy(float)
    groups = len(whole)
    return Paraphrases(
        groups=groups,
        examples=len(rows),
        wholly_right_before=float(whole["before"].mean()),
        wholly_right_after=float(whole["after"].mean()),
        wholly_right=paired_gain(whole["after"].to_numpy(bool), whole["before"].to_numpy(bool)),
        agreement_before=float(agreement["before"].mean()),
        agreement_after=float(agreement["after"].mean()),
        agreement_stderr=float(change.std(ddof=1)) / math.sqrt(groups) if groups > 1 else math.nan,
        agreement_p_value=mcnemar(int((change > 0).sum()), int((change < 0).sum())),
    )


def _agreement(answers: pd.Series[str]) -> float:
    """The share of the pairs of answers that are the same."""
    count = len(answers)
    said = answers.value_counts(dropna=False).to_numpy(np.int64)
    return float((said * (said - 1)).sum() / (count * (count - 1)))
