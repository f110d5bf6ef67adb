"""Token merging: means of groups, the same groups found again, trunks that keep the grid, its savings and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from devices import Operations
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.neighbours.token_merging import merged_trunk
from dmpo_explore.neighbours.token_merging.merged_trunk import Groups, MergedTrunk, match, token_counts
from dmpo_explore.neighbours.token_merging.options import TokenMerging

N, D = 13, 6
_LATE = {"merge": 1, "merge_from": 9}


def tokens(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, N, D, generator=torch.Generator().manual_seed(seed))


def config(**changes: Any) -> ModelConfig:
    parts = {"image_size": 64, "exits": (2, 4), "rank": 4, "bypass_width": 8, "channels": 8} | changes
    return ModelConfig("test_vit", "random", **parts)


@pytest.mark.parametrize("drop", [0, 1, 4, N // 2])
def test_the_most_similar_pairs_are_matched(drop: int) -> None:
    x = tokens()
    order, target = match(x, drop)
    for b in range(len(x)):
        like = F.cosine_similarity(x[b, :, None], x[b, None], dim=-1)
        best = {i: 2 * int(like[i, 1::2].argmax()) + 1 for i in range(0, N, 2)}
        wanted = sorted(best, key=lambda i: -float(like[i, best[i]]))[:drop]
        assert order[b, N - drop :].tolist() == wanted
        assert (2 * target[b] + 1).tolist() == [best[i] for i in wanted]
        assert sorted(order[b].tolist()) == list(range(N))


@pytest.mark.parametrize("count", [N, N - 1, 7, 4, 1])
def test_a_group_is_the_mean_of_its_patches(count: int) -> None:
    x = tokens()
    groups = Groups.single(x).merged(count)
    assert groups.means.shape == (len(x), count, D)
    for b in range(len(x)):
        for k in range(count):
            own = x[b][groups.source[b] == k]
            assert len(own) == groups.sizes[b, k, 0]
            torch.testing.assert_close(groups.means[b, k], own.mean(0))
    torch.testing.assert_close(groups.patches().mean(1), x.mean(1))


def test_groups_are_found_again_from_their_patches() -> None:
    groups = Groups.single(tokens()).merged(5)
    again = Groups.found(groups.patches(), 5)
    torch.testing.assert_close(again.patches(), groups.patches())
    assert [sorted(size) for size in again.sizes[..., 0].tolist()] == [sorted(s) for s in groups.sizes[..., 0].tolist()]


def test_sums_on_a_gpu_are_the_same_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """scatter_add adds in any order there; tried on a CPU."""
    x = tokens()
    expected = Groups.single(x).merged(5)
    monkeypatch.setattr(merged_trunk, "_adds_in_any_order", lambda device: True)
    with Operations() as ran:
        groups = Groups.single(x).merged(5)
        again = Groups.found(groups.patches(), 5)
    assert "bmm" in ran.names and "scatter_add" not in ran.names
    for found in (groups, again):
        torch.testing.assert_close(found.patches(), expected.patches())


def test_equal_patches_leave_no_empty_group() -> None:
    """A black image has fewer different patches than groups."""
    groups = Groups.found(torch.ones(2, N, D), 5)
    assert groups.sizes.min() >= 1 and groups.sizes.sum() == 2 * N
    torch.testing.assert_close(groups.merged(2).patches(), torch.ones(2, N, D))


def test_a_trunk_cut_in_two_computes_what_the_whole_one_does() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(D, D), nn.GELU()) for _ in range(4)]
    whole = MergedTrunk(blocks, (12, 10, 8, 6), given=12, prefix=1)
    first, second = MergedTrunk(blocks[:2], (12, 10), 12, 1), MergedTrunk(blocks[2:], (8, 6), 10, 1)
    x = tokens()
    torch.testing.assert_close(second(first(x)), whole(x))


def test_the_same_weights_serve_with_and_without_merging() -> None:
    plain, same, merged = (assemble(config(**changes), 3).eval() for changes in ({}, _LATE, {"merge": 2}))
    for model in (same, merged):
        model.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(same(images), plain(images))  # merges before block 9 of 4
    torch.testing.assert_close(merged(images)[:, 0], plain(images)[:, 0])  # exit 1 is behind block 2
    assert not torch.allclose(merged(images)[:, 1], plain(images)[:, 1])


def test_a_predictor_reads_every_merged_token_once() -> None:
    model = assemble(config(merge=3, merge_from=2, bypass="none", predictor="linear", read="mean"), 3).eval()
    seen: list[Tensor] = []
    stage = model.stages[1]
    stage.predictor.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    *_, last = model.walk(torch.randn(2, 3, 64, 64))
    _ = last.logits
    tokens = last.tokens
    assert tokens.shape[1] == 17 and seen[0].shape[1] == 1 + 8
    for b in range(2):
        distinct = torch.stack([row for i, row in enumerate(tokens[b, 1:]) if not _among(row, tokens[b, 1 : 1 + i])])
        torch.testing.assert_close(seen[0][b, 1:], stage.norm(distinct))


def _among(row: Tensor, earlier: Tensor) -> bool:
    return any(torch.equal(row, other) for other in earlier)


def test_counts_fall_to_the_least_and_stay_there() -> None:
    assert token_counts(49, 8, merge=10, start=3) == (49, 49, 39, 29, 19, 9, 8, 8)
    assert token_counts(4, 3, merge=1, start=1) == (4, 4, 4)


def test_merged_tokens_cost_less_and_train() -> None:
    merged, plain = config(merge=3, merge_from=2), config()
    model = assemble(merged, 3)
    saved, full = (measure_flops(assemble(c, 3), build_reference(c, 3)) for c in (merged, plain))
    assert saved.cumulative[-1] < 0.9 * full.cumulative[-1] and saved.reference == full.reference
    assert min(saved.tuning) == 0 and saved.trunk[1] < full.trunk[1]
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    tuned = [p for name, p in model.named_parameters() if ".trunk." in name and p.requires_grad]
    assert tuned and all(p.grad is not None and bool(p.grad.isfinite().all()) for p in tuned)
    assert model.stages[1].grid == (4, 4)


def test_heat_maps_keep_the_grid() -> None:
    model = assemble(config(merge=3, merge_from=2), 3).eval()
    image = torch.randn(1, 3, 64, 64)
    found = dx.attribute(model, image, exit=1, target=0, method="token_grad_cam")
    assert found.tokens.shape == (4, 4)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: assemble(ModelConfig("resnet10t", "random", 64, exits=2, merge=2), 3),
            "merge=2: only a ViT's trunks",
        ),
        (
            lambda: dx.attribute(
                assemble(config(merge=3, merge_from=2), 3).eval(), torch.randn(3, 64, 64), 1, 0, "attention_rollout"
            ),
            "their number changes on the way",
        ),
        (lambda: dx.Config.from_dict({"model": {"merge": -1}}), "merge=.* must be at least"),
        (lambda: dx.Config.from_dict({"model": {"merge_from": 0}}), "merge_from=.* must be at least"),
    ],
)
def test_what_cannot_be_merged_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_they_stand_beside_the_models_own_and_only_where_they_are_chosen() -> None:
    config = dx.Config.from_dict({"model": {"merge": 2}})
    assert config.model.part(TokenMerging) == TokenMerging(2, 3) and config.get("model.merge_from") == 3
    assert dx.Config.from_json(config.to_json()) == config
    assert config.to_arguments() == ["--merge", "2"]
    assert "merge" not in dx.Config().to_dict()["model"]
    assert dx.Config.from_dict({"model": {"merge": 0, "merge_from": 3}}) == dx.Config()  # as earlier versions wrote it


def test_in_words() -> None:
    assert TokenMerging(1, 4).described() == "1 patch token merged away before each block from block 4 on"
    assert TokenMerging(merge_from=5).described() == ""
