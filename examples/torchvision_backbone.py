"""A MobileNetV3 of torchvision as a backbone.

dmpo-explore train --backbone torchvision_backbone.py:make --data FOLDER --record
"""

from pathlib import Path

import torch
import torchvision

import dmpo_explore as dx


def make(image_size: int, weights: Path | None = None) -> object:
    """With random weights, or those of ``--weights FILE`` (a state dict)."""
    net = torchvision.models.mobilenet_v3_small()
    if weights:
        net.load_state_dict(torch.load(weights, weights_only=True))
    return dx.models.cut_torchvision(net, image_size)
