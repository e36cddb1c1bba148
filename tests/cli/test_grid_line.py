"""A grid over the embedded model on Ray, as the README shows it, beside an independent computation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import laser_sweep

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)


def accuracy(tau: str, layer: int, rho: float, examples: pd.DataFrame) -> float:
    """One example at a time on a freshly loaded model, its matrix truncated by a full SVD in float64."""
    model = AutoModelForCausalLM.from_pretrained(ASSETS, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS)
    weight = model.get_parameter(f"transformer.h.{layer}.mlp.{tau}.weight")
    left, values, right = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    rank = int(min(weight.shape) * rho)
    with torch.no_grad():
        weight.copy_(left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank])
        right_answers = 0
        for prompt, answer in zip(examples.prompt, examples.answer, strict=True):
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
            right_answers += tokenizer.decode(logits.argmax().item()).strip() == answer
    return right_answers / len(examples)


def test_the_grid_finds_an_edit_that_doubles_the_accuracy_and_confirms_it_on_test(command: Run, tmp_path: Path) -> None:
    store = tmp_path / "grid"
    line = "-m layer=each tau=fc_in,fc_out rho=0.01,0.05,0.1,0.2,0.4 tracking=none"
    run = command(*line.split(), f"store.path={store}")
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid"]
    trials = pd.read_parquet(store / "trials")
    assert set(trials.status) == {"done"}
    untouched = trials[trials.tau.isna()]
    assert sorted(untouched.split) == ["test", "val"]
    edited = trials[trials.tau.notna() & (trials.split == "val")]
    asked = {(tau, layer, rho) for tau in ("fc_in", "fc_out") for layer in (0, 1) for rho in RHOS}
    assert len(edited) == 20
    assert set(zip(edited.tau, edited.layer, edited.rho, strict=True)) == asked
    (winner,) = trials[trials.tau.notna() & (trials.split == "test")].itertuples()
    best = edited.sort_values(["accuracy", "log_loss"], ascending=[False, True]).iloc[0]
    assert (winner.tau, winner.layer, winner.rho) == (best.tau, best.layer, best.rho)
    assert winner.gain >= 0.30
    assert winner.gain_p_value < 0.001
    (base,) = untouched[untouched.split == "test"].accuracy
    assert winner.gain == pytest.approx(winner.accuracy - base)
    assert f"{100 * winner.accuracy:.1f}" in run.stdout
    assert f"{100 * winner.gain:+.1f}" in run.stdout

    examples = pd.read_parquet(ASSETS / "examples.parquet")
    val = examples.head(int(0.2 * len(examples)))
    measured = edited.set_index(["tau", "layer", "rho"]).accuracy
    for tau, layer, rho in (("fc_in", 0, 0.1), ("fc_out", 0, 0.2), ("fc_out", 1, 0.4)):
        assert measured[tau, layer, rho] == pytest.approx(accuracy(tau, layer, rho, val), abs=1e-12)
