"""How the figures of a trial are said in a sentence, at the end of a sweep and in a report alike."""

from __future__ import annotations

from laser_sweep.analysis.multiplicity import examples_needed, expected_best_of_null
from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.trial import Metrics


def measured_text(metrics: Metrics) -> str:
    """`98.7 ± 0.3 %, log-loss 0.555`, and what else was measured."""
    parts = [f"{100 * metrics.accuracy:.1f} ± {100 * metrics.accuracy_stderr:.1f} %, log-loss {metrics.log_loss:.3f}"]
    also = {
        "majority class": metrics.majority_accuracy,
        "balanced": metrics.balanced_accuracy,
        "F1": metrics.f1,
        "groups wholly right": metrics.group_accuracy,
    }
    parts += [f"{name} {100 * value:.1f} %" for name, value in also.items() if value is not None]
    parts += [f"{metrics.num_skipped:,} rows left out"] if metrics.num_skipped else []
    return ", ".join(parts)


def gain_text(gain: PairedGain) -> str:
    """`gain +53.9 ± 1.1 points (95 %: +51.7 to +56.1), p = 5.4e-312`."""
    return (
        f"gain {100 * gain.gain:+.1f} ± {100 * gain.stderr:.1f} points "
        f"(95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}), p = {gain.p_value:.2g}"
    )


def luck_text(gain: PairedGain, num_examples: int, num_candidates: int, dataset: str = "") -> str | None:
    """What to think of a winner that was picked on too few examples for so many candidates; None on enough."""
    if num_candidates < 2 or gain.gain <= 0:
        return None
    changed = (gain.wins + gain.losses) / num_examples
    needed = examples_needed(gain.gain, changed, num_candidates)
    if num_examples >= needed:
        return None
    luck = expected_best_of_null(changed, num_examples, num_candidates)
    of = f" of {dataset}" if dataset else ""
    return (
        f"picked among {num_candidates:,} on {num_examples:,} examples{of}, where the best of so many without any "
        f"effect would show {100 * luck:+.1f} points; to tell the winner's {100 * gain.gain:+.1f} from that takes "
        f"{needed:,} examples: believe the figures on test"
    )
