"""A model and examples, differentiated both ways: as the code under test does it, and by autograd."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from laser_sweep.engine.editing.factor import factorise
from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.evaluation.gradients import Gradients, slopes
from laser_sweep.engine.evaluation.packing import alone
from laser_sweep.engine.evaluation.replay import checked_forward
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.tokenise import Encoded, Passage
from laser_sweep.probe import Slopes
from laser_sweep.trial import Matrix

from ..autograd import Differentiated, Question, differentiate

CPU = torch.device("cpu")
PAD = 1
VOCABULARY = 50
ALL_TOGETHER = 100_000
EXPERTS = ("mixtral", "gpt_oss", "minimax", "llama4", "qwen2_moe")
SHARED_KEYS = "masked deberta_v2, whose maps also see embeddings of distances"
BuildModel = Callable[..., PreTrainedModel]


def build(architecture: str, build_model: BuildModel, build_masked: BuildModel) -> PreTrainedModel:
    """A float64 model of an architecture, or of a `masked` one."""
    name = architecture.removeprefix("masked ")
    if architecture == SHARED_KEYS:
        model = build_masked("deberta_v2", vocab_size=VOCABULARY, pad_token_id=PAD, share_att_key=True)
    elif architecture.startswith("masked "):
        model = build_masked(name, vocab_size=VOCABULARY, pad_token_id=PAD)
    else:
        model = build_model(name, vocab_size=VOCABULARY)
        if name in EXPERTS:
            model.set_experts_implementation("eager")  # the grouped one has no float64
    return model.double()


def examples(count: int = 6, seed: int = 0) -> list[Encoded]:
    """The second of two passages is the gold one; it has up to two places, and a length that is not their number."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        ids = tuple(draw.choices(range(2, VOCABULARY), k=draw.randint(3, 11)))
        positions = tuple(sorted({len(ids) // 2, len(ids) - 1}))
        decoy = Passage(input_ids=(5, 6), positions=(1,), targets=(3,))
        gold = Passage(
            input_ids=ids, positions=positions, targets=tuple(draw.choices(range(2, VOCABULARY), k=len(positions)))
        )
        example = Example(id=str(number), prompt="", gold="")
        length = draw.randint(1, 4)
        made.append(Encoded(example=example, kind="choices", passages=(decoy, gold), gold=1, gold_length=length))
    return made


class Case:
    """A model, its examples, and both ways to differentiate."""

    def __init__(self, model: PreTrainedModel, encoded: Sequence[Encoded]) -> None:
        self.model = model
        self.layout = find_layout(model)
        self.collator = Collator(CPU, PAD if "MaskedLM" in type(model).__name__ else None)
        self.forward = checked_forward(model, self.layout, self.collator)
        self.encoded = encoded
        self.questions = [
            Question(gold.input_ids, gold.positions, gold.targets, one.gold_length)
            for one in encoded
            for gold in [one.passages[one.gold]]
        ]

    def directions(self, *matrices: Matrix) -> dict[Matrix, Directions]:
        """Of these matrices, or of all."""
        made = {}
        for matrix in matrices or self.layout.weights:
            weight = self.layout.weights[matrix]
            factors = factorise(weight.read())
            made[matrix] = Directions(weight, factors.basis, factors.singular_values)
        return made

    def slopes(self, *matrices: Matrix, batch_tokens: int = ALL_TOGETHER) -> dict[Matrix, Slopes]:
        directions = self.directions(*matrices)
        return slopes(self.forward, self.collator, self.encoded, directions, batch_tokens=batch_tokens)

    def by_example(self, *matrices: Matrix) -> tuple[torch.Tensor, dict[Matrix, torch.Tensor]]:
        """Losses and gradients of all examples, in as few passes as may be."""
        gradients = Gradients(self.forward, self.collator, self.directions(*matrices))
        lengths = torch.tensor([one.gold_length for one in self.encoded])
        rows = alone([one.passages[one.gold] for one in self.encoded])
        parts = [[row] for row in rows] if gradients.one_by_one else [rows]
        each = [gradients.of(self.collator.collate(part), lengths[[row.indices[0] for row in part]]) for part in parts]
        return (
            torch.cat([losses for losses, _ in each]),
            {matrix: torch.cat([found[matrix] for _, found in each]) for matrix in matrices or self.layout.weights},
        )

    def by_autograd(self, *matrices: Matrix) -> Differentiated:
        """The same of a copy in float64, one example at a time."""
        twin = copy.deepcopy(self.model).double()
        if twin.config.model_type in EXPERTS:  # the grouped one has no float64
            twin.set_experts_implementation("eager")
        weights = find_layout(twin).weights
        return differentiate(twin, {matrix: weights[matrix] for matrix in matrices or weights}, self.questions)


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Nowhere further off than this share of the largest."""
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    scale = expected.abs().max()
    assert scale > 0
    assert (found - expected).abs().max() <= tolerance * scale
