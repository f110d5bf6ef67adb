"""Inspection: tokens of every stage, CKA similarity, principal components of patches, linear probes, gradient conflict.

Functions take a `DMPO` or its tokens and return tables and arrays; `dx.figures` draws them.

Example:
    >>> import dmpo_explore as dx, torch
    >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
    >>> tokens = dx.stage_tokens(dx.build_model(config, n_classes=3), torch.rand(8, 3, 32, 32))
    >>> first, last = (trunk.flatten(1) for trunk in tokens.trunk)
    >>> round(dx.linear_cka(first, first), 3), dx.linear_cka(first, last) < 1
    (1.0, True)
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .cka import cka_matrix as cka_matrix
    from .cka import linear_cka as linear_cka
    from .conflict import gradient_conflict as gradient_conflict
    from .tokens import PatchComponents as PatchComponents
    from .tokens import StageTokens as StageTokens
    from .tokens import half_of as half_of
    from .tokens import patch_components as patch_components
    from .tokens import patch_means as patch_means
    from .tokens import principal_components as principal_components
    from .tokens import probe_stages as probe_stages
    from .tokens import ridge_accuracy as ridge_accuracy
    from .tokens import ridge_r2 as ridge_r2
    from .tokens import stage_tokens as stage_tokens
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
