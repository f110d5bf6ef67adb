"""What a run is, in words and numbers: method, backbone, data, exits, images; its result at the usual setting."""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple

from dmpo_explore_app.services import own_runs, policies, records
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

USUAL_POLICY = "confidence"


class RunSummary(NamedTuple):
    """A run in the list of runs: what it is, and its accuracy and compute (0..1); ``problem``: why it has none."""

    name: str
    text: str
    accuracy: float = 0.0
    compute: float = 0.0
    problem: str = ""


def facts(point: OperatingPoint) -> tuple[str, ...]:
    """Method, backbone, data, exits and images of the record, each in a few words."""
    record = point.record
    images = f"{record.n_images:,} {record.meta.split} images"
    return method(point.run), backbone(record.meta.model), data(record.meta.data), exits(record.n_exits), images


def method(run: dx.Run) -> str:
    """DMPO where exits have a bypass or second-order statistics; else the baseline, or a model that is not ours."""
    if own_runs.is_own(run):
        return "your scores"
    try:
        model = run.config.model
    except (OSError, ValueError):
        return "scores"
    if model.exits in (1, (1,)):
        return "plain model"
    plain = model.bypass == "none" and model.predictor == "linear"
    return "linear exits" if plain else "DMPO"


def backbone(name: str) -> str:
    """The short name of a backbone that the library fetches; else the name as it is."""
    source = dx.pretrained.SOURCES.get(name)
    return source.title.split(",")[0] if source else name


def data(name: str) -> str:
    """The title of a known data set; the folder's or table's name of images of your own; else the name as it is."""
    source = dx.data.DATASETS.get(name)
    place = PurePath(name.partition("/")[2] if dx.data.reader_name(name) else name)
    return source.title.split(":")[0] if source else place.name if place.is_absolute() else name


def blocks(record: dx.ExitRecord) -> tuple[int, ...]:
    """The block after which each exit stands; empty where a file of scores gave none, so that they count the exits."""
    meta = record.meta
    counted = meta.image_size is None and meta.exit_blocks == tuple(range(1, record.n_exits + 1))
    return () if counted else meta.exit_blocks


def exits(n: int) -> str:
    return f"{n} exits" if n > 1 else "1 exit"


def summary(name: str) -> RunSummary:
    """What the run ``name`` is, and its test result under `usual_policy`; or the problem why it cannot be read."""
    try:
        run = dx.load_run(name)
        split = "test" if "test" in run.splits() else run.splits()[0]
        point = OperatingPoint(run, split, usual_policy(run, split))
        kind, model, images, n_exits, _ = facts(point)
        found = point.outcome.summary()
    except IndexError:
        return RunSummary(name, "", problem="not recorded yet")
    except (OSError, ValueError) as error:
        return RunSummary(name, "", problem=str(error))
    return RunSummary(name, f"{kind} on {model}, {images}, {n_exits}", found["accuracy"], found["flops_fraction"])


def usual_policy(run: dx.Run, split: str) -> dx.Policy:
    """The policy that the pages begin with: fitted to the default target; without a record no image exits early."""
    if records.record(run, split).n_exits > 1 and policies.can_fit(run):
        return policies.fitted(run, USUAL_POLICY, dx.fitting.DEFAULT_TARGET)
    return policies.full_depth(USUAL_POLICY)
