"""The cut backbone against timm's own forward, position tables against timm's resampling, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dmpo_explore.backbone import create_vit, exit_blocks, split_vit

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


def timm_tokens(vit: Any, images: Tensor, exits: tuple[int, ...]) -> list[Tensor]:
    found = vit.forward_intermediates(
        images, indices=[e - 1 for e in exits], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    return [torch.cat((item[1], item[0]), dim=1) if isinstance(item, tuple) else item for item in found]


@pytest.mark.parametrize(("name", "size", "exits", "prefix", "class_token"), KINDS)
def test_tokens_equal_timms(name: str, size: int, exits: Any, prefix: int, class_token: bool) -> None:
    whole = native(name)
    cut = split_vit(create_vit(name, size, whole.state_dict()), exits)
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
    cut = split_vit(create_vit("test_vit", 48, whole.state_dict()), (2, 6))
    with torch.no_grad():
        tokens = cut.trunks[1](cut.trunks[0](cut.embed(pictures(48))))
        torch.testing.assert_close(cut.norms[1](tokens), whole.forward_features(pictures(48)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "deit_tiny_distilled_patch16_224"]
)
@pytest.mark.parametrize("patches", [3, 7])
def test_position_table_is_resampled_as_timm_does(name: str, patches: int) -> None:
    whole = native(name)
    size = patches * whole.patch_embed.patch_size[0]
    loaded: Any = create_vit(name, size, whole.state_dict())
    state = {k: v for k, v in whole.state_dict().items() if k != "pos_embed" and not k.startswith("head")}
    assert state.keys() == loaded.state_dict().keys() - {"pos_embed"}
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in state.items())
    whole.set_input_size((size, size))
    assert torch.equal(loaded.pos_embed, whole.pos_embed)


def test_position_table_of_the_right_size_is_kept() -> None:
    whole = native("test_vit", img_size=64)
    loaded: Any = create_vit("test_vit", 64, whole.state_dict())
    assert torch.equal(loaded.pos_embed, whole.pos_embed)


def test_a_new_vit_is_frozen_in_eval_mode_and_without_classifier() -> None:
    vit = create_vit("test_vit", 32)
    assert not vit.training
    assert not any(p.requires_grad for p in vit.parameters())
    assert not any(k.startswith("head") for k in vit.state_dict())


def test_no_weight_has_two_owners() -> None:
    vit = create_vit("deit_tiny_distilled_patch16_224", 32)
    total = sum(p.numel() for p in vit.parameters())
    final = sum(p.numel() for p in vit.norm.parameters())
    cut = split_vit(vit, 4)
    modules = nn.ModuleList([cut.embed, *cut.trunks, *cut.norms])
    state = modules.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert sum(value.numel() for value in state.values()) == total + 3 * final  # four exit norms instead of one
    assert not any("blocks" in key or "norm" in key for key in cut.embed.state_dict())


def test_blocks_behind_the_last_exit_are_dropped() -> None:
    cut = split_vit(create_vit("test_vit", 32), (1, 4))
    assert [len(list(trunk.children())) for trunk in cut.trunks] == [1, 3]
    assert cut.exits == (1, 4)


def test_preprocess_is_the_weights_own() -> None:
    plain = split_vit(create_vit("vit_tiny_patch16_224", 32), 1).preprocess
    dino = split_vit(create_vit("vit_small_patch14_dinov2", 70), 1).preprocess
    assert (plain.image_size, plain.mean, plain.std) == (32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (dino.image_size, dino.mean, dino.std) == (70, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert plain.interpolation == dino.interpolation == "bicubic"


def test_exit_blocks_of_a_number() -> None:
    assert exit_blocks(4, 12) == (3, 6, 9, 12)
    assert exit_blocks(1, 12) == (12,)
    assert exit_blocks(4, 6) == (2, 3, 4, 6)
    assert exit_blocks(12, 12) == tuple(range(1, 13))
    assert exit_blocks((2, 5), 6) == (2, 5)


@given(st.integers(1, 60), st.data())
def test_equal_parts_rise_and_end_at_the_last_block(depth: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, depth))
    ends = exit_blocks(count, depth)
    sizes = [b - a for a, b in zip((0, *ends), ends, strict=False)]
    assert len(ends) == count and ends[-1] == depth
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        (0, "1 to 12 exits"),
        (13, "exits=13: the backbone has 12 blocks"),
        ((3, 13), r"exits=\[3, 13\]: the backbone has 12 blocks, counted from 1"),
        ((0, 3), "counted from 1"),
        ((3, 3), "rising block numbers without repeats"),
        ((6, 3), "rising block numbers without repeats"),
        ((), "rising block numbers"),
    ],
)
def test_bad_exits_are_refused(exits: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exit_blocks(exits, 12)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_smal_patch14_dinov2", "vit_small_patch14_dinov2, vit_small_patch14_reg4_dinov2"),
        ("deit_tinny", "deit_tiny_patch16_224"),
        ("ViT_Tiny_Patch16_224", "vit_tiny_patch16_224"),
        ("???", "vit_small_patch14_dinov2"),
    ],
)
def test_an_unknown_backbone_names_near_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match="unknown backbone") as caught:
        create_vit(name, 32)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "swin_tiny_patch4_window7_224",
        "beit_base_patch16_224",
        "xcit_nano_12_p16_224",
        "vit_base_patch16_xp_224",  # attention and MLP fused in one block
        "vit_base_patch16_rpn_224",  # norms behind the branches
        "vit_tiny_r_s16_p8_224",  # convolutional stem
    ],
)
def test_a_backbone_that_is_no_plain_vit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"backbone '{name}' is not served.*plain ViT"):
        create_vit(name, 70)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_small_patch14_dinov2", 72, r"image_size=72 is not a multiple of the patch .*\(14\); try 70 or 84"),
        ("test_vit", 8, r"image_size=8 .*\(16\); try 16"),
        ("test_vit", 0, r"image_size=0 .*try 16"),
    ],
)
def test_an_image_size_that_patches_do_not_fill_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_vit(name, size)


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
            create_vit("vit_tiny_patch16_224", 32, state)


def test_a_hub_that_fails_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, **arguments: Any) -> Any:
        if arguments.get("pretrained"):
            raise OSError("no connection\nand many more lines")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match=r"weights of test_vit \(no connection\); use a local file .*random"):
        create_vit("test_vit", 32, pretrained=True)
