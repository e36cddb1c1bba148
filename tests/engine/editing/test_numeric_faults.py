"""Weights that no training makes: every method gives what float64 gives, or says why not, and all bits come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from laser_sweep.engine.editing.editor import Applied, Editor
from laser_sweep.engine.editing.factor import factorise
from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Option, Trial, TrialResult

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
Array = npt.NDArray[np.float64]

CHOICES = ("true", "false")
OPTIONS: dict[str, dict[str, Option]] = {
    "laser": {},
    "removed": {},
    "prune": {},
    "zero": {},
    "randomized": {"power_iterations": 2, "seed": 0},
    **{
        f"clustered-{allocation}-{partition}": {
            "clusters": 4,
            "allocation": allocation,
            "partition": partition,
            "seed": 0,
        }
        for allocation in ("fraction", "equal_memory", "pooled")
        for partition in ("consecutive", "subspaces")
    },
}
LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
SMALLEST = {dtype: torch.finfo(dtype).smallest_normal for dtype in LARGEST}
DTYPES = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in LARGEST]
# Of the largest entry; an edit is rounded to the model's dtype, and computed in float32 or float64.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-5, torch.float64: 2e-7}


def edit(name: str, rho: float, tau: str = "fc_in") -> Edit:
    method = name.partition("-")[0]
    return Edit(matrix=Matrix(tau, 1), rho=rho, method=method, options=tuple(sorted(OPTIONS[name].items())))


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rank_one(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(1, 8, (size,), generator=generator).double() for size in (rows, columns))
    return left[:, None] * right  # whole numbers below 64: the same in every dtype


FAULTS: dict[str, Callable[[int, int, torch.dtype], torch.Tensor]] = {
    "zero": lambda rows, columns, dtype: torch.zeros(rows, columns, dtype=torch.float64),
    "constant": lambda rows, columns, dtype: torch.full((rows, columns), 3.0, dtype=torch.float64),
    "rank one": lambda rows, columns, dtype: rank_one(rows, columns),
    "huge": lambda rows, columns, dtype: gaussian(rows, columns) * (LARGEST[dtype] / 16),
    "subnormal": lambda rows, columns, dtype: gaussian(rows, columns) * (SMALLEST[dtype] / 8),
}
SHAPES = {"fc_in": (20, 32), "fc_out": (32, 20)}


def truncated(weight: Array, rank: int) -> Array:
    scale = np.abs(weight).max() or 1.0  # so that no product on the way leaves float64
    left, values, right = np.linalg.svd(weight / scale, full_matrices=False)
    return (left[:, :rank] * values[:rank]) @ right[:rank] * scale


def pruned(weight: Array, rho: float) -> Array:
    ascending = np.sort(np.abs(weight), axis=None)
    threshold = ascending[min(int((1 - rho) * weight.size), weight.size - 1)]
    return np.where(np.abs(weight) <= threshold, 0.0, weight)


EXPECTED: dict[str, Callable[[Array, float], Array]] = {
    "laser": lambda weight, rho: truncated(weight, int(min(weight.shape) * rho)),
    "removed": lambda weight, rho: weight - truncated(weight, int(min(weight.shape) * rho)),
    "prune": pruned,
    "zero": lambda weight, rho: np.zeros_like(weight),
}


def check_blocks(made: Array, weight: Array, applied: Applied, name: str, rho: float, tolerance: float) -> None:
    """Every block of rows is one of its own truncated SVDs; their ranks add up and fit what the allocation may spend.

    Where directions are worth nothing, more of them than are needed to tell the block may be kept.
    """
    (footprint,) = applied.footprints
    labels = footprint.row_clusters
    if labels is None:
        labels = np.repeat(np.arange(4), [len(part) for part in np.array_split(weight, 4)])
    ranks, full = [], []
    for block in range(4):
        rows = weight[labels == block]
        full.append(min(rows.shape))
        fitting = [
            rank
            for rank in range(full[-1] + 1)
            if np.abs(truncated(rows, rank) - made[labels == block]).max() <= tolerance
        ]
        assert fitting, f"block {block} is no truncated SVD of its rows"
        ranks.append(fitting[0])
    assert footprint.rank is not None
    assert sum(ranks) <= footprint.rank <= sum(full)
    if name.startswith("clustered-fraction"):
        assert footprint.rank == sum(int(rho * size) for size in full)
    else:
        assert footprint.parameters is not None
        assert footprint.parameters <= int(rho * min(weight.shape)) * sum(weight.shape)


def edited(
    model: PreTrainedModel, asked: Edit, bits: Bits
) -> tuple[torch.Tensor, torch.Tensor, Applied | None, str | None]:
    """The weight before and inside an edit, which is proven to leave no bit behind, or why there is no edit."""
    before = {name: bits(parameter) for name, parameter in model.named_parameters()}
    weight = model.transformer.h[1].mlp.get_submodule(asked.matrix.tau).weight
    original = weight.clone()
    inside, applied, reason = original, None, None
    try:
        with Editor(find_layout(model)).applied([asked]) as applied:
            inside = weight.clone()
    except ValueError as error:
        reason = str(error)
    assert [name for name, kept in before.items() if not torch.equal(kept, bits(model.get_parameter(name)))] == []
    return original, inside, applied, reason


def faulty(build_model: BuildModel, fault: str, tau: str, dtype: torch.dtype, **changes: Any) -> PreTrainedModel:
    model = build_model("gptj", dtype=dtype, **{"n_inner": 20, **changes})
    weight = model.transformer.h[1].mlp.get_submodule(tau).weight
    weight.copy_(FAULTS[fault](*weight.shape, dtype))
    assert torch.isfinite(weight).all()
    return model


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau", SHAPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_edit_of_an_odd_matrix_is_that_of_float64_or_is_refused(
    fault: str, tau: str, dtype: torch.dtype, name: str, build_model: BuildModel, bits: Bits
) -> None:
    model = faulty(build_model, fault, tau, dtype)
    rho = 0.3
    original, inside, applied, reason = edited(model, edit(name, rho, tau), bits)
    weight, made = original.double().numpy(), inside.double().numpy()
    tolerance = TOLERANCE[dtype] * float(np.abs(weight).max()) + 64 * math.ulp(0) + _step(dtype)
    if applied is None:
        assert reason is not None
        assert "not finite" in reason
        assert fault == "huge"  # a sketch or an approximation may leave the range; the others never do
        expected = EXPECTED[name](weight, rho) if name in EXPECTED else None
        assert expected is None or np.abs(expected).max() > LARGEST[dtype] * (1 - TOLERANCE[dtype])
    elif name in EXPECTED:
        np.testing.assert_allclose(made, EXPECTED[name](weight, rho), rtol=0, atol=tolerance)
    elif name == "randomized":
        if fault in ("huge", "subnormal"):  # a sketch is no best approximation: it is a projection of the columns
            assert np.linalg.matrix_rank(made / np.abs(weight).max(), tol=1e3 * tolerance / np.abs(weight).max()) <= 6
        else:
            np.testing.assert_allclose(made, weight, rtol=0, atol=tolerance)
    else:
        check_blocks(made, weight, applied, name, rho, tolerance)


def _step(dtype: torch.dtype) -> float:
    """What sums of subnormal numbers are rounded to, for as many terms as there are."""
    info = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    own = torch.finfo(dtype)
    return 40 * info.smallest_normal * info.eps + own.smallest_normal * own.eps


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tau", ["fc_in", "fc_out"])
def test_a_matrix_of_one_row_or_one_column_is_kept_whole_or_not_at_all(
    tau: str, rho: float, name: str, build_model: BuildModel, bits: Bits
) -> None:
    """fc_in is 1 × 32 and fc_out 32 × 1, so that any fraction below 1 keeps rank 0."""
    model = build_model("gptj", n_inner=1)
    original, inside, applied, reason = edited(model, edit(name, rho, tau), bits)
    weight, made = original.double().numpy(), inside.double().numpy()
    if name.startswith("clustered") and tau == "fc_in":
        assert reason is not None
        assert "of 1 rows; set intervention.options.clusters to 1..1" in reason
        return
    assert reason is None
    assert applied is not None
    if name == "prune":
        expected = pruned(weight, rho) if rho < 1 else weight
    elif name.startswith("clustered") and not name.startswith("clustered-fraction"):
        check_blocks(made, weight, applied, name, rho, 1e-6)
        return
    else:
        kept = rho == 1 and name != "zero"
        expected = weight if kept != (name == "removed") else np.zeros_like(weight)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fault", ["zero", "constant", "rank one", "huge", "subnormal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values_are_those_of_float64_however_large_or_small(fault: str, dtype: torch.dtype) -> None:
    weight = FAULTS[fault](20, 32, dtype).to(dtype)
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    found = factorise(weight).singular_values.numpy()
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-7 * values[0])


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel]:
    """Every model that transformers loads."""
    found: list[PreTrainedModel] = []
    from_pretrained = AutoModelForCausalLM.from_pretrained

    def remembering(*arguments: Any, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
        model, report = from_pretrained(*arguments, **options)
        found.append(model)
        return model, report

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", remembering)
    return found


def run(
    model: PreTrainedModel,
    directory: Path,
    task: Task,
    edits: Sequence[Edit],
    save: Callable[..., Path],
    loaded: list[PreTrainedModel],
    bits: Bits,
) -> list[TrialResult]:
    """A worker's results; after each, all bits of its model are those that were saved."""
    checkpoint = find_checkpoint(ModelSpec(name="odd", path=str(save(model, directory))))
    before = {name: bits(parameter) for name, parameter in model.named_parameters()}
    worker = Worker([Workload(checkpoint=checkpoint, task=task)], device="cpu")
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split="val")
    results = []
    for one in edits:
        results += worker.run([Trial(model=checkpoint.identity, edits=(one,), evaluation=evaluation)])
        (held,) = loaded
        spoilt = [name for name, kept in before.items() if not torch.equal(kept, bits(held.get_parameter(name)))]
        assert spoilt == [], one
    return results


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_fails_every_trial_but_those_that_replace_it(
    value: float,
    build_model: BuildModel,
    make_task: Callable[..., Task],
    save_checkpoint: Callable[..., Path],
    loaded: list[PreTrainedModel],
    bits: Bits,
    tmp_path: Path,
) -> None:
    model = build_model("gptj")
    model.transformer.h[1].mlp.fc_in.weight[3, 5] = value
    names = list(OPTIONS)
    edits = [edit(name, 0.3) for name in names]
    results = run(model, tmp_path, make_task(40, choices=CHOICES), edits, save_checkpoint, loaded, bits)
    for name, result in zip(names, results, strict=True):
        if name == "zero":
            assert (result.status, result.error) == ("done", None)
            assert math.isfinite(result.measured().log_loss)
        else:
            assert result.status == "failed"
            assert result.metrics is None
            assert result.error is not None
            assert "finite" in result.error, result.error


@pytest.mark.parametrize("fault", ["zero", "constant", "rank one", "huge", "subnormal"])
def test_a_worker_scores_an_odd_matrix_as_a_copy_edited_in_float64_or_says_why_not(
    fault: str,
    build_model: BuildModel,
    make_task: Callable[..., Task],
    save_checkpoint: Callable[..., Path],
    ask_one_by_one: Callable[..., list[Any]],
    tokenizer: Any,
    loaded: list[PreTrainedModel],
    bits: Bits,
    tmp_path: Path,
) -> None:
    model = faulty(build_model, fault, "fc_in", torch.float32)
    task = make_task(40, choices=CHOICES)
    edits = [edit(name, 0.3) for name in OPTIONS]
    results = run(model, tmp_path, task, edits, save_checkpoint, loaded, bits)
    original = model.transformer.h[1].mlp.fc_in.weight.clone()
    for name, result in zip(OPTIONS, results, strict=True):
        if name not in EXPECTED:
            assert result.ok or "finite" in str(result.error)
            continue
        model.transformer.h[1].mlp.fc_in.weight.copy_(torch.from_numpy(EXPECTED[name](original.double().numpy(), 0.3)))
        questions = [
            (
                tokenizer(e.prompt)["input_ids"],
                *([tokenizer(word)["input_ids"][-1] for word in words] for words in ([e.gold], CHOICES)),
            )
            for e in task.examples[:8]
        ]
        answers = ask_one_by_one(model, [(prompt, gold[0], choices) for prompt, gold, choices in questions])
        losses = [-answer.gold_log_prob for answer in answers]
        if all(map(math.isfinite, losses)):
            assert result.ok, result.error
            assert result.measured().log_loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        else:
            assert result.status == "failed"
            assert "finite" in str(result.error)
