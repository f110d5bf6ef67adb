"""Exit policies: scores of the exits seen so far in, exit or go on out; numpy and torch alike."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
