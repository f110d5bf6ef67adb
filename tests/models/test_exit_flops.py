"""FLOPs of every exit: counted in one call, equal to counts of models that are cut there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torchvision
from earlyon.models import custom_ee
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from dmpo_explore.models.flops import count_flops, exit_flops

IMAGE = torch.zeros(1, 3, 64, 64)


class Chain(nn.Module):
    """Three linear blocks of 8, with predictors that run at once or after the trunk."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(8, 5) for _ in range(3))
        self.late = late

    def forward(self, x: Tensor) -> list[Tensor]:
        found, answers = [], []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x)
            found.append(x)
            if not self.late:
                answers.append(head(x))
        return answers or [head(x) for head, x in zip(self.heads, found, strict=True)]


@pytest.mark.parametrize("late", [False, True])
def test_the_order_of_the_code_does_not_matter(late: bool) -> None:
    model = Chain(late)
    found = exit_flops(model, torch.zeros(1, 8), list(zip(model.blocks, model.heads, strict=True)))
    block, head = 2 * 8 * 8, 2 * 8 * 5
    assert found.cumulative == tuple((k + 1) * (block + head) for k in range(3))
    assert found.reference == 3 * block + head
    whole = exit_flops(model, torch.zeros(1, 8), [(model.blocks[0], model.heads[0]), (model, None)])
    assert whole.cumulative == (block + head, 3 * (block + head))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_modules_that_do_not_run_once_and_exits_out_of_order() -> None:
    model, image = Chain(False), torch.zeros(1, 8)
    with pytest.raises(ValueError, match="exit 2: Linear did not run"):
        exit_flops(model, image, [(model.blocks[0], model.heads[0]), (model.blocks[1], nn.Linear(8, 5))])
    with pytest.raises(ValueError, match="exit 1: Linear ran 2 times"):
        exit_flops(lambda x: (model(x), model(x)), image, [(model.blocks[0], model.heads[0])])
    with pytest.raises(ValueError, match="do not rise from exit to exit"):
        exit_flops(model, image, [(model.blocks[2], model.heads[2]), (model.blocks[0], model.heads[0])])


def test_a_vit_with_hidden_states() -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64}
    models = {
        n: ViTForImageClassification(ViTConfig(num_hidden_layers=n, num_labels=7, **sizes)).eval() for n in (2, 3)
    }
    head, vit = nn.Linear(32, 7), models[3]

    def all_exits(images: Tensor) -> list[Tensor]:
        out = vit(images, output_hidden_states=True)
        return [head(out.hidden_states[2][:, 0]), out.logits]

    found = exit_flops(all_exits, IMAGE, [(vit.vit.layers[1], head), (vit, None)])
    assert found.cumulative[0] == count_flops(models[2], IMAGE)  # its own classifier is as large as this predictor
    assert found.reference == count_flops(vit, IMAGE) and found.cumulative[1] == found.reference + 2 * 32 * 7


def test_earlyon_is_counted_as_the_cut_backbone_and_its_predictors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = torchvision.models.resnet18(num_classes=7)
        model = custom_ee(backbone, ["layer1", "layer3"], 7, input_shape=(1, 3, 64, 64)).eval()
    exits = [(backbone.get_submodule(at.layer_name), model.exit_heads[at.name]) for at in model.config.exit_points]
    found = exit_flops(lambda x: model(x, mode="training"), IMAGE, [*exits, (backbone, None)])
    heads = [count_flops(head, torch.zeros(1, width, 4, 4)) for (_, head), width in zip(exits, (64, 256), strict=True)]
    cut = [count_flops(nn.Sequential(*list(backbone.children())[:n]), IMAGE) for n in (5, 7)]
    trunk = count_flops(backbone, IMAGE)
    assert found.cumulative == (cut[0] + heads[0], cut[1] + sum(heads), trunk + sum(heads))
    assert found.reference == trunk


@pytest.mark.slow
def test_auxiliary_predictors_of_googlenet_and_inception() -> None:
    google = torchvision.models.googlenet(num_classes=7, aux_logits=True, init_weights=False).eval()
    plain = torchvision.models.googlenet(num_classes=7, aux_logits=False, init_weights=False).eval()
    google.training = True
    exits = [(google.inception4a, google.aux1), (google.inception4d, google.aux2), (google.avgpool, google.fc)]
    found = exit_flops(google, IMAGE, exits)
    assert found.reference == count_flops(plain, IMAGE) and found.cumulative[2] == count_flops(google, IMAGE)
    until = nn.Sequential(*list(plain.children())[:9])  # to inception4a
    assert found.cumulative[0] == count_flops(until, IMAGE) + count_flops(google.aux1, torch.zeros(1, 512, 4, 4))
    third = torchvision.models.inception_v3(num_classes=7, aux_logits=True, init_weights=False).eval()
    third.training = True
    large = torch.zeros(1, 3, 299, 299)
    found = exit_flops(third, large, [(third.Mixed_6e, third.AuxLogits), (third.avgpool, third.fc)])
    assert found.cumulative[1] == count_flops(third, large) and found.cumulative[0] < found.reference
