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

from laser_sweep.analysis.multiplicity import adjusted_p_values
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.plan import Comparison, Plan, compare
from laser_sweep.sweep.protocols import AskTrials
from laser_sweep.sweep.search.space import grid
from laser_sweep.sweep.verdict import verdict
from laser_sweep.trial import Option, Split, TrialResult

SHOWN = 10
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}  # as it is spelled


def print_outcome(console: Console, outcome: Outcome, store_path: str) -> None:
    """For each comparison: the untouched model, the best trials on val, how they were found, the winner on test; then
    counts and paths."""
    for place, comparison in enumerate(outcome.comparisons):
        console.print()
        for number, job in enumerate(comparison.jobs):
            console.print(_val_table(outcome, comparison, job, number))
        for line in (*outcome.searches[place].notes(), *verdict(outcome, place)):
            console.print(line, highlight=False, soft_wrap=True)
    console.print()
    for failed in islice(outcome.failed, SHOWN):
        what = failed.trial if isinstance(failed, TrialResult) else failed.probe
        console.print(
            f"failed: {what.describe()}: {failed.error}", style="red", markup=False, emoji=False, soft_wrap=True
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
        for job in comparison.jobs:
            table.add_row(
                Text(job.checkpoint.identity.name),
                Text(job.task.name),
                f"{len(grid(comparison.spaces)):,}",
                f"{job.num_examples('val'):,}",
                f"{job.num_examples('test'):,}",
                f"{job.prompt_tokens['val']:,}",
            )
    console.print(table)
    for comparison in compare(jobs):
        if comparison.question.search.name != "grid":
            console.print(f"search={comparison.question.search.name} begins with {_first(comparison)}", **_PLAIN)
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


def _first(comparison: Comparison) -> str:
    """What a search asks for before it knows anything."""
    ask = comparison.search().ask()
    if isinstance(ask, AskTrials):
        count, limit = len(ask.candidates), comparison.limit(ask)
        candidates = f"{count:,} candidate{'' if count == 1 else 's'}"
        return f"{candidates} on {comparison.num_examples if limit is None else limit:,} examples of val"
    if ask is None:
        return "nothing: there is no candidate"
    matrices = f"{len(ask.matrices):,} matri{'x' if len(ask.matrices) == 1 else 'ces'}"
    if ask.samples is None:
        return f"the spectra of {matrices}"
    return f"the gradients of {matrices} on {ask.samples} examples of val"


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


def print_limits(console: Console, jobs: Iterable[Job]) -> None:
    """The limits that are larger than the data, which then limit nothing."""
    splits: tuple[Split, ...] = ("val", "test")
    lines: list[str] = []
    for job in jobs:
        asked = job.question.evaluation
        for split, key, limit in zip(splits, ("limit", "test_limit"), (asked.limit, asked.test_limit), strict=True):
            there = len(job.task.split(split))
            if limit is not None and limit > there:
                lines.append(
                    f"evaluation.{key}={limit} is more than the {there:,} {job.task.measures.example}s of {split} of "
                    f"{job.task.name}"
                )
    for line in dict.fromkeys(lines):
        console.print(f"{line}: all are used", **_PLAIN)


def _cost(jobs: Iterable[Job], plan: Plan) -> tuple[int, float]:
    asked = [one for job in jobs for one in (job, job.guard) if one is not None]
    by_model = {(job.checkpoint.identity, job.task.revision): job for job in asked}
    tokens, flops = 0, 0.0
    for trial in plan.pending:
        job = by_model[trial.model, trial.evaluation.revision]
        read = job.tokens(trial.evaluation)
        tokens += read
        flops += 2.0 * job.parameters * read
    return tokens, flops


def _val_table(outcome: Outcome, comparison: Comparison, job: Job, number: int) -> Table:
    """The table of one data set, the `number`th of the comparison, in the order of its decision."""
    ranked = outcome.ranked(comparison)
    untouched = next((one.results[number] for one in ranked if one.trial.untouched), None)
    edited = [one.results[number] for one in ranked if not one.trial.untouched]
    measures = job.task.measures
    examples = "" if untouched is None else f" ({untouched.measured().num_examples:,} {measures.example}s)"
    table = Table(
        box=box.SIMPLE,
        title=Text(f"{job.checkpoint.identity.name} on {job.task.name}, val{examples}", style="italic"),
        title_justify="left",
    )
    swept = _swept_options(edited)
    figures = measures.score.heading, "± se", measures.loss.name, "gain", "p (Holm)"
    headings = ("intervention", "τ", "ℓ", "ρ", *swept, *figures)
    for heading in (*headings, *(["numbers"] if swept else [])):
        table.add_column(heading, justify="left" if heading in ("intervention", "τ") else "right", no_wrap=True)
    if untouched is not None:
        table.add_row(*_cells(untouched, swept), style="bold", end_section=True)
    known = [result for result in edited if result.gain_p_value is not None]
    corrected = adjusted_p_values([result.gain_p_value or 0.0 for result in known])
    p_values = {result.trial.key: float(value) for result, value in zip(known, corrected, strict=True)}
    for result in edited[:SHOWN]:
        table.add_row(*_cells(result, swept, p_values.get(result.trial.key)))
    if len(edited) > SHOWN:
        table.caption = f"the best {SHOWN} of {len(edited):,}"
        table.caption_justify = "left"
    return table


def _swept_options(results: Iterable[TrialResult]) -> list[str]:
    """The options of interventions in which trials differ."""
    values: dict[str, set[Option]] = {}
    for result in results:
        for edit in result.trial.edits:
            for name, value in edit.options:
                values.setdefault(name, set()).add(value)
    return [name for name, seen in values.items() if len(seen) > 1]


def _cells(result: TrialResult, swept: Sequence[str], p_value: float | None = None) -> tuple[str, ...]:
    """`p_value` is corrected for the number of trials. Where options are swept, the last cell is how many numbers the
    edited matrices take, so that trials can be compared at equal memory."""
    trial, metrics = result.trial, result.measured()
    score, loss = metrics.measures.score, metrics.measures.loss
    options = [dict(edit.options) for edit in trial.edits[:1]] or [{}]
    return (
        "untouched" if trial.untouched else escape(trial.intervention),
        trial.tau or ("" if trial.untouched else f"{len(trial.edits)} edits"),
        "" if trial.tau is None else "all" if trial.layer is None else str(trial.layer),
        "" if trial.rho is None else f"{trial.rho:g}",
        *(str(options[0].get(name, "")) for name in swept),
        score.number(metrics.score),
        "" if metrics.score_stderr is None else score.number(metrics.score_stderr),
        "" if metrics.loss is None else loss.number(metrics.loss),
        "" if trial.untouched or result.gain is None else score.change(result.gain),
        "" if p_value is None else f"{p_value:.2g}",
        *([] if not swept else ["" if result.parameters is None else f"{result.parameters:,}"]),
    )


def _counts(outcome: Outcome) -> str:
    """`reused 63 trials, ran 0 …`: says in words when there was nothing to do."""
    parts = [f"reused {outcome.reused:,}", f"ran {outcome.ran:,}"]
    if outcome.failed:
        parts.append(f"failed {len(outcome.failed):,} (resume=errored runs them again)")
    if outcome.cut_short:
        parts.append(f"{'interrupted' if outcome.interrupted else 'stopped'}: the same command runs the rest")
    loads = f", {outcome.model_loads} model loads" if outcome.model_loads else ""
    everything = " (every trial was stored already)" if outcome.reused and not outcome.ran else ""
    return f"trials: {', '.join(parts)}{everything}; {outcome.seconds:.1f} s{loads}"
