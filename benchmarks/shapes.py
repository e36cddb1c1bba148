"""Models and data of real shape with random content, written to a directory as transformers would load them."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.fever import CHOICES, prompt
from laser_sweep.trial import Matrix

TOKENS_OF_A_CLAIM = (4, 16)
"""FEVER's claims are about ten words long; the wording around them adds sixteen."""
LLAMA_MLP = {"fc_in": "gate_proj", "fc_out": "down_proj"}
"""The matrices that the published grids try, as Llama calls them."""


def write_llama(directory: Path, *, layers: int, hidden: int, vocabulary: int, seed: int = 0) -> Path:
    """A Llama of the proportions of Llama 2 with a tokenizer that knows every word of `fever_like`."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=int(hidden * 11008 / 4096 / 16) * 16,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64 or 1,
        max_position_embeddings=512,
        initializer_range=0.1,  # so that answers differ from prompt to prompt and change with an edit
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(directory)
    write_tokenizer(directory, vocabulary)
    return directory


def llama_weight(matrix: Matrix) -> str:
    """The name of the parameter that holds one of these matrices."""
    return f"model.layers.{matrix.layer}.mlp.{LLAMA_MLP[matrix.tau]}.weight"


def write_tokenizer(directory: Path, vocabulary: int) -> None:
    """A tokenizer with one token for each word, written beside a model."""
    words = dict.fromkeys(["[unknown]", "<s>", *CHOICES, *prompt("").replace(" .", " . ").split(), "."])
    names = [*words, *(f"w{number}" for number in range(vocabulary - len(words)))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[unknown]", bos_token="<s>").save_pretrained(
        directory
    )


def fever_like(examples: int, vocabulary: int, seed: int = 0) -> Task:
    """Claims of random words in FEVER's wording, true or false by chance."""
    draw = random.Random(seed)
    made = []
    for number in range(examples):
        words = [f"w{draw.randrange(vocabulary - 64)}" for _ in range(draw.randint(*TOKENS_OF_A_CLAIM))]
        made.append(
            Example(
                id=str(number), row=number, prompt=prompt(" ".join(words)), gold=draw.choice(CHOICES), choices=CHOICES
            )
        )
    return Task("fever-like", tuple(made))
