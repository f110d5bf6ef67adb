"""What stops a training, and that nothing half-written is left."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import fill, paint
from tiny import tiny_config
from tiny_training import CONFIG

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data.manifest import Manifest
from dmpo_explore.training import train as train_module
from dmpo_explore.training.train import train_epochs

pytestmark = pytest.mark.usefixtures("runs")

BAD = [
    ({"model": {"backbone": "test_vitt"}}, "unknown .*backbone 'test_vitt'.*test_vit"),
    ({"model": {"image_size": 33}}, "image_size=33 is not a multiple of the patch"),
    ({"model": {"exits": (2, 99)}}, r"exits=\[2, 99\].*6 blocks"),
    ({"model": {"exits": 99}}, "exits=99.*6"),
    ({"model": {"tuning": "lorra"}}, "unknown tuning 'lorra'.*lora-all"),
    ({"model": {"bypass": "convv"}}, "unknown bypass 'convv'.*ladder"),
    ({"model": {"predictor": "quadratic"}}, "unknown predictor 'quadratic'.*moment"),
    ({"model": {"normalisation": "cube"}}, "normalisation"),
    ({"model": {"read": "all"}}, "read"),
    ({"schedule": "lineer"}, "unknown schedule 'lineer'"),
    ({"coupling": "x"}, "unknown coupling 'x'"),
    ({"train_size": 0}, "train_size=0"),
    ({"train_size": 5000}, "5000.*1295"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[str(change) for change, _ in BAD])
def test_a_bad_config_is_one_clear_error_and_leaves_nothing(change: dict[str, Any], message: str, runs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        next(train_epochs(tiny_config(**change), "run", device="cpu"))
    assert not runs.exists()


def test_a_loss_that_is_not_finite_stops_with_step_and_cause(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        batches = list(loader(*arguments, **options))
        if options.get("shuffle"):
            batches[2][0][:] = float("nan")
        return torch.utils.data.DataLoader(
            [pair for x, y, *_ in batches for pair in zip(x, y, strict=True)], batch_size=25
        )

    loader = train_module.make_loader
    monkeypatch.setattr(train_module, "make_loader", broken)
    with pytest.raises(FloatingPointError, match=r"nan in epoch 1, step 3 \(exit 1, 2\)"):
        next(train_epochs(CONFIG, "run", device="cpu"))
    assert not runs.exists()


def test_a_huge_learning_rate_stops_with_the_cause() -> None:
    config = tiny_config(epochs=2, tuning_lr=1e30, predictor_lr=1e30, warmup_epochs=0.0)
    with pytest.raises(FloatingPointError, match=r"(in epoch 1, step \d+|on val).*[Ll]ower the learning rates"):
        list(train_epochs(config, "run", device="cpu"))


@pytest.mark.parametrize("split", ["val", "train"])
def test_an_image_that_is_changed_meanwhile_is_named_and_no_learning_rate_blamed(tmp_path: Path, split: str) -> None:
    manifests: list[Manifest] = []

    def spoil(step: int, steps: int, loss: float) -> None:
        if step == steps:
            for row in manifests[0].files[split]:
                paint(folder / row.path, 222)

    folder = fill(tmp_path / "own")
    config = tiny_config(epochs=1, model={"earlier_exits": split == "train"})  # which reads held-out training images
    config = replace(config, data=DataConfig(str(folder)))
    with pytest.raises(ValueError, match="changed since the training"):
        next(train_epochs(config, "run", device="cpu", on_data=manifests.append, on_step=spoil))


def test_a_broken_picture_stops_and_is_named(tmp_path: Path, runs: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(255, size=(9, 9, 3), dtype=np.uint8)).save(
                tmp_path / f"pictures/{name}/{i}.png"
            )
    for path in (tmp_path / "pictures" / "a").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    config = Config.from_dict(CONFIG.to_dict() | {"data": {"name": str(tmp_path / "pictures")}})
    with pytest.raises(ValueError, match=r"a/\d+\.png cannot be read as an image"):
        next(train_epochs(config, "run", device="cpu"))
    assert not runs.exists()


def test_a_disk_without_room_for_a_run_is_seen_before_the_first_step(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=1000))
    with pytest.raises(OSError, match=r"a run needs about .* GB and 1e-06 GB are free; make room"):
        next(train_epochs(CONFIG, "run", device="cpu", on_step=lambda *_: pytest.fail("a step was made")))
    assert not runs.exists()
