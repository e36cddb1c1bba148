"""How the figures of a trial are said in a sentence, at the end of a sweep and in a report alike."""

from __future__ import annotations

from laser_sweep.analysis.multiplicity import luck
from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.measures import Measure, Measures
from laser_sweep.trial import Metrics


def measured_text(metrics: Metrics) -> str:
    """`98.7 ± 0.3 %, log-loss 0.555`, and what else was measured."""
    score, loss = metrics.measures.score, metrics.measures.loss
    parts = [f"{score.label}{score.text(metrics.score, metrics.score_stderr)}"]
    parts += [] if metrics.loss is None else [f"{loss.name} {loss.number(metrics.loss)}"]
    also = {
        "majority class": metrics.majority_accuracy,
        "balanced": metrics.balanced_accuracy,
        "F1": metrics.f1,
        "groups wholly right": metrics.group_accuracy,
        "success": metrics.success_rate,
    }
    parts += [f"{name} {100 * value:.1f} %" for name, value in also.items() if value is not None]
    parts += [f"{metrics.num_skipped:,} rows left out"] if metrics.num_skipped else []
    return ", ".join(parts)


def gain_text(gain: PairedGain, score: Measure) -> str:
    """`gain +53.9 ± 1.1 points (95 %: +51.7 to +56.1), p = 5.4e-312`."""
    return (
        f"gain {score.change(gain.gain, gain.stderr)}{score.points} "
        f"(95 %: {score.change(gain.low)} to {score.change(gain.high)}), p = {gain.p_value:.2g}"
    )


def luck_text(
    gain: PairedGain, num_examples: int, num_candidates: int, measures: Measures, dataset: str = ""
) -> str | None:
    """What to think of a winner that was picked on too few examples for so many candidates; None on enough."""
    found = luck(gain, num_examples, num_candidates, measures)
    if found is None:
        return None
    score, example = measures.score, measures.example
    of = f" of {dataset}" if dataset else ""
    return (
        f"picked among {num_candidates:,} on {num_examples:,} {example}s{of}, where the best of so many without any "
        f"effect would show {score.change(found.best)}{score.points}; to tell the winner's {score.change(gain.gain)} "
        f"from that takes {found.needed:,} {example}s: believe the figures on test"
    )
