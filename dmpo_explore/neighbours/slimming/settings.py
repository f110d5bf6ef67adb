"""How a run is slimmed: the settings, the width that they leave, and the config of the new run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...config import Config, ModelConfig
from ...data.images import open_data
from ...models.factory import build_reference, for_shapes
from ...models.tuning import TUNINGS
from ...runs.run import Run
from ...runs.store import address, load_run
from ...utils.options import options_of
from ...utils.registry import lookup
from .options import Slimming, SlimSettings
from .surgery import vit_blocks, width_of

WEIGHT_DECAY, WARMUP = 0.01, 0.1  # of the distillation, COST-EFF's; the warm-up is a share of all its epochs
STEPS_WITHOUT_HEADS = 4  # ours
OF_CONFIG = {"training.epochs": "epochs", "training.tuning_lr": "lr"}  # options of the new run, and their settings


def read_settings(values: dict[str, Any]) -> SlimSettings:
    """Settings by name; ValueError for an unknown name."""
    for key in values:
        lookup(options_of(SlimSettings), key, "setting of slimming")
    return SlimSettings(**values)


def kept_width(model: ModelConfig, how: SlimSettings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heads and neurons that every block keeps: shares of the backbone's width, or of what an earlier slimming left.

    Raises:
        ValueError: a backbone that is not a plain ViT, a tuning that does not merge, or shares that remove nothing.
    """
    if not getattr(lookup(TUNINGS, model.tuning, "tuning"), "merges", True):
        raise ValueError(f"tuning={model.tuning!r} cannot be merged into the weights, so this run cannot be slimmed")
    with for_shapes(model):
        reference = build_reference(model, 2)
    blocks = vit_blocks(stage.trunk for stage in reference.stages)
    if len(blocks) != reference.exits[-1]:
        raise ValueError(
            f"slimming removes attention heads and MLP neurons, which only plain ViTs have in every block; "
            f"{model.backbone} is none. Train a smaller backbone, or choose earlier exits, instead"
        )
    depth = model.exits[-1] if isinstance(model.exits, tuple) else len(blocks)
    given = model.part(Slimming) or Slimming("", *width_of(blocks[:depth]))
    heads = tuple(max(1, round(how.heads * count)) for count in given.heads)
    ffn = tuple(max(1, round(how.ffn * count)) for count in given.ffn)
    if (heads, ffn) == (given.heads, given.ffn):
        raise ValueError(f"heads={how.heads} and ffn={how.ffn} remove no head and no neuron; give smaller shares")
    return heads, ffn


def slimmed_config(run: Run, how: SlimSettings) -> Config:
    """The new run's config: its weights are all its own, exit norms among them; the training is the distillation.

    Raises:
        ValueError: as `kept_width`.
    """
    heads, ffn = kept_width(run.config.model, how)
    slimming = Slimming(address(run), heads, ffn, how.importance, how.hidden_epochs)
    before = run.config.training
    training = replace(
        before, epochs=how.epochs, tuning_lr=how.lr, predictor_lr=how.lr, weight_decay=WEIGHT_DECAY,
        warmup_epochs=WARMUP * how.epochs, schedule="uniform", coupling="none", distill=0.0, label_smoothing=0.0,
        more=(), class_balance="sampler" if before.class_balance == "sampler" else "none",
    )  # fmt: skip
    model = replace(run.config.model, tuning="full", dropout=0.0, train_norm=True,
                    more=(*run.config.model.more, slimming))  # fmt: skip
    data = replace(run.config.data, unlabelled=None)
    return Config(open_data(data).kind.located(), model, training)


def resumed_config(run: Run, name: str, epochs: int | None) -> Config:
    """The config of a slimmed run to continue, perhaps with more epochs; ValueError if ``run`` is not its teacher."""
    config = load_run(name).config
    teacher = config.model.part(Slimming).run
    if not teacher:
        raise ValueError(f"run {name!r} was not slimmed; continue it with `dmpo-explore train --resume {name}`")
    if teacher != address(run):
        raise ValueError(f"run {name!r} was slimmed from {teacher!r}, not from {run.name!r}")
    training = replace(config.training, epochs=epochs or config.training.epochs)
    return replace(config, data=open_data(config.data).kind.located(), training=training)
