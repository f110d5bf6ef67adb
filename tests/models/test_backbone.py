"""A backbone of one's own: defaults, what is refused, where exits fall, and states read as tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dmpo_explore.config import Preprocess
from dmpo_explore.models.backbone import LAYOUTS, Backbone, check_backbone, exit_blocks


def mine(**changes: Any) -> Backbone:
    """Maps of 8 channels at 4x4, then of 16 at 2x2, for images of 16 pixels."""
    trunks: list[nn.Module] = [nn.Conv2d(4, 8, 2, 2), nn.Sequential(nn.Conv2d(8, 16, 2, 2), nn.BatchNorm2d(16))]
    made = Backbone(nn.Conv2d(3, 4, 2, 2), trunks, [8, 16], [(4, 4), (2, 2)], layout="channels_first")
    return replace(made, **changes)


def test_every_layout_gives_the_same_tokens() -> None:
    tokens = torch.arange(2 * 6 * 5.0).reshape(2, 6, 5)  # a grid of 2x3, width 5
    maps = tokens.reshape(2, 2, 3, 5)
    assert torch.equal(LAYOUTS["tokens"](tokens), tokens)
    assert torch.equal(LAYOUTS["channels_last"](maps), tokens)
    assert torch.equal(LAYOUTS["channels_first"](maps.permute(0, 3, 1, 2)), tokens)
    assert sorted(LAYOUTS) == ["channels_first", "channels_last", "tokens"]


def test_defaults() -> None:
    plain = Backbone(nn.Identity(), [nn.Identity(), nn.Identity()], [3, 5], [(2, 2), (1, 1)])
    norms: Any = plain.norms
    assert [norm.normalized_shape for norm in norms] == [(3,), (5,)]
    assert (plain.layout, plain.prefix, plain.class_token, plain.exits) == ("tokens", 0, False, (1, 2))
    assert plain.preprocess is None


def test_checked_it_is_frozen_in_eval_mode_and_has_a_preprocess() -> None:
    checked = check_backbone(mine(), 16)
    assert checked.preprocess == Preprocess(16, (0.5,) * 3, (0.5,) * 3)
    parts = [checked.embed, *checked.trunks]
    assert not any(p.requires_grad for part in parts for p in part.parameters())
    assert not any(module.training for part in parts for module in part.modules())
    own = Preprocess(16, (0.1,) * 3, (0.2,) * 3)
    assert check_backbone(mine(preprocess=own), 16).preprocess == own


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"widths": [8, 15]}, 16, r"trunk 2 hands on \(2, 16, 2, 2\) .*width 15.*\(2, 15, 2, 2\)"),
        ({"grids": [(4, 3), (2, 2)]}, 16, r"trunk 1 hands on .*grid 4x3"),
        ({"layout": "channels_last"}, 16, r"trunk 1 hands on .*\(2, 4, 4, 8\)"),
        ({"layout": "tokens", "prefix": 1}, 16, r"trunk 1 hands on .*prefix 1: \(2, 17, 8\)"),
        ({"layout": "NCHW"}, 16, "unknown layout 'NCHW'.*channels_first"),
        (
            {"embed": nn.Linear(7, 7)},
            16,
            r"its embedding cannot be run on \(2, 3, 16, 16\), .*\(RuntimeError: ",
        ),
        ({"embed": nn.AdaptiveMaxPool2d(8, return_indices=True)}, 16, "its embedding hands on a tuple"),
        ({"prefix": 1}, None, "layout='channels_first' with prefix=1"),
        ({"class_token": True}, None, "only a state of layout 'tokens' has a prefix or a class token"),
        ({"layout": "tokens", "class_token": True}, None, "class_token=True, but prefix=0"),
        ({"layout": "tokens", "prefix": -1}, None, "prefix=-1"),
        ({"widths": [8]}, None, "K of each, K at least 1; this one has .*'widths': 1"),
        ({"trunks": [], "widths": [], "grids": [], "norms": None}, None, "K at least 1"),
        ({}, 32, "trunk 1 hands on .* for 2 images of 32 pixels"),
        ({"preprocess": Preprocess(16, (0.5,) * 3, (0.5,) * 3)}, 32, "image_size=32, but .* makes 16 pixels"),
    ],
)
def test_its_parts_must_fit_what_it_says_of_itself(changes: dict[str, Any], size: int | None, message: str) -> None:
    """Without a size it is refused where it is made."""
    with pytest.raises(ValueError, match=message):
        check_backbone(mine(**changes), size) if size else mine(**changes)


@pytest.mark.parametrize(
    ("exits", "depth", "blocks"),
    [(4, 12, (3, 6, 9, 12)), (1, 12, (12,)), (4, 6, (2, 3, 4, 6)), (12, 12, tuple(range(1, 13))), ((2, 5), 6, (2, 5))],
)
def test_exit_blocks_of_a_number(exits: Any, depth: int, blocks: tuple[int, ...]) -> None:
    assert exit_blocks(exits, depth) == blocks


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
    ],
)
def test_bad_exits_are_refused(exits: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exit_blocks(exits, 12)
