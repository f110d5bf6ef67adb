"""Pre-trained backbones: where their weights come from, how they are verified and converted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
