"""Log-loss against accuracy."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from laser_sweep.figures import loss_against_accuracy

from ..measured import done, failed, right, rows, trial


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    return rows(
        tmp_path,
        [
            done(trial(), right(50), log_loss=1.5),
            done(trial(("fc_in", 0, 0.1)), right(60), log_loss=1.0),  # better in both
            done(trial(("fc_in", 1, 0.1)), right(70), log_loss=2.0),  # more accurate
            done(trial(("q_proj", 1, 0.1)), right(40), log_loss=0.5),  # lower loss
            done(trial(("fc_in", 0, 0.1), ("q_proj", 1, 0.1)), right(30), log_loss=3.0),
            failed(trial(("fc_in", 2, 0.1))),
        ],
    )


def test_every_finished_trial_is_a_point_of_its_matrix_type(table: pd.DataFrame) -> None:
    figure = loss_against_accuracy(table).figure
    found = {
        key: (trace.name, x, y)
        for trace in figure.data
        for key, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    done_rows = table[table["status"].eq("done")]
    names = {0: "untouched", 1: "", 2: "several edits"}
    assert found == {
        row["trial_key"]: (
            names[len(row["edits"])] or row["tau"],
            pytest.approx(100 * row["accuracy"]),
            pytest.approx(row["log_loss"]),
        )
        for _, row in done_rows.iterrows()
    }


def test_matrix_types_differ_without_colour(table: pd.DataFrame) -> None:
    traces = loss_against_accuracy(table).figure.data
    assert [trace.name for trace in traces] == ["q_proj", "fc_in", "several edits", "untouched"]
    assert len({trace.marker.symbol for trace in traces}) == len(traces)


def test_axes_have_titles_with_units(table: pd.DataFrame) -> None:
    layout = loss_against_accuracy(table).figure.layout
    assert (layout.xaxis.title.text, layout.yaxis.title.text) == ("accuracy (%)", "log-loss (nats)")


def test_the_sentence_has_the_numbers(table: pd.DataFrame) -> None:
    assert loss_against_accuracy(table).alt == (
        "Log-loss against accuracy of 4 edits: the most accurate, fc_in[1] ρ 0.1, has 70.0 % and 2.000 nats; "
        "the lowest log-loss, of q_proj[1] ρ 0.1, is 0.500 nats at 40.0 %; 2 are more accurate than the untouched "
        "model with 50.0 % and 1.500 nats, 1 of them with a lower log-loss too."
    )


def test_the_untouched_model_alone_a_lone_edit_and_nothing(tmp_path: Path, lone: pd.DataFrame) -> None:
    alone = loss_against_accuracy(rows(tmp_path / "alone", [done(trial(), right(50))]))
    assert [trace.name for trace in alone.figure.data] == ["untouched"]
    assert "of 0 edits: 0 are more accurate" in alone.alt
    assert "untouched" not in loss_against_accuracy(lone).alt
    nothing = loss_against_accuracy(rows(tmp_path / "failed", [failed(trial())]))
    assert nothing.alt == "No trial is done."
    assert nothing.figure.layout.xaxis.title.text


def test_a_log_loss_that_is_not_a_number_is_no_best_one(tmp_path: Path) -> None:
    table = rows(tmp_path, [done(trial(("fc_in", 0, 0.1)), right(60), log_loss=math.nan)])
    chart = loss_against_accuracy(table)
    assert "lowest" not in chart.alt
    assert len(chart.figure.data[0].x) == 1
