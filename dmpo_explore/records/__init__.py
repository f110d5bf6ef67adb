"""Exit records: every exit's answer about every image of a split, written once, read many times."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
