"""A model and data of one's own, by the lines that the documents show."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TEXT = "the claim is true false or of Consider following claim: this Rome Oslo Paris a city and old . Is The"
WORDS = tuple(TEXT.split())
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LAYERS = 2


def write_tokenizer(directory: Path, *, masked: bool) -> int:
    words = [*SPECIAL, *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    if masked:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>"
    ).save_pretrained(directory)
    return len(words)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mistral")
    config = MistralConfig(
        vocab_size=write_tokenizer(directory, masked=False),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MistralForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("roberta")
    config = RobertaConfig(
        vocab_size=write_tokenizer(directory, masked=True),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=66,
        initializer_range=0.3,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RobertaForMaskedLM(config).save_pretrained(directory)
    return directory


def test_any_causal_model_on_any_file_is_one_line(command: Run, mistral: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"the claim of {city} is", "answer": word} for city in WORDS for word in ("true", "old")]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    line = f"model=auto model.path={mistral} dataset=jsonl dataset.path=facts.jsonl -m layer=each tau=mlp rho=0.1"
    run = command(*line.split())
    assert run.returncode == 0, run.stderr
    trials = pd.read_parquet(tmp_path / "outputs" / "store" / "trials")
    val = trials[trials.split == "val"]
    assert set(val.status) == {"done"}
    edited = val[val.tau.notna()]
    assert sorted(edited.layer) == list(range(LAYERS))
    assert [[edit["tau"] for edit in edits] for edits in edited.edits] == [["fc_in", "fc_up", "fc_out"]] * LAYERS
    assert set(trials.model) == {mistral.name}
    assert set(trials.dataset) == {"facts"}


def test_a_masked_model_is_known_by_its_files_and_fills_in_the_claim(laser: Run, roberta: Path, tmp_path: Path) -> None:
    cities = ("Rome", "Oslo", "Paris")
    claims = [f"{city} is {thing} {other}" for city in cities for thing in ("a", "old", "this") for other in cities]
    rows = [{"claim": claim, "label": number % 2} for number, claim in enumerate(claims)]
    pd.DataFrame(rows).to_csv(tmp_path / "claims.csv", index=False)
    run = laser(
        "model=auto", f"model.path={roberta}", "dataset=fever", f"dataset.path={tmp_path / 'claims.csv'}",
        "evaluation.split=all", "tau=fc_in", "rho=0.1", "tracking=none",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    trials = pd.read_parquet(tmp_path / "outputs" / "store" / "trials").set_index(["split", "tau"], drop=False)
    untouched = trials[trials.tau.isna() & (trials.split == "test")].iloc[0]
    assert len(trials) == 4
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(roberta).eval(), AutoTokenizer.from_pretrained(roberta)
    right = []
    for row in rows[int(0.2 * len(rows)) :]:
        text = f"Consider the following claim: {row['claim']}. Is this claim true or false. The claim is <mask>"
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"]).logits[0]
        place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        true, false = (logits[place, tokenizer.convert_tokens_to_ids(word)] for word in ("true", "false"))
        right.append(bool(true > false) == bool(row["label"]))
    assert untouched.accuracy == pytest.approx(sum(right) / len(right))
    assert untouched.num_examples == len(right)
