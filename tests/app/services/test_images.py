"""Images of a page: rows, uploads, edits, thumbnails, the chosen one, maps, and the attribution methods on offer."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from dmpo_explore_app.services import (
    attribution_methods,
    chosen_image,
    image_maps,
    images,
    policies,
    selection,
    thumbnails,
)
from dmpo_explore_app.services.policies import OperatingPoint
from image_files import TAKEN, encoded
from made_up import save_run
from PIL import Image
from synthetic import make_record

import dmpo_explore as dx


def test_the_number_of_an_image_is_its_position_in_the_split() -> None:
    record = make_record(4)
    assert images.number_of(record, 2) == (2 if record.meta.indices is None else record.meta.indices[2])
    demo = dx.load_run("demo").record("test")
    assert images.number_of(demo, 5) == (5 if demo.meta.indices is None else demo.meta.indices[5])


@pytest.mark.parametrize("name", TAKEN)
def test_an_upload_keeps_its_size_and_gets_a_small_preview(name: str) -> None:
    upload = images.read_upload(name, TAKEN[name])
    pixels = dx.data.read_image(TAKEN[name], name)
    assert upload.size == (pixels.shape[1], pixels.shape[0]) and upload.name == name
    assert np.array_equal(upload.preview, pixels)


@pytest.mark.parametrize(("size", "shown"), [((3000, 2000), (1400, 933)), ((10, 200), (10, 50)), ((400, 1), (5, 1))])
def test_a_preview_has_the_aspect_and_of_a_line_the_middle(size: tuple[int, int], shown: tuple[int, int]) -> None:
    upload = images.read_upload("any.png", encoded(Image.new("RGB", size, "red"), "PNG"))
    assert upload.size == size and upload.preview.shape == (*shown[::-1], 3) and (upload.preview == [255, 0, 0]).all()


def test_a_chosen_image_shows_its_upload_and_its_name() -> None:
    run = dx.load_run("demo")
    upload = images.read_upload("colour.png", TAKEN["colour.png"])
    chosen, recorded = images.ChosenImage(run, "test", None, upload), images.ChosenImage(run, "test", 3)
    assert chosen.preview_and_size()[0] is upload.preview and chosen.name(run.record("test")) == "colour.png"
    assert recorded.name(run.record("test")).startswith("test image ") and recorded.pixels().shape == (128, 128, 3)
    assert chosen.key != recorded.key and recorded.key == images.ChosenImage(run, "test", 3).key


@pytest.mark.slow
def test_a_photograph_of_twelve_megapixels_is_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a PNG file it would be larger than an upload may be."""
    photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    monkeypatch.setattr(images.thumbnails, "image_set", lambda run, split: [photo])
    image = images.ChosenImage(dx.load_run("demo"), "test", 0)
    make = inspect.unwrap(images._edited)  # what is kept is a session's
    edited = make((image.key, "rotate", 1.0), image)
    assert (edited.pixels() == photo[::-1, ::-1]).all() and edited.preview_and_size()[1] == (4000, 3000)
    assert edited.row is None and edited.key != image.key != make((image.key, "grey", 1.0), image).key


def test_a_changed_image_is_a_crossed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Images:
        def __getitem__(self, row: int) -> object:
            raise ValueError(f"{row}.png has been changed since the training")

    monkeypatch.setattr(thumbnails, "image_set_at", lambda stamp: Images())
    monkeypatch.setattr(thumbnails.records, "stamp", lambda run, split: ("a run of this test", split, 0, 0))
    thumbnail = thumbnails.thumbnails(SimpleNamespace(), "test")  # type: ignore[arg-type]
    assert thumbnail(3) == thumbnails.not_read() and thumbnails.not_read().startswith("data:image/png;base64,")


@pytest.mark.parametrize("calibrate", [False, True])
def test_facts_are_the_librarys(tmp_path: Path, calibrate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run(tmp_path, "mine", images=60, logits_of=("test", "val"))
    run = dx.load_run(tmp_path / "mine")
    record, target = run.record("test"), dx.Target.threshold((0.7,), calibrate=calibrate)
    policy = dx.fit_policy(run.record("val"), "confidence", target=target)
    chosen = selection.Selection(0, 0, "incorrect", "number", 7)
    point = OperatingPoint(run, "test", policy)
    facts = chosen_image.facts(point, chosen)
    assert facts is not None
    read = dx.fitting.tempered_record(record, policy.temperatures) if calibrate else record
    names = record.meta.class_names
    assert [answer for answer, _, _ in facts["answers"]] == [names[label] for label in record.prediction[7]]
    assert [correct for _, correct, _ in facts["answers"]] == record.correct[7].tolist()
    assert [share for *_, share in facts["answers"]] == pytest.approx(read.confidence[7], abs=1e-5)
    assert facts["why"] == dx.analysis.trace_decision(record, policy, 7).sentence()
    place = selection.place(point.outcome, chosen.alone, 7)
    assert (facts["before"], facts["after"], facts["label"]) == (place.before, place.after, names[record.labels[7]])
    assert chosen_image.facts(point, chosen.alone) is None
    monkeypatch.setattr(chosen_image.thumbnails, "are_here", lambda stamp: False)
    without = chosen_image.facts(point, chosen)
    assert without is not None and without["picture"] != facts["picture"]  # of images that may be fetched later


def test_a_map_that_failed_once_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    save_run(tmp_path, "mine", images=40, logits_of=("test",))
    point = policies.OperatingPoint(dx.load_run(tmp_path / "mine"), "test", policies.full_depth("confidence"))

    asked = threading.Event()

    def failing(*parts: object, **more: object) -> None:
        asked.wait(60)
        raise MemoryError

    def wait() -> None:
        worker: ThreadPoolExecutor = image_maps._worker()
        worker.submit(int).result()  # one at a time: the map is done

    with monkeypatch.context() as now:
        now.setattr(dx.analysis, "image_map", failing)
        assert image_maps.found(point) is None
        asked.set()
        wait()
        with pytest.raises(MemoryError):
            image_maps.found(point)
    image_maps.found(point)
    wait()
    assert (image_maps.found(point) or {})["key"] == image_maps.key(point)


def test_the_methods_are_the_librarys() -> None:
    assert set(attribution_methods.METHODS) == set(dx.attribution.METHODS)
    assert set(attribution_methods.REFUSED) == set(dx.attribution.REFUSED)
    assert set(attribution_methods.BASELINES) == set(dx.attribution.BASELINES)
    assert all(dx.attribution.REFUSED.values())  # each has a reason
    unsigned = {name for name, method in attribution_methods.METHODS.items() if not method.signed}
    assert unsigned == {"saliency", "attention_rollout"}


IMAGES = SimpleNamespace()


@pytest.mark.parametrize(
    ("name", "found", "error", "looks"),
    [
        ("not the record's", [ValueError("labels differ")] * 3, ValueError, 1),  # not read at every release
        ("not here", [FileNotFoundError("fetch them")] * 2 + [IMAGES], FileNotFoundError, 3),  # until they are fetched
        ("without a package", [ImportError("needs datasets")] * 2 + [IMAGES], FileNotFoundError, 3),
    ],
)
def test_images_that_cannot_be_had_are_looked_for_again_where_they_may_come(
    monkeypatch: pytest.MonkeyPatch, name: str, found: list[object], error: type[Exception], looks: int
) -> None:
    image_set = Mock(side_effect=found)
    monkeypatch.setattr(thumbnails.own_runs, "run_at", lambda path: SimpleNamespace(image_set=image_set))
    for _ in range(2):
        with pytest.raises(error, match="differ|fetch|datasets"):
            thumbnails.image_set_at((name, "test", 0, 0))
    if looks > 1:
        assert thumbnails.image_set_at((name, "test", 0, 0)) is IMAGES
    assert image_set.call_count == looks
