"""Early-exit vision models: train them, record them once, explore them with thresholds.

Public names load their module on first use, so that ``import dmpo_explore`` is quick and reading a record never imports
torch. ``__init__.pyi`` lists them, for type checkers and for `lazy_loader` alike.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
