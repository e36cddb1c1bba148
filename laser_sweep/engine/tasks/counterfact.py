"""CounterFact as LASER uses it: facts, each asked in three ways (Meng et al. 2022; Sharma et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.prompt_answer import with_mask
from laser_sweep.engine.tasks.source import BadRowError, Row, nested, parse, read_rows, text_of, texts_of
from laser_sweep.engine.tasks.spec import DatasetSpec


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `requested_rewrite` (prompt, subject, target_true, relation_id) and `paraphrase_prompts`.

    Every record becomes three examples of one group: the prompt, then its two paraphrases.
    """

    def make(number: int, row: Row) -> Iterator[Example]:
        rewrite = nested(row, "requested_rewrite", dict)
        paraphrases = texts_of(row, "paraphrase_prompts")
        if len(paraphrases) != 2:
            raise BadRowError(f"there are {len(paraphrases)} paraphrases instead of 2")
        subject, group = text_of(rewrite, "subject"), str(row.get("case_id", number))
        relation = rewrite.get("relation_id")
        template = text_of(rewrite, "prompt")
        if template.count("{}") != 1:
            raise BadRowError(f"prompt {template!r} has not one {{}} for the subject")
        prompts = (template.replace("{}", subject), *paraphrases)
        for place, prompt in enumerate(prompts):
            yield Example(
                id=f"{group}/{place}",
                row=number,
                prompt=with_mask(prompt) if model.family == "masked" else prompt,
                gold=text_of(nested(rewrite, "target_true", dict), "str").strip(),
                group=group,
                subject=subject,
                relation=None if relation is None else str(relation),
            )

    return parse(read_rows(spec, columns=("requested_rewrite", "paraphrase_prompts")), make)
