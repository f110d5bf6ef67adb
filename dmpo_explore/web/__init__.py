"""Web pages: a run and a policy in; out one HTML file that plays its record, or a folder that also classifies.

Example:
    >>> import dmpo_explore as dx
    >>> run = dx.load_run("demo")
    >>> dx.publish(run, "demo.html")  # doctest: +SKIP
    >>> dx.web.may_be_published(run).name  # the licence of the weights in a page with the model
    'MIT'
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .export import export_web as export_web
    from .licences import may_be_published as may_be_published
    from .publish import page_html as page_html
    from .publish import publish as publish
    from .runtime import fetch_runtime as fetch_runtime

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
