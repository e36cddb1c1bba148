"""The Hydra plugins: axes stay lists inside one job, config groups multiply, results come back in input order."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hydra_plugins.laser_sweep.sweeper import jobs
from laser_sweep.cli import CONF, task

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def split(*arguments: str) -> list[list[str]]:
    return jobs(OverridesParser.create().parse_overrides(list(arguments)))


@pytest.mark.parametrize(
    ("argument", "kept"),
    [
        ("rho=0.01,0.05", "rho=[0.01,0.05]"),
        ("layer=range(17,21)", "layer=[17,18,19,20]"),
        ("layer=range(0,12,step=4)", "layer=[0,4,8]"),
        ("layer=each", "layer=each"),
        ("layer=-1", "layer=-1"),
        ("layer=[0,1],5", "layer=[0,1,5]"),
        ("layer=[0,1]", "layer=[0,1]"),
        ("tau=fc_in,fc_out", "tau=[fc_in,fc_out]"),
        ("tau=choice(mlp,attn)", "tau=[mlp,attn]"),
        ("rho=interval(0,1)", None),
    ],
)
def test_a_sweep_over_an_axis_is_one_job_with_a_list(argument: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(Exception, match=r"interval|sweep"):
            split(argument)
        return
    assert split(argument) == [[kept]]


def test_config_groups_and_other_keys_multiply_in_the_order_of_the_line() -> None:
    assert split("model=demo,llama2", "rho=0.01,0.05", "seed=1,2", "dataset=fever") == [
        ["model=demo", "rho=[0.01,0.05]", "seed=1", "dataset=fever"],
        ["model=demo", "rho=[0.01,0.05]", "seed=2", "dataset=fever"],
        ["model=llama2", "rho=[0.01,0.05]", "seed=1", "dataset=fever"],
        ["model=llama2", "rho=[0.01,0.05]", "seed=2", "dataset=fever"],
    ]


def test_additions_and_deletions_reach_the_job_as_they_were_given() -> None:
    assert split("+cluster.env.A=b", "~tracking", "store.path='a b'") == [
        ["+cluster.env.A=b", "~tracking", "store.path='a b'"]
    ]


@given(
    st.lists(st.floats(0, 1).map(repr), min_size=2, max_size=30, unique=True),
    st.lists(st.integers(-40, 40).map(str), min_size=2, max_size=30, unique=True),
    st.lists(st.sampled_from(["demo", "llama2", "other"]), min_size=1, max_size=3, unique=True),
)
def test_jobs_are_as_many_as_models_and_hold_every_value_of_the_axes(
    rhos: list[str], layers: list[str], models: list[str]
) -> None:
    made = split(f"rho={','.join(rhos)}", f"layer={','.join(layers)}", f"model={','.join(models)}")
    assert [job[2] for job in made] == [f"model={model}" for model in models]
    for rho, layer, _ in made:
        read = OmegaConf.from_dotlist([rho, layer])
        assert list(read.rho) == [float(value) for value in rhos]
        assert list(read.layer) == [int(value) for value in layers]


def plan(laser: Run, *arguments: str) -> str:
    """What `dry_run` says of a real command line; it starts no Ray, which a sweep would."""
    run = laser("-m", "dry_run=true", "tracking=none", *arguments)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_a_ten_thousand_trial_grid_is_one_composition_away(laser: Run) -> None:
    rhos = ",".join(f"{i / 1000:.3f}" for i in range(1, 901))
    out = plan(laser, f"rho={rhos}", "tau=each", "layer=each")
    assert "10,800" in out  # 6 matrices, 2 layers, 900 fractions
    assert "trials 10,801" in out


def test_sweeps_in_a_config_file_count_as_those_on_the_command_line(laser: Run, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "night.yaml").write_text(
        "# @package _global_\nlayer: each\nhydra: {sweeper: {params: {rho: '0.01,0.05,0.1', tau: 'fc_in,fc_out'}}}\n"
    )
    night = ("--config-dir", str(tmp_path / "conf"), "experiment=night")
    assert "trials 13 " in plan(laser, *night)  # 2 layers, 2 matrices, 3 fractions, and the untouched model
    assert "trials 5 " in plan(laser, *night, "rho=0.3")  # the command line wins


def test_jobs_that_differ_in_a_group_are_planned_together_and_share_the_untouched_model(laser: Run) -> None:
    out = plan(laser, "intervention=laser,zero", "rho=0.01,0.4")
    assert "trials 4 " in out  # zero has one trial whatever rho


def test_a_foreign_sweeper_gets_objectives_in_the_order_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra's own sweeper makes a job of every value; our launcher runs them as one sweep on a real Ray."""
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("laser_sweep", create_config_search_path(str(CONF)))
    try:
        (batch,) = hydra.multirun(
            "config",
            task,
            [
                "hydra/sweeper=basic",
                "hydra.mode=MULTIRUN",
                "rho=0.4,0.01,0.1",
                "evaluation.limit=60",
                "evaluation.confirm=false",
                "cluster.workers=1",
                "tracking=none",
            ],
        )
    finally:
        GlobalHydra.instance().clear()
    returned: list[JobReturn] = list(batch)
    assert [job.status for job in returned] == [JobStatus.COMPLETED] * 3
    assert [job.cfg.rho for job in returned if job.cfg is not None] == [0.4, 0.01, 0.1]
    assert [next(iter(o for o in job.overrides or () if "rho" in o)) for job in returned] == [
        "rho=0.4",
        "rho=0.01",
        "rho=0.1",
    ]
    trials = pd.read_parquet(tmp_path / "outputs" / "store" / "trials").set_index("rho")
    assert len(trials) == 4  # the untouched model is measured once for all jobs
    objectives = [job.return_value for job in returned]
    assert all(type(objective) is float for objective in objectives)
    assert objectives == [trials.accuracy[rho] for rho in (0.4, 0.01, 0.1)]
    assert len(set(objectives)) > 1  # so that their order can be told
