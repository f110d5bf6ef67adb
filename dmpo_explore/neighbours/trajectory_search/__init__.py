"""Search over learning curves: proposes settings whose predicted curve extends the front (arXiv 2405.15303).

Example:
    >>> import dmpo_explore as dx
    >>> "trajectory" in dx.search.SAMPLERS  # `dmpo-explore search --sampler trajectory`, the default
    True
"""

from typing import TYPE_CHECKING, Any

from ...joints import SAMPLERS, SamplerKind
from ...utils.lazy import public_names

if TYPE_CHECKING:
    from .proposals import can_extend as can_extend
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)


def _sampler(study: Any, space: Any, seed: int | None, options: None) -> Any:
    from .proposals import LearningCurveSampler

    return LearningCurveSampler(space, seed)


def _can_extend(*curves_and_goal: Any) -> bool:
    from .proposals import can_extend

    return can_extend(*curves_and_goal)


SAMPLERS["trajectory"] = SamplerKind(_sampler, _can_extend, preferred=True)
