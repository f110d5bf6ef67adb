"""The command line `dmpo-explore`; it may import everything, and it alone prints."""

from .root import app as app
from .root import main as main

__all__ = ["app", "main"]
