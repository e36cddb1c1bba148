from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import huggingface_hub
import huggingface_hub.constants
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

import laser_sweep
from laser_sweep.engine import hub
from laser_sweep.errors import RequestError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PATTERNS = ("*.json", "*.txt")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    here = tmp_path / "model"
    here.mkdir()
    (here / "config.json").write_text('{"n_layer": 2}')
    (here / "vocab.txt").write_text("a\nb\n")
    (here / "README.md").write_text("words")
    return here


def revision(directory: Path) -> str:
    return hub.locate(str(directory), override="model.path", patterns=PATTERNS).revision


def test_a_local_directory_is_located_where_it_is(directory: Path) -> None:
    located = hub.locate(str(directory), override="model.path", patterns=PATTERNS)
    assert located == hub.Located(directory, repo="", revision=located.revision)
    assert len(located.revision) == 16
    assert set(located.revision) <= set("0123456789abcdef")


def test_the_revision_of_a_directory_moves_with_neither_its_place_nor_its_times(
    directory: Path, tmp_path: Path
) -> None:
    before = revision(directory)
    moved = tmp_path / "deep" / "elsewhere"
    shutil.copytree(directory, moved)
    for file in moved.iterdir():
        os.utime(file, (1, 1))
    assert revision(moved) == before


def test_the_revision_of_a_directory_changes_with_one_byte(directory: Path) -> None:
    before = revision(directory)
    (directory / "vocab.txt").write_text("a\nc\n")
    assert revision(directory) != before


def test_the_revision_of_a_directory_changes_with_a_files_name(directory: Path) -> None:
    before = revision(directory)
    (directory / "vocab.txt").rename(directory / "words.txt")
    assert revision(directory) != before


def test_the_revision_of_a_directory_changes_with_one_file_more(directory: Path) -> None:
    before = revision(directory)
    (directory / "empty.txt").touch()
    assert revision(directory) != before


def test_files_that_nobody_asked_for_are_no_part_of_the_revision(directory: Path) -> None:
    before = revision(directory)
    (directory / "README.md").write_text("other words")
    (directory / "optimizer.bin").write_bytes(b"state")
    assert revision(directory) == before


def test_a_file_that_several_patterns_match_counts_once(directory: Path) -> None:
    assert hub.hash_files(directory, ("*.json", "config.*")) == hub.hash_files(directory, ("*.json",))


def test_the_revision_tells_one_file_from_the_same_bytes_in_two(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "a.txt").write_bytes(b"xb.txt\0y")
    (two / "a.txt").write_bytes(b"x")
    (two / "b.txt").write_bytes(b"y")
    assert revision(one) != revision(two)


@pytest.mark.parametrize("path", ["./no/such/model", "/no/such/model", "~/no/such/model", "no/such/model"])
def test_a_directory_that_does_not_exist_is_reported_with_its_override(path: str) -> None:
    with pytest.raises(RequestError, match=rf"^model\.path={path} is not a directory; give a directory or a hub id"):
        hub.locate(path, override="model.path", patterns=PATTERNS)


def test_a_file_in_place_of_a_directory_is_reported(directory: Path) -> None:
    with pytest.raises(RequestError, match=r"config\.json is not a directory"):
        hub.locate(str(directory / "config.json"), override="model.path", patterns=PATTERNS)


def test_a_name_is_local_where_it_exists_or_can_be_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.local_path("owner/name") is None
    assert hub.local_path("name") is None
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert hub.local_path("owner/name") == Path("owner/name")
    assert hub.local_path("~/owner") == tmp_path / "owner"
    assert hub.local_path("./nothing") == Path("nothing")


def test_the_package_scheme_names_what_lies_inside_the_package() -> None:
    package = Path(laser_sweep.__file__).parent
    assert hub.local_path("package://demo/assets") == package / "demo" / "assets"
    located = hub.locate("package://engine", override="model.path", patterns=("hub.py",))
    assert located.directory == package / "engine"
    assert located.repo == ""


def test_the_package_scheme_reports_what_is_not_there() -> None:
    with pytest.raises(RequestError, match=r"^model\.path=package://no/such is not a directory"):
        hub.locate("package://no/such", override="model.path", patterns=PATTERNS)


def cache(root: Path, repository: str, reference: str, *files: str) -> Path:
    """A repository as huggingface_hub keeps it on disk; returns its snapshot."""
    snapshot = root / repository / "snapshots" / COMMIT
    for file in files:
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_text("{}")
    named = root / repository / "refs" / reference
    named.parent.mkdir(parents=True, exist_ok=True)
    named.write_text(COMMIT)
    return snapshot


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("asked", ["main", COMMIT])
def test_a_repository_in_the_cache_is_known_by_its_commit(asked: str, hub_cache: Path) -> None:
    snapshot = cache(hub_cache, "models--owner--name", "main", "config.json")
    located = hub.locate("owner/name", override="model.path", revision=asked, patterns=PATTERNS)
    assert located == hub.Located(snapshot, repo="owner/name", revision=COMMIT)


def test_a_data_set_in_the_cache_is_known_by_the_commit_of_its_parquet_branch(hub_cache: Path) -> None:
    snapshot = cache(hub_cache, "datasets--owner--facts", "refs/convert/parquet", "v1/train/0000.parquet")
    located = hub.locate(
        "owner/facts",
        override="dataset.hub.repo",
        revision="refs/convert/parquet",
        patterns=("v1/*/*.parquet",),
        kind="dataset",
    )
    assert located == hub.Located(snapshot, repo="owner/facts", revision=COMMIT)


def test_a_repository_that_is_not_in_the_cache_is_reported_with_the_command_that_fetches_it(hub_cache: Path) -> None:
    with pytest.raises(
        RequestError,
        match=r"^model\.path=owner/other could not be fetched: the hub cannot be reached and its cache here does not "
        r"hold it; on a machine with network run `hf download owner/other --revision main`$",
    ):
        hub.locate("owner/other", override="model.path", patterns=PATTERNS)


def test_the_command_that_fetches_a_data_set_says_that_it_is_one(hub_cache: Path) -> None:
    with pytest.raises(RequestError, match=r"`hf download owner/facts --repo-type dataset --revision v2`"):
        hub.locate("owner/facts", override="dataset.hub.repo", revision="v2", patterns=PATTERNS, kind="dataset")


def test_a_repository_without_the_files_that_are_needed_is_reported(hub_cache: Path) -> None:
    cache(hub_cache, "models--owner--name", "main", "README.md")
    with pytest.raises(RequestError, match=r"^model\.path=owner/name at revision main holds none of \*\.json, \*\.txt"):
        hub.locate("owner/name", override="model.path", patterns=PATTERNS)


@pytest.mark.parametrize("path", ["owner/na me", "-name", "owner/name.git"])
def test_a_name_that_can_be_no_hub_id_is_reported(path: str, hub_cache: Path) -> None:
    with pytest.raises(RequestError, match=rf"^model\.path={path} is neither a directory here nor a hub id"):
        hub.locate(path, override="model.path", patterns=PATTERNS)


def test_offline_is_also_what_the_environment_says(tmp_path: Path) -> None:
    """In a process of its own, as a person would run it: HF_HOME and HF_HUB_OFFLINE, nothing patched."""
    cache(tmp_path / "hub", "models--owner--name", "main", "config.json")
    program = (
        "import sys\n"
        "from laser_sweep.engine import hub\n"
        "print(hub.locate('owner/name', override='model.path', patterns=['*.json']).revision)\n"
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [COMMIT, "False"]


def refusal(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/api/models/owner/name")
    return kind("first line\nsecond line", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            refusal(GatedRepoError, 403),
            r"model\.path=owner/name is gated: accept its licence at https://huggingface\.co/owner/name, then export "
            r"HF_TOKEN",
        ),
        (
            refusal(RepositoryNotFoundError, 401),
            r"model\.path=owner/name is neither a directory here nor a model on the hub; check the name, or export "
            r"HF_TOKEN",
        ),
        (refusal(RevisionNotFoundError, 404), r"model\.path=owner/name has no revision v9; see https://"),
        (refusal(HfHubHTTPError, 500), r"model\.path=owner/name could not be fetched: first line; on a machine"),
        (OSError(28, "No space left on device"), r"model\.path=owner/name could not be fetched: .*No space left"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(RequestError, match=f"^{message}") as caught:
        hub.locate("owner/name", override="model.path", revision="v9", patterns=PATTERNS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_bars_are_left_as_they_were_found(quiet: bool, hub_cache: Path) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    try:
        (disable_progress_bars if quiet else enable_progress_bars)()
        with pytest.raises(RequestError):
            hub.locate("owner/other", override="model.path", patterns=PATTERNS)
        assert are_progress_bars_disabled() == quiet
    finally:
        (disable_progress_bars if before else enable_progress_bars)()
