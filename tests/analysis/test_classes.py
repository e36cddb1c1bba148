"""Models that answer the same whatever is asked."""

from __future__ import annotations

import math

import pytest

from laser_sweep.analysis.classes import constant_answer, flip_to_constant
from laser_sweep.trial import Metrics


def metrics(said: dict[str, tuple[int, int]] | None) -> Metrics:
    """What a model gets that says each class so often, and rightly so often, where 629 of 1,000 are 'no', 371 'yes'."""
    if said is None:
        return Metrics(num_examples=1000, accuracy=0.4, accuracy_stderr=0.015, log_loss=1.0)
    accuracy = sum(right for _, right in said.values()) / 1000
    return Metrics(
        num_examples=1000,
        accuracy=accuracy,
        accuracy_stderr=math.sqrt(accuracy * (1 - accuracy) / 1000),
        log_loss=1.0,
        majority_accuracy=0.629,
        balanced_accuracy=(said["no"][1] / 629 + said["yes"][1] / 371) / 2,
        prediction_counts=tuple((label, count) for label, (count, _) in said.items()),
    )


ALWAYS_YES = metrics({"yes": (1000, 371), "no": (0, 0)})
ALWAYS_NO = metrics({"yes": (0, 0), "no": (1000, 629)})
NEARLY_NO = metrics({"yes": (4, 2), "no": (996, 627)})
READS = metrics({"yes": (500, 300), "no": (500, 429)})


def test_the_published_case_is_a_flip_from_one_constant_to_another() -> None:
    """37.1 % -> 62.9 % on BIG-Bench epistemic reasoning: the two add up to 100 %."""
    assert ALWAYS_YES.accuracy + ALWAYS_NO.accuracy == 1
    assert flip_to_constant(ALWAYS_NO, ALWAYS_YES) == (
        "the winner says 'no' to 100.0 % of the examples, the untouched model 'yes' to 100.0 %: both answer the same "
        "whatever is asked (majority class 62.9 %, balanced accuracy 50.0 %), so its gain is a flip from one constant "
        "answer to another"
    )


def test_a_winner_that_stopped_reading_is_said() -> None:
    guesses = metrics({"yes": (600, 250), "no": (400, 279)})
    assert flip_to_constant(NEARLY_NO, guesses) == (
        "the winner says 'no' to 99.6 % of the examples: it answers the same whatever is asked (majority class 62.9 %, "
        "balanced accuracy 50.1 %), so its gain is a flip to a constant answer"
    )


def test_two_models_with_the_same_constant_answer_flip_nothing() -> None:
    sentence = flip_to_constant(metrics({"yes": (20, 12), "no": (980, 621)}), ALWAYS_NO)
    assert sentence is not None
    assert sentence.endswith("so its gain comes from the few other answers")


def test_a_winner_without_a_gain_is_not_said_to_have_one() -> None:
    sentence = flip_to_constant(ALWAYS_NO, READS)
    assert sentence is not None
    assert sentence.endswith("so its change is a flip to a constant answer")


def test_a_winner_that_reads_is_left_alone() -> None:
    assert flip_to_constant(READS, ALWAYS_NO) is None
    assert flip_to_constant(READS, READS) is None


def test_answers_that_are_not_classes_cannot_be_constant() -> None:
    assert flip_to_constant(metrics(None), metrics(None)) is None


def test_a_model_that_knows_the_rare_class_is_not_constant() -> None:
    """Of 100 examples 96 are 'no': who says so 96 times and is right about all of them reads very well."""
    perfect = Metrics(
        num_examples=100,
        accuracy=1.0,
        accuracy_stderr=0.0,
        log_loss=0.1,
        majority_accuracy=0.96,
        balanced_accuracy=1.0,
        prediction_counts=(("yes", 4), ("no", 96)),
    )
    assert flip_to_constant(perfect, ALWAYS_YES) is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((("yes", 5), ("no", 95)), ("no", 0.95)),
        ((("yes", 6), ("no", 94)), None),
        ((("a", 1), ("b", 98), ("c", 1)), ("b", 0.98)),
        ((("a", 34), ("b", 33), ("c", 33)), None),
        ((("yes", 7), ("no", 0)), ("yes", 1.0)),
        ((("only", 7),), None),
        ((("yes", 0), ("no", 0)), None),
        ((), None),
        (None, None),
    ],
)
def test_an_answer_is_constant_from_19_of_20(
    counts: tuple[tuple[str, int], ...] | None, expected: tuple[str, float] | None
) -> None:
    assert constant_answer(counts) == expected


def test_how_constant_can_be_chosen() -> None:
    assert constant_answer((("yes", 1), ("no", 9)), least_share=0.9) == ("no", 0.9)
