"""Training parts: one that a plug-in adds is trained and resumed; what each hook of the protocol reaches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import CONFIG as WHOLE
from tiny_training import same_training, stop_after
from torch import Tensor
from torch.utils.data import DataLoader
from two_exits import CONFIG, make_data, make_model, run, weights_of

import dmpo_explore as dx
from dmpo_explore import Config, Run
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.data.labels import MISSING
from dmpo_explore.training import (
    TRAINING_PARTS,
    Batch,
    PartKind,
    PartSetup,
    TrainingContext,
    TrainingPart,
    read_checkpoint,
)
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts
from dmpo_explore.training.losses import cross_entropies, weighted_loss
from dmpo_explore.training.optimizer import make_schedule, rate_factor
from dmpo_explore.training.train import train, training_loader
from dmpo_explore.utils.options import option

# -- a plug-in: answers are drawn towards a running mean of all answers --


@dataclasses.dataclass(frozen=True)
class MeanOptions:
    draw: float = option(0.0, "Weight of the squared distance from the mean answer.", ge=0)


class MeanAnswer(TrainingPart):
    name = "mean answer"

    def __init__(self, draw: float, n_classes: int) -> None:
        self.draw, self.mean = draw, torch.full((n_classes,), 1 / n_classes)

    def losses(self, batch: Batch, outputs: Tensor) -> Tensor:
        answers = outputs.softmax(-1)
        self.now = answers.detach().mean((0, 1))
        return self.draw * (answers - self.mean).square().sum(-1)

    def after_step(self) -> None:
        self.mean = 0.9 * self.mean + 0.1 * self.now

    def state_dict(self) -> Mapping[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


def make(setup: PartSetup) -> MeanAnswer | None:
    draw = setup.config.training.part(MeanOptions).draw
    return MeanAnswer(draw, len(setup.images.class_names)) if draw else None


@pytest.fixture
def plugin() -> Iterator[Config]:
    """A config that asks for it."""
    TRAINING_PARTS["mean answer"] = PartKind(make, MeanOptions)
    yield WHOLE.updated({"training.draw": 0.5})
    del TRAINING_PARTS["mean answer"]


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_a_plugins_part_is_trained_and_resumed_bit_by_bit(plugin: Config, straight: tuple[Run, Any]) -> None:
    whole = train(plugin, "whole", device="cpu")
    stop_after(1, plugin)
    torch.manual_seed(999)
    resumed = train(plugin, "run", resume=True, device="cpu")
    assert resumed.config.get("training.draw") == 0.5
    same_training(resumed, whole)
    assert read_checkpoint(whole.path / "checkpoint.pt")["state"]["mean answer"]["mean"].std() > 0
    assert (whole.history()["loss_1"] != straight[0].history()["loss_1"]).all()


# -- the hooks, one by one --


class Indexed(torch.utils.data.Dataset[Any]):
    """`make_data` with each image's row."""

    def __init__(self) -> None:
        self.data = make_data()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> Any:
        return (*self.data[i], i)


def test_a_part_that_does_nothing_changes_nothing() -> None:
    (one, plain), (other, found) = run(), run(parts=[TrainingPart()])
    assert torch.equal(weights_of(one), weights_of(other))
    assert [r.losses for r, _ in plain] == [r.losses for r, _ in found] and plain[0][1].keys() == found[0][1].keys()


def test_a_batch_has_its_rows_and_a_part_its_moments() -> None:
    called: list[Any] = []

    class Noting(TrainingPart):
        def begin(self, context: TrainingContext) -> None:
            called.append((context.n_exits, context.steps, context.resumed))

        def before_epoch(self, epoch: int) -> None:
            called.append(epoch)

        def views(self, batch: Batch) -> Batch:
            assert batch.indices is not None and batch.labelled is None
            assert torch.equal(batch.images, make_data().tensors[0][batch.indices])
            return batch

        def after_step(self) -> None:
            called.append("step")

        def after_epoch(self) -> None:
            called.append("trained")

    model = make_model()
    loader = DataLoader(Indexed(), batch_size=16, shuffle=True)
    validate = lambda model: (called.append("val"), dx.training.Validation((0.5, 0.6), 0.5))[1]  # noqa: E731
    list(dx.training.fit(model, loader, CONFIG, 2, validate=validate, accelerator=make_accelerator(CONFIG, "cpu"),
                         parts=[Noting()]))  # fmt: skip
    epoch = [*["step"] * 4, "trained", "val"]
    assert called == [(2, 4, False), 0, *epoch, 1, *epoch]


def joined(*parts: TrainingPart, **changes: Any) -> JoinedParts:
    config = replace(CONFIG, schedule="uniform", **changes)
    made = JoinedParts(parts, make_model(), config, 2, make_accelerator(config, "cpu"), 8, None)
    made.before_epoch(0)
    return made


def test_terms_are_added_before_images_are_weighted_and_targets_replace_labels() -> None:
    images, labels = make_data(6).tensors
    logits, factors = make_model()(images), torch.arange(6) / 3
    mixed = torch.full((6, 3), 1 / 3)

    class Terms(TrainingPart):
        def losses(self, batch: Batch, outputs: Tensor) -> Tensor:
            return outputs.square().sum(-1)

        def image_weights(self, batch: Batch) -> Tensor:
            return factors

        def loss(self, batch: Batch, outputs: Tensor) -> Tensor:
            return torch.tensor(7.0)

        def views(self, batch: Batch) -> Batch:
            return batch._replace(targets=mixed)

    made = joined(Terms())
    total, loss, losses = made.losses(made.views(images, labels), made.module)
    expected = (factors[:, None] * (cross_entropies(logits, mixed) + logits.square().sum(-1))).mean(0)
    torch.testing.assert_close((losses, loss), (expected, expected.sum() + 7))
    assert total is loss


def test_a_part_sets_the_rates_of_the_exits_and_the_trunk_keeps_its_own() -> None:
    class Constant(TrainingPart):
        def rates(self, epoch: float) -> Mapping[str, float]:
            return {"exits": 1.0} if epoch >= 1 else {}

    model = torch.nn.ModuleDict({"embed": torch.nn.Linear(6, 6), "exits": make_model()})
    config = replace(CONFIG, warmup_epochs=0, tuning_lr=1.0, predictor_lr=1.0)
    optimizer = dx.training.make_optimizer(model, config)
    rates = JoinedParts([Constant()], model, config, 2, make_accelerator(config, "cpu"), 4, None).rate
    seen: dict[str, list[float]] = {"trunk": [], "exits": []}
    schedule = make_schedule(optimizer, config, 4, rate=rates)
    for _ in range(8):
        for group in optimizer.param_groups:
            seen[group["of"]].append(group["lr"])
        optimizer.step()
        schedule.step()
    planned = [rate_factor(step, 8, 0) for step in range(8)]
    assert seen["trunk"][::2] == pytest.approx(planned)
    assert seen["exits"][::2] == pytest.approx([*planned[:4], *[1.0] * 4])


@pytest.mark.slow
def test_further_images_may_have_no_label(monkeypatch: pytest.MonkeyPatch, runs: Any) -> None:
    """The unlabelled ones reach the model and no loss of labels; a part's own loss sees them."""
    seen: list[Batch] = []

    class Unlabelled(TrainingPart):
        def __init__(self, images: ImageSet) -> None:
            self.images = images

        def sources(self) -> Sequence[ImageSet]:
            return (self.images,)

        def losses(self, batch: Batch, outputs: Tensor) -> Tensor | None:
            seen.append(batch)
            return None

    digits = dx.load_images("digits", "test").subset(slice(30))
    further = replace(digits, labels=np.full(30, MISSING))
    monkeypatch.setitem(TRAINING_PARTS, "unlabelled", PartKind(lambda setup: Unlabelled(further)))
    for balance in ("none", "weights", "sampler"):
        seen.clear()
        config = replace(WHOLE, training=replace(WHOLE.training, epochs=1, class_balance=balance))  # type: ignore[arg-type]
        history = train(config, balance, device="cpu").history()
        assert np.isfinite(history["loss"]).all()
        rows, labels, labelled = (torch.cat([getattr(batch, name) for batch in seen]) for name in
                                  ("indices", "labels", "labelled"))  # fmt: skip
        assert len(rows) == 130 and torch.equal(labelled, rows < 100) and torch.equal(labelled, labels != MISSING)
        assert balance == "sampler" or sorted(rows.tolist()) == [*range(130)]


def test_the_loss_of_a_batch_leaves_unlabelled_images_out() -> None:
    images, labels = make_data(6).tensors
    made = joined()
    made.all_labelled = False
    some = labels.where(torch.arange(6) < 4, MISSING)
    _, _, losses = made.losses(made.views(images, some), made.module)
    _, of_four = weighted_loss(make_model()(images[:4]), labels[:4], (1.0, 1.0))
    torch.testing.assert_close(losses, of_four * 4 / 6)


def test_a_loader_has_the_parts_images_and_order(runs: Any) -> None:
    digits = dx.load_images("digits", "test")
    few, more = digits.subset(slice(4)), digits.subset(slice(4, 7))

    class Backwards(TrainingPart):
        def sources(self) -> Sequence[ImageSet]:
            return (more,)

        def sampler(self, labels: Any) -> Any:
            return list(range(len(labels)))[::-1]

    model = dx.build_model(WHOLE.model, 10)
    settings = replace(WHOLE.training, batch_size=7, flip=False)
    images, labels, indices = next(iter(training_loader(few, model, settings, [Backwards()])))
    assert indices.tolist() == [6, 5, 4, 3, 2, 1, 0] and labels.tolist() == digits.labels[:7][::-1].tolist()
    assert images.shape == (7, 3, 32, 32)


class Named(TrainingPart):
    def __init__(self, name: str) -> None:
        self.name = name

    def state_dict(self) -> Mapping[str, Any]:
        return {"n": 1}


class Replacing(TrainingPart):
    def label_losses(self, batch: Batch, outputs: Tensor) -> Tensor:
        return outputs.square().sum(-1)


BATCH, OUTPUTS = Batch(torch.zeros(3, 3, 32, 32), torch.zeros(3, dtype=torch.long)), torch.ones(3, 2, 10)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: joined(Named("a"), Named("a")), "has this name"),
        (lambda: joined(Named("optimizer")), "has this name"),
        (lambda: joined(Named("")).state_dict(), "needs a name"),
        (
            lambda: joined(Replacing(), Replacing()).exit_losses(BATCH, OUTPUTS),
            "2 training parts each replace the loss of the labels",
        ),
    ],
)
def test_parts_that_cannot_go_together_are_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_one_part_has_its_name_and_may_replace_the_loss_of_the_labels() -> None:
    assert joined(Named("a")).state_dict() == {"a": {"n": 1}}
    assert joined(Replacing()).exit_losses(BATCH, OUTPUTS).tolist() == [10, 10]
