"""Early-exit inference with torch: `infer` for a batch, `stream` for a data set.

Both run one stage after another and compact the batch after each exit (`exit_loop`). They use the stages and the policy
that recording and simulation use: executed exits equal simulated ones.
"""

from __future__ import annotations

import csv
import io
import timeit
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from torch import Tensor

from ..data.image_files import find_images, open_image
from ..data.torch_loaders import make_transform
from ..models.dmpo import DMPO, evaluating
from ..models.predictors import PRECISIONS as PRECISIONS
from ..policies.base import Policy
from ..runs.run import Run
from ..utils.registry import lookup
from ..utils.typing import Progress
from .door import check_values
from .exit_loop import InferenceResult, Step, n_images_in, run_early_exit, stream_early_exit


@torch.inference_mode()
def infer(
    model: DMPO, images: Tensor, policy: Policy, *, precision: str | None = None, steps: Sequence[Step] | None = None
) -> InferenceResult:
    """Early-exit inference on a batch: every image stops at its exit by ``policy``.

    No dropout: a model in train mode is in eval mode for the call.

    Args:
        model: fastest with its tuning merged (`Run.model` with ``merge=True``).
        images: (B,3,S,S), preprocessed (`Run.inputs`, `make_transform`), of the weights' type.
        policy: a fitted policy for this model's K exits.
        precision: ``no`` (float32), ``bf16`` or ``fp16`` autocast, as in `record_split`; default: what the model's
            weights were loaded for (`Run.model`), else ``no``.
        steps: the model's stages made faster (`torch_compile`); default `plain_steps`.

    Raises:
        TypeError: a model that is no `DMPO`; `run_early_exit` runs the steps of any other.
        ValueError: images of another shape or type than the model expects, a policy for another number of
            exits or one that needs labels, NaN or infinite logits, unknown precision.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> result = dx.infer(model, torch.zeros(4, 3, 32, 32), dx.policies.ConfidencePolicy((0.0,)))
        >>> result.exit  # every confidence reaches 0: all images exit at exit 1
        array([0, 0, 0, 0])
    """
    _check_model(model)
    with eval_mode(model), autocast(model.device, precision_of(model, precision)):
        return run_early_exit(steps or plain_steps(model), _checked(model, images), policy)


@torch.inference_mode()
def stream(
    model: DMPO, loader: Iterable[Any], policy: Policy, *, refill: bool = False, batch_size: int | None = None,
    precision: str | None = None, steps: Sequence[Step] | None = None, progress: Progress | None = None,
) -> InferenceResult:  # fmt: skip
    """Early-exit inference on a data set; the result is in the order of the images.

    Args:
        loader: batches of images (b,3,S,S), or of (images, …).
        refill: continuous batching: the remaining images are queued before the next stage until there are
            ``batch_size`` of them, so that deep stages run on full batches. The fullest queue runs first. At most
            (K−1)·(batch_size−1) images and one batch are queued.
        batch_size: of the stages after the first; default: that of the first batch.
        progress: called with (images that have exited, images in all, 0 if unknown) after each stage.

    Other arguments and errors: as `infer`; ValueError too for a loader without images.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> batches = torch.zeros(10, 3, 32, 32).split(4)
        >>> dx.stream(model, batches, dx.policies.ConfidencePolicy((1.01,)), refill=True).exit.tolist()
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """

    def batches() -> Iterator[Tensor]:
        for batch in loader:
            yield _checked(model, batch if isinstance(batch, Tensor) else batch[0])

    _check_model(model)
    with eval_mode(model), autocast(model.device, precision_of(model, precision)):
        return stream_early_exit(
            steps or plain_steps(model), batches(), policy, refill=refill, batch_size=batch_size, progress=progress,
            total=n_images_in(loader),
        )  # fmt: skip


def _checked(model: DMPO, images: Tensor) -> Tensor:
    """The images on the model's device; values of what is on a GPU already are not read."""
    model.check_images(images)
    if images.device.type == "cpu":
        check_values(images, model.preprocess.mean, model.preprocess.std)
    return images.to(model.device, non_blocking=True)


def _check_model(model: object) -> None:
    if not isinstance(model, DMPO):
        raise TypeError(
            f"model is a {type(model).__name__}, not one of dx.build_model or Run.model; "
            "for another model give its stages to dx.inference.run_early_exit (docs/your-scores.md)"
        )


def plain_steps(model: DMPO) -> list[Step]:
    """The stages as steps of the early-exit loop; on a CPU the logits are numpy, whose small operations are faster."""
    return [as_step(stage_function(model, k)) for k in range(model.n_exits)]


def as_step(function: Step) -> Step:
    """``function`` with float32 logits, as numpy where they are on the CPU."""

    def step(x: Tensor, side: Tensor | None) -> tuple[Tensor, Any, Tensor | None]:
        x, logits, side = function(x, side)
        logits = logits.float()
        return x, (logits.numpy() if logits.device.type == "cpu" else logits), side

    return step


def stage_function(model: DMPO, k: int) -> Step:
    """Stage k, the first one with the embedding before it: (x, side) → (x, logits, side)."""
    return partial(_run_stage, model, k)


def _run_stage(model: DMPO, k: int, x: Tensor, side: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    output = model.step(k, x, side)
    return output.state, output.logits, output.side


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Where models run on ``device`` in ``precision``: autocast, or float32 throughout.

    A GPU is torch's current device inside, and float32 is never TF32 there.
    """
    kind = lookup(PRECISIONS, precision, "precision")
    with ExitStack() as contexts:
        if device.type == "cuda":
            contexts.enter_context(_whole_float32())
            if device.index is not None:  # streams, events and captures without a device are the current one's
                contexts.enter_context(torch.cuda.device(device))
        if kind is not None:
            contexts.enter_context(torch.autocast(device.type, kind))
        yield


@cache
def fast_precision(kind: str) -> str:
    """``bf16`` where devices of this kind multiply matrices faster in it than in float32, else ``no``.

    A CPU is timed once in a process, for a moment: one without instructions for bfloat16 takes three times as
    long in it.
    """
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    if kind != "cpu":
        return "bf16"
    square = torch.ones(384, 384)
    seconds = [min(timeit.repeat(partial(torch.mm, x, x), number=2, repeat=5)) for x in (square, square.bfloat16())]
    return "bf16" if seconds[1] < seconds[0] else "no"


def precision_of(model: DMPO, wanted: str | None) -> str:
    """The precision that ``model`` runs in: the wanted one, by default that of its weights.

    Raises:
        ValueError: its weights were cast for another one.
    """
    precision = model.precision if wanted is None else wanted
    if model.precision not in ("no", precision):
        raise ValueError(
            f"precision={precision!r}, but the model's weights are {model.precision}; leave precision out, or load the "
            "model without one"
        )
    return precision


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Products, convolutions and recurrences on a GPU in float32, not in TF32, which keeps 10 bits of a fraction.

    TF32 is cuDNN's default; `torch.set_float32_matmul_precision`, ``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`` and
    ``torch.backends.fp32_precision`` allow it elsewhere too. Settings that are not TF32 are left alone.
    """
    matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    name, whole, parts = "allow_tf32", cast(Any, False), [matmul, cudnn]
    if hasattr(matmul, "fp32_precision"):  # torch 2.9; reading the older names beside these may raise
        name, whole, parts = "fp32_precision", "ieee", [matmul, cudnn.conv, cudnn.rnn]
    before = [(part, value) for part in parts if (value := getattr(part, name)) in ("tf32", True)]
    try:
        for part, _ in before:
            setattr(part, name, whole)
        yield
    finally:
        for part, value in before:
            setattr(part, name, value)


def eval_mode(model: DMPO) -> AbstractContextManager[None]:
    # walking through every module costs more than a small exit
    return evaluating(model) if model.training else nullcontext()


# Early-exit prediction of image files.
#
# In: a trained `Run`, files or folders, a `Policy`. Out: one `Prediction` per file, as they come; a file that cannot be
# read has an error, and the others are classified.


@dataclass(frozen=True)
class Prediction:
    """Prediction for one file: label, 0-based exit and confidence (max softmax) there, or only an ``error``.

    Example:
        >>> Prediction(Path("a.jpg"), "Bag", exit=1, confidence=0.97).label
        'Bag'
    """

    path: Path
    label: str = ""
    exit: int = -1
    confidence: float = 0.0
    error: str = ""


def predict_files(
    run: Run, paths: Iterable[str | Path], policy: Policy, *, device: str = "auto", batch_size: int = 64
) -> Iterator[Prediction]:
    """Classify files and the images in folders, in order; the policy is made to fit the run (`Run.fitted_here`).

    Raises:
        ValueError: a folder without images, a policy for another number of exits, a batch size below 1, or what
            `Run.model` raises.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> for prediction in predict_files(run, ["photos/"], run.policies()["confidence-30%"]):  # doctest: +SKIP
        ...     print(prediction.path, prediction.label, prediction.exit + 1)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    files = find_images(paths)
    model, names = run.model(device, merge=True), run.class_names
    policy = run.fitted_here(policy).begin()  # one stream, however many batches
    policy.check(model.n_exits)
    transform = make_transform(model.preprocess)
    for start in range(0, len(files), batch_size):
        images: list[Tensor] = []
        results = [Prediction(path) for path in files[start : start + batch_size]]
        for i, result in enumerate(results):
            try:
                images.append(transform(open_image(result.path)))
            except (OSError, ValueError) as error:
                results[i] = Prediction(result.path, error=str(error))
        if images:
            out = infer(model, torch.stack(images), policy)
            seen = zip(out.label.tolist(), out.exit.tolist(), out.confidence.tolist(), strict=True)
            readable = [i for i, result in enumerate(results) if not result.error]
            for i, (label, exit, confidence) in zip(readable, seen, strict=True):
                results[i] = Prediction(results[i].path, names[label], exit, confidence)
        yield from results


def to_csv(predictions: Iterable[Prediction]) -> str:
    """CSV text: file, label, exit (counted from 1), confidence; those with an error are left out.

    Example:
        >>> print(to_csv([Prediction(Path("a.jpg"), "Bag", exit=1, confidence=0.97)]), end="")
        file,label,exit,confidence
        a.jpg,Bag,2,0.970000
    """
    text = io.StringIO()
    for _ in write_csv(predictions, text):
        pass
    return text.getvalue()


def write_csv(predictions: Iterable[Prediction], file: TextIO) -> Iterator[Prediction]:
    """Write the rows of `to_csv` as they come; each prediction is passed on once its row is in ``file``, flushed."""
    table = csv.writer(file, lineterminator="\n")
    head, begun = ["file", "label", "exit", "confidence"], False  # not before the first prediction: the model may fail
    for p in predictions:
        if not begun:
            table.writerow(head)
            begun = True
        if not p.error:
            table.writerow([p.path, p.label, p.exit + 1, f"{p.confidence:.6f}"])
            file.flush()
        yield p
    if not begun:
        table.writerow(head)
