"""The three ways of asking a fact are one group, which is right when all three are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Evaluation, Predictions, Trial, TrialResult

from .models import PUBLISHED
from .rows import write_file
from .studies import Study

Run = Callable[..., list[TrialResult]]


def right_records(predictions: Predictions) -> list[bool]:
    """Whether all three are right, of every record with three examples here."""
    records: dict[str, list[bool]] = {}
    for example_id, correct in zip(predictions.example_id, predictions.correct.tolist(), strict=True):
        records.setdefault(example_id.partition("/")[0], []).append(correct)
    return [all(three) for three in records.values() if len(three) == 3]


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_record_counts_where_all_of_it_is_in_the_split(
    family: str, study: Callable[..., Study], task: Callable[..., Task], run: Run
) -> None:
    made = study(family, "counterfact")
    val, test = run(family, task(made), [("val", False), ("test", False)])
    assert val.predictions.group == ("0", "0", "0", "3")  # the cut goes through the second record
    assert test.predictions.group[:3] == ("3", "3", "6")
    assert [len(right_records(result.predictions)) for result in (val, test)] == [1, 6]
    for result in (val, test):
        right = right_records(result.predictions)
        assert result.metrics.group_accuracy == pytest.approx(sum(right) / len(right))
    assert 0 < test.metrics.group_accuracy < 1
    (records,) = made.files.values()
    for place, number in enumerate(test.predictions.group):
        rewrite = records[int(number) // 3]["requested_rewrite"]
        assert test.predictions.subject[place] == rewrite["subject"]
        assert test.predictions.relation[place] == rewrite["relation_id"]


def test_a_record_that_a_sample_has_in_part_does_not_count(
    study: Callable[..., Study], task: Callable[..., Task], checkpoints: Callable[[str], Checkpoint]
) -> None:
    loaded, checkpoint = task(study("gptj", "counterfact")), checkpoints("gptj")
    worker = Worker([Workload(checkpoint=checkpoint, task=loaded)], device="cpu")
    seen = set()
    for limit in (2, 12, 18):
        evaluation = Evaluation(dataset=loaded.name, revision=loaded.revision, split="test", limit=limit, seed=limit)
        (result,) = worker.run([Trial(model=checkpoint.identity, edits=(), evaluation=evaluation)])
        right = right_records(result.predictions)
        seen.add(len(right))
        assert result.metrics.group_accuracy == pytest.approx(sum(right) / len(right) if right else None)
    assert 0 in seen
    assert max(seen) > 1


def test_a_record_that_cannot_be_asked_in_full_does_not_count(
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
    tmp_path: Path,
) -> None:
    made = study("phi", "counterfact")
    (records,) = copy.deepcopy(made.files).values()
    records[5]["paraphrase_prompts"][1] = "a text of the person " * 100
    path = write_file(tmp_path / "records.json", "counterfact", records)
    before, after = (
        run("phi", task(made, **changes), [("test", False)])[0]
        for changes in ({}, {"path": str(path), "on_bad_row": "skip"})
    )
    assert after.metrics.num_examples == before.metrics.num_examples - 1
    assert len(right_records(after.predictions)) == len(right_records(before.predictions)) - 1
    right = right_records(after.predictions)
    assert after.metrics.group_accuracy == pytest.approx(sum(right) / len(right))
