"""`hydra/sweeper=laser_sweep`: one job for each combination of config groups, whatever the size of the grid inside.

Composing a configuration takes Hydra tens of milliseconds, so τ, ℓ, ρ and the options of an intervention are not
composed one by one: a sweep over them becomes a list in one job, which the planner expands.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

AXES = ("tau", "layer", "rho")
OPTIONS = "intervention.options."


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="laser_sweep",
    # `params` sweeps from a config file, as in Hydra's basic sweeper: `model: gptj,llama2`
    node={"_target_": "hydra_plugins.laser_sweep.sweeper.LaserSweeper", "params": {}},
    provider="laser_sweep",
)


class LaserSweeper(Sweeper):
    """Splits a command line into jobs and hands them to the launcher, all at once."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self._params.items()), *arguments])
        # Touching `return_value` raises what a failed job raised, as Hydra's own sweepers do.
        return [job.return_value for job in self._launcher.launch(jobs(overrides), initial_job_idx=0)]


def jobs(overrides: Sequence[Override]) -> list[list[str]]:
    """The command lines of the jobs: the product of all sweeps but those over the axes and options.

    Raises RequestError for a sweep without values: an interval, or a glob that matches nothing.
    """
    choices: list[list[str]] = []
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([override.input_line or f"{key}={override.get_value_element_as_str()}"])
            continue
        values = [] if override.is_interval_sweep() else list(override.sweep_string_iterator())
        if not values:
            # Not above: plugins are imported by every Hydra application on the machine.
            from laser_sweep.errors import RequestError

            raise RequestError(
                f"{override.input_line} says no values; list them, e.g. {key}=0.1,0.2 or {key}=range(0,4)"
            )
        if key in AXES or key.startswith(OPTIONS):
            choices.append([f"{key}=[{','.join(map(_without_brackets, values))}]"])
        else:
            choices.append([f"{key}={value}" for value in values])
    return [list(job) for job in itertools.product(*choices)]


def _without_brackets(value: str) -> str:
    """A list among the values of an axis sweeps too: `layer=[0,1],5` is `layer=[0,1,5]`."""
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value
