"""Spectra as a reader sees them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult, Slopes, Spectrum
from laser_sweep.store.reader import read_spectra
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Matrix, Trial


def probed(model: object, layers: range, *, slopes: bool, at: float) -> ProbeResult:
    curve = np.array([3.0, 2.0, 1.0])
    found = Slopes(
        num_examples=7,
        values=curve,
        values_stderr=curve,
        gains=-curve,
        gains_stderr=curve,
        last20=6.0,
        last20_stderr=1.0,
    )
    matrices = tuple(Matrix("fc_in", layer) for layer in layers)
    return ProbeResult(
        probe=Probe(model=model, matrices=matrices),
        status="done",
        spectra=tuple(
            Spectrum(matrix=one, shape=(3, 5), singular_values=curve + one.layer, slopes=found if slopes else None)
            for one in matrices
        ),
        finished_at=at,
    )


def test_every_matrix_of_every_probe_is_a_row_the_last_probe_first(
    store: ParquetStore, make_trial: Callable[..., Trial]
) -> None:
    model = make_trial().model
    store.write_probe(probed(model, range(2), slopes=False, at=1000.0))
    store.write_probe(probed(model, range(3), slopes=True, at=2000.0))
    frame = read_spectra(store.root)
    assert frame["layer"].tolist() == [0, 1, 2, 0, 1]
    assert [values.tolist() for values in frame["singular_values"][:2]] == [[3, 2, 1], [4, 3, 2]]
    assert frame["gradient"].notna().tolist() == [True, True, True, False, False]
    assert frame["predicted_gain"][2].tolist() == [-3, -2, -1]


def test_a_store_without_probes_has_no_rows_and_all_columns(store: ParquetStore, tmp_path: Path) -> None:
    store.root.mkdir(parents=True)
    frame = read_spectra(store.root)
    assert frame.empty
    assert {"probe_key", "singular_values", "predicted_gain", "finished_at"} <= set(frame.columns)
    with pytest.raises(RequestError, match="nowhere"):
        read_spectra(tmp_path / "nowhere")


def test_damaged_and_foreign_files_are_left_out(
    store: ParquetStore, make_trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    store.write_probe(probed(make_trial().model, range(2), slopes=True, at=1.0))
    (store.spectra / "0.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1]}), store.spectra / "foreign.parquet")
    with caplog.at_level(logging.ERROR):
        assert len(read_spectra(store.root)) == 2
    assert (store.spectra / "0.parquet.damaged").exists()
