"""Figures: tables and arrays in, Plotly figures out.

Every function ends in ``_figure`` and only returns the figure. Colours, symbols and layout are in `style.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
