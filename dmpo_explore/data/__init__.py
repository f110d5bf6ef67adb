"""Images: known data sets, folders of one's own, files; loaders and corruptions for torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
