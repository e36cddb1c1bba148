"""Which trials pass the filters of a view, and how many each further value would let through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from laser_sweep.analysis.comparisons import ComparisonView, is_untouched
from laser_sweep.dashboard.url import COLUMNS, Filters
from laser_sweep.figures.cells import ALL_LAYERS, layer_text
from laser_sweep.figures.words import rho_text
from laser_sweep.trial import GROUPS, TAUS

Mask: TypeAlias = npt.NDArray[np.bool_]

_OF_BASELINES = ("model", "dataset", "split")
_SEARCHED = ("trial_key", "sweep", "model", "dataset", "intervention", "tau", "status", "worker", "device", "error")
_REMEMBERED = 64


@dataclass(frozen=True)
class Facet:
    """A column to filter by: its values as text in their order, and how many trials each would let through."""

    column: str
    values: tuple[str, ...]
    counts: tuple[int, ...]


class Index:
    """Answers questions about the filters of trials fast, once the values of each column have been numbered."""

    def __init__(self, trials: pd.DataFrame) -> None:
        self._trials = trials
        self._values: dict[str, list[str]] = {}
        self._codes: dict[str, npt.NDArray[np.intp]] = {}
        for column in COLUMNS:
            self._codes[column], self._values[column] = _numbered(column, trials)
        self._masks = lru_cache(maxsize=_REMEMBERED)(self._masks_of)

    def passing(self, filters: Filters) -> Mask:
        """Which trials (trials,) pass all filters."""
        return _all(self._masks(filters).values(), len(self._trials))

    def passing_with_baselines(self, filters: Filters) -> Mask:
        """The same, and the untouched models that those are held against: filters of edits do not apply to them."""
        masks = self._masks(filters)
        baselines = self._untouched & _all(
            (mask for column, mask in masks.items() if column in _OF_BASELINES), len(self._trials)
        )
        return _all(masks.values(), len(self._trials)) | baselines

    def facets(self, filters: Filters) -> Iterator[Facet]:
        """Each column with what its values would let through, given the filters of all other columns.

        Values that are filtered by are there even where no trial has them.
        """
        masks = self._masks(filters)
        for column in COLUMNS:
            others = _all((mask for name, mask in masks.items() if name != column), len(self._trials))
            codes = self._codes[column][others]
            counts = np.bincount(codes[codes >= 0], minlength=len(self._values[column])).tolist()
            absent = [value for value in getattr(filters, column) if value not in self._values[column]]
            yield Facet(column, (*self._values[column], *absent), (*counts, *[0] * len(absent)))

    def values(self, column: str) -> list[str]:
        """All values of a column, as text, in order."""
        return self._values[column]

    def _masks_of(self, filters: Filters) -> dict[str, Mask]:
        masks = {column: self._mask(column, values) for column, values in filters.columns()}
        if filters.search:
            words = filters.search.lower().split()
            masks["search"] = _all(
                (self._text.str.contains(word, regex=False).to_numpy() for word in words), len(self._text)
            )
        return masks

    def _mask(self, column: str, values: tuple[str, ...]) -> Mask:
        known = {value: code for code, value in enumerate(self._values[column])}
        return np.isin(self._codes[column], [known[value] for value in values if value in known])

    @cached_property
    def _untouched(self) -> Mask:
        return is_untouched(self._trials).to_numpy()

    @cached_property
    def _text(self) -> pd.Series[str]:
        """What the words of a search are looked up in, for each trial."""
        columns = [self._trials[column].fillna("").astype("str") for column in _SEARCHED]
        text = columns[0]
        for column in columns[1:]:
            text = text + "\n" + column
        return text.str.lower()


def filtered(comparison: ComparisonView, passing: Mask) -> ComparisonView:
    """A comparison with those of its trials that pass; its rows keep the index that they have among all trials."""
    return replace(comparison, trials=comparison.trials[passing[comparison.trials.index.to_numpy()]])


def text_of(column: str, value: Any) -> str:
    """A value as filters and addresses spell it; infinity stands for all layers together."""
    if column == "layer":
        return ALL_LAYERS if np.isinf(value) else layer_text(value)
    return rho_text(value) if column == "rho" else str(value)


def in_order_of_a_block(taus: Iterable[str]) -> list[str]:
    """Matrix types as a block applies them, groups last."""
    place = {name: number for number, name in enumerate((*TAUS, *GROUPS))}
    return sorted(taus, key=lambda tau: (place.get(tau.partition(".")[0], len(place)), tau))


def _numbered(column: str, trials: pd.DataFrame) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Each trial's value as a number, -1 where it has none, and the values as text in the order of the numbers."""
    found = trials[column]
    if column == "layer":  # null is all layers together, but for trials that have no τ
        found = found.where(found.notna() | trials["tau"].isna(), np.inf)
    codes, values = pd.factorize(found, sort=True)
    texts = [text_of(column, value) for value in values]
    unique = list(dict.fromkeys(texts))  # two fractions may read alike, then they are one value
    if column == "tau":
        unique = in_order_of_a_block(unique)
    return np.array([*map(unique.index, texts), -1], dtype=np.intp)[codes], unique


def _all(masks: Iterable[Mask], count: int) -> Mask:
    passing = np.ones(count, dtype=bool)
    for mask in masks:
        passing &= mask
    return passing
