"""Fitting: a record and a target in, a frozen policy out; temperatures and risk control."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
