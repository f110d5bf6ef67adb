"""The results of a live run as files: everything as JSON, and a table by exit as CSV."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from dmpo_explore_app import access
from dmpo_explore_app.services.live_session import LiveSession

import dmpo_explore as dx


def as_json(session: LiveSession) -> str:
    """Settings, device, policy and measurements; to other machines without paths."""
    look = session.live.look()
    count, (folder, split) = look.count, session.record_key
    measured = None
    if (m := count.measured) is not None:
        arms = {"early": asdict(m.early), "full": asdict(m.full)}
        measured = {name: value for name, value in vars(m).items() if name != "latency"} | arms | {"by_exit": rows(m)}
    found = {
        "run": Path(folder).name,
        "split": split,
        "began": datetime.fromtimestamp(session.began, UTC).isoformat(timespec="seconds"),
        "version": dx.__version__,
        "device": session.device,
        "load_average_before": session.load,
        "other_live_runs": session.others,
        "settings": asdict(session.settings),
        "policy": None if count.policy is None else count.policy.to_dict(),
        "state": look.state,
        "idle_watts": look.idle_watts,
        "images": count.images,
        "matching_recorded_exits": count.agreed,
        "full_model_matching": count.full_agreed,
        "measured": measured,
    }
    return access.without_paths(json.dumps(found, indent=2, allow_nan=False)) + "\n"


def table(measured: dx.inference.Measured) -> pd.DataFrame:
    """`rows` as a table; a latency that is not known is empty."""
    return pd.DataFrame(rows(measured))


def rows(measured: dx.inference.Measured) -> list[dict[str, float | int | None]]:
    """Of each exit: images, share, and latency in ms (mean, p50, p95), None where stages are not timed."""
    found = []
    for k, images in enumerate(measured.exits):
        row: dict[str, float | int | None] = {"exit": k + 1, "images": images, "share": images / sum(measured.exits)}
        row |= dict.fromkeys(("latency_mean_ms", "latency_p50_ms", "latency_p95_ms"))
        if measured.latency and (one := measured.latency[k]).seconds:
            each = 1000 * np.repeat(one.seconds, one.images)
            p50, p95 = np.quantile(each, (0.5, 0.95)).tolist()
            row |= {"latency_mean_ms": float(each.mean()), "latency_p50_ms": p50, "latency_p95_ms": p95}
        found.append(row)
    return found
