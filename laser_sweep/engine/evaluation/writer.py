"""Answers that a causal model writes, decoded only where an edit changes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.generate import Written, end_tokens, generate
from laser_sweep.engine.tasks.example import Scoring
from laser_sweep.engine.tasks.tokenise import Ids, Passage


class Writer:
    """Writes an answer after each prompt.

    What the untouched model wrote is a draft for the edited ones: one pass over prompt and draft shows for every place
    what an edited model says there, and it writes the same as long as it says what stands in the draft. Only the
    rest is decoded token by token.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Ids], scoring: Scoring, *, batch_tokens: int) -> None:
        self._model = model
        self._prompts = prompts
        self._scoring = scoring
        self._batch_tokens = batch_tokens
        self._drafts: list[Written] | None = None

    @property
    def drafts(self) -> bool:
        """Whether drafts are of use: text that the checkpoint may sample cannot be foreseen."""
        return not self._scoring.published

    def write(self) -> list[Ids]:
        """What the model writes as it is now, token by token."""
        return [written.ids for written in self._generate(self._prompts, self._scoring.max_new_tokens)]

    def draft(self) -> list[Passage]:
        """Has the untouched model, which it must be, write drafts, and returns a passage for each."""
        self._drafts = self._generate(self._prompts, self._scoring.max_new_tokens)
        passages = []
        for prompt, draft in zip(self._prompts, self._drafts, strict=True):
            targets = draft.ids if draft.end is None else (*draft.ids, draft.end)
            start = len(prompt) - 1
            passages.append(
                Passage(
                    input_ids=(*prompt, *targets[:-1]),
                    positions=tuple(range(start, start + len(targets))),
                    targets=targets,
                )
            )
        return passages

    def write_on(self, said: Sequence[npt.NDArray[np.int64]], first: npt.NDArray[np.int64]) -> list[Ids]:
        """What the model writes as it is now, given the most probable token at each place of each draft.

        `first` (prompts, k) are the k most probable tokens at its first place, where no text may end.
        """
        assert self._drafts is not None
        ends = end_tokens(self._model)
        texts: list[Ids] = []
        unfinished: list[int] = []
        for place, (draft, tokens) in enumerate(zip(self._drafts, said, strict=True)):
            beginning = [token for token in first[place].tolist() if token not in ends][:1]
            text, finished = _agreed(draft, [*(beginning or [int(tokens[0])]), *tokens[1:].tolist()], ends)
            texts.append(text)
            if not finished and len(text) < self._scoring.max_new_tokens:
                unfinished.append(place)
        afresh = [place for place in unfinished if not texts[place]]
        begun = [place for place in unfinished if texts[place]]
        for places, at_least in ((afresh, 1), (begun, 0)):
            if places:
                longest = self._scoring.max_new_tokens - min(len(texts[place]) for place in places)
                prompts = [(*self._prompts[place], *texts[place]) for place in places]
                for place, rest in zip(places, self._generate(prompts, longest, at_least), strict=True):
                    texts[place] = (*texts[place], *rest.ids)[: self._scoring.max_new_tokens]
        return texts

    def _generate(self, prompts: Sequence[Ids], max_new_tokens: int, min_new_tokens: int = 1) -> list[Written]:
        return generate(
            self._model,
            prompts,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            batch_tokens=self._batch_tokens,
            published=self._scoring.published,
        )


def _agreed(draft: Written, said: Sequence[int], ends: Sequence[int]) -> tuple[Ids, bool]:
    """What a model writes as far as a pass over the draft shows it, and whether that is all.

    Nothing is known where it would end at once.
    """
    expected = draft.ids if draft.end is None else (*draft.ids, draft.end)
    agreed = next((i for i, (one, other) in enumerate(zip(said, expected, strict=True)) if one != other), len(said))
    if agreed == len(said):
        return draft.ids, True
    if said[agreed] in ends:
        return draft.ids[:agreed], agreed > 0
    return (*draft.ids[:agreed], said[agreed]), False
