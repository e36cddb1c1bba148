"""What an edit leaves, as factors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.editing.low_rank import LowRank
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix, Option

CLUSTERED: dict[str, Option] = {"clusters": 3, "partition": "consecutive", "allocation": "pooled", "seed": 0}


def test_rows_of_blocks_stand_where_the_order_says() -> None:
    first = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 10.0]])
    second = torch.tensor([[3.0]]), torch.tensor([[1.0, 100.0]])
    in_order = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 300.0]])
    assert torch.equal(LowRank((first, second)).product(), in_order)
    shuffled = LowRank((first, second), torch.tensor([2, 0, 1])).product()
    assert torch.equal(shuffled, torch.tensor([[2.0, 20.0], [3.0, 300.0], [1.0, 10.0]]))


@pytest.mark.parametrize(
    ("method", "rho", "options"),
    [
        ("laser", 0.2, {}),
        ("laser", 0.0, {}),
        ("removed", 0.2, {}),
        ("removed", 1.0, {}),
        ("randomized", 0.2, {"seed": 0, "power_iterations": 2}),
        ("clustered", 0.3, CLUSTERED),
        ("clustered", 0.3, {**CLUSTERED, "partition": "subspaces"}),
        ("zero", 0.0, {}),
    ],
)
@pytest.mark.parametrize("tau", ["fc_in", "fc_out"])
def test_the_factors_of_an_edit_multiply_to_what_it_puts_in_place(
    tau: str,
    method: str,
    rho: float,
    options: dict[str, Option],
    build_model: Callable[..., PreTrainedModel],
    bits: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    layout = find_layout(build_model("gptj"))
    weight = layout.weights[Matrix(tau, 1)]
    before = bits(weight.read())
    editor = Editor(layout)
    edit = Edit(matrix=Matrix(tau, 1), rho=rho, method=method, options=tuple(sorted(options.items())))
    replacement = editor.replacement(edit)
    assert torch.equal(bits(weight.read()), before)
    with editor.applied([edit]):
        in_place = weight.read().clone()
    assert torch.equal(replacement.weight, in_place)
    assert replacement.low_rank is not None
    low_rank = replacement.low_rank()
    torch.testing.assert_close(low_rank.product(), in_place, rtol=0, atol=1e-5)
    assert sum(left.shape[1] for left, _ in low_rank.blocks) == (replacement.footprint.rank or 0)


def test_pruned_weights_have_no_factors(build_model: Callable[..., PreTrainedModel]) -> None:
    editor = Editor(find_layout(build_model("gptj")))
    assert editor.replacement(Edit(matrix=Matrix("fc_in", 1), rho=0.5, method="prune")).low_rank is None
    with pytest.raises(ValueError, match=r"the model has no fc_up\[1\]"):
        editor.replacement(Edit(matrix=Matrix("fc_up", 1), rho=0.5))
