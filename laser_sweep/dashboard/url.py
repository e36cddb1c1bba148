"""What the dashboard shows <-> the address that shows it: a link is the whole view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

from laser_sweep.errors import listing, suggestion
from laser_sweep.figures.words import rho_text

PageName: TypeAlias = Literal["sweeps", "heat-maps", "trials", "trial", "compare", "leaderboard", "failures"]
PAGES: tuple[PageName, ...] = get_args(PageName)
Group: TypeAlias = Literal["sweep", "model"]
"""What can be compared besides trials."""
Figure: TypeAlias = Literal["gain", "accuracy", "log_loss", "coverage"]
"""What is drawn for each τ."""

MOST_VALUES = 1000  # of one setting
_SHOWN = 80  # characters of a wrong value that a message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which trials are looked at: for each column the values that are let through, all where there are none.

    Values are text, as they stand in the page: a layer is a number or `all`, a ρ has five digits. Each word of `search`
    has to occur somewhere in a trial's names, key, place or error.
    """

    sweep: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    intervention: tuple[str, ...] = ()
    tau: tuple[str, ...] = ()
    layer: tuple[str, ...] = ()
    rho: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    search: str = ""

    def columns(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(column, values) for each column that filters."""
        for name in COLUMNS:
            if values := getattr(self, name):
                yield name, values

    def toggled(self, column: str, value: str) -> Filters:
        """With a value let through that was not, or the other way round."""
        values: tuple[str, ...] = getattr(self, column)
        now = tuple(one for one in values if one != value) if value in values else (*values, value)
        return self._with(column, now)

    def without(self, column: str) -> Filters:
        """With every value of a column let through."""
        return self._with(column, ())

    def _with(self, column: str, values: tuple[str, ...]) -> Filters:
        changes: dict[str, Any] = {column: values}
        return replace(self, **changes)


COLUMNS = tuple(one.name for one in fields(Filters) if one.name != "search")
"""The columns of the store that can be filtered by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one page shows.

    `trial` are keys, or the beginnings of keys, of the trials that the page is about. `of` names what is compared where
    it is not trials: sweeps or models, as `by` says. `comparison` is the key of a ComparisonView. `sort` is a column of
    the page's table, with a minus in front for the largest first; `columns` are filters inside that table, as JSON.
    """

    page: PageName = "sweeps"
    filters: Filters = field(default_factory=Filters)
    trial: tuple[str, ...] = ()
    by: Group | None = None
    of: tuple[str, ...] = ()
    comparison: str = ""
    figure: Figure = "gain"
    outcome: str = ""
    everything: bool = False
    sort: str = ""
    columns: str = ""

    @property
    def href(self) -> str:
        """The address of this view on this server."""
        query = urlencode(list(self._query()))
        path = "/" if self.page == "sweeps" else f"/{self.page}"
        return f"{path}?{query}" if query else path

    def open(self, setting: str) -> str:
        """The address up to the value of one more setting, for links that append it."""
        return f"{self.href}{'&' if '?' in self.href else '?'}{setting}="

    def at(self, page: PageName, **changes: Any) -> View:
        """Another page with the same filters."""
        return View(page=page, filters=self.filters, **changes)

    def changed(self, **changes: Any) -> View:
        """The same page otherwise."""
        return replace(self, **changes)

    def _query(self) -> Iterator[tuple[str, str]]:
        for name, values in self.filters.columns():
            yield from ((name, value) for value in values)
        if self.filters.search:
            yield "search", self.filters.search
        for name in _SETTINGS:
            value = getattr(self, name)
            if isinstance(value, tuple):
                yield from ((name, one) for one in value)
            elif value and value != _DEFAULTS[name]:
                yield name, "yes" if value is True else str(value)


_SETTINGS = tuple(one.name for one in fields(View) if one.name not in ("page", "filters"))
_DEFAULTS = {name: getattr(View(), name) for name in _SETTINGS}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "by": get_args(Group),
    "figure": get_args(Figure),
    "everything": ("yes",),
    "status": ("done", "failed"),
}


def parse(address: str) -> tuple[View, list[str]]:
    """The view of an address, and what in it is wrong, in sentences for the person who followed it.

    What is wrong is left out of the view. Raises nothing, whatever the address is.
    """
    wrong: list[str] = []
    try:
        parts = urlsplit(address)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10 * MOST_VALUES)
    except ValueError:
        return View(), ["this address cannot be read"]
    path = parts.path.strip("/")
    page = next((name for name in PAGES if name == path), None)
    if page is None:
        if path:
            wrong.append(f"there is no page {_short(path)}{suggestion(path, PAGES)}; there are {listing(PAGES)}")
        page = "sweeps"
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in (*COLUMNS, "search", *_SETTINGS):
            known = (*COLUMNS, "search", *_SETTINGS)
            wrong.append(f"{_short(name)} is no setting of a page{suggestion(name, known)}")
        elif value := value.strip():
            found.setdefault(name, []).append(value)
    filters: Any = {name: _values(name, found.get(name, ()), wrong) for name in COLUMNS}
    settings: Any = {name: _setting(name, found.get(name, ()), wrong) for name in _SETTINGS if name in found}
    view = View(page=page, filters=Filters(search=" ".join(found.get("search", ())), **filters), **settings)
    return view, list(dict.fromkeys(wrong))


def _values(name: str, values: Iterable[str], wrong: list[str]) -> tuple[str, ...]:
    """The values of a column that can be values of it, each once."""
    read = {"layer": _layer, "rho": _rho}.get(name, _text)
    kept: dict[str, None] = {}
    for value in values:
        one = read(value)
        if one is None or one not in _CHOICES.get(name, (one,)):
            wrong.append(f"{name}={_short(value)} is no {name}{_allowed(name)}")
        else:
            kept[one] = None
    return tuple(kept)[:MOST_VALUES]


def _setting(name: str, values: Iterable[str], wrong: list[str]) -> Any:
    default = _DEFAULTS[name]
    kept = _values(name, values, wrong)
    if isinstance(default, tuple):
        return kept
    if len(kept) > 1:
        wrong.append(f"{name} has {len(kept):,} values and takes one; the first counts")
    if not kept:
        return default
    return True if name == "everything" else kept[0]


def _allowed(name: str) -> str:
    choices = _CHOICES.get(name)
    if choices is not None:
        return f"; there are {listing(choices)}"
    return {"layer": "; give a number from 0, or all", "rho": "; give a fraction from 0 to 1"}.get(name, "")


def _text(value: str) -> str | None:
    return value


def _layer(value: str) -> str | None:
    if value == "all":
        return value
    return str(int(value)) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _rho(value: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return rho_text(number + 0.0) if 0 <= number <= 1 else None


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
