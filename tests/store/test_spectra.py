"""What comes back of a probe is what was stored, or nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from laser_sweep.errors import RequestError
from laser_sweep.probe import Curve, Probe, ProbeResult, Slopes, Spectrum
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Evaluation, Matrix, ModelId

MATRICES = (Matrix("fc_in", 3), Matrix("k_proj", 0), Matrix("fc_in.2", 1))
SHAPES = ((6, 4), (3, 3), (2, 5))
WHOLE_SPLIT = Evaluation(dataset="colours", revision="feedbeef", split="val")
SOME = replace(WHOLE_SPLIT, limit=100, seed=3)
COLUMNS = [
    "probe_key", "model", "model_revision", "dtype", "dataset", "split", "limit", "seed", "tau", "layer", "rows",
    "columns", "singular_values", "num_examples", "gradient", "gradient_stderr", "predicted_gain",
    "predicted_gain_stderr", "last20", "last20_stderr", "attempt", "worker", "device", "started_at", "finished_at",
    "schema_version",
]  # fmt: skip


def probe(evaluation: Evaluation | None = SOME, matrices: tuple[Matrix, ...] = MATRICES) -> Probe:
    model = ModelId(name="tiny", repo="owner/tiny", revision="0123abcd", dtype="float32")
    return Probe(model=model, matrices=matrices, evaluation=evaluation)


def slopes(random: np.random.Generator, rank: int, stderr: float = 1.0) -> Slopes:
    return Slopes(
        num_examples=100,
        values=random.normal(size=rank),
        values_stderr=random.random(rank) * stderr,
        gains=random.normal(size=rank),
        gains_stderr=random.random(rank) * stderr,
        last20=random.random(),
        last20_stderr=random.random() * stderr,
    )


def result(asked: Probe, *, stderr: float = 1.0, **changes: object) -> ProbeResult:
    """A finished probe with random figures."""
    random = np.random.default_rng(0)
    spectra = tuple(
        Spectrum(
            matrix=matrix,
            shape=shape,
            singular_values=np.sort(random.random(min(shape)))[::-1],
            slopes=None if asked.evaluation is None else slopes(random, min(shape), stderr),
        )
        for matrix, shape in zip(asked.matrices, SHAPES, strict=False)
    )
    values: dict[str, object] = {
        "probe": asked,
        "status": "done",
        "spectra": spectra,
        "attempt": 2,
        "worker": "host-1",
        "device": "cpu",
        "started_at": 1_700_000_000.0,
        "finished_at": 1_700_000_002.75,
    }
    return ProbeResult(**{**values, **changes})  # type: ignore[arg-type]


def assert_same(found: ProbeResult | None, given: ProbeResult) -> None:
    assert found is not None
    assert replace(found, spectra=()) == replace(given, spectra=())
    assert [one.matrix for one in found.spectra] == [one.matrix for one in given.spectra]
    for one, other in zip(found.spectra, given.spectra, strict=True):
        assert one.shape == other.shape
        assert_equal(one.singular_values, other.singular_values)
        if other.slopes is None:
            assert one.slopes is None
            continue
        assert one.slopes is not None
        assert one.slopes.num_examples == other.slopes.num_examples
        for name in ("values", "values_stderr", "gains", "gains_stderr", "last20", "last20_stderr"):
            assert_equal(getattr(one.slopes, name), getattr(other.slopes, name))


def assert_equal(found: Curve | float, given: Curve | float) -> None:
    """Bit for bit but for the kind of a nan."""
    assert np.asarray(found).dtype == np.asarray(given).dtype == np.float64
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("evaluation", [None, WHOLE_SPLIT, SOME])
@pytest.mark.parametrize("stderr", [1.0, np.nan])
def test_a_probe_comes_back_as_it_was_stored(store: ParquetStore, evaluation: Evaluation | None, stderr: float) -> None:
    given = result(probe(evaluation), stderr=stderr)
    store.write_probe(given)
    assert_same(store.find_probe(given.probe), given)


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_every_number_comes_back(tmp_path_factory: pytest.TempPathFactory, values: Curve) -> None:
    store = ParquetStore(tmp_path_factory.mktemp("store"))
    spectrum = Spectrum(matrix=MATRICES[0], shape=(len(values), 50), singular_values=values)
    given = result(probe(None, MATRICES[:1]), spectra=(spectrum,))
    store.write_probe(given)
    assert_same(store.find_probe(given.probe), given)


def test_matrices_come_back_in_the_order_in_which_they_are_asked(store: ParquetStore) -> None:
    given = result(probe())
    store.write_probe(given)
    turned = probe(matrices=MATRICES[::-1])
    assert_same(store.find_probe(turned), replace(given, probe=turned, spectra=given.spectra[::-1]))


def test_another_probe_is_not_found(store: ParquetStore) -> None:
    store.write_probe(result(probe()))
    for other in (probe(None), probe(WHOLE_SPLIT), probe(replace(SOME, seed=4)), probe(matrices=MATRICES[:2])):
        assert store.find_probe(other) is None


def test_an_empty_place_holds_no_probe(tmp_path: Path) -> None:
    assert ParquetStore(tmp_path / "never").find_probe(probe()) is None
    assert not (tmp_path / "never").exists()


def test_a_failed_probe_is_not_stored(store: ParquetStore) -> None:
    failed = ProbeResult(probe=probe(), status="failed", error="it broke")
    with pytest.raises(ValueError, match=r"gradients of 3 matrices\) failed: it broke"):
        store.write_probe(failed)
    assert not store.spectra.exists()


def test_a_notebook_reads_one_row_for_each_matrix(store: ParquetStore) -> None:
    given = result(probe())
    store.write_probe(given)
    store.write_probe(result(probe(None)))
    file = store.spectra / f"{given.probe.key}.parquet"
    assert pq.read_schema(file).names == COLUMNS
    frame = pd.read_parquet(store.root / "spectra")
    assert len(frame) == 6
    frame = frame[frame["probe_key"] == given.probe.key]
    assert frame["tau"].tolist() == ["fc_in", "k_proj", "fc_in.2"]
    assert frame["layer"].tolist() == [3, 0, 1]
    assert list(zip(frame["rows"], frame["columns"], strict=True)) == list(SHAPES)
    assert (frame[["model", "dtype", "dataset", "split", "limit", "seed"]].iloc[0]).tolist() == [
        "tiny", "float32", "colours", "val", 100, 3,
    ]  # fmt: skip
    for row, spectrum in zip(frame.itertuples(), given.spectra, strict=True):
        assert spectrum.slopes is not None
        np.testing.assert_array_equal(row.singular_values, spectrum.singular_values)
        np.testing.assert_array_equal(row.gradient, spectrum.slopes.values)
        np.testing.assert_array_equal(row.predicted_gain, spectrum.slopes.gains)
        assert (row.last20, row.last20_stderr) == (spectrum.slopes.last20, spectrum.slopes.last20_stderr)
    assert frame["started_at"].iloc[0] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")


# Files that are not what they should be


def test_a_damaged_file_is_set_aside_and_the_probe_can_be_stored_again(
    store: ParquetStore, caplog: pytest.LogCaptureFixture
) -> None:
    given = result(probe())
    store.write_probe(given)
    file = store.spectra / f"{given.probe.key}.parquet"
    content = file.read_bytes()[:-40]
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.find_probe(given.probe) is None
        assert store.find_probe(given.probe) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (store.spectra / f"{given.probe.key}.parquet.damaged").read_bytes() == content
    store.write_probe(given)
    assert_same(store.find_probe(given.probe), given)


def rewrite(file: Path, table: pa.Table, version: int) -> None:
    pq.write_table(table.replace_schema_metadata({"laser_sweep_schema": str(version)}), file)


def test_files_of_another_schema_count_as_not_stored_and_stay(store: ParquetStore) -> None:
    given = result(probe())
    store.write_probe(given)
    file = store.spectra / f"{given.probe.key}.parquet"
    table = pq.read_table(file)
    rewrite(file, table, 1)
    assert_same(store.find_probe(given.probe), given)  # an older one with the columns of today
    for other, version in (
        (table.drop_columns(["last20_stderr"]), 1),
        (table.append_column("new", [[1, 2, 3]]), 1),
        (table.set_column(8, "tau", [[1, 2, 3]]), 1),
        (table, 1000),
        (table.slice(0, 2), 1),
    ):
        rewrite(file, other, version)
        assert store.find_probe(given.probe) is None
        assert file.exists()


def test_compaction_leaves_spectra_as_they_are(store: ParquetStore) -> None:
    given = [result(probe()), result(probe(None))]
    for one in given:
        store.write_probe(one)
    store.trials.mkdir()
    assert store.compact() == 0
    for one in given:
        assert_same(store.find_probe(one.probe), one)


def test_a_place_where_spectra_cannot_be_kept_is_refused_before_anything_runs(store: ParquetStore) -> None:
    store.root.mkdir()
    store.spectra.touch()
    with pytest.raises(RequestError, match="spectra is a file"):
        store.check_writable()
