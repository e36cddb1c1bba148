"""Tiny random models of the real architectures, with tokenizers made like theirs, as directories of a checkpoint."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

POSITIONS = 256
LAYERS = 2
PUBLISHED = ("gptj", "llama2", "phi", "roberta")
"""The families of the published experiments."""
EDITED = {
    "gptj": "transformer.h.1.mlp.fc_in.weight",
    "llama2": "model.layers.1.mlp.gate_proj.weight",
    "phi": "model.layers.1.mlp.fc1.weight",
    "roberta": "roberta.encoder.layer.1.intermediate.dense.weight",
}
"""The parameter that τ = fc_in, ℓ = 1 names."""

SEEDS = {"gptj": 104, "llama2": 15, "phi": 14, "roberta": 0}
"""Of models that do not give the same answer to everything."""

CITIES = ("Rome", "Paris", "Berlin", "London", "Madrid", "Vienna")
PROFESSIONS = ("journalist", "poet", "composer", "model", "teacher", "architect", "painter", "professor")
WORDS = (
    "true",
    "false",
    "True",
    "False",
    "male",
    "female",
    "Female",
    *PROFESSIONS,
    "Yes",
    "No",
    "yes",
    "poets",
    "river",
)
PARTS = ("moment", "statement", "detail", "tail", "sail", "parent", "current", "non")
"""Words that share parts with "entailment" and "non-entailment", which are several tokens, as in reality."""
TEXT = (
    "Consider the following claim: Is this claim true or false. The claim is the following text: a person in the text "
    "What is the profession of the person? The gender of this person is Did the machine cause the answer is capital of "
)
_SHAPE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
_ROTARY = {**_SHAPE, "max_position_embeddings": POSITIONS}
_GPT = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": POSITIONS}
_END = {"bos_token_id": 0, "eos_token_id": 0}
_CONFIGS: dict[str, Callable[[int], PretrainedConfig]] = {
    # More rows than the tokenizer has tokens where the real one has more.
    "gptj": lambda size: GPTJConfig(vocab_size=size + 7, rotary_dim=4, tie_word_embeddings=False, **_GPT, **_END),
    "llama2": lambda size: LlamaConfig(
        vocab_size=size, intermediate_size=88, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, **_ROTARY
    ),
    "phi": lambda size: PhiConfig(vocab_size=size + 5, intermediate_size=48, **_ROTARY, **_END),
    "roberta": lambda size: RobertaConfig(
        vocab_size=size,
        intermediate_size=48,
        max_position_embeddings=POSITIONS + 2,
        type_vocab_size=1,
        **_SHAPE,
    ),
    "gpt2": lambda size: GPT2Config(vocab_size=size, **_GPT, **_END),
    "opt": lambda size: OPTConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        ffn_dim=48,
        word_embed_proj_dim=32,
        max_position_embeddings=POSITIONS,
        pad_token_id=1,
        **_END,
    ),
}


def save_checkpoint(family: str, directory: Path, *, generation: GenerationConfig | None = None) -> Path:
    """A directory that transformers can load, with a model that likes to say whole words and sometimes stops."""
    write_tokenizer(family, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    config = _CONFIGS[family](len(tokenizer))
    auto = AutoModelForMaskedLM if family == "roberta" else AutoModelForCausalLM
    with torch.no_grad():
        model: PreTrainedModel = auto.from_config(config)
        _draw_weights(model, SEEDS.get(family, 0))
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        words = [token for token, name in enumerate(names) if name[0] in "Ġ▁" and name[1:].isalpha()]
        head = model.get_output_embeddings().weight  # (vocabulary, hidden)
        scale = torch.full((len(head), 1), 0.5)
        scale[words] = 1
        scale[len(tokenizer) :] = 1
        if family != "roberta":
            scale[tokenizer.eos_token_id] = 1.25
            scale[tokenizer.convert_tokens_to_ids("-")] = 2
        head *= scale
    if generation is not None:
        model.generation_config = generation
    model.save_pretrained(directory)
    return directory


def _draw_weights(model: PreTrainedModel, seed: int) -> None:
    """Large enough that predictions vary; by name, so that they are the same in every release of transformers."""
    spread = 0.4 if model.config.model_type == "roberta" else 0.6
    generator = torch.Generator().manual_seed(seed)
    for _, weight in sorted(model.named_parameters()):
        if weight.ndim == 2:
            weight.normal_(std=spread, generator=generator)


def write_tokenizer(family: str, directory: Path) -> None:
    """The files that the real repositories hold."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, settings = {"llama2": _llama, "roberta": _roberta}.get(family, _gpt)()
    if family == "phi":
        settings["tokenizer_class"] = "CodeGenTokenizer"
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def _gpt() -> tuple[Tokenizer, dict[str, object]]:
    """Byte-level BPE; a leading space is part of a token; nothing stands before a text."""
    end = "<|endoftext|>"
    settings: dict[str, object] = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    return _byte_level([end]), {**settings, "bos_token": end, "eos_token": end, "unk_token": end}


def _roberta() -> tuple[Tokenizer, dict[str, object]]:
    """The same with <s> and </s> around a text, and a mask that takes the space before it."""
    tokenizer = _byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "cls": "<s>", "pad": "<pad>"}
    settings: dict[str, object] = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False}
    return tokenizer, {**settings, **{f"{name}_token": text for name, text in names.items()}, "mask_token": mask}


def _byte_level(specials: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=720,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(specials),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(*WORDS, *CITIES), trainer)
    return tokenizer


def _llama() -> tuple[Tokenizer, dict[str, object]]:
    """BPE with bytes for what it does not know, words that begin with ▁, and <s> before a text. It knows no city."""
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=660, special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(*WORDS), trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    settings: dict[str, object] = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return tokenizer, {**settings, **names, "legacy": False}


def _corpus(*words: str) -> list[str]:
    return [f"{TEXT} {' '.join((*words, *PARTS))}"] * 40 + [" ".join(string.printable[:94])]
