"""A model's directory with one file broken, and the command line that loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import laser_sweep

from .overrides import QUICK
from .values import OBJECTS

Files = dict[str, bytes]
DIRECTORY = "broken"
ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
WHOLE: Files = {
    f"{DIRECTORY}/{name}": (ASSETS / name).read_bytes()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
}
_CONFIG: dict[str, Any] = json.loads(WHOLE[f"{DIRECTORY}/config.json"])
_SMALL = st.one_of(OBJECTS, st.integers(-2, 200), st.sampled_from([0, -1, 1, 2, 3, "1", 1.5, None, [], {}, True]))
_KEYS = st.sampled_from(
    [
        *sorted(_CONFIG),
        "auto_map",
        "quantization_config",
        "text_config",
        "torch_dtype",
        "is_decoder",
        "num_hidden_layers",
    ]
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    # A model of so many layers would be built: what is asked of the machine is what the file says.
    **dict.fromkeys(("n_layer", "num_hidden_layers"), _SMALL.filter(lambda n: not isinstance(n, int) or n < 200)),
    "model_type": st.one_of(
        st.sampled_from(["gptj", "llama", "bert", "nope", "t5", "", None, 1, [], "vit", "auto"]), OBJECTS
    ),
    "architectures": st.one_of(st.sampled_from([["BertForMaskedLM"], ["Nope"], [], None, "x", [1]]), OBJECTS),
    "auto_map": st.one_of(
        st.just({"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tok", None]}),
        OBJECTS,
    ),
    "quantization_config": st.one_of(st.sampled_from([{"quant_method": "gptq"}, {}, [], "x", {"bits": 4}]), OBJECTS),
    "dtype": st.one_of(st.sampled_from(["float16", "float8", "int8", "torch.float32", None]), OBJECTS),
    "text_config": st.one_of(st.sampled_from([{}, {"n_layer": 1}, [], "x", {"num_hidden_layers": "x"}]), OBJECTS),
}


@st.composite
def _configured(draw: st.DrawFn) -> bytes:
    config = dict(_CONFIG)
    for key in draw(st.lists(_KEYS, min_size=1, max_size=2)):
        if draw(st.integers(0, 3)) == 0:
            config.pop(key, None)
        else:
            config[key] = draw(_VALUES.get(key, _SMALL))
    return json.dumps(config).encode()


@st.composite
def _tokenizer(draw: st.DrawFn) -> bytes:
    tokenizer = json.loads(WHOLE[f"{DIRECTORY}/tokenizer.json"])
    key = draw(st.sampled_from(sorted(tokenizer)))
    if draw(st.booleans()):
        tokenizer.pop(key)
    else:
        tokenizer[key] = draw(OBJECTS)
    return json.dumps(tokenizer).encode()


def _header(draw: st.DrawFn, weights: bytes) -> bytes:
    """Weights whose table of contents is wrong."""
    length = int.from_bytes(weights[:8], "little")
    table = json.loads(weights[8 : 8 + length])
    name = draw(st.sampled_from(sorted(table)))
    how = draw(st.integers(0, 4))
    if how == 0:
        del table[name]
    elif how == 1:
        table[name] = draw(OBJECTS)
    elif how == 2:
        table[f"{name}.other"] = table.pop(name)
    elif how == 3 and isinstance(table[name], dict) and "shape" in table[name]:
        table[name]["shape"] = draw(st.lists(st.integers(-1, 2**40), max_size=3))
    elif how == 4 and isinstance(table[name], dict) and "data_offsets" in table[name]:
        table[name]["data_offsets"] = draw(st.lists(st.integers(-1, 2**40), max_size=3))
    written = json.dumps(table).encode()
    return len(written).to_bytes(8, "little") + written + weights[8 + length :]


@st.composite
def model_cases(draw: st.DrawFn) -> tuple[list[str], Files]:
    """A command line with `model=auto`, and the files of the model."""
    files = dict(WHOLE)
    file = draw(st.sampled_from(sorted(WHOLE)))
    weights = f"{DIRECTORY}/model.safetensors"
    how = draw(st.integers(0, 5))
    if how == 0:
        del files[file]
        if file == weights and draw(st.booleans()):
            files[f"{DIRECTORY}/pytorch_model.bin"] = b"\x80\x02."  # a pickle
    elif how == 1:
        cut = draw(st.integers(0, len(files[file])))
        files[file] = files[file][:cut]
    elif how == 2:
        files[file] = draw(
            st.one_of(
                st.binary(max_size=30), st.sampled_from([b"", b"{}", b"[]", b"null", b"1", b"\xff\xff", b"[" * 99_999])
            )
        )
    elif how == 3:
        files[weights] = _header(draw, files[weights])
    elif how == 4:
        files[f"{DIRECTORY}/tokenizer.json"] = draw(_tokenizer())
    else:
        files[f"{DIRECTORY}/config.json"] = draw(_configured())
    words = [
        draw(st.sampled_from(["model=auto", "model=demo", "model=llama2", "model=roberta"])),
        f"model.path={DIRECTORY}",
    ]
    words += draw(
        st.lists(
            st.sampled_from(
                ["model.family=causal", "model.family=masked", "model.dtype=float16", "layer=5", "tau=each", "-m"]
            ),
            max_size=1,
        )
    )
    return [*QUICK, *words, "dry_run=true"], files
