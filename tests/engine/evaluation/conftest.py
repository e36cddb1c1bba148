"""Models and examples to differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from transformers import PreTrainedModel

from laser_sweep.engine.tasks.tokenise import Encoded

from .cases import BuildModel, Case, build, examples


@pytest.fixture
def make_case(build_model: BuildModel, build_masked: BuildModel) -> Callable[..., Case]:
    """`make_case(architecture or model, examples)`: in float64, unless the model is given."""

    def make(model: str | PreTrainedModel, encoded: Sequence[Encoded] | None = None) -> Case:
        if isinstance(model, str):
            model = build(model, build_model, build_masked)
        return Case(model, examples() if encoded is None else encoded)

    return make
