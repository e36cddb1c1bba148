"""Whether a model still reads its prompts: answers that are one class whatever is asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from laser_sweep.trial import Metrics


class ConstantAnswer(NamedTuple):
    """What a model says whatever it is asked, and the share of the examples, in 0..1, to which it says it."""

    label: str
    share: float

    def __str__(self) -> str:
        return f"'{self.label}' to {100 * self.share:.1f} %"


def constant_answer(
    prediction_counts: Iterable[tuple[str, int]] | None, *, least_share: float = 0.95
) -> ConstantAnswer | None:
    """The answer given to at least `least_share` of the examples, from how often each of the choices was given.

    None where there is no such answer, where answers are not classes, and where there is no choice of more than one.
    """
    counts = dict(prediction_counts or ())
    total = sum(counts.values())
    if len(counts) < 2 or total == 0:
        return None
    label = max(counts, key=counts.__getitem__)
    share = counts[label] / total
    return ConstantAnswer(label, share) if share >= least_share else None


def flip_to_constant(winner: Metrics, untouched: Metrics) -> str | None:
    """A sentence on a winner whose accuracy is that of a constant answer, measured on the same examples as `untouched`.

    None where it is not. An edit can raise accuracy a lot by making a model say the majority class, as in the published
    37.1 % -> 62.9 % of two classes: a model that says one class always, then the other.
    """
    said, before = constant_answer(winner.prediction_counts), constant_answer(untouched.prediction_counts)
    if said is None or _beats_majority(winner):
        return None
    figures = ", ".join(
        f"{name} {100 * value:.1f} %"
        for name, value in (
            ("majority class", winner.majority_accuracy),
            ("balanced accuracy", winner.balanced_accuracy),
        )
        if value is not None
    )
    whatever = "whatever is asked" + (f" ({figures})" if figures else "")
    what = "gain" if winner.score > untouched.score else "change"
    if before is None:
        return (
            f"the winner says {said} of the examples: it answers the same {whatever}, "
            f"so its {what} is a flip to a constant answer"
        )
    both = f"the winner says {said} of the examples, the untouched model {before}: both answer the same {whatever}, "
    if before.label == said.label:
        return both + f"so its {what} comes from the few other answers"
    return both + f"so its {what} is a flip from one constant answer to another"


def _beats_majority(metrics: Metrics) -> bool:
    """Whether the few answers that are not the constant one are worth something.

    Where nearly all examples are of one class, a model that knows every answer says that class nearly always too.
    """
    majority, stderr = metrics.majority_accuracy, metrics.score_stderr
    return majority is not None and stderr is not None and metrics.score - majority > stderr
