"""OrthSR: orthogonal tuning by peft's OFT (arXiv 2306.07280), its anchors, CutOut and self-regularisation.

Orthogonal tuning: peft's OFT (Qiu et al. 2023, arXiv 2306.07280) on the layers that OrthSR tunes.
In place, on the backbone before it is cut. OrthSR: Li et al. 2024, arXiv 2407.08374.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from peft import OFTConfig
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...config import Config
from ...data.torch_loaders import make_loader
from ...inference.torch_engine import autocast, eval_mode
from ...inference.torch_recording import RECORD_BATCH
from ...models.attention import attention_weights, is_attention
from ...models.dmpo import DMPO
from ...models.factory import PLAIN, build_model
from ...models.predictors import LinearPredictor
from ...models.stage import Stage
from ...models.tuning import inject, matrices, only
from ...training.kinds import PartSetup
from ...training.loop import spread
from ...training.losses import divergence
from ...training.parts import Batch, TrainingContext, TrainingPart
from ...utils.torch_tools import seeded

OFT_LAYERS = r"mlp\.fc1|mlp\.fc2|conv_pw|conv_pwl|conv1|conv3"  # of these a ViT's linear layers, and 1x1 convolutions
OFT_BLOCK = 4  # times the rank: a block's size. A square layer then has about as many trained weights as with LoRA


def rotate(backbone: nn.Module, rank: int, dropout: float) -> None:
    """Orthogonal tuning of the MLPs, elsewhere of 1x1 convolutions: W → W·R, R block-diagonal and orthogonal.

    R = (I + Q)⁻¹ (I − Q) in every block (Cayley, exact), Q skew-symmetric and at first 0. A block has `OFT_BLOCK` times
    ``rank`` rows, or the nearest number that divides the layer's inputs (ours: both).

    Raises:
        ValueError: a dropout above 0, which peft's OFT does not apply, or no layer that peft rotates correctly.
    """
    if dropout:
        raise ValueError(f"tuning='oft' has no dropout, not dropout={dropout}; use dropout=0")
    in_vit = {id(module) for block in backbone.modules() if isinstance(block, Block) for module in block.modules()}
    modules = dict(backbone.named_modules())
    names = [name for name in matrices(backbone, OFT_LAYERS) if _rotates(modules[name], in_vit)]
    settings = OFTConfig(
        r=0, oft_block_size=OFT_BLOCK * rank, use_cayley_neumann=False, target_modules=only(names), bias="none"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Invalid `oft_block_size`")  # peft takes the nearest size that divides
        inject(backbone, "oft", names, "MLP of a plain ViT's block and no 1x1 convolution", settings)


def _rotates(layer: nn.Module, in_vit: set[int]) -> bool:
    """Whether peft's OFT computes a rotation here: its linear layers take maps (B,H,W,C) for convolutions', and it adds
    overlapping windows up."""
    return layer.kernel_size == (1, 1) if isinstance(layer, nn.Conv2d) else id(layer) in in_vit


# Anchors of self-regularisation: a linear head per exit on the untuned backbone, fitted before the training.
#
# In: a model's config and training images. Out: a frozen `DMPO` whose exits answer from the backbone as it was
# pre-trained. Self-regularisation draws a tuned model's answers towards those of the untuned one (OrthSR, Li et al.
# 2024, arXiv 2407.08374). There they are CLIP's zero-shot answers. A backbone without texts has none: the fitted heads
# are ours, and so is one anchor per exit.

MOST = 5000  # training images that the heads are fitted on
PENALTY = 100.0  # of the squared weights of standardised features, as a sum over the images


def make_anchor(config: Config, n_classes: int) -> DMPO:
    """The anchor of a training, in eval mode: the plain backbone with linear exits where ``config`` has exits.

    Only its heads need gradients: `DMPO.trainable_state` is all that is fitted. Random numbers are drawn as in the
    training, so that a random backbone is the same one; torch's generator is left as it was.
    """
    plain = replace(config.model.unchanged().untuned(), **PLAIN, train_norm=False, equilibrium=False)
    with seeded(config.training.seed):
        return build_model(plain, n_classes).eval()


@torch.no_grad()
def fit_anchor(anchor: DMPO, loader: Iterable[Any], *, precision: str = "no") -> None:
    """Fit the heads of all exits, in place: logistic regressions on what they read.

    Args:
        loader: batches of (images, labels). precision: of autocast.
    """
    features: list[list[Tensor]] = [[] for _ in anchor.stages]
    labels = []
    with eval_mode(anchor), autocast(anchor.device, precision):
        for images, targets in loader:
            for output in anchor.walk(images.to(anchor.device)):
                features[output.k].append(_read(output.stage, output.read).float())
            labels.append(torch.as_tensor(targets))
    y = torch.cat(labels).to(anchor.device)
    for stage, found in zip(anchor.stages, features, strict=True):
        head = _predictor(stage).fc
        weight, bias = logistic_regression(torch.cat(found), y, head.out_features)
        head.weight.copy_(weight)
        head.bias.copy_(bias)


@torch.enable_grad()
def logistic_regression(
    x: Tensor, labels: Tensor, n_classes: int, penalty: float = PENALTY, steps: int = 100
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: features (n, p), labels (n,) → weights (C, p), bias (C,).

    They minimise Σ CE + penalty · ‖W‖² / 2 over standardised features, by L-BFGS from 0; the result is for features as
    they are given.
    """
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    z = (x - mean) / std
    weight = torch.zeros(n_classes, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(n_classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(z @ weight.T + bias, labels, reduction="sum")
        loss = (loss + penalty * weight.square().sum() / 2) / len(x)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]  # depends on torch
        return loss

    step: Any = optimizer.step  # untyped in torch
    step(objective)
    scaled = weight.detach() / std
    return scaled, bias.detach() - scaled @ mean


def _predictor(stage: Stage) -> LinearPredictor:
    return cast(LinearPredictor, stage.predictor)


def _read(stage: Stage, tokens: Tensor) -> Tensor:
    """(B, p): what the linear predictor of a stage reads."""
    predictor = _predictor(stage)
    read: Tensor = predictor.reader(stage.norm(tokens), predictor.prefix)
    return read


# CutOut (DeVries and Taylor 2017, arXiv 1708.04552) by patches: images with some of their patches hidden.
#
# In: images (B,3,S,S), normalised, and a score for each patch. Out: the images with a quarter of their patches at 0,
# the mean colour. ``attentive`` hides the patches that an untuned ViT attends to most in its last block, as OrthSR's
# attentive CutOut (Li et al. 2024, arXiv 2407.08374); ``random`` is its control. Ours: patches and not one square, the
# share of a quarter, and attention from the class token, from all patches where there is none.

SHARE = 4  # one patch in so many is hidden


def hide(images: Tensor, scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Images (B,3,S,S) with the quarter of their patches at 0 that has the largest scores (B, rows · columns)."""
    chosen = scores.topk(scores.shape[1] // SHARE, dim=1).indices
    kept = torch.ones_like(scores).scatter(1, chosen, 0.0).view(-1, 1, *grid)
    return images * interpolate(kept, size=images.shape[-2:], mode="nearest").to(images.dtype)


def check_cutout(kind: str, model: DMPO) -> None:
    """Raise ValueError where this model's images cannot be cut so."""
    last = model.stages[-1]
    if kind == "attentive" and not (last.layout == "tokens" and any(is_attention(m) for m in last.trunk.modules())):
        raise ValueError("cutout='attentive' needs a ViT, whose attention reads all patches; use 'random' or 'none'")
    rows, columns = last.grid
    if kind != "none" and rows * columns < SHARE:
        raise ValueError(
            f"cutout={kind!r} hides one patch in {SHARE}, but an image has {rows}x{columns} at the last exit; "
            "use larger images, or 'none'"
        )


def attended(attention: Tensor, model: DMPO) -> Tensor:
    """Attention (B, heads, N, N) of a ViT's block → how much is paid to each patch, (B, rows · columns)."""
    last = model.stages[-1]
    mean = attention.float().mean(dim=1)
    rows = mean[:, 0] if last.class_token else mean[:, last.prefix :].mean(dim=1)
    return rows[:, last.prefix :]


def scores(kind: str, images: Tensor, model: DMPO) -> tuple[Tensor, Tensor | None]:
    """Scores of the patches for `hide`; for ``attentive`` also the logits (B,K,C) of the model.

    Args:
        model: the untuned one.
    """
    last = model.stages[-1]
    if kind == "attentive":
        with attention_weights([last.trunk]) as seen:
            logits = model(images)
        return attended(seen[-1], model), logits
    rows, columns = last.grid
    return torch.rand(len(images), rows * columns, device=images.device), None


# Self-regularisation: the images, perhaps once more with patches hidden, and an anchor's answers to each.
#
# In: the batch of a step. Out: one or two views of every image, and a loss that draws the answers towards the anchor's.
# As in OrthSR (Li et al. 2024, arXiv 2407.08374): CE(x) + CE(cut x) + λ·KL + λ·KL. Ours: one λ for both, each view is
# compared with the anchor's answer to that view, and the mean over the views takes the place of their sum, so that the
# loss keeps its size.


class SelfRegularisation(TrainingPart):
    """Views with hidden patches, and the divergence from an anchor.

    Args:
        anchor: the untuned model. weight: λ; 0: views alone. cutout: none, random or attentive.
        images: batches that the anchor's heads are fitted on when a training begins; None: they are fitted already.
        precision: of autocast, for the fit.

    Raises:
        ValueError: a cutout that the model does not serve.

    Example:
        >>> import dmpo_explore as dx
        >>> anchor = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="none"), n_classes=3)
        >>> part = SelfRegularisation(anchor, weight=1.0, cutout="random")
        >>> batch = part.views(Batch(torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)))
        >>> batch.images.shape, batch.labels.shape, batch.notes["anchor"].shape
        (torch.Size([8, 3, 32, 32]), torch.Size([8]), torch.Size([8, 2, 3]))
    """

    name = "anchor"

    def __init__(
        self, anchor: DMPO, weight: float, cutout: str = "none", images: Iterable[Any] | None = None,
        precision: str = "no",
    ) -> None:  # fmt: skip
        check_cutout(cutout, anchor)
        self.anchor, self.weight, self.cutout = anchor.eval(), weight, cutout
        self.images, self.precision = images, precision

    def begin(self, context: TrainingContext) -> None:
        """A new training fits the anchor's heads; a resumed one takes those of its checkpoint. No run stores them."""
        self.anchor.to(context.accelerator.device)
        if self.weight and self.images is not None and not context.resumed:
            fit_anchor(self.anchor, self.images, precision=self.precision)

    @torch.no_grad()
    def views(self, batch: Batch) -> Batch:
        """The batch, perhaps with a cut view of every image, and the anchor's answers."""
        if self.cutout == "none":
            return self._answered(batch, self.anchor(batch.images))
        found, logits = scores(self.cutout, batch.images, self.anchor)
        cut = hide(batch.images, found, self.anchor.stages[-1].grid)
        both = batch.with_view(cut)
        if not self.weight:
            return both
        return self._answered(
            both, self.anchor(both.images) if logits is None else torch.cat((logits, self.anchor(cut)))
        )

    def _answered(self, batch: Batch, answers: Tensor) -> Batch:
        return batch._replace(notes={**batch.notes, self.name: answers})

    def losses(self, batch: Batch, outputs: Tensor) -> Tensor | None:
        """λ · `divergence`, (b,K)."""
        return self.weight * divergence(outputs, batch.notes[self.name]) if self.weight else None

    def state_dict(self) -> Mapping[str, Any]:
        """The fitted heads."""
        return {name: value.cpu() for name, value in self.anchor.trainable_state().items()} if self.weight else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over fitted heads."""
        self.anchor.load_trainable(dict(state))


def make_part(setup: PartSetup, weight: float, cutout: str) -> SelfRegularisation:
    """The part of a training, with an anchor that is fitted on at most `MOST` of its images."""
    anchor = make_anchor(setup.config, len(setup.images.class_names))
    loader = make_loader(spread(setup.images, MOST), anchor.preprocess, batch_size=RECORD_BATCH)
    return SelfRegularisation(anchor, weight, cutout, loader, setup.config.training.precision)
