"""Attribution: which pixels each exit's answer rests on, by Captum methods per exit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
