"""Cut by rule: the chain of parts is the module itself, and a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from answers import as_recorded
from synthetic import between, make_meta
from torch import Tensor, nn

from dmpo_explore import ModelConfig, infer, record_split
from dmpo_explore.models import cut_chain, timm_backbones
from dmpo_explore.models.backbone import LAYOUTS, exit_blocks
from dmpo_explore.models.counting import count_flops
from dmpo_explore.models.cut import CutError, Parts, block_costs, cut_by_rule, layout_of, proved, sequences
from dmpo_explore.models.factory import assemble
from dmpo_explore.models.timm_backbones import create_backbone, nearest_size, split_backbone
from dmpo_explore.policies.rules import ConfidencePolicy

KINDS = {  # one of each kind: rotary positions, gated blocks, maps that end as tokens, weight-standardised, …
    "vit_tiny_patch16_dinov3_qkvb": (64, "tokens", 12),
    "test_mambaout": (64, "channels_last", 6),
    "test_coatnet": (160, "channels_first", 4),
    "test_nfnet": (64, "channels_first", 4),
    "lcnet_035": (64, "channels_first", 13),
    "regnetx_002": (64, "channels_first", 13),
    "test_vit_relpos": (160, "tokens", 9),
    "test_convnext": (64, "channels_first", 9),
    "test_efficientnet": (64, "channels_first", 5),
    "test_resnet": (64, "channels_first", 4),
    "test_convnext3": (64, "channels_first", 4),
    "convnext_atto": (64, "channels_first", 12),
    "convnextv2_atto": (64, "channels_first", 12),
    "test_efficientnet_gn": (64, "channels_first", 5),
    "tf_efficientnet_lite0": (64, "channels_first", 16),
    "mobilenetv2_050": (64, "channels_first", 17),
    "tf_efficientnetv2_b0": (64, "channels_first", 21),
    "resnet10t": (64, "channels_first", 4),
    "swin_tiny_patch4_window7_224": (64, "channels_last", 12),
    "levit_128s": (224, "tokens", 9),
    "twins_svt_small": (64, "tokens", 18),
    "efficientformer_l1": (224, "channels_first", 4),
}


def images(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Three residual blocks with a scale that begins at zero, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(4))
        self.scale = nn.Parameter(torch.zeros(4))
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = x + self.scale[i] * block(x)
        x = x.reshape(x.shape[0], 8, -1).transpose(1, 2)
        normalised: Tensor = self.norm(x)
        return normalised


def cut_net(net: nn.Module) -> Parts:
    return cut_by_rule(net, "forward", [f"blocks.{i}" for i in range(4)], images(16))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_state_is_timms_own(name: str) -> None:
    size, layout, depth = KINDS[name]
    torch.manual_seed(0)
    whole: Any = create_backbone(name, size).double()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = whole.forward_features(images(size).double())
        cut = split_backbone(whole, 3, size)
        state = cut.embed(images(size).double())
        for trunk, width, grid in zip(cut.trunks, cut.widths, cut.grids, strict=True):
            state = trunk(state)
            assert LAYOUTS[cut.layout](state).shape == (2, cut.prefix + grid[0] * grid[1], width)
        found = LAYOUTS[cut.layout](state)
        wanted = wanted if wanted.ndim == 3 else LAYOUTS[layout](wanted)
        found = found if torch.allclose(found, wanted) else cut.norms[-1](found)  # where timm's features end in it
    assert (cut.layout, cut.exits[-1]) == (layout, depth)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb", "lcnet_035", "test_mambaout"])
def test_executed_exits_are_the_recorded_ones(name: str) -> None:
    size = KINDS[name][0]
    torch.manual_seed(0)
    config = ModelConfig(name, "random", size, exits=3, tuning="none", bypass_width=6, channels=16)
    model, batch = assemble(config, 5), images(size, 6)
    meta = make_meta(6, 3, 5, exits=model.exits, flops=(1, 2, 3), reference_flops=3)
    record = record_split(model, [(batch, torch.arange(6) % 5)], meta)
    policy = ConfidencePolicy((between(record.confidence, 0.5),))
    as_recorded(infer(model, batch, policy), policy, record)


def test_random_weights_do_not_depend_on_the_cut() -> None:
    """What is drawn after a backbone is built is the same whether it was proved or not."""
    torch.manual_seed(0)
    timm.create_model("lcnet_035", num_classes=0, drop_path_rate=0.0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    split_backbone(create_backbone("lcnet_035", 64), 3, 64)
    assert torch.equal(torch.rand(3), wanted)


def test_a_cut_by_rule_is_proved_once_a_process_and_the_six_families_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(model: nn.Module, call: Any, batch: Tensor, *rest: Any) -> Parts:
        made.append(batch.shape[-1])
        return proved(model, call, batch, *rest)

    monkeypatch.setattr(timm_backbones, "_proved", {})
    monkeypatch.setattr(timm_backbones, "proved", counted)
    for name, size in (("lcnet_035", 64), ("test_vit", 32), ("lcnet_035", 64), ("lcnet_035", 96), ("test_resnet", 64)):
        split_backbone(create_backbone(name, size), 3, size)
    assert made == [64, 96]


class ZeroHead(nn.Module):
    """A classifier whose last layer begins at zero: all its answers are the bias."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(3, 2)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("kind", "spoil", "where"),
    [
        (Net, lambda parts: parts.blocks.reverse(), "blocks.0"),
        (Net, lambda parts: parts.blocks.pop(), "blocks.3"),
        (Net, lambda parts: parts.tail.append(nn.ReLU()), "what follows its blocks"),
        (ZeroHead, lambda parts: parts.blocks.reverse(), "blocks.0"),
    ],
)
def test_a_wrong_cut_is_refused_at_the_block_where_it_parts(
    kind: type[Any], spoil: Callable[[Parts], object], where: str
) -> None:
    torch.manual_seed(0)
    net, names = kind().eval(), [f"blocks.{i}" for i in range(4)]

    def cut(*, spoilt: bool = False) -> Parts:
        parts = cut_by_rule(net, "forward", names, images(16), has_head=kind is ZeroHead)
        if spoilt:
            spoil(parts)
        return parts

    with pytest.raises(CutError, match=f"parts from its own features at {where}"):
        proved(net, "forward", images(16, 3), lambda: cut(spoilt=True), names)
    proved(net, "forward", images(16, 3), cut, names)
    begins_at_zero = net.scale if kind is Net else net.head.weight
    assert not begins_at_zero.any()  # as it was


def test_features_that_are_the_same_for_all_images_prove_nothing() -> None:
    class Constant(ZeroHead):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0

    with pytest.raises(ValueError, match="Constant cannot be cut: it gives the same for different images"):
        cut_chain(Constant(), "blocks", image_size=16)


class Branching(Net):
    def number(self, x: Tensor) -> bool:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.number(x) else -x)


class Looking(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x)


class Gate(nn.Module):
    """A module that gives a number that depends on the images' values."""

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, int(x.mean() > 0)


NUMBERS: dict[str, Callable[[Any, Tensor], Any]] = {
    "item": lambda net, x: x.mean().item() > 0,
    "tolist": lambda net, x: x.mean((1, 2, 3)).tolist()[0] > 0,
    "equal": lambda net, x: torch.equal(x, x.abs()),
    "allclose": lambda net, x: x.allclose(-x),
    "numpy": lambda net, x: x.detach().numpy()[0, 0, 0, 0] > 0,
    "gate": lambda net, x: net.gate(x)[1],
}


@pytest.mark.parametrize("reader", [*NUMBERS, "looking"])
def test_a_forward_that_looks_at_the_images_is_refused(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Branching, "number", NUMBERS.get(reader))
    net = Looking().eval() if reader == "looking" else Branching().eval()
    net.gate = Gate()
    said = rf"computes numbers from the images' values \({reader}\)"
    with pytest.raises(CutError, match=said if reader in NUMBERS else r"its forward cannot be followed \(TraceError: "):
        cut_net(net)


def test_numbers_of_shapes_are_none_of_values() -> None:
    class Sized(Branching):
        def number(self, x: Tensor) -> bool:
            return x.numel() > 3 and x.is_floating_point() and x.stride()[0] > 1 and x.is_contiguous()

    net = Sized().eval()
    proved(net, "forward", images(16, 3), lambda: cut_net(net), [])


def test_a_number_of_images_that_is_written_down_is_refused() -> None:
    class Fixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(2, 3, 16, 16))

    net = Fixed().eval()
    with pytest.raises(RuntimeError, match="invalid for input"):  # its own forward
        proved(net, "forward", images(16, 3), lambda: cut_net(net), [])


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.blocks = nn.Conv2d(8, 8, 1), nn.Sequential(Net(), Net(), Net())


def test_blocks_are_found_in_sequences_of_sequences() -> None:
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    net = nn.Sequential(layer, nn.Sequential(Stage(), Stage()), nn.ReLU())
    stages = [f"1.{k}.{part}" for k in range(2) for part in ("down", "blocks.0", "blocks.1", "blocks.2")]
    assert sequences(net) == ["0", *stages, "2"]
    assert sequences(Net()) == ["stem", *(f"blocks.{i}" for i in range(4)), "norm"]


class Ending(nn.Module):
    """Four convolutions with a pooling of any kind and a linear layer behind them."""

    def __init__(self, pool: Callable[[Tensor], Tensor] | nn.Module, inputs: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.layers = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)))
        self.pool, self.head = pool, nn.Linear(inputs, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.layers(self.stem(x)))
        logits: Tensor = self.head(x.flatten(1))
        return logits


class AttentionPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return (self.scores(tokens).softmax(1) * tokens).sum(1, keepdim=True)


POOLS: dict[str, Any] = {
    "mean": lambda x: x.mean((2, 3)),
    "adaptive": nn.AdaptiveAvgPool2d(1),
    "adaptive maximum": nn.AdaptiveMaxPool2d(1),
    "window": nn.AvgPool2d(4),
    "function": lambda x: nn.functional.max_pool2d(x, 4),
    "maximum": lambda x: x.amax((2, 3)),
    "sum": lambda x: torch.sum(x, (-2, -1), keepdim=True),
    "flattened": lambda x: x.flatten(2).mean(-1),
    "logsumexp": lambda x: x.flatten(2).transpose(1, 2).logsumexp(1),
    "attention": AttentionPool(),
    "first place": lambda x: x[:, :, 0, 0],
}


@pytest.mark.parametrize("pool", POOLS)
def test_any_pooling_begins_the_head(pool: str) -> None:
    torch.manual_seed(0)
    net, batch = Ending(POOLS[pool]), images(16)
    wanted = net.layers(net.stem(batch)).detach()
    parts = cut_chain(net, "layers", image_size=16)
    assert (len(parts.blocks), parts.layout) == (4, "channels_first")
    state = parts.embed(batch)
    for part in (part for piece in (*parts.blocks, parts.tail) for part in piece):
        state = part(state)
    found = LAYOUTS[parts.layout](state)
    torch.testing.assert_close(found, LAYOUTS["channels_first"](wanted))


def test_as_many_channels_as_places_are_no_tokens() -> None:
    parts = cut_chain(Ending(lambda x: x.flatten(2).mean(-1)), "layers", image_size=16)
    wide = Ending(lambda x: x.flatten(2).mean(-1), inputs=16)
    wide.stem, wide.layers = nn.Conv2d(3, 16, 4, 4), nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)))
    same = cut_chain(wide, "layers", image_size=16)
    assert parts.tail == same.tail == [] and same.layout == "channels_first"


def test_a_block_that_ends_in_one_patch_is_no_head() -> None:
    layers = [nn.Conv2d(8, 8, 3, padding=1, stride=1 + (k > 1)) for k in range(4)]  # 4, 4, 2, 1 places a side
    net = Ending(nn.AdaptiveAvgPool2d(1))
    net.layers = nn.Sequential(*layers)
    parts = cut_chain(net, "layers", image_size=16)
    assert [block[0] for block in parts.blocks] == layers and not parts.tail


def test_exits_are_placed_by_cost() -> None:
    assert exit_blocks(3, 6, [1, 2, 3, 40, 70, 100]) == (4, 5, 6)
    assert exit_blocks(3, 4, [97, 98, 99, 100]) == (1, 2, 4)
    assert exit_blocks(2, 4, [10, 49, 60, 100]) == (2, 4)
    net = Net().eval()
    parts = cut_net(net)
    costs = block_costs(parts, 16)
    block = count_flops(net.blocks[0], torch.zeros(1, 8, 4, 4))
    assert np.diff(costs).tolist() == [block] * 3 and costs[0] > block  # the embedding counts with the first block


def test_the_layout_of_a_state_is_read_from_its_shape() -> None:
    shapes = {(2, 8, 4, 4): ("channels_first", 0), (2, 4, 4, 8): ("channels_last", 0), (2, 17, 8): ("tokens", 1),
              (2, 2, 3, 4): ("", 0), (2, 4): ("", 0)}  # fmt: skip
    assert {shape: layout_of(torch.zeros(shape), 0) for shape in shapes} == shapes
    assert layout_of(torch.zeros(2, 21, 8), 5) == ("tokens", 5)


def test_the_nearest_size_is_one_that_the_backbone_takes() -> None:
    found = {name: nearest_size(name, 70) for name in ("test_vit", "vit_small_patch14_dinov2", "regnetx_002")}
    assert found == {"test_vit": 64, "vit_small_patch14_dinov2": 70, "regnetx_002": 70}
