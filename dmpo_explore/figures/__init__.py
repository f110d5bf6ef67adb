"""Figures: tables and arrays in, Plotly figures out.

Every function ends in ``_figure`` and only returns the figure. Colours, symbols and layout are in `style.py`.

Example:
    >>> import dmpo_explore as dx
    >>> record = dx.load_run("demo").record("test")
    >>> figure = dx.figures.trade_off_figure({"demo": dx.trade_off(record, "confidence")})
    >>> figure.data[0].name
    'demo'
    >>> figure.write_html("trade-off.html")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .attribution import exit_maps_figure as exit_maps_figure
    from .attribution import patch_maps_figure as patch_maps_figure
    from .attribution import pathways_figure as pathways_figure
    from .compare import accuracy_difference_figure as accuracy_difference_figure
    from .compare import class_accuracy_figure as class_accuracy_figure
    from .compare import in_gflops as in_gflops
    from .compare import mark_limits as mark_limits
    from .compare import mark_points as mark_points
    from .compare import transfer_figure as transfer_figure
    from .inspection import cka_figure as cka_figure
    from .inspection import depth_figure as depth_figure
    from .inspection import gradient_conflict_figure as gradient_conflict_figure
    from .inspection import probe_figure as probe_figure
    from .inspection import token_colours_figure as token_colours_figure
    from .live import exit_shares_figure as exit_shares_figure
    from .live import latency_figure as latency_figure
    from .live import speed_figure as speed_figure
    from .reliability import fixed_sequence_figure as fixed_sequence_figure
    from .study import front_figure as front_figure
    from .study import gains_figure as gains_figure
    from .style import COMPUTE as COMPUTE
    from .style import CORRECT as CORRECT
    from .style import DASHES as DASHES
    from .style import GREY as GREY
    from .style import INCORRECT as INCORRECT
    from .style import MODEL_COLOURS as MODEL_COLOURS
    from .style import SYMBOLS as SYMBOLS
    from .style import abbreviated as abbreviated
    from .style import as_text as as_text
    from .style import exit_colours as exit_colours
    from .style import unique_labels as unique_labels
    from .trade_off import class_exit_figure as class_exit_figure
    from .trade_off import exit_histogram_figure as exit_histogram_figure
    from .trade_off import trade_off_figure as trade_off_figure
    from .training import exit_predictions_figure as exit_predictions_figure
    from .training import histories_figure as histories_figure
    from .training import history_figure as history_figure
    from .training import kept_epoch as kept_epoch
    from .training import learning_figure as learning_figure
    from .training import schedule_figure as schedule_figure
    from .training import second_phase as second_phase
    from .training import seeds_figure as seeds_figure
    from .wall import LONGEST_SHAPE as LONGEST_SHAPE
    from .wall import class_counts_figure as class_counts_figure
    from .wall import image_wall_figure as image_wall_figure
    from .wall import middle_part as middle_part
    from .wall import smaller_image as smaller_image
    from .wall import thumbnail_address as thumbnail_address
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
