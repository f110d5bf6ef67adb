"""The network: backbone, stages, bypass, exit predictors, tuning, and its FLOPs.

Example:
    >>> import dmpo_explore as dx, torch
    >>> config = dx.ModelConfig("test_vit", "random", image_size=32, exits=2, bypass_width=4, channels=8)
    >>> model = dx.build_model(config, n_classes=3).eval()
    >>> model.exits, tuple(model(torch.rand(5, 3, 32, 32)).shape)  # (B, K, C): the logits of every exit
    ((3, 6), (5, 2, 3))
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .backbone import Backbone as Backbone
    from .backbone import ExitShape as ExitShape
    from .bypass import BYPASSES as BYPASSES
    from .bypass import Bypass as Bypass
    from .bypass import ConvBypass as ConvBypass
    from .bypass import LadderBypass as LadderBypass
    from .bypass import MLPBypass as MLPBypass
    from .bypass import NoBypass as NoBypass
    from .dmpo import DMPO as DMPO
    from .factory import build_model as build_model
    from .factory import build_reference as build_reference
    from .flops import ExitFlops as ExitFlops
    from .flops import ModelFlops as ModelFlops
    from .flops import count_flops as count_flops
    from .flops import exit_flops as exit_flops
    from .flops import measure_flops as measure_flops
    from .own import cut_chain as cut_chain
    from .own import cut_transformers as cut_transformers
    from .predictors import NORMALISATIONS as NORMALISATIONS
    from .predictors import PREDICTORS as PREDICTORS
    from .predictors import CovariancePredictor as CovariancePredictor
    from .predictors import LinearPredictor as LinearPredictor
    from .predictors import MomentPredictor as MomentPredictor
    from .predictors import Predictor as Predictor
    from .predictors import covariance as covariance
    from .predictors import cross_moments as cross_moments
    from .predictors import newton_schulz as newton_schulz
    from .predictors import signed_sqrt as signed_sqrt
    from .predictors import upper_triangle as upper_triangle
    from .stage import Stage as Stage
    from .stage import StageOutput as StageOutput
    from .tuning import TUNINGS as TUNINGS
    from .tuning import merge as merge
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
