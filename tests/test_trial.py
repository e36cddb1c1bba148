from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.trial import Edit, Evaluation, Footprint, Matrix, Metrics, ModelId, Trial, TrialResult

TEXT = st.text(max_size=8)
EDITS = st.builds(
    Edit,
    matrix=st.builds(Matrix, tau=st.sampled_from(("fc_in", "q_proj", "out_proj")), layer=st.integers(0, 31)),
    rho=st.floats(0.001, 1),
    method=st.sampled_from(("laser", "prune")),
)
MODELS = st.builds(ModelId, name=TEXT, repo=TEXT, revision=TEXT, dtype=st.sampled_from(("float32", "float16")))
EVALUATIONS = st.builds(
    Evaluation,
    dataset=TEXT,
    revision=TEXT,
    split=st.sampled_from(("val", "test")),
    limit=st.none() | st.integers(1, 1000),
    seed=st.none() | st.integers(0, 1000),
)
TRIALS = st.builds(
    Trial,
    model=MODELS,
    edits=st.lists(EDITS, max_size=4, unique_by=lambda edit: edit.matrix).map(tuple),
    evaluation=EVALUATIONS,
)


def example(**changes: Any) -> Trial:
    trial = Trial(
        model=ModelId(
            name="gptj",
            repo="EleutherAI/gpt-j-6b",
            revision="f98c709453c9402b1309b032f40df1c10ad481a2",
            dtype="float16",
        ),
        edits=(
            Edit(matrix=Matrix("fc_in", 27), rho=0.01),
            Edit(
                matrix=Matrix("fc_out", 27),
                rho=0.05,
                method="randomized",
                options=(("power_iterations", 2), ("seed", 0)),
            ),
        ),
        evaluation=Evaluation(dataset="fever", revision="00112233aabbccdd", split="val", limit=100, seed=7),
    )
    return dataclasses.replace(trial, **changes)


def test_the_key_of_a_trial_stays_what_stored_results_are_filed_under() -> None:
    assert example().key == "d468f97cf6cd6ae5"
    assert example(edits=()).key == "7640c2e38f2059c6"


@given(trial=TRIALS, name=TEXT, label=TEXT, layer=st.integers(), rho=st.floats(0, 1))
def test_names_and_labels_are_no_part_of_the_key(trial: Trial, name: str, label: str, layer: int, rho: float) -> None:
    renamed = dataclasses.replace(
        trial,
        model=dataclasses.replace(trial.model, name=name),
        evaluation=dataclasses.replace(trial.evaluation, dataset=name),
        intervention=label,
        tau=label,
        layer=layer,
        rho=rho,
    )
    assert renamed.key == trial.key


@given(trial=TRIALS, seed=st.integers())
def test_the_order_of_the_edits_is_no_part_of_the_key(trial: Trial, seed: int) -> None:
    shuffled = random.Random(seed).sample(trial.edits, len(trial.edits))
    assert dataclasses.replace(trial, edits=tuple(shuffled)).key == trial.key


def test_a_whole_number_for_rho_gives_the_key_of_the_float() -> None:
    whole, real = (Edit(matrix=Matrix("fc_in", 0), rho=rho) for rho in (1, 1.0))
    assert example(edits=(whole,)).key == example(edits=(real,)).key


@given(trial=TRIALS, field=st.sampled_from(("repo", "revision", "dtype")), value=TEXT)
def test_every_field_that_tells_models_apart_changes_the_key(trial: Trial, field: str, value: str) -> None:
    other = dataclasses.replace(trial, model=dataclasses.replace(trial.model, **{field: value}))
    assert (other.key == trial.key) == (getattr(trial.model, field) == value)


@given(trial=TRIALS, other=EVALUATIONS, field=st.sampled_from(("revision", "split", "limit", "seed")))
def test_every_field_that_tells_examples_apart_changes_the_key(trial: Trial, other: Evaluation, field: str) -> None:
    changed = dataclasses.replace(trial.evaluation, **{field: getattr(other, field)})
    same = getattr(other, field) == getattr(trial.evaluation, field)
    assert (dataclasses.replace(trial, evaluation=changed).key == trial.key) == same


@pytest.mark.parametrize(
    "change",
    [
        {"matrix": Matrix("fc_out", 3)},
        {"matrix": Matrix("fc_in", 4)},
        {"rho": 0.1 + 1e-12},
        {"method": "prune"},
        {"options": (("seed", 1),)},
    ],
)
def test_every_field_of_an_edit_changes_the_key(change: dict[str, Any]) -> None:
    edit = Edit(matrix=Matrix("fc_in", 3), rho=0.1, options=(("seed", 0),))
    assert example(edits=(dataclasses.replace(edit, **change),)).key != example(edits=(edit,)).key


@given(trial=TRIALS, extra=EDITS)
def test_one_edit_more_changes_the_key(trial: Trial, extra: Edit) -> None:
    assert dataclasses.replace(trial, edits=(*trial.edits, extra)).key != trial.key


@given(trial=TRIALS)
def test_a_key_is_sixteen_hexadecimal_characters(trial: Trial) -> None:
    assert len(trial.key) == 16
    assert set(trial.key) <= set("0123456789abcdef")


@given(trial=TRIALS, other=TRIALS)
def test_labels_do_not_tell_trials_apart(trial: Trial, other: Trial) -> None:
    assert dataclasses.replace(trial, tau="mlp", rho=0.5, layer=3, intervention="x") == trial
    assert (trial == other) == (
        (trial.model, trial.edits, trial.evaluation) == (other.model, other.edits, other.evaluation)
    )


def test_a_trial_without_edits_is_the_untouched_model() -> None:
    assert example(edits=()).untouched
    assert example(edits=()).describe() == "untouched"
    assert not example().untouched


def test_a_trial_is_described_as_it_was_asked_for() -> None:
    assert example(tau="fc_in", layer=27, rho=0.01).describe() == "fc_in[27] rho=0.01"
    assert example(tau="mlp", layer=None, rho=0.0).describe() == "mlp[all] rho=0"


def test_a_failed_result_has_no_metrics_and_says_why() -> None:
    trial = example(tau="fc_in", layer=27, rho=0.01)
    failed = TrialResult(trial=trial, status="failed", error="no memory")
    assert not failed.ok
    with pytest.raises(ValueError, match=rf"{trial.key} \(fc_in\[27\] rho=0.01\) failed: no memory"):
        failed.measured()


def test_a_finished_result_gives_its_metrics() -> None:
    metrics = Metrics(num_examples=2, accuracy=0.5, accuracy_stderr=0.35, log_loss=1.0)
    done = TrialResult(trial=example(), status="done", metrics=metrics)
    assert done.ok
    assert done.measured() is metrics


def test_footprints_are_equal_where_all_of_their_figures_and_blocks_are() -> None:
    blocks = np.array([0, 1, 1], dtype=np.uint16)
    footprint = Footprint(rank=2, parameters=9, row_clusters=blocks)
    assert footprint == Footprint(rank=2, parameters=9, row_clusters=blocks.copy())
    assert hash(footprint) == hash(Footprint(rank=2, parameters=9, row_clusters=blocks.copy()))
    assert footprint != Footprint(rank=2, parameters=9, row_clusters=blocks[::-1])
    assert footprint != Footprint(rank=2, parameters=9, row_clusters=blocks[:2])
    assert footprint != Footprint(rank=2, parameters=9)
    assert footprint != Footprint(rank=1, parameters=9, row_clusters=blocks)
    assert Footprint(rank=2, parameters=9) == Footprint(rank=2, parameters=9) != Footprint(rank=2)
    assert footprint != (2, 9, blocks)


@pytest.mark.parametrize(
    ("parameters", "total"), [((), None), ((0,), 0), ((3, 4), 7), ((3, None), None), ((None,), None)]
)
def test_the_parameters_of_a_result_are_those_of_all_its_edits(
    parameters: tuple[int | None, ...], total: int | None
) -> None:
    made = tuple(Footprint(parameters=each) for each in parameters)
    assert TrialResult(trial=example(), status="done", footprints=made).parameters == total
