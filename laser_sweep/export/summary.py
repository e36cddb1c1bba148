"""What the command prints when it is done."""

from __future__ import annotations

from rich.console import Console

from laser_sweep.export.checkpoint import Written
from laser_sweep.export.chosen import Chosen
from laser_sweep.export.verify import Verification
from laser_sweep.store.commands.screen import cells, count, make_table, say
from laser_sweep.trial import Edit

_SHOWN = 12  # of the edited matrices
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def print_matrices(console: Console, written: Written, itemsize: int) -> None:
    """Each edited matrix, and what it takes now."""
    headings = ("edited", "out x in", "rank", "numbers", "of", "%", "bytes")
    hidden = len(written.matrices) - _SHOWN
    table = make_table(
        headings, headings[2:], caption=f"and {count(hidden, 'more matrix', 'more matrices')}" if hidden > 0 else ""
    )
    for one in written.matrices[:_SHOWN]:
        rows, columns = one.shape
        dense = rows * columns
        share = f"{100 * one.numbers / dense:.1f}"
        sizes = (one.rank, f"{one.numbers:,}", f"{dense:,}", share, f"{one.numbers * itemsize:,}")
        table.add_row(*cells([_named(one.edit), f"{rows} x {columns}", *sizes]))
    console.print(table)


def print_sizes(console: Console, written: Written, itemsize: int, verified: Verification | None) -> None:
    """The edited matrices and the model, untouched and exported, on disk and in memory."""
    before = sum(one.shape[0] * one.shape[1] for one in written.matrices) * itemsize
    now = sum(one.numbers for one in written.matrices) * itemsize
    say(console, f"edited matrices   {_bytes(now)} of {_bytes(before)} ({100 * now / before:.1f} %)")
    say(console, f"model on disk     {_bytes(written.bytes_now)} of {_bytes(written.bytes_before)}")
    if verified is not None:
        dense = sum(one.numbers for one in written.matrices if not one.factored) * itemsize
        held, model = verified.resident.factors + dense, verified.resident.model
        say(console, f"edited in memory  {_bytes(held)}, measured on the loaded model")
        say(console, f"model in memory   {_bytes(model)} of {_bytes(model - held + before)}")


def print_checks(console: Console, verified: Verification) -> None:
    """How the loaded export did beside the trial."""
    for one in verified.checks:
        score = one.measures.score
        say(
            console,
            f"verified on {one.split} ({count(one.num_examples, one.measures.example)}): {score.name} "
            f"{score.text(one.score)}, stored {score.text(one.stored_score)}; {one.compared} differs by at most "
            f"{one.difference:.1e}{one.unit}, {one.changed}",
        )


def title(chosen: Chosen, directory: str, written: Written) -> str:
    """The first line."""
    return f"{chosen.title} (trial {chosen.trial.key}) -> {directory}, {written.form}"


def _named(edit: Edit) -> str:
    return f"{edit.method} {edit.matrix} rho={edit.rho:g}"


def _bytes(number: int) -> str:
    """`1,280 bytes`, `1.2 GB (1,234,567,890 bytes)`."""
    exact = f"{number:,} bytes"
    size, unit = float(number), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return exact if unit < 2 else f"{size:.3g} {_UNITS[unit]} ({exact})"
