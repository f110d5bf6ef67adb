"""Inspection: tokens of every stage, CKA similarity, principal components of patches, linear probes, gradient conflict.

Functions take a `DMPO` or its tokens and return tables and arrays; `dx.figures` draws them.
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .cka import cka_matrix as cka_matrix
    from .cka import linear_cka as linear_cka
    from .conflict import gradient_conflict as gradient_conflict
    from .pca import PatchComponents as PatchComponents
    from .pca import patch_components as patch_components
    from .pca import principal_components as principal_components
    from .probes import half_of as half_of
    from .probes import patch_means as patch_means
    from .probes import probe_stages as probe_stages
    from .probes import reconstruct as reconstruct
    from .probes import ridge_accuracy as ridge_accuracy
    from .probes import ridge_r2 as ridge_r2
    from .tokens import StageTokens as StageTokens
    from .tokens import block_view as block_view
    from .tokens import read_out as read_out
    from .tokens import stage_tokens as stage_tokens
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
