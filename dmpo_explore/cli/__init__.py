"""The command line `dmpo-explore`; it may import everything, and it alone prints."""

from .main import app, main

__all__ = ["app", "main"]
