"""A model with every matrix cut to a fraction ρ of its rank, exported dense and as factors: size, memory and speed.

Both exports are loaded and compared on the same tokens first. Speed is that of reading prompts (many tokens at once)
and of writing (one token of one text after the other), each the median of rounds in which both sides take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

import laser_sweep.export.quantizer  # noqa: F401 - from_pretrained then knows factored checkpoints
from benchmarks.shapes import write_llama
from laser_sweep.engine.editing.cache import FactorCache
from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_skeleton
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.export.checkpoint import Exporter, Form
from laser_sweep.trial import Edit

RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)
ALLOWED = {torch.float32: 3e-5, torch.bfloat16: 0.1}
"""How far log p may differ for each edited matrix, in nats: every one of them is rounded in its own way."""


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    vocabulary: int
    batch: tuple[int, int]
    written: int
    rounds: int
    method: str
    dtype: torch.dtype


def size_for(device: torch.device, *, small: bool) -> Size:
    if small:
        return Size(2, 64, 500, (2, 16), 4, 2, "laser", torch.float32)
    if device.type == "cpu":
        return Size(2, 1024, 8_000, (4, 128), 16, 5, "laser", torch.float32)
    # Exact decompositions of these would take most of an hour; how fast factors are does not depend on what is in them.
    return Size(8, 4096, 32_000, (16, 512), 64, 7, "randomized", torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for tests")
    parser.add_argument("--rho", type=float, nargs="+", default=RHOS, help="default: %(default)s")
    asked = parser.parse_args()
    logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = size_for(device, small=asked.small)
    console = Console(width=120)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    console.print(
        f"Llama shape: {size.layers} blocks, {size.hidden} wide, {size.vocabulary:,} words, "
        f"{str(size.dtype).removeprefix('torch.')}; {name}.",
        highlight=False,
    )
    table = Table(
        *(
            "ρ",
            "edited, % of numbers",
            "on disk, MB",
            "in memory, MB",
            "reading, tokens/s",
            "writing, tokens/s",
            "log p",
        ),
        title="dense / factored",
    )
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        base = write_llama(Path(directory, "base"), layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
        for rho in asked.rho:
            row = measure(base, Path(directory), rho, size, device)
            table.add_row(f"{rho:g}", *row.cells())
            figures |= {f"{name}_{rho:g}": round(value, 4) for name, value in row.figures().items()}
    console.print(table)
    print(json.dumps(figures))


@dataclass(frozen=True)
class Row:
    """Figures at one ρ, dense and factored."""

    share: float
    disk: tuple[int, int]
    memory: tuple[int, int]
    reading: tuple[float, float]
    writing: tuple[float, float]
    difference: float

    def cells(self) -> list[str]:
        pairs = (
            *(f"{dense / 1e6:,.1f} / {factored / 1e6:,.1f}" for dense, factored in (self.disk, self.memory)),
            *(f"{dense:,.0f} / {factored:,.0f}" for dense, factored in (self.reading, self.writing)),
        )
        return [f"{100 * self.share:.1f}", *pairs, f"{self.difference:.0e}"]

    def figures(self) -> dict[str, float]:
        return {
            "memory_ratio": self.memory[1] / self.memory[0],
            "reading_ratio": self.reading[1] / self.reading[0],
            "writing_ratio": self.writing[1] / self.writing[0],
        }


def measure(base: Path, room: Path, rho: float, size: Size, device: torch.device) -> Row:
    """Exports both forms, compares and times them. Raises SystemExit where they do not say the same."""
    checkpoint = find_checkpoint(
        ModelSpec(name="llama", path=str(base), dtype=str(size.dtype).removeprefix("torch."))  # type: ignore[arg-type]
    )
    options = () if size.method == "laser" else (("power_iterations", 2), ("seed", 0))
    matrices = find_layout(load_skeleton(checkpoint)).weights
    edits = [Edit(matrix=matrix, rho=rho, method=size.method, options=options) for matrix in matrices]
    exporter = Exporter(checkpoint, edits, FactorCache(room / "factors", 2**40))
    models: list[PreTrainedModel] = []
    disk, share = [], 1.0
    for form in ("dense", "factored"):
        model, num_bytes, kept = exported(exporter, room / f"{form}-{rho}", form, device)
        models.append(model)
        disk.append(num_bytes)
        share = kept
    ids = torch.randint(2, size.vocabulary, size.batch, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        first, second = (torch.log_softmax(model(ids[:2, :64]).logits.float(), dim=-1) for model in models)
        difference = float((first - second).abs().max())
        if not difference <= ALLOWED[size.dtype] * len(edits):
            raise SystemExit(f"benchmarks.factored: log p differs by {difference} at rho={rho}")
        reading = side_by_side([lambda model=model: model(ids) for model in models], size.rounds, ids.numel())
        writing = side_by_side(
            [lambda model=model: write(model, ids, size.written) for model in models], size.rounds, size.written
        )
    memory = [sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) for model in models]
    return Row(share, (disk[0], disk[1]), (memory[0], memory[1]), reading, writing, difference)


def exported(
    exporter: Exporter, directory: Path, form: Form, device: torch.device
) -> tuple[PreTrainedModel, int, float]:
    """The loaded model, the bytes of its weights on disk, and which share of the numbers edited matrices keep."""
    directory.mkdir()
    written = exporter.write(directory, form)
    model = AutoModelForCausalLM.from_pretrained(directory).to(device)
    num_bytes = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    for file in directory.glob("*.safetensors"):
        file.unlink()
    kept = sum(one.numbers for one in written.matrices) / sum(one.shape[0] * one.shape[1] for one in written.matrices)
    return model, num_bytes, kept


def write(model: PreTrainedModel, ids: torch.Tensor, count: int) -> None:
    """One token of one text after the other."""
    model.generate(ids[:1, :8], min_new_tokens=count, max_new_tokens=count, do_sample=False, pad_token_id=0)


def side_by_side(sides: Sequence[Callable[[], object]], rounds: int, tokens: int) -> tuple[float, float]:
    """Tokens a second of both sides, by turns, after a round that does not count."""
    seconds: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for side, times in zip(sides, seconds, strict=True):
            started = time.perf_counter()
            side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times.append(time.perf_counter() - started)
    first, second = (tokens / statistics.median(times) for times in seconds)
    return first, second


if __name__ == "__main__":
    main()
