"""A file of one's own takes the place of the source, in any format that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.engine.tasks.example import Task

from .rows import DATASETS, write_file
from .studies import Study, rows_in_order


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "json"])
@pytest.mark.parametrize("name", DATASETS)
def test_a_local_file_gives_the_examples_of_the_source(
    name: str, suffix: str, study: Callable[..., Study], task: Callable[..., Task], tmp_path: Path
) -> None:
    for family in ("llama2", "roberta"):
        made = study(family, name)
        file = write_file(tmp_path / f"{family}.{suffix}", name, rows_in_order(name, made.files))
        own, source = task(made, path=str(file)), task(made)
        assert own.examples == source.examples
        assert own.revision == source.revision
        assert len(own.examples) == len(made.questions)
