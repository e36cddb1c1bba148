"""Composition: edits that were planted are found, one on top of the other, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Intervention, Place, Space
from laser_sweep.sweep.search.spec import GreedySpec
from laser_sweep.trial import Edit, Matrix, Trial

MakeSpace = Callable[..., Space]
MakeOracle = Callable[..., Any]
MakeJob = Callable[..., Job]
Edits = tuple[Edit, ...]

AXES: dict[str, Any] = {"tau": ("fc_in", "fc_out"), "layer": (0, 1, 2, 3), "rho": (0.3, 0.6, 0.1, 1.0)}
PLANTED = {"fc_in[3]": 0.3, "fc_out[2]": 0.3, "fc_out[1]": 0.6, "fc_out[0]": 0.1}


def rhos(edits: Edits) -> dict[str, float]:
    return {str(edit.matrix): edit.rho for edit in edits}


def planted(edits: Edits) -> tuple[float, float]:
    """(accuracy, log-loss), where what edits do depends on the others that are there."""
    rho = rhos(edits)
    points = {0.6: 2, 0.3: 5, 0.1: 1}.get(rho.get("fc_in[3]", 1), 0)
    points -= 3 * ("fc_out[3]" in rho)
    # Nothing is lost at fc_in[2] but certainty, and nothing is won at fc_out[2] but that, until rho = 0.1.
    loss = 1.0 + 0.1 * ("fc_in[2]" in rho)
    loss += {0.6: -0.05, 0.3: -0.05, 0.1: 0.2}.get(rho.get("fc_out[2]", 1), 0)
    # Good alone, bad beside what was found above; and the other way round.
    points += 0 if "fc_in[1]" not in rho else -6 if "fc_in[3]" in rho else 4
    points += 0 if "fc_out[1]" not in rho else {0.6: 3, 0.3: 2, 0.1: 2}[rho["fc_out[1]"]] if "fc_out[2]" in rho else -4
    # The treasure at fc_in[0] lies behind a step that makes it worse.
    points += {0.6: -1, 0.3: 20, 0.1: 20}.get(rho.get("fc_in[0]", 1), 0)
    points += {0.6: 1, 0.3: 2, 0.1: 3}.get(rho.get("fc_out[0]", 1), 0)
    return 0.5 + points / 100, loss


def begin(*spaces: Space, max_trials: int | None = None) -> Any:
    return make_search(GreedySpec(max_trials=max_trials), spaces, "accuracy", 64, 0)


def kept(search: Any) -> dict[str, float]:
    return {str(place): rho for place, rho in search.kept}


def steps(asks: list[Any], path: Any) -> list[tuple[str, float, bool]]:
    assert len(asks) == len(path)
    return [(str(place), rho, taken) for place, rho, _, taken in path]


def test_exactly_the_planted_edits_are_found(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    end, asks = make_oracle(planted).finish(begin(make_space(**AXES)))
    assert kept(end) == PLANTED
    assert steps(asks, end.path) == [
        ("fc_in[3]", 0.6, True),
        ("fc_in[3]", 0.3, True),
        ("fc_in[3]", 0.1, False),
        ("fc_out[3]", 0.6, False),
        ("fc_in[2]", 0.6, False),
        ("fc_out[2]", 0.6, True),
        ("fc_out[2]", 0.3, True),
        ("fc_out[2]", 0.1, False),
        ("fc_in[1]", 0.6, False),
        ("fc_out[1]", 0.6, True),
        ("fc_out[1]", 0.3, False),
        ("fc_in[0]", 0.6, False),
        ("fc_out[0]", 0.6, True),
        ("fc_out[0]", 0.3, True),
        ("fc_out[0]", 0.1, True),
    ]
    assert rhos(asks[-1].candidates[0].edits) == PLANTED
    assert [place for place in end.notes()[0].split() if "[" in place] == list(PLANTED)
    assert "in 15 steps" in end.notes()[0]


def test_every_step_is_measured_on_top_of_what_is_kept(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    end, asks = make_oracle(planted).finish(begin(make_space(**AXES)))
    before: dict[str, float] = {}
    for ask, (place, rho, value, taken) in zip(asks, end.path, strict=True):
        [candidate] = ask.candidates
        assert rhos(candidate.edits) == {**before, str(place): rho}
        assert value == planted(candidate.edits)[0]
        assert (ask.limit, ask.guarded) == (None, True)
        before = rhos(candidate.edits) if taken else before


def test_a_whole_sweep_confirms_the_planted_edits_together(
    run: Callable[..., Any], make_job: MakeJob, simulated: Callable[..., Any]
) -> None:
    job = make_job(**AXES, examples=500, search=GreedySpec())
    ran = run(job, measure=simulated(lambda trial: planted(trial.edits), job))
    [confirmed] = ran.outcome.confirmed[0]
    assert rhos(confirmed.winner.trial.edits) == PLANTED
    assert confirmed.gain.gain == pytest.approx(planted(confirmed.winner.trial.edits)[0] - 0.5)
    assert ran.outcome.objective(job) == pytest.approx(planted(confirmed.winner.trial.edits)[0])


places = st.sampled_from([f"{tau}[{at}]" for tau in ("fc_in", "fc_out") for at in range(3)])
tables = st.dictionaries(st.tuples(places, st.sampled_from([0.6, 0.3, 0.1])), st.integers(-2, 2), max_size=18)


@given(points=tables, losses=tables)
def test_where_edits_do_not_mind_each_other_each_place_is_lowered_as_if_alone(
    points: Mapping[tuple[str, float], int],
    losses: Mapping[tuple[str, float], int],
    make_space: MakeSpace,
    make_oracle: MakeOracle,
) -> None:
    def additive(edits: Edits) -> tuple[float, float]:
        items = rhos(edits).items()
        return 0.5 + sum(points.get(one, 0) for one in items) / 64, 2.0 + sum(losses.get(one, 0) for one in items) / 64

    end, _ = make_oracle(additive).finish(begin(make_space(layer=(0, 1, 2), rho=(0.6, 0.3, 0.1))))
    expected = {}
    for place in (f"{tau}[{at}]" for tau in ("fc_in", "fc_out") for at in range(3)):
        best = (0, 0)
        for rho in (0.6, 0.3, 0.1):
            step = points.get((place, rho), 0), -losses.get((place, rho), 0)
            if step < best:
                break
            best, expected[place] = step, rho
    assert kept(end) == expected


@given(randomness=st.randoms(use_true_random=False), max_trials=st.none() | st.integers(1, 12))
def test_the_end_is_never_below_the_untouched_model(
    randomness: Any, max_trials: int | None, make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    """Whatever edits do to each other."""
    drawn: dict[frozenset[Edit], tuple[float, float]] = {}

    def worth(edits: Edits) -> tuple[float, float]:
        return drawn.setdefault(frozenset(edits), (randomness.randrange(4) / 4, randomness.randrange(4) / 4))

    end, asks = make_oracle(worth).finish(begin(make_space(layer=(0, 1)), max_trials=max_trials))
    merits = {edits: (accuracy, -loss) for edits, (accuracy, loss) in drawn.items()}
    at_the_end = next(merit for edits, merit in merits.items() if rhos(tuple(edits)) == kept(end))
    assert at_the_end >= merits[frozenset()]
    assert at_the_end == max(merits.values())
    assert len(asks) <= (max_trials or 8)


def test_layers_are_gone_through_from_the_last_one_down(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    """A place of several layers stands where its last one does, whatever the order of the request."""
    together = Place("fc_in", None, (Matrix("fc_in", 0), Matrix("fc_in", 2)))
    places = [Place("fc_out", 1, (Matrix("fc_out", 1),)), together, Place("fc_in", 3, (Matrix("fc_in", 3),))]
    end, _ = make_oracle(lambda edits: (-len(edits), 1.0)).finish(begin(make_space(places=places, rho=(0.1,))))
    assert [str(place) for place, *_ in end.path] == ["fc_in[3]", "fc_in[all]", "fc_out[1]"]


def test_the_most_trials_are_kept_and_the_rest_is_told(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(**AXES)
    whole, _ = make_oracle(planted).finish(begin(space))
    for most in (1, 4, 14):
        end, asks = make_oracle(planted).finish(begin(space, max_trials=most))
        assert len(asks) == most
        assert end.path == whole.path[:most]
        # A place that a step made worse is done with; of the others all steps are left that were not tried.
        worse = {place for place, *_, taken in end.path if not taken}
        tried = {(place, rho) for place, rho, *_ in end.path}
        left = [
            place for place in space.places for r in (0.6, 0.3, 0.1) if place not in worse and (place, r) not in tried
        ]
        assert f"; {len(left)} steps were left when search.max_trials={most} was reached" in end.notes()[0]
    end, asks = make_oracle(planted).finish(begin(space, max_trials=15))
    assert len(asks) == 15
    assert "left" not in end.notes()[0]


def test_a_failed_trial_counts_as_worse(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(**AXES)
    failed = [c.edits for c in space.grid() if rhos(c.edits) == {"fc_in[3]": 0.6}]
    end, asks = make_oracle(planted, failed=failed).finish(begin(space))
    tried = [(place, rho) for place, rho, _ in steps(asks, end.path)]
    assert tried[0] == ("fc_in[3]", 0.6)
    assert [rho for place, rho in tried if place == "fc_in[3]"] == [0.6]
    assert kept(end) == {"fc_in[1]": 0.1, **{place: rho for place, rho in PLANTED.items() if place != "fc_in[3]"}}


def test_nothing_is_kept_where_the_untouched_model_failed(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    """There is nothing that a step could be no worse than."""
    end, asks = make_oracle(planted, failed=[()]).finish(begin(make_space(**AXES)))
    assert kept(end) == {}
    assert len(asks) == 8
    assert "kept nothing in 8 steps" in end.notes()[0]


def test_a_step_that_the_guard_refuses_is_taken_back(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(**AXES)
    refused = [c.edits for c in space.grid() if rhos(c.edits) == {"fc_in[3]": 0.3}]
    end, _ = make_oracle(planted, refused=refused).finish(begin(space))
    assert kept(end)["fc_in[3]"] == 0.6


def test_the_guard_is_asked_of_all_edits_together(
    run: Callable[..., Any], make_job: MakeJob, simulated: Callable[..., Any]
) -> None:
    """No single edit costs the guard's data set more than 0.15 nats, two of them cost 0.2."""
    guard = make_job(dataset="guarded", examples=60)
    job = make_job(
        layer=(0, 1, 2), rho=(0.5, 0.1), examples=500, search=GreedySpec(), guard=guard, bound=0.15, confirm=False
    )

    def effect(trial: Trial) -> tuple[float, float]:
        count = len(trial.edits)
        return (0.5, 1 + 0.1 * count) if trial.evaluation.dataset == "guarded" else (0.5 + 0.1 * count, 1.0)

    ran = run(job, measure=simulated(effect, job, guard))
    assert steps(ran.devices.asked, ran.outcome.searches[0].path) == [
        ("fc_in[2]", 0.5, True),
        ("fc_in[2]", 0.1, True),
        ("fc_in[1]", 0.5, False),
        ("fc_in[0]", 0.5, False),
    ]


def test_of_places_that_overlap_the_last_one_counts(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    both = Place("mlp", 1, (Matrix("fc_in", 1), Matrix("fc_out", 1)))
    places = [both, Place("fc_out", 1, (Matrix("fc_out", 1),))]

    def lower_is_better(edits: Edits) -> tuple[float, float]:
        assert len(rhos(edits)) == len(edits)  # a matrix is edited once
        return sum(1 - edit.rho for edit in edits), 1.0

    end, asks = make_oracle(lower_is_better).finish(begin(make_space(places=places, rho=(0.5, 0.25))))
    assert [rhos(ask.candidates[0].edits) for ask in asks] == [
        {"fc_in[1]": 0.5, "fc_out[1]": 0.5},
        {"fc_in[1]": 0.25, "fc_out[1]": 0.25},
        {"fc_in[1]": 0.25, "fc_out[1]": 0.5},
    ]
    assert kept(end) == {"mlp[1]": 0.25}


def test_one_edit_keeps_the_name_of_its_place_and_several_have_none(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    _, asks = make_oracle(planted).finish(begin(make_space(**AXES)))
    first, last = asks[0].candidates[0], asks[-1].candidates[0]
    assert (first.tau, first.layer, first.rho, first.intervention) == ("fc_in", 3, 0.6, "laser")
    assert (last.tau, last.layer, last.rho, last.intervention) == (None, None, None, "laser")


RANDOMIZED = Intervention(name="randomized", method="randomized", options={"power_iterations": [1, 2], "seed": 0})


def test_only_rho_is_lowered(make_space: MakeSpace) -> None:
    one = replace(RANDOMIZED, options={"power_iterations": [1], "seed": 0})
    assert begin(make_space(intervention=one)).ask() is not None
    for spaces in ([make_space(intervention=RANDOMIZED)], [make_space(), make_space(intervention=one)]):
        with pytest.raises(RequestError, match=r"^search=greedy lowers rho alone.*one intervention and one value"):
            begin(*spaces)


def test_jobs_that_ask_for_the_same_are_one_space(make_space: MakeSpace) -> None:
    """As those of several data sets that have one winner."""
    assert begin(make_space(), make_space()) == begin(make_space())
