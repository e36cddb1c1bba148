"""Answers to hold against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

MakePredictions = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def make_predictions() -> MakePredictions:
    def make(
        said: Sequence[str], gold: Sequence[str], *, ids: Sequence[str] | None = None, **columns: Sequence[object]
    ) -> pd.DataFrame:
        """A table as `read_predictions` gives it, of a trial that gave these answers; `columns` are the data set's."""
        count = len(said)
        log_probs = -np.linspace(0.25, 2.0, count) - np.array(
            [answer != right for answer, right in zip(said, gold, strict=True)]
        )
        return pd.DataFrame(
            {
                "trial_key": ["0123456789abcdef"] * count,
                "example_id": [str(number) for number in range(count)] if ids is None else list(ids),
                "gold": list(gold),
                "prediction": list(said),
                "correct": [answer == right for answer, right in zip(said, gold, strict=True)],
                "gold_log_prob": log_probs,
                "group": columns.get("group", [None] * count),
                "subject": columns.get("subject", [None] * count),
                "relation": columns.get("relation", [None] * count),
                "frequency": columns.get("frequency", [np.nan] * count),
            }
        )

    return make
