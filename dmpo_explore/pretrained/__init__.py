"""Pre-trained backbones: sources, verification and conversion of their weights.

Example:
    >>> import dmpo_explore as dx
    >>> sorted(dx.pretrained.SOURCES)  # backbones that `dmpo-explore fetch` brings without a model hub
    ['tf_efficientnet_lite0', 'vit_small_patch14_dinov2']
    >>> dx.pretrained.find_weights("test_vit", "random") is None  # random weights need no file
    True
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .weights import KEYWORDS as KEYWORDS
    from .weights import WeightsFile as WeightsFile
    from .weights import cached_weights as cached_weights
    from .weights import fetch_weights as fetch_weights
    from .weights import find_weights as find_weights
    from .weights import is_hub as is_hub
    from .wheels import SOURCES as SOURCES
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
