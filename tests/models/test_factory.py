"""Every part with every other trains a step and infers, what does not fit is refused, defaults follow the backbone."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_model import pictures
from torch import nn
from torch.nn import functional as F

from dmpo_explore import Backbone, ModelConfig, infer
from dmpo_explore.models import (
    BYPASSES,
    PREDICTORS,
    TUNINGS,
    ConvBypass,
    CovariancePredictor,
    LinearPredictor,
    NoBypass,
    factory,
)
from dmpo_explore.models.defaults import MOST, fitted
from dmpo_explore.models.factory import assemble, build_model, build_reference, with_own_weights
from dmpo_explore.models.flops import config_flops, measure_flops
from dmpo_explore.models.timm_backbones import create_backbone
from dmpo_explore.policies.rules import ConfidencePolicy

C = 5
FACTORS: dict[str, Sequence[Any]] = {
    "tuning": sorted(TUNINGS),
    "bypass": sorted(BYPASSES),
    "predictor": sorted(PREDICTORS),
    "exits": (1, 4, 12),
    "read": ("cls", "mean", "both"),
    "normalisation": ("sqrt", "isqrt"),
}


def allowed(case: Mapping[str, Any]) -> bool:
    """The one combination that is refused: a bypass on tokens that nobody reads."""
    return (case.get("bypass"), case.get("read")) != ("mlp", "mean")


def pairs_of(case: Mapping[str, Any]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(pair) for pair in itertools.combinations(case.items(), 2)}


def pairwise(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Few cases in which every allowed pair of values of two factors occurs; each adds the most that is left."""
    every = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    cases = [(case, pairs_of(case)) for case in every if allowed(case)]
    left, chosen = set().union(*(pairs for _, pairs in cases)), []
    while left:
        case, pairs = max(cases, key=lambda item: len(item[1] & left))
        chosen.append(case)
        left -= pairs
    return chosen


CASES = pairwise(FACTORS)


def small(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"backbone": "test_vit", "weights": "random", "image_size": 32}
    values |= {"exits": 3, "rank": 4, "bypass_width": 6, "channels": 8}
    return ModelConfig(**(values | changes))


def test_the_cases_are_few_and_hold_every_pair() -> None:
    wanted = {
        frozenset(((one, a), (two, b)))
        for one, two in itertools.combinations(FACTORS, 2)
        for a in FACTORS[one]
        for b in FACTORS[two]
        if allowed({one: a, two: b})
    }
    assert len(CASES) <= 60
    assert set().union(*map(pairs_of, CASES)) == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_every_pair_of_parts_trains_a_step_and_infers(case: dict[str, Any]) -> None:
    """12 blocks of 192; the tuning's second step reaches what lies under its zero-initialised layer."""
    torch.manual_seed(0)
    model = assemble(small(backbone="vit_tiny_patch16_224", **case), C)
    assert model.training and len(model.stages) == case["exits"]
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, weight_decay=0.0)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        logits = model(pictures())
        assert logits.shape == (4, case["exits"], C)
        loss = F.cross_entropy(logits.flatten(0, 1), torch.arange(4).repeat_interleave(case["exits"]))
        loss.backward()
        without = [name for name, p in weights.items() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert not without
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    out = infer(model, pictures(), ConfidencePolicy((0.3,)))
    with torch.no_grad():
        probabilities = model.eval()(pictures()).softmax(-1).numpy()  # (B, K, C)
    there = probabilities[np.arange(4), out.exit]
    assert (out.label == there.argmax(-1)).all()
    np.testing.assert_allclose(out.confidence, there.max(-1), atol=1e-5)


def test_parts_are_as_configured() -> None:
    model: Any = assemble(small(exits=(2, 5), train_norm=False), C)
    first, last = model.stages
    assert model.exits == (2, 5)
    assert [len(list(stage.trunk.children())) for stage in model.stages] == [2, 3]
    assert isinstance(first.bypass, ConvBypass) and first.bypass.hidden == 6
    assert isinstance(first.predictor, CovariancePredictor)
    assert isinstance(last.bypass, NoBypass) and isinstance(last.predictor, LinearPredictor)
    assert (first.width, first.grid, first.prefix) == (64, (2, 2), 1)
    assert last.predictor.fc.weight.shape == (C, 128)  # class token and patch mean
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {"stages.0.norm.weight", "stages.1.norm.bias"} <= frozen
    assert all(p.requires_grad for p in [*first.bypass.parameters(), *first.predictor.parameters(), first.scale])


def test_the_exit_norm_starts_as_the_backbones_and_trains() -> None:
    torch.manual_seed(0)
    state = {k: torch.randn_like(v) for k, v in create_backbone("test_vit", 32).state_dict().items()}
    model: Any = assemble(small(), C, state=state)
    for stage in model.stages:
        norm: Any = stage.norm
        assert torch.equal(norm.weight, state["norm.weight"]) and torch.equal(norm.bias, state["norm.bias"])
        assert norm.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "read", "width"), [("test_vit", "both", 128), ("test_vit2", "mean", 64), ("test_vit3", "mean", 96)]
)
def test_read_auto_takes_the_class_token_where_there_is_one(name: str, read: str, width: int) -> None:
    auto, named = (assemble(small(backbone=name, read=how), C) for how in ("auto", read))
    for model in (auto, named):
        last: Any = model.stages[-1].predictor
        assert last.fc.in_features == width
    assert auto.state_dict().keys() == named.state_dict().keys()


def test_the_reference_is_the_plain_backbone() -> None:
    config = small(exits=(2, 4), tuning="lora", read="both")
    reference: Any = build_reference(config, C)
    assert reference.exits == (2, 4, 6)
    assert all(isinstance(stage.bypass, NoBypass) for stage in reference.stages)
    assert all(stage.predictor.fc.weight.shape == (C, 64) for stage in reference.stages)
    assert not any("lora" in name for name, _ in reference.named_parameters())
    assert build_reference(small(exits=3), C).exits == (2, 4, 6)
    assert build_reference(small(backbone="test_vit2"), C)(pictures()).shape == (4, 3, C)


def test_build_model_is_assemble_on_found_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    vit: Any = create_backbone("test_vit", 32)
    save_file(vit.state_dict(), tmp_path / "own.safetensors")
    model: Any = build_model(small(weights=str(tmp_path / "own.safetensors"), tuning="none"), C)
    with torch.no_grad():
        tokens = model.embed(pictures())
        for stage in model.eval().stages:
            tokens = stage.trunk(tokens)
        assert torch.equal(model.stages[-1].norm(tokens), vit.forward_features(pictures()))


HIERARCHICAL = {"backbone": "test_efficientnet", "image_size": 64, "exits": (1, 2, 5)}


def test_narrow_stages_get_a_covariance_of_their_width() -> None:
    model: Any = assemble(small(**HIERARCHICAL, channels=20), C)
    assert [stage.width for stage in model.stages] == [16, 24, 256]
    assert [stage.grid for stage in model.stages] == [(32, 32), (16, 16), (2, 2)]
    assert [stage.predictor.reduce.out_features for stage in model.stages[:2]] == [16, 20]
    assert all(stage.predictor.first.fc.in_features == stage.width for stage in model.stages[:2])  # auto reads the mean
    assert model.stages[2].predictor.fc.weight.shape == (C, 256)


def own_backbone() -> Backbone:
    trunks: list[nn.Module] = [nn.Conv2d(4, 8, 2, 2), nn.Conv2d(8, 16, 2, 2)]
    return Backbone(nn.Conv2d(3, 4, 4, 4), trunks, [8, 16], [(4, 4), (2, 2)], layout="channels_first")


@pytest.mark.parametrize("tuning", ["none", "full"])
def test_a_backbone_of_ones_own(tuning: str) -> None:
    config = small(tuning=tuning, channels=8)
    model = build_model(config, C, backbone=own_backbone())
    assert model.exits == (1, 2) and model(pictures()).shape == (4, 2, C)
    assert any(".trunk." in name for name in model.trainable_state()) == (tuning == "full")
    reference = build_reference(config, C, backbone=own_backbone())
    cost = measure_flops(model, reference)
    assert cost.embed == 2 * 8 * 8 * 4 * 3 * 16  # 8x8 outputs of 4 channels from 3 channels of 4x4
    assert cost.trunk == (2 * 16 * 8 * 4 * 4, 2 * 4 * 16 * 8 * 4) and cost.tuning == (0, 0)
    out = infer(model, pictures(), ConfidencePolicy((0.3,)))
    assert out.exit.shape == (4,)


class _Mixed(nn.Module):
    """Attention between the places of a map, then an LSTM of two layers along them, both with dropout of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.9, batch_first=True)
        self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.9, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = x.flatten(2).transpose(1, 2)
        places = places + self.attention(places, places, places)[0]
        return self.lstm(places)[0].transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("tuning", "dropping"),
    [*((tuning, nn.Dropout(0.9)) for tuning in ("none", "lora", "full")), ("none", _Mixed()), ("full", _Mixed())],
)
def test_a_backbones_own_dropout_is_off_unless_all_of_it_is_tuned(tuning: str, dropping: nn.Module) -> None:
    """Also that inside attention and recurrent layers."""
    backbone = own_backbone()
    backbone.trunks[0] = nn.Sequential(backbone.trunks[0], dropping)
    model = build_model(small(tuning=tuning, channels=8), C, backbone=backbone).train()
    first, second = (model.stages[0].trunk(model.embed(pictures())) for _ in range(2))
    assert torch.equal(first, second) == (tuning != "full")
    if tuning == "lora":  # its own stays
        assert any(isinstance(one, nn.Dropout) and one.p == small().dropout for one in model.modules())


@pytest.mark.parametrize("tuning", ["lora", "lora-all"])
def test_every_layer_of_a_backbone_of_ones_own_is_tuned(tuning: str) -> None:
    model = build_model(small(tuning=tuning, channels=8), C, backbone=own_backbone())
    assert [name for name in model.trainable_state() if name.endswith("lora_A.default.weight")] == [
        "stages.0.trunk.lora_A.default.weight", "stages.1.trunk.lora_A.default.weight",
    ]  # fmt: skip
    cost = measure_flops(model, build_reference(small(), C, backbone=own_backbone()))
    assert cost.layers == (2, 2) and cost.tuning == (0, 0) and cost.as_trained[-1] > cost.cumulative[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bypass": "convv"}, "unknown bypass 'convv'. Did you mean 'conv'"),
        ({"bypass": "convv", "exits": 1}, "unknown bypass"),
        ({"predictor": "second"}, "unknown predictor 'second'.*Valid: covariance, linear, moment"),
        ({"predictor": "second", "exits": 1}, "unknown predictor"),
        ({"last_bypass": "conf"}, r"unknown last_bypass 'conf'. Did you mean 'conv'\?"),
        ({"tuning": "prefix"}, "unknown tuning"),
        ({"read": "max"}, "unknown read 'max'"),
        ({"normalisation": "log"}, "unknown normalisation 'log'"),
        ({"exits": 7}, "6 blocks"),
        ({"exits": (2, 9)}, "6 blocks"),
        ({"image_size": 40}, "not a multiple of the patch"),
        ({"channels": 65}, "channels=65 must lie between 1 and the trunk's width 64"),
        (
            {"exits": 1, "last_predictor": "covariance", "channels": 65},
            "channels=65 must lie between 1 and the trunk's",
        ),
        ({"predictor": "moment"}, "heads are 10 wide"),
        ({"image_size": 16}, "fewer than 2 patches"),
        ({"backbone": "test_vit2", "read": "cls"}, "test_vit2 has no class token; use 'mean'"),
        ({"backbone": "test_vit2", "read": "both"}, "test_vit2 has no class token; use 'mean'"),
        ({"bypass": "mlp", "read": "mean"}, "works on the tokens before the patches.*use read='both' or 'cls'"),
        ({"bypass": "mlp", "read": "mean", "predictor": "linear"}, "never reads"),
        ({"exits": 1, "last_bypass": "mlp", "read": "mean"}, "which read='mean' never reads"),
        ({"backbone": "test_vit2", "bypass": "mlp"}, "never reads; use bypass='conv'"),
        (HIERARCHICAL | {"read": "cls"}, "read='cls': test_efficientnet has no class token; use 'mean'"),
        (HIERARCHICAL | {"read": "both"}, "read='both': test_efficientnet has no class token"),
        (HIERARCHICAL | {"predictor": "moment"}, "exit 1, after block 1: moment .* 2 wide .*trunk width 16"),
        (
            HIERARCHICAL | {"bypass": "ladder"},
            r"'ladder' hands its map .*\[\(32, 32\), \(16, 16\)\]; use bypass='conv'",
        ),
        (HIERARCHICAL | {"channels": 300}, "channels=300 must lie between 1 and the trunk's width 256"),
        (HIERARCHICAL | {"exits": 6}, "5 blocks"),
        (HIERARCHICAL | {"image_size": 31}, "try 32"),
        ({"n_classes": 1}, "n_classes=1"),
        ({"n_classes": 0}, "n_classes=0"),
        ({"of_ones_own": own_backbone(), "tuning": "adapter"}, r"tuning='adapter' finds no.* use tuning='none'"),
        ({"bypass": "ladder", "earlier_exits": True}, "not 'ladder'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"n_classes": C, "of_ones_own": None} | changes
    n_classes, backbone = given.pop("n_classes"), given.pop("of_ones_own")
    with pytest.raises(ValueError, match=message):
        build_model(small(**given), n_classes, backbone=backbone)


def test_a_file_of_ones_own_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert with_own_weights(ModelConfig(weights="mine.pth")).weights == str(tmp_path / "mine.pth")
    for other in ("auto", "random", "absent.pth"):
        assert with_own_weights(ModelConfig(weights=other)).weights == other


@pytest.mark.slow
@pytest.mark.parametrize("exits", [(2, 5), (5,)])
@pytest.mark.parametrize(("bypass", "predictor"), [("conv", "covariance"), ("ladder", "moment"), ("mlp", "linear")])
def test_the_last_and_the_only_exit_may_have_any_bypass_and_predictor(
    exits: tuple[int, ...], bypass: str, predictor: str
) -> None:
    config = small(backbone="vit_tiny_patch16_224", exits=exits, bypass="none", predictor="linear",
                   last_bypass=bypass, last_predictor=predictor)  # fmt: skip
    model: Any = assemble(config, C)
    *early, last = model.stages
    assert type(last.bypass) is BYPASSES[bypass] and type(last.predictor) is PREDICTORS[predictor]
    assert all(type(stage.bypass) is NoBypass and type(stage.predictor) is LinearPredictor for stage in early)
    model(pictures()).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    plain = build_reference(config, C).stages
    assert all(type(stage.bypass) is NoBypass and type(stage.predictor) is LinearPredictor for stage in plain)


def test_the_factory_compares_no_name_of_a_kind() -> None:
    """So a new bypass or predictor is a class and a line in its registry; docs/extending.md adds both."""
    text = Path(factory.__file__).read_text(encoding="utf-8")
    names = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert not names & ({*BYPASSES, *PREDICTORS} - {"none", "linear"})  # the reference model is plain by definition


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tinynet_e", "test_mambaout", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_last_exit_costs_little_more_than_the_plain_backbone(name: str) -> None:
    config = fitted(ModelConfig(name, "random"))
    flops = config_flops(config, 10)
    assert flops.cumulative[-1] <= MOST * flops.reference
    assert flops.cumulative[0] <= 0.5 * flops.reference


@pytest.mark.slow
def test_the_last_exits_own_predictor_counts() -> None:
    flops = config_flops(fitted(ModelConfig("tinynet_e", "random", last_predictor="covariance")), 10)
    assert flops.cumulative[-1] <= MOST * flops.reference


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("vit_tiny_patch16_224", "random", 96, channels=40),
        *map(ModelConfig, ("vit_small_patch14_dinov2", "tf_efficientnet_lite0")),  # the backbones of our studies
    ],
)
def test_what_was_chosen_and_what_fits_stays(config: ModelConfig) -> None:
    assert fitted(config) == config


def test_what_is_named_as_chosen_stays() -> None:
    kept = fitted(ModelConfig("vit_tiny_patch16_224", "random", 64), ["channels"])
    assert (kept.channels, kept.bypass_width) == (48, 64)


@pytest.mark.slow
def test_exits_of_a_recipe_end_with_the_backbone() -> None:
    exits = (3, 4, 5, 6, 8, 12)
    assert fitted(ModelConfig("tf_efficientnet_lite0", exits=exits), blocks=12).exits == (4, 5, 7, 8, 11, 16)
    assert fitted(ModelConfig("vit_tiny_patch16_224", exits=exits), ["exits"], blocks=8).exits == exits
