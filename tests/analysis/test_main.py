"""`python -m laser_sweep.analysis` on a store of the demo, as a person types it."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from scipy.stats import binomtest

import laser_sweep
from laser_sweep.analysis.__main__ import main
from laser_sweep.cli import CONF, run_configs
from laser_sweep.store.reader import read_predictions, read_trials

ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
Analysis = Callable[..., "subprocess.CompletedProcess[str]"]
FIGURE = r"[+-]?\d[\d,.e-]*"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fc_in[1] at two ρ, pruned, clustered and untouched, on all of val; one data set without frequency and group."""
    root = tmp_path_factory.mktemp("measured")
    plain = root / "plain.jsonl"
    examples = pd.read_parquet(ASSETS / "examples.parquet")
    examples[["prompt", "answer"]][:60].to_json(plain, orient="records", lines=True)
    common = ["tracking=none", f"store.path={root / 'store'}", "evaluation.confirm=false", "tau=fc_in", "layer=last"]
    for line in (
        ["rho=[0.01,0.2]"],
        ["rho=0.2", "intervention=prune"],
        ["rho=0.2", "intervention=clustered", "intervention.options.clusters=2"],
        ["rho=0.01", "dataset=jsonl", f"dataset.path={plain}"],
    ):
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            run_configs([compose("config", overrides=[*common, *line])], on_ray=False)
    return root / "store"


@pytest.fixture
def store(measured: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    shutil.copytree(measured, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path) -> Analysis:
    def run(*arguments: object, at: Path = store) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["laser_sweep.analysis", *map(str, arguments), "--store", str(at)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess([], code, out, err)

    return run


def key_of(store: Path, intervention: str = "laser", rho: float | None = 0.01, dataset: str = "demo") -> str:
    rows = read_trials(store)
    found = rows["intervention"].eq(intervention) & rows["dataset"].eq(dataset)
    return str(rows[found & (rows["rho"].isna() if rho is None else rows["rho"].eq(rho))]["trial_key"].item())


def answers(store: Path, *asked: Any) -> list[Any]:
    """The rows of predictions of a trial."""
    return list(read_predictions(store, key_of(store, *asked)).itertuples())


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_components_shows_what_each_part_says_and_how_often(analysis: Analysis, store: Path) -> None:
    shown = analysis("components", key_of(store)[:7], "--rows", 300)
    assert shown.returncode == 0, shown.stderr
    untouched, low_rank = answers(store, "none", None), answers(store)
    removed = answers(store, "removed")  # was measured and stored on the way
    prompts = pd.read_parquet(ASSETS / "examples.parquet")["prompt"]
    lines = [cells(line) for line in shown.stdout.splitlines() if " named  " in line]
    expected = [
        [prompts[int(a.example_id)], a.gold, a.prediction, b.prediction, c.prediction, "flipped to right"]
        for a, b, c in zip(untouched, low_rank, removed, strict=True)
        if b.correct and not a.correct
    ]
    flipped = len(expected)
    assert [line[1:] for line in lines[:flipped]] == [row[1:] for row in expected]
    for line, (prompt, *_) in zip(lines, expected, strict=False):
        head, _, tail = line[0].partition(" … ")
        assert prompt.startswith(head)
        assert prompt.endswith(tail)
    assert len(lines) == 300
    same = sum(row[4] == row[2] for row in expected)
    right = sum(row[4] == row[1] for row in expected)
    other = flipped - same - right
    assert (
        f"to the {flipped} that flipped to right: the untouched model's wrong answer to {same} "
        f"({100 * same / flipped:.1f} %), another wrong one to {other}, the right one to {right}\n"
    ) in shown.stdout
    for name, said in (("untouched", untouched), ("low-rank part", low_rank), ("removed part", removed)):
        [(word, count)] = Counter(row.prediction for row in said).most_common(1)
        share = sum(row.correct for row in said) / len(said)
        assert f"{name}: right {100 * share:.1f} %, says '{word}' to {100 * count / len(said):.1f} %" in shown.stdout


def test_components_measures_once_and_then_reads(analysis: Analysis, store: Path) -> None:
    first = analysis("components", key_of(store))
    assert "running 1 trials" in first.stderr
    again = analysis("components", key_of(store))
    assert (again.stdout, again.stderr) == (first.stdout, "")


def test_components_writes_the_same_as_markdown(analysis: Analysis, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.md"
    shown = analysis("components", key_of(store), "--rows", 5, "--to", file)
    assert shown.returncode == 0, shown.stderr
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# what the removed components say: laser fc\\_in\\[1\\] rho=0.01 of demo on demo, val ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0] == ["prompt", "gold", "untouched", "low-rank part", "removed part", "outcome"]
    assert set(rows[1]) == {"---"}
    assert rows[2:] == [cells(line) for line in shown.stdout.splitlines() if " named  " in line]
    assert len(rows) == 7
    assert [line[2:] for line in lines if line.startswith("* ")] == [
        line for line in shown.stdout.splitlines() if re.match(r"(\d|the removed|untouched|low-rank|removed)", line)
    ]


def test_flips_counts_what_changed(analysis: Analysis, store: Path) -> None:
    shown = analysis("flips", key_of(store, "laser", 0.2), "--rows", 1000)
    assert shown.returncode == 0, shown.stderr
    pairs = list(zip(answers(store, "none", None), answers(store, "laser", 0.2), strict=True))
    counts = {
        "flipped to right": sum(b.correct > a.correct for a, b in pairs),
        "flipped to wrong": sum(b.correct < a.correct for a, b in pairs),
        "right in both": sum(b.correct and a.correct for a, b in pairs),
        "wrong in both": sum(not b.correct and not a.correct for a, b in pairs),
    }
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    assert f"480 examples: {said}\n" in shown.stdout
    wins, losses = counts["flipped to right"], counts["flipped to wrong"]
    p = binomtest(wins, wins + losses).pvalue
    assert f"McNemar test of {wins} against {losses}: p = {p:.2g}\n" in shown.stdout
    by_id = {a.example_id: (a, b) for a, b in pairs}
    rows = [cells(line) for line in shown.stdout.splitlines() if re.search(r"flipped to (right|wrong)  ", line)]
    assert len(rows) == wins + losses
    for example, gold, before, after, outcome, log_before, log_after, frequency in rows:
        a, b = by_id[example]
        assert (gold, before, after) == (a.gold, a.prediction, b.prediction)
        assert outcome == ("flipped to right" if b.correct else "flipped to wrong")
        assert float(log_before) == pytest.approx(a.gold_log_prob, abs=6e-4)
        assert float(log_after) == pytest.approx(b.gold_log_prob, abs=6e-4)
        assert float(frequency.replace(",", "")) == a.frequency


def gains(shown: str) -> list[tuple[float, float, int, float, float]]:
    """low, high, count, gain and standard error of each bin that is shown."""
    found = []
    for line in shown.splitlines():
        row = re.fullmatch(rf"\s*({FIGURE})(?: to ({FIGURE}))?\s+(\d+)\s+([+-]\d+\.\d)\s+(\d+\.\d)\s*", line)
        if row is not None:
            low, high = (float(one.replace(",", "")) for one in (row[1], row[2] or row[1]))
            found.append((low, high, int(row[3]), float(row[4]) / 100, float(row[5]) / 100))
    return found


def test_frequency_shows_the_gain_of_rare_and_of_common_facts(analysis: Analysis, store: Path) -> None:
    shown = analysis("frequency", key_of(store), "--bins", 4)
    assert shown.returncode == 0, shown.stderr
    pairs = list(zip(answers(store, "none", None), answers(store), strict=True))
    found = gains(shown.stdout)
    assert len(found) == 4
    assert sum(count for _, _, count, _, _ in found) == 480
    for low, high, count, gain, stderr in found:
        inside = [int(b.correct) - int(a.correct) for a, b in pairs if low <= a.frequency <= high]
        assert len(inside) == count
        mean = sum(inside) / count
        assert gain == pytest.approx(mean, abs=6e-4)
        assert stderr == pytest.approx(math.sqrt(sum((d - mean) ** 2 for d in inside)) / count, abs=6e-4)
    assert found[0][0] == min(a.frequency for a, _ in pairs)
    assert found[-1][1] == max(a.frequency for a, _ in pairs)


def test_frequency_takes_counts_from_a_file_and_says_which(analysis: Analysis, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("gold,count\n" + "".join(f"{word},{place}\n" for place, word in enumerate(("pepper", "beacon"))))
    shown = analysis("frequency", key_of(store), "--counts", file)
    assert shown.returncode == 0, shown.stderr
    pairs = list(zip(answers(store, "none", None), answers(store), strict=True))
    counted = [a.gold for a, _ in pairs if a.gold in ("pepper", "beacon")]
    assert f"{file}: count of {len(counted)} of 480 examples, by gold\n" in shown.stdout
    assert [(low, high, count) for low, high, count, _, _ in gains(shown.stdout)] == [
        (0, 0, counted.count("pepper")),
        (1, 1, counted.count("beacon")),
    ]
    assert f"left out: {480 - len(counted)} examples whose frequency is not known\n" in shown.stdout


def test_paraphrase_counts_groups(analysis: Analysis, store: Path) -> None:
    shown = analysis("paraphrase", key_of(store))
    assert shown.returncode == 0, shown.stderr
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for a, b in zip(answers(store, "none", None), answers(store), strict=True):
        groups.setdefault(a.group, []).append((a, b))
    before = [all(a.correct for a, _ in group) for group in groups.values()]
    after = [all(b.correct for _, b in group) for group in groups.values()]
    became, lost = (sum(x and not y for x, y in zip(*pair, strict=True)) for pair in ((after, before), (before, after)))
    assert f"{len(groups)} groups of 480 examples: {became} became wholly right, {lost} are no more\n" in shown.stdout
    line = next(line for line in shown.stdout.splitlines() if "groups wholly right, %" in line)
    assert cells(line)[1:4] == [
        f"{100 * sum(before) / len(before):.1f}",
        f"{100 * sum(after) / len(after):.1f}",
        f"{100 * (sum(after) - sum(before)) / len(after):+.1f}",
    ]
    rows = read_trials(store).set_index("trial_key")  # the trial's own figure, over whole groups, of which all are
    assert rows["group_accuracy"][key_of(store)] == pytest.approx(sum(after) / len(after))
    line = next(line for line in shown.stdout.splitlines() if "agreement inside groups, %" in line)
    agreed = [
        [
            sum(x[side].prediction == y[side].prediction for x in group for y in group if x is not y) / 12
            for group in groups.values()
        ]
        for side in (0, 1)
    ]
    assert cells(line)[1:3] == [f"{100 * sum(shares) / len(shares):.1f}" for shares in agreed]


COMMANDS = ("components", "flips", "frequency", "paraphrase")


def assert_refused(shown: subprocess.CompletedProcess[str], said: str) -> None:
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert re.fullmatch(rf"laser_sweep\.analysis: .*{said}.*\n", shown.stderr), shown.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_that_names_no_trial_or_several_is_refused(command: str, analysis: Analysis, store: Path) -> None:
    assert_refused(analysis(command, "xyz"), r"trial xyz is not in store\.path=")
    assert_refused(analysis(command, ""), "none were given")
    first = Counter(key[0] for key in read_trials(store)["trial_key"]).most_common(1)[0]
    if first[1] > 1:
        assert_refused(analysis(command, first[0]), f"trial {first[0]} could be ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_untouched_model_is_refused(command: str, analysis: Analysis, store: Path) -> None:
    key = key_of(store, "none", None)
    assert_refused(analysis(command, key), f"trial {key} is the untouched model; give one with an edit")


@pytest.mark.parametrize("intervention", ["prune", "clustered"])
def test_components_of_an_edit_that_removes_none_are_refused(
    intervention: str, analysis: Analysis, store: Path
) -> None:
    key = key_of(store, intervention, 0.2)
    assert_refused(
        analysis("components", key), f"trial {key} is {intervention}, which has no removed part; give a trial of "
    )
    assert analysis("flips", key).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_where_there_is_no_store_this_is_said(command: str, analysis: Analysis, tmp_path: Path) -> None:
    assert_refused(analysis(command, "ab", at=tmp_path / "none"), r"store\.path=.*/none holds no trials")
    (tmp_path / "empty" / "trials").mkdir(parents=True)
    assert_refused(analysis(command, "ab", at=tmp_path / "empty"), r"store\.path=.*/empty holds no trials")


@pytest.mark.parametrize("command", COMMANDS)
def test_lost_predictions_are_said(command: str, analysis: Analysis, store: Path) -> None:
    key, untouched = key_of(store), key_of(store, "none", None)
    (store / "predictions" / f"{untouched}.parquet").unlink()
    shown = analysis(command, key)
    shown.stderr = shown.stderr.splitlines(keepends=True)[-1]  # the removed part may have been measured before
    assert_refused(shown, f"has no predictions of trial {untouched}; ")
    (store / "predictions" / f"{key}.parquet").unlink()
    assert_refused(analysis(command, key), f"has no predictions of trial {key}; ")
    shutil.rmtree(store / "predictions")
    assert_refused(analysis(command, key), "holds no predictions")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_lost_untouched_model_is_said(command: str, analysis: Analysis, store: Path) -> None:
    (store / "trials" / f"{key_of(store, 'none', None)}.parquet").unlink()
    assert_refused(
        analysis(command, key_of(store)), r"has no untouched model of demo on demo, val .*; run the sweep of "
    )


def test_a_data_set_without_frequencies_or_groups_is_said(analysis: Analysis, store: Path) -> None:
    key = key_of(store, "laser", 0.01, "plain")
    assert_refused(
        analysis("frequency", key), "the examples of plain have no frequency; give a file of counts with --counts"
    )
    assert_refused(analysis("paraphrase", key), f"trial {key}: no two examples are of one group")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("components", "--rows", 0), "--rows 0 is too small"),
        (("flips", "--rows", -1), "--rows -1 is too small"),
        (("frequency", "--bins", 0), "--bins 0 is too small"),
        (("frequency", "--counts", "/nowhere.csv"), r"counts=/nowhere\.csv is not a file"),
        (
            ("components", "--to", "/nowhere/at/all.md"),
            r"--to /nowhere/at/all\.md cannot be written: /nowhere/at is not a ",
        ),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_measured(
    arguments: tuple[object, ...], said: str, analysis: Analysis, store: Path
) -> None:
    before = read_trials(store)
    assert_refused(analysis(arguments[0], key_of(store), *arguments[1:]), said)
    assert len(read_trials(store)) == len(before)


def test_what_is_known_without_the_model_is_answered_without_torch(measured: Path) -> None:
    """As a person types it, in a process of its own."""
    key = key_of(measured)
    code = (
        "import sys; from laser_sweep.analysis.__main__ import main; end = None\n"
        "try: main()\n"
        "except SystemExit as end: print('code', end.code)\n"
        "assert not {'torch', 'ray', 'hydra'} & set(sys.modules)"
    )
    for arguments in (
        ("--help",),
        ("flips", key),
        ("components", key_of(measured, "prune", 0.2)),
        ("components", "xyz"),
    ):
        at = [] if arguments == ("--help",) else ["--store", str(measured)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, *at], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
