"""Runs: folders with a trained model's configuration, weights, history and records.

Example:
    >>> import dmpo_explore as dx
    >>> run = dx.load_run("demo")
    >>> run.splits(), run.config.data.name
    (['calibration', 'test', 'val'], 'grocery')
    >>> dx.runs.check_folder(run.path).valid
    True
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .check import FolderCheck as FolderCheck
    from .check import Problem as Problem
    from .check import check_folder as check_folder
    from .hub import push_page as push_page
    from .hub import push_run as push_run
    from .hub import write_hub_folder as write_hub_folder
    from .run import Run as Run
    from .run import outdated_splits as outdated_splits
    from .run_data import check_images as check_images
    from .run_data import default_splits as default_splits
    from .run_data import move_data as move_data
    from .run_files import WEIGHTS as WEIGHTS
    from .run_files import read_config as read_config
    from .run_files import read_weights_meta as read_weights_meta
    from .run_files import record_name as record_name
    from .run_files import recorded_elsewhere as recorded_elsewhere
    from .score_files import doubts as doubts
    from .score_files import image_list as image_list
    from .score_files import read_scores as read_scores
    from .score_files import record_logits as record_logits
    from .score_files import understood as understood
    from .score_folder import ScoreFolder as ScoreFolder
    from .score_folder import check_same_model as check_same_model
    from .score_folder import load_scored as load_scored
    from .setting_differences import COMPARED as COMPARED
    from .setting_differences import config_differences as config_differences
    from .store import BUNDLED_RUNS as BUNDLED_RUNS
    from .store import list_runs as list_runs
    from .store import load_run as load_run
    from .store import new_run_path as new_run_path
    from .store import runs_root as runs_root
    from .timings import StageTimes as StageTimes
    from .timings import Timings as Timings
    from .timings import read_stage_times as read_stage_times
    from .timings import read_timings as read_timings
    from .torch_model import read_weights as read_weights
    from .torch_model import save_weights as save_weights
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
