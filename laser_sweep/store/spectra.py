"""ProbeResult <-> a file of the store, a row for each matrix."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from laser_sweep.probe import Curve, Probe, ProbeResult, Slopes, Spectrum
from laser_sweep.store.schema import SCHEMA_VERSION, SPECTRA
from laser_sweep.trial import Matrix


def to_table(result: ProbeResult) -> pa.Table:
    """The rows of `spectra` for a finished probe."""
    if not result.ok:
        raise ValueError(f"probe {result.probe.key} ({result.probe.describe()}) {result.status}: {result.error}")
    model, evaluation = result.probe.model, result.probe.evaluation
    shared = {
        "probe_key": result.probe.key,
        "model": model.name,
        "model_revision": model.revision,
        "dtype": model.dtype,
        "dataset": None if evaluation is None else evaluation.dataset,
        "split": None if evaluation is None else evaluation.split,
        "limit": None if evaluation is None else evaluation.limit,
        "seed": None if evaluation is None else evaluation.seed,
        "attempt": result.attempt,
        "worker": result.worker,
        "device": result.device,
        "started_at": datetime.fromtimestamp(result.started_at, timezone.utc),
        "finished_at": datetime.fromtimestamp(result.finished_at, timezone.utc),
        "schema_version": SCHEMA_VERSION,
    }
    return pa.Table.from_pylist([{**shared, **_row(spectrum)} for spectrum in result.spectra], schema=SPECTRA)


def from_table(table: pa.Table, probe: Probe) -> ProbeResult | None:
    """The result of `probe` as the store remembers it; None where the table has other columns, or other matrices."""
    if not table.schema.equals(SPECTRA):
        return None
    rows = table.to_pylist()
    spectra = {spectrum.matrix: spectrum for spectrum in map(_spectrum, rows)}
    if not rows or spectra.keys() != set(probe.matrices):
        return None
    first = rows[0]
    return ProbeResult(
        probe=probe,
        status="done",
        spectra=tuple(spectra[matrix] for matrix in probe.matrices),
        attempt=first["attempt"],
        worker=first["worker"],
        device=first["device"],
        started_at=first["started_at"].timestamp(),
        finished_at=first["finished_at"].timestamp(),
    )


def _row(spectrum: Spectrum) -> dict[str, Any]:
    slopes = spectrum.slopes
    row = {
        "tau": spectrum.matrix.tau,
        "layer": spectrum.matrix.layer,
        "rows": spectrum.shape[0],
        "columns": spectrum.shape[1],
        "singular_values": spectrum.singular_values,
    }
    if slopes is not None:
        row |= {
            "num_examples": slopes.num_examples,
            "gradient": slopes.values,
            "gradient_stderr": slopes.values_stderr,
            "predicted_gain": slopes.gains,
            "predicted_gain_stderr": slopes.gains_stderr,
            "last20": slopes.last20,
            "last20_stderr": slopes.last20_stderr,
        }
    return row


def _spectrum(row: dict[str, Any]) -> Spectrum:
    slopes = None
    if row["num_examples"] is not None:
        slopes = Slopes(
            num_examples=row["num_examples"],
            values=_curve(row["gradient"]),
            values_stderr=_curve(row["gradient_stderr"]),
            gains=_curve(row["predicted_gain"]),
            gains_stderr=_curve(row["predicted_gain_stderr"]),
            last20=row["last20"],
            last20_stderr=row["last20_stderr"],
        )
    return Spectrum(
        matrix=Matrix(row["tau"], row["layer"]),
        shape=(row["rows"], row["columns"]),
        singular_values=_curve(row["singular_values"]),
        slopes=slopes,
    )


def _curve(values: list[float]) -> Curve:
    return np.array(values, dtype=np.float64)
