"""The matrices of a Decision Transformer, whose blocks are GPT-2's: transposed, with queries, keys and values fused."""

from __future__ import annotations

import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix

SIZE = 24
PLACES = {
    "q_proj": ("attn.c_attn", slice(0, SIZE)),
    "k_proj": ("attn.c_attn", slice(SIZE, 2 * SIZE)),
    "v_proj": ("attn.c_attn", slice(2 * SIZE, 3 * SIZE)),
    "out_proj": ("attn.c_proj", slice(None)),
    "fc_in": ("mlp.c_fc", slice(None)),
    "fc_out": ("mlp.c_proj", slice(None)),
}
"""The map, and its columns: a Conv1D holds (in, out)."""


@pytest.fixture(scope="module")
def model() -> DecisionTransformerModel:
    torch.manual_seed(0)
    config = DecisionTransformerConfig(state_dim=5, act_dim=2, hidden_size=SIZE, n_layer=3, n_head=2, n_inner=40)
    return DecisionTransformerModel(config).eval()


def test_every_block_has_queries_keys_values_and_both_maps_of_its_mlp(model: DecisionTransformerModel) -> None:
    layout = find_layout(model)
    assert layout.num_layers == 3
    assert set(layout.weights) == {Matrix(tau, layer) for tau in PLACES for layer in range(3)}
    assert layout.shape(Matrix("q_proj", 0)) == (SIZE, SIZE)
    assert layout.shape(Matrix("fc_in", 2)) == (40, SIZE)
    assert layout.shape(Matrix("fc_out", 1)) == (SIZE, 40)


@pytest.mark.parametrize("tau", PLACES)
def test_an_edit_is_the_truncated_svd_of_these_columns_and_of_nothing_else(
    model: DecisionTransformerModel, tau: str
) -> None:
    name, columns = PLACES[tau]
    path = f"encoder.h.1.{name}.weight"
    before = {key: value.clone() for key, value in model.state_dict().items()}
    matrix = before[path][:, columns].double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = int(min(matrix.shape) * 0.25)
    expected = before[path].double()
    expected[:, columns] = (left[:, :kept] * values[:kept]) @ right[:kept]
    with Editor(find_layout(model)).applied((Edit(matrix=Matrix(tau, 1), rho=0.25),)):
        during = {key: value.clone() for key, value in model.state_dict().items()}
    torch.testing.assert_close(during[path].double(), expected, rtol=0, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in during.items() if key != path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
