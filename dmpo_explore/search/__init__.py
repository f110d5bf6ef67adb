"""Search: training settings for a trade-off, over whole learning curves, shared by workers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
