"""Analysis: metrics of a policy on a record, calibration, decision traces, novelty, shift.

Example:
    >>> import dmpo_explore as dx
    >>> run = dx.load_run("demo")
    >>> policy = dx.fit_policy(run.record("calibration"), flops=0.40)
    >>> found = dx.apply(policy, run.record("test")).summary()
    >>> round(found["accuracy"], 3), round(found["mean_exit"], 1)
    (0.892, 2.1)
    >>> trace = dx.analysis.trace_decision(run.record("test"), policy, 290)
    >>> trace.sentence()
    'Goes to the last exit: its confidence never rises to the threshold; closest was exit 5 with 29.2%...'
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .calibration import adaptive_calibration_error as adaptive_calibration_error
    from .calibration import brier_score as brier_score
    from .calibration import calibration_error as calibration_error
    from .calibration import calibration_table as calibration_table
    from .calibration import expected_error as expected_error
    from .calibration import failure_prediction as failure_prediction
    from .calibration import failure_prediction_table as failure_prediction_table
    from .calibration import negative_log_likelihood as negative_log_likelihood
    from .calibration import probabilities as probabilities
    from .calibration import reliability_table as reliability_table
    from .decision_trace import DecisionTrace as DecisionTrace
    from .decision_trace import most_probable as most_probable
    from .decision_trace import telling_image as telling_image
    from .decision_trace import trace_decision as trace_decision
    from .decision_trace import trace_table as trace_table
    from .evaluation import BUDGETS as BUDGETS
    from .evaluation import PROTOCOLS as PROTOCOLS
    from .evaluation import evaluate_policies as evaluate_policies
    from .evaluation import evaluate_protocol as evaluate_protocol
    from .evaluation import evaluate_runs as evaluate_runs
    from .evaluation import fit_run_policy as fit_run_policy
    from .evaluation import same_images as same_images
    from .evaluation import unavailable_reason as unavailable_reason
    from .image_map import image_map as image_map
    from .image_map import kept_map as kept_map
    from .image_map import map_source as map_source
    from .image_table import image_paths as image_paths
    from .image_table import image_table as image_table
    from .image_table import to_fiftyone as to_fiftyone
    from .image_table import write_image_table as write_image_table
    from .metrics import Outcome as Outcome
    from .metrics import accuracy_interval as accuracy_interval
    from .metrics import apply as apply
    from .metrics import area as area
    from .metrics import balanced_accuracy as balanced_accuracy
    from .metrics import best_and_worst as best_and_worst
    from .metrics import bootstrap_difference as bootstrap_difference
    from .metrics import class_metrics as class_metrics
    from .metrics import gain as gain
    from .metrics import parts as parts
    from .metrics import seeds_interval as seeds_interval
    from .metrics import summarise as summarise
    from .metrics import trade_off as trade_off
    from .novelty import NoveltyDetector as NoveltyDetector
    from .novelty import novelty_detector as novelty_detector
    from .run_choice import RunChoice as RunChoice
    from .run_choice import choose_run as choose_run
    from .run_choice import run_differences as run_differences
    from .shift import HeldOut as HeldOut
    from .shift import Transfer as Transfer
    from .shift import excess_p_value as excess_p_value
    from .shift import shift_table as shift_table
    from .shift import transfer as transfer
    from .shift import transfer_places as transfer_places
    from .shift import transfer_run as transfer_run
    from .sliders import Slider as Slider
    from .sliders import SliderCounts as SliderCounts
    from .sliders import exit_limits as exit_limits
    from .sliders import exits_at as exits_at
    from .sliders import slider_counts as slider_counts
    from .tables import card_results as card_results
    from .tables import class_table as class_table
    from .tables import markdown as markdown
    from .tables import policy_table as policy_table
    from .tables import table as table
    from .tables import transfer_lines as transfer_lines
    from .tables import write_card_results as write_card_results
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
