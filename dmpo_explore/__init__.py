"""Early-exit vision models: train them, record them once, explore them with thresholds.

Public names load their module on first use (PEP 562), so that ``import dmpo_explore`` is quick and asking a record
never imports torch. ``_HOMES`` says where each name lives; the same imports stand once more for type checkers, and
tests/test_architecture.py holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Attribution": "attribution",
    "Backbone": "cut",
    "Config": "config",
    "DMPO": "model",
    "DataConfig": "config",
    "EpochResult": "training",
    "ExitRecord": "record",
    "Inference": "routing",
    "ModelConfig": "config",
    "OnnxEngine": "onnx_engine",
    "Policy": "policy",
    "Preprocess": "config",
    "Run": "run",
    "SearchSpace": "space",
    "TrainingConfig": "config",
    "attribute": "attribution",
    "bootstrap_difference": "metrics",
    "build_model": "build",
    "compare_exits": "attribution",
    "fetch_weights": "weights",
    "fit_policy": "fitting",
    "gradient_conflict": "gradients",
    "infer": "engine",
    "linear_cka": "similarity",
    "list_runs": "run",
    "load_pictures": "images",
    "load_run": "run",
    "probe_stages": "probes",
    "record_run": "experiment",
    "record_split": "engine",
    "run_search": "search",
    "search_front": "studies",
    "stage_tokens": "representation",
    "stream": "engine",
    "summarise": "metrics",
    "trade_off": "metrics",
    "train": "experiment",
    "trunk_versus_bypass": "attribution_pathways",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from .attribution import Attribution as Attribution
    from .attribution import attribute as attribute
    from .attribution import compare_exits as compare_exits
    from .attribution_pathways import trunk_versus_bypass as trunk_versus_bypass
    from .build import build_model as build_model
    from .config import Config as Config
    from .config import DataConfig as DataConfig
    from .config import ModelConfig as ModelConfig
    from .config import Preprocess as Preprocess
    from .config import TrainingConfig as TrainingConfig
    from .cut import Backbone as Backbone
    from .engine import infer as infer
    from .engine import record_split as record_split
    from .engine import stream as stream
    from .experiment import record_run as record_run
    from .experiment import train as train
    from .fitting import fit_policy as fit_policy
    from .gradients import gradient_conflict as gradient_conflict
    from .images import load_pictures as load_pictures
    from .metrics import bootstrap_difference as bootstrap_difference
    from .metrics import summarise as summarise
    from .metrics import trade_off as trade_off
    from .model import DMPO as DMPO
    from .onnx_engine import OnnxEngine as OnnxEngine
    from .policy import Policy as Policy
    from .probes import probe_stages as probe_stages
    from .record import ExitRecord as ExitRecord
    from .representation import stage_tokens as stage_tokens
    from .routing import Inference as Inference
    from .run import Run as Run
    from .run import list_runs as list_runs
    from .run import load_run as load_run
    from .search import run_search as run_search
    from .similarity import linear_cka as linear_cka
    from .space import SearchSpace as SearchSpace
    from .studies import search_front as search_front
    from .training import EpochResult as EpochResult
    from .weights import fetch_weights as fetch_weights
else:

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
