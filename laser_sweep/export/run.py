"""One export from beginning to end."""

from __future__ import annotations

from pathlib import Path

import torch

from laser_sweep.engine.editing.cache import open_cache
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.export.card import card, manifest
from laser_sweep.export.checkpoint import Exporter, Form
from laser_sweep.export.chosen import Chosen
from laser_sweep.export.manifest import MANIFEST
from laser_sweep.export.summary import print_checks, print_matrices, print_sizes, title
from laser_sweep.export.verify import verify
from laser_sweep.store.atomic import replacing_directory
from laser_sweep.store.commands.screen import make_console, say


class _UnlikeError(Exception):
    """What was written is not what the trial measured."""


def export(
    chosen: Chosen,
    base: Checkpoint,
    target: Path,
    *,
    shown: str,
    form: Form,
    verified: bool,
    tolerance: float | None,
    command: str,
) -> str | None:
    """Writes a directory, and prints what is in it. Says why it was not kept where it was verified and failed.

    Raises RequestError and OSError, and then leaves `target` as it was.
    """
    console = make_console()
    exporter = Exporter(base, chosen.trial.edits, open_cache(_cache(chosen)))
    exporter.check(form)
    itemsize = getattr(torch, base.identity.dtype).itemsize
    try:
        with replacing_directory(target) as temporary:
            written = exporter.write(temporary, form)
            (temporary / "README.md").write_text(card(chosen, base, written, command), encoding="utf-8")
            (temporary / MANIFEST).write_text(manifest(chosen, base, written, command), encoding="utf-8")
            say(console, title(chosen, shown, written))
            print_matrices(console, written, itemsize)
            verification = verify(chosen, base, temporary, tolerance) if verified else None
            print_sizes(console, written, itemsize, verification)
            if verification is not None:
                print_checks(console, verification)
                failures = [f"on {one.split} {one.failure}" for one in verification.checks if one.failure]
                if failures:
                    raise _UnlikeError(
                        f"the export is not what trial {chosen.trial.key} measured: {'; '.join(failures)}"
                    )
    except _UnlikeError as error:
        return str(error)
    return None


def _cache(chosen: Chosen) -> CacheSpec:
    """Where the sweep kept decompositions, so that they are not made again."""
    values = chosen.config.get("cache") or {}
    known = {name: values[name] for name in ("dir", "factors_gb") if name in values}
    return CacheSpec(**known)
