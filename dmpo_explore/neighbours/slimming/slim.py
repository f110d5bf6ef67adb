"""Slimming of a run (COST-EFF, arXiv 2210.15523): heads and neurons removed, then distillation at every exit.

In: images and labels. Out: logits of both models, and how far the student's tokens are from the teacher's at every
exit. The loss of the answers at exit k is 0.9 · CE(softmax(teacher_k)) + 0.1 · CE(y), temperature 1; that of the hidden
states is the mean squared error of the tokens. First epochs distil hidden states only, later ones both. Ours: a
token's error is divided by the mean square of the teacher's tokens, since backbones differ in scale by orders.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import OPTIONS, Config
from ...data.image_set import ImageSet
from ...data.torch_loaders import make_loader
from ...inference.torch_engine import autocast
from ...models.dmpo import DMPO
from ...models.factory import build_model, build_reference
from ...models.flops import measure_flops
from ...runs.run import Run
from ...runs.run_files import CHECKPOINT, WEIGHTS
from ...runs.store import load_run, new_run_path
from ...training.accelerator import PreparedForward, make_accelerator
from ...training.checkpoint import RunWriter, read_checkpoint, require_room
from ...training.kinds import PartSetup, make_parts
from ...training.loop import EpochResult, StepHook, Validator, fit, spread
from ...training.parts import Batch, TrainingPart
from ...training.train import open_run, training_loader
from ...training.train_data import hold_out, training_images
from ...utils.files import sha256
from ...utils.typing import Progress
from .options import Slimming, SlimSettings
from .settings import OF_CONFIG, STEPS_WITHOUT_HEADS, read_settings, resumed_config, slimmed_config
from .surgery import check_installed, plain_blocks, slim_blocks, steps_down, width_of

SHARE = 0.9  # of the loss of answers that is the teacher's


class Taught(NamedTuple):
    """Logits (B,K,C) of student and teacher, and the error (K,) of the student's tokens."""

    logits: Tensor
    teacher: Tensor
    hidden: Tensor


class Distillation(nn.Module):
    """A student beside its frozen teacher: images (B,3,S,S) → `Taught`."""

    def __init__(self, student: DMPO, teacher: DMPO) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False).eval()

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The student's stages."""
        return self.student.stages

    def train(self, mode: bool = True) -> Distillation:
        """The student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor) -> Taught:
        """Both models on the same images, one stage after the other."""
        logits, taught, errors = [], [], []
        walks = zip(self.student.walk(images), self._taught(images), strict=True)
        for own, (tokens, answers) in walks:
            logits.append(own.own_logits)
            taught.append(answers)
            errors.append(F.mse_loss(own.tokens.float(), tokens) / tokens.square().mean())
        return Taught(torch.stack(logits, dim=1), torch.stack(taught, dim=1), torch.stack(errors))

    def _taught(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        walk = self.teacher.walk(images)
        while True:
            with torch.no_grad():
                output = next(walk, None)
                if output is None:
                    return
                pair = output.tokens.float(), output.own_logits
            yield pair


def answer_losses(out: Taught, labels: Tensor) -> Tensor:
    """(b,K) losses of the answers: 0.9 of the teacher's probabilities, 0.1 of the labels.

    Example:
        >>> same = torch.zeros(2, 1, 10)
        >>> answer_losses(Taught(same, same, torch.zeros(1)), torch.tensor([0, 1]))
        tensor([[2.3026],
                [2.3026]])
    """
    likely = out.logits.float().log_softmax(-1)
    soft = -(out.teacher.float().softmax(-1) * likely).sum(-1)  # (B, K)
    hard = -likely.gather(2, labels[:, None, None].expand(-1, likely.shape[1], 1)).squeeze(2)
    return SHARE * soft + (1 - SHARE) * hard


class Lessons(TrainingPart):
    """What a slimming minimises: the mean error of the tokens; after ``hidden_epochs`` the answers' losses too."""

    weighs = True

    def __init__(self, hidden_epochs: int, n_exits: int) -> None:
        self.hidden_epochs, self.n_exits = hidden_epochs, n_exits

    def before_epoch(self, epoch: int) -> None:
        """The epoch's weights of the answers."""
        self.planned = (0.0 if epoch < self.hidden_epochs else 1 / self.n_exits,) * self.n_exits

    def label_losses(self, batch: Batch, outputs: Taught) -> Tensor:
        """(b,K) of the answers."""
        return answer_losses(outputs, batch.labels)

    def loss(self, batch: Batch, outputs: Taught) -> Tensor:
        """The mean error of the tokens."""
        return outputs.hidden.mean()

    def weights(self) -> Tensor:
        """(K,), the same at every step of an epoch."""
        return torch.tensor(self.planned)

    def mean_weights(self) -> tuple[float, ...]:
        """(K,) of the epoch."""
        return self.planned


def calibration_losses(
    pair: Distillation, batches: Iterable[Any], importance: str, precision: str = "no"
) -> Iterator[Tensor]:
    """The loss of each batch by which importance is measured: of all exits, or with ``last`` of the last exit only.

    Args:
        batches: of (images, labels). precision: of autocast.
    """
    device, forward = pair.student.device, PreparedForward(pair)
    for images, labels in batches:
        with autocast(device, precision):
            out: Any = forward(images.to(device))
        losses = answer_losses(out, labels.to(device)).mean(0) + out.hidden
        yield losses[-1] if importance == "last" else losses.mean()


# Slimming of a run: heads and neurons removed step by step, then distillation → an ordinary run folder.
#
# The method is COST-EFF's (arXiv 2210.15523): importance by accumulated |gradient × weight| of the loss of all exits,
# one head per block and step, then distillation from the unslimmed run, hidden states first. Its factorised embedding
# is left out. Ours: LoRA and adapters are merged first; images, val and the choice of the best epoch are the run's own.
# The new run stores the whole trunk and needs no backbone file. As in a training, a kill loses at most one epoch.

TEACHER = "teacher_sha256"  # in a checkpoint: of the unslimmed run's weights
REMOVAL = "removal"  # in a checkpoint: the settings that its config does not keep


def slim(
    run: Run | str,
    name: str | None = None,
    *,
    progress: Callable[[EpochResult], None] | None = None,
    on_prune: Progress | None = None,
    on_step: StepHook | None = None,
    on_check: Progress | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    **settings: Any,
) -> Run:
    """Slim a run: remove the least important heads and neurons of its ViT, then distil; returns the new run.

    Args:
        run: a trained run on a ViT, or its name.
        name: of the new run; default: the run's name and ``-slim``.
        progress: called with every epoch's result once it is saved.
        on_prune: called with (steps of the removal done, steps). on_step, on_check: as for `train`.
        resume: continue the new run after its last finished epoch; of ``settings`` only ``epochs`` is read.
        force: replace a run of that name (once the first epoch is finished). device: as `Run.model` takes it.
        settings: fields of `SlimSettings`: heads, ffn, steps, importance, images, epochs, hidden_epochs, lr.

    Raises:
        ValueError: a backbone that is not a ViT, a setting out of range, a name that cannot be one, or to resume, a run
            whose weights have changed meanwhile.
        FileExistsError: the new run exists. FileNotFoundError: the run has no weights, or its data are missing.
        ImportError: the extra ``slim`` is not installed. FloatingPointError: the loss is not finite.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.slim("demo", "demo-half", heads=0.5, ffn=0.5).config.model.slimming.heads[0]  # doctest: +SKIP
        3
    """
    done, run = None, load_run(run) if isinstance(run, str) else run
    for result in slim_epochs(
        run, name, resume=resume, force=force, device=device, on_prune=on_prune, on_step=on_step, on_check=on_check,
        **settings,
    ):  # fmt: skip
        done = result.run
        if progress:
            progress(result)
    return done or load_run(name or default_name(run))  # no epoch was left, only files of the last one


def slim_epochs(
    run: Run,
    name: str | None = None,
    *,
    on_prune: Progress | None = None,
    on_step: StepHook | None = None,
    on_check: Progress | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    **settings: Any,
) -> Iterator[EpochResult]:
    """Iterate over the epochs of a slimming: one `EpochResult` once each epoch is saved; the last carries the `Run`.

    Arguments and errors are those of `slim`.

    Example:
        >>> import dmpo_explore as dx
        >>> for epoch in dx.slimming.slim_epochs(dx.load_run("demo"), "demo-half"):  # doctest: +SKIP
        ...     print(epoch.epoch, epoch.accuracy)
    """
    how, name = read_settings(settings), name or default_name(run)
    if resume:
        config = resumed_config(run, name, settings.get("epochs"))
    else:
        check_installed()
        if new_run_path(name, force=force).resolve() == run.path.resolve():
            raise ValueError(f"name={name!r} is the run that is slimmed; choose another name for the new run")
        config = slimmed_config(run, how)
    path, saved = open_run(name, config, resume=resume)
    manifest, images, val, groups = training_images(config, Run(path) if saved else run, on_check=on_check)
    accelerator = make_accelerator(config.training, device)
    teacher, names = run.model(str(accelerator.device)), images.class_names
    made_from = {TEACHER: sha256(run.path / WEIGHTS), REMOVAL: {"steps": how.steps, "images": how.images}}
    made_from |= {REMOVAL: saved["state"].get(REMOVAL)} if saved else {}
    if saved and saved["state"].get(TEACHER, made_from[TEACHER]) != made_from[TEACHER]:
        raise ValueError(f"run {run.name!r} has other weights than those that {name!r} was slimmed from; slim it again")
    images, held_out = hold_out(images, config, teacher.n_exits, groups)
    weights = saved["weights"] if saved else _slimmed_weights(teacher, images, config, how, on_prune)
    model = build_model(config.model, len(names))  # what the stored run is built as
    model.load_trainable(weights)
    require_room(path.parent, model)
    cost = measure_flops(model, build_reference(config.model, len(names)))
    validate = Validator(spread(val, config.training.validation_size), config, model, cost)
    writer = RunWriter(path, config, cost, images, saved, manifest=manifest, force=force)
    writer.begin(write=accelerator.is_main_process)
    parts = [*make_parts(PartSetup(config, model, images, held_out)),
             Lessons(config.model.part(Slimming).hidden_epochs, model.n_exits)]  # fmt: skip
    loader = training_loader(images, model, config.training, parts)
    epochs = fit(
        Distillation(model, teacher), loader, config.training, model.n_exits, parts=parts,
        validate=lambda pair: validate(cast(Distillation, pair).student), accelerator=accelerator,
        state=saved and saved["state"], on_step=on_step,
    )  # fmt: skip
    for result, state in epochs:
        if accelerator.is_main_process:
            writer.write(model, result, state | made_from)
        accelerator.wait_for_everyone()
        yield replace(result, run=Run(path, found_by=path.name)) if result.epoch == result.epochs else result


def other_settings(slimmed: Run, run: Run, settings: dict[str, Any]) -> str:
    """Names of what differs between a slimmed run and one that these settings would make of ``run``; empty if nothing.

    Args:
        settings: fields of `SlimSettings`.
    """
    how, state = read_settings(settings), read_checkpoint(slimmed.path / CHECKPOINT)["state"]
    names = {"run": state.get(TEACHER) != sha256(run.path / WEIGHTS)}
    names |= {key: value != getattr(how, key) for key, value in (state.get(REMOVAL) or {"steps": ""}).items()}
    wanted, config = slimmed_config(run, how), slimmed.config
    a, b = (found.model.part(Slimming) for found in (wanted, config))
    names |= {field.name: getattr(a, field.name) != getattr(b, field.name) for field in fields(Slimming)}
    names |= {OF_CONFIG.get(key, key): wanted.get(key) != config.get(key) for key in OPTIONS}
    return ", ".join(name for name, differs in names.items() if differs)


def default_name(run: Run) -> str:
    """The name of a slimmed run where none is given."""
    return f"{run.name}-slim"


def _slimmed_weights(
    teacher: DMPO, images: ImageSet, config: Config, how: SlimSettings, on_prune: Progress | None
) -> dict[str, Tensor]:
    """The weights of a slimmed copy of ``teacher``, before the distillation."""
    student = copy.deepcopy(teacher)
    blocks, kept = plain_blocks(student), config.model.part(Slimming)
    heads, neurons = width_of(blocks)
    steps = how.steps or max(now - keep for now, keep in zip(heads, kept.heads, strict=True)) or STEPS_WITHOUT_HEADS
    pair = Distillation(student, teacher).eval()
    sample = spread(images, how.images)
    batches = make_loader(sample, teacher.preprocess, batch_size=config.training.batch_size)
    for block in blocks:
        block.requires_grad_(True)
    slim_blocks(
        blocks,
        lambda: calibration_losses(pair, batches, how.importance, config.training.precision),
        heads=_schedule(heads, kept.heads, steps),
        ffn=_schedule(neurons, kept.ffn, steps),
        on_step=on_prune,
    )
    student.requires_grad_(True)
    return student.trainable_state()


def _schedule(now: tuple[int, ...], keep: tuple[int, ...], steps: int) -> list[tuple[int, ...]]:
    """After each step, how many every block keeps."""
    return list(zip(*(steps_down(a, b, steps) for a, b in zip(now, keep, strict=True)), strict=True))
