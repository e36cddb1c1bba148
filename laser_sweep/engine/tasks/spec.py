"""What the `dataset` config group says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A data set's Parquet files on the hub: `files` are glob patterns inside the repository, read in order."""

    repo: str
    revision: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Which rows to read, and how they become examples.

    `format` names what makes examples of rows. They come from the hub, from `url`, or from the local file `path`, which
    takes the place of both. `compat=published` repeats what the published code does where it is wrong.

    What only some formats read: `choices` are those of every row; `scoring` and `max_new_tokens` say how answers
    without choices are scored; `answer_tokenizer` and `max_answer_tokens` leave out rows with long answers; `task`
    and `num_fewshot` are those of lm-evaluation-harness.

    Those of episodes: `env` is the environment's id at gymnasium, cut off after `max_steps`; `episodes` are counted
    from `first_seed` on, where no file has them. The model is told to get `target_return`; returns are divided by
    `return_scale`, states made zero mean and unit deviation with `state_mean` and `state_std`, and it sees the last
    `context` steps. What is None of these four is as the model's own config.json says.
    """

    name: str
    format: str
    path: str | None = None
    url: str | None = None
    hub: HubSource | None = None
    on_bad_row: Literal["error", "skip"] = "error"
    compat: Literal["published"] | None = None
    choices: tuple[str, ...] = ()
    scoring: Literal["auto", "next_token", "generation"] = "auto"
    max_new_tokens: int = 10
    answer_tokenizer: str | None = None
    max_answer_tokens: int | None = None
    task: str | None = None
    num_fewshot: int = 0
    env: str | None = None
    max_steps: int | None = None
    episodes: int | None = None
    first_seed: int = 0
    target_return: float | None = None
    return_scale: float | None = None
    context: int | None = None
    state_mean: tuple[float, ...] | None = None
    state_std: tuple[float, ...] | None = None

    @property
    def published(self) -> bool:
        return self.compat == "published"
