"""The tasks by the name that `dataset.task` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from laser_sweep.engine.tasks import fever, prompt_answer
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing

TASKS: Mapping[str, Callable[[DatasetSpec], Iterator[Example]]] = {
    "fever": fever.examples,
    "prompt_answer": prompt_answer.examples,
}


def load_task(spec: DatasetSpec) -> Task:
    """Reads a data set and builds its examples. Raises RequestError for a wrong name, file or row."""
    if spec.task not in TASKS:
        raise RequestError(f"dataset.task={spec.task} does not exist; choose one of {listing(TASKS)}")
    task = Task(spec.name, tuple(TASKS[spec.task](spec)))
    if task.num_val == 0:
        raise RequestError(
            f"dataset={spec.name} has {len(task.examples)} examples; val is a fifth, so it takes 5 or more"
        )
    return task
