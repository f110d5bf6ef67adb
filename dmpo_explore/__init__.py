"""Early-exit vision models: train them, record them once, explore them with thresholds.

Public names load their module on first use (PEP 562), so that ``import dmpo_explore`` is quick and asking a record
never imports torch. ``_HOMES`` says where each name lives; the same imports stand once more for type checkers, and
tests/test_architecture.py holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Attribution": "attribution.attribute",
    "Backbone": "models.backbone",
    "Config": "config",
    "DMPO": "models.dmpo",
    "DataConfig": "config",
    "EpochResult": "training.loop",
    "ExitRecord": "records.record",
    "Inference": "inference.loop",
    "ModelConfig": "config",
    "OnnxEngine": "inference.onnx_engine",
    "Policy": "policies.catalogue",
    "Preprocess": "config",
    "Run": "runs.run",
    "SearchSpace": "search.space",
    "TrainingConfig": "config",
    "attribute": "attribution.attribute",
    "bootstrap_difference": "analysis.metrics",
    "build_model": "models.factory",
    "compare_exits": "attribution.attribute",
    "fetch_weights": "pretrained.weights",
    "fit_policy": "fitting.fit",
    "gradient_conflict": "inspection.gradients",
    "infer": "inference.torch_engine",
    "linear_cka": "inspection.cka",
    "list_runs": "runs.run",
    "load_pictures": "data.images",
    "load_run": "runs.run",
    "probe_stages": "inspection.probes",
    "record_run": "training.train",
    "record_split": "inference.torch_engine",
    "run_search": "search.run",
    "search_front": "search.study",
    "stage_tokens": "inspection.tokens",
    "stream": "inference.torch_engine",
    "summarise": "analysis.metrics",
    "trade_off": "analysis.metrics",
    "train": "training.train",
    "trunk_versus_bypass": "attribution.pathways",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from .analysis.metrics import bootstrap_difference as bootstrap_difference
    from .analysis.metrics import summarise as summarise
    from .analysis.metrics import trade_off as trade_off
    from .attribution.attribute import Attribution as Attribution
    from .attribution.attribute import attribute as attribute
    from .attribution.attribute import compare_exits as compare_exits
    from .attribution.pathways import trunk_versus_bypass as trunk_versus_bypass
    from .config import Config as Config
    from .config import DataConfig as DataConfig
    from .config import ModelConfig as ModelConfig
    from .config import Preprocess as Preprocess
    from .config import TrainingConfig as TrainingConfig
    from .data.images import load_pictures as load_pictures
    from .fitting.fit import fit_policy as fit_policy
    from .inference.loop import Inference as Inference
    from .inference.onnx_engine import OnnxEngine as OnnxEngine
    from .inference.torch_engine import infer as infer
    from .inference.torch_engine import record_split as record_split
    from .inference.torch_engine import stream as stream
    from .inspection.cka import linear_cka as linear_cka
    from .inspection.gradients import gradient_conflict as gradient_conflict
    from .inspection.probes import probe_stages as probe_stages
    from .inspection.tokens import stage_tokens as stage_tokens
    from .models.backbone import Backbone as Backbone
    from .models.dmpo import DMPO as DMPO
    from .models.factory import build_model as build_model
    from .policies.catalogue import Policy as Policy
    from .pretrained.weights import fetch_weights as fetch_weights
    from .records.record import ExitRecord as ExitRecord
    from .runs.run import Run as Run
    from .runs.run import list_runs as list_runs
    from .runs.run import load_run as load_run
    from .search.run import run_search as run_search
    from .search.space import SearchSpace as SearchSpace
    from .search.study import search_front as search_front
    from .training.loop import EpochResult as EpochResult
    from .training.train import record_run as record_run
    from .training.train import train as train
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
