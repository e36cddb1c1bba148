"""Maps that hold factors: what they compute, what they refuse to be, and LoRA beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

import laser_sweep.export.quantizer  # noqa: F401
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.export.checkpoint import Written
from laser_sweep.export.factored import FactoredLinear, FactoredShape
from laser_sweep.trial import Edit, Matrix

Save = Callable[..., Checkpoint]
Write = Callable[..., tuple[Path, Written]]


@st.composite
def maps(draw: st.DrawFn) -> tuple[FactoredLinear, torch.Tensor]:
    """A map in float64 with its matrix W (m, n), put together row by row."""
    columns = draw(st.integers(1, 12))
    blocks = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=4))
    rest = draw(st.integers(0, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    rows = sum(size for size, _ in blocks) + rest
    ordered = draw(st.booleans())
    shape = FactoredShape(in_features=columns, out_features=rows, blocks=tuple(blocks), rest=rest, ordered=ordered)
    module = FactoredLinear(shape, bias=draw(st.booleans()), dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    order = list(range(rows)) if ordered else torch.randperm(rows, generator=generator).tolist()
    weight = torch.zeros(rows, columns, dtype=torch.float64)
    computed, rank = 0, 0
    for (size, kept), left in zip(blocks, module.left, strict=True):
        for row in range(size):
            for direction in range(kept):
                weight[order[computed]] += left[row, direction].detach() * module.weight[rank + direction].detach()
            computed += 1
        rank += kept
    for row in range(rest):
        weight[order[computed + row]] = module.rest[row].detach()
    if module.places is not None:
        module.places.copy_(torch.tensor([order.index(row) for row in range(rows)]))
    return module, weight


@given(maps(), st.sampled_from([(), (3,), (2, 5)]))
def test_a_map_computes_what_its_matrix_does(made: tuple[FactoredLinear, torch.Tensor], batch: tuple[int, ...]) -> None:
    module, weight = made
    inputs = torch.randn(*batch, weight.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = torch.zeros(len(weight), dtype=torch.float64) if module.bias is None else module.bias
    torch.testing.assert_close(module(inputs), inputs @ weight.T + bias, rtol=0, atol=1e-9)
    torch.testing.assert_close(module.product(), weight, rtol=0, atol=1e-9)
    assert module.extra_repr().startswith(f"in_features={weight.shape[1]}, out_features={len(weight)}, ")


@pytest.fixture
def factored(save: Save, write: Write) -> Path:
    """GPT-J with fc_in[1] and q_proj[0] as factors."""
    edits = (Edit(matrix=Matrix("fc_in", 1), rho=0.1), Edit(matrix=Matrix("q_proj", 0), rho=0.1))
    return write(save("gptj"), edits, "factored")[0]


def test_transformers_without_this_package_does_not_fill_in_random_weights(factored: Path) -> None:
    script = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({str(factored)!r})"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 1
    assert re.search(r"transformer\.h\.1\.mlp\.fc_in\.weight +\| MISMATCH", ended.stderr)


def test_a_loaded_export_can_be_saved_and_loaded_again(
    factored: Path, tmp_path: Path, log_probs: Callable[[PreTrainedModel], torch.Tensor]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(factored)
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert isinstance(again.transformer.h[1].mlp.fc_in, FactoredLinear)
    assert torch.equal(log_probs(again), log_probs(model))


def test_lora_trains_beside_the_factors_and_is_kept(
    factored: Path, tmp_path: Path, log_probs: Callable[[PreTrainedModel], torch.Tensor]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(factored)
    before = {name: parameter.clone() for name, parameter in model.state_dict().items()}
    start = log_probs(model)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["fc_in", "q_proj"]))
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-4] for name in trained} == {"fc_in", "q_proj"}
    assert all("lora_" in name for name in trained)
    ids = torch.arange(2, 12)[None]
    optimiser = torch.optim.AdamW([one for one in tuned.parameters() if one.requires_grad], lr=0.05)
    losses = []
    for _ in range(8):
        loss = tuned(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    with tuned.disable_adapter():
        assert torch.equal(log_probs(tuned), start)
    frozen = {name.replace(".base_layer", ""): value for name, value in tuned.base_model.model.state_dict().items()}
    assert all(torch.equal(frozen[name], value) for name, value in before.items())
    tuned.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(factored), tmp_path / "adapter")
    torch.testing.assert_close(log_probs(again), log_probs(tuned), rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"(must|doesn't) match"):
        tuned.merge_and_unload()
