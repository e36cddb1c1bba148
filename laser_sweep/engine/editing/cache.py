"""Decompositions on disk, shared by all workers of a machine and by later sweeps."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from laser_sweep.engine.editing.factor import Factors
from laser_sweep.engine.editing.spec import CacheSpec

_log = logging.getLogger(__name__)
_DIGEST = "blake2b"
_LOCK_SECONDS = 600.0  # longer than the decomposition of any matrix that is worth waiting for


@dataclass(frozen=True, slots=True)
class FactorCache:
    """Factors by the content of the matrix that they were made of, in at most `max_bytes`; the least used go first.

    A file appears whole or not at all; one that is damaged is made again. A directory that cannot be written to costs
    a warning and the time to decompose again.
    """

    directory: Path
    max_bytes: int

    def get(self, key: str, shape: tuple[int, int], compute: Callable[[], Factors]) -> Factors:
        """The factors stored under `key`, of a matrix (m, n) of this shape, or else computed and stored.

        Of several processes that ask for the same key one computes and the others wait for it.
        """
        file = self.directory / f"{key}.safetensors"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock"), timeout=_LOCK_SECONDS):
                found = _read(file, min(shape))
                if found is None:
                    found = compute()
                    self._write(file, found)
                return found
        except (OSError, Timeout) as error:
            _log.warning("factors are not kept in %s: %s", self.directory, error)
            return compute()

    def _write(self, file: Path, factors: Factors) -> None:
        tensors = {"basis": factors.basis.cpu().contiguous(), "singular_values": factors.singular_values.cpu()}
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.max_bytes:
            return
        self._make_room(size)
        handle, temporary = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata={_DIGEST: _digest(factors)})
            Path(temporary).replace(file)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Removes the files that were used longest ago until `size` more bytes fit."""
        with FileLock(self.directory / "room.lock", timeout=_LOCK_SECONDS):
            used = sorted(_files(self.directory), key=lambda found: found[1].st_mtime)
            excess = size + sum(stat.st_size for _, stat in used) - self.max_bytes
            for file, stat in used:
                if excess <= 0:
                    break
                file.unlink(missing_ok=True)
                file.with_suffix(".lock").unlink(missing_ok=True)
                excess -= stat.st_size


def open_cache(spec: CacheSpec) -> FactorCache | None:
    """The cache on the machine that calls, None where nothing is to be kept."""
    if spec.factors_gb == 0:
        return None
    root = user_cache_path("laser_sweep", appauthor=False) if spec.dir is None else Path(spec.dir).expanduser()
    return FactorCache(root / "factors", int(spec.factors_gb * 2**30))


def _digest(factors: Factors) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (factors.basis, factors.singular_values):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _files(directory: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for file in directory.glob("*.safetensors"):
        try:
            found.append((file, file.stat()))
        except FileNotFoundError:  # another process made room
            continue
    return found


def _read(file: Path, size: int) -> Factors | None:
    """None where the file is not there or does not hold the factors of a matrix whose shorter side is `size`."""
    try:
        with safe_open(file, framework="pt") as stored:
            factors = Factors(stored.get_tensor("basis"), stored.get_tensor("singular_values"))
            digest = (stored.metadata() or {}).get(_DIGEST)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        _log.warning("%s is damaged (%s) and is made again", file, error)
        return None
    if factors.basis.shape != (size, size) or digest != _digest(factors):
        _log.warning("%s is not what was written and is made again", file)
        return None
    os.utime(file)
    return factors
