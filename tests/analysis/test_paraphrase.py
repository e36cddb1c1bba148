"""Groups of examples that ask the same in other words, against a loop over groups and pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from laser_sweep.analysis.flips import flips
from laser_sweep.analysis.paraphrase import paraphrases

MakePredictions = Callable[..., pd.DataFrame]
words = st.sampled_from(["the", "Rome", "Oslo"])
rows = st.lists(st.tuples(st.sampled_from(["f", "g", "h", "i", None]), words, words), min_size=1, max_size=24)


@given(rows=rows)
def test_groups_are_counted_as_by_a_loop_over_them(
    rows: list[tuple[str | None, str, str]], make_predictions: MakePredictions
) -> None:
    """All ask for Rome."""
    names, before, after = (list(column) for column in zip(*rows, strict=True))
    gold = ["Rome"] * len(rows)
    table = flips(make_predictions(after, gold, group=names), make_predictions(before, gold, group=names))
    groups = [[row for row in rows if row[0] == name] for name in sorted({name for name in names if name})]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        with pytest.raises(ValueError, match="no two examples are of one group"):
            paraphrases(table)
        return
    found = paraphrases(table)
    assert (found.groups, found.examples) == (len(groups), sum(map(len, groups)))
    was, now = ([all(row[column] == "Rome" for row in group) for group in groups] for column in (1, 2))
    assert found.wholly_right_before == pytest.approx(np.mean(was))
    assert found.wholly_right_after == pytest.approx(np.mean(now))
    became = sum(b and not a for a, b in zip(was, now, strict=True))
    lost = sum(a and not b for a, b in zip(was, now, strict=True))
    assert (found.wholly_right.wins, found.wholly_right.losses) == (became, lost)
    expected_p = binomtest(became, became + lost).pvalue if became + lost else 1.0
    assert found.wholly_right.p_value == pytest.approx(expected_p)
    agreed = [
        [np.mean([a[column] == b[column] for a, b in itertools.combinations(group, 2)]) for group in groups]
        for column in (1, 2)
    ]
    assert (found.agreement_before, found.agreement_after) == pytest.approx(tuple(map(np.mean, agreed)))
    change = np.subtract(*reversed(agreed))
    if len(groups) > 1:
        assert found.agreement_stderr == pytest.approx(np.std(change, ddof=1) / math.sqrt(len(groups)))
    else:
        assert math.isnan(found.agreement_stderr)
    rose, fell = int((change > 0).sum()), int((change < 0).sum())
    expected_p = binomtest(rose, rose + fell).pvalue if rose + fell else 1.0
    assert found.agreement_p_value == pytest.approx(expected_p)


def test_one_wrong_answer_to_everything_agrees_with_itself_and_is_never_wholly_right(
    make_predictions: MakePredictions,
) -> None:
    gold = ["Rome", "Rome", "Oslo", "Oslo"]
    group = ["r", "r", "o", "o"]
    before, after = make_predictions(["the"] * 4, gold, group=group), make_predictions(gold, gold, group=group)
    found = paraphrases(flips(after, before))
    assert (found.agreement_before, found.agreement_after) == (1, 1)
    assert (found.wholly_right_before, found.wholly_right_after) == (0, 1)


def test_a_data_set_without_groups_is_said(make_predictions: MakePredictions) -> None:
    one = make_predictions(["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match=r"no two examples are of one group: .* `group` of the data set"):
        paraphrases(flips(one, one))
