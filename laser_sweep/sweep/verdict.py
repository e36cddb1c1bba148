"""What the numbers of a comparison say, in words: the winner on test, and what to think of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape

from laser_sweep.analysis.classes import flip_to_constant
from laser_sweep.analysis.multiplicity import examples_needed, expected_best_of_null
from laser_sweep.sweep.outcome import Confirmed, Guarded, Outcome
from laser_sweep.trial import TrialResult


def verdict(outcome: Outcome, place: int) -> Iterator[str]:
    """Lines on the winner of a comparison, with rich's markup; none where nothing was confirmed."""
    comparison = outcome.comparisons[place]
    if place in outcome.guarded:
        yield from _guard(outcome.guarded[place], comparison.guard.task.name if comparison.guard else "")
    confirmed = outcome.confirmed.get(place, ())
    several = len(confirmed) > 1
    if several:
        yield f"one winner for {len(confirmed)} data sets, by {comparison.question.objective}"
    for one in confirmed:
        name = f"{escape(one.winner.trial.evaluation.dataset)}, " if several else ""
        yield from _confirmation(one, name)
    if confirmed and confirmed[0].winner.trial.untouched:
        refused = place in outcome.guarded and outcome.guarded[place].refused
        yield (
            "the guard allows none of the better edits"
            if refused
            else ("no edit is better than the untouched model on val")
        )
    if confirmed and not confirmed[0].winner.trial.untouched:
        yield from _luck(outcome, place)


def _confirmation(confirmed: Confirmed, name: str) -> Iterator[str]:
    winner, untouched = confirmed.winner, confirmed.untouched
    examples = f"{name}on test ({untouched.measured().num_examples:,} examples, looked at once)"
    yield f"{examples}: untouched {_percent(untouched)}"
    if winner.trial.untouched:
        return
    gain = confirmed.gain
    paired = (
        ""
        if gain is None
        else f", gain {100 * gain.gain:+.1f} ± {100 * gain.stderr:.1f} points "
        f"(95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}), p = {gain.p_value:.2g}"
    )
    edit = escape(f"{winner.trial.intervention} {winner.trial.describe()}")
    yield f"[bold]winner {edit}[/]: {_percent(winner)}{paired}"
    flip = flip_to_constant(winner.measured(), untouched.measured())
    if flip is not None:
        yield f"[yellow]{escape(flip)}[/]"


def _luck(outcome: Outcome, place: int) -> Iterator[str]:
    """Whether val has enough examples for as many candidates as were looked at."""
    comparison = outcome.comparisons[place]
    looked_at = len(comparison.looked_at)
    for number, job in enumerate(comparison.jobs):
        paired = outcome.picked.get((place, number))
        if paired is None or looked_at < 2 or paired.gain <= 0:
            continue
        there = job.num_examples("val")
        changed = (paired.wins + paired.losses) / there
        needed = examples_needed(paired.gain, changed, looked_at)
        if there < needed:
            luck = expected_best_of_null(changed, there, looked_at)
            yield (
                f"[yellow]picked among {looked_at:,} on {there:,} examples of {escape(job.task.name)}, where the best "
                f"of so many without any effect would show {100 * luck:+.1f} points; to tell the winner's "
                f"{100 * paired.gain:+.1f} from that takes {needed:,} examples: believe the figures on test[/]"
            )


def _guard(guarded: Guarded, name: str) -> Iterator[str]:
    before = guarded.untouched.measured().log_loss
    if guarded.winner is not None and guarded.winner.ok:
        after = guarded.winner.measured().log_loss
        yield f"guard {escape(name)}: log-loss {before:.3f} untouched, {after:.3f} the winner"
    if guarded.refused:
        best = guarded.refused[0]
        loss = f"{best.measured().log_loss:.3f}" if best.ok else "failed"
        count = len(guarded.refused)
        yield (
            f"guard {escape(name)} refused {count:,} candidate{'s' if count > 1 else ''} that val prefers; "
            f"the best of them, {escape(best.trial.describe())}: {loss}"
        )


def _percent(result: TrialResult) -> str:
    metrics = result.measured()
    parts = [f"{100 * metrics.accuracy:.1f} ± {100 * metrics.accuracy_stderr:.1f} %, log-loss {metrics.log_loss:.3f}"]
    also = {
        "majority class": metrics.majority_accuracy,
        "balanced": metrics.balanced_accuracy,
        "F1": metrics.f1,
        "groups wholly right": metrics.group_accuracy,
    }
    parts += [f"{name} {100 * value:.1f} %" for name, value in also.items() if value is not None]
    parts += [f"{metrics.num_skipped:,} rows left out"] if metrics.num_skipped else []
    return ", ".join(parts)
