"""Early-exit inference: the loop that stops, its engines (torch, onnxruntime), recording, live runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
