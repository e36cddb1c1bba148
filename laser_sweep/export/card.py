"""The model card of an export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.export.checkpoint import Written
from laser_sweep.export.chosen import Chosen
from laser_sweep.export.manifest import MANIFEST
from laser_sweep.measures import ANSWERS, measures_of
from laser_sweep.store.commands.screen import count, short_p
from laser_sweep.store.overrides import rerun_command
from laser_sweep.store.winners import Measured
from laser_sweep.trial import Family

_PAPER = "[LASER](https://arxiv.org/abs/2312.13558)"
_AUTO = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "decision_transformer": "AutoModel",
}


def manifest(chosen: Chosen, base: Checkpoint, written: Written, command: str) -> str:
    """What the export is, for programs."""
    values = {
        "form": written.form,
        "family": base.family,
        "trial": chosen.trial.key,
        "base": {"path": base.spec.path, "revision": base.commit, "dtype": base.identity.dtype},
        "edits": [
            {
                "tau": one.edit.matrix.tau,
                "layer": one.edit.matrix.layer,
                "rho": one.edit.rho,
                "method": one.edit.method,
                "options": dict(one.edit.options),
                "shape": list(one.shape),
                "rank": one.rank,
                "numbers": one.numbers,
            }
            for one in written.matrices
        ],
        "command": command,
    }
    return json.dumps(values, indent=2) + "\n"


def card(chosen: Chosen, base: Checkpoint, written: Written, command: str) -> str:
    """README.md, in Markdown with the metadata that the hub reads."""
    return "\n".join(_lines(chosen, base, written, command)) + "\n"


def _lines(chosen: Chosen, base: Checkpoint, written: Written, command: str) -> Iterator[str]:
    repo, model = base.identity.repo, chosen.trial.model
    named = f"[{repo}](https://huggingface.co/{repo})" if repo else f"`{base.spec.path}`"
    revision = f"commit `{base.commit}`" if repo else f"files with the hash `{base.commit}`"
    yield from _metadata(repo, written)
    yield f"# {model.name}, {chosen.trial.intervention} {chosen.trial.describe()}"
    yield ""
    edited = count(len(written.matrices), "weight matrix", "weight matrices")
    yield (f"{named} at {revision}, in {model.dtype}, with {edited} replaced as {_PAPER} does. Nothing was trained.")
    yield from ("", "## Edits", "")
    yield from _table(
        ("matrix", "out x in", "method", "ρ", "rank", "numbers", "of"),
        (
            (
                f"`{one.edit.matrix}`",
                f"{one.shape[0]} x {one.shape[1]}",
                _method(one.edit.method, dict(one.edit.options)),
                f"{one.edit.rho:g}",
                "" if one.rank is None else str(one.rank),
                f"{one.numbers:,}",
                f"{one.shape[0] * one.shape[1]:,}",
            )
            for one in written.matrices
        ),
    )
    yield from ("", f"## Measured on {chosen.trial.evaluation.dataset}", "")
    yield from _figures(chosen.measured)
    yield from ("", "## Loading", "", "```python", *_loading(_form(written), base.family), "```")
    yield from ("", "## How it was made", "", "```", command, "```")
    if chosen.config:
        yield from ("", "from a trial of", "", "```", rerun_command(chosen.config, chosen.store), "```")
    yield from ("", f"`{MANIFEST}` says the same for programs.", "", "## Licence", "")
    yield (
        f"These weights are made from those of {named}, and whatever licence and terms of use come with those hold for "
        "these too. This export neither adds to them nor takes away."
    )


def _form(written: Written) -> str:
    """Where no matrix is smaller as factors the checkpoint is an ordinary one."""
    return "factored" if written.maps else "dense"


def _metadata(repo: str, written: Written) -> Iterator[str]:
    yield "---"
    yield "library_name: transformers"
    if repo:
        yield from (f"base_model: {repo}", "base_model_relation: finetune")
    yield from ("tags:", "- laser", "- low-rank", "---", "")


def _loading(form: str, family: Family) -> Iterator[str]:
    auto, reads = _AUTO[family], family != "decision_transformer"  # which has no tokenizer
    names = [*([auto] if form == "dense" else []), *(["AutoTokenizer"] if reads else [])]
    yield from ["import laser_sweep"] if form == "factored" else []
    yield from [f"from transformers import {', '.join(names)}"] if names else []
    load = "laser_sweep.load" if form == "factored" else f"{auto}.from_pretrained"
    yield from ("", f'model = {load}("<this directory>")')
    yield from ['tokenizer = AutoTokenizer.from_pretrained("<this directory>")'] if reads else []


def _figures(measured: Sequence[Measured]) -> Iterator[str]:
    measures = measures_of(measured[0].edited.row)
    score, loss = measures.both
    rows, notes = [], []
    for one in sorted(measured, key=lambda found: found.split != "val"):
        if one.untouched is not None:
            rows.append(_figure(one.split, "untouched", one.untouched.row, "", ""))
        edited = one.edited
        paired = edited.paired
        gain = score.change(edited.gain, None if paired is None else paired.stderr)
        rows.append(_figure(one.split, "this model", edited.row, gain, short_p(edited.p_value)))
        if paired is not None:
            notes.append(f"on {one.split} {score.change(paired.low)} to {score.change(paired.high)}")
    unit = f",{score.points}" if score.points else ""
    headings = ("split", "model", f"{measures.example}s", score.heading, loss.name, f"gain{unit}", "p")
    yield from _table(headings, rows)
    interval = f" The 95 % interval of the gain is {', '.join(notes)}." if notes else ""
    tokens = ", log-loss in nats for each token of the answer" if measures is ANSWERS else ""
    yield from (
        "",
        f"± is one standard error; the gain is over the untouched model on the same {measures.example}s, p that of the "
        f"{measures.test}{tokens}.{interval}",
    )
    splits = {one.split for one in measured}
    if splits == {"val"}:
        yield "The edit was chosen on val, so that its figures there are too good; on test it was not measured."
    elif splits == {"val", "test"}:
        yield "The edit was chosen on val, so that its figures there are too good; those on test are not."


def _figure(split: str, model: str, row: Mapping[str, Any], gain: str, p_value: str) -> tuple[str, ...]:
    score, loss = measures_of(row).both
    figures = score.number(row[score.column], row[score.stderr]), loss.number(row[loss.column])
    return split, model, f"{row['num_examples']:,}", *figures, gain, p_value


def _table(headings: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _method(method: str, options: Mapping[str, Any]) -> str:
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])
