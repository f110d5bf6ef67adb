"""Slimming (COST-EFF, arXiv 2210.15523): attention heads and MLP neurons of a trained ViT removed, then distillation.

The trunk change ``slimming`` is the record of what was done, from which a slimmed run's narrower blocks are built; the
command ``slim`` makes such a run.

Example:
    >>> from dmpo_explore.neighbours.slimming import slim
    >>> run = slim("demo", name="half")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...joints import COMMANDS, TRUNK_CHANGES, TrunkChange
from ...utils.lazy import public_names
from . import options as _options

if TYPE_CHECKING:
    from .options import Slimming as Slimming
    from .options import SlimSettings as SlimSettings
    from .slim import answer_losses as answer_losses
    from .slim import slim as slim
    from .slim import slim_epochs as slim_epochs
    from .surgery import Importance as Importance
    from .surgery import measure_importance as measure_importance
    from .surgery import remove as remove
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)


def _narrowed(backbone: Any, slimming: Slimming) -> Any:
    from .surgery import narrow

    narrow(backbone.trunks, slimming)
    return backbone


def _add_command(app: Any) -> None:
    from .cli import HELP, slim

    app.command(help=HELP)(slim)


TRUNK_CHANGES["slimming"] = TrunkChange(
    _options.Slimming,
    _narrowed,
    whole=True,
    parent=lambda slimming: slimming.run,
    described=lambda slimming: f"{slimming.described()}. Distilled from that run, hidden states first",
    untrainable=lambda slimming: (
        f"is {slimming.described()}, and its weights start from that run: slim that run again (`dmpo-explore slim`), "
        "or continue with `dmpo-explore slim --resume RUN`"
    ),
)
COMMANDS["slim"] = _add_command
