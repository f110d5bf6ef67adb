"""Attribution: heat maps of the image for each exit's logit, by Captum's methods.

A method is a function and one line of the catalogue in `methods.py`.

Example:
    >>> import dmpo_explore as dx, torch
    >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
    >>> model = dx.build_model(config, n_classes=3).eval()
    >>> maps = dx.compare_exits(model, torch.rand(3, 32, 32), target=0)  # integrated gradients at every exit
    >>> maps.heat.shape
    (2, 32, 32)
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .attribute import Attribution as Attribution
    from .attribute import ExitComparison as ExitComparison
    from .attribute import attribute as attribute
    from .attribute import compare_exits as compare_exits
    from .exit_model import BASELINES as BASELINES
    from .exit_model import DELTA_BOUND as DELTA_BOUND
    from .exit_model import make_baseline as make_baseline
    from .exit_model import to_cells as to_cells
    from .exit_model import within_bound as within_bound
    from .methods import METHODS as METHODS
    from .methods import REFUSED as REFUSED
    from .methods import integrate_exits as integrate_exits
    from .pathways import PathwayAttribution as PathwayAttribution
    from .pathways import attribute_pathways as attribute_pathways
    from .quality import Quality as Quality
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
