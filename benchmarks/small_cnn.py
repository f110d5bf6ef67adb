"""The conflict in a small CNN, trained from scratch: notebook 01's variations. `scripts/bench small_cnn`

In: the bundled Fashion-MNIST images, of which 2,000 train and 5,000 test. Out: a table, and
benchmarks/results/small-cnn.csv: test accuracy of every exit, by arm and seed.

- `one exit`: the last exit alone; the same with three times the epochs.
- `six exits`: with a factor in front of the five early losses; at 1 also with three times the epochs.
- `exits on a finished trunk`: six exits, of which the trunk of `one exit` learns nothing.
- network `narrow`: channels 4 4 6 6 8 8, 5,000 training images and 16 epochs, so five times the steps.
- `rest anew`: the first three stages of a trained network are frozen, those behind them and the last exit alone are
  trained anew: the first three of `one exit`, or of `six exits`.

    scripts/bench small_cnn                    # minutes on two idle cores
    scripts/bench small_cnn --seeds 1          # a look
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch

import dmpo_explore as dx
from dmpo_explore.course.small_cnn import CHANNELS, EarlyExitCNN, Images, adam, correct, halves, train
from dmpo_explore.utils.files import write_text

RESULTS = Path(__file__).parent / "results" / "small-cnn.csv"
EARLY_WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0)
FROZEN = 3  # stages
NARROW = (4, 4, 6, 6, 8, 8)
Row = dict[str, str | float]


def trained(
    data: Images,
    at: Iterable[int],
    seed: int,
    early: float = 1.0,
    epochs: int = 8,
    channels: Sequence[int] = CHANNELS,
) -> EarlyExitCNN:
    """A network with exits after the stages ``at``, trained with weight ``early`` for all but the last exit."""
    torch.manual_seed(seed)
    net = EarlyExitCNN(at, channels)
    train(net, data, lambda _e, _n, k: [early] * (k - 1) + [1.0], adam(net), epochs)
    return net


def on_frozen(data: Images, source: EarlyExitCNN, stages: int, at: Iterable[int], seed: int) -> EarlyExitCNN:
    """A new network that takes over the first ``stages`` of ``source``, which learn nothing more."""
    torch.manual_seed(100 + seed)
    net = EarlyExitCNN(at)
    for stage, trained_stage in zip(net.stages[:stages], source.stages, strict=False):
        stage.load_state_dict(trained_stage.state_dict())
        stage.requires_grad_(False).eval()  # eval: BatchNorm keeps its statistics, too
    train(net, data, lambda _e, _n, k: [1.0] * k, adam(net))
    return net


def _measured(net: EarlyExitCNN, test: Images, **what: str | float) -> Iterator[Row]:
    """A row per exit: ``what`` was trained, and its accuracy."""
    for k, accuracy in zip(net.at, correct(net, test).mean(axis=0), strict=True):
        yield what | {"exit": k + 1, "accuracy": round(float(accuracy), 4)}


def narrow_rows(seed: int) -> Iterator[Row]:
    """Accuracies of the narrow network with one seed."""
    data, test = halves(dx.load_run("fashion"), 5000)
    for arm, at in (("one exit", [5]), ("six exits", range(6))):
        net = trained(data, at, seed, epochs=16, channels=NARROW)
        yield from _measured(net, test, network="narrow", arm=arm, early=1.0, epochs=16, seed=seed)


def rows(seed: int) -> Iterator[Row]:
    """Accuracies of all arms of one seed, but those of `narrow_rows`."""
    data, test = halves(dx.load_run("fashion"))

    def measured(arm: str, net: EarlyExitCNN, early: float = 1.0, epochs: int = 8) -> Iterator[Row]:
        return _measured(net, test, network="small", arm=arm, early=early, epochs=epochs, seed=seed)

    one, six = trained(data, [5], seed), trained(data, range(6), seed)
    yield from measured("one exit", one)
    yield from measured("exits on a finished trunk", on_frozen(data, one, 6, range(6), seed))
    for name, net in (("one exit", one), ("six exits", six)):
        yield from measured(f"rest anew, on {name}", on_frozen(data, net, FROZEN, [5], seed))
    for early in EARLY_WEIGHTS:
        yield from measured("six exits", six if early == 1 else trained(data, range(6), seed, early), early)
    yield from measured("one exit", trained(data, [5], seed, epochs=24), epochs=24)
    yield from measured("six exits", trained(data, range(6), seed, epochs=24), epochs=24)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="scripts/bench small_cnn", description="The conflict in a small CNN.")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the table (%(default)s)")
    options = parser.parse_args()
    seeds = range(options.seeds)
    table = pd.DataFrame(row for of in (rows, narrow_rows) for seed in seeds for row in of(seed))
    write_text(options.out, table.to_csv(index=False))
    shown = table.groupby(["network", "arm", "early", "epochs", "exit"])["accuracy"].mean().mul(100).unstack()
    print(shown.round(1).to_string(na_rep=""))


if __name__ == "__main__":
    main()
