"""Fitting: a record and a target in, a frozen policy out; temperatures and risk control.

Example:
    >>> import dmpo_explore as dx
    >>> run = dx.load_run("demo")
    >>> policy = dx.fit_policy(run.record("calibration"), "confidence", flops=0.40)
    >>> dx.apply(policy, run.record("test")).summary()["flops_fraction"] < 0.42
    True
    >>> dx.fitting.images_needed(epsilon=0.05, delta=0.05)  # calibration images that can certify an error of 5 %
    59
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .fit import Sweep as Sweep
    from .fit import cross_validated_gain as cross_validated_gain
    from .fit import few_images as few_images
    from .fit import fit_again as fit_again
    from .fit import fit_policy as fit_policy
    from .fit import made_for as made_for
    from .fit import realised_flops as realised_flops
    from .fit import sweep as sweep
    from .risk_control import RISKS as RISKS
    from .risk_control import Certificate as Certificate
    from .risk_control import certifiable as certifiable
    from .risk_control import certify as certify
    from .risk_control import disagreement as disagreement
    from .risk_control import fixed_sequence as fixed_sequence
    from .risk_control import hoeffding_bentkus as hoeffding_bentkus
    from .risk_control import images_needed as images_needed
    from .risk_control import smallest_risk as smallest_risk
    from .risk_control import too_early as too_early
    from .target import DEFAULT_TARGET as DEFAULT_TARGET
    from .target import KINDS as KINDS
    from .target import Target as Target
    from .temperature import fit_temperatures as fit_temperatures
    from .temperature import tempered_record as tempered_record
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
