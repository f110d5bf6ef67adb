"""Loss weights, optimisers and the whole method in the small CNN, of notebook 04. `scripts/bench small_cnn_schedules`

In: the bundled Fashion-MNIST images, of which 2,000 train, 3,000 fit thresholds and 5,000 test. Out: for every arm and
seed benchmarks/results/small-cnn/ARM-sSEED.npz: which test images are correct at ``exit 1`` … ``exit 6``. Files that
are there are kept. `python notebooks/tables.py` makes the notebooks' tables of them.

- ``linear``, ``uniform``, ``deep-only``, ``early-only``: schedules of the loss weights with AdamW; ``one-exit`` is the
  network without early exits; ``coupled`` is ``linear`` with sigmoid coupling.
- ``sgd-…``: the same with SGD; ``sgd-linear-sum-6``: the weights of ``linear``, their sum made 6 in every epoch.
- ``whole``: every early exit has a bypass and a covariance head, loss weights ``linear``. ``static-K``: the first K
  stages with that exit alone. ``whole`` and ``uniform`` are read at the compute of each static net, too, by a policy
  whose threshold is fitted on other images: ``at static K``.
- ``…-24``: the same with 24 epochs in place of 8.

    scripts/bench small_cnn_schedules                       # about 35 minutes on two idle cores
    scripts/bench small_cnn_schedules --seeds 1 --out /tmp/look
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dmpo_explore as dx
from dmpo_explore.course import small_cnn
from dmpo_explore.course.small_cnn import EarlyExitCNN, Images, Schedule, SecondOrderCNN

RESULTS = Path(__file__).parent / "results" / "small-cnn"
STATIC = (2, 3, 4, 6)  # stages
EPOCHS = {"": 8, "-24": 24}  # by the end of an arm's name
SCHEDULES = ("uniform", "linear", "deep-only", "early-only")
LONGER = (*SCHEDULES, "one-exit", "whole", *(f"static-{k}" for k in STATIC))  # trained for 24 epochs as well


class Coupled(EarlyExitCNN):
    """Images that the exit before has correct count less."""

    def loss(self, x: Tensor, labels: Tensor, weights: object) -> Tensor:
        """Σ λ_k · ℓ_k with the release's coupling."""
        return dx.training.weighted_loss(self(x), labels, weights, coupling="sigmoid")[0]  # type: ignore[arg-type]


def named(name: str) -> Schedule:
    """The library's schedule ``name``."""
    return lambda epoch, epochs, n_exits: list(dx.training.loss_weights(name, epoch, epochs, n_exits))


def linear_sum_6(epoch: int, epochs: int, n_exits: int) -> list[float]:
    """The weights of ``linear``, multiplied by what makes their sum the number of exits."""
    weights = np.array(dx.training.loss_weights("linear", epoch, epochs, n_exits))
    return list(n_exits * weights / weights.sum())


Arm = tuple[Callable[[], EarlyExitCNN], Schedule, Callable[[nn.Module], torch.optim.Optimizer]]
ARMS: dict[str, Arm] = {
    **{name: (EarlyExitCNN, named(name), small_cnn.adam) for name in SCHEDULES},
    "one-exit": (lambda: EarlyExitCNN([5]), named("uniform"), small_cnn.adam),
    "coupled": (Coupled, named("linear"), small_cnn.adam),
    "whole": (SecondOrderCNN, named("linear"), small_cnn.adam),
    **{f"static-{k}": (lambda k=k: SecondOrderCNN([k - 1]), named("uniform"), small_cnn.adam) for k in STATIC},
    **{f"sgd-{name}": (EarlyExitCNN, named(name), small_cnn.sgd) for name in ("uniform", "linear", "deep-only")},
    "sgd-one-exit": (lambda: EarlyExitCNN([5]), named("uniform"), small_cnn.sgd),
    "sgd-linear-sum-6": (EarlyExitCNN, linear_sum_6, small_cnn.sgd),
}
ARMS |= {f"{name}-24": ARMS[name] for name in LONGER}


def static_compute() -> dict[int, float]:
    """Stages → compute of the static net, as a share of the plain network's."""
    few = Images(torch.zeros(2, 1, 14, 14), torch.arange(2))
    return {k: float(small_cnn.record(SecondOrderCNN([k - 1]), few).flops_fraction[0]) for k in STATIC}


def outcomes(arm: str, seed: int, data: Images, between: Images, test: Images) -> dict[str, NDArray[np.generic]]:
    """Train ``arm`` with ``seed``: correctness by exit, compute, and by policy at the compute of each static net."""
    make, schedule, optimiser = ARMS[arm]
    torch.manual_seed(seed)
    net = make()
    plain = arm.removesuffix("-24")
    small_cnn.train(net, data, schedule, optimiser(net), EPOCHS[arm.removeprefix(plain)])
    record = small_cnn.record(net, test)
    found = {f"exit {k + 1}": record.correct[:, i] for i, k in enumerate(net.at)} | {"compute": record.flops_fraction}
    if plain in ("whole", "uniform"):
        fitted_on = small_cnn.record(net, between, "calibration")
        for k, flops in static_compute().items():
            budget = min(flops, record.flops_fraction[-1])
            if budget >= record.flops_fraction[0]:
                outcome = dx.apply(dx.fit_policy(fitted_on, flops=float(budget)), record)
                found |= {f"at static {k}": outcome.correct, f"used at static {k}": outcome.flops_fraction.mean()}
    return found


def main() -> None:
    """Train what is missing and write it."""
    parser = argparse.ArgumentParser(prog="scripts/bench small_cnn_schedules", description="Schedules in a small CNN.")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # such small convolutions gain nothing from a second one
    parts = small_cnn.thirds(dx.load_run("fashion"))
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for arm in ARMS:
            path = options.out / f"{arm}-s{seed}.npz"
            if not path.exists():
                found = outcomes(arm, seed, *parts)
                np.savez_compressed(path, **found)
                print(path.stem, *(f"{100 * np.mean(hits):.1f}" for name, hits in found.items() if "exit" in name))


if __name__ == "__main__":
    main()
