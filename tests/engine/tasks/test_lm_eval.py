"""What lm-evaluation-harness builds is what is asked, and what it finds is what our worker finds."""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets.utils
import lm_eval
import numpy as np
import pytest
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example, Task
from laser_sweep.engine.tasks.lm_eval import examples
from laser_sweep.engine.tasks.registry import check_family, load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.tasks.tokenise import encode
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.trial import Edit, Evaluation, Matrix, Trial

WriteTask = Callable[..., Path]
BuildModel = Callable[..., PreTrainedModel]

WORDS = ("amber", "apple", "arrow", "basket", "beacon", "birch", "bridge", "candle", "canyon", "carpet", "cedar")
ONLY = "dataset=lm_eval asks multiple_choice tasks whose choices follow one prompt after a space"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions with two choices of one token, or three of one or several tokens and several lengths."""
    draw = random.Random(seed)
    made = []
    for i in range(count):
        choices = ["true", "false"]
        if i % 3:
            choices = [" ".join(draw.sample(WORDS, k=length)) for length in draw.choices((1, 2, 3), k=3)]
        question = " ".join(draw.choices(WORDS, k=draw.randint(2, 6)))
        made.append({"question": f"{i}: {question}?", "choices": choices, "label": draw.randrange(len(choices))})
    return made


@pytest.fixture
def write_task(tmp_path: Path) -> WriteTask:
    """`write_task(rows, **config)`: a directory with the task `mine`, its test rows and 30 for training."""

    def write(test: Sequence[Mapping[str, Any]] | None = None, **config: Any) -> Path:
        directory = tmp_path / "tasks"
        directory.mkdir(exist_ok=True)
        splits = {"train": rows(30, seed=1), "test": rows(24) if test is None else test}
        for name, split in splits.items():
            (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in split))
        task = {
            "task": "mine",
            "output_type": "multiple_choice",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {name: str(directory / f"{name}.jsonl") for name in splits}},
            "training_split": "train",
            "test_split": "test",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
        }
        text = yaml.safe_dump({key: value for key, value in {**task, **config}.items() if value is not None})
        # What stands as a text after this tag is the name of a function beside the file.
        (directory / "mine.yaml").write_text(text.replace("'!function ", "!function '"))
        return directory

    return write


@pytest.fixture(scope="module")
def subwords() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, as GPT-J's: some words are one token, the others several, the first with the space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    often, seldom = " true false amber apple arrow cedar", f" {' '.join(WORDS)} none same"
    tokenizer.train_from_iterator([often] * 9 + [seldom] * 5, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


def read(
    tasks: Path | None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    *,
    task: str | None = "mine",
    num_fewshot: int = 0,
) -> list[Example | BadRow]:
    def no_tokenizer() -> PreTrainedTokenizerFast:
        return tokenizer or pytest.fail("no tokenizer is needed")

    return list(examples(spec(tasks, task=task, num_fewshot=num_fewshot), AskedModel("causal", no_tokenizer)))


def spec(tasks: Path | None, *, task: str | None = "mine", num_fewshot: int = 0) -> DatasetSpec:
    path = None if tasks is None else str(tasks)
    return DatasetSpec(name=task or "none", format="lm_eval", task=task, path=path, num_fewshot=num_fewshot)


def refusal(tasks: Path | None, **options: Any) -> str:
    with pytest.raises(RequestError) as error:
        read(tasks, **options)
    return str(error.value)


def of_the_harness(
    tasks: Path, num_fewshot: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[float, list[dict[str, Any]]]:
    """The accuracy, and what the harness logs of each document."""
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu"),
        tasks=["mine"],
        num_fewshot=num_fewshot,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    return found["results"]["mine"]["acc,none"], sorted(found["samples"]["mine"], key=lambda doc: doc["doc_id"])


@dataclass(frozen=True)
class Asked:
    """What our worker finds, in the order of the data set."""

    correct: list[bool]
    gold_log_prob: list[float]


def of_our_worker(checkpoint: Checkpoint, task: Task, *edits: Edit) -> Asked:
    trials = [
        Trial(
            model=checkpoint.identity,
            edits=edits,
            evaluation=Evaluation(dataset=task.name, revision=task.revision, split=split),
        )
        for split in ("val", "test")
    ]
    found = []
    for result in Worker([Workload(checkpoint=checkpoint, task=task, batch_tokens=256)], device="cpu").run(trials):
        assert result.predictions is not None, result.error
        found.append(result.predictions)
    assert [name for part in found for name in part.example_id] == [example.id for example in task.examples]
    return Asked(
        [bool(correct) for part in found for correct in part.correct],
        [float(value) for part in found for value in part.gold_log_prob],
    )


def log_likelihoods(
    checkpoint: Checkpoint, task: Task, documents: Sequence[Mapping[str, Any]], *edits: Edit
) -> tuple[np.ndarray, np.ndarray]:
    """What our worker and the harness find of each choice (documents, 3); a third choice is the second where it lacks.

    Ours is known of the gold answer only, so each choice in turn is asked for as that.
    """
    ours, theirs = [], []
    for place in range(3):
        golds = [replace(e, gold=e.choices[min(place, len(e.choices) - 1)]) for e in task.examples]
        ours.append(of_our_worker(checkpoint, replace(task, examples=tuple(golds)), *edits).gold_log_prob)
        found = [document["filtered_resps"] for document in documents]
        theirs.append([sums[min(place, len(sums) - 1)][0] for sums in found])
    return np.transpose(ours), np.transpose(theirs)


@pytest.fixture
def with_subwords(build_model: BuildModel, subwords: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[..., Any]:
    """`with_subwords(architecture)`: a model that reads long prompts, and its checkpoint."""

    def make(architecture: str) -> tuple[PreTrainedModel, Checkpoint]:
        positions = {"gptj": "n_positions", "llama": "max_position_embeddings"}[architecture]
        model = build_model(architecture, vocab_size=len(subwords), **{positions: 512})
        model.save_pretrained(tmp_path / architecture)
        subwords.save_pretrained(tmp_path / architecture)
        return model, find_checkpoint(ModelSpec(name=architecture, path=str(tmp_path / architecture)))

    return make


@pytest.mark.parametrize(
    ("architecture", "weight", "num_fewshot", "rho"),
    [
        ("gptj", "transformer.h.1.mlp.fc_in", 0, None),
        ("gptj", "transformer.h.1.mlp.fc_in", 2, 0.1),
        ("llama", "model.layers.1.mlp.gate_proj", 2, None),
        ("llama", "model.layers.1.mlp.gate_proj", 0, 0.1),
    ],
)
def test_accuracy_decisions_and_log_likelihoods_are_those_of_the_harness(
    architecture: str,
    weight: str,
    num_fewshot: int,
    rho: float | None,
    with_subwords: Callable[..., tuple[PreTrainedModel, Checkpoint]],
    subwords: PreTrainedTokenizerFast,
    write_task: WriteTask,
    svd_truncation: Callable[[torch.Tensor, int], torch.Tensor],
) -> None:
    model, checkpoint = with_subwords(architecture)
    tasks = write_task()
    task = load_task(spec(tasks, num_fewshot=num_fewshot), AskedModel("causal", lambda: subwords))
    edits = () if rho is None else (Edit(matrix=Matrix("fc_in", 1), rho=rho),)
    if rho is not None:
        edited = model.get_submodule(weight).weight
        edited.copy_(svd_truncation(edited, 3))
    accuracy, documents = of_the_harness(tasks, num_fewshot, model, subwords)

    asked = of_our_worker(checkpoint, task, *edits)

    assert asked.correct == [bool(document["acc"]) for document in documents]
    assert 0 < sum(asked.correct) < len(documents)
    assert np.mean(asked.correct) == pytest.approx(accuracy, rel=0, abs=1e-12)
    kinds = {one.kind for one in encode(task, task.examples, subwords, max_tokens=None)[0]}
    assert kinds == {"token", "choices"}
    ours, theirs = log_likelihoods(checkpoint, task, documents, *edits)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_the_white_space_at_the_end_of_a_prompt_belongs_to_the_choices(
    with_subwords: Callable[..., tuple[PreTrainedModel, Checkpoint]],
    subwords: PreTrainedTokenizerFast,
    write_task: WriteTask,
) -> None:
    model, checkpoint = with_subwords("gptj")
    tasks = write_task(doc_to_text="Question: {{question}}\nAnswer:\n")
    task = load_task(spec(tasks), AskedModel("causal", lambda: subwords))
    accuracy, documents = of_the_harness(tasks, 0, model, subwords)
    asked = of_our_worker(checkpoint, task)
    assert asked.correct == [bool(document["acc"]) for document in documents]
    assert np.mean(asked.correct) == pytest.approx(accuracy, rel=0, abs=1e-12)
    ours, theirs = log_likelihoods(checkpoint, task, documents)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_fewshot", [0, 2])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"description": "The following are questions.\n\n", "fewshot_delimiter": "\n###\n"},
        {"doc_to_target": "{{choices[label]}}"},
        {"doc_to_choice": "{{choices + ['none']}}", "training_split": None, "validation_split": "train"},
        {"target_delimiter": "", "doc_to_text": "{{question}} Answer: "},
        {"target_delimiter": "", "doc_to_choice": "{{[' ' + choices[0], ' ' + choices[1]]}}", "doc_to_target": 1},
        {"doc_to_text": "{{question}}\n", "gen_prefix": "The answer is"},
        {"metric_list": [{"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}]},
        {"fewshot_config": {"sampler": "first_n"}, "fewshot_split": "train"},
    ],
    ids=lambda config: "+".join(config) or "plain",
)
def test_prompts_and_choices_are_those_of_the_requests_that_the_harness_builds(
    config: dict[str, Any], num_fewshot: int, write_task: WriteTask, subwords: PreTrainedTokenizerFast
) -> None:
    tasks = write_task(**config)
    task = TaskManager(include_path=str(tasks), include_defaults=False).load("mine")["tasks"]["mine"]
    task.set_config("num_fewshot", num_fewshot)
    task.set_fewshot_seed(1234)  # as lm_eval.simple_evaluate does
    task.build_all_requests()
    texts: dict[int, list[str]] = {}
    for request in task.instances:
        context, continuation = request.args
        if context:  # acc_mutual_info asks for the choices alone, too
            texts.setdefault(request.doc_id, []).append(context + continuation)
    golds = {number: task.doc_to_target(doc) for number, doc in enumerate(task.eval_docs)}

    found = read(tasks, subwords, num_fewshot=num_fewshot)

    assert [one.row for one in found] == list(texts) == list(range(24))
    for one in found:
        assert isinstance(one, Example)
        assert one.id == str(one.row)
        assert [f"{one.prompt} {choice}" for choice in one.choices] == texts[one.row]
        gold = golds[one.row]
        assert f"{one.prompt} {one.gold}" == (texts[one.row][gold] if isinstance(gold, int) else f"{one.prompt} {gold}")


def test_solved_examples_are_drawn_alike_each_time_and_differ_between_rows(
    write_task: WriteTask, subwords: PreTrainedTokenizerFast
) -> None:
    tasks = write_task()
    once, again = read(tasks, subwords, num_fewshot=2), read(tasks, subwords, num_fewshot=2)
    assert once == again
    solved = {one.prompt.rpartition("\n\n")[0] for one in once if isinstance(one, Example)}
    assert len(solved) > 20
    assert all(text.count("Answer: ") == 2 for text in solved)


def test_a_task_that_shuffles_its_choices_is_the_same_each_time_and_the_harness_s(
    write_task: WriteTask, subwords: PreTrainedTokenizerFast, build_model: BuildModel
) -> None:
    tasks = write_task(process_docs="!function shuffled.shuffled")
    (tasks / "shuffled.py").write_text(
        "import random, datasets, numpy\n"
        "def shuffled(rows):\n"
        "    made = []\n"
        "    for row in rows:\n"
        "        choices = random.sample(row['choices'], len(row['choices']))\n"
        "        made.append({**row, 'choices': choices, 'label': int(numpy.random.randint(len(choices)))})\n"
        "    return datasets.Dataset.from_list(made)\n"
    )
    random.seed(5)
    np.random.seed(5)
    expected = random.Random(5).random(), np.random.RandomState(5).random()
    once = read(tasks, subwords)
    assert (random.random(), np.random.random()) == expected
    assert read(tasks, subwords) == once
    model = build_model("gptj", vocab_size=len(subwords), n_positions=512)
    _, documents = of_the_harness(tasks, 0, model, subwords)
    assert [one.choices for one in once if isinstance(one, Example)] == [
        tuple(continuation.strip() for _, continuation in document["arguments"]) for document in documents
    ]


def test_the_validation_split_is_asked_where_there_is_no_test_split(
    write_task: WriteTask, subwords: PreTrainedTokenizerFast
) -> None:
    found = read(write_task(validation_split="train", test_split=None), subwords)
    assert len(found) == 30
    assert isinstance(found[3], Example)
    assert rows(30, seed=1)[3]["question"] in found[3].prompt


def test_one_file_takes_the_place_of_a_directory(write_task: WriteTask, subwords: PreTrainedTokenizerFast) -> None:
    tasks = write_task()
    assert read(tasks / "mine.yaml", subwords) == read(tasks, subwords)
    line = refusal(tasks / "mine.yaml", task="yours")
    assert line == f"dataset.path={tasks}/mine.yaml holds mine, not dataset.task=yours"


def test_nothing_is_printed_or_logged_and_what_is_silenced_speaks_again(
    write_task: WriteTask,
    subwords: PreTrainedTokenizerFast,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    datasets.enable_progress_bars()
    tasks = write_task(metric_list=[{"metric": "acc"}])  # about which the harness warns twice
    levels = [logging.getLogger(name).level for name in ("lm_eval", "datasets")]
    with caplog.at_level(logging.INFO):
        read(tasks, subwords, num_fewshot=2)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert [logging.getLogger(name).level for name in ("lm_eval", "datasets")] == levels
    assert not datasets.utils.are_progress_bars_disabled()


@pytest.mark.parametrize(
    ("config", "kind", "reason"),
    [
        ({"output_type": "generate_until"}, "generate_until", "the answer is a text that the model writes"),
        ({"output_type": None}, "generate_until", "the answer is a text that the model writes"),
        (
            {"output_type": "loglikelihood", "doc_to_choice": None, "doc_to_target": "{{' ' + choices[label]}}"},
            "loglikelihood",
            "the answer is one text without choices, right only as the exact tokens that come greedily",
        ),
        ({"output_type": "loglikelihood_rolling"}, "loglikelihood_rolling", "there is no answer"),
        (
            {"doc_to_text": "label", "doc_to_choice": "choices", "doc_to_target": "question"},
            "multiple_choice",
            "each choice has a prompt of its own",
        ),
        (
            {"process_results": "!function measure.measure"},
            "multiple_choice",
            "it measures something of its own (process_results)",
        ),
        ({"doc_to_image": ["question"]}, "multiple_choice", "its prompts are not only text"),
        ({"class": "!function measure.Own"}, "class", "it is Python code of its own"),
        ({"target_delimiter": ""}, "multiple_choice", "its choices follow the prompt after '' (row 0)"),
        ({"target_delimiter": "\n"}, "multiple_choice", "its choices follow the prompt after '\\n' (row 0)"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("file", ["", "mine.yaml"])
def test_a_task_that_cannot_be_asked_as_the_harness_does_is_refused(
    config: dict[str, Any], kind: str, reason: str, file: str, write_task: WriteTask
) -> None:
    tasks = write_task(**config)
    (tasks / "measure.py").write_text(
        "from lm_eval.api.task import ConfigurableTask\n"
        "def measure(doc, results): return {'acc': 0}\n"
        "class Own(ConfigurableTask):\n"
        "    def __init__(self, config):\n"
        "        config.pop('class')\n"
        "        super().__init__(config=config)\n"
    )
    expected = f"dataset.task=mine ({kind}) cannot be asked as the harness does: {reason}; {ONLY}"
    assert refusal(tasks / file) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": ["true ", "false"]}, "choice ' true ' ends in white space"),
        ({"choices": [" true", "false"]}, "the choices begin behind different white space: ' ', '  '"),
        ({"choices": ["true", ""]}, "choice ' ' ends in white space"),
        ({"choices": ["same", "same"], "label": 1}, "choice 'same' stands twice"),
        ({"choices": ["true", "false"], "label": 2}, "target 2 is none of the 2 choices"),
        ({"choices": ["true", "false"], "label": -1}, "target -1 is none of the 2 choices"),
    ],
)
def test_a_row_that_cannot_be_asked_is_bad_and_the_others_are_asked(
    row: dict[str, Any], reason: str, write_task: WriteTask, subwords: PreTrainedTokenizerFast
) -> None:
    test = rows(6)
    test[4] |= {"label": 0, **row}
    found = read(write_task(test), subwords)
    assert [type(one) for one in found] == [Example] * 4 + [BadRow, Example]
    assert found[4] == BadRow(4, reason)


def test_several_right_choices_are_bad_and_one_in_a_list_is_not(
    write_task: WriteTask, subwords: PreTrainedTokenizerFast
) -> None:
    test = [{**row, "labels": [0]} for row in rows(6)]
    test[2]["labels"] = [0, 1]
    found = read(write_task(test, doc_to_target="labels", training_split=None), subwords)
    assert found[2] == BadRow(2, "there are 2 right choices instead of 1")
    assert [type(one) for one in found].count(Example) == 5


def test_a_task_without_a_name_is_asked_for() -> None:
    expected = "dataset.task is missing; set it with dataset.task=<a task of lm-evaluation-harness>"
    assert refusal(None, task=None) == expected


def test_without_the_harness_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    expected = "dataset=lm_eval needs lm-evaluation-harness: pip install 'laser-sweep[lm_eval]'"
    assert refusal(None) == expected


def test_a_name_that_is_no_task_of_a_directory_is_reported_beside_those_that_are(
    write_task: WriteTask, tmp_path: Path
) -> None:
    tasks = write_task(tag="ours")
    (tasks / "all.yaml").write_text("group: all_of_mine\ntask: [mine]\n")
    place = f"dataset.path={tasks}"
    assert refusal(tasks, task="mime") == f"dataset.task=mime is not in {place} (did you mean mine?); it has mine"
    for group in ("ours", "all_of_mine"):
        expected = f"dataset.task={group} is a group of tasks; give one of them, such as mine"
        assert refusal(tasks, task=group) == expected
    nowhere = tmp_path / "nowhere"
    expected = f"dataset.path={nowhere} does not exist; give a directory or a YAML file of tasks"
    assert refusal(nowhere) == expected
    (empty := tmp_path / "empty").mkdir()
    assert refusal(empty) == f"dataset.task=mine is not in dataset.path={empty}; it has no task"


def test_a_task_that_cannot_be_loaded_is_reported_in_one_line(write_task: WriteTask) -> None:
    tasks = write_task(doc_to_text="{{question")
    line = refusal(tasks)
    assert line.startswith("dataset.task=mine cannot be loaded: TemplateSyntaxError: ")
    assert "\n" not in line
    (tasks / "train.jsonl").unlink()
    assert refusal(tasks).startswith("dataset.task=mine cannot be loaded: FileNotFoundError: ")


def test_a_prompt_that_cannot_be_built_is_reported_with_its_row(write_task: WriteTask) -> None:
    line = refusal(write_task(), num_fewshot=31)
    expected = (
        "dataset.task=mine dataset.num_fewshot=31: the prompt of row 0 cannot be built: ValueError: Sample larger"
    )
    assert line.startswith(expected)


def test_a_number_of_solved_examples_that_the_harness_would_not_give_is_refused(write_task: WriteTask) -> None:
    tasks = write_task(num_fewshot=0)
    assert refusal(tasks, num_fewshot=2) == (
        "dataset.num_fewshot=2: the harness asks dataset.task=mine without examples only; set it to 0"
    )
    expected = "dataset.num_fewshot=-1 is too small; it is a count of 0 or more"
    assert refusal(tasks, num_fewshot=-1) == expected


def test_tasks_that_come_with_the_harness_are_found_and_without_a_network_their_data_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    line = refusal(None, task="arc_easy")
    assert line.startswith("dataset.task=arc_easy cannot be loaded: ConnectionError: ")
    assert line.endswith("; dataset.path=<directory or YAML file> takes tasks with data files of your own")
    assert "\n" not in line


def test_masked_models_are_refused() -> None:
    with pytest.raises(RequestError, match="asks causal language models, but model=roberta is a masked one"):
        check_family(spec(None), "masked", "roberta")
