from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.load import load_model, load_skeleton, load_tokenizer
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.errors import RequestError

CPU = torch.device("cpu")


def checkpoint(directory: Path, **changes: Any) -> Checkpoint:
    return find_checkpoint(ModelSpec(name="tiny", path=str(directory), **changes))


@pytest.fixture
def directory(save_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    return save_checkpoint("gptj", tmp_path / "gptj")


def test_a_loaded_model_has_the_weights_of_its_checkpoint(
    directory: Path, build_model: Callable[..., PreTrainedModel]
) -> None:
    loaded = load_model(checkpoint(directory), CPU).state_dict()
    saved = build_model("gptj").state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_a_loaded_model_neither_trains_nor_keeps_gradients(directory: Path) -> None:
    model = load_model(checkpoint(directory), CPU)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_model_is_loaded_in_the_dtype_that_was_asked_for(dtype: str, directory: Path) -> None:
    assert load_model(checkpoint(directory, dtype=dtype), CPU).dtype == getattr(torch, dtype)


def test_a_model_is_loaded_in_the_dtype_in_which_it_was_saved(
    build_model: Callable[..., PreTrainedModel], save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    save_checkpoint(build_model("llama", dtype=torch.bfloat16), tmp_path)
    found = checkpoint(tmp_path)
    assert found.identity.dtype == "bfloat16"
    assert load_model(found, CPU).dtype == torch.bfloat16


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_model_is_loaded_with_the_attention_that_was_asked_for(
    implementation: str, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    save_checkpoint("llama", tmp_path)
    model = load_model(checkpoint(tmp_path, attn_implementation=implementation), CPU)
    assert model.config._attn_implementation == implementation


def test_a_checkpoint_that_lacks_a_weight_is_refused(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["transformer.h.1.mlp.fc_in.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RequestError, match=r"transformer\.h\.1\.mlp\.fc_in\.weight"):
        load_model(checkpoint(directory), CPU)


def test_a_skeleton_is_the_model_without_its_weights(
    directory: Path, build_model: Callable[..., PreTrainedModel]
) -> None:
    (directory / "model.safetensors").unlink()
    skeleton = load_skeleton(checkpoint(directory))
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert skeleton.num_parameters() == build_model("gptj").num_parameters()


def test_an_architecture_that_transformers_does_not_know_is_refused(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(
        RequestError, match=rf"^model\.path={directory} cannot be built by transformers: .*no-such-type"
    ):
        load_skeleton(checkpoint(directory))


def test_a_model_that_answers_no_prompts_is_refused(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(RequestError, match=rf"^model\.path={directory} cannot be built by transformers"):
        load_skeleton(checkpoint(directory))


def test_a_model_that_reads_in_both_directions_is_refused(
    build_model: Callable[..., PreTrainedModel], save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    save_checkpoint(build_model("roberta", is_decoder=False), tmp_path)
    with pytest.raises(RequestError, match=rf"^model\.path={tmp_path} .*is_decoder"):
        load_skeleton(checkpoint(tmp_path))


def test_code_that_a_checkpoint_brings_along_is_never_run(directory: Path) -> None:
    (directory / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}})
    )
    (directory / "own.py").write_text(f"open({str(directory / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(RequestError, match="cannot be built by transformers"):
        load_skeleton(checkpoint(directory))
    assert not (directory / "ran").exists()


def test_the_tokenizer_is_the_one_beside_the_configuration(directory: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    text = "amber true castle nonsense"
    assert load_tokenizer(checkpoint(directory))(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    "architecture",
    [
        "llama",
        "gptj",
    ],
)
def test_a_checkpoint_without_a_tokenizer_is_refused(
    architecture: str, build_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    build_model(architecture).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=rf"^model\.path={tmp_path} has no usable tokenizer"):
        load_tokenizer(checkpoint(tmp_path))
