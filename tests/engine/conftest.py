"""Tiny models of the real architectures, a word tokenizer, and a slow but obvious way to ask a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AlbertConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BloomConfig,
    CodeGenConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    FalconConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoXConfig,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MiniMaxConfig,
    MistralConfig,
    MixtralConfig,
    ModernBertConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    Qwen3Config,
    RobertaConfig,
)

from laser_sweep.engine.tasks.example import Example, Task

TEXT = """
amber apple arrow basket beacon birch bridge candle canyon carpet castle cedar cherry circle cloud copper coral cotton
crystal desert dragon eagle ember falcon feather fern forest garden glacier
"""
WORDS = ("[unknown]", "true", "false", *TEXT.split())
VOCABULARY = len(WORDS) + 5  # models often have more rows than their tokenizer has tokens
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}

_GROUPED: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
_FALCON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}

CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "gptj": (
        GPTJConfig,
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 4, "initializer_range": 0.3},
    ),
    "llama": (
        LlamaConfig,
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3},
    ),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}),
    "opt": (
        OPTConfig,
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "init_std": 0.3}
        | {"word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "phi": (
        PhiConfig,
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 64, "initializer_range": 0.3},
    ),
    "roberta": (
        RobertaConfig,
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 66, "initializer_range": 0.3, "is_decoder": True},
    ),
    "gpt_neox": (
        GPTNeoXConfig,
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 64, "initializer_range": 0.3},
    ),
    "mistral": (MistralConfig, {**_GROUPED, "sliding_window": None}),
    "qwen3": (Qwen3Config, {**_GROUPED, "head_dim": 16}),
    "gemma3": (Gemma3TextConfig, {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "phi3": (Phi3Config, {**_GROUPED}),
    "falcon_multi_query": (FalconConfig, {**_FALCON, "multi_query": True}),
    "falcon_grouped": (FalconConfig, {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_per_head": (FalconConfig, {**_FALCON, "multi_query": False}),
    "bloom": (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
    "mixtral": (MixtralConfig, {**_GROUPED, "num_local_experts": 4}),
    "gpt_oss": (GptOssConfig, {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "bert": (
        BertConfig,
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 64, "initializer_range": 0.3, "is_decoder": True},
    ),
    "codegen": (
        CodeGenConfig,
        {"n_embd": 32, "n_layer": 2, "n_head": 8, "n_positions": 64, "n_ctx": 64, "rotary_dim": 4}
        | {"initializer_range": 0.3},
    ),
    "gpt_bigcode": (
        GPTBigCodeConfig,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3},
    ),
    "minimax": (MiniMaxConfig, {**_GROUPED, "num_local_experts": 4}),
    "llama4": (
        Llama4TextConfig,
        {**_GROUPED, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 4},
    ),
    "qwen2_moe": (
        Qwen2MoeConfig,
        {**_GROUPED, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 4},
    ),
}


_MASKED_SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}
_MASKED_SPECIAL = {name: 0 for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}

MASKED_CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "roberta": (RobertaConfig, _MASKED_SHAPE),
    "bert": (BertConfig, _MASKED_SHAPE),
    "electra": (ElectraConfig, {**_MASKED_SHAPE, "embedding_size": 16}),
    "deberta_v2": (
        DebertaV2Config,
        {**_MASKED_SHAPE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": False},
    ),
    "modernbert": (ModernBertConfig, {**_MASKED_SHAPE, **_MASKED_SPECIAL}),
    "distilbert": (
        DistilBertConfig,
        {"vocab_size": 40, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 66}
        | {"initializer_range": 0.3},
    ),
    "albert": (AlbertConfig, {**_MASKED_SHAPE, "num_hidden_layers": 4, "embedding_size": 16}),
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test looks at this machine's own hub cache, and none asks the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "hub"))


BuildModel = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session")
def build_model() -> BuildModel:
    """`build_model(architecture, seed=0, dtype=torch.float32, **config)`: a fresh model in evaluation mode."""

    def build(
        architecture: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
    ) -> PreTrainedModel:
        kind, shape = CONFIGS[architecture]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(kind(**{"vocab_size": VOCABULARY, **SPECIAL, **shape, **changes}))
        model.requires_grad_(False)
        built: PreTrainedModel = model.to(dtype).eval()
        return built

    return build


@pytest.fixture(scope="session")
def build_masked() -> Callable[..., PreTrainedModel]:
    """`build_masked(architecture, **config)`: a fresh model in evaluation mode."""

    def build(architecture: str, **changes: Any) -> PreTrainedModel:
        kind, shape = MASKED_CONFIGS[architecture]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: PreTrainedModel = AutoModelForMaskedLM.from_config(kind(**{**shape, **changes}))
        model.requires_grad_(False)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each of `WORDS`."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[unknown]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[unknown]")


@pytest.fixture(scope="session")
def save_checkpoint(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> Callable[[PreTrainedModel | str, Path], Path]:
    """`save_checkpoint(model or architecture, directory)`: a directory that transformers can load."""

    def save(model: PreTrainedModel | str, directory: Path) -> Path:
        if isinstance(model, str):
            model = build_model(model)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory

    return save


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """`make_task(count, choices=(...), seed=0)`: prompts of 1 to 12 random words; golds drawn from choices or words."""

    def make(count: int, *, choices: tuple[str, ...] = (), seed: int = 0, name: str = "words") -> Task:
        draw = random.Random(seed)
        return Task(
            name,
            tuple(
                Example(
                    id=str(i),
                    prompt=" ".join(draw.choices(WORDS[1:], k=draw.randint(1, 12))),
                    gold=draw.choice(choices or WORDS[1:]),
                    choices=choices,
                )
                for i in range(count)
            ),
        )

    return make


@dataclass(frozen=True)
class Answer:
    """What the slow way finds for one example."""

    gold_log_prob: float
    gold_rank: int
    predicted: int
    correct: bool


@torch.no_grad()
def ask(model: PreTrainedModel, prompt_ids: Sequence[int], gold_id: int, choice_ids: Sequence[int]) -> Answer:
    """One forward pass of one prompt without padding, a log-softmax over the vocabulary and a sort in float64."""
    logits = model(input_ids=torch.tensor([list(prompt_ids)])).logits[0, -1]
    log_probs = torch.log_softmax(logits.double(), dim=-1).tolist()
    by_probability = sorted(range(len(log_probs)), key=lambda token: -log_probs[token])
    rivals = [token for token in (choice_ids or range(len(log_probs))) if token != gold_id]
    best_choice = max(range(len(choice_ids)), key=lambda i: log_probs[choice_ids[i]], default=None)
    return Answer(
        gold_log_prob=log_probs[gold_id],
        gold_rank=by_probability.index(gold_id),
        predicted=by_probability[0] if best_choice is None else best_choice,
        correct=all(log_probs[gold_id] > log_probs[rival] for rival in rivals),
    )


@pytest.fixture(scope="session")
def ask_one_by_one() -> Callable[..., list[Answer]]:
    """`ask_one_by_one(model, [(prompt_ids, gold_id, choice_ids), ...])`."""

    def ask_all(model: PreTrainedModel, questions: Sequence[tuple[Sequence[int], int, Sequence[int]]]) -> list[Answer]:
        return [ask(model, *question) for question in questions]

    return ask_all


def truncated_svd(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """The best approximation of at most `rank`, from a full SVD in float64."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    return left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]


@pytest.fixture(scope="session")
def svd_truncation() -> Callable[[torch.Tensor, int], torch.Tensor]:
    return truncated_svd


@pytest.fixture(scope="session")
def bits() -> Callable[[torch.Tensor], torch.Tensor]:
    """The bits of a tensor as integers, so that -0.0 and 0.0 differ and NaN equals itself."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return lambda tensor: tensor.detach().clone().contiguous().view(integers[tensor.element_size()])
