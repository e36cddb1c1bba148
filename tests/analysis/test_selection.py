"""Which trial wins."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.selection import ranked
from laser_sweep.trial import Edit, Evaluation, Matrix, Metrics, ModelId, Trial, TrialResult


def result(layer: int | None, accuracy: float, log_loss: float) -> TrialResult:
    """A finished trial that edits a layer, or none."""
    edits = () if layer is None else (Edit(matrix=Matrix("fc_in", layer), rho=0.1),)
    trial = Trial(
        model=ModelId(name="m", repo="m", revision="1", dtype="float32"),
        edits=edits,
        evaluation=Evaluation(dataset="d", revision="1", split="val"),
    )
    metrics = Metrics(num_examples=4, accuracy=accuracy, accuracy_stderr=0.1, log_loss=log_loss)
    return TrialResult(trial=trial, status="done", metrics=metrics)


def layers(results: list[TrialResult]) -> list[int | None]:
    return [r.trial.edits[0].matrix.layer if r.trial.edits else None for r in results]


def test_the_most_accurate_trial_comes_first() -> None:
    assert layers(ranked([result(0, 0.5, 0.1), result(1, 0.75, 9.0), result(2, 0.25, 0.0)])) == [1, 0, 2]


def test_equal_accuracy_is_decided_by_lower_log_loss() -> None:
    assert layers(ranked([result(0, 0.5, 0.3), result(1, 0.5, 0.1), result(2, 0.5, 0.2)])) == [1, 2, 0]


def test_an_edit_must_be_better_than_the_untouched_model_to_win() -> None:
    tied = [result(0, 0.5, 0.25), result(None, 0.5, 0.25), result(1, 0.5, 0.25)]
    for order in permutations(tied):
        assert layers(ranked(order))[0] is None


def test_the_untouched_model_loses_to_a_lower_log_loss() -> None:
    assert layers(ranked([result(None, 0.5, 0.25), result(3, 0.5, 0.125)])) == [3, None]


def test_failed_trials_take_no_part() -> None:
    done = result(0, 0.0, 9.0)
    failed = TrialResult(trial=result(1, 1.0, 0.0).trial, status="failed", error="out of memory")
    assert ranked([failed, done]) == [done]
    assert ranked([failed]) == []


figures = st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from([0.5, 1.0])), max_size=6)


@given(figures=figures, data=st.data())
def test_the_order_does_not_depend_on_who_finished_first(
    figures: list[tuple[float, float]], data: st.DataObject
) -> None:
    results = [result(layer or None, *pair) for layer, pair in enumerate(figures)]
    shuffled = data.draw(st.permutations(results))
    assert layers(ranked(shuffled)) == layers(ranked(results))
    places = [(-r.measured().accuracy, r.measured().log_loss) for r in ranked(shuffled)]
    assert places == sorted(places)
