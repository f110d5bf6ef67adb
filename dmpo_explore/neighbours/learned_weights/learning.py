"""Learned loss weights, the schedule ``learned``: first-order bilevel optimisation by a penalty (arXiv 2502.08808).

In: a model, training images and held-out images. Out: weights λ = K · softmax(x), one per exit, that change at every
optimizer step. g(x, w) = Σ_k λ_k ℓ_k(w) is the weighted loss on training images, f(w) the `soft_exit_loss` on held-out
images. Two copies of the trained weights: y, the model itself, minimises g(x, ·); z minimises f/γ + g(x, ·); x steps
along ∇f/γ + ∇ₓg(x, z) − ∇ₓg(x, y). f does not read x, so the step needs no more than both copies' losses on one batch:
an exit gains weight if the copy that also serves the held-out images has the lower training loss there.

Ours: x holds K weights, not the two ends of a schedule. In a single training, the first end would be read only at the
beginning, before anything was learned, and the last one only at the end. K weights that move are a schedule. Ours too:
the start at equal weights, f, a tenth of the training images held out, batches so small that an epoch reads them about
once, and Adam on x, so that its pace depends neither on γ nor on the scale of the losses. With γ = 10 z stays near y:
with γ = 1 it could learn the held-out images by heart, and its training loss would no longer show what they ask for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from ...config import Preprocess, TrainingConfig
from ...data.image_set import ImageSet
from ...data.torch_loaders import make_loader
from ...training.losses import cross_entropies, weighted_sum
from ...training.parts import Batch, TrainingContext, TrainingPart


def soft_exit_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Expected cross-entropy under soft exiting: (B, K, C), (B,) → scalar.

    Ours: an image that reaches an exit exits there with a probability equal to its confidence, as under a threshold
    drawn uniformly from [0, 1] at every exit; at the last exit all exit.
    """
    confidence = logits.float().softmax(dim=-1).amax(dim=-1)  # (B, K)
    reached = torch.cat([torch.ones_like(confidence[:, :1]), (1 - confidence[:, :-1]).cumprod(dim=1)], dim=1)
    exits = torch.cat([confidence[:, :-1], torch.ones_like(confidence[:, :1])], dim=1)
    return (reached * exits * cross_entropies(logits, labels)).sum(dim=1).mean()


def exit_weights(x: Tensor) -> Tensor:
    """λ = K · softmax(x), (K,) → (K,): positive, with mean 1."""
    return len(x) * x.softmax(dim=0)


def weights_gradient(x: Tensor, gap: Tensor) -> Tensor:
    """∇ₓg(x, z) − ∇ₓg(x, y), where ``gap`` = ℓ(z) − ℓ(y) is the difference of the exits' losses, all (K,)."""
    weights = exit_weights(x)
    return weights * (gap - (weights * gap).mean())


def second_copy(model: nn.Module) -> nn.Module:
    """A copy of a model that shares all its frozen weights and buffers."""
    shared = [p for p in model.parameters() if not p.requires_grad] + list(model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


class EndlessOrder(Sampler[int]):
    """Rows 0..n-1 in random order, again and again; the order depends on ``seed`` and the epoch alone."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) % 2**31)
        while True:
            yield from torch.randperm(self.n, generator=generator).tolist()


def held_out_loader(
    images: ImageSet, preprocess: Preprocess, settings: TrainingConfig, steps: int, processes: int = 1
) -> DataLoader[tuple[Tensor, int]]:
    """Endless batches of held-out images: an epoch of ``steps`` reads each about once, as every training image."""
    size = -(-len(images) // (steps * processes)) * processes
    order = EndlessOrder(len(images), settings.seed)
    return make_loader(images, preprocess, batch_size=size, sampler=order, workers=settings.workers)


class LearnedWeights(TrainingPart):
    """The weights λ of a training, and what learns them.

    Args:
        batches: (steps of an epoch, processes) → endless batches of held-out images, the same in all processes; each
            takes its part of every batch (`held_out_loader`).
        rate: learning rate of x. penalty: γ.
    """

    name, weighs = "learned", True

    def __init__(self, batches: Callable[[int, int], Any], *, rate: float, penalty: float) -> None:
        self.make_batches, self.rate, self.penalty = batches, rate, penalty

    def begin(self, context: TrainingContext) -> None:
        """The copy z, and x at equal weights."""
        self.process, self.criterion = context.accelerator, context.criterion
        self.held_out = self.make_batches(context.steps, self.process.num_processes)
        self.z = second_copy(context.model)
        self.x = torch.zeros(context.n_exits, device=self.process.device)
        self.optimizer = torch.optim.Adam([self.x], lr=self.rate)
        self.gap, self.images = torch.zeros_like(self.x), 0  # summed over a step's images

    def copies(self) -> tuple[nn.Module, ...]:
        """z."""
        return (self.z,)

    def before_epoch(self, epoch: int) -> None:
        """Held-out images in the epoch's order."""
        self.held_out.sampler.epoch = epoch
        self.batches, self.used = iter(self.held_out), list[Tensor]()  # the weights of the epoch's steps

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The training images, and after them this process's part of a held-out batch."""
        mine = slice(self.process.process_index, None, self.process.num_processes)
        others, self.targets = (part[mine].to(self.process.device, non_blocking=True) for part in next(self.batches))
        return (torch.cat([batch.images, others]),)

    def copies_loss(self, batch: Batch, outputs: tuple[Any, ...], losses: Tensor) -> Tensor:
        """g(x, z) + f(z) / γ."""
        (both,), n = outputs, len(batch.labels)
        own = self.criterion(batch, both[:n])
        self.gap += (own.detach() - losses) * n
        self.images += n
        return weighted_sum(own, self.weights()) + soft_exit_loss(both[n:], self.targets) / self.penalty

    def weights(self) -> Tensor:
        """λ, (K,)."""
        return exit_weights(self.x)

    def after_step(self) -> None:
        """Step x, once the copies have stepped; the same step in all processes."""
        self.used.append(self.weights())
        total = self.process.reduce(torch.cat([self.gap, self.gap.new_tensor([self.images])]), "sum")
        self.x.grad = weights_gradient(self.x, total[:-1] / total[-1])
        self.optimizer.step()
        self.gap, self.images = torch.zeros_like(self.x), 0

    def mean_weights(self) -> tuple[float, ...]:
        """The mean of the weights that the epoch's steps used."""
        return tuple(torch.stack(self.used).mean(dim=0).tolist())

    def state_dict(self) -> Mapping[str, Any]:
        """x, its optimizer's state and the weights of z."""
        z = {name: p.detach().cpu().clone() for name, p in self.z.named_parameters() if p.requires_grad}
        return {"x": self.x.detach().cpu().clone(), "optimizer": self.optimizer.state_dict(), "z": z}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over x, its optimizer's state and z."""
        self.x.copy_(state["x"])
        for name, weight in self.z.named_parameters():
            if weight.requires_grad:
                weight.copy_(state["z"][name])
        self.optimizer.load_state_dict(state["optimizer"])
