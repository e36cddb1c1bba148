from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from transformers import PreTrainedModel

from laser_sweep.engine.models.checkpoint import fetch_settings, fetch_weights, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.errors import RequestError
from laser_sweep.trial import ModelId

NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a whole file of weights
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def spec(path: Path | str, **changes: Any) -> ModelSpec:
    return ModelSpec(name="tiny", path=str(path), **changes)


def write_config(directory: Path, **config: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    ("architecture", "layers"), [("gptj", 3), ("llama", 3), ("gpt2", 3), ("opt", 2), ("roberta", 2)]
)
def test_the_layer_count_is_read_from_what_transformers_saves(
    architecture: str, layers: int, build_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    build_model(architecture).config.save_pretrained(tmp_path)
    assert find_checkpoint(spec(tmp_path)).num_layers == layers


def test_the_layer_count_of_a_model_inside_a_larger_one_is_found(tmp_path: Path) -> None:
    checkpoint = find_checkpoint(spec(write_config(tmp_path, text_config={"num_hidden_layers": 26})))
    assert checkpoint.num_layers == 26


def test_the_layer_count_is_unknown_where_no_usual_key_holds_it(tmp_path: Path) -> None:
    assert find_checkpoint(spec(write_config(tmp_path, depth=12))).num_layers is None


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"torch_dtype": None}, "float32"),
        ({}, "float32"),
    ],
)
def test_the_dtype_auto_is_the_one_that_the_checkpoint_was_saved_in(
    config: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    write_config(tmp_path, **config)
    assert find_checkpoint(spec(tmp_path)).identity.dtype == dtype
    assert find_checkpoint(spec(tmp_path, dtype="bfloat16")).identity.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("architectures", "family"),
    [
        (["RobertaForMaskedLM"], "masked"),
        (["BertForPreTraining", "BertForMaskedLM"], "masked"),
        (["GPTJForCausalLM"], "causal"),
        (["RobertaForCausalLM"], "causal"),
        (["ForMaskedLMHead"], "causal"),
        ([], "causal"),
        (None, "causal"),
        (3, "causal"),
    ],
)
def test_the_family_is_that_of_the_architecture_that_was_saved(architectures: Any, family: str, tmp_path: Path) -> None:
    write_config(tmp_path, **({} if architectures is None else {"architectures": architectures}))
    assert find_checkpoint(spec(tmp_path)).family == family
    for asked in ("causal", "masked"):
        assert find_checkpoint(spec(tmp_path, family=asked)).family == asked


def test_the_family_is_read_from_what_transformers_saves(
    build_masked: Callable[..., PreTrainedModel], build_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    for family, model in (("masked", build_masked("roberta")), ("causal", build_model("roberta"))):
        model.save_pretrained(tmp_path / family)
        assert find_checkpoint(spec(tmp_path / family)).family == family


def test_roles_make_another_model_of_the_same_files(tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    plain = find_checkpoint(spec(tmp_path))
    revisions = {plain.identity.revision}
    for given in ({"fc_in": ["w1"]}, {"fc_out": ["w1"]}, {"fc_in": ["w2"]}, {"fc_in": ["w1", "w2"]}):
        found = find_checkpoint(spec(tmp_path, roles=read_roles(given)))
        again = find_checkpoint(spec(tmp_path, roles=read_roles(dict(given))))
        assert re.fullmatch(rf"{plain.identity.revision}\+roles-[0-9a-f]{{8}}", found.identity.revision)
        assert found.identity == again.identity
        assert found.commit == plain.commit == plain.identity.revision
        revisions.add(found.identity.revision)
    assert len(revisions) == 5


def test_the_mark_that_roles_leave_stays_the_same_from_release_to_release(tmp_path: Path) -> None:
    """Stored trials are found again by it."""
    write_config(tmp_path)
    found = find_checkpoint(spec(tmp_path, roles=read_roles({"fc_out": ["w2"], "fc_in": ["w1"]})))
    canonical = b'[["fc_in",["w1"]],["fc_out",["w2"]]]'
    assert found.identity.revision.endswith(f"+roles-{hashlib.blake2b(canonical, digest_size=4).hexdigest()}")


def test_a_local_model_is_known_by_the_content_of_its_files(tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = find_checkpoint(spec(tmp_path)).identity
    assert first == ModelId(name="tiny", repo="", revision=first.revision, dtype="float32")
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert find_checkpoint(spec(tmp_path)).identity.revision != first.revision


def test_a_local_model_has_its_weights_where_its_configuration_is(tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    (tmp_path / "model.safetensors").write_bytes(NO_TENSORS)
    assert fetch_weights(find_checkpoint(spec(tmp_path))) == tmp_path


def test_a_directory_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"^model\.path={tmp_path} holds no config\.json"):
        find_checkpoint(spec(tmp_path))


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", "3"])
def test_a_damaged_configuration_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RequestError, match=rf"^model\.path={tmp_path} has a damaged config\.json: "):
        find_checkpoint(spec(tmp_path))


@pytest.fixture
def cached_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of `owner/tiny` in a hub cache: a configuration, no weights."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return write_config(snapshot, n_layer=28, torch_dtype="float16")


def test_a_model_of_the_hub_is_known_by_its_commit_before_its_weights_are_here(cached_model: Path) -> None:
    checkpoint = find_checkpoint(spec("owner/tiny"))
    assert checkpoint.identity == ModelId(name="tiny", repo="owner/tiny", revision=COMMIT, dtype="float16")
    assert checkpoint.num_layers == 28
    assert checkpoint.directory == cached_model


def test_weights_of_the_hub_are_fetched_at_the_commit_that_was_found(cached_model: Path) -> None:
    (cached_model / "model.safetensors").write_bytes(NO_TENSORS)
    checkpoint = find_checkpoint(spec("owner/tiny"))
    (cached_model.parent.parent / "refs" / "main").write_text("f" * 40)  # the branch moved on meanwhile
    assert fetch_weights(checkpoint) == cached_model


def test_settings_are_read_from_the_cache_of_the_machine_that_calls(
    cached_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = find_checkpoint(spec("owner/tiny"))
    assert fetch_settings(checkpoint) == cached_model
    elsewhere = tmp_path / "another machine"
    elsewhere.mkdir()
    (tmp_path / "models--owner--tiny").rename(elsewhere / "models--owner--tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(elsewhere))
    assert fetch_settings(checkpoint) == elsewhere / cached_model.relative_to(tmp_path)


def test_weights_of_the_hub_are_fetched_at_their_commit_whatever_roles_say(cached_model: Path) -> None:
    (cached_model / "model.safetensors").write_bytes(NO_TENSORS)
    checkpoint = find_checkpoint(spec("owner/tiny", roles=read_roles({"fc_in": ["w1"]})))
    assert checkpoint.identity.revision.startswith(f"{COMMIT}+roles-")
    assert checkpoint.commit == COMMIT
    assert fetch_weights(checkpoint) == cached_model


def test_a_model_of_the_hub_with_pickled_weights_alone_is_refused(cached_model: Path) -> None:
    (cached_model / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RequestError, match=r"^model\.path=owner/tiny has no safetensors weights"):
        fetch_weights(find_checkpoint(spec("owner/tiny")))


def test_a_local_model_with_pickled_weights_alone_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RequestError, match="has no safetensors weights"):
        fetch_weights(find_checkpoint(spec(tmp_path)))


@pytest.mark.parametrize("damaged", [b"", NO_TENSORS[:5], NO_TENSORS[:-1], NO_TENSORS + b"more", b"\xff" * 40])
def test_a_file_of_weights_that_is_not_whole_is_refused_before_it_is_read(damaged: bytes, tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(NO_TENSORS)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(damaged)
    with pytest.raises(RequestError, match=r"has a damaged model-00002-of-00002\.safetensors: "):
        fetch_weights(find_checkpoint(spec(tmp_path)))


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{", "null"])
def test_a_damaged_configuration_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RequestError, match=r"has a damaged config\.json: "):
        find_checkpoint(spec(tmp_path))


@pytest.mark.parametrize("inner", [[], "float32", 3, None])
def test_a_text_config_of_another_kind_says_nothing_of_the_dtype(inner: object, tmp_path: Path) -> None:
    assert find_checkpoint(spec(write_config(tmp_path, text_config=inner))).identity.dtype == "float32"
    other = write_config(tmp_path, text_config={"torch_dtype": "float16"})
    assert find_checkpoint(spec(other)).identity.dtype == "float16"


def test_finding_a_model_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    write_config(tmp_path, n_layer=2)
    program = (
        "import sys\n"
        "from laser_sweep.engine.models.checkpoint import find_checkpoint\n"
        "from laser_sweep.engine.models.spec import ModelSpec\n"
        f"find_checkpoint(ModelSpec(name='tiny', path={str(tmp_path)!r}))\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
