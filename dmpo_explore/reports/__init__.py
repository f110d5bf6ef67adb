"""Reports: a run and a policy in, one HTML file out that opens without a network.

Example:
    >>> import dmpo_explore as dx
    >>> run = dx.load_run("demo")
    >>> policy = dx.fit_policy(run.record("calibration"), flops=0.40)
    >>> "confidence" in dx.reports.report_html(run, policy, images=0)
    True
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .report import report_html as report_html
    from .report import write_report as write_report

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
