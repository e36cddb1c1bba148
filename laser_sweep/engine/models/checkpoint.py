"""A model's files: where they are, which revision, how many layers. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from laser_sweep.engine import hub
from laser_sweep.engine.models.spec import ModelSpec, Roles
from laser_sweep.errors import RequestError
from laser_sweep.trial import Family, ModelId

SETTINGS = ("*.json", "*.txt", "tokenizer.model", "*.jinja")
WEIGHTS = ("model*.safetensors",)
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_MARK = "+roles-"
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A located model: its spec, the directory with configuration and tokenizer, its identity, layer count and family.

    The last two are read from config.json before any library is loaded. `num_layers` is None where no usual key holds
    it; `family` is that of the architecture with which the model was saved, unless the spec says which.
    """

    spec: ModelSpec
    directory: Path
    identity: ModelId
    num_layers: int | None
    family: Family = "causal"

    @property
    def commit(self) -> str:
        """The commit on the hub, or the hash of local files: the revision without the mark that roles leave."""
        return self.identity.revision.partition(_MARK)[0]


def find_checkpoint(spec: ModelSpec) -> Checkpoint:
    """Locates configuration and tokenizer of a model, not its weights, unless they lie in a local directory anyway.

    Raises RequestError where the model cannot be had.
    """
    path = hub.local_path(spec.path)
    local = path is not None
    if spec.made_by is not None and path is not None and not path.is_dir():
        raise RequestError(f"model.path={spec.path} is not there yet; `{spec.made_by}` makes it")
    located = hub.locate(
        spec.path,
        override="model.path",
        revision=spec.revision,
        patterns=(*SETTINGS, *WEIGHTS) if local else SETTINGS,
    )
    config = _read_config(located.directory, spec)
    identity = ModelId(
        name=spec.name,
        repo=located.repo,
        revision=_marked(located.revision, spec.roles),
        dtype=_dtype(spec, config),
    )
    quantisation = config.get("quantization_config")
    if quantisation:
        method = quantisation.get("quant_method", "quantised") if isinstance(quantisation, dict) else "quantised"
        raise RequestError(
            f"model.path={spec.path} is quantised ({method}): an edit needs the weights themselves; "
            "give the checkpoint that it was made from"
        )
    return Checkpoint(spec, located.directory, identity, _num_layers(config), _family(spec, config))


def fetch_settings(checkpoint: Checkpoint) -> Path:
    """The directory with configuration and tokenizer, on the machine that calls, which need not be the one that found
    the model: its own hub cache may be elsewhere.
    """
    directory, repo = checkpoint.directory, checkpoint.identity.repo
    if repo and not directory.is_dir():
        directory = hub.locate(repo, override="model.path", revision=checkpoint.commit, patterns=SETTINGS).directory
    return directory


def fetch_weights(checkpoint: Checkpoint) -> Path:
    """The directory with the weights, on the machine that calls; downloads them if this machine has none.

    Raises RequestError where there are none, and for a file that is not whole.
    """
    directory, repo = checkpoint.directory, checkpoint.identity.repo
    if repo:
        directory = hub.locate(
            repo, override="model.path", revision=checkpoint.commit, patterns=(*SETTINGS, *WEIGHTS)
        ).directory
    files = sorted(directory.glob(WEIGHTS[0]))
    if not files:
        raise RequestError(
            f"model.path={checkpoint.spec.path} has no safetensors weights ({WEIGHTS[0]}); pickled ones are not read"
        )
    for file in files:
        try:
            with safe_open(file, framework="numpy"):  # reads the table of contents and compares it with the size
                pass
        except (SafetensorError, OSError) as error:
            raise RequestError(f"model.path={checkpoint.spec.path} has a damaged {file.name}: {error}") from None
    return directory


def read_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """What stands in the model's config.json."""
    return _read_config(checkpoint.directory, checkpoint.spec)


def _read_config(directory: Path, spec: ModelSpec) -> dict[str, Any]:
    file = directory / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"model.path={spec.path} holds no config.json, so it is not a transformers model") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"model.path={spec.path} has a damaged config.json: {error}") from None
    if not isinstance(config, dict):
        raise RequestError(f"model.path={spec.path} has a damaged config.json: not an object")
    return config


def _marked(revision: str, roles: Roles) -> str:
    """A revision that also says what τ means: the same name for another matrix is another trial."""
    if not roles:
        return revision
    text = json.dumps(roles, separators=(",", ":"))
    return f"{revision}{_MARK}{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _family(spec: ModelSpec, config: dict[str, Any]) -> Family:
    if spec.family != "auto":
        return spec.family
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if config.get("model_type") == "decision_transformer":
        return "decision_transformer"
    return "masked" if any(str(name).endswith("ForMaskedLM") for name in names) else "causal"


def _dtype(spec: ModelSpec, config: dict[str, Any]) -> str:
    """The dtype by name; `auto` is the one the checkpoint was saved in, which is what its config says."""
    if spec.dtype != "auto":
        return spec.dtype
    inner = config.get("text_config")
    places = (config, inner) if isinstance(inner, dict) else (config,)
    named = next((place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)), None)
    dtype = str(named or "float32").removeprefix("torch.")
    if dtype not in _DTYPES:
        raise RequestError(f"model.path={spec.path} was saved as {dtype}; give model.dtype={'|'.join(_DTYPES)}")
    return dtype


def _num_layers(config: dict[str, Any]) -> int | None:
    for settings in (config, config.get("text_config")):
        if isinstance(settings, dict):
            for key in _LAYER_KEYS:
                if isinstance(settings.get(key), int):
                    return int(settings[key])
    return None
