"""Tells W&B of what is stored, as if the sweeps ran now."""

from __future__ import annotations

from collections.abc import Iterable

from laser_sweep.errors import RequestError
from laser_sweep.sweep.tracking.tracker import Granularity, TrackingSpec
from laser_sweep.sweep.tracking.wandb import WandbTracker
from laser_sweep.trial import TrialResult


def replay(
    results: Iterable[tuple[TrialResult, str, str]], project: str, granularity: Granularity, directory: str
) -> str:
    """Where the runs are found. `results` come with the name of their sweep and its configuration, as they finished.

    Raises RequestError where W&B cannot be told.
    """
    spec = TrackingSpec(kind="wandb", project=project, granularity=granularity, dir=directory)
    tracker = WandbTracker(spec, replayed=True)
    told = 0
    try:
        for result, sweep, config_json in results:
            tracker.trial(result, sweep, config_json)
            told += 1
        where = tracker.finish()
    except RequestError:  # of the store
        raise
    except Exception as error:
        raise RequestError(f"W&B could not be told: {type(error).__name__}: {error}") from error
    said = f"{told:,} trial{'' if told == 1 else 's'} told to W&B"
    return said if where is None else f"{said}; {where}"
