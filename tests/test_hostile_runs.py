"""A run that somebody else made opens nothing by itself: no connection, no program, no file outside its folder.

Every command and page that takes a run is given hostile ones; a connection or a program is an error that is noted.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import visiting
from calls import call
from image_files import paint, shard, split_shards, table
from made_up import MAIN
from run_folders import whole_run

import dmpo_explore as dx
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data.manifest import COLUMNS, Manifest, make_manifest, read_manifest, write_manifest
from dmpo_explore.runs.run_data import checked_images
from dmpo_explore.training.train_data import training_images
from dmpo_explore.utils.files import sha256
from dmpo_explore.web.export import NOT_HERE
from dmpo_explore.web.publish import page_html

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

datasets = pytest.importorskip("datasets")
ArrowWriter = pytest.importorskip("datasets.arrow_writer").ArrowWriter


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Connections and programs that were tried; each is an OSError. Hubs are not offline by themselves."""
    found: list[str] = []

    def refuse(what: str) -> Callable[..., Any]:
        def tries(*arguments: Any, **_: Any) -> Any:
            found.append(f"{what} {arguments!r:.200}")
            raise OSError("no network here")

        return tries

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse(name))
    monkeypatch.setattr(os, "system", refuse("system"))
    monkeypatch.setattr(subprocess, "Popen", refuse("Popen"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.png").write_bytes(paint(tmp_path / "own" / "a.png", 1).read_bytes())
    yield found


def evil(root: Path, data: dict[str, Any], model: dict[str, Any] | None = None) -> Path:
    """A run folder as a stranger may send it."""
    path = whole_run(root / "runs" / "evil")
    values = json.loads((path / "config.json").read_text())
    values["data"] |= data
    values["model"] |= model or {}
    (path / "config.json").write_text(json.dumps(values))
    return path


def listing(path: Path, *files: str | Path) -> None:
    """A manifest of these files, with their true hashes."""
    there = [Path(path, file) if not Path(file).is_absolute() else Path(file) for file in files]
    splits = ("train", "val", "test")
    rows = [
        (str(file), place.stat().st_size, sha256(place), split, 0, "")
        for split in splits for file, place in zip(files, there, strict=True)
    ]  # fmt: skip
    counts, prints = dict.fromkeys(splits, len(files)), dict.fromkeys(splits, "0" * 64)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "why"])
    write_manifest(path, Manifest("own", tuple("abcde"), "", counts, prints, frame))


def hub_with_manifest(root: Path) -> None:
    path = evil(root, {"name": "hfds/evil/data"})
    paint(path / "a.png", 1)
    listing(path, "a.png")


def folder_with_address(root: Path) -> None:
    path = evil(root, {"name": "hfds/runs/evil/data"})
    (path / "data").mkdir()
    files = "configs:\n- config_name: default\n  data_files: https://evil.example/a.parquet\n"
    (path / "data" / "README.md").write_text(f"---\n{files}---\n")


def table_with_address(root: Path) -> None:
    path = evil(root, {"name": "hfds/runs/evil/data"})
    made = table(range(8)).cast_column("image", datasets.Image(decode=False))
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(path / "data")
    for file in (path / "data").glob("*/*.arrow"):  # which saving would have filled with the file's bytes
        with ArrowWriter(path=str(file), features=table(range(1)).features) as writer:
            for row in made:
                writer.write(row | {"image": {"bytes": None, "path": str(root / "secret.png")}})
            writer.finalize()


def shards_with_command(root: Path) -> None:
    path = evil(root, {"name": "wds/runs/evil/shards"})
    shard(path / "shards" / "train-0.tar", 0, 4)
    about = {"filenames": [f"pipe:touch {root / 'ran'}"], "num_samples": 4, "shard_lengths": [4]}
    (path / "shards" / "_info.json").write_text(json.dumps({"splits": {"train": about, "test": about}}))


def folder_that_is_a_command(root: Path) -> None:
    evil(root, {"name": f"wds/pipe:touch {root.name}"})
    split_shards(root / f"pipe:touch {root.name}")


def table_elsewhere(root: Path) -> None:
    path = evil(root, {"name": "runs/evil/list.csv"})
    rows = [f"{root / 'secret.png'},a,{split}" for split in ("train",)]
    (path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    listing(path, root / "secret.png")


def links_elsewhere(root: Path) -> None:
    path = evil(root, {"name": "runs/evil/images"})
    (path / "images" / "a").mkdir(parents=True)
    (path / "images" / "a" / "a.png").symlink_to(root / "secret.png")
    listing(path / "images", "a/a.png")
    shutil.move(path / "images" / "manifest.csv", path / "manifest.csv")


def plugin(root: Path) -> None:
    path = evil(root, {})
    values = json.loads((path / "config.json").read_text())
    (root / "evil.py").write_text(f"open({str(root / 'ran')!r}, 'w')")
    values["plugins"] = [{"name": "evil", "sha256": sha256(root / "evil.py")}]
    (path / "config.json").write_text(json.dumps(values))


def names(data: dict[str, Any], model: dict[str, Any] | None = None) -> Callable[[Path], object]:
    """A run whose config names something, and that has nothing else."""
    return lambda root: evil(root, data, model)


NO_IMAGES: dict[str, Callable[[Path], object]] = {  # whose images must not be opened
    "hub": names({"name": "hfds/evil/data"}),
    "reader that left": names({"name": "torch/cifar10"}),
    "other host": names({"name": "hfds/https://evil.example/data"}),
    "bucket": names({"name": "hfds/s3://evil/data"}),
    "known set": names({"name": "cifar10", "root": "nowhere"}),
    "hub with manifest": hub_with_manifest,
    "folder with address": folder_with_address,
    "table with address": table_with_address,
    "shards with command": shards_with_command,
    "manifest upwards": lambda root: listing(evil(root, {"name": str(root / "own")}), "../../secret.png"),
    "manifest elsewhere": lambda root: listing(evil(root, {"name": str(root / "own")}), root / "secret.png"),
    "table elsewhere": table_elsewhere,
    "links elsewhere": links_elsewhere,
}
HOSTILE = NO_IMAGES | {
    "folder that is a command": folder_that_is_a_command,
    "backbone of hub": names({}, {"backbone": "vit_tiny_patch16_224", "weights": "timm", "image_size": 32}),
    "backbone by address": names({}, {"backbone": "hf-hub:evil/model", "weights": "timm"}),
    "plug-in": plugin,
}
COMMANDS = (
    "check evil", "runs", "runs --against evil evil", "record evil --device cpu",
    "record evil --force --split test --device cpu", "evaluate evil --threshold 0.5", "predict evil own --device cpu",
    "export evil --out graphs", "publish evil --out page", "publish evil --pictures --out page-2",
    "publish evil --model --out page-3", "data --config evil", "train --resume evil --device cpu",
    "slim evil --name thin --device cpu", "doctor",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:run 'evil' has no manifest")
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_command_opens_what_a_run_names(kind: str, tried: list[str], tmp_path: Path) -> None:
    HOSTILE[kind](tmp_path)
    for command in COMMANDS:
        call(*command.split(), status=None)
        assert tried == [] and not (tmp_path / "ran").exists(), command
    with suppress(OSError, ValueError):  # no such page
        page = page_html(dx.load_run("evil"), private=True)
        assert kind not in NO_IMAGES or NOT_HERE in page
    assert tried == []


@pytest.mark.filterwarnings("ignore:run 'evil' has no manifest")
@pytest.mark.parametrize("kind", NO_IMAGES)
def test_its_images_are_one_error(kind: str, tried: list[str], tmp_path: Path) -> None:
    NO_IMAGES[kind](tmp_path)
    run = dx.load_run("evil")
    for read in (run.split_images, run.image_set, lambda split: checked_images(run, split)):
        with pytest.raises((OSError, ValueError, ImportError)):
            read("train")[0]
    assert tried == [] and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("view", ["explore", "decide", "image", "training", "live"])
@pytest.mark.parametrize("kind", ["hub", "folder with address", "manifest elsewhere", "backbone of hub"])
def test_no_page_opens_what_a_run_names(kind: str, view: str, tried: list[str], tmp_path: Path) -> None:
    HOSTILE[kind](tmp_path)
    app = visiting.opened(MAIN.parent / "views" / f"{view}.py", run="evil")
    assert not app.exception and tried == []
    assert "secret" not in "".join(element.proto.body for element in app.get("html"))


def test_the_error_names_the_command_which_alone_connects(
    tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    HOSTILE["hub"](tmp_path)
    with pytest.raises(FileNotFoundError, match="`dmpo-explore fetch --data hfds/evil/data` alone"):
        dx.load_run("evil").split_images("test")
    assert tried == []
    call("fetch", "--data", "hfds/evil/data", status=1)
    assert tried
    tried.clear()
    with pytest.raises(FileNotFoundError, match="hfds/evil/data cannot be opened"):
        training_images(Config(DataConfig("hfds/evil/data")))
    assert tried
    tried.clear()
    backbone = ("--backbone", "vit_tiny_patch16_224")
    assert "fetch --backbone vit_tiny_patch16_224" in call("fetch", *backbone, status=1).stderr and tried


def test_what_was_fetched_opens_without_a_connection(tried: list[str], tmp_path: Path) -> None:
    """A cache as `load_dataset` leaves it for a data set of the hub: OWNER___NAME/CONFIG/VERSION/HASH."""
    made = tmp_path / "hub" / "good___data" / "default" / "0.0.0" / ("0" * 40)
    made.mkdir(parents=True)
    info = table(range(2)).info
    info.splits, info.builder_name, info.dataset_name = datasets.SplitDict(), "parquet", "data"
    info.config_name, info.version = "default", datasets.Version("0.0.0")
    for part, numbers in (("train", range(20)), ("test", range(20, 28))):
        rows = table(numbers)
        with ArrowWriter(path=str(made / f"data-{part}.arrow"), features=rows.features) as writer:
            for row in rows.cast_column("image", datasets.Image(decode=False)):
                writer.write(row)
            writer.finalize()
        info.splits.add(datasets.SplitInfo(part, num_examples=len(numbers), dataset_name="data"))
    info.write_to_directory(str(made))
    images = dx.load_images("hfds/good/data", "test")
    assert len(images) == 8 and tried == []


def test_the_users_own_table_may_name_any_file(tried: list[str], tmp_path: Path) -> None:
    """A run trained on a table with absolute paths opens, also without the table's folder; not without the table."""
    (tmp_path / "tables").mkdir()
    rows = [f"{paint(tmp_path / 'far' / f'{i}.png', i)},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "tables" / "list.csv").write_text("\n".join(["path,label", *rows]))
    data = DataConfig(str(tmp_path / "tables" / "list.csv"))
    manifest = make_manifest(data)
    assert np.array_equal(manifest.images(data, "test")[0].shape, (8, 8, 3))
    (tmp_path / "tables" / "list.csv").write_text("\n".join(["path,label", *rows[:30]]))
    with pytest.raises(ValueError, match="which neither a table nor folders of the run's data list; they are not"):
        [manifest.images(data, split) for split in manifest.counts]


def test_a_manifest_that_leads_upwards_is_named(tmp_path: Path) -> None:
    folder = whole_run(tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"x")
    listing(folder, "../secret.png")
    with pytest.raises(ValueError, match=r"manifest.csv is not a readable manifest: '../secret.png' leads out of"):
        read_manifest(folder)
    assert "manifest.csv" in call("check", folder, status=1).stdout
