"""Brings files from a directory, from this package or from the Hugging Face hub, and says which revision they are.

Imports no torch, so that a wrong name is reported at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from laser_sweep.errors import RequestError

PACKAGE_SCHEME = "package://"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Located:
    """Files on this machine. `repo` is the hub id (empty for local files), `revision` its commit or a content hash."""

    directory: Path
    repo: str
    revision: str


def local_path(path: str) -> Path | None:
    """The file or directory that `path` names on this machine, None where it can only be a hub id."""
    if path.startswith(PACKAGE_SCHEME):
        return _PACKAGE_ROOT / path.removeprefix(PACKAGE_SCHEME)
    candidate = Path(path).expanduser()
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    return candidate if candidate.exists() or looks_local else None


def locate(
    path: str,
    *,
    override: str,
    revision: str = "main",
    patterns: Sequence[str],
    kind: Literal["model", "dataset"] = "model",
) -> Located:
    """The directory that holds the files of `path` matching `patterns`, downloaded if it is a hub id.

    Honours HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. Raises RequestError, naming `override`, where nothing can be had.
    """
    directory = local_path(path)
    if directory is None:
        return _from_hub(path, override=override, revision=revision, patterns=patterns, kind=kind)
    if not directory.is_dir():
        raise RequestError(f"{override}={path} is not a directory; give a directory or a hub id like owner/name")
    return Located(directory, repo="", revision=hash_files(directory, patterns))


def hash_files(directory: Path, patterns: Sequence[str]) -> str:
    """16 hexadecimal characters of blake2b over names and bytes of the matching files, not over paths or times."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted({file for pattern in patterns for file in directory.glob(pattern) if file.is_file()}):
        digest.update(f"{file.relative_to(directory).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


def _from_hub(
    repo: str, *, override: str, revision: str, patterns: Sequence[str], kind: Literal["model", "dataset"]
) -> Located:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    asked = f"{override}={repo}"
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        snapshot = snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=list(patterns))
    except GatedRepoError:
        raise RequestError(
            f"{asked} is gated: accept its licence at {page}, then export HF_TOKEN=<your token>"
        ) from None
    except RepositoryNotFoundError:
        raise RequestError(
            f"{asked} is neither a directory here nor a {kind} on the hub; "
            "check the name, or export HF_TOKEN if it is private"
        ) from None
    except RevisionNotFoundError:
        raise RequestError(f"{asked} has no revision {revision}; see {page}") from None
    except HFValidationError:
        raise RequestError(f"{asked} is neither a directory here nor a hub id like owner/name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, LocalEntryNotFoundError):
            reason = "the hub cannot be reached and its cache here does not hold it"
        command = f"hf download {repo}" + (" --repo-type dataset" if kind == "dataset" else "")
        raise RequestError(
            f"{asked} could not be fetched: {reason}; on a machine with network run `{command} --revision {revision}`"
        ) from None
    finally:
        if not quiet:
            enable_progress_bars()
    directory = Path(snapshot)
    if not any(file.is_file() for pattern in patterns for file in directory.glob(pattern)):
        raise RequestError(f"{asked} at revision {revision} holds none of {', '.join(patterns)}")
    return Located(directory, repo=repo, revision=directory.name)
