"""Llama 2 on FEVER by the advertised line, offline, from a hub cache on disk; a second computation beside it.

The cache holds a tiny random model of the real architecture and a few claims in the hub's own layout. What is expected
comes from a loop over single examples, written after the description of the published code.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MODEL_COMMIT = "01c7f73d771dfac7d292323805ebc428287df4f9"
DATA_COMMIT = "5b8a4b1c4f6d7e8a9b0c1d2e3f4a5b6c7d8e9f00"
SUBJECTS = ("Ada", "Bach", "Chopin", "Darwin", "Euler", "Fermi", "Gauss", "Hopper", "Ibsen", "Joule", "Kepler", "Ohm")
THINGS = ("a composer", "an engineer", "from Oslo", "born in 1815", "a friend of Bach", "the author of a fugue", "old")
LAYERS = 3


def claims(seed: int, count: int) -> list[dict[str, object]]:
    """Rows of a split: claims repeated for each piece of evidence, some with both labels, some without a period."""
    draw = random.Random(seed)
    rows: list[dict[str, object]] = []
    texts = [f"{subject} is {thing}" for subject in SUBJECTS for thing in THINGS]
    half = len(texts) // 2  # the two splits share no claim
    for number, text in enumerate(draw.sample(texts[:half] if seed else texts[half:], count)):
        claim = text + draw.choice([".", ".", "", "?", " ."]) + draw.choice(["", "", " "])
        label = draw.randint(0, 1)
        labels = [label] * draw.randint(1, 3) + [1 - label] * (number % 9 == 4)
        rows += [_row(claim, label) for label in labels]
    draw.shuffle(rows)
    return [{**row, "id": number} for number, row in enumerate(rows)]


def _row(claim: str, label: int) -> dict[str, object]:
    return {
        "id": 0,
        "label": label,
        "claim": claim,
        "evidence_annotation_id": 1,
        "evidence_id": 2,
        "evidence_wiki_url": "Somewhere",
        "evidence_sentence_id": 3,
    }


@dataclass(frozen=True)
class Cache:
    home: Path
    model: Path
    splits: tuple[list[dict[str, object]], ...]


def write_tokenizer(directory: Path) -> int:
    """A byte-fallback BPE whose words begin with ▁ and whose texts begin with <s>, as Llama's; returns its size."""
    specials = ["<unk>", "<s>", "</s>"]
    words = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    corpus = [
        f"Consider the following claim: {subject} is {thing}. Is this claim true or false. The claim is {answer}"
        for subject in SUBJECTS
        for thing in THINGS
        for answer in ("true", "false")
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
    )
    words.train_from_iterator(corpus, trainer)
    words.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    words.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    words.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return words.get_vocab_size()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    home = tmp_path_factory.mktemp("huggingface")
    model_repo = home / "hub" / "models--meta-llama--Llama-2-7b-hf"
    snapshot = model_repo / "snapshots" / MODEL_COMMIT
    snapshot.mkdir(parents=True)
    (model_repo / "refs").mkdir()
    (model_repo / "refs" / "main").write_text(MODEL_COMMIT)
    size = write_tokenizer(snapshot)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.25,  # so that an edit changes answers
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)  # a model whose best trial is an edit, so that test confirms one
        LlamaForCausalLM(config).save_pretrained(snapshot)

    data_repo = home / "hub" / "datasets--EleutherAI--fever"
    (data_repo / "refs" / "refs" / "convert").mkdir(parents=True)
    (data_repo / "refs" / "refs" / "convert" / "parquet").write_text(DATA_COMMIT)
    splits = (claims(0, 40), claims(1, 42))
    for name, rows in zip(("paper_dev", "paper_test"), splits, strict=True):
        directory = data_repo / "snapshots" / DATA_COMMIT / "v1.0" / name
        directory.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), directory / "0000.parquet")
    return Cache(home, snapshot, splits)


def examples(splits: tuple[list[dict[str, object]], ...]) -> list[tuple[str, int]]:
    """(prompt, label) as the published code makes them: within each split, claims of one label, in order."""
    made = []
    for rows in splits:
        for place, row in enumerate(rows):
            labels = {other["label"] for other in rows if other["claim"] == row["claim"]}
            first = all(other["claim"] != row["claim"] for other in rows[:place])
            if first and len(labels) == 1:
                claim = str(row["claim"]).strip()
                stop = "" if claim[-1] in ".?" else "."
                prompt = f"Consider the following claim: {claim}{stop} Is this claim true or false. The claim is"
                made.append((prompt, int(str(row["label"]))))
    return made


def answers(model_path: Path, asked: list[tuple[str, int]], rho: float | None) -> pd.DataFrame:
    """Asks one example at a time; `rho` truncates the last gate_proj (τ = fc_in) of a fresh model by a full SVD."""
    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    choices = {}
    for word in ("true", "false"):
        bos, choices[word] = tokenizer(word)["input_ids"]
        assert bos == tokenizer.bos_token_id
    rows = []
    with torch.no_grad():
        if rho is not None:
            weight = model.model.layers[LAYERS - 1].mlp.gate_proj.weight
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            rank = int(min(weight.shape) * rho)
            weight.copy_((left[:, :rank] * values[:rank]) @ right[:rank])
        for prompt, label in asked:
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
            log_probs = torch.log_softmax(logits.float(), dim=-1)
            true, false = (log_probs[choices[word]].item() for word in ("true", "false"))
            gold, other = (true, false) if label == 1 else (false, true)
            rows.append(
                {
                    "gold": "true" if label == 1 else "false",
                    "prediction": "true" if true >= false else "false",
                    "correct": gold > other,
                    "gold_log_prob": gold,
                    "gold_rank": int((log_probs > gold).sum()),
                }
            )
    return pd.DataFrame(rows)


def test_the_published_experiment_runs_by_the_advertised_line(cache: Cache, command: Run, tmp_path: Path) -> None:
    line = "model=llama2 dataset=fever -m rho=0.01,0.05,0.2"
    run = command(*line.split(), env={"HF_HOME": str(cache.home)})
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    store = tmp_path / "outputs" / "store"
    trials = pd.read_parquet(store / "trials")
    asked = examples(cache.splits)
    val = int(0.2 * len(asked))
    assert len(asked) < sum(len({row["claim"] for row in rows}) for rows in cache.splits)  # conflicting labels are out
    parts = {"val": asked[:val], "test": asked[val:]}

    assert set(trials.status) == {"done"}
    assert set(trials.model_revision) == {MODEL_COMMIT}
    assert set(trials.model) == {"llama2"}
    assert set(trials.dataset) == {"fever"}
    assert set(trials.dtype) == {"float32"}
    rho_of = {key: None if pd.isna(rho) else rho for key, rho in zip(trials.trial_key, trials.rho, strict=True)}
    by_split = {split: rows for split, rows in trials.groupby("split")}
    assert sorted(by_split["val"].rho.fillna(1)) == [0.01, 0.05, 0.2, 1]
    best = by_split["val"].sort_values(["accuracy", "log_loss"], ascending=[False, True]).iloc[0]
    winner = rho_of[best.trial_key]
    assert winner is not None
    assert sorted(by_split["test"].rho.fillna(1)) == [winner, 1]
    ranks = {row.rho: row.edits[0]["rank"] for row in by_split["val"].itertuples() if len(row.edits)}
    assert ranks == {0.01: 0, 0.05: 1, 0.2: 6}
    for row in trials[trials.rho.notna()].itertuples():
        assert (row.tau, row.layer) == ("fc_in", LAYERS - 1)

    decisions = set()
    for row in trials.itertuples():
        expected = answers(cache.model, parts[row.split], rho_of[row.trial_key])
        stored = pd.read_parquet(store / "predictions" / f"{row.trial_key}.parquet")
        assert len(stored) == row.num_examples == len(parts[row.split])
        for column in ("gold", "prediction", "correct"):
            assert list(stored[column]) == list(expected[column])
        assert stored.gold_log_prob.to_numpy() == pytest.approx(expected.gold_log_prob.to_numpy(), abs=1e-4)
        assert list(stored.gold_rank) == list(expected.gold_rank)
        assert row.accuracy == pytest.approx(expected.correct.mean())
        assert row.log_loss == pytest.approx(-expected.gold_log_prob.mean(), abs=1e-4)
        majority = max(expected.gold.value_counts()) / len(expected)
        assert row.majority_accuracy == pytest.approx(majority)
        assert row.balanced_accuracy == pytest.approx(expected.groupby("gold").correct.mean().mean())
        if row.split == "val":
            decisions.add(tuple(expected.prediction))
    assert len(decisions) > 1  # the edits mattered


def test_a_revision_that_is_not_in_the_cache_is_a_wrong_request(
    cache: Cache, forks: Callable[..., dict[str, dict]]
) -> None:
    lines = {
        "model": ["model=llama2", "model.revision=v2", "dataset=fever"],
        "files": ["model=llama2", "dataset=fever", "dataset.hub.files=[v2.0/*.parquet]"],
        "layer": ["model=llama2", "dataset=fever", "layer=3"],
    }
    outcomes = forks(lines, env={"HF_HOME": str(cache.home)})
    for outcome in outcomes.values():
        assert (outcome["code"], outcome["err"].count("\n"), outcome["loaded"]) == (2, 1, []), outcome["err"]
    assert "--revision v2" in outcomes["model"]["err"]
    assert "v2.0/*.parquet" in outcomes["files"]["err"]
    assert "layer=3 does not exist in llama2 (3 layers, 0..2" in outcomes["layer"]["err"]
