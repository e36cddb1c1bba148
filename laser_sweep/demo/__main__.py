"""`python -m laser_sweep.demo`: trains the demonstration models from nothing.

`language` is the embedded model, whose files are shipped; `decision_transformer` plays episodes, and is trained where
it is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from laser_sweep.errors import RequestError

ASSETS = Path(__file__).parent / "assets"
PLAYER = Path("outputs/decision_transformer")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.demo", description=__doc__)
    parser.add_argument("model", nargs="?", choices=("language", "decision_transformer"), default="language")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help=f"where to write (default: the package, or {PLAYER} for the other)"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: those of the recipe)")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 1:
        parser.error(f"--steps {arguments.steps}: give 1 or more")
    try:
        if arguments.model == "language":
            _language(arguments.to or ASSETS, arguments.steps)
        else:
            _decision_transformer(arguments.to or PLAYER, arguments.steps)
    except RequestError as error:
        print(f"laser_sweep.demo: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _language(directory: Path, steps: int | None) -> None:
    from laser_sweep.demo.train import Recipe, build_examples, train, write

    recipe = Recipe() if steps is None else Recipe(steps=steps)
    model, answer_counts = train(recipe, _report(recipe.steps))
    write(directory, model, build_examples(recipe, answer_counts))
    print(f"wrote {directory}")


def _decision_transformer(directory: Path, steps: int | None) -> None:
    from transformers.utils.logging import disable_progress_bar

    from laser_sweep.demo.decision_transformer import Recipe, recorded_episodes, train, training_episodes, write

    recipe = Recipe() if steps is None else Recipe(steps=steps)
    disable_progress_bar()
    episodes = training_episodes(recipe)
    model = train(recipe, episodes, _report(recipe.steps))
    write(directory, recipe, model, episodes, recorded_episodes(recipe))
    print(f"wrote {directory}")


def _report(steps: int) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"step {step}/{steps}, loss {loss:.3f}", flush=True)

    return report


if __name__ == "__main__":
    main()
