"""Analysis: what a policy is worth on a record, calibration, decision traces, novelty, shift."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
