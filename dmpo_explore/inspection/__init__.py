"""Inspection: tokens of every stage, CKA similarity, linear probes, gradient conflict.

Functions take a `DMPO` or its tokens and return tables and arrays; `dx.figures` draws them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
