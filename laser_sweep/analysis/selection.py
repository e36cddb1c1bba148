"""Which of several measured trials is the best one."""

from __future__ import annotations

from collections.abc import Iterable

from laser_sweep.trial import TrialResult


def ranked(results: Iterable[TrialResult]) -> list[TrialResult]:
    """Finished trials, best first: by accuracy, ties by lower log-loss, as published; then the untouched model first.

    The untouched model takes part like any other, so the best trial may be no edit at all.
    """
    return sorted(
        (result for result in results if result.ok),
        key=lambda r: (-r.measured().accuracy, r.measured().log_loss, not r.trial.untouched, r.trial.key),
    )
