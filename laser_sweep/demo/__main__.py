"""`python -m laser_sweep.demo`: retrains the embedded model from nothing and writes the files that are shipped."""

from __future__ import annotations

import argparse
from pathlib import Path

from laser_sweep.demo.train import Recipe, build_examples, train, write

ASSETS = Path(__file__).parent / "assets"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.demo", description=__doc__)
    parser.add_argument("--to", type=Path, default=ASSETS, metavar="DIR", help="where to write (default: the package)")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="training steps (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps {arguments.steps}: give 1 or more")
    recipe = Recipe(steps=arguments.steps)

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == recipe.steps:
            print(f"step {step}/{recipe.steps}, loss {loss:.3f}", flush=True)

    model, answer_counts = train(recipe, report)
    write(arguments.to, model, build_examples(recipe, answer_counts))
    print(f"wrote {arguments.to}")


if __name__ == "__main__":
    main()
