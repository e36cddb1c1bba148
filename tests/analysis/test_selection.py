"""Which candidate wins."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.selection import Standing, ranked
from laser_sweep.measures import Objective
from laser_sweep.trial import Edit, Evaluation, Matrix, Metrics, ModelId, Trial, TrialResult

OBJECTIVES: tuple[Objective, ...] = ("accuracy", "log_loss", "mean_accuracy", "mean_log_loss")


def standing(layer: int | None, *figures: tuple[float, float]) -> Standing:
    """A candidate that edits a layer, or none, with (accuracy, log-loss) on each data set."""
    edits = () if layer is None else (Edit(matrix=Matrix("fc_in", layer), rho=0.1),)
    return Standing(
        tuple(
            TrialResult(
                trial=Trial(
                    model=ModelId(name="m", repo="m", revision="1", dtype="float32"),
                    edits=edits,
                    evaluation=Evaluation(dataset=f"d{place}", revision=f"{place}", split="val"),
                ),
                status="done",
                metrics=Metrics(num_examples=4, accuracy=accuracy, accuracy_stderr=0.1, log_loss=log_loss),
            )
            for place, (accuracy, log_loss) in enumerate(figures)
        )
    )


def layers(standings: Sequence[Standing]) -> list[int | None]:
    return [one.trial.edits[0].matrix.layer if one.trial.edits else None for one in standings]


# One data set


def test_the_most_accurate_candidate_comes_first() -> None:
    candidates = [standing(0, (0.5, 0.1)), standing(1, (0.75, 9.0)), standing(2, (0.25, 0.0))]
    assert layers(ranked(candidates, "accuracy")) == layers(ranked(candidates)) == [1, 0, 2]


def test_the_candidate_of_the_lowest_log_loss_comes_first_where_that_decides() -> None:
    candidates = [standing(0, (0.5, 0.1)), standing(1, (0.75, 9.0)), standing(2, (0.25, 0.0))]
    assert layers(ranked(candidates, "log_loss")) == [2, 0, 1]


def test_equal_accuracy_is_decided_by_lower_log_loss() -> None:
    candidates = [standing(0, (0.5, 0.3)), standing(1, (0.5, 0.1)), standing(2, (0.5, 0.2))]
    assert layers(ranked(candidates, "accuracy")) == [1, 2, 0]


def test_equal_log_loss_is_decided_by_higher_accuracy() -> None:
    candidates = [standing(0, (0.25, 0.5)), standing(1, (0.75, 0.5)), standing(2, (0.5, 0.5))]
    assert layers(ranked(candidates, "log_loss")) == [1, 2, 0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_edit_must_be_better_than_the_untouched_model_to_win(objective: Objective) -> None:
    tied = [standing(layer, (0.5, 0.25)) for layer in (*range(20), None)]
    orders = [layers(ranked(order, objective)) for order in (tied, tied[::-1], tied[10:] + tied[:10])]
    assert orders[0][0] is None
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_untouched_model_loses_to_a_lower_log_loss(objective: Objective) -> None:
    assert layers(ranked([standing(None, (0.5, 0.25)), standing(3, (0.5, 0.125))], objective)) == [3, None]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_of_nothing_nothing_is_best(objective: Objective) -> None:
    assert ranked([], objective) == []


# Several data sets


def test_the_mean_over_data_sets_decides_though_another_is_best_on_each() -> None:
    """0.6 and 0.6 beats 0.9 and 0.2, and 0.1 and 0.8, in accuracy; so it is with the log-losses."""
    first, second = standing(0, (0.9, 0.1), (0.2, 2.0)), standing(1, (0.1, 2.0), (0.8, 0.1))
    both = standing(2, (0.6, 0.5), (0.6, 0.5))
    assert layers(ranked([first, second, both], "mean_accuracy")) == [2, 0, 1]
    assert layers(ranked([first, second, both], "mean_log_loss"))[0] == 2


def test_accuracy_and_log_loss_may_choose_differently_over_several_data_sets() -> None:
    accurate, certain = standing(0, (0.75, 1.0), (0.5, 3.0)), standing(1, (0.5, 1.0), (0.5, 1.0))
    assert layers(ranked([accurate, certain], "mean_accuracy")) == [0, 1]
    assert layers(ranked([accurate, certain], "mean_log_loss")) == [1, 0]


def test_equal_means_are_decided_by_the_mean_of_the_other_figure() -> None:
    one, other = standing(0, (0.25, 0.5), (0.75, 1.5)), standing(1, (0.75, 1.0), (0.25, 0.5))
    assert layers(ranked([one, other], "mean_accuracy")) == [1, 0]
    one, other = standing(0, (0.25, 0.5), (0.75, 1.5)), standing(1, (0.5, 1.5), (0.25, 0.5))
    assert layers(ranked([one, other], "mean_log_loss")) == [0, 1]


def test_a_candidate_has_the_mean_of_its_figures_and_is_known_by_its_first_trial() -> None:
    one = standing(3, (0.25, 0.5), (0.75, 2.0), (0.5, 0.5))
    assert (one.score, one.loss) == (0.5, 1.0)
    assert one.trial.evaluation.dataset == "d0"
    assert one.value("mean_accuracy") == (0.5, -1.0)
    assert one.value("mean_log_loss") == (-1.0, 0.5)


def test_a_candidate_that_failed_somewhere_has_no_figures() -> None:
    one = standing(1, (0.5, 0.5), (0.5, 0.5))
    broken = TrialResult(trial=one.results[1].trial, status="failed", error="out of memory")
    with pytest.raises(ValueError, match="out of memory"):
        _ = Standing((one.results[0], broken)).score


eighths = st.integers(0, 8).map(lambda count: count / 8)
figures = st.lists(st.tuples(st.tuples(eighths, eighths), st.tuples(eighths, eighths)), max_size=6)


@given(figures=figures, objective=st.sampled_from(OBJECTIVES), data=st.data())
def test_the_order_is_that_of_exact_means_whoever_finished_first(
    figures: list[tuple[tuple[float, float], tuple[float, float]]], objective: Objective, data: st.DataObject
) -> None:
    candidates = [standing(layer or None, *pair) for layer, pair in enumerate(figures)]
    found = layers(ranked(data.draw(st.permutations(candidates)), objective))
    assert found == layers(ranked(candidates, objective))

    def merit(layer: int | None) -> tuple[Fraction, Fraction, bool]:
        (a, x), (b, y) = figures[layer or 0]
        accuracy, certainty = Fraction(a) + Fraction(b), -Fraction(x) - Fraction(y)
        pair = (accuracy, certainty) if "accuracy" in objective else (certainty, accuracy)
        return (*pair, layer is None)

    merits = [merit(layer) for layer in found]
    assert merits == sorted(merits, reverse=True)
