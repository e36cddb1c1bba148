"""What a worker finds out about a model's matrices, and what it is like afterwards."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from laser_sweep.engine.evaluation import language
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Example, Scoring, Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.trial import Edit, Evaluation, Matrix, Trial, TrialResult

from .autograd import Question, differentiate

CHOICES = ("true amber", "false")
MATRICES = (Matrix("fc_in", 1), Matrix("k_proj", 0), Matrix("fc_out", 2), Matrix("fc_in", 0))


@pytest.fixture(scope="module")
def checkpoint(save_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = save_checkpoint("llama", tmp_path_factory.mktemp("llama"))
    return find_checkpoint(ModelSpec(name="llama", path=str(directory)))


@pytest.fixture(scope="module")
def task(make_task: Callable[..., Task]) -> Task:
    return make_task(60, choices=CHOICES)


def evaluation(task: Task, limit: int | None = None, seed: int | None = None) -> Evaluation:
    return Evaluation(dataset=task.name, revision=task.revision, split="val", limit=limit, seed=seed)


def probe(checkpoint: Checkpoint, asked: Evaluation | None, *matrices: Matrix) -> Probe:
    return Probe(model=checkpoint.identity, matrices=matrices or MATRICES, evaluation=asked)


def trial(checkpoint: Checkpoint, task: Task, *edits: Edit, **asked: Any) -> Trial:
    return Trial(model=checkpoint.identity, edits=edits, evaluation=evaluation(task, **asked))


def worker(checkpoint: Checkpoint, *tasks: Task, **options: Any) -> Worker:
    return Worker([Workload(checkpoint=checkpoint, task=task, **options) for task in tasks], device="cpu")


def done(result: ProbeResult) -> ProbeResult:
    assert (result.status, result.error) == ("done", None)
    return result


def asked(tokenizer: PreTrainedTokenizerFast, examples: tuple[Example, ...]) -> list[Question]:
    """Prompt and gold answer, of which one word is one token, as the model reads them."""
    questions = []
    for example in examples:
        prompt, answer = (tokenizer(text)["input_ids"] for text in (example.prompt, example.gold))
        places = range(len(prompt) - 1, len(prompt) - 1 + len(answer))
        questions.append(Question([*prompt, *answer[:-1]], places, answer, len(answer)))
    return questions


@pytest.mark.parametrize("scoring", ["choices", "next_token", "generation"])
def test_slopes_are_those_of_the_log_loss_of_a_trial_on_the_same_examples(
    scoring: str,
    checkpoint: Checkpoint,
    make_task: Callable[..., Task],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    task = make_task(60, choices=CHOICES)
    if scoring != "choices":
        task = dataclasses.replace(make_task(60), scoring=Scoring(answers=scoring))  # type: ignore[arg-type]
    own = worker(checkpoint, task)
    found = done(own.carry_out(probe(checkpoint, evaluation(task, 8, 3))))
    model = AutoModelForCausalLM.from_pretrained(checkpoint.directory, dtype=torch.float64).requires_grad_(False)
    layout = find_layout(model)
    weights = {matrix: layout.weights[matrix] for matrix in MATRICES}
    expected = differentiate(model, weights, asked(tokenizer, task.split("val", 8, 3)))
    measured = next(own.run([trial(checkpoint, task, limit=8, seed=3)])).measured()
    assert float(expected.losses.mean()) == pytest.approx(measured.log_loss, abs=1e-4)
    assert tuple(spectrum.matrix for spectrum in found.spectra) == MATRICES
    for spectrum in found.spectra:
        each = expected.gradients[spectrum.matrix].numpy()
        singular = torch.linalg.svdvals(weights[spectrum.matrix].read()).numpy()
        assert spectrum.shape == tuple(weights[spectrum.matrix].read().shape)
        np.testing.assert_allclose(spectrum.singular_values, singular, rtol=0, atol=1e-5 * singular[0])
        assert spectrum.slopes is not None
        assert spectrum.slopes.num_examples == 8
        scale = np.abs(each).max()
        np.testing.assert_allclose(spectrum.slopes.values, each.mean(axis=0), rtol=0, atol=1e-3 * scale)
        np.testing.assert_allclose(
            spectrum.slopes.values_stderr, each.std(axis=0, ddof=1) / 8**0.5, rtol=0, atol=1e-3 * scale
        )
        assert spectrum.slopes.gains[0] == pytest.approx((each.mean(axis=0) * singular).sum(), abs=1e-3 * scale)


def test_without_examples_there_are_singular_values_alone(checkpoint: Checkpoint, task: Task) -> None:
    found = done(worker(checkpoint, task).carry_out(probe(checkpoint, None)))
    model = AutoModelForCausalLM.from_pretrained(checkpoint.directory)
    expected = torch.linalg.svdvals(model.model.layers[1].mlp.gate_proj.weight.double())
    assert [spectrum.slopes for spectrum in found.spectra] == [None] * 4
    np.testing.assert_allclose(found.spectra[0].singular_values, expected.detach(), rtol=1e-6)
    assert found.spectra[0].singular_values.dtype == np.float64


def test_matrices_whose_directions_find_no_room_together_are_looked_at_in_turn(
    checkpoint: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[list[Matrix]] = []
    slopes = language.slopes

    def counting(forward: Any, collator: Any, encoded: Any, directions: Any, **options: Any) -> Any:
        together.append(list(directions))
        return slopes(forward, collator, encoded, directions, **options)

    monkeypatch.setattr(language, "slopes", counting)
    wanted = probe(checkpoint, evaluation(task))
    whole, in_turn = (
        done(worker(checkpoint, task, activation_budget_gb=room).carry_out(wanted)) for room in (4.0, 9000 / 2**30)
    )
    by_layer = [Matrix("k_proj", 0), Matrix("fc_in", 0), Matrix("fc_in", 1), Matrix("fc_out", 2)]
    assert together == [by_layer, by_layer[:2], by_layer[2:]]  # directions take 1 KiB or 4 KiB
    for one, other in zip(whole.spectra, in_turn.spectra, strict=True):
        assert one.matrix == other.matrix
        assert one.slopes is not None
        assert other.slopes is not None
        np.testing.assert_allclose(one.slopes.values, other.slopes.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_trial_has_the_same_bits_after_a_probe_as_before(dtype: str, checkpoint: Checkpoint, task: Task) -> None:
    spec = ModelSpec(name="llama", path=str(checkpoint.directory), dtype=dtype)  # type: ignore[arg-type]
    checkpoint = find_checkpoint(spec)
    own = worker(checkpoint, task)
    edited = trial(checkpoint, task, Edit(matrix=Matrix("fc_in", 1), rho=0.2))
    before = list(own.run([trial(checkpoint, task), edited]))
    first = done(own.carry_out(probe(checkpoint, evaluation(task))))
    after = list(own.run([trial(checkpoint, task), edited]))
    second = done(own.carry_out(probe(checkpoint, evaluation(task))))
    for one, other in zip(before, after, strict=True):
        assert one.predictions is not None
        assert other.predictions is not None
        np.testing.assert_array_equal(one.predictions.gold_log_prob, other.predictions.gold_log_prob)
    for one, other in zip(first.spectra, second.spectra, strict=True):
        assert one.slopes is not None
        assert other.slopes is not None
        np.testing.assert_array_equal(one.slopes.values, other.slopes.values)


def test_a_result_says_who_looked_where_and_when(checkpoint: Checkpoint, task: Task) -> None:
    own = worker(checkpoint, task)
    before = time.time()
    found = own.carry_out(probe(checkpoint, evaluation(task)))
    assert before <= found.started_at <= found.finished_at <= time.time()
    assert (found.worker, found.device) == (own.name, "cpu")
    assert found.probe == probe(checkpoint, evaluation(task))


def test_the_trial_after_a_probe_that_loaded_the_model_says_what_that_took(checkpoint: Checkpoint, task: Task) -> None:
    own = worker(checkpoint, task)
    own.carry_out(probe(checkpoint, None))
    first, second = own.run([trial(checkpoint, task)] * 2)
    assert first.seconds.load > 0
    assert second.seconds.load == 0


def test_either_kind_of_work_is_carried_out(checkpoint: Checkpoint, task: Task) -> None:
    own = worker(checkpoint, task)
    measured, looked = own.carry_out(trial(checkpoint, task)), own.carry_out(probe(checkpoint, None))
    assert isinstance(measured, TrialResult)
    assert isinstance(looked, ProbeResult)
    assert measured.measured() == next(own.run([trial(checkpoint, task)])).measured()
    assert done(looked).probe == probe(checkpoint, None)


def test_a_probe_of_a_matrix_that_the_model_has_not_fails_with_its_name(checkpoint: Checkpoint, task: Task) -> None:
    own = worker(checkpoint, task)
    found = own.carry_out(probe(checkpoint, None, Matrix("fc_in", 0), Matrix("fc_in", 7)))
    assert (found.status, found.error) == ("failed", "ValueError: the model has no fc_in[7]")
    assert found.spectra == ()
    assert found.finished_at >= found.started_at > 0
    assert (found.worker, found.device) == (own.name, "cpu")
    done(own.carry_out(probe(checkpoint, None)))


def test_a_probe_of_a_spoilt_model_fails_with_its_reason(
    build_model: Callable[..., PreTrainedModel], save_checkpoint: Callable[..., Path], tmp_path: Path, task: Task
) -> None:
    model = build_model("gptj")
    model.transformer.h[1].mlp.fc_in.weight[3, 5] = torch.nan
    checkpoint = find_checkpoint(ModelSpec(name="spoilt", path=str(save_checkpoint(model, tmp_path))))
    own = worker(checkpoint, task)
    errors = [
        own.carry_out(probe(checkpoint, examples, Matrix("fc_in", layer))).error
        for layer, examples in ((1, None), (0, evaluation(task)), (0, None))
    ]
    assert errors == [
        "ValueError: the weight has entries that are not finite",
        "ValueError: the loss of 12 answers is not finite",
        None,
    ]


def test_a_data_set_that_cannot_be_asked_is_the_requests_fault(
    checkpoint: Checkpoint, make_task: Callable[..., Task]
) -> None:
    examples = make_task(10).examples
    bad = Task("words", (dataclasses.replace(examples[0], gold="zebra"), *examples[1:]))
    with pytest.raises(RequestError, match="row 0: answer 'zebra' cannot be told"):
        worker(checkpoint, bad).carry_out(probe(checkpoint, evaluation(bad)))
