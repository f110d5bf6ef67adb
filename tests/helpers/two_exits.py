"""A model of two exits and data that train in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dmpo_explore.config import TrainingConfig
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import EpochResult, Validation, fit

CONFIG = TrainingConfig(epochs=2, batch_size=8, precision="no", schedule="linear", warmup_epochs=0.5, flip=False)


class TwoExits(nn.Module):
    """(b, 6) → logits (b, 2, 3); nothing random in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.first(x), self.second(x.sin())], dim=1)


def make_model() -> TwoExits:
    torch.manual_seed(1)
    return TwoExits()


def make_data(n: int = 64) -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    return TensorDataset(torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator))


def run(
    config: TrainingConfig = CONFIG, *, shuffle: bool = True, data: TensorDataset | None = None, **options: Any
) -> tuple[TwoExits, list[tuple[EpochResult, dict[str, Any]]]]:
    model = make_model()
    loader = DataLoader(data or make_data(), batch_size=config.batch_size, shuffle=shuffle)
    validate = options.pop("validate", lambda model: Validation((0.5, 0.6), 0.55))
    accelerator = options.pop("accelerator", None) or make_accelerator(config, "cpu")
    return model, list(fit(model, loader, config, 2, validate=validate, accelerator=accelerator, **options))


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])
