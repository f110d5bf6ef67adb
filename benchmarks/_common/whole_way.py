"""One backbone from its name to an export: what was found, as a row of a table."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.models.defaults import fitted
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.models.stage import Stage
from dmpo_explore.utils.texts import one_line
from dmpo_explore.utils.typing import at_exits

CLASSES, IMAGES, EXITS = 5, 6, 3
NOTHING: dict[str, Any] = {
    "image_size": "", "layout": "", "state": "", "prefix": "", "blocks": "", "exits": "", "shares": "", "tuned": "",
    "trained": "", "recorded": "", "exported": "", "reason": "", "problem": "",
}  # fmt: skip


def in_a_process(name: str, *, side: int, seconds: int, export: bool) -> dict[str, Any]:
    """`whole_way` in a process of its own, which is ended after so many seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch and timm are imported once
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, name, side, export))
    process.start()
    theirs.close()
    found, end = dict(NOTHING), time.monotonic() + seconds
    try:
        while ours.poll(max(0, end - time.monotonic())):
            found |= ours.recv()
        found |= {"problem": f"not finished after {seconds} s"}
        process.kill()
    except EOFError:
        process.join()
        if process.exitcode:
            found |= {"problem": f"its process ended with status {process.exitcode}"}
    process.join()
    return found


def _send(pipe: Connection, name: str, side: int, export: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    whole_way(name, side, export, pipe.send)


def whole_way(name: str, side: int, export: bool, keep: Callable[[dict[str, Any]], None]) -> None:
    """Build, train a step, record, infer and export a backbone with three exits; what is found is kept at once."""
    torch.manual_seed(0)
    try:
        config = fitted(dx.ModelConfig(name, "random", side, exits=EXITS))
        model = build_model(config, CLASSES)
    except ValueError as error:
        reason = str(error).partition(" (docs/backbones.md)")[0].partition(" is not served: ")
        keep({"reason": reason[2] or reason[0]})
        return
    try:
        flops = measure_flops(model, build_reference(config, CLASSES))
        stages: list[Stage] = list(model.stages)
        keep(
            {
                "image_size": config.image_size,
                "layout": stages[0].layout,
                "state": " ".join(f"{stage.grid[0]}x{stage.grid[1]}x{stage.width}" for stage in stages),
                "prefix": stages[0].prefix,
                "blocks": model.exits[-1],
                "exits": " ".join(map(str, model.exits)),
                "shares": " ".join(f"{part / flops.reference:.3f}" for part in flops.cumulative),
                "tuned": "{} of {}".format(*flops.layers),
            }
        )
        images = torch.randn(IMAGES, 3, config.image_size, config.image_size)
        _train_a_step(model, images)
        keep({"trained": "yes"})
        names = tuple(f"class {i}" for i in range(CLASSES))
        meta = dx.records.RecordMeta("noise", "val", names, model.exits, flops.cumulative, flops.reference)
        batches = [(images, torch.arange(IMAGES) % CLASSES)]
        record = dx.record_split(model, batches, meta, keep_logits=False)  # random weights may make them huge
        ordered = np.unique(record.confidence.astype(float))
        gap = int(np.argmax(np.diff(ordered)))  # the widest: float noise cannot decide there
        policy = dx.policies.ConfidencePolicy((float(ordered[gap] + ordered[gap + 1]) / 2,))
        live = dx.infer(model, images, policy)
        same = np.array_equal(live.exit, policy.exits(record))
        same &= np.array_equal(live.label, at_exits(record.prediction, live.exit))
        keep({"recorded": "yes" if same else "no"})
        if export:
            from dmpo_explore.inference.torch_export import export_model

            dx.models.merge(model)
            with tempfile.TemporaryDirectory() as folder:  # every graph is compared with its stage in onnxruntime
                export_model(model.eval(), Path(folder) / "export", policy, names)
            keep({"exported": "yes"})
    except Exception as error:  # whatever goes wrong is the finding
        keep({"problem": f"{type(error).__name__}: {one_line(error, 150)}"})


def _train_a_step(model: dx.DMPO, images: torch.Tensor) -> None:
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    labels = torch.arange(IMAGES) % CLASSES
    loss = F.cross_entropy(model(images).flatten(0, 1), labels.repeat_interleave(EXITS))
    loss.backward()
    if not all(p.grad is not None and torch.isfinite(p.grad).all() for p in weights):
        raise ValueError("a trainable weight has no finite gradient")
    optimizer.step()
    model.eval()


def smallest_of_each_class() -> pd.DataFrame:
    """The architecture with the fewest parameters of every model class of timm, apart from its models for tests."""
    found = defaultdict(list)
    for name in timm.list_models(exclude_filters="test_*"):
        model: Any = timm.create_model(name, num_classes=0, device="meta")
        found[type(model).__name__].append((sum(p.numel() for p in model.parameters()), name))
    rows = [(kind, *min(models)[::-1]) for kind, models in sorted(found.items())]
    return pd.DataFrame(rows, columns=["class", "backbone", "parameters"])
