"""`search=optuna`: Optuna's TPE over τ, ℓ, ρ, the intervention and its options.

Optuna's study is made anew from what has been told each time it is asked, with a seed that depends on how much that is:
so the search is a value like the others, and a sweep that was cut off goes on as it would have gone on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from laser_sweep.errors import RequestError
from laser_sweep.sweep.protocols import AskTrials, Candidate, Findings
from laser_sweep.sweep.search.space import Space, grid
from laser_sweep.sweep.search.spec import OptunaSpec

if TYPE_CHECKING:
    import optuna

Parameters: TypeAlias = Mapping[str, Any]
_ATTEMPTS = 10  # suggestions of known candidates that are put up with for each new one


def check_optuna() -> None:
    """Raises RequestError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise RequestError("search=optuna needs Optuna: pip install 'laser-sweep[optuna]', or give another search")


def make_optuna(spec: OptunaSpec, spaces: Sequence[Space], seed: int) -> OptunaSearch:
    return OptunaSearch(spec=spec, choices=_choices(spaces), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptunaSearch:
    """`choices` are all candidates with their parameters; `told` are those that were measured, None where that
    failed.
    """

    spec: OptunaSpec
    choices: tuple[tuple[Candidate, Parameters], ...]
    seed: int
    told: tuple[tuple[Candidate, float | None], ...] = ()

    def ask(self) -> AskTrials | None:
        left = min(self.spec.max_trials, len(self.choices)) - len(self.told)
        if left <= 0:
            return None
        return AskTrials(candidates=tuple(self._suggest(min(self.spec.batch, left))))

    def tell(self, found: Findings) -> OptunaSearch:
        asked = self.ask()
        assert asked is not None
        scores = [found.scores.get(candidate.edits) for candidate in asked.candidates]
        values = [None if score is None else score.value[0] for score in scores]
        return replace(self, told=(*self.told, *zip(asked.candidates, values, strict=True)))

    def _suggest(self, count: int) -> list[Candidate]:
        """Candidates that have not been measured, as Optuna wants them; where it insists on known ones, the next."""
        import optuna

        distributions = self._distributions()
        study = self._study(distributions)
        values = {candidate.edits: value for candidate, value in self.told}
        chosen: list[Candidate] = []
        for _ in range(_ATTEMPTS * count):
            trial = study.ask(distributions)
            candidate = self._nearest(trial.params)
            if candidate.edits in values:
                known = values[candidate.edits]
                state = optuna.trial.TrialState.FAIL if known is None else optuna.trial.TrialState.COMPLETE
                study.tell(trial, known, state)
            elif candidate not in chosen:
                chosen.append(candidate)
                if len(chosen) == count:
                    return chosen
        rest = (one for one, _ in self.choices if one.edits not in values and one not in chosen)
        return [*chosen, *(next(rest) for _ in range(count - len(chosen)))]

    def _study(self, distributions: Mapping[str, optuna.distributions.BaseDistribution]) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed + len(self.told), constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        parameters = {candidate.edits: parameters for candidate, parameters in self.choices}
        for candidate, value in self.told:
            state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(parameters[candidate.edits]),
                    distributions=dict(distributions),
                    value=value,
                    state=state,
                )
            )
        return study

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Numbers and ranges for ℓ and ρ, so that neighbours are known as such; ρ by its place in the order."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        values = {
            name: list(dict.fromkeys(parameters[name] for _, parameters in self.choices)) for name in self.choices[0][1]
        }
        return {
            name: IntDistribution(min(seen), max(seen)) if name in ("layer", "rho") else CategoricalDistribution(seen)
            for name, seen in values.items()
        }

    def _nearest(self, wanted: Parameters) -> Candidate:
        """The candidate with these parameters; where the layers of a model are not alike, one as near as can be."""

        def distance(choice: tuple[Candidate, Parameters]) -> tuple[int, int, int]:
            parameters = choice[1]
            different = sum(parameters[name] != wanted[name] for name in wanted if name not in ("layer", "rho"))
            return different, abs(parameters["layer"] - wanted["layer"]), abs(parameters["rho"] - wanted["rho"])

        return min(self.choices, key=distance)[0]

    def notes(self) -> Sequence[str]:
        return [f"Optuna's TPE chose {len(self.told)} of {len(self.choices)} candidates"]


def _choices(spaces: Sequence[Space]) -> tuple[tuple[Candidate, Parameters], ...]:
    candidates = grid(spaces)
    rhos = sorted({candidate.rho for candidate in candidates if candidate.rho is not None})
    names = dict.fromkeys(name for candidate in candidates for name, _ in candidate.edits[0].options)
    return tuple(
        (
            candidate,
            {
                "intervention": candidate.intervention,
                "tau": candidate.tau,
                "layer": -1 if candidate.layer is None else candidate.layer,
                "rho": 0 if candidate.rho is None else rhos.index(candidate.rho),
                **dict.fromkeys(names),
                **dict(candidate.edits[0].options),
            },
        )
        for candidate in candidates
    )
