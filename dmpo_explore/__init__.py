"""Early-exit vision models: train them, record them once, explore them with thresholds.

Public names load their module on first use, so that ``import dmpo_explore`` is quick and reading a record never imports
torch. They stand here once, for type checkers and for `utils.lazy` alike.
"""

from typing import TYPE_CHECKING

from .plugins import load_all as _load_all
from .utils.lazy import public_names

__version__ = "0.2.0"

if TYPE_CHECKING:
    from . import analysis as analysis
    from . import attribution as attribution
    from . import course as course
    from . import data as data
    from . import figures as figures
    from . import fitting as fitting
    from . import inference as inference
    from . import inspection as inspection
    from . import jobs as jobs
    from . import models as models
    from . import policies as policies
    from . import pretrained as pretrained
    from . import records as records
    from . import runs as runs
    from . import search as search
    from . import training as training
    from . import web as web
    from .analysis.evaluation import evaluate_runs as evaluate_runs
    from .analysis.evaluation import fit_run_policy as fit_run_policy
    from .analysis.metrics import Outcome as Outcome
    from .analysis.metrics import apply as apply
    from .analysis.metrics import bootstrap_difference as bootstrap_difference
    from .analysis.metrics import summarise as summarise
    from .analysis.metrics import trade_off as trade_off
    from .attribution.attribute import Attribution as Attribution
    from .attribution.attribute import ExitComparison as ExitComparison
    from .attribution.attribute import attribute as attribute
    from .attribution.attribute import compare_exits as compare_exits
    from .attribution.pathways import attribute_pathways as attribute_pathways
    from .config import OPTIONS as OPTIONS
    from .config import Config as Config
    from .config import DataConfig as DataConfig
    from .config import ModelConfig as ModelConfig
    from .config import Preprocess as Preprocess
    from .config import TrainingConfig as TrainingConfig
    from .config import parse_exits as parse_exits
    from .data.images import fetch_data as fetch_data
    from .data.images import load_images as load_images
    from .fitting.fit import fit_policy as fit_policy
    from .fitting.target import Target as Target
    from .inference.exit_loop import InferenceResult as InferenceResult
    from .inference.onnx_engine import OnnxEngine as OnnxEngine
    from .inference.torch_engine import infer as infer
    from .inference.torch_engine import stream as stream
    from .inference.torch_recording import record_run as record_run
    from .inference.torch_recording import record_split as record_split
    from .inspection.cka import linear_cka as linear_cka
    from .inspection.conflict import gradient_conflict as gradient_conflict
    from .inspection.tokens import probe_stages as probe_stages
    from .inspection.tokens import stage_tokens as stage_tokens
    from .models.backbone import Backbone as Backbone
    from .models.dmpo import DMPO as DMPO
    from .models.factory import build_model as build_model
    from .neighbours import slimming as slimming
    from .neighbours.online_thresholds.stream import online_thresholds as online_thresholds
    from .neighbours.slimming.slim import slim as slim
    from .plugins import load_plugin as load_plugin
    from .policies.base import Policy as Policy
    from .policies.catalogue import POLICIES as POLICIES
    from .policies.catalogue import load_policy as load_policy
    from .policies.catalogue import policy_from_dict as policy_from_dict
    from .policies.running import hold_budget as hold_budget
    from .pretrained.weights import fetch_weights as fetch_weights
    from .records.record import ExitRecord as ExitRecord
    from .runs.run import Run as Run
    from .runs.score_files import record_logits as record_logits
    from .runs.store import list_runs as list_runs
    from .runs.store import load_run as load_run
    from .search.search_run import run_search as run_search
    from .search.space import SearchSpace as SearchSpace
    from .search.study import load_front as load_front
    from .training.block_probes import probe as probe
    from .training.loop import EpochResult as EpochResult
    from .training.train import train as train
    from .training.train import train_epochs as train_epochs
    from .web.export import export_web as export_web
    from .web.publish import publish as publish
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)

_load_all()  # the shelf and plug-ins: they add entries to joints
