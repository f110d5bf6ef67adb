"""Online thresholds played on a record: a stream of images, one after another, without labels.

In: a `ThresholdBandit`, an `ExitRecord` and an order of its images. Out: the exit and the threshold of every image, and
the regret. `online_shift_table` plays streams that turn from clean to corrupted images. Arrays only, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from ...analysis.metrics import Outcome
from ...analysis.shift import LEVEL, certified_risk, excess_p_value
from ...figures.style import GREY, model_line, panels
from ...policies.base import Policy
from ...records.record import ExitRecord
from ...utils.typing import Array, Floats, Ints, at_exits
from .bandit import BanditState, ThresholdBandit, confidence_at

MEASURES = ("accuracy", "flops_fraction", "too_early")
STEP = 50  # images between points of a stream's way


@dataclass(frozen=True, eq=False)
class OnlineThresholds:
    """Outcome of a bandit on a stream of B images; everything but ``exits`` is in the stream's order.

    Args:
        exits: (B,) 0-based exit of every image, in the record's order.
        order: (B,) rows of the record as they came. arms: (B,) which threshold each used; thresholds: (B,) itself.
        regret: (B,) cumulative, against the single threshold with the largest total reward in hindsight.
        state: after the last image, from which another stream can continue.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
        >>> run = dx.load_run("demo")
        >>> calibration = run.record("calibration").subset(range(500))
        >>> bandit = fit_bandit(calibration, dx.fit_policy(calibration, flops=0.30))
        >>> found = dx.online_thresholds(calibration, bandit)
        >>> isinstance(found, OnlineThresholds), found.state.images
        (True, 500.0)
    """

    exits: Ints
    order: Ints
    arms: Ints
    thresholds: Floats
    regret: Floats
    state: BanditState


def online_thresholds(
    record: ExitRecord, bandit: ThresholdBandit, order: npt.ArrayLike | None = None, state: BanditState | None = None
) -> OnlineThresholds:
    """Play a bandit on a record's images, one after another. Labels are not read.

    An image's exit depends on the images before it and on its own scores up to that exit, on nothing else.

    Args:
        order: (B,) rows of the record, each once; default: as they are recorded.
        state: after earlier images, which stays as it is; default: before the first one.

    Raises:
        ValueError: an order that is not a permutation of the rows, or a record with another number of exits.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
        >>> run = dx.load_run("fashion")
        >>> calibration, test = run.record("calibration"), run.record("test")
        >>> bandit = fit_bandit(calibration, dx.fit_policy(calibration, flops=0.30))
        >>> found = online_thresholds(test, bandit)
        >>> found.exits.shape, round(float(found.thresholds[-5000:].mean()), 2)
        ((10000,), 0.75)
    """
    rows = np.arange(record.n_images) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(rows, axis=None), np.arange(record.n_images)):
        raise ValueError(f"order must hold each row of the record once, 0 to {record.n_images - 1}")
    exits, rewards = _arms(record, bandit)
    state = state.copy() if state else bandit.start()
    arms = _play(bandit, rewards[rows], state)
    taken = np.empty(record.n_images, np.int64)
    taken[rows] = exits[rows, arms]
    lost = rewards[rows][:, rewards.sum(axis=0).argmax()] - rewards[rows, arms]
    return OnlineThresholds(taken, rows, arms, bandit.thresholds[arms], lost.cumsum(), state)


def _arms(record: ExitRecord, bandit: ThresholdBandit) -> tuple[Ints, Floats]:
    """(B, A) exits and rewards of every image at every threshold."""
    if record.n_exits != len(bandit.compute):
        raise ValueError(f"the bandit is of a model with {len(bandit.compute)} exits, the record has {record.n_exits}")
    exits = bandit.arm_exits(record)
    return exits, bandit.rewards(exits, at_exits(confidence_at(record, bandit.policies[0]), exits.T).T)


def _play(bandit: ThresholdBandit, rewards: Floats, state: BanditState) -> Ints:
    """(B,) arm of every image of a stream, (B, A) rewards; ``state`` goes along."""
    arms = []
    for row in rewards.tolist():
        arm = bandit.choose(state)
        bandit.update(state, arm, row[: arm + 1] if bandit.lower else row[arm : arm + 1])
        arms.append(arm)
    return np.array(arms, np.int64)


def online_shift_table(
    clean: ExitRecord,
    records: Iterable[tuple[str, int, ExitRecord]],
    bandits: Mapping[str, tuple[ThresholdBandit, Policy]],
    *,
    streams: int = 50,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bandits on streams that turn from clean to corrupted images, against the frozen policies they start from.

    A stream is as many clean as corrupted images, drawn with replacement; all records have equally many. All numbers
    are of its corrupted half. Intervals, 95 %, are quantiles over streams: images and order are resampled together.

    Args:
        clean: other images than those of ``records``. records: corruption, strength (0: none) and record.
        bandits: name → the bandit and the frozen policy.

    Raises:
        ValueError: records of different numbers of images.

    Returns:
        Two tables. A row per record and bandit: ``corruption``, ``strength``, ``policy``, ``images``; ``accuracy``,
        ``flops_fraction`` and ``too_early`` (early-exit error) with ``…_low`` and ``…_high``; ``…_gain`` of each over
        the frozen policy on the same images, with ``…_gain_low`` and ``…_gain_high``; ``threshold``, the mean; and
        ``risk``, ``epsilon``, ``p_value`` and ``violated`` as `shift_table` has them.
        And the way: ``corruption``, ``strength``, ``policy``, ``image`` (0: the first corrupted one), ``threshold`` and
        ``frozen``, means over streams and `STEP` images.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
        >>> run = dx.load_run("demo")
        >>> policy = dx.fit_policy(run.record("calibration"), flops=0.30)
        >>> bandit = fit_bandit(run.record("calibration"), policy)
        >>> clean, other = run.record("test").subset(slice(0, 500)), run.record("test").subset(slice(500, 1000))
        >>> table, way = online_shift_table(clean, [("none", 0, other)], {"online": (bandit, policy)}, streams=2)
        >>> len(table), len(way), bool(table["accuracy_low"][0] <= table["accuracy"][0])
        (1, 20, True)
    """
    rows, ways, begun = list[dict[str, Any]](), [], dict[tuple[str, int], tuple[Ints, BanditState]]()
    for corruption, strength, record in records:
        size = record.n_images
        if rows and size != rows[0]["images"]:
            raise ValueError(f"{corruption} {strength} has {size} images, another record {rows[0]['images']}: streams "
                             "are compared image by image; take subsets of one size")  # fmt: skip
        for name, (bandit, policy) in bandits.items():
            (exits, rewards), frozen = _arms(record, bandit), policy.exits(record)
            numbers, fixed, paths = [], [], []
            for stream in range(streams):
                rng = np.random.default_rng([seed, stream])  # the same images for every bandit
                first, second = rng.integers(clean.n_images, size=size), rng.integers(size, size=size)
                if (name, stream) not in begun:  # the clean half is the same whatever comes after
                    before = bandit.start()
                    begun[name, stream] = _play(bandit, _arms(clean.subset(first), bandit)[1], before), before
                arms = _play(bandit, rewards[second], (state := begun[name, stream])[1].copy())
                numbers.append(_measures(record.subset(second), exits[second, arms]))
                fixed.append(_measures(record.subset(second), frozen[second]))
                paths.append(bandit.thresholds[np.concatenate([state[0], arms])])
            key = {"corruption": corruption, "strength": strength, "policy": name}
            found, path = np.array(numbers), np.mean(paths, axis=0)
            row = key | {"images": size, **_intervals(found, ""), **_intervals(found - fixed, "_gain")}
            rows.append(row | {"threshold": path[size:].mean()} | _certified(policy, found[:, -1].mean(), size))
            for start in range(0, 2 * size, step := min(STEP, size)):
                here = {"image": start - size, "threshold": path[start : start + step].mean()}
                ways.append(key | here | {"frozen": policy.thresholds[0]})
    return pd.DataFrame(rows), pd.DataFrame(ways)


def _measures(record: ExitRecord, exits: Array) -> list[float]:
    """`MEASURES` of a stream."""
    outcome = Outcome(record, np.asarray(exits))
    found = (outcome.correct, outcome.flops_fraction, outcome.early_exit_error)
    return [float(values.mean()) for values in found]


def _intervals(values: Floats, suffix: str) -> dict[str, float]:
    """Mean and 95 % interval of every measure: values (streams, measures)."""
    low, high = np.quantile(values, (0.025, 0.975), axis=0)
    mean, found = values.mean(axis=0), dict[str, float]()
    for i, name in enumerate(MEASURES):
        found |= {f"{name}{suffix}": mean[i], f"{name}{suffix}_low": low[i], f"{name}{suffix}_high": high[i]}
    return found


def _certified(policy: Policy, too_early: float, images: int) -> dict[str, Any]:
    """Whether the bound of the frozen policy, if it has one on early-exit errors, is exceeded by the mean rate."""
    risk, epsilon = certified_risk(policy)
    if risk != "too_early":
        return {"risk": "", "epsilon": np.nan, "p_value": np.nan, "violated": False}
    p_value = excess_p_value(round(too_early * images), images, epsilon)
    return {"risk": risk, "epsilon": epsilon, "p_value": p_value, "violated": p_value <= LEVEL}


# Online thresholds over a stream of images that turns from clean to corrupted ones.


def online_figure(way: pd.DataFrame, template: str | None = None) -> go.Figure:
    """The threshold along a stream, a panel per corruption; the frozen policies' thresholds are dotted.

    Args:
        way: the second table of `online_shift_table`: ``corruption``, ``policy``, ``image`` (0: the first corrupted
            one), ``threshold`` and ``frozen``, of one strength.

    Raises:
        ValueError: no row, or several strengths.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> way = pd.DataFrame({"image": [-50, 0], "threshold": [0.8, 0.9], "frozen": [0.75, 0.75]})
        >>> figure = online_figure(way.assign(corruption="noise", strength=5, policy="online"))
        >>> [trace.name for trace in figure.data]
        ['online', 'frozen']
    """
    if len(strengths := sorted(way["strength"].unique().tolist())) != 1:
        raise ValueError(f"way must hold one strength, not {strengths}")
    corruptions, policies = list(dict.fromkeys(way["corruption"])), list(dict.fromkeys(way["policy"]))
    figure = panels(template, 1, len(corruptions), corruptions, shared_yaxes=True)
    for column, corruption in enumerate(corruptions, start=1):
        here = way[way["corruption"] == corruption]
        for i, policy in enumerate(policies):
            seen = here[here["policy"] == policy].sort_values("image")
            figure.add_scatter(
                x=seen["image"],
                y=seen["threshold"],
                name=policy,
                legendgroup=policy,
                showlegend=column == 1,
                mode="lines",
                line=model_line(i, 2),
                hovertemplate=f"{policy}<br>image %{{x:,}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
        ends = [here["image"].min(), here["image"].max()]
        for number, frozen in enumerate(sorted(here["frozen"].unique())):
            shown, line = column == 1 and not number, {"color": GREY, "width": 1.5, "dash": "dot"}
            figure.add_scatter(
                x=ends, y=[frozen] * 2, name="frozen", legendgroup="frozen", showlegend=shown, mode="lines", line=line,
                hovertemplate="frozen %{y:.3f}<extra></extra>", row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"}, row=1, col=column)
    return figure.update_xaxes(title="image (0: the first corrupted one)").update_yaxes(title="threshold", col=1)
