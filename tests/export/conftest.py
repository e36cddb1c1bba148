"""Tiny models of the real architectures on disk, a store of the embedded model, and the command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import PreTrainedModel

from laser_sweep.cli import CONF, run_configs
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.export.__main__ import main
from laser_sweep.export.checkpoint import Exporter, Form, Written
from laser_sweep.store.reader import read_trials
from laser_sweep.trial import Edit

from ..engine.conftest import CONFIGS, MASKED_CONFIGS, _offline, build_masked, build_model, tokenizer  # noqa: F401

BuildModel = Callable[..., PreTrainedModel]
Save = Callable[..., Checkpoint]

SMALL = ("tracking=none", "evaluation.limit=40", "evaluation.test_limit=60", "seed=3")


@pytest.fixture
def save(build_model: BuildModel, build_masked: BuildModel, tmp_path: Path) -> Save:  # noqa: F811
    """`save(architecture, family="causal", shard=None, **config)`: a fresh model in a directory, as a checkpoint."""

    def saved(architecture: str, *, family: str = "causal", shard: str | None = None, **config: object) -> Checkpoint:
        build = build_model if family == "causal" else build_masked
        directory = tmp_path / f"{family}-{architecture}"
        build(architecture, **config).save_pretrained(directory, **({} if shard is None else {"max_shard_size": shard}))
        return find_checkpoint(ModelSpec(name=architecture, path=str(directory), family=family))  # type: ignore[arg-type]

    return saved


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, Written]]:
    """`write(checkpoint, edits, form)`: the directory with the export."""

    def written(base: Checkpoint, edits: Sequence[Edit], form: Form) -> tuple[Path, Written]:
        directory = tmp_path / f"export-{form}-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        return directory, Exporter(base, edits, None).write(directory, form)

    return written


def log_probs(model: PreTrainedModel) -> torch.Tensor:
    """log p of every token after every token of three short texts."""
    ids = torch.randint(2, 30, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=ids).logits.double(), dim=-1)


@pytest.fixture(scope="session", name="log_probs")
def _log_probs() -> Callable[[PreTrainedModel], torch.Tensor]:
    return log_probs


def sweep(store: Path, *overrides: str) -> Path:
    """A sweep in this process."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        configs = [compose("config", overrides=[*SMALL, *overrides, f"store.path={store}"])]
    run_configs(configs, on_ray=False)
    return store


@pytest.fixture(scope="session", name="sweep")
def _sweep() -> Callable[..., Path]:
    return sweep


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two edits of the embedded model on part of val, and the better one, fc_in[1] at rho=0.01, on part of test."""
    root = tmp_path_factory.mktemp("store")
    return sweep(root, "tau=fc_in", "layer=last", "rho=[0.01,0.2]")


@pytest.fixture(scope="session")
def key_of(store: Path) -> Callable[..., str]:
    """`key_of(rho, split="val")`: the key of a trial of the store; rho=None is the untouched model."""
    trials = read_trials(store)

    def find(rho: float | None, split: str = "val") -> str:
        same = trials["rho"].isna() if rho is None else trials["rho"].eq(rho)
        return str(trials[same & trials["split"].eq(split)]["trial_key"].iloc[0])

    return find


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> Callable[..., Ended]:
    """`export(*arguments, store=...)`: the command in an empty directory, on the store of the embedded model."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*arguments: str, store: Path = store) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["laser_sweep.export", *arguments, "--store", str(store)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
