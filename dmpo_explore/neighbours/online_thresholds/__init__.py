"""Online thresholds: a bandit that chooses a threshold for every image, without labels (UAT, arXiv 2509.23666).

Example:
    >>> import dmpo_explore as dx
    >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
    >>> run = dx.load_run("demo")
    >>> calibration, test = run.record("calibration"), run.record("test")
    >>> bandit = fit_bandit(calibration, dx.fit_policy(calibration, flops=0.40))
    >>> dx.online_thresholds(test.subset(slice(100)), bandit).exits.shape
    (100,)
"""

from typing import TYPE_CHECKING

from ...utils.lazy import public_names

if TYPE_CHECKING:
    from .bandit import BanditState as BanditState
    from .bandit import ThresholdBandit as ThresholdBandit
    from .bandit import fit_bandit as fit_bandit
    from .stream import OnlineThresholds as OnlineThresholds
    from .stream import online_thresholds as online_thresholds
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
