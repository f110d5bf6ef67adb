"""Jobs: trainings in the background, their status, progress and estimated duration."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
