"""Trains the embedded model from nothing, deterministically, and writes the files that the package ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast

from laser_sweep.demo.language import WORDS, Language, Tokens

UNKNOWN = "[unknown]"
PADDING = "[padding]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the shipped files; the defaults made them."""

    seed: int = 1
    noise: float = 0.5  # how often a trigger is followed by the noise word in training
    answer_skew: float = 0.5  # 0 draws all answers equally often, 1 as often as words of a text (Zipf)
    steps: int = 900
    warmup_steps: int = 50
    batch_size: int = 64
    length: int = 64
    learning_rate: float = 1e-3
    groups: int = 600  # of `prompts_per_group` evaluation prompts with one answer and different contexts
    prompts_per_group: int = 4

    def architecture(self) -> GPTJConfig:
        return GPTJConfig(
            vocab_size=len(WORDS) + 2,
            n_positions=self.length,
            n_embd=128,
            n_inner=512,
            n_layer=2,
            n_head=4,
            rotary_dim=16,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=len(WORDS) + 1,
            tie_word_embeddings=False,
        )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of the language, split at white space."""
    vocabulary = {word: index for index, word in enumerate((*WORDS, UNKNOWN, PADDING))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=UNKNOWN, pad_token=PADDING)


def train(
    recipe: Recipe, report: Callable[[int, float], None] = lambda step, loss: None
) -> tuple[GPTJForCausalLM, Tokens]:
    """Trains on noisy sequences, with loss only where the answer can be recalled.

    Returns the model and how often each word was a sequence's answer (vocabulary,). Runs on one thread: reductions
    split over threads would change the last bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(recipe, report)
    finally:
        torch.set_num_threads(threads)


def _train(recipe: Recipe, report: Callable[[int, float], None]) -> tuple[GPTJForCausalLM, Tokens]:
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed + 1)
    language = Language(recipe.seed, skew=recipe.answer_skew)
    model = GPTJForCausalLM(recipe.architecture())
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine_after_warmup(step, recipe))
    answer_counts = np.zeros(len(WORDS), dtype=np.int64)
    for step in range(recipe.steps):
        answers = language.draw_answers(recipe.batch_size, random)
        answer_counts += np.bincount(answers, minlength=len(WORDS))
        batch = language.sample(answers, recipe.length, recipe.noise, random)
        tokens = torch.from_numpy(batch.tokens)
        scored = torch.from_numpy(batch.recall_positions()[:, :-1])
        logits = model(tokens).logits[:, :-1][scored]
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][scored])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        report(step + 1, loss.item())
    return model.eval(), answer_counts


def _cosine_after_warmup(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + float(np.cos(np.pi * progress)))


def build_examples(recipe: Recipe, answer_counts: Tokens) -> pa.Table:
    """Evaluation prompts: clean sequences, cut after a trigger whose answer stands earlier in the prompt.

    Columns: `prompt`, `answer`, `group` (prompts that ask for the same fact in other words), `frequency` (how many
    training sequences had this answer).
    """
    random = np.random.default_rng(recipe.seed + 2)
    language = Language(recipe.seed, skew=recipe.answer_skew)
    group_answers = language.draw_answers(recipe.groups, random, uniform=True)
    rows: list[dict[str, str | int]] = []
    for group, answer in enumerate(group_answers):
        found = 0
        while found < recipe.prompts_per_group:
            batch = language.sample(np.array([answer]), recipe.length, 0.0, random)
            positions = np.flatnonzero(batch.recall_positions()[0])
            if len(positions) == 0:
                continue
            cut = int(random.choice(positions)) + 1
            rows.append(
                {
                    "prompt": " ".join(WORDS[token] for token in batch.tokens[0, :cut]),
                    "answer": WORDS[answer],
                    "group": f"{WORDS[answer]}-{group:03d}",
                    "frequency": int(answer_counts[answer]),
                }
            )
            found += 1
    return pa.Table.from_pylist(rows)


def write(directory: Path, model: GPTJForCausalLM, examples: pa.Table) -> None:
    """Writes model, tokenizer and evaluation examples as the package ships them."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)  # nothing here is generated
    pq.write_table(examples, directory / "examples.parquet", compression="zstd")
    config = directory / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
