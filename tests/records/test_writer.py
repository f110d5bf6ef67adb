"""Records written batch by batch: the same bytes as `ExitRecord.save`, whatever stops the writer and how often.

And what it takes: one writer at a time, full disks, memory that does not grow with the images.
"""

from __future__ import annotations

import errno
import shutil
import tracemalloc
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing import raising
from sklearn.decomposition import PCA
from synthetic import (
    BATCHES_OF_IT,
    RECORD,
    SIZE,
    B,
    C,
    K,
    arrays,
    begun,
    contents,
    fill,
    finished,
    made,
    make_meta,
    make_record,
)

from dmpo_explore.records import SCORE_TYPES, ExitRecord
from dmpo_explore.records import writer as writer_module
from dmpo_explore.records.writer import LOCK, STATE, RecordWriter, clear_recorded, feature_embedding

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
LATER = replace(RECORD, meta=replace(RECORD.meta, created="2031-01-01T00:00:00+00:00"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("saved") / "val"
    RECORD.save(folder)
    return contents(folder)


class Killed(BaseException):
    """What no code catches, as a kill."""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_a_written_record_is_a_saved_one(tmp_path: Path, saved: dict[str, bytes], order: list[int]) -> None:
    writer = made(tmp_path)
    with writer.begin() as changed:
        assert changed == [] and writer.missing() == BATCHES_OF_IT and writer.n_written == 0
        fill(writer, order[:2])
        assert writer.n_written == sum(2 if batch == 3 else SIZE for batch in order[:2])
        with pytest.raises(ValueError, match="2 of 4 batches are not recorded yet"):
            writer.finish()
        fill(writer, order[2:])
        assert writer.missing() == [] and writer.n_written == B and not (tmp_path / "val").exists()
        writer.finish()
    assert contents(tmp_path / "val") == saved and names(tmp_path) == ["val"]
    assert ExitRecord.problems(tmp_path / "val") == []


def test_without_logits_and_indices(tmp_path: Path) -> None:
    record = replace(RECORD, logits=None, meta=replace(RECORD.meta, indices=None))
    record.save(tmp_path / "saved")
    finished(tmp_path, record, keep_logits=False)
    assert contents(tmp_path / "val") == contents(tmp_path / "saved")


def test_features_are_written_batch_by_batch_and_get_their_embedding(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(B, K, 7)).astype(np.float16)
    record = replace(RECORD, features=features, embedding=feature_embedding(features))
    record.save(tmp_path / "saved")
    writer = made(tmp_path, n_features=7)
    with writer.begin():
        for batch in BATCHES_OF_IT:
            writer.write(batch, arrays(writer, batch, record) | {"features": features[writer.rows(batch)]})
        writer.finish()
    assert contents(tmp_path / "val") == contents(tmp_path / "saved")


# -- whatever stops it --


@pytest.mark.parametrize("name", ["savez", "replace"])
@pytest.mark.parametrize("calls", range(4))
def test_a_kill_at_every_write_loses_at_most_its_batch(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, calls: int, name: str
) -> None:
    """Killed while a batch is half written, and before it gets its name; the date is that of the beginning."""
    module, written = writer_module.np if name == "savez" else writer_module.os, list[Any]()
    whole = getattr(module, name)

    def killed(stream: Any, *given: Any, **more: Any) -> None:
        if len(written) == calls:
            if name == "savez":
                stream.write(b"PK")
            raise Killed
        written.append(stream)
        whole(stream, *given, **more)

    writer = made(tmp_path)
    with pytest.raises(Killed), monkeypatch.context() as patch, writer.begin():
        patch.setattr(module, name, killed)
        fill(writer, BATCHES_OF_IT)
    assert finished(tmp_path, LATER if calls else RECORD) == ([], BATCHES_OF_IT[calls:])
    assert contents(tmp_path / "val") == saved and names(tmp_path) == ["val"]


@pytest.mark.parametrize("force", [False, True])
def test_a_kill_while_the_record_is_put_in_place(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    if force:
        make_record(8, K, C, seed=1).save(tmp_path / "val")
    for name in ("check_record", "write_facts"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(writer_module, name, raising(Killed))
            finished(tmp_path, force=force)
        assert (tmp_path / "val").exists() == force
    if force:
        with pytest.raises(FileExistsError, match="--force"):
            finished(tmp_path)
    assert finished(tmp_path, force=force) == ([], [])
    assert contents(tmp_path / "val") == saved


def test_a_finished_recording_is_cleared_and_an_unfinished_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made(tmp_path)
    for force in (False, True):
        with writer.begin():
            fill(writer, BATCHES_OF_IT)
            writer.finish(force=force)
            writer.finished = False  # as a kill right behind the rename leaves it
        assert writer.folder.is_dir()
        clear_recorded(tmp_path)
        assert names(tmp_path) == ["val"]
    writer.folder.mkdir()
    (writer.folder / LOCK).touch()  # killed a moment later
    clear_recorded(tmp_path)
    assert names(tmp_path) == ["val"]
    again = begun(tmp_path, [0], LATER)
    clear_recorded(tmp_path)  # the record in place is an earlier one: its successor can be continued
    assert again.folder.is_dir() and again.n_written == SIZE


def test_a_batch_with_other_bytes_is_missing(tmp_path: Path, saved: dict[str, bytes]) -> None:
    """After a power cut pages may be lost, whatever the order in which they were written."""
    folder = begun(tmp_path, [0, 1, 2, 3]).folder
    for batch in (1, 2):
        raw = bytearray((folder / f"{batch}.npz").read_bytes())
        raw[raw.index(arrays(made(tmp_path), batch)["logits"].tobytes())] ^= 1
        (folder / f"{batch}.npz").write_bytes(raw if batch == 1 else raw[: len(raw) // 2])
    assert finished(tmp_path) == ([], [1, 2])
    assert contents(tmp_path / "val") == saved


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"made_from": {"weights": "other", "shape": [1, 2]}}, ["weights"]),
        ({"made_from": {"weights": "w", "shape": [1, 2], "seed": 1}}, ["seed"]),
        ({"batch_size": 5}, ["batch_size"]),
        ({"keep_logits": False}, ["keep_logits"]),
        ({"record": make_record(B, K, C, indices=np.arange(B) + 1)}, ["indices_sha256"]),
        ({"record": make_record(B, K, C, exits=(1, 2, 3))}, ["exits"]),
        ({"record": make_record(14, K, C)}, ["indices_sha256", "n_images"]),
        ({"n_features": 7}, ["n_features"]),
    ],
)
def test_rows_of_another_recording_are_not_used(tmp_path: Path, changes: dict[str, Any], names: list[str]) -> None:
    begun(tmp_path, [0, 1])
    other = made(tmp_path, **changes)
    more = {"features": np.zeros((SIZE, K, 7), np.float16)} if "n_features" in changes else {}
    with other.begin() as changed:
        assert changed == names
        assert other.missing() == list(range(other.n_batches))
        other.write(0, arrays(other, 0, changes.get("record", RECORD)) | more)
    same = made(tmp_path, **changes)
    with same.begin() as changed:
        assert changed == [] and same.missing() == list(range(1, other.n_batches))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_from": 3}', '{"made_from": [], "created": "now"}'])
def test_a_broken_state_is_not_used(tmp_path: Path, text: str) -> None:
    (begun(tmp_path, [0, 1]).folder / STATE).write_text(text)
    assert finished(tmp_path) == ([STATE], BATCHES_OF_IT)


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    writer = made(tmp_path)
    with writer.begin():
        writer.write(0, arrays(writer, 0) | {"confidence": arrays(writer, 0)["confidence"] + 2})
        fill(writer, [1, 2, 3])
        with pytest.raises(ValueError, match=r"confidence\.npy: .* must be a confidence from 0 to 1"):
            writer.finish()
    with pytest.raises(ValueError, match="flops"):
        RecordWriter(tmp_path / "x", make_meta(B, K, C, flops=(3.0, 2.0, 1.0)), B, batch_size=2, made_from={})


# -- the embedding of features --


def spread_features(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(300, 3, 12)) * np.linspace(3, 0.2, 12) + 5).astype(np.float16)


def distances(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, None].astype(float) - points[None].astype(float), axis=2))


def test_each_exit_is_its_pca_up_to_rotation_and_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    given = spread_features()
    monkeypatch.setattr(writer_module, "PIECE", 64)  # several pieces, the last one short
    found = feature_embedding(given)
    assert found.shape == (300, 3, 2) and found.dtype == np.float16 and np.abs(found).max() == 100
    for k in range(3):
        own, wanted = distances(found[:, k]), distances(PCA(2).fit_transform(given[:, k].astype(float)))
        assert np.abs(own / own.max() - wanted / wanted.max()).max() < 2e-3


def test_maps_point_the_same_way_on_every_machine_and_at_every_exit() -> None:
    for seed in range(5):
        first = feature_embedding(spread_features(seed=seed))[:, 0].astype(float)
        assert (first**3).sum(axis=0).min() >= 0  # a sign is free in every component
    plain = spread_features()[:, 0].astype(float)
    turned = plain @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    found = feature_embedding(np.stack([plain, turned], axis=1)).astype(float)
    assert np.abs(found[:, 0] - found[:, 1]).max() < 0.2  # of 100: every image keeps its place


def test_few_images_and_one_feature_have_an_embedding_too() -> None:
    assert feature_embedding(np.ones((1, 2, 5), np.float16)).tolist() == [[[0, 0], [0, 0]]]
    assert feature_embedding(np.arange(3.0)[:, None, None])[:, 0].tolist() == [[-100, 0], [0, 0], [100, 0]]


# -- the room that it takes --


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0])  # another process of the same recording
        with pytest.raises(FileExistsError, match=r"another process is recording .*val"), made(tmp_path).begin():
            pass
        assert made(tmp_path).missing() == [1, 2, 3]
    assert finished(tmp_path) == ([], [1, 2, 3])


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), made(tmp_path).begin():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "name", "full", "words"),
    [
        (shutil, "disk_usage", lambda _: Namespace(free=1), r"the disk .*is full: .*val was not written"),
        (writer_module.FileLock, "acquire", raising(NO_SPACE), r"the disk .*is full: .*val was not written"),
        (writer_module, "write_json", raising(NO_SPACE), r"the disk .*is full: .*val was not written"),
    ],
)
def test_a_disk_that_is_full_is_named_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object, name: str, full: object, words: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match=words) as caught:
        patch.setattr(place, name, full)
        begun(tmp_path, [])
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_keeps_what_was_written(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.savez

    def full(stream: Any, **values: Any) -> None:
        if made(tmp_path).n_written >= 12:
            raise NO_SPACE
        whole(stream, **values)

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"is full: .*val was not written") as caught:
        patch.setattr(writer_module.np, "savez", full)
        begun(tmp_path, BATCHES_OF_IT)
    assert caught.value.errno == errno.ENOSPC and not (tmp_path / "val").exists()
    assert finished(tmp_path) == ([], [2, 3])
    assert contents(tmp_path / "val") == saved


def peak(folder: Path, n_images: int) -> int:
    """The most bytes that Python and numpy held at once."""
    size, shape = 50, (50, 4, 250)
    meta = make_meta(n_images, *shape[1:], indices=None)
    writer = RecordWriter(folder / "val", meta, n_images, batch_size=size, made_from={})
    values = {"labels": np.zeros(size, np.int64), "logits": np.zeros(shape, np.float16)}
    values |= {name: np.zeros(shape[:2], kind) for name, kind in SCORE_TYPES.items()}
    tracemalloc.start()
    with writer.begin():
        for batch in writer.missing():
            writer.write(batch, values)
        writer.finish()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """2 MB of logits in the first case, 20 in the second."""
    few, many = peak(tmp_path / "few", 1_000), peak(tmp_path / "many", 10_000)
    assert many < few + 400_000
    assert (tmp_path / "many" / "val" / "logits.npy").stat().st_size > 20_000_000
