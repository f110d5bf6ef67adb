"""The network: backbone, stages, bypass, exit predictors, tuning, and its FLOPs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
