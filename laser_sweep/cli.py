"""The command: reads the configuration, wires the parts, sets the exit code.

0 all done; 1 some trials failed (all others are stored); 2 the request was wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from laser_sweep.errors import RequestError, StoreError, listing, suggestion

if TYPE_CHECKING:
    from laser_sweep.engine.editing.spec import CacheSpec
    from laser_sweep.sweep.executors.spec import ClusterSpec
    from laser_sweep.sweep.jobs import Job
    from laser_sweep.sweep.outcome import Outcome
    from laser_sweep.sweep.protocols import Executor, Tracker
    from laser_sweep.sweep.tracking.tracker import TrackingSpec

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries a copy of conf/; a checkout has the original beside the package.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())
_INFO = ("--info", "-i")
_INFO_VALUES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_FREE = ("cluster.env", "intervention.options", "model.roles")  # mappings whose keys are the user's
_PLAIN_WIDTH = 120  # of tables where standard output is not a terminal
_FLAGS_WITH_VALUE = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
)


def main() -> None:
    """The console script `laser-sweep` and `python -m laser_sweep`."""
    sys.argv[1:] = flags_first(sys.argv[1:])
    try:
        check_flags(sys.argv[1:])
    except RequestError as error:
        leave(error)
    asked = os.environ.get("HYDRA_FULL_ERROR")
    show_traceback = asked == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's errors through to us instead of ending the process with code 1
    # Hydra would go on without a search path that is not there, and then miss what was to be found on it.
    warnings.filterwarnings("error", r"provider=.* is not available", UserWarning)
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        if show_traceback:
            raise
        leave(RequestError(_explain(error)))
    except RequestError as error:
        leave(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except SystemExit as end:
        # Hydra's code where `--cfg job --package=nope` names nothing, of which it has said so; ours in a sweep.
        raise SystemExit(2 if end.code == 1 and not _in_sweep(end) else end.code) from None
    except Exception as error:
        # Hydra lets through whatever a command line or a file makes its parts raise. What goes wrong in a sweep is a
        # bug, and keeps its traceback.
        if show_traceback or _in_sweep(error):
            raise
        leave(RequestError(f"{_explain_other(error)} (the command line: {' '.join(sys.argv[1:])})"))
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if asked is not None:
            os.environ["HYDRA_FULL_ERROR"] = asked


def _in_sweep(error: BaseException) -> bool:
    return any(frame.f_code is run_configs.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def flags_first(arguments: Sequence[str]) -> list[str]:
    """The command line with its flags before its overrides, else in order, so that `-m` may stand anywhere.

    Hydra 1.3 refuses overrides on both sides of a flag.
    """
    flags: list[str] = []
    overrides: list[str] = []
    value_follows = False
    for argument in arguments:
        is_flag = argument.startswith("-") or value_follows
        if flags and flags[-1] in _INFO and not value_follows:
            # Its value may be left out, and must not be taken from the overrides that come to stand behind it.
            is_flag |= argument in _INFO_VALUES
            flags += [] if argument in _INFO_VALUES else ["all"]
        (flags if is_flag else overrides).append(argument)
        value_follows = argument in _FLAGS_WITH_VALUE
    return [*flags, *(["all"] if flags and flags[-1] in _INFO else []), *overrides]


def check_flags(arguments: Sequence[str]) -> None:
    """Raises RequestError for flags that Hydra would refuse with a page of usage, and for the one that unpickles."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise RequestError(f"{message} (the command line: {' '.join(arguments)}); `laser-sweep --help` lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings]
        raise RequestError(
            f"{unknown[0]} is not a flag{suggestion(unknown[0], known)}; `laser-sweep --help` lists them, "
            "and settings are written without dashes: rho=0.1"
        )
    if parsed.experimental_rerun is not None:
        raise RequestError("--experimental-rerun reads a pickle, which may run any code; give the overrides again")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(config: DictConfig) -> float | None:
    """Without `-m`: one configuration, in this process."""
    return run_configs([config], on_ray=False)[0]


def run_configs(configs: Sequence[DictConfig], *, on_ray: bool) -> list[float | None]:
    """Runs composed configurations as one sweep and returns the best val accuracy of each, in order.

    Raises SystemExit where the exit code is not 0.
    """
    try:
        outcome, jobs = _run(configs, on_ray=on_ray)
    except RequestError as error:
        leave(error)
    except StoreError as error:
        leave(error, 1)
    if outcome is None:
        return [None for _ in configs]
    if outcome.interrupted:
        raise SystemExit(130)
    if outcome.failed:
        raise SystemExit(1)
    return [outcome.objective(job) for job in jobs]


def leave(error: RequestError | StoreError, code: int = 2) -> NoReturn:
    """Ends the process with one line, as a wrong request does."""
    print(f"laser_sweep: {error}", file=sys.stderr)
    raise SystemExit(code) from None


def _run(configs: Sequence[DictConfig], *, on_ray: bool) -> tuple[Outcome | None, list[Job]]:
    """(None, jobs) for a dry run."""
    from laser_sweep.config import read_request, shared_settings

    requests = [read_request(config) for config in configs]
    settings = shared_settings(requests)

    from laser_sweep.store.store import ParquetStore

    store = ParquetStore(settings.store.path)
    store.check_writable()

    from rich.console import Console

    from laser_sweep.sweep.jobs import build_jobs
    from laser_sweep.sweep.measure import Measurer
    from laser_sweep.sweep.plan import plan_sweep
    from laser_sweep.sweep.progress import make_progress
    from laser_sweep.sweep.run import Sweep
    from laser_sweep.sweep.summary import print_bad_rows, print_limits, print_outcome, print_plan
    from laser_sweep.sweep.tracking.tracker import GuardedTracker

    jobs = build_jobs(request.question for request in requests)
    console = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
    print_bad_rows(console, jobs)
    print_limits(console, jobs)
    if settings.dry_run:
        print_plan(console, jobs, plan_sweep(jobs, store, settings.resume), settings.store.path)
        return None, jobs
    progress = make_progress()
    sweep = Sweep(
        Measurer(
            executor=make_executor(jobs, settings.cluster, settings.cache, on_ray=on_ray),
            store=store,
            tracker=GuardedTracker(_make_tracker(settings.tracking), progress.note),
            progress=progress,
            resume=settings.resume,
            on_error=settings.on_error,
        )
    )
    outcome = sweep.run(jobs)
    print_outcome(console, outcome, settings.store.path)
    return outcome, jobs


def make_executor(jobs: Sequence[Job], cluster: ClusterSpec, cache: CacheSpec, *, on_ray: bool) -> Executor:
    """What runs the trials of these jobs, on Ray or in this process."""
    from laser_sweep.engine.worker import Workload

    workloads = [
        Workload(
            checkpoint=job.checkpoint,
            task=job.task,
            batch_tokens=job.question.evaluation.batch_tokens,
            activation_budget_gb=job.question.evaluation.activation_budget_gb,
            host_budget_gb=job.question.evaluation.host_budget_gb,
        )
        for job in [*jobs, *(job.guard for job in jobs if job.guard is not None)]
    ]
    if on_ray:
        from laser_sweep.sweep.executors.ray import RayExecutor

        return RayExecutor(workloads, cluster, cache)
    from laser_sweep.sweep.executors.in_process import InProcessExecutor

    return InProcessExecutor(workloads, cache, cluster.max_attempts)


def _make_tracker(tracking: TrackingSpec) -> Tracker:
    if tracking.kind == "wandb":
        from laser_sweep.sweep.tracking.wandb import WandbTracker

        return WandbTracker(tracking)
    from laser_sweep.sweep.tracking.tracker import NullTracker

    return NullTracker()


def _explain(error: Exception) -> str:
    """One line on what Hydra refused."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name} does not exist{suggestion(name, error.options)}; choose one of {listing(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as an override: {' '.join(str(error.message).split())}"
    unknown = re.match(r"Could not override '([^']+)'", str(error))
    if unknown is not None:
        from laser_sweep.config import setting_names

        names = setting_names()
        near = suggestion(unknown[1], names)
        for group in _FREE:
            if f"{unknown[1]}.".startswith(f"{group}."):
                key = getattr(error.__cause__, "full_key", None) or f"{group}.KEY"
                return f"{group} takes new keys one by one: +{key}=VALUE"
        if unknown[1] in names:
            group = unknown[1].partition(".")[0]
            return f"{unknown[1]} is no setting of the {group} that is chosen; `laser-sweep --help` lists the others"
        return f"{unknown[1]} is not a setting{near}; `laser-sweep --help` lists them all"
    swept = re.match(r"Ambiguous value for argument '([^=]+)=([^']+)'", str(error))
    if swept is not None:
        key, values = swept.groups()
        return f"{key}={values} sweeps: add -m to run it on Ray, or give a list to run it here: {key}=[{values}]"
    cause = f" {error.__cause__}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
    return " ".join(f"{error}{cause}".split())


def _explain_other(error: Exception) -> str:
    """One line on what something below Hydra refused."""
    if isinstance(error, RecursionError):
        return "the configuration goes round in a circle: a defaults list or a value leads back to itself"
    reason = " ".join(str(error).split())
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return f"a file of the configuration is not YAML: {reason}"
    if isinstance(error, UserWarning):
        return f"{reason.rstrip('.')}; give directories that are there"
    if isinstance(error, ValueError | TypeError):
        return reason
    return f"Hydra cannot compose this ({type(error).__name__}: {reason}); HYDRA_FULL_ERROR=1 shows where"
