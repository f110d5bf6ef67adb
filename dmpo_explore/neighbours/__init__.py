"""The shelf: methods of other papers that stand beside DMPO, each a package that adds entries to the core's joints.

A neighbour uses only what a plug-in may use. Nothing in the core imports or names one. Its ``__init__`` registers its
entries and is light; torch is imported inside the functions that need it. `load` imports them all.
"""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every neighbour, so that its entries are in the joints."""
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}")
