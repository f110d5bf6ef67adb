"""Reports: a run and a policy in, one HTML file out that opens without a network."""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .report import report_html as report_html
    from .report import write_report as write_report

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
