"""Tasks of lm-evaluation-harness: it builds the prompts and the choices, our engine scores them (Gao et al. 2024)."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from laser_sweep.engine import hub
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.source import BadRowError, Row, parse
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing, suggestion

# The harness's defaults.
_SEED = 0
_NUMPY_SEED = _FEWSHOT_SEED = 1234
_OUTPUT_TYPE = "generate_until"

_NOT_ASKED = {
    "generate_until": "the answer is a text that the model writes",
    "loglikelihood": "the answer is one text without choices, right only as the exact tokens that come greedily",
    "loglikelihood_rolling": "there is no answer",
}
_SHOWN = 5


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """The documents that the harness evaluates: those of the task's test split, else of its validation split.

    Asked are multiple_choice tasks whose choices follow one prompt after a space. The choice with the largest sum of
    log p is then the same here and there, and the accuracy is the harness's `acc`, but for exact ties, which are never
    right here. `path`, a directory or a YAML file, takes the place of the tasks that come with the harness. Raises
    RequestError for a task that there is not, that cannot be loaded, or that would be asked otherwise than there.
    """
    with _quiet(), _seeded():
        task = _load(spec)
        return iter(list(parse(task.eval_docs, lambda number, doc: [_example(task, spec, number, doc)])))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages and the progress bars of the harness and of what it fetches data with."""
    import datasets.utils
    import huggingface_hub.utils

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    libraries = (datasets.utils, huggingface_hub.utils)
    with_bars = [library for library in libraries if not library.are_progress_bars_disabled()]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    for library in with_bars:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library in with_bars:
            library.enable_progress_bars()


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """With the generators of Python and NumPy as the harness seeds them: some tasks shuffle their choices."""
    states = random.getstate(), np.random.get_state()
    random.seed(_SEED)
    np.random.seed(_NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _load(spec: DatasetSpec) -> Any:
    """The task, with its data set read and its sampler of few-shot examples seeded."""
    if spec.task is None:
        raise RequestError("dataset.task is missing; set it with dataset.task=<a task of lm-evaluation-harness>")
    if spec.num_fewshot < 0:
        raise RequestError(f"dataset.num_fewshot={spec.num_fewshot} is too small; it is a count of 0 or more")
    try:
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError:
        raise RequestError("dataset=lm_eval needs lm-evaluation-harness: pip install 'laser-sweep[lm_eval]'") from None
    path = _path(spec)
    file = path if path is not None and path.is_file() else None  # a manager loads it by its name, but does not find it
    manager = TaskManager(include_path=None if file else path, include_defaults=path is None)
    if file is None:
        _check_name(spec, manager)
        _check_config(spec, manager.task_index[spec.task].cfg)  # before a data set is fetched
    try:
        tasks = manager.load(spec.task if file is None else str(file))["tasks"]
    except Exception as error:  # the code of a task may do anything
        elsewhere = "; dataset.path=<directory or YAML file> takes tasks with data files of your own"
        hint = elsewhere if path is None and isinstance(error, OSError) else ""
        raise RequestError(f"dataset.task={spec.task} cannot be loaded: {_one_line(error)}{hint}") from None
    if list(tasks) != [spec.task]:
        raise RequestError(f"dataset.path={spec.path} holds {listing(tasks)}, not dataset.task={spec.task}")
    task = tasks[spec.task]
    _check_config(spec, task.dump_config() if type(task) is ConfigurableTask else {"class": type(task)})
    if task.multiple_input:
        raise _refused(spec, "multiple_choice", "each choice has a prompt of its own")
    if spec.num_fewshot and task.get_config("num_fewshot") == 0:
        raise RequestError(
            f"dataset.num_fewshot={spec.num_fewshot}: the harness asks dataset.task={spec.task} without examples only; "
            "set it to 0"
        )
    task.set_fewshot_seed(_FEWSHOT_SEED)
    return task


def _path(spec: DatasetSpec) -> Path | None:
    if spec.path is None:
        return None
    path = hub.local_path(spec.path)
    if path is None or not path.exists():
        raise RequestError(f"dataset.path={spec.path} does not exist; give a directory or a YAML file of tasks")
    return path


def _check_name(spec: DatasetSpec, manager: Any) -> None:
    names = manager.all_subtasks
    if spec.task in names:
        return
    if spec.task in manager.all_tasks:
        entry = manager.task_index[spec.task]
        listed = (entry.cfg or {}).get("task")
        members = sorted(entry.tags) if not listed else [member for member in listed if isinstance(member, str)]
        raise RequestError(
            f"dataset.task={spec.task} is a group of tasks; give one of them, such as {listing(members[:_SHOWN])}"
        )
    place = "lm-evaluation-harness" if spec.path is None else f"dataset.path={spec.path}"
    known = "" if spec.path is None else f"; it has {listing(names[:_SHOWN]) or 'no task'}"
    raise RequestError(f"dataset.task={spec.task} is not in {place}{suggestion(str(spec.task), names)}{known}")


def _check_config(spec: DatasetSpec, config: Mapping[str, Any]) -> None:
    """Raises RequestError for a task that the engine would ask otherwise than the harness does."""
    if "class" in config:
        raise _refused(spec, "class", "it is Python code of its own")
    output_type = config.get("output_type", _OUTPUT_TYPE)
    if output_type != "multiple_choice":
        raise _refused(spec, output_type, _NOT_ASKED.get(output_type, "its kind is unknown"))
    if config.get("process_results"):
        raise _refused(spec, output_type, "it measures something of its own (process_results)")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise _refused(spec, output_type, "its prompts are not only text")


def _refused(spec: DatasetSpec, output_type: str, reason: str) -> RequestError:
    return RequestError(
        f"dataset.task={spec.task} ({output_type}) cannot be asked as the harness does: {reason}; "
        "dataset=lm_eval asks multiple_choice tasks whose choices follow one prompt after a space"
    )


def _example(task: Any, spec: DatasetSpec, number: int, doc: Row) -> Example:
    try:
        context = task.fewshot_context(doc, num_fewshot=spec.num_fewshot, gen_prefix=task.doc_to_prefix(doc))
        choices = task.doc_to_choice(doc)
        target = task.doc_to_target(doc)
        requests = task.construct_requests(doc=doc, ctx=context, metadata=(spec.task, number, 1))
    except Exception as error:  # the code of a task may do anything
        raise RequestError(
            f"dataset.task={spec.task} dataset.num_fewshot={spec.num_fewshot}: "
            f"the prompt of row {number} cannot be built: {_one_line(error)}"
        ) from None
    # acc_mutual_info asks more than the choices, behind them
    continuations = [request.arguments[1] for request in requests[: len(choices)]]
    start = context + _common_space(continuations)
    if not start.endswith(" "):
        between = start[len(start.rstrip()) :]
        raise _refused(spec, "multiple_choice", f"its choices follow the prompt after {between!r} (row {number})")
    answers = tuple(continuation.strip() for continuation in continuations)
    place = _place(target, choices)
    if answers[place] in answers[:place]:
        raise BadRowError(f"choice {answers[place]!r} stands twice")
    return Example(id=str(number), row=number, prompt=start[:-1], gold=answers[place], choices=answers)


def _common_space(continuations: Sequence[str]) -> str:
    """The white space in front of every choice. Raises BadRowError where it differs, or where there is more behind."""
    spaces = {text[: len(text) - len(text.lstrip())] for text in continuations}
    for text in continuations:
        if text != text.rstrip():
            raise BadRowError(f"choice {text!r} ends in white space")
    if len(spaces) != 1:
        raise BadRowError(f"the choices begin behind different white space: {listing(map(repr, sorted(spaces)))}")
    return spaces.pop()


def _place(target: Any, choices: Sequence[str]) -> int:
    """The place of the right choice, which may be said by its text. Raises BadRowError where there is not one."""
    if isinstance(target, list):
        if len(target) != 1:
            raise BadRowError(f"there are {len(target)} right choices instead of 1")
        target = target[0]
    if isinstance(target, str) and target in choices:
        return list(choices).index(target)
    if isinstance(target, int) and 0 <= target < len(choices):
        return target
    raise BadRowError(f"target {target!r} is none of the {len(choices)} choices")


def _one_line(error: BaseException) -> str:
    told = error.__cause__ or error
    return f"{type(told).__name__}: {' '.join(str(told).split())}"
