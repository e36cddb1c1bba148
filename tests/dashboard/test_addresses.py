"""Whatever stands in an address is answered in words, and nothing outside the store is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.io.json import to_json_plotly

from laser_sweep.dashboard.app import Dashboard, make_app
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.dashboard.server import guard
from laser_sweep.dashboard.url import COLUMNS, PAGES

from ..measured import done, failed, right, trial, written

UNMADE = "could not be made"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LiveStore:
    """A store of a few trials, some on two splits, some failed, and a secret beside it."""
    root = tmp_path_factory.mktemp("addresses")
    (root / "secret.parquet").write_text("a secret")
    untouched = right(40, 60)
    results = [
        done(trial(), untouched),
        done(trial(split="test"), untouched),
        *(
            done(trial((tau, layer, 0.1)), right(40 + layer, 60), untouched)
            for tau in ("fc_in", "fc_out")
            for layer in range(2)
        ),
        done(trial(("fc_in", 1, 0.1), split="test"), right(50, 60), untouched),
        failed(trial(("fc_out", 2, 0.5))),
    ]
    return LiveStore(written(root / "store", results).root)


@pytest.fixture(scope="module")
def dashboard(small: LiveStore) -> Dashboard:
    return Dashboard(small)


@pytest.fixture(scope="module")
def client(small: LiveStore) -> Iterator[FlaskClient]:
    app = make_app(small)
    guard(app.server)
    with app.server.test_client() as client:
        yield client


words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ("fc_in", "0", "all", "-1", "0.1", "nan", "val", "yes", "model", "sweep", "coverage", "tiny", "-gain", "no\x00")
    ),
)
conditions = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["number", "text", "AND", "inRange"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["filterType", "type", "filter", "filterTo", "conditions", "operator"]), inner
        )
    ),
    max_leaves=6,
)
models = st.dictionaries(st.sampled_from(["accuracy", "tau", "error", "place", "x"]), conditions, max_size=2).map(
    json.dumps
)
names = (
    *COLUMNS,
    "search",
    "trial",
    "by",
    "of",
    "comparison",
    "figure",
    "outcome",
    "everything",
    "sort",
    "columns",
    "x",
)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Pages with settings that are there, and values that are and are not."""
    page = draw(st.sampled_from(["", *PAGES]))
    settings = draw(st.lists(st.tuples(st.sampled_from(names), words | st.just("KEY") | models), max_size=5))
    return f"/{page}?{urlencode(settings, errors='replace')}"


@given(addresses() | st.text(max_size=60).map(lambda text: f"/{text}"), st.data())
@settings(max_examples=80)
def test_every_address_has_a_page(dashboard: Dashboard, small: LiveStore, address: str, data: st.DataObject) -> None:
    keys = sorted(small.snapshot().keys)
    while "KEY" in address:
        address = address.replace("KEY", data.draw(st.sampled_from(keys)), 1)
    whole, shown, _ = dashboard.show(address, None)
    page = to_json_plotly([whole, shown])
    assert UNMADE not in page
    assert '"H1"' in page
    dashboard.requested_rows({"startRow": 0, "endRow": 100, "sortModel": [], "filterModel": {}}, address)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../data.py",
        "/assets/..%2fdata.py",
        "/assets/%2e%2e/data.py",
        "/assets/style.css/../../data.py",
        "/_dash-component-suites/dash/../../../../etc/passwd",
        "/_dash-component-suites/dash/%2e%2e/version.py",
        "/_dash-component-suites/laser_sweep/dashboard/data.py",
        "/../secret.parquet",
        "/store/trials",
        "//etc/passwd",
        "/" + "a" * 5000,
        "/%00",
        "/?" + "trial=x&" * 5000,
    ],
)
def test_nothing_but_the_pages_and_their_scripts_is_served(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code < 500
    body = answer.get_data(as_text=True)
    for secret in ("a secret", "root:x:0", "class LiveStore", "__version__"):
        assert secret not in body
    assert "Traceback" not in body


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
@settings(max_examples=80)
def test_no_address_makes_the_server_fail(client: FlaskClient, path: str, query: dict[str, str]) -> None:
    answer = client.get(f"/{quote(path, errors='replace')}", query_string=query)
    assert answer.status_code < 500


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8050", "[::2]:80", "localhost.evil:80", "x:80"]
)
def test_only_this_machine_is_answered(client: FlaskClient, host: str) -> None:
    """A page elsewhere whose name is made to lead here would read the store in the browser of who looks at it."""
    assert client.get("/", headers={"Host": host}).status_code == 403
    for own in ("127.0.0.1:8050", "localhost:8050", "[::1]:8050", "localhost"):
        assert client.get("/", headers={"Host": own}).status_code == 200


def test_a_page_may_load_from_nowhere_else(client: FlaskClient) -> None:
    policy: Any = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
