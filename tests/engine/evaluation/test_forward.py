from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, PreTrainedModel, RobertaConfig

from laser_sweep.engine.evaluation.batches import Batch, Collator
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.packing import alone, packed
from laser_sweep.engine.evaluation.replay import Replay, checked_forward
from laser_sweep.engine.evaluation.score import Piece, score
from laser_sweep.engine.models.layout import Layout, find_layout
from laser_sweep.engine.tasks.tokenise import Passage
from laser_sweep.trial import GROUPS

CPU = torch.device("cpu")
PAD = 1
VOCABULARY = 50
BuildModel = Callable[..., PreTrainedModel]
ARCHITECTURES = [
    *("gptj", "llama", "gpt2", "opt", "phi", "gpt_neox", "mistral", "qwen3", "gemma3", "phi3", "falcon_multi_query"),
    *(
        "falcon_grouped",
        "falcon_per_head",
        "bloom",
        "mixtral",
        "gpt_oss",
        "codegen",
        "gpt_bigcode",
        "minimax",
        "llama4",
    ),
    *("qwen2_moe", "masked roberta", "masked bert"),
]


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, build_model: BuildModel, build_masked: BuildModel) -> PreTrainedModel:
    masked, _, name = request.param.rpartition(" ")
    if masked:
        return build_masked(name, vocab_size=VOCABULARY, num_hidden_layers=3, pad_token_id=PAD)
    return build_model(name, vocab_size=VOCABULARY)


def collator_of(model: PreTrainedModel) -> Collator:
    return Collator(CPU, PAD if isinstance(model.config, RobertaConfig | BertConfig) else None)


def passages(count: int = 12, seed: int = 0) -> list[Passage]:
    draw = random.Random(seed)
    return [
        Passage(
            input_ids=tuple(draw.choices(range(2, VOCABULARY), k=length)),
            positions=(length // 2, length - 1),
            targets=(3, 4),
        )
        for length in draw.choices(range(3, 12), k=count)
    ]


def batch_of(model: PreTrainedModel) -> Batch:
    return collator_of(model).collate(alone(passages()))


@pytest.fixture
def layout(model: PreTrainedModel) -> Layout:
    return find_layout(model)


def edited(layout: Layout, tau: str, layer: int) -> None:
    """Halves a matrix, so that everything above it changes."""
    for matrix in layout.matrices(tau, layer):
        layout.weights[matrix].write(layout.weights[matrix].read() / 2)


@torch.inference_mode()
def test_replayed_passes_of_an_edited_model_have_the_bits_of_whole_ones(model: PreTrainedModel, layout: Layout) -> None:
    forward = checked_forward(model, layout, collator_of(model))
    assert forward.replays
    batch = batch_of(model)
    untouched = forward.logits(batch)
    originals = {name: parameter.clone() for name, parameter in model.named_parameters()}
    kept = None
    for layer in range(layout.num_layers):
        kept = forward.keep(batch, layer, kept)  # advanced from the layer below
        assert torch.equal(forward.logits(batch, kept), untouched)
        for tau in layout.taus:
            edited(layout, tau, layer)
            whole = forward.logits(batch)
            assert not torch.equal(whole, untouched)
            assert torch.equal(forward.logits(batch, kept, keep_attention=tau not in GROUPS["attn"]), whole)
            for name, parameter in model.named_parameters():
                parameter.copy_(originals[name])


@torch.inference_mode()
def test_what_is_read_alone_is_what_a_plain_call_of_the_model_gives_there(
    model: PreTrainedModel, layout: Layout
) -> None:
    batch = batch_of(model)
    options: dict[str, Any] = {} if batch.attention_mask is None else {"attention_mask": batch.attention_mask}
    plain = model(input_ids=batch.input_ids, use_cache=False, **options).logits[tuple(batch.places)]
    forward = checked_forward(model, layout, collator_of(model))
    assert forward.narrows
    torch.testing.assert_close(forward.logits(batch), plain, rtol=0, atol=1e-4)
    forward.narrows = False
    assert torch.equal(forward.logits(batch), plain)


@torch.inference_mode()
def test_a_pass_leaves_the_modules_as_they_were(model: PreTrainedModel, layout: Layout) -> None:
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    hooks = {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    forward = checked_forward(model, layout, collator_of(model))
    batch = batch_of(model)
    forward.logits(batch, forward.keep(batch, layout.num_layers - 1))
    for name, module in model.named_modules():
        assert module.__dict__.keys() == before[name].keys()
        assert (len(module._forward_hooks), len(module._forward_pre_hooks)) == hooks[name]


@torch.inference_mode()
def test_skipped_blocks_do_not_run_and_the_last_mlp_sees_only_what_is_read(build_model: BuildModel) -> None:
    model = build_model("llama", vocab_size=VOCABULARY)
    layout = find_layout(model)
    forward = checked_forward(model, layout, Collator(CPU))
    batch = batch_of(model)
    kept = forward.keep(batch, 1)
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, module in model.named_modules():
        if name.endswith(("gate_proj", "q_proj")):
            module.register_forward_pre_hook(lambda m, args, name=name: seen.append((name, tuple(args[0].shape))))
    forward.logits(batch, kept)
    tokens = (*batch.input_ids.shape, 32)
    assert seen == [
        ("model.layers.1.mlp.gate_proj", tokens),
        ("model.layers.2.self_attn.q_proj", tokens),
        ("model.layers.2.mlp.gate_proj", (1, batch.places.shape[1], 32)),
    ]


@torch.inference_mode()
def test_a_model_whose_blocks_pass_more_than_states_is_run_whole(
    build_model: BuildModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model("llama", vocab_size=VOCABULARY)
    first, last = model.model.layers[0], model.model.layers[2]
    first.register_forward_hook(lambda module, args, output: setattr(last, "bias", output.mean()))
    last.register_forward_hook(lambda module, args, output: output + module.bias)
    model.model.layers[0].register_forward_hook(lambda module, args, output: output + torch.rand(()))
    forward = checked_forward(model, find_layout(model), Collator(CPU))
    assert not forward.replays
    assert "does not give the same results when its blocks are replayed" in caplog.text
    replay = Replay(forward, [batch_of(model)], device_bytes=1 << 30)
    replay.advance(2)
    assert replay.pieces()[0].kept is None


def figures(forward: Forward, pieces: list[Piece], collator: Collator) -> list[Any]:
    with torch.inference_mode():
        return score(forward, pieces, collator).log_prob.tolist()


@pytest.mark.parametrize("budget", [0, 20_000, 60_000, 1 << 30])
def test_states_beyond_the_budget_are_not_kept_and_nothing_changes(budget: int, build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    collator = Collator(CPU)
    forward = checked_forward(model, find_layout(model), collator)
    batches = collator.batches(alone(passages(60)), 64)
    expected = figures(forward, [Piece(batch) for batch in batches], collator)
    replay = Replay(forward, batches, device_bytes=budget)
    for layer in (0, 1, 2, 1):  # up, and down again
        replay.advance(layer)
        kept = [piece.kept for piece in replay.pieces() if piece.kept is not None]
        assert sum(one.num_bytes for one in kept) <= budget
        assert {one.layer for one in kept} <= {layer}
        assert bool(kept) == (budget > 10_000)
        assert (len(kept) == len(batches)) == (budget == 1 << 30)
        assert figures(forward, replay.pieces(), collator) == expected
    replay.release()
    assert [piece.kept for piece in replay.pieces()] == [None] * len(batches)


def test_a_piece_that_does_not_fit_is_halved_with_its_states(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    collator = Collator(CPU)
    forward = checked_forward(model, find_layout(model), collator)
    batches = collator.batches(alone(passages(40)), 10_000)
    expected = figures(forward, [Piece(batch) for batch in batches], collator)
    replay = Replay(forward, batches, device_bytes=1 << 30)
    replay.advance(1)
    sizes: list[int] = []

    def refuse(module: torch.nn.Module, arguments: Any, options: dict[str, Any]) -> None:
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > 7:
            raise torch.OutOfMemoryError("the device is full")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert figures(forward, replay.pieces(), collator) == pytest.approx(expected, abs=1e-5)
    assert max(sizes) > 7
    assert sum(size for size in sizes if size <= 7) == 40


def branching(count: int = 30) -> list[Passage]:
    """Passages that share three tokens with all others and eight with their neighbours; some are equal."""
    draw = random.Random(1)
    made = []
    for number in range(count):
        if number % 3 == 0:
            stem = (7, 8, 9, *draw.choices(range(2, VOCABULARY), k=5))
        tail = tuple(draw.choices(range(2, VOCABULARY), k=number % 4))
        ids = stem + tail
        made.append(Passage(input_ids=ids, positions=(2, len(ids) - 1), targets=(3, 4), candidates=(5, 6)))
    return made


DO_NOT_PACK = {
    "bloom",  # its positions come from the mask
    "minimax",  # some of its attention is a running sum
    "gpt_oss",  # its window is shorter than a row
    "roberta",
    "bert",
}


def test_rows_of_several_passages_give_what_each_gives_alone(model: PreTrainedModel, layout: Layout) -> None:
    collator = collator_of(model)
    forward = checked_forward(model, layout, collator)
    kind = model.config.model_type
    assert forward.packs == (kind not in DO_NOT_PACK)
    if not forward.packs:
        return
    asked = branching()
    rows = packed(asked)
    assert sum(len(row.input_ids) for row in rows) < 0.6 * sum(len(passage.input_ids) for passage in asked)
    with torch.inference_mode():
        one = score(forward, [Piece(batch) for batch in collator.batches(alone(asked), 100)], collator)
        other = score(forward, [Piece(batch) for batch in collator.batches(rows, 100)], collator)
        replay = Replay(forward, collator.batches(rows, 100), device_bytes=1 << 30)
        replay.advance(layout.num_layers - 1)
        replayed = score(forward, replay.pieces(), collator)
    for name in ("log_prob", "candidate_logits"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=1e-4)
        assert (getattr(replayed, name) == getattr(other, name)).all()
    assert (other.rank == one.rank).all()
    assert (other.top_ids[:, 0] == one.top_ids[:, 0]).all()
    assert [ids.tolist() for ids in other.best_ids] == [ids.tolist() for ids in one.best_ids]
