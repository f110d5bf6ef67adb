"""A network of one's own as a backbone, trained from random weights.

dmpo-explore train --backbone own_backbone.py:make --tuning full --data FOLDER --record
"""

from torch import Tensor, nn

import dmpo_explore as dx


class Residual(nn.Module):
    """x + f(x); group norms, because a backbone's batch norms stay as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        return x + nn.functional.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    """A classifier as it may be: a stem, blocks, pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 8, stride=8)
        self.blocks = nn.ModuleList(Residual(32) for _ in range(4))
        self.fc = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, 10)."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def make(image_size: int) -> object:
    """Four blocks; pooling and the linear layer are left out."""
    return dx.models.cut_chain(Net(), "blocks", image_size=image_size)
