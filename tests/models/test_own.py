"""A module of one's own: cut as a chain, those of other libraries too, and what is refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import transformers
from torch import Tensor, nn

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.backbone import LAYOUTS, Backbone
from dmpo_explore.models.counting import count_flops
from dmpo_explore.models.cut import Parts, block_costs, split
from dmpo_explore.models.defaults import fitted
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.own import cut_chain, cut_transformers, own_backbone, own_defaults
from dmpo_explore.neighbours.slimming.options import SlimSettings
from dmpo_explore.neighbours.slimming.settings import kept_width
from dmpo_explore.plugin_needs import LOADED, Plugin
from dmpo_explore.plugins import load_backbone, load_plugin, unload

VIT = {"image_size": 64, "patch_size": 16, "num_layers": 4, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}
HIERARCHY: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
TORCHVISION = {
    "ResNet": (lambda: torchvision.models.resnet18(), 8, "channels_first"),
    "VisionTransformer": (lambda: torchvision.models.VisionTransformer(**VIT), 4, "tokens"),
    "MobileNetV3": (lambda: torchvision.models.mobilenet_v3_small(), 13, "channels_first"),
    "SwinTransformer": (lambda: torchvision.models.swin_t(), 16, "channels_last"),
    "ConvNeXt": (lambda: torchvision.models.convnext_tiny(), 22, "channels_first"),
    "EfficientNet": (lambda: torchvision.models.efficientnet_v2_s(), 42, "channels_first"),
}  # fmt: skip
TRANSFORMERS = {
    "ViT": (lambda: transformers.ViTModel(transformers.ViTConfig(**SIZES)), 4, "tokens", 1),
    "Dinov2": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(**SIZES)), 4, "tokens", 1),
    "Dinov2WithRegisters": (
        lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SIZES)), 4, "tokens", 5,
    ),
    "DINOv3ViT": (lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SIZES)), 4, "tokens", 1),
    "Siglip": (lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES)), 4, "tokens", 0),
    "Swin": (
        lambda: transformers.SwinModel(
            transformers.SwinConfig(
                image_size=64, embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 4], window_size=2
            )
        ), 4, "tokens", 0,
    ),
    "ConvNextV2": (
        lambda: transformers.ConvNextV2Model(transformers.ConvNextV2Config(image_size=64, **HIERARCHY)), 5,
        "channels_first", 0,
    ),
    "ResNet": (
        lambda: transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, layer_type="basic", **HIERARCHY)),
        5, "channels_first", 0,
    ),
}  # fmt: skip


def features(parts: Parts, images: Tensor) -> Tensor:
    """The last state as normalised tokens."""
    with torch.no_grad():
        state = parts.embed(images)
        for part in (part for piece in (*parts.blocks, parts.tail) for part in piece):
            state = part(state)
        tokens = LAYOUTS[parts.layout](state)
        return tokens if parts.norm is None else parts.norm(tokens)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_chain_of_transformers(name: str) -> None:
    make, depth, layout, prefix = TRANSFORMERS[name]
    torch.manual_seed(0)
    model: Any = make().eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = model(pixel_values=images).last_hidden_state
    parts = cut_transformers(model, 64, mean=(0.1, 0.2, 0.3))
    assert parts.preprocess is not None
    assert (parts.preprocess.mean, parts.preprocess.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert (len(parts.blocks), parts.layout, parts.prefix) == (depth, layout, prefix)
    assert parts.class_token == (prefix > 0)
    wanted = wanted if wanted.ndim == 3 else LAYOUTS[layout](wanted)
    torch.testing.assert_close(features(parts, images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_chain_of_torchvision(name: str) -> None:
    make, depth, layout = TORCHVISION[name]
    torch.manual_seed(0)
    parts = cut_chain(make(), image_size=64)
    assert (len(parts.blocks), parts.layout) == (depth, layout)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x + torch.relu(self.conv(x)), None


class Looking(nn.Module):
    """Its forward looks at the images, so it cannot be followed; its chain is plain."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.layers = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            if x.sum() != 0.123:
                x = layer(x)[0]
        return x


class Wanting(Looking):
    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        if text is None:
            raise TypeError("text is missing")
        return super().forward(x)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
        self.one, self.two = nn.Linear(3, 2), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(x).mean((2, 3))
        return self.one(x), self.two(x)


class Skipping(nn.Module):
    """Every second block also reads an earlier one's output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first = self.layers[0](x)
        second = self.layers[1](first)
        return self.layers[2](second + x) + first  # type: ignore[no-any-return]


def test_a_plain_chain_whose_forward_cannot_be_followed() -> None:
    torch.manual_seed(0)
    net, images = Looking().eval(), torch.randn(3, 3, 16, 16)
    wanted = net(images).detach()
    parts = cut_chain(net, "layers", embed="stem", image_size=16)
    torch.testing.assert_close(features(parts, images), wanted.flatten(2).transpose(1, 2))


class Classifying(Looking):
    """A classifier whose forward cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.GroupNorm(1, 8), nn.Linear(8, 3)
        self.last = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = super().forward(x).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.last(tokens).amax(1))
        return logits


def test_a_classifier_whose_forward_cannot_be_followed() -> None:
    torch.manual_seed(0)
    net, images = Classifying().eval(), torch.randn(3, 3, 16, 16)
    wanted = Looking.forward(net, images).detach().flatten(2).transpose(1, 2)
    parts = cut_chain(net, "layers", embed="stem", image_size=16)
    torch.testing.assert_close(features(parts, images), wanted)
    normed = cut_chain(Classifying(), "layers", embed="stem", norm="last", image_size=16)
    assert isinstance(normed.norm, nn.LayerNorm) and len(normed.blocks) == 4


class Twice(Looking):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Between(Classifying):
    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](self.stem(x) + 1)[0]
        for layer in [*self.layers][1:]:
            x = layer(x)[0] if x.sum() != 0.123 else x
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


CHAIN = {"blocks": "layers", "embed": "stem"}


@pytest.mark.parametrize(
    ("net", "how", "message"),
    [
        (Wanting, {}, r"Wanting cannot be run on images \(B, 3, 16, 16\) alone \(TypeError: text is missing\)"),
        (TwoHeads, {}, "TwoHeads cannot be cut: its features are 2 tensors, not one"),
        (Skipping, {"blocks": "layers"}, "Skipping cannot be cut: a single tensor passes on at 1 of its blocks"),
        (Looking, {"blocks": "layers"}, "Looking cannot be cut: its forward cannot be followed .*embed="),
        (Looking, {"blocks": "layer"}, r"unknown module of Looking 'layer'\. Did you mean 'layers'\?"),
        (Looking, {"blocks": "layers", "embed": "layers.0"}, "Looking cannot be cut"),
        (Looking, {"blocks": "layers", "embed": "stems"}, "Looking cannot be cut: it has no module 'stems'"),
        (Twice, CHAIN, "Twice cannot be cut: the chain of its blocks parts from its own features at"),
        (Between, CHAIN, r"parts from its own features at layers\.0; name its norm \(norm=\), or cut"),
        (Classifying, CHAIN | {"norm": "norm"}, "Classifying cannot be cut: its forward does not call norm; cut it by"),
    ],
)
def test_what_cannot_be_cut_says_why(net: type[nn.Module], how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_chain(net(), image_size=16, **how)


class Encoder(nn.Module):
    """Patches and torch's own encoder layers, for which it has a fused path in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x


def test_torchs_encoder_layers_are_counted_and_tuned_in_eval_mode() -> None:
    torch.manual_seed(0)
    parts = cut_chain(Encoder(), "layers", image_size=32)
    n, width, inner = 16, 16, 32
    layer = 2 * n * (4 * width**2 + 2 * width * inner) + 4 * n**2 * width
    embedding = 2 * n * 3 * 8**2 * width
    assert block_costs(parts, 32) == [embedding + k * layer for k in (1, 2, 3)]
    settings = ModelConfig(image_size=32, exits=2, channels=4, bypass_width=4)
    assert parts.preprocess is not None
    model = build_model(settings, 3, backbone=split(parts, (1, 2, 3), parts.preprocess)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        tuned = [weight for name, weight in model.named_parameters() if ".lora_B." in name]
        for weight in tuned:
            nn.init.normal_(weight)
        assert tuned and not torch.allclose(model(images), before)
    assert count_flops(model.embed, torch.zeros(1, 3, 32, 32)) == embedding


# -- by name --

SOURCE = """
import torch
from torch import nn
import dmpo_explore as dx

def net():
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    blocks = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(5)]
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Sequential(*blocks), *head)

def make(image_size, weights=None):
    made = net()
    if weights:
        made.load_state_dict(torch.load(weights, weights_only=True))
    return dx.models.cut_chain(made, "1", image_size=image_size)

def whole():
    return net()

def fixed():
    return dx.models.cut_chain(net(), "1", image_size=32)

def by_hand(image_size):
    trunks = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]
    return dx.Backbone(nn.Conv2d(3, 8, 8, 8), trunks, [8] * 3, [(image_size // 8,) * 2] * 3, layout="channels_first")

def oblong(image_size):
    net = nn.Conv2d(3, 8, (image_size // 4, image_size // 8), (image_size // 4, image_size // 8))
    trunks = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)]
    norms = [nn.LayerNorm(8) for _ in trunks]
    for k, norm in enumerate(norms):
        nn.init.constant_(norm.weight, k + 1)
    shape = {"widths": [8] * 4, "grids": [(4, 8)] * 4, "layout": "channels_first"}
    return dx.Backbone(net, trunks, norms=norms, exits=(2, 3, 5, 8), **shape)

def unfit():
    return dx.Backbone(nn.Linear(7, 8), [nn.Identity()], [8], [(1, 1)])

def number():
    return 7

def broken():
    return 1 / 0

def leaving():
    raise SystemExit("no weights here")
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tiny_net.py"
    path.write_text(SOURCE, encoding="utf-8")
    load_plugin(path)
    yield path
    unload("tiny_net")


def config(function: str, **changes: Any) -> ModelConfig:
    return ModelConfig(
        f"tiny_net.py:{function}", **{"image_size": 64, "exits": 2, "channels": 4, "bypass_width": 4, **changes}
    )


@pytest.mark.parametrize(("function", "blocks"), [("make", 5), ("whole", 5), ("by_hand", 3)])
def test_a_function_may_return_a_chain_a_module_or_a_backbone(loaded: Path, function: str, blocks: int) -> None:
    assert own_backbone(config(function)).layout == "channels_first"
    model = build_model(config(function), 3)
    assert model.exits[-1] == blocks and model(torch.zeros(2, 3, 64, 64)).shape == (2, 2, 3)
    assert own_defaults(config(function, image_size=70))["image_size"] == 70


def test_a_folder_is_that_of_the_loaded_file(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_model(replace(config("make"), backbone=f"{loaded}:make"), 3).n_exits == 2
    with pytest.raises(FileNotFoundError, match="no plug-in elsewhere/tiny_net.py: no such file"):
        load_backbone("elsewhere/tiny_net.py:make")
    monkeypatch.chdir(loaded.parent)
    assert load_backbone("tiny_net.py:make") == "tiny_net.py:make"


def test_an_installed_plug_in_has_functions_too(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Plugin("packaged", "0" * 64, "nets.py", installed=True, module="my_package.nets")
    monkeypatch.setitem(LOADED, "packaged", installed)
    monkeypatch.setitem(sys.modules, "my_package.nets", sys.modules[LOADED["tiny_net"].module])
    assert build_model(replace(config("make"), backbone="packaged.py:make"), 3).n_exits == 2


def firsts(model: Any) -> list[float]:
    """The first weight of each exit norm."""
    return [stage.norm.weight[0].item() for stage in model.stages]


def test_a_backbone_that_was_cut_by_hand_is_used_as_it_is(loaded: Path) -> None:
    model, made = build_model(config("oblong", exits=4), 3), own_backbone(config("oblong"))
    assert isinstance(made, Backbone) and model.exits == made.exits == (2, 3, 5, 8)
    assert [stage.grid for stage in model.stages] == made.grids == [(4, 8)] * 4
    assert firsts(model) == [1, 2, 3, 4]
    fewer = build_model(config("oblong", exits=(3, 5)), 3)
    assert firsts(fewer) == [2, 3] and fewer.exits == (3, 5)
    assert build_reference(config("oblong", exits=(3, 5)), 3).exits == (3, 5, 8)
    assert build_model(config("oblong", exits=2), 3).exits == (3, 8)
    assert fitted(config("oblong", exits=4)).exits == (2, 3, 5, 8)
    assert fitted(config("oblong", exits=4), ["exits"]).exits == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (config("mak"), r"unknown function in tiny_net.py 'mak'\. Did you mean 'make'\?.*def mak\(image_size\)"),
        (config("broken"), r"tiny_net.py:broken failed: ZeroDivisionError: division by zero"),
        (
            config("unfit"),
            "py:unfit: its embedding cannot be run on .2, 3, 64, 64., .*mat1 and mat2 .*give the image_size",
        ),
        (config("oblong", exits=(2, 4)), r"exits=\[2, 4\]: this backbone is cut by hand after blocks \[2, 3, 5, 8\]"),
        (config("leaving"), "tiny_net.py:leaving failed: SystemExit: no weights here"),
        (config("number"), r"tiny_net.py:number returned int; it must return dx.models.cut_chain"),
        (config("fixed"), "image_size=64, but tiny_net.py:fixed is made for 32 pixels"),
        (config("make", weights="timm"), "weights='timm' are those of timm's backbones"),
        (config("whole", weights="FILE"), "tiny_net.py:whole takes none; give it a parameter weights"),
        (config("make", weights="FILE"), r"tiny_net.py:make failed: RuntimeError: .*Missing key\(s\) in state_dict"),
        (ModelConfig("other_net.py:make"), "plug-in other_net is not loaded; give its file: .*--plugin other_net.py"),
        (
            replace(config("make"), backbone="elsewhere/tiny_net.py:make"),
            "the plug-in tiny_net that is loaded is /.*; start Python anew, and give its",
        ),
    ],
)
def test_bad_functions_are_one_clear_line(loaded: Path, settings: ModelConfig, message: str) -> None:
    if settings.weights == "FILE":
        file = loaded.with_name("other.pth")
        torch.save({"nothing": torch.zeros(1)}, file)
        settings = replace(settings, weights=str(file))
    with pytest.raises(ValueError, match=message) as caught:
        build_model(settings, 3)
    assert "\n" not in str(caught.value)


def test_slimming_looks_at_it_and_says_what_it_lacks(loaded: Path) -> None:
    with pytest.raises(ValueError, match="which only plain ViTs have in every block; tiny_net.py:make is none"):
        kept_width(config("make"), SlimSettings())


def test_weights_of_a_file_are_those_that_the_function_loads(loaded: Path, tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(SOURCE, scope)
    torch.manual_seed(5)
    net = scope["net"]()
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    parts = own_backbone(config("make", weights=str(tmp_path / "mine.pth")))
    assert isinstance(parts, Parts)
    assert torch.equal(parts.blocks[2][0].weight, net[1][2].weight)  # type: ignore[arg-type]
