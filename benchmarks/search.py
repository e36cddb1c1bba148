"""The published fast searches against exhaustive ones: our own on all of val, and the published one.

A narrow model with as many blocks as GPT-J, as many examples as FEVER has. Each search is a bundle of conf/experiment,
carried out by a sweep in this process. Exhaustive is every rho of fc_in and fc_out of every layer. The published way,
for every trial: a copy of the model, a randomised factorisation, one example at a time through all blocks, val and
test. What was answered twice, by two searches of ours or by ours and the published way, must be answered alike.

Speedups on the slides of "Compress to Impress" (arXiv 2510.20800) are relative to their authors' own exhaustive search,
in their code on their machine. They are no measurement of this code; they stand beside ours to compare the searches.
"""

from __future__ import annotations

import json
import logging
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from hydra import compose, initialize_config_dir
from rich.table import Table

from benchmarks.command import Figures, run, show
from benchmarks.published import PublishedWay
from benchmarks.shapes import fever_like, llama_weight, write_llama
from benchmarks.sweeps import Answers, Carried, carry_out, confirmation_seconds, factoring_seconds, in_full, one_each
from laser_sweep.analysis.published import published_fast_search
from laser_sweep.cli import CONF
from laser_sweep.config import read_request
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.tasks.example import Example
from laser_sweep.sweep.jobs import Job, build_jobs
from laser_sweep.sweep.search.spec import GradientSpec
from laser_sweep.trial import rank_of

VARIANTS = {
    "laser_100_eval": "LASER 100 Eval",
    "grads_std_eval": "Grads Std Eval",
    "100_grads_std_eval": "100 Grads Std Eval",
    "100_grads_100_eval": "100 Grads 100 Eval",
    "clustering_100_grads_std_eval": "Clustering 100 Grads Std Eval",
    "clustering_100_grads_100_eval": "Clustering 100 Grads 100 Eval",
}
EXHAUSTIVE = "exhaustive"
HEADLINE = "100_grads_100_eval"
CLUSTERS = 4  # the number of blocks that is measured where one stands for all


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    vocabulary: int
    examples: int
    rounds: int
    """How often a search on 100 examples is measured; the median counts."""
    published_trials: int
    """Trials of the published way in a round."""


# The vocabulary is to GPT-J's 50,400 words as the width is to its 4,096, so that logits have the share they have there.
FULL = Size(layers=28, hidden=32, vocabulary=394, examples=13_086, rounds=3, published_trials=2)
SMALL = Size(layers=4, hidden=32, vocabulary=394, examples=550, rounds=1, published_trials=2)


@dataclass(frozen=True)
class Rounds:
    """What is measured several times: searches by name, and seconds."""

    searches: Mapping[str, list[Carried]]
    factoring: list[float] = field(default_factory=list)
    """Of all decompositions."""
    published_edit: list[float] = field(default_factory=list)
    """Of a copy of the model and its edit, the published way."""
    published_example: list[float] = field(default_factory=list)

    def published(self, trials: int, examples: int) -> float:
        """Seconds of an exhaustive search of so many trials, one of which is the untouched model, the published way."""
        return (trials - 1) * median(self.published_edit) + trials * examples * median(self.published_example)

    def typical(self, name: str) -> Carried:
        """The search whose time is the median."""
        carried = sorted(self.searches[name], key=lambda one: one.seconds)
        return carried[len(carried) // 2]


@dataclass(frozen=True)
class Found:
    """What was measured, in seconds: searches by name, scaled where they are not measured in full."""

    searches: Mapping[str, float]
    published: float
    confirmation: float
    planning: float
    scaled_again: float
    """Of LASER, 100 Eval, which was measured in full as well."""

    def own_ratio(self, name: str) -> float:
        return self.searches[EXHAUSTIVE] / self.searches[name]

    def published_ratio(self, name: str) -> float:
        return self.published / self.searches[name]

    def confirmed(self, name: str) -> float:
        return self.searches[name] + self.confirmation


def measure(size: Size) -> Figures:
    """Carries out all searches, checks that they agree, prints a table and returns the figures of the last line."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        jobs, planning = make_jobs(size, root)
        answers = Answers()
        rounds = in_rounds(size, jobs, root, answers)
        headline = rounds.typical(HEADLINE)
        rho = headline.winner.trial.rho or 0.1  # so that the winner is among what is measured on all of val

        def scaled(name: str) -> float:
            clusters = {"clusters": CLUSTERS} if "clustering" in name else {}
            sample = carry_out(one_each(jobs[name], rho, **clusters), root / f"{name}-one-each")
            answers.add_all(sample)
            return in_full(sample, jobs[name].space)

        found = Found(
            searches={
                name: rounds.typical(name).seconds if name in rounds.searches else scaled(name)
                for name in (EXHAUSTIVE, *VARIANTS)
            },
            published=rounds.published(len(jobs[EXHAUSTIVE].space.grid()) + 1, size.examples),
            confirmation=confirmation_seconds(headline),
            planning=planning,
            scaled_again=scaled("laser_100_eval"),
        )
        asked = [example.id for example in examples_asked(headline.job)]
        of_winner = answers.accuracy(headline.winner.trial.edits, asked)
        assert abs(headline.winner.score - of_winner) < 1e-9, (headline.winner.score, of_winner)
    shares = shares_of(headline, median(rounds.factoring))
    show(
        words(size, jobs, found, rounds, rho, answers),
        table(jobs, found, size.examples),
        f"Of {VARIANTS[HEADLINE]}, {headline.seconds:.2f} s: decompositions {shares['factoring_share']:.1%}, "
        f"gradients {shares['gradients_share']:.1%}, trials {shares['evaluation_share']:.1%} in the model and "
        f"{shares['edit_share']:.1%} in edits; the rest, mostly the store, {shares['rest_share']:.1%}.",
    )
    return {
        "gradient_100_100_vs_own_exhaustive": found.own_ratio(HEADLINE),
        "gradient_100_100_vs_published": found.published_ratio(HEADLINE),
        "gradient_100_100_vs_own_exhaustive_with_confirmation": found.confirmed(EXHAUSTIVE) / found.confirmed(HEADLINE),
        "gradient_100_100_vs_published_with_confirmation": found.published / found.confirmed(HEADLINE),
        "own_exhaustive_vs_published": found.published_ratio(EXHAUSTIVE),
        **{f"{name}_vs_own_exhaustive": found.own_ratio(name) for name in VARIANTS},
        "scaled_over_measured": found.scaled_again / found.searches["laser_100_eval"],
        "planning_seconds": planning,
        **shares,
    }


def make_jobs(size: Size, root: Path) -> tuple[dict[str, Job], float]:
    """The job of each search, without confirmation, and the seconds in which a single one is planned."""
    write_llama(root / "model", layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    examples = fever_like(size.examples, size.vocabulary).examples
    rows = [{"prompt": one.prompt, "answer": one.gold, "choices": one.choices} for one in examples]
    (root / "claims.jsonl").write_text("\n".join(map(json.dumps, rows)))
    inputs = [f"model.path={root / 'model'}", "dataset=jsonl", f"dataset.path={root / 'claims.jsonl'}"]
    common = [*inputs, "model.name=llama", "tracking=none", "evaluation.confirm=false"]
    bundles = {EXHAUSTIVE: ["experiment=laser_100_eval", "evaluation.limit=null"]}
    bundles |= {name: [f"experiment={name}"] for name in VARIANTS}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        questions = {
            name: read_request(compose("config", [*common, *bundle])).question for name, bundle in bundles.items()
        }
    started = time.perf_counter()
    build_jobs([questions[HEADLINE]])
    planning = time.perf_counter() - started
    return dict(zip(questions, build_jobs(questions.values()), strict=True)), planning


def in_rounds(size: Size, jobs: Mapping[str, Job], root: Path, answers: Answers) -> Rounds:
    """Measures the searches on 100 examples and a sample of the published way in turn."""
    short = [name for name, job in jobs.items() if job.question.evaluation.limit is not None]
    rounds = Rounds({name: [] for name in short})
    job = jobs["laser_100_eval"]
    way = PublishedWay(load_model(job.checkpoint, torch.device("cpu")), load_tokenizer(job.checkpoint))
    asked = examples_asked(job)
    # A sketch of rank 0, which small rho would give in a narrow model, is nothing that the published code meets.
    grid = [one for one in job.space.grid() if rank_of(one.rho or 0, size.hidden, size.hidden) > 0]
    sample = random.Random(0).sample(grid, size.rounds * size.published_trials)
    for number in range(size.rounds):
        for name in short:
            carried = carry_out(jobs[name], root / f"{name}-{number}")
            assert len(carried.ran) == num_trials(jobs[name]), (name, len(carried.ran))
            answers.add_all(carried)
            rounds.searches[name].append(carried)
        rounds.factoring.append(factoring_seconds(jobs[HEADLINE], root / f"factors-{number}"))
        for candidate in sample[number :: size.rounds]:
            (edit,) = candidate.edits
            edited, seconds = way.edited(llama_weight(edit.matrix), edit.rho)
            rounds.published_edit.append(seconds)
            found, seconds = way.answers(edited, asked)
            rounds.published_example.append(seconds / len(asked))
            answers.add(candidate.edits, {one.id: said.correct for one, said in zip(asked, found, strict=True)})
    return rounds


def examples_asked(job: Job) -> Sequence[Example]:
    """The examples of val on which a job searches."""
    evaluation = job.evaluation("val")
    return job.task.split("val", evaluation.limit, evaluation.seed)


def shares_of(carried: Carried, factoring: float) -> dict[str, float]:
    """What the time of a gradient search goes to. `factoring` are the seconds of all decompositions."""
    spent = [result.seconds for result in carried.ran]
    evaluation, edit = sum(one.eval for one in spent), sum(one.edit + one.factor for one in spent)
    parts = {
        "factoring": factoring,
        "gradients": carried.seconds_probe - factoring,
        "evaluation": evaluation,
        "edit": edit,
        "rest": carried.seconds - carried.seconds_probe - evaluation - edit,
    }
    return {f"{name}_share": seconds / carried.seconds for name, seconds in parts.items()}


def words(size: Size, jobs: Mapping[str, Job], found: Found, rounds: Rounds, rho: float, answers: Answers) -> str:
    """What was measured, and how."""
    full = jobs[EXHAUSTIVE]
    edit, example = 1e3 * median(rounds.published_edit), 1e3 * median(rounds.published_example)
    best, dataset = max((speedup, dataset) for dataset, speedup in on_the_slides(HEADLINE).items())
    return f"""\
Llama shape: {size.layers} blocks, {size.hidden} wide, {size.vocabulary} words; {size.examples:,} examples, \
{full.num_examples("val"):,} of them val; {torch.get_num_threads()} thread.
Not counted on either side: loading the model, and reading the data ({found.planning:.1f} s, when ours plans).
On 100 examples: measured in full, median of {size.rounds}.
On all of val: measured with rho={rho:g} alone (and {CLUSTERS} blocks, where clustered) and scaled, each decomposition \
counted once. Where both were done, {VARIANTS["laser_100_eval"]}: {found.searches["laser_100_eval"]:.1f} s measured, \
{found.scaled_again:.1f} s scaled.
Published way: {len(rounds.published_edit)} trials of 100 examples measured, medians {edit:.1f} ms to copy and edit, \
{example:.2f} ms an example; scaled to {num_trials(full):,} trials of {size.examples:,} examples, as each is measured \
on test too (on val alone, a fifth of it). At this width one example at a time is mostly overhead, which flatters us; \
vs_reference is wider.
With test: with the winner confirmed, {found.confirmation:.1f} s, measured once, for {VARIANTS[HEADLINE]}.
x own, x published: how many times as long our own exhaustive search takes, and the published one, without that.
Slides: how many times as long their own exhaustive search took, with GPT-J on FEVER, and the range of all eight data \
sets ({best:g} is {dataset}'s).
Answers given twice, all alike: {answers.twice:,}."""


def table(jobs: Mapping[str, Job], found: Found, examples: int) -> Table:
    """A row for each search."""
    rows = Table()
    for heading in ("search", "trials", "examples", "s", "with test", "x own", "x published", "slides"):
        rows.add_column(heading, justify="left" if heading == "search" else "right")
    full = jobs[EXHAUSTIVE]
    trials = f"{len(full.space.grid()) + 1:,}"
    own_ratio = found.searches[EXHAUSTIVE] / found.published
    rows.add_row(
        "LASER, the published way", trials, f"{examples:,}", f"{found.published:,.0f}", "", f"{own_ratio:.2g}", "1", "1"
    )
    for name, title in {EXHAUSTIVE: "LASER, ours", **VARIANTS}.items():
        rows.add_row(
            title,
            f"{num_trials(jobs[name]):,}",
            f"{jobs[name].num_examples('val'):,}",
            f"{found.searches[name]:,.1f}",
            f"{found.confirmed(name):,.1f}",
            f"{found.own_ratio(name):.3g}",
            f"{found.published_ratio(name):,.0f}",
            shown(on_the_slides(name)),
        )
    return rows


def num_trials(job: Job) -> int:
    """Of a search on val, the untouched model counted."""
    places, search = len(job.space.places), job.question.search
    searched = min(search.top_matrices, places) if isinstance(search, GradientSpec) else places
    return searched * len(job.space.grid()) // places + 1


def on_the_slides(method: str) -> dict[str, float]:
    """The published speedups of a search with GPT-J, by data set; none of the exhaustive one."""
    rows = [row for row in published_fast_search() if (row.model, row.method) == ("gptj", method)]
    return {row.dataset: row.speedup for row in rows if row.speedup is not None}


def shown(speedups: Mapping[str, float]) -> str:
    """That on FEVER, and the range of all."""
    return f"{speedups['fever']:g} ({min(speedups.values()):g}..{max(speedups.values()):g})" if speedups else ""


if __name__ == "__main__":
    torch.set_num_threads(1)  # a narrow model has no work for more
    run(measure, full=FULL, small=SMALL, description=__doc__)
