"""A real store of a real sweep, a server that shows it, and pages of a real browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.dashboard.server import bind

from .sweeps import finish, poisoned, poisoned_sweep, started

GRID = ("tau=[fc_in,fc_out]", "layer=each", "rho=[0.01,0.1]", "evaluation.limit=60", "evaluation.test_limit=60")


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store: 8 edits of the embedded model, the winner confirmed, and a sweep of a model that mostly fails."""
    root = tmp_path_factory.mktemp("swept")
    grid = started(root / "store", *GRID, "sweep=grid")
    some_fail = poisoned_sweep(root / "store", poisoned(root / "poisoned"))
    finish(grid)
    finish(some_fail, exit_code=1)
    return root / "store"


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    """A copy of it, to write to."""
    shutil.copytree(swept, tmp_path / "store")
    return tmp_path / "store"


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """The address of a server of this store, in a thread of this process."""
    server = bind(str(store), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def served(swept: Path) -> Iterator[str]:
    """The address of the dashboard of a store that nobody writes to."""
    with serving(swept) as address:
        yield address


@dataclass
class Visit:
    """A page of a browser that notes what a person would not see: requests, errors, messages of the console."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def open(self, path: str, ready: str = "#main h1") -> Any:
        """Goes to a path and waits until something is there."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector(ready)
        return self.page

    def heading(self, text: str) -> None:
        """Waits for the page of this heading."""
        self.page.wait_for_selector(f"#main h1:text-is('{text}')")

    def assert_clean(self) -> None:
        """Nothing was asked of another machine, and nothing went wrong unseen."""
        assert [url for url in self.requests if not url.startswith((self.address, "data:", "blob:"))] == []
        assert self.messages == []


SCREEN: Any = {"width": 1280, "height": 800}


def visiting(context: Any, address: str) -> Visit:
    """A new page of a browser's window."""
    page = context.new_page()
    page.set_default_timeout(60_000)
    visit = Visit(page, address)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda message: visit.messages.append(message.text) if message.type in _BAD else None)
    page.on("pageerror", lambda error: visit.messages.append(str(error)))
    return visit


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a browser window of its own, without anything remembered, at an address."""
    contexts = []

    def start(address: str, **options: Any) -> Visit:
        contexts.append(browser.new_context(viewport=SCREEN, **options))
        return visiting(contexts[-1], address)

    yield start
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def window(browser: Any) -> Iterator[Any]:
    """A window that keeps the scripts of the dashboard, which are large, from test to test."""
    context = browser.new_context(viewport=SCREEN)
    yield context
    context.close()


@pytest.fixture
def here(window: Any, served: str) -> Iterator[Visit]:
    """A page of that window, at the store that nobody writes to, where nothing may go wrong unseen."""
    visit = visiting(window, served)
    yield visit
    visit.assert_clean()
    visit.page.close()


_BAD = ("error", "warning", "assert")
