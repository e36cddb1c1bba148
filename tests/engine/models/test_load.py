from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.load import load_model, load_skeleton, load_tokenizer, refuse_offloaded
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


def test_a_model_that_reads_in_both_directions_does_not_continue_prompts(
    build_masked: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    for name, reason in (("roberta", "is_decoder=false in its config.json"), ("deberta_v2", "a deberta-v2 model")):
        build_masked(name).save_pretrained(tmp_path / name)
        with pytest.raises(RequestError) as error:
            load_skeleton(checkpoint(tmp_path / name, family="causal"))
        assert str(error.value) == (
            f"model.path={tmp_path / name} reads in both directions ({reason}), so it cannot continue a prompt; "
            "model.family=masked asks it for the word behind a mask"
        )


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("llama", "is a llama model, which fills in no masks"), ("roberta", "reads from left to right")],
)
def test_a_model_that_continues_prompts_fills_in_no_masks(
    architecture: str, reason: str, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    save_checkpoint(architecture, tmp_path)
    with pytest.raises(RequestError, match=rf"^model\.path={tmp_path} {reason}.*; give model\.family=causal$"):
        load_skeleton(checkpoint(tmp_path, family="masked"))


def test_a_model_of_two_halves_is_refused(tmp_path: Path) -> None:
    shape = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart", "is_encoder_decoder": True, **shape}))
    with pytest.raises(RequestError, match=r"has an encoder and a decoder"):
        load_skeleton(checkpoint(tmp_path, family="masked"))


@pytest.mark.parametrize("architecture", ["roberta", "bert", "electra", "deberta_v2", "modernbert", "distilbert"])
def test_a_model_that_fills_in_masks_is_loaded_as_it_was_saved(
    architecture: str, build_masked: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    saved = build_masked(architecture)
    saved.save_pretrained(tmp_path)
    found = checkpoint(tmp_path)
    assert found.family == "masked"
    loaded = load_model(found, CPU)
    assert type(loaded) is type(saved)
    input_ids = torch.arange(5, 15)[None]
    assert torch.equal(loaded(input_ids=input_ids).logits, saved(input_ids=input_ids).logits)
    changed = input_ids.clone()
    changed[0, -1] = 20
    assert not torch.equal(loaded(input_ids=changed).logits[0, 0], saved(input_ids=input_ids).logits[0, 0])


@pytest.mark.parametrize("architecture", ["roberta", "bert"])
def test_a_checkpoint_of_the_hub_has_more_and_less_than_the_model_and_is_loaded(
    architecture: str, build_masked: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    """As in roberta-base and bert-base-uncased: tied weights once, poolers, buffers, and names of older days."""
    saved = build_masked(architecture)
    saved.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    older = {}
    for name, weight in weights.items():
        if ".decoder." not in name:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            older[old if architecture == "bert" else name] = weight
    older[f"{architecture}.embeddings.position_ids"] = torch.arange(66)[None]
    older |= {f"{architecture}.pooler.dense.weight": torch.zeros(32, 32)}
    older |= {f"{architecture}.pooler.dense.bias": torch.zeros(32)}
    save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    input_ids = torch.arange(5, 15)[None]
    loaded = load_model(checkpoint(tmp_path), CPU)
    assert torch.equal(loaded(input_ids=input_ids).logits, saved(input_ids=input_ids).logits)


def test_a_checkpoint_whose_weights_do_not_fit_its_configuration_is_refused(
    save_checkpoint: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line, and without the table that transformers prints."""
    config = save_checkpoint("gptj", tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "n_inner": 48}))
    with pytest.raises(
        RequestError, match=r"does not fit its config\.json: transformer\..* is \[128.* instead of \[48"
    ):
        load_model(checkpoint(tmp_path), CPU)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", ["n_embd", "n_head", "attn_pdrop", "quantization_config"])
@pytest.mark.parametrize("value", ["many", [], -1])
def test_a_configuration_that_transformers_chokes_on_is_refused_in_a_line(
    key: str, value: object, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    config = save_checkpoint("gptj", tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    with pytest.raises(RequestError, match=r"^model\.path="):
        load_skeleton(checkpoint(tmp_path))


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": null}', "\0", '{"version": {}}'])
def test_a_damaged_tokenizer_is_refused_in_a_line(
    content: str, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    (save_checkpoint("gptj", tmp_path) / "tokenizer.json").write_text(content)
    with pytest.raises(RequestError, match="has no usable tokenizer: "):
        load_tokenizer(checkpoint(tmp_path))


def test_a_checkpoint_without_the_head_that_fills_in_masks_is_refused(
    build_masked: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    model = build_masked("roberta")
    model.roberta.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"lacks the weights lm_head\."):
        load_model(checkpoint(tmp_path, family="masked"), CPU)


@pytest.mark.parametrize("device_map", ["auto", "balanced"])
def test_a_model_that_is_spread_says_what_it_says_on_one_device(device_map: str, directory: Path) -> None:
    spread, whole = (load_model(checkpoint(directory, device_map=name), CPU) for name in (device_map, "single"))
    input_ids = torch.arange(5, 15)[None]
    assert torch.equal(spread(input_ids=input_ids).logits, whole(input_ids=input_ids).logits)
    assert not spread.training
    assert not any(parameter.requires_grad for parameter in spread.parameters())


@pytest.mark.parametrize("device_map", ["auto", "balanced"])
def test_a_model_that_is_spread_stays_where_accelerate_put_it(device_map: str, directory: Path) -> None:
    meta = torch.device("meta")  # stands for a device that accelerate did not choose: here there is only the CPU
    assert load_model(checkpoint(directory), meta).device == meta
    with pytest.raises(RequestError, match=r"worker's meta devices, e\.g\. transformer\.wte\.weight, .* left in cpu"):
        load_model(checkpoint(directory, device_map=device_map), meta)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_model_of_which_a_part_found_no_room_is_refused(
    place: str, build_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    model = build_model("gptj")
    block = model.transformer.h[1]
    if place == "memory":
        accelerate.cpu_offload(block, execution_device=CPU)
    else:
        accelerate.disk_offload(block, str(tmp_path), execution_device=CPU)
    assert model(input_ids=torch.arange(5, 15)[None]).logits.isfinite().all()  # it works, but not for an edit
    with pytest.raises(RequestError) as error:
        refuse_offloaded(model, CPU)
    message = str(error.value)
    assert message.startswith(
        "10 weights of GPTJForCausalLM found no room on the worker's cpu devices, e.g. transformer.h.1"
    )
    assert "main memory or disk" in message
    assert "cluster.gpus_per_worker=<n>" in message


def test_weights_on_another_kind_of_device_than_the_workers_are_refused(
    build_model: Callable[..., PreTrainedModel],
) -> None:
    model = build_model("gptj")
    refuse_offloaded(model, CPU)
    with pytest.raises(
        RequestError, match=r"worker's cuda devices, e\.g\. transformer\.wte\.weight, which is left in cpu"
    ):
        refuse_offloaded(model, torch.device("cuda"))


def test_a_model_cannot_be_spread_without_accelerate(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)  # how Python marks what cannot be imported
    load_skeleton(checkpoint(directory))
    for load in (load_skeleton, lambda found: load_model(found, CPU)):
        with pytest.raises(RequestError, match=r"^model\.device_map=auto needs accelerate: pip install 'laser-sweep"):
            load(checkpoint(directory, device_map="auto"))


def test_code_that_a_checkpoint_brings_along_is_never_run(directory: Path) -> None:
    (directory / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}})
    )
    (directory / "own.py").write_text(f"open({str(directory / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(RequestError, match="comes with Python code of its own, which is never run"):
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
