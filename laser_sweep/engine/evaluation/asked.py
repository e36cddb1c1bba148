"""What a worker needs of a loaded model and of its examples, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.probe import Slopes
from laser_sweep.trial import Episodes, Evaluation, Matrix, Metrics, Predictions

_Task = TypeVar("_Task", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`batch_tokens` bounds a batch, padding counted; what is kept takes so many bytes of the device and its host."""

    batch_tokens: int
    device_bytes: int = 0
    host_bytes: int = 0


class Asked(Protocol):
    """The examples of one evaluation, ready to be asked of one model."""

    def prepare(self, layer: int) -> None:
        """Computes what edits from block `layer` on leave as it is; the model must be untouched."""

    def release(self) -> None:
        """Gives back the memory of what was kept."""

    def measure(self, *, keep_attention: bool = True) -> tuple[Metrics, Predictions | Episodes]:
        """Asks the model as it is now; `keep_attention` says that the attention of the prepared block is not edited."""


class Asker(Protocol[_Task]):
    """A loaded model with what it takes to ask it the examples of a task."""

    def asked(self, task: _Task, evaluation: Evaluation, budget: Budget) -> Asked:
        """The examples of an evaluation, made ready."""

    def slopes(
        self, task: _Task, evaluation: Evaluation, directions: Mapping[Matrix, Directions], budget: Budget
    ) -> Mapping[Matrix, Slopes]:
        """The slopes of the loss on the examples along directions of matrices."""
