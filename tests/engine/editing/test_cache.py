from __future__ import annotations

import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch

from laser_sweep.engine.editing.cache import FactorCache, open_cache
from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.spec import CacheSpec

GIB = 1 << 30


def matrix(seed: int = 0, rows: int = 12, columns: int = 20) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


class Counted:
    """Decomposes a matrix and counts how often."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self.times = 0

    def __call__(self) -> Factors:
        self.times += 1
        return factorise(self.weight)


def assert_same(one: Factors, other: Factors) -> None:
    assert torch.equal(one.basis, other.basis)
    assert torch.equal(one.singular_values, other.singular_values)
    assert (one.basis.dtype, one.singular_values.dtype) == (other.basis.dtype, other.singular_values.dtype)


def test_what_was_decomposed_once_is_read_bit_for_bit_by_another(tmp_path: Path) -> None:
    compute = Counted(matrix())
    made = FactorCache(tmp_path, GIB).get("k", (12, 20), compute)
    read = FactorCache(tmp_path, GIB).get("k", (12, 20), compute)
    assert compute.times == 1
    assert_same(made, read)
    assert_same(made, factorise(matrix()))


def test_another_key_is_another_matrix(tmp_path: Path) -> None:
    cache = FactorCache(tmp_path, GIB)
    assert_same(cache.get("a", (12, 20), Counted(matrix(1))), factorise(matrix(1)))
    assert_same(cache.get("b", (12, 20), Counted(matrix(2))), factorise(matrix(2)))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "junk", "other shape"])
def test_a_damaged_file_is_made_again_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, compute = FactorCache(tmp_path, GIB), Counted(matrix())
    made = cache.get("k", (12, 20), compute)
    (file,) = tmp_path.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    file.write_bytes({"cut": content[:-9], "flipped": content, "emptied": b"", "junk": b"x" * 99}.get(damage, content))
    if damage == "other shape":
        compute = Counted(matrix(rows=14))
        made = factorise(matrix(rows=14))
        assert_same(cache.get("k", (14, 20), compute), made)
        assert compute.times == 1
    else:
        with caplog.at_level(logging.WARNING):
            assert_same(cache.get("k", (12, 20), compute), made)
        assert compute.times == 2
        assert "made again" in caplog.text
        assert_same(cache.get("k", (12, 20), compute), made)
        assert compute.times == 2


def test_the_files_that_were_used_longest_ago_go_when_there_is_no_room(tmp_path: Path) -> None:
    size = sum(tensor.nbytes for tensor in (factorise(matrix()).basis, factorise(matrix()).singular_values))
    cache = FactorCache(tmp_path, 3 * (size + 400))  # room for three, with their headers
    for place, key in enumerate("abc"):
        cache.get(key, (12, 20), Counted(matrix()))
        os.utime(tmp_path / f"{key}.safetensors", (place, place))
    cache.get("a", (12, 20), Counted(matrix()))  # used just now
    cache.get("d", (12, 20), Counted(matrix()))
    assert {file.stem for file in tmp_path.glob("*.safetensors")} == {"a", "c", "d"}
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) <= cache.max_bytes


def test_what_is_larger_than_the_whole_cache_is_not_stored(tmp_path: Path) -> None:
    cache, compute = FactorCache(tmp_path, 100), Counted(matrix())
    for _ in range(2):
        assert_same(cache.get("k", (12, 20), compute), factorise(matrix()))
    assert compute.times == 2
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_directory_that_cannot_be_written_to_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        found = FactorCache(tmp_path / "file" / "below", GIB).get("k", (12, 20), Counted(matrix()))
    assert_same(found, factorise(matrix()))
    assert "factors are not kept in" in caplog.text


def test_an_interrupted_decomposition_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> Factors:
        raise KeyboardInterrupt

    cache = FactorCache(tmp_path, GIB)
    with pytest.raises(KeyboardInterrupt):
        cache.get("k", (12, 20), interrupted)
    assert list(tmp_path.glob("*.safetensors")) == list(tmp_path.glob("*.tmp")) == []
    assert_same(cache.get("k", (12, 20), Counted(matrix())), factorise(matrix()))


def _slowly(directory: Path, marks: Path) -> None:
    def compute() -> Factors:
        (marks / str(os.getpid())).touch()
        time.sleep(1)
        return factorise(matrix())

    FactorCache(directory, GIB).get("k", (12, 20), compute)


def test_of_several_processes_one_decomposes_and_the_others_wait(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_slowly, args=(tmp_path / "cache", marks)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(marks.iterdir())) == 1


def test_the_setting_says_where_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache(CacheSpec(factors_gb=0)) is None
    assert open_cache(CacheSpec(dir=str(tmp_path), factors_gb=0.5)) == FactorCache(tmp_path / "factors", GIB // 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    found = open_cache(CacheSpec())
    assert found is not None
    assert found.directory.is_relative_to(tmp_path / "user")
    assert found.directory.parent.name == "laser_sweep"
