"""Small tools every package may use: registries of names, atomic files, shared types, seeding."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
