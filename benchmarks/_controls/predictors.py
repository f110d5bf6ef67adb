"""Predictors as large as DMPO's early exit that have no covariance: two layers, and attention pooling.

In: the shape of an exit and a config. Out: entries of the library's joint of predictors. Both read what a linear
predictor reads. Their inner width is the one with which an early exit, its bypass included, has as many trainable
weights as one of DMPO: a covariance predictor with the bypass `conv`, of the same trunk width, classes and `channels`
(226,985 in the bundled run `demo`, of 81 classes). So the predictor is smaller where the config has a bypass. Exit norm
and scale are the same in all arms, and not counted. `covariance-wide` is the library's covariance predictor with the
`channels` that make it as large without a bypass.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.backbone import ExitShape
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.predictors import PREDICTORS, READS, CovariancePredictor, LinearPredictor, Predictor

HEADS = 4


class TwoLayers(Predictor):
    """Two linear layers with a GELU between them, on the class token and the mean patch token."""

    def __init__(self, width: int, n_classes: int, prefix: int, read: str, hidden: int) -> None:
        super().__init__()
        self.reader, self.prefix = READS[read], prefix
        self.layers = nn.Sequential(
            nn.Linear(2 * width if read == "both" else width, hidden), nn.GELU(), nn.Linear(hidden, n_classes)
        )

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> TwoLayers:
        """A new predictor; its hidden layer has what the weights of DMPO's exit leave."""
        inputs = 2 * shape.width if read == "both" else shape.width
        left = weights_left(shape, n_classes, config, read) - n_classes  # biases of the second layer
        return cls(shape.width, n_classes, shape.prefix, read, round(left / (inputs + 1 + n_classes)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        logits: Tensor = self.layers(self.reader(x, self.prefix))
        return logits


class AttentionPooling(Predictor):
    """logits = W1·read + W2·pooled: a learned query a head weighs the patch tokens' values by softmax attention."""

    def __init__(self, width: int, n_classes: int, prefix: int, read: str, inner: int) -> None:
        super().__init__()
        self.prefix = prefix
        self.first = LinearPredictor(width, n_classes, prefix, read)
        self.query = nn.Parameter(torch.randn(HEADS, inner // HEADS) * (inner // HEADS) ** -0.5)
        self.key, self.value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.second = nn.Linear(inner, n_classes, bias=False)

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> AttentionPooling:
        """A new predictor; keys and values have what the weights of DMPO's exit leave."""
        left = weights_left(shape, n_classes, config, read)
        left -= count(LinearPredictor.at(shape, n_classes, config, read))
        inner = HEADS * round(left / (2 * (shape.width + 1) + 1 + n_classes) / HEADS)
        return cls(shape.width, n_classes, shape.prefix, read, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        patches = x[:, self.prefix :]
        keys, values = (
            part(patches).unflatten(2, self.query.shape).transpose(1, 2) for part in (self.key, self.value)
        )  # (B, heads, N, inner / heads)
        scores = keys @ self.query.unsqueeze(2) * self.query.shape[1] ** -0.5  # (B, heads, N, 1)
        pooled = (scores.softmax(dim=2).transpose(2, 3) @ values).flatten(1)
        logits: Tensor = self.first(x) + self.second(pooled)
        return logits


class WideCovariance(CovariancePredictor):
    """A covariance predictor whose ``channels`` make it as large as an exit of DMPO with its bypass."""

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> CovariancePredictor:
        """A new predictor; of all widths the one whose weights are nearest to what DMPO's exit leaves."""
        left = weights_left(shape, n_classes, config, read) - count(LinearPredictor.at(shape, n_classes, config, read))

        def off(channels: int) -> float:
            return abs(shape.width * channels + n_classes * channels * (channels + 1) / 2 - left)

        channels = min(range(1, shape.width + 1), key=off)
        return super().at(shape, n_classes, replace(config, channels=channels), read)


def weights_left(shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> int:
    """Trainable weights of DMPO's early exit, less those of the bypass that ``config`` has."""
    with torch.device("meta"):  # counted without drawing from the generator
        whole = count(CovariancePredictor.at(shape, n_classes, config, read), BYPASSES["conv"].at(shape, config))
        return whole - count(BYPASSES[config.bypass].at(shape, config))


def count(*modules: nn.Module) -> int:
    """Weights of modules."""
    return sum(weight.numel() for module in modules for weight in module.parameters())


NEW: dict[str, type[Predictor]] = {
    "two-layers": TwoLayers,
    "attention-pooling": AttentionPooling,
    "covariance-wide": WideCovariance,
}


def register() -> None:
    """Let configs name them."""
    PREDICTORS.update(NEW)
