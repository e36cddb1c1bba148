"""What a person reads at the end of a sweep, or instead of one (dry_run)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.plan import Comparison, Plan, compare
from laser_sweep.sweep.run import Confirmed, Outcome
from laser_sweep.trial import TrialResult

SHOWN = 10
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}  # as it is spelled


def print_outcome(console: Console, outcome: Outcome, store_path: str) -> None:
    """For each comparison: the untouched model, the best trials on val, the winner on test; then counts and paths."""
    for place, comparison in enumerate(outcome.comparisons):
        console.print()
        console.print(_val_table(outcome, comparison))
        confirmed = outcome.confirmed.get(place)
        if confirmed is not None:
            for line in _confirmation(confirmed):
                console.print(line, highlight=False, soft_wrap=True)
    console.print()
    for failed in islice(outcome.failed, SHOWN):
        console.print(
            f"failed: {failed.trial.describe()}: {failed.error}", style="red", markup=False, emoji=False, soft_wrap=True
        )
    console.print(_counts(outcome), highlight=False, soft_wrap=True)
    console.print(f"results: {store_path}/trials, {store_path}/predictions", **_PLAIN)
    if outcome.tracked is not None:
        console.print(outcome.tracked, **_PLAIN)


def print_plan(console: Console, jobs: Sequence[Job], plan: Plan, store_path: str) -> None:
    """What a sweep would do: trials, how many are stored, and what the rest costs."""
    table = Table(box=box.SIMPLE, title="plan (nothing is run)", title_justify="left")
    for heading in ("model", "data set", "edits", "val examples", "test examples", "tokens a trial"):
        table.add_column(heading, justify="left" if heading in ("model", "data set") else "right")
    for comparison in compare(jobs):
        job = comparison.job
        val, test = (len(job.task.split(s, job.evaluation(s).limit, job.evaluation(s).seed)) for s in ("val", "test"))
        table.add_row(
            Text(job.checkpoint.identity.name),
            Text(job.task.name),
            f"{len(comparison.trials):,}",
            f"{val:,}",
            f"{test:,}",
            f"{job.prompt_tokens['val']:,}",
        )
    console.print(table)
    tokens, flops = _cost(jobs, plan)
    failed_before = sum(not result.ok for result in plan.reused.values())
    console.print(
        f"trials {len(plan.reused) + len(plan.pending):,} (the untouched model included): reused {len(plan.reused):,}, "
        f"failed before {failed_before:,}, to run {len(plan.pending):,}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"estimated cost: {tokens:,} tokens, {flops / 1e12:,.2f} TFLOP (2 x parameters x tokens), "
        "then the winner and the untouched model on test",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"store: {store_path}", **_PLAIN)


def print_bad_rows(console: Console, jobs: Iterable[Job]) -> None:
    """The rows that are left out, for each data set and model."""
    told = set()
    for job in jobs:
        key = job.checkpoint.identity, job.task.revision, job.bad_rows
        if job.bad_rows and key not in told:
            told.add(key)
            rows = [str(bad) for bad in job.bad_rows[:SHOWN]]
            more = f"; and {len(job.bad_rows) - SHOWN:,} more" if len(job.bad_rows) > SHOWN else ""
            count = "1 row is" if len(job.bad_rows) == 1 else f"{len(job.bad_rows):,} rows are"
            console.print(f"dataset={job.task.name}: {count} left out: {'; '.join(rows)}{more}", **_PLAIN)


def _cost(jobs: Iterable[Job], plan: Plan) -> tuple[int, float]:
    by_model = {(job.checkpoint.identity, job.task.revision): job for job in jobs}
    tokens, flops = 0, 0.0
    for trial in plan.pending:
        job = by_model[trial.model, trial.evaluation.revision]
        read = job.prompt_tokens[trial.evaluation.split]
        tokens += read
        flops += 2.0 * job.parameters * read
    return tokens, flops


def _val_table(outcome: Outcome, comparison: Comparison) -> Table:
    identity, task = comparison.job.checkpoint.identity, comparison.job.task
    untouched = outcome.results.get(comparison.untouched("val").key)
    edited = [result for result in outcome.ranked(comparison) if not result.trial.untouched]
    table = Table(
        box=box.SIMPLE,
        title=Text(
            f"{identity.name} on {task.name}, val"
            + ("" if untouched is None or not untouched.ok else f" ({untouched.measured().num_examples:,} examples)"),
            style="italic",
        ),
        title_justify="left",
    )
    for heading in ("intervention", "τ", "ℓ", "ρ", "accuracy %", "± se", "log-loss", "gain", "p"):
        table.add_column(heading, justify="left" if heading in ("intervention", "τ") else "right", no_wrap=True)
    if untouched is not None and untouched.ok:
        table.add_row(*_cells(untouched), style="bold", end_section=True)
    for result in edited[:SHOWN]:
        table.add_row(*_cells(result))
    if len(edited) > SHOWN:
        table.caption = f"the best {SHOWN} of {len(edited):,}"
        table.caption_justify = "left"
    return table


def _cells(result: TrialResult) -> tuple[str, ...]:
    trial, metrics = result.trial, result.measured()
    return (
        "untouched" if trial.untouched else escape(trial.intervention),
        trial.tau or "",
        "" if trial.untouched else "all" if trial.layer is None else str(trial.layer),
        "" if trial.rho is None else f"{trial.rho:g}",
        f"{100 * metrics.accuracy:.1f}",
        f"{100 * metrics.accuracy_stderr:.1f}",
        f"{metrics.log_loss:.3f}",
        "" if trial.untouched or result.gain is None else f"{100 * result.gain:+.1f}",
        "" if trial.untouched or result.gain_p_value is None else f"{result.gain_p_value:.2g}",
    )


def _confirmation(confirmed: Confirmed) -> Iterable[str]:
    winner, untouched = confirmed.winner, confirmed.untouched
    examples = f"on test ({untouched.measured().num_examples:,} examples, looked at once)"
    yield f"{examples}: untouched {_percent(untouched)}"
    if winner.trial.untouched:
        yield "no edit is better than the untouched model on val"
        return
    gain = confirmed.gain
    paired = (
        ""
        if gain is None
        else f", gain {100 * gain.gain:+.1f} ± {100 * gain.stderr:.1f} points, p = {gain.p_value:.2g}"
    )
    name = escape(f"{winner.trial.intervention} {winner.trial.describe()}")
    yield f"[bold]winner {name}[/]: {_percent(winner)}{paired}"


def _percent(result: TrialResult) -> str:
    metrics = result.measured()
    parts = [f"{100 * metrics.accuracy:.1f} ± {100 * metrics.accuracy_stderr:.1f} %, log-loss {metrics.log_loss:.3f}"]
    also = {
        "majority class": metrics.majority_accuracy,
        "F1": metrics.f1,
        "groups wholly right": metrics.group_accuracy,
    }
    parts += [f"{name} {100 * value:.1f} %" for name, value in also.items() if value is not None]
    parts += [f"{metrics.num_skipped:,} rows left out"] if metrics.num_skipped else []
    return ", ".join(parts)


def _counts(outcome: Outcome) -> str:
    """`reused 63 trials, ran 0 …`: says in words when there was nothing to do."""
    parts = [f"reused {outcome.reused:,}", f"ran {outcome.ran:,}"]
    if outcome.failed:
        parts.append(f"failed {len(outcome.failed):,} (resume=errored runs them again)")
    if outcome.interrupted:
        parts.append("interrupted: the same command runs the rest")
    loads = f", {outcome.model_loads} model loads" if outcome.model_loads else ""
    everything = " (every trial was stored already)" if outcome.reused and not outcome.ran else ""
    return f"trials: {', '.join(parts)}{everything}; {outcome.seconds:.1f} s{loads}"
