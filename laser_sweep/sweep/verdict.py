"""What the numbers of a comparison say, in words: the winner on test, and what to think of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape

from laser_sweep.analysis.classes import flip_to_constant
from laser_sweep.analysis.wording import gain_text, luck_text, measured_text
from laser_sweep.sweep.outcome import Confirmed, Guarded, Outcome
from laser_sweep.trial import Metrics


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
    measures = untouched.measured().measures
    examples = f"{name}on test ({untouched.measured().num_examples:,} {measures.example}s, looked at once)"
    yield f"{examples}: untouched {measured_text(untouched.measured())}"
    if winner.trial.untouched:
        return
    paired = "" if confirmed.gain is None else f", {gain_text(confirmed.gain, measures.score)}"
    edit = escape(f"{winner.trial.intervention} {winner.trial.describe()}")
    yield f"[bold]winner {edit}[/]: {measured_text(winner.measured())}{paired}"
    flip = flip_to_constant(winner.measured(), untouched.measured())
    if flip is not None:
        yield f"[yellow]{escape(flip)}[/]"


def _luck(outcome: Outcome, place: int) -> Iterator[str]:
    """Whether val has enough examples for as many candidates as were looked at."""
    comparison = outcome.comparisons[place]
    looked_at = len(comparison.looked_at)
    for number, job in enumerate(comparison.jobs):
        paired = outcome.picked.get((place, number))
        if paired is None:
            continue
        luck = luck_text(paired, job.num_examples("val"), looked_at, job.task.measures, job.task.name)
        if luck is not None:
            yield f"[yellow]{escape(luck)}[/]"


def _guard(guarded: Guarded, name: str) -> Iterator[str]:
    before = guarded.untouched.measured()
    loss = before.measures.loss
    if guarded.winner is not None and guarded.winner.ok:
        after = guarded.winner.measured()
        yield f"guard {escape(name)}: {loss.name} {_loss(before)} untouched, {_loss(after)} the winner"
    if guarded.refused:
        best = guarded.refused[0]
        worse = _loss(best.measured()) if best.ok else "failed"
        count = len(guarded.refused)
        yield (
            f"guard {escape(name)} refused {count:,} candidate{'s' if count > 1 else ''} that val prefers; "
            f"the best of them, {escape(best.trial.describe())}: {worse}"
        )


def _loss(metrics: Metrics) -> str:
    return "not measured" if metrics.loss is None else metrics.measures.loss.number(metrics.loss)
