"""Early-exit inference: the loop that stops, its engines (torch, onnxruntime), recording, live runs.

Example:
    >>> import dmpo_explore as dx, torch
    >>> config = dx.ModelConfig("test_vit", "random", image_size=32, exits=2, bypass_width=4, channels=8)
    >>> model = dx.build_model(config, n_classes=3).eval()
    >>> out = dx.infer(model, torch.rand(5, 3, 32, 32), dx.POLICIES["confidence"]((0.0,)))
    >>> out.exit.tolist()  # from 0; a threshold of 0 stops every image at the first exit, and no later stage runs
    [0, 0, 0, 0, 0]
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .device import GpuUse as GpuUse
    from .device import describe_device as describe_device
    from .device import device_facts as device_facts
    from .device import gpu_use as gpu_use
    from .energy import energy_counter as energy_counter
    from .exit_loop import InferenceResult as InferenceResult
    from .exit_loop import run_early_exit as run_early_exit
    from .exit_loop import stream_early_exit as stream_early_exit
    from .export_service import add_service as add_service
    from .live_arms import ENGINES as ENGINES
    from .live_arms import load_average as load_average
    from .live_arms import open_arms as open_arms
    from .live_run import ALIVE as ALIVE
    from .live_run import IDLE as IDLE
    from .live_run import WARM_UP as WARM_UP
    from .live_run import Arms as Arms
    from .live_run import LiveRun as LiveRun
    from .live_run import Look as Look
    from .live_stats import Answer as Answer
    from .live_stats import Call as Call
    from .live_stats import Count as Count
    from .live_stats import Disagreement as Disagreement
    from .live_stats import Latency as Latency
    from .live_stats import LiveStats as LiveStats
    from .live_stats import Measured as Measured
    from .live_stats import Point as Point
    from .live_stats import Speed as Speed
    from .onnx_engine import OnnxEngine as OnnxEngine
    from .onnx_single import join_stages as join_stages
    from .torch_compile import compiled as compiled
    from .torch_compile import graph_buffer_bytes as graph_buffer_bytes
    from .torch_compile import graphed as graphed
    from .torch_corrupted import record_corrupted as record_corrupted
    from .torch_engine import infer as infer
    from .torch_engine import stream as stream
    from .torch_export import export_model as export_model
    from .torch_export import export_run as export_run
    from .torch_export_int8 import Int8Comparison as Int8Comparison
    from .torch_export_int8 import compared as compared
    from .torch_export_int8 import export_int8 as export_int8
    from .torch_predict import Prediction as Prediction
    from .torch_predict import predict_files as predict_files
    from .torch_predict import to_csv as to_csv
    from .torch_recording import record_run as record_run
    from .torch_recording import record_split as record_split
    from .torch_recount import recount_run as recount_run
    from .torch_recount import run_flops as run_flops
    from .torch_stage_times import time_stages as time_stages
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
