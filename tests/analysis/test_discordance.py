"""How many answers changed, found again from a gain and a p-value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from laser_sweep.analysis.discordance import changed_answers, gain_stderr

from ..measured import done, failed, right, rows, trial


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    """Examples, wins b and losses c with |b - c| >= 2."""
    n = draw(st.integers(2, 700))
    b = draw(st.integers(0, n))
    c = draw(st.integers(0, n - b).filter(lambda c: abs(b - c) >= 2))
    return n, b, c


@given(st.lists(tables(), min_size=1, max_size=5))
def test_wins_and_losses_are_found_again(found: list[tuple[int, int, int]]) -> None:
    gains = [(b - c) / n for n, b, c in found]
    p_values = [binomtest(b, b + c).pvalue for _, b, c in found]
    assert changed_answers(gains, p_values, [n for n, _, _ in found]).tolist() == [b + c for _, b, c in found]


@pytest.mark.parametrize("difference", [-1, 0, 1])
def test_a_difference_of_less_than_two_examples_tells_nothing(difference: int) -> None:
    """Its p-value is 1 whatever happened."""
    assert binomtest(10, 20).pvalue == binomtest(10, 21).pvalue == binomtest(1, 1).pvalue == 1
    assert np.isnan(changed_answers(difference / 50, 1.0, 50))


def test_a_p_value_that_underflowed_stands_for_the_most_changes_there_can_be() -> None:
    assert changed_answers(1500 / 1600, 0.0, 1600) == 1600


def test_the_standard_error_of_a_gain_is_that_of_paired_differences(tmp_path: Path) -> None:
    untouched = right(50)
    better = right(62)  # wins 12
    mixed = right(50) ^ (np.arange(100) % 10 == 3)  # 5 lost below 50, 5 won above
    mixed[99] = mixed[98] = mixed[97] = True
    table = rows(
        tmp_path,
        [
            done(trial(), untouched),
            *(
                done(trial(("fc_in", layer, 0.1)), correct, untouched)
                for layer, correct in enumerate((better, mixed, right(51)))
            ),
            failed(trial(("fc_in", 3, 0.1))),
        ],
    ).set_index("layer")
    found = gain_stderr(table)
    for layer, correct in ((0, better), (1, mixed)):
        differences = correct.astype(float) - untouched
        assert found.loc[layer] == pytest.approx(differences.std() / math.sqrt(len(differences)))
    assert found.loc[2] == math.inf  # one more right: the row does not tell how many changed
    assert math.isnan(found.loc[3])
    assert found[table.index.isna()].tolist() == table.loc[table.index.isna(), "accuracy_stderr"].tolist()
