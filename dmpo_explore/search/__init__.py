"""Search: training settings for a trade-off, over every epoch of every trial, shared by workers.

Example:
    >>> import dmpo_explore as dx
    >>> error_and_compute = [[0.10, 0.9], [0.12, 0.4], [0.13, 0.6]]
    >>> dx.search.non_dominated(error_and_compute).tolist()  # the last one is worse in both than the second
    [True, True, False]
    >>> study = dx.run_search("mine", minutes=10)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .goal import Goal as Goal
    from .goal import LearningCurve as LearningCurve
    from .goal import hypervolume as hypervolume
    from .goal import non_dominated as non_dominated
    from .goal import operating_points as operating_points
    from .samplers import SAMPLERS as SAMPLERS
    from .samplers import SamplerConfig as SamplerConfig
    from .search_run import SearchStep as SearchStep
    from .search_run import run_search as run_search
    from .space import Choice as Choice
    from .space import Range as Range
    from .space import SearchSpace as SearchSpace
    from .space import default_space as default_space
    from .space import read_space as read_space
    from .study import SearchFront as SearchFront
    from .study import load_front as load_front
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
