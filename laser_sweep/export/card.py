"""The model card of an export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.export.checkpoint import Written
from laser_sweep.export.chosen import Chosen
from laser_sweep.export.manifest import MANIFEST
from laser_sweep.store.commands.screen import count, percent, points, short_p
from laser_sweep.store.overrides import rerun_command
from laser_sweep.store.winners import Measured

_PAPER = "[LASER](https://arxiv.org/abs/2312.13558)"
_LOADING = {
    "dense": """from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("<this directory>")
tokenizer = AutoTokenizer.from_pretrained("<this directory>")""",
    "factored": """import laser_sweep
from transformers import AutoTokenizer

model = laser_sweep.load("<this directory>")
tokenizer = AutoTokenizer.from_pretrained("<this directory>")""",
}
_AUTO = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}


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
    yield from ("", "## Loading", "", "```python", _LOADING[_form(written)].format(auto=_AUTO[base.family]), "```")
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


def _figures(measured: Sequence[Measured]) -> Iterator[str]:
    rows, notes = [], []
    for one in sorted(measured, key=lambda found: found.split != "val"):
        if one.untouched is not None:
            rows.append(_figure(one.split, "untouched", one.untouched.row, "", ""))
        edited = one.edited
        paired = edited.paired
        gain = points(edited.gain, None if paired is None else paired.stderr)
        rows.append(_figure(one.split, "this model", edited.row, gain, short_p(edited.p_value)))
        if paired is not None:
            notes.append(f"on {one.split} {100 * paired.low:+.1f} to {100 * paired.high:+.1f}")
    yield from _table(("split", "model", "examples", "accuracy %", "log-loss", "gain, points", "p"), rows)
    interval = f" The 95 % interval of the gain is {', '.join(notes)}." if notes else ""
    yield from (
        "",
        "± is one standard error; the gain is over the untouched model on the same examples, p that of the exact "
        f"McNemar test, log-loss in nats for each token of the answer.{interval}",
    )
    splits = {one.split for one in measured}
    if splits == {"val"}:
        yield "The edit was chosen on val, so that its figures there are too good; on test it was not measured."
    elif splits == {"val", "test"}:
        yield "The edit was chosen on val, so that its figures there are too good; those on test are not."


def _figure(split: str, model: str, row: Mapping[str, Any], gain: str, p_value: str) -> tuple[str, ...]:
    accuracy = percent(row["accuracy"], row["accuracy_stderr"])
    return split, model, f"{row['num_examples']:,}", accuracy, f"{row['log_loss']:.3f}", gain, p_value


def _table(headings: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _method(method: str, options: Mapping[str, Any]) -> str:
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])
