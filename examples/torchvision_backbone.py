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
    return dx.models.cut_chain(net, image_size=image_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
