"""`python -m laser_sweep.engine.models <hub id or directory>`: which matrices a model has, with their shapes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.errors import RequestError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.engine.models", description=__doc__)
    parser.add_argument("path", help="hub id or directory")
    parser.add_argument("--revision", default="main", help="branch, tag or commit of a hub id (default: %(default)s)")
    asked = parser.parse_args(arguments)
    try:
        print("\n".join(describe(ModelSpec(name=asked.path, path=asked.path, revision=asked.revision))))
    except RequestError as error:
        print(f"laser_sweep.engine.models: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def describe(spec: ModelSpec) -> Iterable[str]:
    """A line for each τ and shape: the layers that have it, `out x in`, and how many experts share the name."""
    from laser_sweep.engine.models.layout import find_layout
    from laser_sweep.engine.models.load import load_skeleton

    checkpoint = find_checkpoint(spec)
    model = load_skeleton(checkpoint)
    layout = find_layout(model, spec.roles)
    yield f"{type(model).__name__}, {layout.num_layers} layers, {model.num_parameters():,} parameters"
    yield f"{'tau':10}{'layers':16}{'out x in':>16}{'experts':>10}"
    for tau in layout.taus:
        places: dict[tuple[tuple[int, int], int], list[int]] = {}
        for layer in range(layout.num_layers):
            matrices = layout.matrices(tau, layer)
            if matrices:
                experts = len(matrices) if matrices[0].tau != tau else 0
                places.setdefault((layout.shape(matrices[0]), experts), []).append(layer)
        for ((rows, columns), experts), layers in places.items():
            yield f"{tau:10}{_ranges(layers):16}{f'{rows} x {columns}':>16}{experts or '':>10}"


def _ranges(numbers: Sequence[int]) -> str:
    """`0..3, 5` for 0, 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


if __name__ == "__main__":
    main()
