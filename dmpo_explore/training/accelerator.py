"""Devices and precision of a training: accelerate's `Accelerator`, and frozen weights in bfloat16."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, InitProcessGroupKwargs, LoggerType
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import TrainingConfig
from ..inference.torch_engine import fast_precision
from ..inference.torch_recording import LONGEST_WAIT
from ..models.predictors import plain_products
from ..runs.torch_model import find_device
from ..utils.registry import unknown
from ..utils.texts import few

SHORT = 101  # tokens up to which plain attention trains at least as fast on a CPU (measured, bfloat16, AVX-512)


def make_accelerator(
    config: TrainingConfig, device: str = "auto", trackers: Sequence[str] = (), folder: Path | None = None
) -> Accelerator:
    """An accelerate `Accelerator` for this config.

    Args:
        device: ``auto`` (an NVIDIA GPU if there is one), ``cpu``, ``cuda``, ``mps`` or ``xpu``.
        trackers: accelerate's, e.g. ``("tensorboard",)``; they write into ``folder``.

    Raises:
        ValueError: an unknown tracker, a device other than the first, or as `find_device`.
        ImportError: a tracker that is not installed.
    """
    found = find_device(device)
    if found.index:
        raise ValueError(f"device={device!r}: a training takes the first visible device; set CUDA_VISIBLE_DEVICES")
    on_cpu = found.type == "cpu"
    check_trackers(trackers)
    if not torch.distributed.is_initialized():  # accelerate keeps the first one's precision and device for good
        AcceleratorState._reset_state(reset_partial_state=True)  # private: tests/training/test_accelerator.py guards it
    return Accelerator(
        log_with=list(trackers) or None,
        project_dir=str(folder) if trackers and folder else None,
        mixed_precision=fast_precision(found.type) if config.precision == "auto" else config.precision,
        gradient_accumulation_steps=config.accumulation,
        cpu=on_cpu,
        dataloader_config=DataLoaderConfiguration(
            split_batches=True, use_seedable_sampler=True, data_seed=config.seed, non_blocking=torch.cuda.is_available()
        ),  # as `make_loader` pins
        kwargs_handlers=[
            # every trained weight has a gradient at every step (`require_gradients`): no search for those without
            DistributedDataParallelKwargs(find_unused_parameters=False),
            InitProcessGroupKwargs(timeout=LONGEST_WAIT),  # the others wait while the main process validates
        ],
        step_scheduler_with_optimizer=False,
    )


def require_gradients(models: Iterable[nn.Module]) -> None:
    """Raise ValueError for trained weights without a gradient: processes that share a training would wait for it.

    An exit whose loss weight is 0 still gives its weights gradients, all of them 0.
    """
    names = [name for model in models for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if names:
        raise ValueError(
            f"no gradient reaches {few(names)}; freeze what the logits do not depend on (requires_grad_(False))"
        )


def check_trackers(trackers: Sequence[str]) -> None:
    """Raise ValueError for an unknown tracker, ImportError for one that is not installed."""
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    installed = sorted(map(str, get_available_trackers()))
    for tracker in trackers:
        which = f"installed: {', '.join(installed) or 'none'}"
        if tracker not in known:
            raise ValueError(f"{unknown('tracker', tracker, known)} ({which})")
        if tracker not in installed:
            raise ImportError(f"the tracker {tracker!r} is not installed; try `pip install {tracker}` ({which})")


class PreparedForward(nn.Module):
    """A model as accelerate may wrap it: accelerate replaces the ``forward`` of this module, never the model's own.

    Under mixed precision, accelerate permanently patches the ``forward`` of a prepared module. Inside this wrapper the
    model stays unpatched: other callers get the type of its weights.

    On a CPU, attention over at most `SHORT` tokens is computed step by step: torch's fused kernel has a slow backward
    pass there, above all in bfloat16.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        stages = getattr(model, "stages", ())
        tokens = [stage.prefix + stage.grid[0] * stage.grid[1] for stage in stages]
        self.short = bool(tokens) and max(tokens) <= SHORT

    def forward(self, images: Tensor) -> Tensor:
        """The model's logits."""
        plain = self.short and images.device.type == "cpu"
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            logits: Tensor = self.model(images)
        return logits


def device_use(device: torch.device) -> tuple[str, int]:
    """A device's name, and the peak GPU memory of this process in bytes; 0 on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
    return f"CPU, {torch.get_num_threads()} threads", 0


@contextmanager
def frozen_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Frozen weights and biases of `plain_products` in ``dtype`` inside; restored afterwards.

    The originals wait in the computer's memory: on a GPU the weights take half of theirs, on a CPU half as much again.
    Under autocast to ``dtype`` no number changes: autocast would cast these weights at every step, and it leaves norms,
    LayerScales and position tables as they are. Without autocast the model cannot be called inside.

    Args:
        dtype: None for no change.
    """
    layers = plain_products(model)
    frozen = [p for layer in layers for p in layer.parameters(recurse=False) if not p.requires_grad] if dtype else []
    originals: list[Tensor] = []
    try:
        for weight in frozen:
            originals.append(weight.data.cpu())
            weight.data = weight.data.to(dtype)
        yield
    finally:
        for weight, data in zip(frozen, originals, strict=False):
            weight.data = data.to(weight.device)
