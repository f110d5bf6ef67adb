"""Early-exit inference: the loop that stops, its engines (torch, onnxruntime), recording, live runs.

Example:
    >>> import dmpo_explore as dx, torch
    >>> config = dx.ModelConfig("test_vit", "random", image_size=32, exits=2, bypass_width=4, channels=8)
    >>> model = dx.build_model(config, n_classes=3).eval()
    >>> out = dx.infer(model, torch.randn(5, 3, 32, 32), dx.POLICIES["confidence"]((0.0,)))
    >>> out.exit.tolist()  # from 0; a threshold of 0 stops every image at the first exit, and no later stage runs
    [0, 0, 0, 0, 0]
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .device import GpuUse as GpuUse
    from .device import describe_device as describe_device
    from .device import device_facts as device_facts
    from .device import energy_counter as energy_counter
    from .device import gpu_use as gpu_use
    from .exit_loop import InferenceResult as InferenceResult
    from .exit_loop import run_early_exit as run_early_exit
    from .exit_loop import stream_early_exit as stream_early_exit
    from .export_texts import add_service as add_service
    from .live import ALIVE as ALIVE
    from .live import ENGINES as ENGINES
    from .live import IDLE as IDLE
    from .live import WARM_UP as WARM_UP
    from .live import Answer as Answer
    from .live import Arms as Arms
    from .live import Call as Call
    from .live import Count as Count
    from .live import Disagreement as Disagreement
    from .live import Latency as Latency
    from .live import LiveRun as LiveRun
    from .live import LiveStats as LiveStats
    from .live import Look as Look
    from .live import Measured as Measured
    from .live import Point as Point
    from .live import Speed as Speed
    from .live import load_average as load_average
    from .live import open_arms as open_arms
    from .onnx_engine import OnnxEngine as OnnxEngine
    from .onnx_single import join_stages as join_stages
    from .torch_compile import compiled as compiled
    from .torch_compile import graph_buffer_bytes as graph_buffer_bytes
    from .torch_compile import graphed as graphed
    from .torch_engine import Prediction as Prediction
    from .torch_engine import infer as infer
    from .torch_engine import predict_files as predict_files
    from .torch_engine import stream as stream
    from .torch_engine import to_csv as to_csv
    from .torch_export import Int8Comparison as Int8Comparison
    from .torch_export import compared as compared
    from .torch_export import export_int8 as export_int8
    from .torch_export import export_model as export_model
    from .torch_export import export_run as export_run
    from .torch_recording import record_run as record_run
    from .torch_recording import record_split as record_split
    from .torch_recording import run_flops as run_flops
    from .torch_recording import time_stages as time_stages
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
