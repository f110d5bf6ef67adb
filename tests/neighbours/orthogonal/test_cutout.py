"""CutOut by patches: what is hidden, whose attention it is, and the models that it refuses."""

from __future__ import annotations

import pytest
import torch
from small_model import made, pictures

from dmpo_explore.models.attention import attention_weights
from dmpo_explore.neighbours.orthogonal.self_regularisation import attended, check_cutout, hide, scores


def test_a_quarter_of_the_patches_is_hidden_those_with_the_largest_scores() -> None:
    images, found = torch.rand(3, 3, 20, 20) + 1, torch.rand(3, 25)
    cut = hide(images, found, (5, 5))
    for image, whole, own in zip(cut, images, found, strict=True):
        tiles = image.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).reshape(25, -1)
        gone = (tiles == 0).all(1)
        assert gone.sum() == 25 // 4
        assert own[gone].min() > own[~gone].max()
        assert torch.equal(image[image != 0], whole[image != 0])


def test_a_grid_need_not_divide_the_image() -> None:
    cut = hide(torch.ones(1, 3, 10, 10), torch.tensor([[0.0, 1, 0, 0, 0, 0, 0, 0, 0]]), (3, 3))
    assert 0 < float((cut == 0).float().mean()) <= 0.25


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2"])  # a class token; none, but a register
@torch.no_grad()
def test_attention_is_that_of_the_last_block_from_the_class_token_or_all_patches(backbone: str) -> None:
    model = made(backbone=backbone, exits=2, tuning="none")
    found, logits = scores("attentive", pictures(), model)
    with attention_weights([model.stages[1].trunk]) as seen:
        expected_logits = model(pictures())
    assert logits is not None and torch.equal(logits, expected_logits)
    last = seen[-1].mean(1)
    expected = last[:, 0, 1:] if backbone == "test_vit" else last[:, 1:].mean(1)[:, 1:]
    torch.testing.assert_close(found, expected)
    assert found.shape == (4, 4)
    torch.testing.assert_close(attended(seen[-1], model), found)


def test_random_scores_follow_torchs_generator() -> None:
    model = made(exits=2)
    torch.manual_seed(1)
    first, logits = scores("random", pictures(), model)
    torch.manual_seed(1)
    assert logits is None and torch.equal(scores("random", pictures(), model)[0], first)
    assert not torch.equal(scores("random", pictures(), model)[0], first)


def test_what_cannot_be_cut_is_refused() -> None:
    for backbone in ("test_convnext", "swin_tiny_patch4_window7_224"):
        size = 64 if "conv" in backbone else 224
        model = made(backbone=backbone, image_size=size, exits=1, tuning="none", predictor="linear")
        with pytest.raises(ValueError, match="cutout='attentive' needs a ViT, whose attention reads all patches; use"):
            check_cutout("attentive", model)
    small = made(backbone="test_efficientnet", image_size=32, exits=2, tuning="none", predictor="linear")
    with pytest.raises(ValueError, match="hides one patch in 4, but an image has 1x1 at the last exit; use larger"):
        check_cutout("random", small)
    check_cutout("none", small)
