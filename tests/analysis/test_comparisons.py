"""Which trials stand beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laser_sweep.analysis.comparisons import comparisons, edits_of, families
from laser_sweep.analysis.selection import Standing, ranked
from laser_sweep.store.reader import read_trials

from ..measured import done, failed, right, rows, trial, written


def test_trials_of_other_examples_models_and_precisions_are_kept_apart(tmp_path: Path) -> None:
    edit = ("fc_in", 0, 0.1)
    variants = [{}, {"limit": 10}, {"limit": 20}, {"split": "test"}, {"dtype": "float16"}, {"dataset": "shapes"}]
    variants += [{"revision": "4567"}, {"model": "large"}]
    table = rows(tmp_path, [done(one, right(5)) for v in variants for one in (trial(**v), trial(edit, **v))])
    views = comparisons(table)
    assert [len(view.trials) for view in views] == [2] * len(variants)
    assert [(view.model, view.dataset, view.dtype, view.model_revision, view.split, view.limit) for view in views] == [
        ("large", "colours", "float32", "0123abcd", "val", None),
        ("tiny", "colours", "float16", "0123abcd", "val", None),
        ("tiny", "colours", "float32", "0123abcd", "val", None),
        ("tiny", "colours", "float32", "0123abcd", "val", 20),
        ("tiny", "colours", "float32", "0123abcd", "val", 10),
        ("tiny", "colours", "float32", "0123abcd", "test", None),
        ("tiny", "colours", "float32", "4567", "val", None),
        ("tiny", "shapes", "float32", "0123abcd", "val", None),
    ]
    assert len({view.key for view in views}) == len(views)
    shuffled = comparisons(table.sample(frac=1, random_state=0))
    assert [view.key for view in shuffled] == [view.key for view in views]
    assert [sorted(view.trials["trial_key"]) for view in shuffled] == [sorted(v.trials["trial_key"]) for v in views]


def test_a_title_names_model_data_set_split_and_examples(tmp_path: Path) -> None:
    table = rows(
        tmp_path, [done(trial(), right(3, 1234)), done(trial(limit=1), right(1, 1)), failed(trial(split="test"))]
    )
    assert [view.title for view in comparisons(table)] == [
        "tiny on colours, val (1,234 examples)",
        "tiny on colours, val (1 example, limit 1)",
        "tiny on colours, test",
    ]


def test_the_winner_is_the_one_that_a_sweep_chooses(tmp_path: Path) -> None:
    """Accuracy, then log-loss, then the untouched model, then the key."""
    random = np.random.default_rng(1)
    for number in range(20):
        results = [done(trial(), right(random.integers(4, 7), 10), log_loss=float(random.integers(1, 3)))]
        for layer in range(6):
            made = trial(("fc_in", layer, 0.1))
            results.append(done(made, right(random.integers(4, 7), 10), log_loss=float(random.integers(1, 3))))
        results.append(failed(trial(("fc_in", 9, 0.1))))
        [view] = comparisons(rows(tmp_path / str(number), results))
        for objective, by in (("accuracy", "score"), ("log_loss", "loss")):
            wanted = [one.trial.key for one in ranked([Standing((r,)) for r in results[:-1]], objective)]
            assert view.ranked(by)["trial_key"].tolist() == wanted
            winner = view.winner(by)
            assert winner is not None
            assert winner["trial_key"] == wanted[0]


def test_the_untouched_model_is_found_and_may_be_missing_or_failed(tmp_path: Path) -> None:
    edited = done(trial(("fc_in", 0, 0.1)), right(4))
    for name, more in (("there", [done(trial(), right(3))]), ("failed", [failed(trial())]), ("missing", [])):
        [view] = comparisons(rows(tmp_path / name, [edited, *more]))
        assert (view.untouched is None) == (name != "there")
        assert view.edited["trial_key"].tolist() == [edited.trial.key]
    [view] = comparisons(rows(tmp_path / "nothing done", [failed(trial())]))
    assert view.winner() is None


@pytest.mark.parametrize("told_by", ["gain", "configuration"])
def test_data_sets_under_one_name_are_told_apart(tmp_path: Path, told_by: str) -> None:
    """As two files of dataset=jsonl, or two seeds of a limit; here of the same size."""
    untouched = {"one": right(40), "two": right(70 if told_by == "gain" else 40)}
    wanted = set()
    for name, answers in untouched.items():
        config = {"dataset": {"name": "jsonl", "path": name}, "seed": 0, "evaluation": {"exact": True}}
        edits = [trial(("fc_in", layer, 0.1), content=name) for layer in range(3)]
        results = [done(trial(content=name), answers), *(done(edit, right(50), answers) for edit in edits)]
        written(tmp_path, results, json.dumps(config) if told_by == "configuration" else "{}")
        wanted.add(frozenset(result.trial.key for result in results))
    views = comparisons(read_trials(tmp_path))
    assert {frozenset(view.trials["trial_key"]) for view in views} == wanted
    assert [view.number for view in views] == [1, 2]
    assert views[1].title.endswith(" #2")
    assert views[0].key != views[1].key


def test_a_family_has_val_its_parts_and_test_of_one_question(tmp_path: Path) -> None:
    for name in ("one", "two"):
        config = {"dataset": {"path": name}, "seed": 0, "evaluation": {"exact": True}}
        written(
            tmp_path,
            [
                done(trial(content=name, split=split, limit=limit), right(20 if name == "one" else 30))
                for split, limit in (("val", None), ("val", 10), ("test", None))
            ],
            json.dumps(config),
        )
    written(tmp_path, [done(trial(dataset="other"), right(3))])
    found = families(comparisons(read_trials(tmp_path)))
    assert sorted(len(family) for family in found) == [1, 3, 3]
    for family in found:
        paths = {row for view in family for row in view.trials["config_json"]}
        assert len(paths) == 1
        assert [(view.split, view.limit) for view in family][:1] == [("val", None)]


def test_the_same_edits_are_the_same_on_val_and_on_test_whatever_their_order(tmp_path: Path) -> None:
    one, other = ("fc_in", 0, 0.1), ("fc_out", 3, 0.2)
    table = rows(
        tmp_path,
        [
            done(trial(one, other), right(3)),
            done(trial(other, one, split="test"), right(3)),
            done(trial(one, ("fc_out", 3, 0.25)), right(3)),
            done(trial(one, other, options={"clusters": 4}), right(3)),
        ],
    )
    found = [edits_of(row) for _, row in table.iterrows()]
    assert len(set(found)) == 3
    on_test = table.index[table["split"].eq("test")][0]
    assert sum(edits == edits_of(table.loc[on_test]) for edits in found) == 2


def test_no_trials_are_no_comparisons(tmp_path: Path) -> None:
    assert comparisons(rows(tmp_path, [failed(trial())]).iloc[:0]) == []
