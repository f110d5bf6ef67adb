"""The cut backbone against timm's own forward, tables of positions against timm's resampling, and what is refused."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dmpo_explore.models.backbone import Backbone
from dmpo_explore.models.timm_backbones import create_backbone, fetch_hub_weights, nearest_size, split_backbone

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


@pytest.mark.parametrize(
    ("name", "size", "exits", "prefix", "class_token"),
    [("test_vit", 48, (2, 6), 1, True), *(pytest.param(*kind, marks=pytest.mark.slow) for kind in KINDS)],
)
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
        if name == "test_vit":  # its own features are those behind the last norm
            torch.testing.assert_close(whole.norm(expected[-1]), whole.forward_features(pictures(size)))
        assert tokens.shape == (2, prefix + (size // patch) ** 2, whole.embed_dim)
        for trunk, norm, reference in zip(cut.trunks, cut.norms, expected, strict=True):
            tokens = trunk(tokens)
            torch.testing.assert_close(tokens, reference, rtol=1e-5, atol=1e-5)
            final = whole.fc_norm if isinstance(whole.norm, nn.Identity) else whole.norm
            torch.testing.assert_close(norm(tokens), final(reference), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "patches"),
    [
        *(
            pytest.param(name, patches, marks=pytest.mark.slow)
            for name in ("vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "deit_tiny_distilled_patch16_224")
            for patches in (3, 7)
        ),
        ("test_vit", 10),  # of the right size: it is kept
    ],
)
def test_position_table_is_resampled_as_timm_does(name: str, patches: int) -> None:
    whole = native(name)
    size = patches * whole.patch_embed.patch_size[0]
    loaded: Any = create_backbone(name, size, whole.state_dict())
    state = {k: v for k, v in whole.state_dict().items() if k != "pos_embed" and not k.startswith("head")}
    assert state.keys() == loaded.state_dict().keys() - {"pos_embed"}
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in state.items())
    whole.set_input_size((size, size))
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


@pytest.mark.slow
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


HEADS = {  # timm's name → what the names of its classifier's weights begin with
    "test_convnext": "head.fc.", "test_efficientnet": "classifier.", "test_resnet": "fc.",
}  # fmt: skip
MORE_HEADS = {  # the last two names are deprecated
    "repvit_m0_9": "head.", "caformer_s18": "head.fc.", "levit_128s": "head", "efficientvit_m0": "head.",
    "shvit_s1": "head.", "deit_tiny_distilled_patch16_224": "head", "mobilenetv3_small_050": "classifier.",
    "convnext_tiny_in22k": "head.fc.", "tf_efficientnet_b0_ns": "classifier.",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mapping deprecated")
@pytest.mark.parametrize("name", [*HEADS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_HEADS)])
def test_a_state_dict_of_timm_loads_strictly_without_its_classifier(name: str) -> None:
    head, whole = (HEADS | MORE_HEADS)[name], native(name)
    size = nearest_size(name, 64 if name in HEADS else 224)
    loaded = create_backbone(name, size, whole.state_dict()).state_dict()
    assert loaded.keys() == {key for key in whole.state_dict() if not key.startswith(head)}
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in loaded.items())


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("tf_efficientnet_lite0", 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("vit_tiny_patch16_224", 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("vit_small_patch14_dinov2", 70, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_preprocess_is_the_weights_own(name: str, size: int, mean: Any, std: Any) -> None:
    found: Any = cut_at(name, size, 1).preprocess
    assert (found.image_size, found.mean, found.std, found.interpolation) == (size, mean, std, "bicubic")


def native_without(name: str, *gone: str) -> dict[str, Tensor]:
    return {key: value for key, value in native(name).state_dict().items() if key not in gone}


TINY = "vit_tiny_patch16_224"


FOREIGN: list[tuple[str, Callable[[Any], Any], str]] = [
    (TINY, lambda own: native_without(TINY, "blocks.3.attn.qkv.weight"), "1 missing.*blocks.3.attn.qkv.weight"),
    (TINY, lambda own: own | {"decoder.weight": torch.zeros(2)}, "0 missing.*1 foreign.*decoder.weight"),
    (TINY, lambda own: own | {"norm.weight": torch.zeros(7)}, "1 of another shape.*norm.weight"),
    *(  # 8 patches: no square
        (TINY, lambda own, shape=shape: own | {"pos_embed": torch.zeros(shape)}, "1 of another shape.*pos_embed")
        for shape in ((1, 9, 192), (197, 192), (1, 1, 192))
    ),
    (TINY, lambda own: native_without("deit_tiny_distilled_patch16_224"), "3 foreign.*dist_token"),
    (TINY, lambda own: native_without("test_vit"), "of another shape"),
    (TINY, lambda own: {}, "missing"),
]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test_convnext", lambda own: native_without("test_resnet"), "missing"),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in FOREIGN),
    ],
)
def test_foreign_weights_are_refused(name: str, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"these weights do not fit {name}: .*{message}"):
        create_backbone(name, 64 if name == "test_convnext" else 32, change(native_without(name)))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_smal_patch14_dinov2", 32, "unknown backbone.*vit_small_patch14_dinov2"),
        ("deit_tinny", 32, "unknown backbone.*deit_tiny_patch16_224"),
        ("ViT_Tiny_Patch16_224", 32, "unknown backbone.*vit_tiny_patch16_224"),
        ("???", 32, "unknown backbone.*vit_small_patch14_dinov2"),
        ("tf_efficientnet_light0", 32, "unknown backbone.*tf_efficientnet_lite0"),
        ("mobilenetv4", 32, "unknown backbone.*mobilenetv4_conv_small"),
        ("dinov3", 32, "unknown backbone.*vit_small_patch16_dinov3"),
        ("swin_tiny_patch4_window7", 32, "unknown backbone.*swin_tiny_patch4_window7_224"),
        ("vit_tiny_patch16_224.foo", 224, r"tag \(foo\).* timm has: .*vit_tiny_patch16_224.augreg_in21k"),
        *(
            pytest.param(name, size, f"backbone '{name}' is not served: {reason}.*docs/backbones.md.*dx.Backbone",
                         marks=pytest.mark.slow)
            for name, size, reason in (
                ("crossvit_tiny_240", 240, "its features are 2 tensors, not one"),
                ("tnt_s_legacy_patch16_224", 224, "a single tensor passes on at 1 of its blocks, and 3 are the least"),
                ("pit_ti_224", 224, "its features have 0 tokens before the patches, its blocks 1"),
            )
        ),
        ("vit_small_patch14_dinov2", 72, r"image_size=72 is not a multiple of the patch .*\(14\); try 70 or 84"),
        ("test_vit", 8, r"image_size=8 .*\(16\); try 16"),
        ("test_vit", 0, r"image_size=0 .*try 16"),
        ("swin_tiny_patch4_window7_224", 70, r"not a multiple of the patch .*\(4\); try 68 or 72"),
        ("tf_efficientnet_lite0", 24, r"image_size=24 leaves no patch at the end of .* \(one is 32 px\); try 32"),
        ("convnext_atto", 31, "try 32"),
    ],
)  # fmt: skip
def test_an_unknown_backbone_or_a_size_that_does_not_fit_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        create_backbone(name, size)


def test_patches_that_overlap_need_no_multiple_of_their_side() -> None:
    assert create_backbone("pvt_v2_b0", 64).num_features == 256


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: create_backbone("test_vit", 32, pretrained=True),
            r"\(no connection\); get them with `dmpo-.*a local file .*random",
        ),
        (
            lambda: fetch_hub_weights("test_vit"),
            r"the weights of test_vit from timm's hub are not here \(no connection",
        ),
    ],
)
def test_a_hub_that_fails_says_what_else_there_is(
    ask: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model

    def offline(name: str, **arguments: Any) -> Any:
        if arguments.get("pretrained"):
            raise OSError("no connection\nand many more lines")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match=message):
        ask()


def test_weights_outside_the_hub_are_read_from_torchs_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = timm.get_pretrained_cfg("test_vit")
    assert config is not None
    elsewhere = dataclasses.replace(config, hf_hub_id=None, url="https://weights.example/test_vit.pth")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: elsewhere)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"https://weights.example/test_vit.pth was not downloaded"):
        create_backbone("test_vit", 32, pretrained=True)
