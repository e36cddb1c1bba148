"""What a request for τ, ℓ and ρ asks of a model."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from laser_sweep.engine.models.layout import Layout
from laser_sweep.errors import RequestError
from laser_sweep.sweep.protocols import Candidate
from laser_sweep.sweep.search.registry import check_search
from laser_sweep.sweep.search.space import Axes, Intervention, LayerName, Space, check_layers, check_taus, find_space
from laser_sweep.sweep.search.spec import SPECS
from laser_sweep.trial import Edit, Matrix

GPTJ = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")
LLAMA = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_up", "fc_out")
LASER = Intervention(name="laser", method="laser")


def layout(taus: Collection[str] = GPTJ, num_layers: int = 4, *, without: Collection[Matrix] = ()) -> Layout:
    """Which matrices a model has, but not the matrices: planning looks at names alone."""
    matrices = itertools.starmap(Matrix, itertools.product(taus, range(num_layers)))
    return Layout((nn.Identity(),) * num_layers, dict.fromkeys(matrix for matrix in matrices if matrix not in without))


def ask(
    tau: Sequence[str] | str = "fc_in",
    layer: Sequence[LayerName] | LayerName = 0,
    rho: Sequence[float] | float = 0.1,
    *,
    of: Layout | None = None,
    by: Intervention = LASER,
) -> list[Candidate]:
    axes = Axes(
        tau=(tau,) if isinstance(tau, str) else tuple(tau),
        layer=(layer,) if isinstance(layer, int | str) else tuple(layer),
        rho=(rho,) if isinstance(rho, int | float) else tuple(rho),
    )
    return find_space(axes, by, of or layout(), "gptj").grid()


def matrices(candidate: Candidate) -> set[tuple[str, int]]:
    return {(edit.matrix.tau, edit.matrix.layer) for edit in candidate.edits}


def test_one_of_each_is_one_edit_of_one_matrix() -> None:
    [candidate] = ask("fc_in", 2, 0.05)
    assert candidate.edits == (Edit(matrix=Matrix("fc_in", 2), rho=0.05, method="laser"),)
    assert (candidate.tau, candidate.layer, candidate.rho) == ("fc_in", 2, 0.05)


def test_lists_are_combined_in_the_order_tau_layer_rho() -> None:
    candidates = ask(["fc_out", "fc_in"], [3, 1], [0.2, 0.1])
    assert [(p.tau, p.layer, p.rho) for p in candidates] == list(
        itertools.product(["fc_out", "fc_in"], [3, 1], [0.2, 0.1])
    )


@pytest.mark.parametrize(
    ("tau", "layer", "rho", "taus", "trials", "edits"),
    [
        ("each", "each", [0.1, 0.2], GPTJ, 6 * 4 * 2, 1),
        ("each", "each", 0.1, LLAMA, 7 * 4, 1),
        ("each", 1, 0.1, GPTJ, 6, 1),
        ("fc_in", "each", [0.1, 0.2, 0.3], GPTJ, 4 * 3, 1),
        ("fc_in", "all", 0.1, GPTJ, 1, 4),
        ("each", "all", 0.1, GPTJ, 6, 4),
        ("all", "all", 0.1, GPTJ, 1, 6 * 4),
        ("all", "each", 0.1, LLAMA, 4, 7),
        ("attn", "each", 0.1, GPTJ, 4, 4),
        ("mlp", "last", 0.1, GPTJ, 1, 2),
        ("mlp", "last", 0.1, LLAMA, 1, 3),
        (["mlp", "attn", "fc_in"], [0, 1], 0.1, GPTJ, 6, None),
    ],
)
def test_a_grid_has_as_many_trials_as_its_words_say(
    tau: str, layer: LayerName, rho: float, taus: tuple[str, ...], trials: int, edits: int | None
) -> None:
    candidates = ask(tau, layer, rho, of=layout(taus))
    assert len(candidates) == trials
    assert len({candidate.edits for candidate in candidates}) == trials
    if edits is not None:
        assert {len(candidate.edits) for candidate in candidates} == {edits}


def test_all_edits_every_matrix_of_the_model_together() -> None:
    [candidate] = ask("all", "all", 0.1)
    assert matrices(candidate) == set(itertools.product(GPTJ, range(4)))
    assert (candidate.tau, candidate.layer) == ("all", None)


def test_a_group_has_only_those_members_that_the_model_has() -> None:
    [of_gptj] = ask("mlp", 1, 0.1, of=layout(GPTJ))
    [of_llama] = ask("mlp", 1, 0.1, of=layout(LLAMA))
    assert matrices(of_gptj) == {("fc_in", 1), ("fc_out", 1)}
    assert matrices(of_llama) == {("fc_in", 1), ("fc_up", 1), ("fc_out", 1)}


@pytest.mark.parametrize(("name", "layer"), [("last", 3), (-1, 3), (-4, 0), (-2, 2), (0, 0)])
def test_last_and_negative_layers_count_from_the_end(name: LayerName, layer: int) -> None:
    [candidate] = ask("fc_in", name, 0.1)
    assert matrices(candidate) == {("fc_in", layer)}
    assert candidate.layer == layer


def test_one_layer_by_several_names_is_one_trial() -> None:
    assert len(ask("fc_in", ["last", -1, 3, "each"], 0.1)) == 4


def test_a_group_of_one_matrix_and_that_matrix_are_one_trial() -> None:
    candidates = ask(["fc_in", "mlp"], 0, 0.1, of=layout(["q_proj", "fc_in"]))
    assert [candidate.tau for candidate in candidates] == ["fc_in"]


def test_equal_rhos_are_one_trial() -> None:
    assert len(ask(rho=[0.1, 0.10, 0.1])) == 1
    assert ask(rho=0) == ask(rho=0.0)


def test_keeping_everything_proposes_nothing() -> None:
    assert ask(rho=1) == []
    assert [candidate.rho for candidate in ask(rho=[0.5, 1.0, 0.1])] == [0.5, 0.1]


@pytest.mark.parametrize("method", ["randomized", "prune"])
def test_keeping_everything_proposes_nothing_by_any_method(method: str) -> None:
    assert ask(rho=[1.0], by=Intervention(name=method, method=method)) == []


def test_the_zero_matrix_is_one_trial_whatever_rho_says() -> None:
    candidates = ask("fc_in", [0, 1], [0.1, 0.5, 1.0], by=Intervention(name="zero", method="zero"))
    assert [(candidate.layer, candidate.rho) for candidate in candidates] == [(0, 0.0), (1, 0.0)]
    assert {edit.rho for candidate in candidates for edit in candidate.edits} == {0.0}


def test_of_what_laser_removes_rho_0_is_everything_and_rho_1_an_edit_that_leaves_nothing() -> None:
    removed = Intervention(name="removed", method="removed")
    assert [candidate.rho for candidate in ask(rho=[0.0, 0.5, 1.0], by=removed)] == [0.5, 1.0]
    assert ask(rho=0.0, by=removed) == []


@pytest.mark.parametrize("search", ["halving", "gradient"])
def test_what_laser_removes_is_not_for_a_search_that_varies_rho(search: str) -> None:
    """Theirs is the way down from the whole matrix, and here a smaller ρ leaves more of it."""
    space = Space(intervention=Intervention(name="removed", method="removed"), places=(), rhos=(0.1,))
    with pytest.raises(RequestError, match=rf"search={search} cannot vary intervention=removed \(removed\); give an "):
        check_search(SPECS[search](), [space], "accuracy")


def test_no_intervention_proposes_nothing_but_still_checks_the_axes() -> None:
    none = Intervention(name="none", method="none")
    assert ask("each", "each", [0.1, 0.2], by=none) == []
    with pytest.raises(RequestError, match="layer=9"):
        ask(layer=9, by=none)


def test_options_are_part_of_an_edit_whatever_their_order() -> None:
    one = Intervention(name="randomized", method="randomized", options={"seed": 1, "oversampling": 4})
    other = Intervention(name="randomized", method="randomized", options={"oversampling": 4, "seed": 1})
    assert ask(by=one) == ask(by=other)
    assert ask(by=one)[0].edits[0].options == (("oversampling", 4), ("seed", 1))


def test_each_leaves_out_matrices_that_a_layer_does_not_have() -> None:
    """Models whose blocks differ: `each` is every matrix that there is."""
    uneven = layout(["fc_in", "fc_up"], 3, without=[Matrix("fc_up", 0)])
    candidates = ask("each", "each", 0.1, of=uneven)
    assert [matrix for candidate in candidates for matrix in sorted(matrices(candidate))] == [
        ("fc_in", 0), ("fc_in", 1), ("fc_in", 2), ("fc_up", 1), ("fc_up", 2),
    ]  # fmt: skip


def test_an_unknown_matrix_is_named_with_what_there_is() -> None:
    with pytest.raises(RequestError) as refused:
        ask("fc_inn")
    message = str(refused.value)
    assert "tau=fc_inn" in message
    assert "did you mean fc_in?" in message
    for name in (*LLAMA, "attn", "mlp", "all", "each"):
        assert name in message
    assert "\n" not in message


def test_a_matrix_that_this_model_lacks_is_named_with_the_model() -> None:
    with pytest.raises(RequestError) as refused:
        ask("fc_up", of=layout(GPTJ))
    message = str(refused.value)
    assert "tau=fc_up does not exist in gptj" in message
    for name in GPTJ:
        assert name in message


@pytest.mark.parametrize("layer", [4, 32, -5])
def test_a_layer_that_this_model_lacks_is_named_with_the_model_and_its_layers(layer: int) -> None:
    with pytest.raises(RequestError, match=rf"layer={layer} does not exist in gptj \(4 layers, 0\.\.3, .*last"):
        ask(layer=layer)


def test_names_can_be_checked_without_a_model() -> None:
    axes = Axes(tau=("nonsense",), layer=(7, "each"), rho=(0.1,))
    with pytest.raises(RequestError, match="tau=nonsense"):
        check_taus(axes)
    with pytest.raises(RequestError, match="layer=7 does not exist in tiny"):
        check_layers(axes, 7, "tiny")
    check_layers(axes, 8, "tiny")


tau_names = st.lists(st.sampled_from([*GPTJ, "each", "mlp", "attn", "all"]), min_size=1, max_size=4)
layer_names = st.lists(st.integers(-4, 3) | st.sampled_from(["last", "each", "all"]), min_size=1, max_size=4)
rhos = st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0]), min_size=1, max_size=4)


@given(tau=tau_names, layer=layer_names, rho=rhos)
def test_every_candidate_is_distinct_and_edits_existing_matrices_once(
    tau: list[str], layer: list[LayerName], rho: list[float]
) -> None:
    there = layout()
    candidates = ask(tau, layer, rho, of=there)
    assert len({candidate.edits for candidate in candidates}) == len(candidates)
    for candidate in candidates:
        assert candidate.rho < 1
        assert {edit.rho for edit in candidate.edits} == {candidate.rho}
        assert len(matrices(candidate)) == len(candidate.edits) > 0
        assert {edit.matrix for edit in candidate.edits} <= set(there.weights)


@given(tau=tau_names, layer=layer_names, rho=rhos)
def test_asking_for_more_only_adds(tau: list[str], layer: list[LayerName], rho: list[float]) -> None:
    before = {candidate.edits for candidate in ask(tau, layer, rho)}
    after = {candidate.edits for candidate in ask([*tau, "fc_in"], [*layer, 2], [*rho, 0.25])}
    assert before <= after
    assert (Edit(matrix=Matrix("fc_in", 2), rho=0.25),) in after
