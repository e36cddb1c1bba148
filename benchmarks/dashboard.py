"""How long the dashboard takes to open a store, to answer a filter, and to follow a sweep, as a person waits for it.

The stores are full grids of 7 matrix types, 32 layers and 10 fractions on several data sets, as sweeps leave them: one
file for each trial, with predictions. The large one is as `python -m laser_sweep.store compact` leaves it, and as a
store of that size should be: opening a file of one row is most of its cost. What the server does is measured between a
request and the JSON of its answer. Where there is a Chromium, the same is measured from the click until what is asked
for is drawn; else those figures are left out.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from playwright.sync_api import Page, sync_playwright
from plotly.io.json import to_json_plotly
from rich.table import Table

from benchmarks.command import Figures, run, show
from laser_sweep.dashboard.app import Dashboard
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.dashboard.server import bind
from laser_sweep.store.rows import to_row
from laser_sweep.store.schema import TRIALS
from laser_sweep.store.store import COMPACTED, ParquetStore
from laser_sweep.trial import (
    TAUS,
    Edit,
    Evaluation,
    Footprint,
    Matrix,
    Metrics,
    ModelId,
    Predictions,
    Trial,
    TrialResult,
)
from tests.browser import launch

MODEL = ModelId(name="llama2", repo="meta-llama/Llama-2-7b-hf", revision="0" * 40, dtype="float32")
RHOS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
CONFIG = '{"search": {"name": "grid"}, "dataset": {"name": "?"}, "tau": "each", "layer": "each"}'
FILTERS = {
    "sweeps": "/?rho={rho}",
    "heat map of one τ": "/heat-maps?tau=fc_in",
    "heat maps of all τ": "/heat-maps",
    "heat maps of some layers": "/heat-maps?layer=0&layer=1",
    "trials of a layer and a word": "/trials?layer=1&search=fc_in",
    "trials of a fraction": "/trials?model=llama2&rho={rho}",
    "a trial and its answers": "/trial?trial={key}",
    "two trials compared": "/compare?trial={key}&trial={other}",
}
BROWSED = {
    "browser: opened, with the first rows": "browser_open_seconds",
    "browser: a filter of the table": "browser_filter_seconds",
    "browser: a filter of a heat map": "browser_heat_map_seconds",
}
_FEW = 20  # examples of trials without predictions


@dataclass(frozen=True)
class Size:
    layers: int
    examples: int
    datasets: int
    """Of the large store; the other one has one."""
    times: int
    """How often each thing is done."""


FULL = Size(layers=32, examples=500, datasets=23, times=5)
SMALL = Size(layers=2, examples=20, datasets=2, times=1)


def measure(size: Size) -> Figures:
    """Opens both stores and asks each for every page."""
    columns = []
    with tempfile.TemporaryDirectory() as directory:
        for datasets, merged in ((1, False), (size.datasets, True)):
            root = Path(directory) / str(merged)
            write(root, datasets, size.layers, _FEW if merged else size.examples, merged=merged)
            columns.append(measure_store(root, size.times))
    table = Table("seconds", *(f"{column.pop('trials'):,.0f} trials" for column in columns))
    for key in columns[0]:
        table.add_row(key, *(f"{column[key]:.2f}" for column in columns))
    show(
        f"Answers of the server are the slower of the first and the median of {size.times} more. In the browser, a "
        f"store is opened {size.times} times and {size.times} filters are clicked each time; the least counts.",
        table,
    )
    figures = {}
    for column, prefix in zip(columns, ("", "large_"), strict=True):
        figures[f"{prefix}open_seconds"] = column["open"]
        figures[f"{prefix}filter_seconds"] = max(column[name] for name in FILTERS)
        figures[f"{prefix}follow_seconds"] = column["one trial more, and the page again"]
        for name, key in BROWSED.items():
            if name in column:
                figures[f"{prefix}{key}"] = column[name]
    return figures


def measure_store(root: Path, times: int) -> dict[str, float]:
    """Opens a store and asks for every page."""
    started = time.perf_counter()
    store = LiveStore(root)
    snapshot = store.snapshot()
    figures = {"trials": len(snapshot.trials), "open": time.perf_counter() - started}
    dashboard = Dashboard(store)
    started = time.perf_counter()
    answer(dashboard, "/")
    figures["first page"] = time.perf_counter() - started
    keys = snapshot.comparisons[0].ranked()["trial_key"]
    for name, address in FILTERS.items():
        address = address.format(key=keys.iloc[0], other=keys.iloc[1], rho=RHOS[0])
        started = time.perf_counter()
        answer(dashboard, address)
        first = time.perf_counter() - started
        figures[name] = max(first, median(lambda address=address: answer(dashboard, address), times))  # type: ignore[misc]
    figures["nothing new"] = median(store.snapshot, times)
    ParquetStore(root).write(next(results(0, 1, 10, seed=1)), "later", CONFIG)
    started = time.perf_counter()
    assert len(store.snapshot().trials) == len(snapshot.trials)
    answer(dashboard, "/heat-maps?tau=fc_in")
    figures["one trial more, and the page again"] = time.perf_counter() - started
    return figures | browsed(root, times)


def browsed(root: Path, times: int) -> dict[str, float]:
    """The same in a browser: the least of several times, as other processes only ever add to it."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            return {}
        opened, filtered, heat_map = [], [], []
        for _ in range(times):
            started = time.perf_counter()
            server = bind(str(root), 0)
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"http://127.0.0.1:{server.port}/trials")
            page.wait_for_selector(".ag-row .ag-cell[col-id=accuracy]")
            opened.append(time.perf_counter() - started)
            page.wait_for_load_state("networkidle")
            filtered += clicks(page, "layer", ".ag-row .ag-cell[col-id=accuracy]", times)
            page.goto(f"http://127.0.0.1:{server.port}/heat-maps?tau=fc_in")
            page.wait_for_selector(".heatmaplayer image")
            page.wait_for_load_state("networkidle")
            heat_map += clicks(page, "rho", ".heatmaplayer image", times)
            page.close()
            server.shutdown()
            thread.join()
            server.server_close()
        browser.close()
    return dict(zip(BROWSED, map(min, (opened, filtered, heat_map)), strict=True))


def clicks(page: Page, column: str, drawn: str, times: int) -> list[float]:
    """Seconds from a click on each of some values of a filter until the page has what passes it."""
    seconds = []
    for _ in range(times):
        place = page.locator(f"a[data-place^='{column}:']:not([aria-current])").first.get_attribute("data-place")
        seconds.append(page.evaluate(CLICK, [place, drawn]) / 1000)
    return seconds


CLICK = """([place, drawn]) => new Promise((done) => {
  const main = document.querySelector('#main');
  const started = performance.now();
  document.querySelector(`a[data-place='${place}']`).click();
  const look = () => {
    const there = document.querySelector('#main');
    if (there && there !== main && there.querySelector(drawn)) done(performance.now() - started);
    else requestAnimationFrame(look);
  };
  look();
})"""


def answer(dashboard: Dashboard, address: str) -> None:
    """What happens between a click and the answer."""
    page, shown, _ = dashboard.show(address, None)
    to_json_plotly([page, shown])


def median(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[times // 2]


def write(root: Path, datasets: int, layers: int, examples: int, *, merged: bool) -> None:
    """A store as sweeps leave it, or as merging leaves it, with predictions of the first trials only."""
    store, rows = ParquetStore(root), []
    for dataset in range(datasets):
        for number, result in enumerate(results(dataset, layers, examples)):
            if not merged or number < 3:
                store.write(result, f"sweep-{dataset}", CONFIG)
            else:
                rows.append(to_row(result, f"sweep-{dataset}", CONFIG))
    if merged:
        table = pa.Table.from_pylist(rows, schema=TRIALS)
        pq.write_table(table, root / "trials" / f"{COMPACTED}{0:020d}.parquet", compression="zstd")
        store.compact()


def results(dataset: int, layers: int, examples: int, seed: int = 0) -> Iterator[TrialResult]:
    """The untouched model and every cell of the grid on one data set of true-or-false questions."""
    draw = np.random.default_rng([dataset, seed])
    evaluation = Evaluation(dataset=f"questions-{dataset}", revision=f"{dataset:016x}", split="val")
    golds = tuple(draw.choice(["true", "false"], examples).tolist())
    wrong = {"true": "false", "false": "true"}
    before = draw.random(examples) < 0.6
    cells: list[tuple[str, int, float] | None] = [None]
    cells += [(tau, layer, rho) for tau in TAUS for layer in range(layers) for rho in RHOS]
    for cell in cells:
        edits = () if cell is None else (Edit(matrix=Matrix(cell[0], cell[1]), rho=cell[2]),)
        correct = before if cell is None else before ^ (draw.random(examples) < 0.05)
        log_probs = -draw.exponential(size=examples)
        yield TrialResult(
            trial=Trial(
                model=MODEL,
                edits=edits,
                evaluation=evaluation,
                intervention="laser" if edits else "none",
                tau=cell[0] if cell else None,
                layer=cell[1] if cell else None,
                rho=cell[2] if cell else None,
            ),
            status="done",
            metrics=Metrics(
                num_examples=examples,
                accuracy=float(correct.mean()),
                accuracy_stderr=0.01,
                log_loss=float(-log_probs.mean()),
            ),
            predictions=Predictions(
                example_id=tuple(map(str, range(examples))),
                prediction=tuple(g if right else wrong[g] for g, right in zip(golds, correct, strict=True)),
                gold=golds,
                correct=correct,
                gold_log_prob=log_probs,
                gold_length=np.ones(examples, dtype=np.int64),
                gold_rank=np.zeros(examples, dtype=np.int64),
                text_rank=np.zeros(examples, dtype=np.int64),
                f1=np.full(examples, np.nan),
                group=(None,) * examples,
                subject=(None,) * examples,
                relation=(None,) * examples,
                frequency=(None,) * examples,
            ),
            footprints=tuple(Footprint(rank=40, parameters=200_000) for _ in edits),
            gain=float(correct.mean() - before.mean()),
            gain_p_value=0.5,
        )


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
