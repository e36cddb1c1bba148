"""The engine alone at the shape of Llama 2 7B and GPT-J 6B: random bfloat16 weights, 13,000 prompts as long as FEVER's.

Trials an hour on the late grid against the published way, timed in the same run on a sample of the prompts; the share
of the device's measured matrix peak in the passes above an edit; apply and revert; factoring every MLP matrix; memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTJConfig, LlamaConfig, PreTrainedModel

from benchmarks.published import answer, edited_copy
from benchmarks.shapes import fever_like, write_tokenizer
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.evaluation.answers import Questions
from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.replay import checked_forward
from laser_sweep.engine.evaluation.texts import TokenTexts
from laser_sweep.engine.models.layout import Layout, find_layout
from laser_sweep.engine.tasks.tokenise import encode
from laser_sweep.trial import Edit, Matrix

RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)
TAUS = ("fc_in", "fc_out")
LATE = 0.4
PEAK_SIZE = 8192  # of the square product that is taken for the device's peak
DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Shape:
    config: Any
    examples: int
    sampled_prompts: int
    sampled_matrices: int
    published_trials: int
    device_gb: float


def shapes(small: bool) -> dict[str, Shape]:
    if small:
        llama = LlamaConfig(
            vocab_size=500, hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4
        )
        gptj = GPTJConfig(vocab_size=500, n_embd=64, n_layer=3, n_head=4, rotary_dim=8, bos_token_id=0, eos_token_id=0)
        return {name: Shape(config, 60, 4, 2, 1, 0.1) for name, config in (("llama2", llama), ("gptj", gptj))}
    llama, gptj = LlamaConfig(), GPTJConfig(tie_word_embeddings=False)  # whose defaults are Llama 2 7B and GPT-J 6B
    return {name: Shape(config, 13_000, 64, 8, 2, 40.0) for name, config in (("llama2", llama), ("gptj", gptj))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for tests, on any device")
    parser.add_argument("--model", choices=["llama2", "gptj"], help="only one of the two")
    parser.add_argument("--batch-tokens", type=int, default=32_768)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not asked.small:
        raise SystemExit("benchmarks.gpu: there is no GPU here; --small shows on any device that it runs")
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    table = Table("figure", *(name for name in shapes(asked.small) if asked.model in (None, name)))
    columns = {
        name: measure(shape, device, asked.batch_tokens)
        for name, shape in shapes(asked.small).items()
        if asked.model in (None, name)
    }
    for figure in next(iter(columns.values())):
        table.add_row(figure, *(f"{column[figure]:,.4g}" for column in columns.values()))
    Console(width=120).print(table)
    print(json.dumps(figures | columns))


def measure(shape: Shape, device: torch.device, batch_tokens: int) -> dict[str, float]:
    """The figures of one model."""
    model = random_model(shape.config, device)
    layout = find_layout(model)
    with tempfile.TemporaryDirectory() as directory:
        write_tokenizer(Path(directory), shape.config.vocab_size)
        tokenizer = AutoTokenizer.from_pretrained(directory)
    task = fever_like(shape.examples, shape.config.vocab_size)
    collator = Collator(device)
    forward = checked_forward(model, layout, collator)
    val, _ = encode(task, task.split("val"), tokenizer, None)
    texts = TokenTexts(tokenizer, shape.config.vocab_size)
    questions = Questions(
        task, val, forward, collator, tokenizer, texts,
        batch_tokens=batch_tokens, device_bytes=int(shape.device_gb * 2**30),
    )  # fmt: skip
    editor = Editor(layout, cached_matrices=len(TAUS))
    tokens = sum(one.num_tokens for one in val)
    figures = {"replays": float(forward.replays), "peak_tflops": peak_tflops(device)}

    seconds, sampled = [], [Matrix(tau, layer) for layer in range(layout.num_layers) for tau in TAUS]
    for matrix in sampled[:: max(1, len(sampled) // shape.sampled_matrices)]:
        edit = Edit(matrix=matrix, rho=0.1)
        with editor.applied((edit,)) as applied:
            seconds.append(applied.seconds_factor)
    factor_seconds = sum(seconds) / len(seconds)
    num_mlp = sum(matrix.tau in ("fc_in", "fc_up", "fc_out") for matrix in layout.weights)
    figures["factor_s_per_matrix"] = factor_seconds
    figures["factor_s_every_mlp_matrix"] = factor_seconds * num_mlp
    figures["apply_revert_ms"] = 1e3 * apply_and_revert(editor, Edit(matrix=matrix, rho=0.1), device)

    late = range(round(layout.num_layers * (1 - LATE)), layout.num_layers)
    timed(device, questions.ask)  # warms up
    figures["untouched_val_s"] = timed(device, questions.ask)
    by_layer: dict[int, float] = {}
    started = time.perf_counter()
    for layer in late:
        questions.prepare(layer)
        for tau in TAUS:
            for rho in RHOS:
                with editor.applied((Edit(matrix=Matrix(tau, layer), rho=rho),)):
                    by_layer[layer] = timed(device, questions.ask)
    synchronise(device)
    search_seconds = time.perf_counter() - started
    trials = len(late) * len(TAUS) * len(RHOS)
    figures["late_trials_per_hour"] = 3600 * trials / search_seconds
    lowest = late[0]
    flops = 2.0 * tokens * parameters_above(layout, lowest)
    figures["suffix_share_of_peak"] = flops / by_layer[lowest] / (figures["peak_tflops"] * 1e12)
    if device.type == "cuda":
        figures["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30

    published = published_seconds(model, tokenizer, task.examples[: shape.sampled_prompts], layout, shape)
    their_trial = published["edit"] + shape.examples * published["example"]
    test_seconds = 2 * figures["untouched_val_s"] * len(task.split("test")) / len(task.split("val"))
    our_sweep = figures["untouched_val_s"] + search_seconds + test_seconds
    figures["published_s_per_example"] = published["example"]
    figures["published_s_per_edit"] = published["edit"]
    figures["late_sweep_ratio"] = their_trial * (trials + 1) / our_sweep
    return figures


def random_model(config: Any, device: torch.device) -> PreTrainedModel:
    """Random weights, drawn on the device."""
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=DTYPE)
    return model.requires_grad_(False).eval()


def timed(device: torch.device, run: Callable[[], object]) -> float:
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_tflops(device: torch.device) -> float:
    size = PEAK_SIZE if device.type == "cuda" else 256
    left, right = (torch.randn(size, size, device=device, dtype=DTYPE) for _ in range(2))
    best = min(timed(device, lambda: left @ right) for _ in range(20))
    return 2.0 * size**3 / best / 1e12


def apply_and_revert(editor: Editor, edit: Edit, device: torch.device) -> float:
    """Seconds to put a truncation in place and the original back, its factors known."""

    def once() -> None:
        with editor.applied((edit,)):
            pass

    once()
    return min(timed(device, once) for _ in range(5))


def parameters_above(layout: Layout, layer: int) -> int:
    """Entries of the matrices that a pass multiplies with when it starts behind the attention of a block.

    The last block's MLP is left out: it runs where the output is read alone.
    """
    total = 0
    for matrix, weight in layout.weights.items():
        mlp = matrix.tau.startswith("fc_")
        above = matrix.layer > layer or (matrix.layer == layer and mlp)
        if above and not (mlp and matrix.layer == layout.num_layers - 1):
            total += weight.shape[0] * weight.shape[1]
    return total


def published_seconds(
    model: PreTrainedModel, tokenizer: Any, examples: Any, layout: Layout, shape: Shape
) -> dict[str, float]:
    """Seconds of an edit and of an example the published way, on the same device."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    edit_seconds = []
    for layer in range(shape.published_trials):
        parameter = names[id(layout.weights[Matrix("fc_in", layer)].parameter)]
        edit_seconds.append(timed(model.device, lambda name=parameter: edited_copy(model, name, 0.1)))
    answer(model, tokenizer, examples[0])
    seconds = timed(model.device, lambda: [answer(model, tokenizer, example) for example in examples])
    return {"edit": sum(edit_seconds) / len(edit_seconds), "example": seconds / len(examples)}


if __name__ == "__main__":
    main()
