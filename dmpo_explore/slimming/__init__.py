"""Slimming: attention heads and MLP neurons of a trained ViT removed by importance, then distillation."""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .distillation import answer_losses as answer_losses
    from .importance import Importance as Importance
    from .importance import measure_importance as measure_importance
    from .options import SlimSettings as SlimSettings
    from .slim import slim as slim
    from .slim import slim_epochs as slim_epochs
    from .surgery import remove as remove
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
