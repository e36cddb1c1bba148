"""An independent way to ask the embedded model: plain transformers, batches of prompts of one length, no padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTJForCausalLM

import laser_sweep


@pytest.fixture(scope="session")
def assets() -> Path:
    """The files that the package ships."""
    return Path(laser_sweep.__file__).parent / "demo" / "assets"


@dataclass(frozen=True)
class Demo:
    """A model with its examples; `answers` tells what it says to them under edits, {parameter name: rho}.

    With `removed` it has only what the edits would take away.
    """

    model: GPTJForCausalLM
    examples: pd.DataFrame
    answers: Callable[..., list[str]]

    def accuracy(self, edits: Mapping[str, float] | None = None, *, every: int = 1) -> float:
        """Over all examples, or over one of `every`."""
        said = self.answers(edits or {}, every)
        return float((self.examples.answer[::every] == said).mean())


@pytest.fixture(scope="session")
def load_demo() -> Callable[[Path], Demo]:
    def load(directory: Path) -> Demo:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval().requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        examples = pd.read_parquet(directory / "examples.parquet")
        all_prompts = [tokenizer(prompt)["input_ids"] for prompt in examples.prompt]

        def answers(edits: Mapping[str, float], every: int = 1, *, removed: bool = False) -> list[str]:
            prompts = all_prompts[::every]
            by_length: dict[int, list[int]] = {}
            for place, ids in enumerate(prompts):
                by_length.setdefault(len(ids), []).append(place)
            originals = {name: model.get_parameter(name).clone() for name in edits}
            for name, rho in edits.items():
                left, values, right = torch.linalg.svd(originals[name].double(), full_matrices=False)
                rank = int(min(originals[name].shape) * rho)
                kept = slice(rank, None) if removed else slice(rank)
                model.get_parameter(name).copy_(left[:, kept] @ torch.diag(values[kept]) @ right[kept])
            said = [""] * len(prompts)
            for places in by_length.values():
                logits = model(torch.tensor([prompts[place] for place in places])).logits[:, -1]
                for place, token in zip(places, logits.argmax(-1).tolist(), strict=True):
                    said[place] = tokenizer.decode([token]).strip()
            for name, original in originals.items():
                model.get_parameter(name).copy_(original)
            return said

        return Demo(model, examples, answers)

    return load


@pytest.fixture(scope="session")
def shipped(assets: Path, load_demo: Callable[[Path], Demo]) -> Demo:
    return load_demo(assets)
