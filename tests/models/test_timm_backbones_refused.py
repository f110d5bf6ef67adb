"""Backbones, sizes and weights that are refused: what the error names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from dmpo_explore.models.timm_backbones import create_backbone, fetch_hub_weights


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_smal_patch14_dinov2", "vit_small_patch14_dinov2"),
        ("deit_tinny", "deit_tiny_patch16_224"),
        ("ViT_Tiny_Patch16_224", "vit_tiny_patch16_224"),
        ("???", "vit_small_patch14_dinov2"),
        ("tf_efficientnet_light0", "tf_efficientnet_lite0"),
        ("mobilenetv4", "mobilenetv4_conv_small"),
        ("dinov3", "vit_small_patch16_dinov3"),
        ("swin_tiny_patch4_window7", "swin_tiny_patch4_window7_224"),
    ],
)
def test_an_unknown_backbone_names_near_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match="unknown backbone") as caught:
        create_backbone(name, 32)
    assert near in str(caught.value)


def test_an_unknown_tag_names_known_ones() -> None:
    with pytest.raises(ValueError, match=r"tag \(foo\).* timm has: .*vit_tiny_patch16_224.augreg_in21k"):
        create_backbone("vit_tiny_patch16_224.foo", 224)


def test_patches_that_overlap_need_no_multiple_of_their_side() -> None:
    assert create_backbone("pvt_v2_b0", 64).num_features == 256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crossvit_tiny_240", "its features are 2 tensors, not one"),
        ("tnt_s_legacy_patch16_224", "a single tensor passes on at 1 of its blocks, and 3 are the least"),
        ("pit_ti_224", "its features have 0 tokens before the patches, its blocks 1"),
    ],
)
def test_a_backbone_that_the_rule_cannot_cut_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"backbone '{name}' is not served: {reason}.*docs/backbones.md.*dx.Backbone"):
        create_backbone(name, 240 if "cross" in name else 224)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_small_patch14_dinov2", 72, r"image_size=72 is not a multiple of the patch .*\(14\); try 70 or 84"),
        ("test_vit", 8, r"image_size=8 .*\(16\); try 16"),
        ("test_vit", 0, r"image_size=0 .*try 16"),
        ("swin_tiny_patch4_window7_224", 70, r"not a multiple of the patch .*\(4\); try 68 or 72"),
        ("tf_efficientnet_lite0", 24, r"image_size=24 leaves no patch at the end of .* \(one is 32 px\); try 32"),
        ("convnext_atto", 31, "try 32"),
    ],
)
def test_an_image_size_that_patches_do_not_fill_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(name, size)


def test_a_hub_that_fails_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, **arguments: Any) -> Any:
        if arguments.get("pretrained"):
            raise OSError("no connection\nand many more lines")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match=r"\(no connection\); get them with `dmpo-.*a local file .*random"):
        create_backbone("test_vit", 32, pretrained=True)
    with pytest.raises(
        FileNotFoundError, match=r"the weights of test_vit from timm's hub are not here \(no connection"
    ):
        fetch_hub_weights("test_vit")


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
