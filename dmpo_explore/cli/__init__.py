"""The command line `dmpo-explore`; it may import every package, and only it prints."""

from .main import app, main

__all__ = ["app", "main"]
