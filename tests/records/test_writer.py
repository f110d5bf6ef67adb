"""Records written batch by batch: the same bytes as `ExitRecord.save`, whatever stops the writer and how often."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout
from synthetic import BATCHES_OF_IT, RECORD, SIZE, B, C, K, arrays, contents, fill, made, make_meta, make_record

from dmpo_explore.records import writer as writer_module
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.writer import BATCHES, LOCK, STATE, RecordWriter, clear_recorded


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("saved") / "val"
    RECORD.save(folder)
    return contents(folder)


class Killed(BaseException):
    """What no code catches, as a kill."""


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_a_written_record_is_a_saved_one(tmp_path: Path, saved: dict[str, bytes], order: list[int]) -> None:
    writer = made(tmp_path)
    with writer.begin() as changed:
        assert changed == [] and writer.missing() == BATCHES_OF_IT and writer.n_written == 0
        fill(writer, order)
        assert writer.missing() == [] and writer.n_written == B
        assert not (tmp_path / "val").exists()
        writer.finish()
    assert contents(tmp_path / "val") == saved
    assert ExitRecord.problems(tmp_path / "val") == []
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_without_logits_and_indices(tmp_path: Path) -> None:
    record = replace(RECORD, logits=None, meta=replace(RECORD.meta, indices=None))
    record.save(tmp_path / "saved")
    writer = made(tmp_path, record, keep_logits=False)
    with writer.begin():
        fill(writer, BATCHES_OF_IT, record)
        writer.finish()
    assert contents(tmp_path / "val") == contents(tmp_path / "saved")


@pytest.mark.parametrize("calls", range(4 * 7))
def test_a_kill_at_every_write_loses_at_most_its_batch(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Six arrays and the mark of each batch: seven writes. The one that is killed has written half of its bytes."""
    write, seen = RecordWriter._write_at, list[str]()

    def killed(self: RecordWriter, file: str, position: int, data: bytes) -> None:
        half = len(seen) == calls
        write(self, file, position, data[: len(data) // 2] if half else data)
        seen.append(file)
        if half:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "_write_at", killed)
        with pytest.raises(Killed), made(tmp_path).begin():
            fill(made(tmp_path), BATCHES_OF_IT)
    again = made(tmp_path)
    with again.begin() as changed:
        assert changed == []
        assert again.missing() == BATCHES_OF_IT[calls // 7 :]
        fill(again, again.missing())
        again.finish()
    assert contents(tmp_path / "val") == saved
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


@pytest.mark.parametrize("force", [False, True])
def test_a_kill_while_the_record_is_put_in_place(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    if force:
        make_record(8, K, C, seed=1).save(tmp_path / "val")

    def killed(*_: Any) -> None:
        raise Killed

    for name in ("_link", "write_facts"):
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, name, killed)
            with pytest.raises(Killed), made(tmp_path).begin():
                fill(made(tmp_path), made(tmp_path).missing())
                made(tmp_path).finish(force=force)
        assert (tmp_path / "val").exists() == force
    again = made(tmp_path)
    with again.begin():
        assert again.missing() == []
        again.finish(force=force)
    assert contents(tmp_path / "val") == saved


def test_a_finished_recording_is_cleared_and_an_unfinished_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made(tmp_path)
    with writer.begin():
        fill(writer, BATCHES_OF_IT)
        writer.finish()
        writer.finished = False  # as a kill right behind the rename leaves it
    clear_recorded(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["val"]

    with writer.begin():  # as before, and a kill while it was being removed
        fill(writer, BATCHES_OF_IT)
        writer.finish(force=True)
        writer.finished = False
    whole = shutil.rmtree

    def killed(path: Path, **options: Any) -> None:
        if path == writer.folder:
            raise Killed
        whole(path, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed)
        clear_recorded(tmp_path)
    assert {path.name for path in writer.folder.iterdir()} == {STATE, LOCK}
    clear_recorded(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["val"]
    writer.folder.mkdir()
    (writer.folder / LOCK).touch()  # killed a moment later
    clear_recorded(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["val"]

    again = made(tmp_path, replace(RECORD, meta=replace(RECORD.meta, created="2031-01-01T00:00:00+00:00")))
    with again.begin():
        fill(again, [0])
    clear_recorded(tmp_path)  # the record in place is an earlier one: its successor can be continued
    assert again.folder.is_dir() and again.n_written == SIZE


def test_the_folder_is_removed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed, remove = list[Path](), writer_module.remove_partial

    def held(folder: Path) -> None:
        with pytest.raises(Timeout):
            FileLock(folder / LOCK).acquire(timeout=0)
        removed.append(folder)
        remove(folder)

    monkeypatch.setattr(writer_module, "remove_partial", held)
    writer = made(tmp_path)
    with writer.begin():
        fill(writer, BATCHES_OF_IT)
        writer.finish()
    assert removed == [writer.folder] and [path.name for path in tmp_path.iterdir()] == ["val"]


def test_a_file_system_without_links(tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(writer_module.os, "link", link)
    writer = made(tmp_path)
    with writer.begin():
        fill(writer, BATCHES_OF_IT)
        writer.finish()
    assert contents(tmp_path / "val") == saved


def test_the_date_is_that_of_the_beginning(tmp_path: Path, saved: dict[str, bytes]) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0])
    later = replace(RECORD, meta=replace(RECORD.meta, created="2031-01-01T00:00:00+00:00"))
    again = made(tmp_path, later)
    with again.begin():
        fill(again, again.missing())
        again.finish()
    assert contents(tmp_path / "val") == saved


@pytest.mark.parametrize("file", ["labels.npy", "scores/margin.npy", "logits.npy", BATCHES])
def test_a_batch_with_other_bytes_is_missing(tmp_path: Path, saved: dict[str, bytes], file: str) -> None:
    """After a power cut pages may be lost, whatever the order in which they were written."""
    first = made(tmp_path)
    with first.begin():
        fill(first, [0, 1, 3])
    path = first.folder / file
    raw = bytearray(path.read_bytes())
    raw[-1 if file != BATCHES else 8 * 3] ^= 1  # of the last batch
    path.write_bytes(raw)
    again = made(tmp_path)
    with again.begin() as changed:
        assert changed == [] and again.missing() == [2, 3] and again.n_written == 12
        fill(again, [2, 3])
        again.finish()
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
    ],
)
def test_rows_of_another_recording_are_not_used(tmp_path: Path, changes: dict[str, Any], names: list[str]) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0, 1])
    other = made(tmp_path, **changes)
    with other.begin() as changed:
        assert changed == names
        assert other.missing() == list(range(other.n_batches))
        fill(other, [0], changes.get("record", RECORD))
    same = made(tmp_path, **changes)
    with same.begin() as changed:
        assert changed == [] and same.missing() == list(range(1, other.n_batches))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_from": 3}', '{"made_from": [], "created": "now"}'])
def test_a_broken_state_is_not_used(tmp_path: Path, text: str) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0, 1])
    (made(tmp_path).folder / "state.json").write_text(text)
    with made(tmp_path).begin() as changed:
        assert changed and made(tmp_path).missing() == BATCHES_OF_IT


@pytest.mark.parametrize("file", ["labels.npy", "scores/entropy.npy", BATCHES])
@pytest.mark.parametrize("how", ["gone", "short", "header"])
def test_files_of_another_form_are_not_used(tmp_path: Path, file: str, how: str) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0, 1])
    path = made(tmp_path).folder / file
    if how == "gone":
        path.unlink()
    elif how == "short" or file == BATCHES:
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(path.read_bytes().replace(b"False", b"True ", 1))
    with made(tmp_path).begin() as changed:
        assert changed == ["files"] and made(tmp_path).missing() == BATCHES_OF_IT


def test_a_disk_that_fills_keeps_what_was_written(
    tmp_path: Path, saved: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if self.name == "logits.npy" and mode == "r+b" and made(tmp_path).n_written >= 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, mode, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError) as caught, made(tmp_path).begin():
            fill(made(tmp_path), BATCHES_OF_IT)
    assert caught.value.errno == errno.ENOSPC and "val" in str(caught.value)
    assert not (tmp_path / "val").exists()
    again = made(tmp_path)
    with again.begin():
        assert again.missing() == [2, 3]
        fill(again, [2, 3])
        again.finish()
    assert contents(tmp_path / "val") == saved


def test_an_unfinished_or_existing_record_is_not_put_in_place(tmp_path: Path) -> None:
    writer = made(tmp_path)
    with writer.begin():
        fill(writer, [0, 2])
        with pytest.raises(ValueError, match="2 of 4 batches are not recorded yet"):
            writer.finish()
        assert not (tmp_path / "val").exists()
        make_record(8, K, C).save(tmp_path / "val")
        fill(writer, [1, 3])
        with pytest.raises(FileExistsError, match="--force"):
            writer.finish()
        assert ExitRecord.load(tmp_path / "val").n_images == 8
        writer.finish(force=True)
    assert ExitRecord.load(tmp_path / "val").n_images == B


def test_what_is_no_batch_or_no_record_is_refused(tmp_path: Path) -> None:
    writer = made(tmp_path)
    with writer.begin():
        for name, value in (("labels", np.zeros(5, np.int64)), ("margin", np.zeros((6, K), np.float64))):
            with pytest.raises(ValueError, match=rf"{name}\.npy: batch 0 .* must be"):
                writer.write(0, arrays(writer, 0) | {name: value})
        wrong = arrays(writer, 0)["confidence"] + 2
        writer.write(0, arrays(writer, 0) | {"confidence": wrong})
        fill(writer, [1, 2, 3])
        with pytest.raises(ValueError, match=r"confidence\.npy: .* must be a confidence from 0 to 1"):
            writer.finish()
    with pytest.raises(ValueError, match="flops"):
        RecordWriter(tmp_path / "x", make_meta(B, K, C, flops=(3.0, 2.0, 1.0)), B, batch_size=2, made_from={})
