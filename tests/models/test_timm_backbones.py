"""The cut backbone against timm's own forward, tables of positions against timm's resampling, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dmpo_explore.models.backbone import Backbone
from dmpo_explore.models.timm_backbones import create_backbone, split_backbone

# name, image size, exits, prefix tokens, class token: every kind of token layout in the family
KINDS = [
    ("vit_tiny_patch16_224", 48, (2, 7, 12), 1, True),
    ("vit_small_patch14_dinov2", 42, (3, 12), 1, True),  # LayerScale, 37x37 positions
    ("vit_small_patch14_reg4_dinov2", 42, (1, 12), 5, True),  # registers without positions
    ("deit_tiny_distilled_patch16_224", 64, 4, 2, True),
    ("test_vit", 224, 6, 1, True),
    ("test_vit2", 32, 4, 1, False),  # one register, no class token; the norm sits behind the pooling
    ("test_vit3", 48, (4, 9), 1, False),  # attention pooling
    ("test_vit4", 48, 3, 1, False),  # RMS norm
    ("vit_base_patch16_siglip_gap_224", 32, (1, 2), 0, False),  # no prefix at all
]


def native(name: str, **arguments: Any) -> Any:
    """timm's model at its own size with every weight random, the zero and one initialisations included."""
    torch.manual_seed(0)
    vit = timm.create_model(name, num_classes=5, **arguments).eval()
    for weight in vit.parameters():
        if weight.ndim == 1:
            nn.init.normal_(weight, std=0.3)
    return vit


def pictures(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def cut_at(name: str, size: int, exits: Any, state: Any = None) -> Backbone:
    return split_backbone(create_backbone(name, size, state), exits, size)


def timm_tokens(vit: Any, images: Tensor, exits: tuple[int, ...]) -> list[Tensor]:
    found = vit.forward_intermediates(
        images, indices=[e - 1 for e in exits], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    return [torch.cat((item[1], item[0]), dim=1) if isinstance(item, tuple) else item for item in found]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "exits", "prefix", "class_token"), KINDS)
def test_tokens_equal_timms(name: str, size: int, exits: Any, prefix: int, class_token: bool) -> None:
    whole = native(name)
    cut = cut_at(name, size, exits, whole.state_dict())
    whole.set_input_size((size, size))  # timm resamples its own table
    patch = whole.patch_embed.patch_size[0]
    assert (cut.prefix, cut.class_token) == (prefix, class_token)
    assert cut.grids == [(size // patch, size // patch)] * len(cut.exits)
    assert cut.widths == [whole.embed_dim] * len(cut.exits)
    with torch.no_grad():
        tokens, expected = cut.embed(pictures(size)), timm_tokens(whole, pictures(size), cut.exits)
        assert tokens.shape == (2, prefix + (size // patch) ** 2, whole.embed_dim)
        for trunk, norm, reference in zip(cut.trunks, cut.norms, expected, strict=True):
            tokens = trunk(tokens)
            torch.testing.assert_close(tokens, reference, rtol=1e-5, atol=1e-5)
            final = whole.fc_norm if isinstance(whole.norm, nn.Identity) else whole.norm
            torch.testing.assert_close(norm(tokens), final(reference), rtol=1e-5, atol=1e-5)


def test_last_exit_equals_forward_features() -> None:
    whole = native("test_vit", img_size=48)
    cut = cut_at("test_vit", 48, (2, 6), whole.state_dict())
    with torch.no_grad():
        tokens = cut.trunks[1](cut.trunks[0](cut.embed(pictures(48))))
        torch.testing.assert_close(cut.norms[1](tokens), whole.forward_features(pictures(48)), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "deit_tiny_distilled_patch16_224"]
)
@pytest.mark.parametrize("patches", [3, 7])
def test_position_table_is_resampled_as_timm_does(name: str, patches: int) -> None:
    whole = native(name)
    size = patches * whole.patch_embed.patch_size[0]
    loaded: Any = create_backbone(name, size, whole.state_dict())
    state = {k: v for k, v in whole.state_dict().items() if k != "pos_embed" and not k.startswith("head")}
    assert state.keys() == loaded.state_dict().keys() - {"pos_embed"}
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in state.items())
    whole.set_input_size((size, size))
    assert torch.equal(loaded.pos_embed, whole.pos_embed)


def test_position_table_of_the_right_size_is_kept() -> None:
    whole = native("test_vit", img_size=64)
    loaded: Any = create_backbone("test_vit", 64, whole.state_dict())
    assert torch.equal(loaded.pos_embed, whole.pos_embed)


@pytest.mark.parametrize("name", ["test_vit", "tf_efficientnet_lite0"])  # the latter draws while it is looked at
def test_equal_seeds_give_equal_weights_each_time(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(create_backbone(name, 64).state_dict())
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_new_vit_is_frozen_in_eval_mode_and_without_classifier() -> None:
    vit: Any = create_backbone("test_vit", 32)
    assert not vit.training
    assert not any(p.requires_grad for p in vit.parameters())
    assert not any(k.startswith("head") for k in vit.state_dict())


@pytest.mark.parametrize(
    ("name", "exits", "widths", "grids"),
    [
        ("tf_efficientnet_lite0", (3, 5, 11, 16), [24, 40, 112, 1280], [16, 8, 4, 2]),
        ("tf_efficientnet_lite0", (1, 15), [16, 192], [32, 2]),  # ends before the last block: no conv_head
        ("convnext_atto", (2, 3, 12), [40, 80, 320], [16, 8, 2]),
        ("swin_tiny_patch4_window7_224", (2, 3, 4, 10, 11), [96, 192, 192, 384, 768], [16, 8, 8, 4, 2]),
        ("resnet10t", 4, [64, 128, 256, 512], [16, 8, 4, 2]),
    ],
)
def test_downsampling_belongs_to_the_block_that_needs_it(name: str, exits: Any, widths: Any, grids: Any) -> None:
    cut = cut_at(name, 64, exits)
    assert cut.widths == widths
    assert cut.grids == [(side, side) for side in grids]
    assert (cut.prefix, cut.class_token) == (0, False)


def test_exit_norms_of_hierarchical_backbones() -> None:
    """The backbone's final norm where the width is its own, a new LayerNorm elsewhere, none behind a batch norm."""
    for name in ("convnext_atto", "swin_tiny_patch4_window7_224"):
        whole: Any = create_backbone(name, 64)
        final = whole.norm if hasattr(whole, "norm") else whole.head.norm
        nn.init.normal_(final.weight)
        first, *_, same, last = split_backbone(whole, (1, 11, 12), 64).norms
        assert isinstance(first, nn.LayerNorm) and first.weight.eq(1).all()
        for norm in (same, last):
            assert torch.equal(norm.weight, final.weight) and norm.weight.data_ptr() != final.weight.data_ptr()
            assert norm.eps == final.eps
    norms = cut_at("tf_efficientnet_lite0", 64, (5, 16)).norms
    assert isinstance(norms[0], nn.LayerNorm) and isinstance(norms[1], nn.Identity)
    assert isinstance(cut_at("tf_efficientnet_lite0", 64, (5, 15)).norms[1], nn.LayerNorm)


def test_convnexts_exit_norm_is_its_own_over_tokens() -> None:
    for name in ("convnext_atto", "convnext_atto_rms"):
        whole: Any = create_backbone(name, 64)
        nn.init.normal_(whole.head.norm.weight)
        maps = torch.randn(2, 320, 3, 3)
        with torch.no_grad():
            wanted = whole.head.norm(maps).flatten(2).mT
            norm = split_backbone(whole, 1, 64).norms[0]
            torch.testing.assert_close(norm(maps.flatten(2).mT), wanted, rtol=1e-5, atol=1e-5)


def test_weights_of_hierarchical_backbones_load_strictly_without_their_classifier() -> None:
    for name, size, head in (
        ("test_convnext", 64, "head.fc."),
        ("test_efficientnet", 64, "classifier."),
        ("test_resnet", 64, "fc."),
    ):
        whole = native(name)
        loaded = create_backbone(name, size, whole.state_dict()).state_dict()
        assert loaded.keys() == {key for key in whole.state_dict() if not key.startswith(head)}
        assert all(torch.equal(value, whole.state_dict()[key]) for key, value in loaded.items())
    with pytest.raises(ValueError, match="these weights do not fit test_convnext: .*missing"):
        create_backbone("test_convnext", 64, native("test_resnet").state_dict())


@pytest.mark.slow
def test_swins_position_tables_are_resized_as_timm_does() -> None:
    name = "swin_tiny_patch4_window7_224"
    whole = native(name)
    loaded: Any = create_backbone(name, 64, whole.state_dict())
    model: Any = timm.create_model(name, img_size=64, num_classes=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch about how timm interpolates
        wanted = timm.models.swin_transformer.checkpoint_filter_fn(whole.state_dict(), model)
    own = loaded.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in own.items())
    last = "layers.3.blocks.0.attn.relative_position_bias_table"
    assert own[last].shape == (9, 24) and whole.state_dict()[last].shape == (169, 24)  # a window of 2 instead of 7


def test_swin_weights_without_a_classifier_fit_every_version_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions of timm take weights without "head.fc.weight" for those of Swin's authors and rename layers."""
    swin, name = timm.models.swin_transformer, "swin_tiny_patch4_window7_224"
    convert = swin.checkpoint_filter_fn
    seen: list[set[str]] = []
    monkeypatch.setattr(
        swin, "checkpoint_filter_fn", lambda state, model: seen.append({*state}) or convert(state, model)
    )
    body = create_backbone(name, 64).state_dict()
    loaded = create_backbone(name, 64, body).state_dict()
    assert "head.fc.weight" not in body and "head.fc.weight" in seen[0]
    assert loaded.keys() == body.keys() and all(torch.equal(loaded[key], value) for key, value in body.items())


def test_no_weight_has_two_owners() -> None:
    vit: Any = create_backbone("deit_tiny_distilled_patch16_224", 32)
    total = sum(p.numel() for p in vit.parameters())
    final = sum(p.numel() for p in vit.norm.parameters())
    cut = split_backbone(vit, 4, 32)
    modules = nn.ModuleList([cut.embed, *cut.trunks, *cut.norms])
    state = modules.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert sum(value.numel() for value in state.values()) == total + 3 * final  # four exit norms instead of one
    assert not any("blocks" in key or "norm" in key for key in cut.embed.state_dict())


def test_blocks_behind_the_last_exit_are_dropped() -> None:
    cut = cut_at("test_vit", 32, (1, 4))
    assert [len(list(trunk.children())) for trunk in cut.trunks] == [1, 3]
    assert cut.exits == (1, 4)


def test_preprocess_is_the_weights_own() -> None:
    plain: Any = cut_at("vit_tiny_patch16_224", 32, 1).preprocess
    dino: Any = cut_at("vit_small_patch14_dinov2", 70, 1).preprocess
    lite: Any = cut_at("tf_efficientnet_lite0", 64, 1).preprocess
    assert (lite.image_size, lite.mean, lite.std, lite.interpolation) == (64, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert (plain.image_size, plain.mean, plain.std) == (32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (dino.image_size, dino.mean, dino.std) == (70, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert plain.interpolation == dino.interpolation == "bicubic"


@pytest.mark.slow
def test_foreign_weights_are_refused() -> None:
    own = native("vit_tiny_patch16_224").state_dict()
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in own.items() if k != "blocks.3.attn.qkv.weight"}, "1 missing.*blocks.3.attn.qkv.weight"),
        (own | {"decoder.weight": torch.zeros(2)}, "0 missing.*1 foreign.*decoder.weight"),
        (own | {"norm.weight": torch.zeros(7)}, "1 of another shape.*norm.weight"),
        (own | {"pos_embed": torch.zeros(1, 9, 192)}, "1 of another shape.*pos_embed"),  # 8 patches: no square
        (own | {"pos_embed": torch.zeros(197, 192)}, "1 of another shape.*pos_embed"),
        (own | {"pos_embed": torch.zeros(1, 1, 192)}, "1 of another shape.*pos_embed"),
        (native("deit_tiny_distilled_patch16_224").state_dict(), "1 foreign.*dist_token"),
        (native("test_vit").state_dict(), "of another shape"),
        ({}, "missing"),
    ]
    for state, message in cases:
        with pytest.raises(ValueError, match=f"these weights do not fit vit_tiny_patch16_224: .*{message}"):
            create_backbone("vit_tiny_patch16_224", 32, state)
