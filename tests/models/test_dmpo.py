"""The one model path: forward is the loop over stages, images are checked at its door, weights go out and come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_model import C, K, made, pictures
from torch import Tensor, nn

from dmpo_explore import ModelConfig, infer
from dmpo_explore.models.dmpo import DMPO, hash_frozen
from dmpo_explore.models.factory import assemble
from dmpo_explore.models.image_check import check_images
from dmpo_explore.models.stage import Stage
from dmpo_explore.policies.rules import ConfidencePolicy


def run(model: DMPO) -> tuple[list[Tensor], list[Tensor]]:
    """Tokens behind every trunk and logits of every exit, by hand."""
    tokens, side, seen, logits = model.embed(pictures()), None, [], []
    for stage in model.stages:
        tokens = stage.trunk(tokens)
        z, side = stage.predict(tokens, side)
        seen.append(tokens)
        logits.append(z)
    return seen, logits


@pytest.mark.parametrize("changes", [{"bypass": "conv"}, {"bypass": "ladder"}, {"earlier_exits": True}])
def test_the_walk_the_steps_and_the_forward_give_what_each_stage_computes(changes: dict[str, Any]) -> None:
    model = made(**changes)
    with torch.no_grad():
        states, logits = run(model)
        outputs = list(model.walk(pictures()))
        *_, last = model.walk(pictures())  # no exit was read before
        assert torch.equal(last.logits, logits[-1])
        assert torch.equal(model(pictures()), torch.stack(logits, dim=1))
        assert [output.k for output in outputs] == list(range(model.n_exits)) == list(range(K))
        x, side = pictures(), None
        for k, output in enumerate(outputs):
            alone = model.step(k, x, side)
            x, side = alone.state, alone.side
            assert output.stage is model.stages[k]
            assert torch.equal(output.state, states[k]) and torch.equal(output.tokens, states[k])
            assert torch.equal(output.logits, logits[k]) and torch.equal(alone.logits, logits[k])
            handed_on = changes.get("bypass") == "ladder" and k < K - 1
            assert (output.side is not None) == (handed_on or "earlier_exits" in changes)


@pytest.mark.parametrize(
    ("bypass", "exit", "run_before"), [("conv", 1, [1]), ("ladder", 1, [0, 1]), ("ladder", 2, [2])]
)
def test_an_exit_runs_when_it_is_read_and_a_stage_when_it_is_reached(
    bypass: str, exit: int, run_before: list[int]
) -> None:
    model, trunks, exits = made(bypass=bypass), list[int](), list[int]()
    for k, stage in enumerate(model.stages):
        stage.trunk.register_forward_hook(lambda *_, k=k: trunks.append(k))  # type: ignore[misc]
        stage.bypass.register_forward_hook(lambda *_, k=k: exits.append(k))  # type: ignore[misc]
    with torch.no_grad():
        for output in model.walk(pictures()):
            if output.k == exit:
                assert torch.equal(output.logits, output.logits)  # computed once
                break
    assert trunks == list(range(exit + 1))
    assert exits == run_before  # of the earlier bypasses, only those whose side is handed on


def test_an_exit_is_bypass_then_norm_then_predictor_then_scale() -> None:
    model = made()
    stage: Any = model.stages[0]
    with torch.no_grad():
        stage.scale.fill_(2.5)
        tokens, _ = run(model)
        read, _ = stage.bypass(tokens[0], None)
        assert not torch.equal(read, tokens[0])
        expected = stage.predictor(stage.norm(read)) * 2.5
        assert torch.equal(stage.predict(tokens[0])[0], expected)


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder"])
def test_the_trunk_never_reads_the_bypass(bypass: str) -> None:
    model = made(bypass=bypass)
    with torch.no_grad():
        tokens, logits = run(model)
        first: Any = model.stages[0]
        for weight in first.bypass.parameters():
            weight.add_(torch.randn_like(weight))
        later_tokens, later_logits = run(model)
    assert all(torch.equal(a, b) for a, b in zip(tokens, later_tokens, strict=True))
    assert not torch.equal(logits[0], later_logits[0])
    assert torch.equal(logits[2], later_logits[2])  # the last exit has no bypass
    assert torch.equal(logits[1], later_logits[1]) == (bypass != "ladder")  # a ladder hands its hidden map on


@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_no_gradient_flows_from_later_exits_into_the_bypass(bypass: str) -> None:
    model = made(bypass=bypass)
    model(pictures())[:, -1].square().sum().backward()
    stages: Any = model.stages
    assert all(w.grad is None or not w.grad.any() for stage in stages[:-1] for w in stage.bypass.parameters())
    assert any(w.grad is not None and w.grad.any() for w in stages[0].trunk.parameters())


@pytest.mark.parametrize("tuning", ["adapter", "full"])
def test_the_backbones_batch_norms_stay_in_eval_mode(tuning: str) -> None:
    torch.manual_seed(0)
    settings = ModelConfig("test_efficientnet", "random", 64, exits=2, tuning=tuning, channels=8, train_norm=True)
    model = assemble(settings, C)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = {name: value.clone() for name, value in model.named_buffers()}
    assert norms and not any(norm.training for norm in norms)
    assert model.training and all(stage.bypass.training for stage in model.stages)
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert not any(norm.training for norm in model.train().modules() if isinstance(norm, nn.BatchNorm2d))
    assert all(norm.weight.requires_grad == (tuning == "full") for norm in norms)


class Aside(nn.Module):
    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, None]:
        return x, None


class SecondPatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1]  # of the first row


def reading_maps(layout: str) -> Stage:
    return Stage(nn.Identity(), Aside(), nn.Identity(), SecondPatch(), width=5, grid=(2, 3), prefix=0, layout=layout)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_map_is_read_as_tokens_and_handed_on_as_it_is(layout: str) -> None:
    stage, maps = reading_maps(layout), torch.randn(4, 2, 3, 5)
    state = maps.permute(0, 3, 1, 2) if layout == "channels_first" else maps
    assert torch.equal(stage.predict(stage.trunk(state))[0], maps[:, 0, 1])
    assert torch.equal(stage.tokens(state), maps.reshape(4, 6, 5))


def test_no_weight_appears_twice() -> None:
    model = made()
    state = model.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert sum(v.numel() for v in state.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("changes", [{}, {"earlier_exits": True}])
@torch.no_grad()
def test_trainable_state_round_trip(changes: dict[str, Any]) -> None:
    """Weights of earlier exits' answers are fitted, not trained, and belong to it."""
    model, other = made(0, **changes), made(1, **changes)
    own = {name for name, p in model.named_parameters() if p.requires_grad or name.endswith("earlier.weights")}
    for name, weight in other.named_parameters():
        if name in own:
            model.get_parameter(name).add_(0.1)
        else:
            weight.copy_(model.get_parameter(name))  # the same frozen backbone
    state = model.trainable_state()
    assert state.keys() == own and not any(value.requires_grad for value in state.values())
    assert not torch.equal(other(pictures()), model(pictures()))
    other.load_trainable(state)
    assert torch.equal(other(pictures()), model(pictures()))


def test_statistics_of_an_exits_own_parts_are_stored_and_change_no_hash() -> None:
    model, other = made(), made()
    for one in (model, other):
        one.stages[0].bypass.add_module("own", nn.BatchNorm1d(4))
    before = hash_frozen(model)
    with torch.no_grad():
        model.stages[0].bypass.own.running_mean.fill_(7.0)
    other.load_trainable(model.trainable_state())
    assert other.stages[0].bypass.own.running_mean.tolist() == [7.0] * 4 and hash_frozen(model) == before


def test_loaded_weights_are_copies() -> None:
    model = made()
    state = {name: value.clone() for name, value in model.trainable_state().items()}
    model.load_trainable(state)
    state["stages.0.scale"].fill_(99.0)
    assert model.stages[0].scale.item() != 99.0


KEY = "stages.1.predictor.reduce.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != KEY}, f"1 missing.*{KEY}.*0 foreign"),
        (lambda state: state | {"stages.9.scale": torch.ones(())}, "0 missing.*1 foreign.*stages.9.scale"),
        (lambda state: state | {KEY: torch.zeros(3, 64)}, f"1 of another shape.*{KEY}"),
        (lambda state: made(bypass="none").trainable_state(), "missing"),
        (lambda state: {}, "missing"),
    ],
)
def test_foreign_weights_are_refused_and_nothing_is_loaded(change: Callable[[Any], Any], message: str) -> None:
    model = made(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    foreign = change({name: value + 1 for name, value in model.trainable_state().items()})
    with pytest.raises(ValueError, match=f"these weights are not this model's: .*{message}"):
        model.load_trainable(foreign)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_equilibrium_rescales_gradients_and_nothing_else() -> None:
    """Block 1 hears exit 1 of 3 by a third; exit 3 by two thirds and a half of that; logits are the same."""
    plain, scaled = made(bypass="none").double(), made(bypass="none", equilibrium=True).double()
    images = pictures().double()
    assert torch.equal(plain(images), scaled.train()(images))
    for exit, factor in enumerate([1 / 3, 2 / 3 * 1 / 2, 2 / 3 * 1 / 2]):
        heard = []
        for model in (plain.train(), scaled):
            model.zero_grad()
            model(images)[:, exit].square().sum().backward()
            heard.append(next(p.grad for p in model.stages[0].trunk.parameters() if p.grad is not None))
        assert heard[0].abs().max() > 1e-3
        torch.testing.assert_close(heard[1], factor * heard[0])


def test_right_images_pass() -> None:
    for images in (np.zeros((1, 3, 8, 8)), torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16)):
        check_images(images, 8)


def in_bf16(images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return made()(images)


TYPED = r"images of type torch.{}; this model computes in torch.float32: pass images.to\(torch.float32\)"
BY_A_MODEL: dict[str, Callable[[Any], object]] = {
    "forward": lambda images: made()(images),
    "walk": lambda images: next(made().walk(images)),
    "infer": lambda images: infer(made(), images, ConfidencePolicy((0.5,))),
    "double": lambda images: made().double()(images),
    "autocast": in_bf16,
    "check": lambda images: check_images(images, 8),
    "NCHW": lambda _: reading_maps("NCHW"),
}


@pytest.mark.parametrize(
    ("how", "images", "message"),
    [
        *((how, pictures(2).half(), TYPED.format("float16")) for how in ("forward", "walk", "infer")),
        *((how, pictures(2).double(), TYPED.format("float64")) for how in ("forward", "infer")),
        *((how, pictures(2).bfloat16(), TYPED.format("bfloat16")) for how in ("forward", "infer")),
        ("double", pictures(2), "this model computes in torch.float64"),
        ("autocast", pictures(2).double(), "type torch.float64"),
        ("forward", torch.zeros(2, 3, 32, 32, dtype=torch.uint8), r"images of type torch.uint8; .* use run.inputs"),
        ("infer", torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "images of type torch.uint8; .* preprocessed floats"),
        ("NCHW", pictures(2), "unknown layout 'NCHW'"),
        ("walk", torch.zeros(2, 3, 31, 32), r"shape \(2, 3, 31, 32\); this model expects \(B, 3, 32, 32\)"),
        ("check", np.zeros((2, 3, 8, 9), np.float32), r"shape \(2, 3, 8, 9\); this model expects \(B, 3, 8, 8\)"),
        ("check", np.zeros((0, 3, 8, 8), np.float32), "B ≥ 1"),
        ("check", np.zeros((3, 8, 8), np.float32), r"shape \(3, 8, 8\)"),
        ("check", np.zeros((2, 1, 8, 8), np.float32), "this model expects"),
        ("check", np.zeros((2, 8, 8, 3), np.float32), "this model expects"),
        ("check", np.zeros((2, 3, 8, 8), np.uint8), "type uint8"),
        ("check", torch.zeros(2, 3, 8, 8, dtype=torch.int64), r"type torch.int64"),
        ("infer", torch.zeros(2, 3, 48, 48), r"shape \(2, 3, 48, 48\); this model expects \(B, 3, 32, 32\)"),
    ],
)
def test_a_model_refuses_other_images_and_an_unknown_layout(how: str, images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BY_A_MODEL[how](images)


@torch.no_grad()
def test_images_of_its_own_width_and_half_precision_under_autocast_pass() -> None:
    assert infer(made(), pictures(2), ConfidencePolicy((0.5,))).exit.shape == (2,)
    assert made().double()(pictures(2).double()).dtype == torch.float64
    assert in_bf16(pictures(2).bfloat16()).shape == in_bf16(pictures(2)).shape
