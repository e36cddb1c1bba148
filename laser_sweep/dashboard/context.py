"""What a page is made from: a view, and the trials of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from laser_sweep.analysis.comparisons import ComparisonView
from laser_sweep.dashboard.charts import Easel
from laser_sweep.dashboard.data import LiveStore, Snapshot
from laser_sweep.dashboard.filters import Mask, filtered
from laser_sweep.dashboard.url import View
from laser_sweep.errors import RequestError


@dataclass(frozen=True)
class Context:
    """A view of a snapshot; `store` answers what is read for one trial only, `easel` draws."""

    view: View
    snapshot: Snapshot
    store: LiveStore
    easel: Easel

    @cached_property
    def passing(self) -> Mask:
        """Which trials pass the filters."""
        return self.snapshot.index.passing(self.view.filters)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials that pass the filters."""
        return self.snapshot.trials[self.passing]

    @cached_property
    def comparisons(self) -> list[ComparisonView]:
        """What can be compared among the trials that pass, with the untouched models that they are held against."""
        with_baselines = self.snapshot.index.passing_with_baselines(self.view.filters)
        shown = (one for one in self.snapshot.comparisons if self.passing[one.trials.index.to_numpy()].any())
        return [filtered(one, with_baselines) for one in shown]

    def comparison(self) -> ComparisonView | None:
        """The one that the view names, else the first; None where there are none.

        Raises RequestError where the view names one that is not there.
        """
        if not self.view.comparison:
            return self.comparisons[0] if self.comparisons else None
        for one in self.comparisons:
            if one.key == self.view.comparison:
                return one
        known = any(one.key == self.view.comparison for one in self.snapshot.comparisons)
        why = "no trial of it passes the filters" if known else "this store has no such comparison"
        raise RequestError(f"comparison={self.view.comparison[:40]}: {why}")

    def resolved(self) -> Sequence[str]:
        """The keys of the trials that the view names. Raises RequestError for one that is unknown or ambiguous."""
        return list(dict.fromkeys(self.snapshot.resolve(prefix) for prefix in self.view.trial))
