"""A page's folder: whole or absent, of weights that may be published, in as few bytes as answer alike."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.inference.onnx_engine import OnnxEngine
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.pretrained.wheels import SOURCES
from dmpo_explore.runs.run import Run
from dmpo_explore.utils.files import read_json, sealed, write_json, write_text
from dmpo_explore.web import export
from dmpo_explore.web.export import PAGE, Agreement, export_web, shrink_export
from dmpo_explore.web.facts import RESIZING, check_policy, check_resizing, run_facts
from dmpo_explore.web.licences import licence_text, may_be_published
from dmpo_explore.web.publish import page_html
from dmpo_explore.web.runtime import integrity
from dmpo_explore.web.tiles import slider_of

POLICY = ConfidencePolicy((0.5,))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_folder_holds_what_its_page_names(mine: Run, tmp_path: Path) -> None:
    said: list[str] = []
    folder = export_web(
        mine, tmp_path / "page", POLICY, weights="float32", pictures=True, progress=lambda what, *_: said.append(what)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["page"]  # nothing temporary is left
    facts = read_json(folder / "page.json")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert sorted([*facts["files"], "page.json"]) == found
    assert {path.name for path in PAGE.iterdir() if path.suffix != ".html"} <= set(found)
    record = mine.record("test")
    assert [stage["url"] for stage in facts["stages"]] == [f"stages/stage-{k}.onnx" for k in (1, 2, 3)]
    assert facts["flops"] == list(record.meta.flops) and facts["class_names"] == list(record.meta.class_names)
    assert len(facts["tiles"]["rows"]) == min(1000, record.n_images) and len(facts["samples"]) == 18
    files = [*facts["stages"], facts["pictures"]["sheet"], *(facts["tiles"][n] for n in ("labels", "exits"))]
    files += [one["picture"] for one in facts["running"]]
    for file in files:
        assert file["integrity"] == integrity(folder / file["url"])
        assert file["bytes"] == (folder / file["url"]).stat().st_size
    assert "stages" in said and said[-1] == "files"


@pytest.mark.usefixtures("quick")
def test_images_that_are_not_here_are_missed_before_the_work(
    mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Run, split: str) -> None:
        raise FileNotFoundError("the images are not here")

    monkeypatch.setitem(export.PUBLIC_IMAGES, mine.config.data.name, "permitted")
    with monkeypatch.context() as gone:
        gone.setattr(Run, "image_set", missing)
        facts = read_json(export_web(mine, tmp_path / "page", POLICY, weights="float32") / "page.json")
        assert export.is_exported(mine, tmp_path / "page", POLICY, weights="float32")
    assert not export.is_exported(mine, tmp_path / "page", POLICY, weights="float32")  # the images are here now
    monkeypatch.setattr(Run, "image_set", missing)
    assert "pictures" not in facts and export.NOT_HERE in facts["notes"] and export.NOT_PUBLISHED not in facts["notes"]
    monkeypatch.setattr(export, "_write_model", None)  # not reached
    with pytest.raises(FileNotFoundError, match="the images are not here"):
        export_web(mine, tmp_path / "other", POLICY, weights="float32", pictures=True)


@pytest.mark.usefixtures("quick")
def test_the_page_admits_no_other_source_and_has_no_images_unless_that_is_permitted(mine: Run, tmp_path: Path) -> None:
    folder = export_web(mine, tmp_path / "page", POLICY, weights="float32")
    text = (folder / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert "connect-src 'self';" in policy and "$" not in text
    own = [path for path in folder.rglob("*") if path.suffix in (".html", ".js", ".css")]
    found = {url for path in own for url in re.findall(r"https?://[^\s\"'`<]+", path.read_text(encoding="utf-8"))}
    assert found <= {"http://www.w3.org/2000/svg", "http://localhost:8000"}
    assert str(tmp_path) not in (folder / "page.json").read_text(encoding="utf-8")
    facts = read_json(folder / "page.json")
    assert not (folder / "pictures").exists() and facts["samples"] == [] and "pictures" not in facts
    assert "The images of the record are not published with this page." in facts["notes"]  # nobody permitted it


def test_the_pages_files_are_kept_for_use_offline() -> None:
    shell = re.search(r"SHELL = \[(.*?)\];", (PAGE / "service-worker.js").read_text(encoding="utf-8"), re.DOTALL)
    assert shell
    files = {path.name for path in PAGE.iterdir()} - {"service-worker.js", "yours.html"}
    assert set(re.findall(r'"([^"]+)"', shell[1])) == files | {"./", "page.json"}


@pytest.mark.usefixtures("quick")
def test_only_a_page_and_nothing_else_is_replaced(mine: Run, tmp_path: Path) -> None:
    place = tmp_path / "page"
    place.mkdir()  # an empty folder is taken
    export_web(mine, place, POLICY, weights="float32")
    with pytest.raises(FileExistsError, match="replace it with --force"):
        export_web(mine, place, POLICY, weights="float32")
    export_web(mine, place, ConfidencePolicy((0.25,)), weights="float32", force=True)
    assert 0.25 in read_json(place / "page.json")["slider"]["thresholds"]
    (place / "stages" / "diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"holds more than a page \(stages/diary.txt\)"):
        export_web(mine, place, POLICY, weights="float32", force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.json").write_text("{}")
    with pytest.raises(FileExistsError, match="mine exists and is not a page"):
        export_web(mine, tmp_path / "mine", POLICY, weights="float32", force=True)
    assert (place / "stages" / "diary.txt").read_text() == "dear diary"


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_of_an_export_that_fails(mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **how: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(export, "write_tiles", broken)
    with pytest.raises(OSError, match="no room"):
        export_web(mine, tmp_path / "page", POLICY, weights="float32")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("run", "given", "why"),
    [
        ("", {"policy": ConfidencePolicy((0.5, 0.6))}, "has 2 thresholds"),
        ("", {"policy": dx.POLICIES["patience"]((1,))}, "no policy 'patience'"),
        ("", {"policy": dx.POLICIES["patience+confidence"]((0.5,))}, r"no policy 'patience\+confidence'"),
        ("", {"policy": dx.POLICIES["gate"]((0.5,))}, "no policy 'gate'"),
        ("demo-single", {}, "single exit has nothing to show"),
        ("", {"weights": "int4"}, "unknown kind of weights 'int4'"),
        ("", {"split": "train"}, "no record of split 'train'"),
    ],
)
def test_what_a_page_cannot_show_is_refused(
    mine: Run, tmp_path: Path, run: str, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        export_web(dx.load_run(run) if run else mine, tmp_path / "page", **{"policy": POLICY} | given)
    assert list(tmp_path.iterdir()) == []


def test_a_page_among_other_files_is_not_kept_as_one_may_push_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, facts = tmp_path / "page", {"format": export.FORMAT, "files": ["index.html"], "made_from": {"sha256": "0"}}
    page.mkdir()
    (page / "index.html").touch()
    write_json(page / export.FACTS, sealed(page, export.FACTS, facts))
    monkeypatch.setattr(export, "made_from", lambda *_, **__: facts["made_from"])
    assert export.is_exported(dx.load_run("demo"), page)
    (page / "key").symlink_to(tmp_path)
    assert not export.is_exported(dx.load_run("demo"), page)
    for force in (True, False):
        with pytest.raises(FileExistsError, match=r"holds more than a page \(key\)"):
            export.check_place(page, force=force)


def test_without_the_runtime_nothing_is_exported(
    mine: Run, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"Install Node.js; or put .* there: {cache}"):
        export_web(mine, tmp_path / "page", POLICY)
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("onnxruntime_web")
def test_the_stages_are_an_export_with_the_weights_that_were_chosen(mine: Run, tmp_path: Path) -> None:
    folder = export_web(mine, tmp_path / "page", POLICY, weights="float16", licence="MIT")
    engine = OnnxEngine(folder / "stages")
    assert engine.policy == POLICY
    facts = read_json(folder / "page.json")
    assert facts["weights"] == "float16"
    (note,) = (note for note in facts["notes"] if "float16" in note)
    assert re.search(r"of \d+ images, \d+ have the exit and \d+ the label of float32", note)
    images = mine.inputs("test", slice(0, 20)).numpy()
    record = mine.record("test").subset(slice(0, 20))
    clear = (np.abs(record.confidence - 0.5) > 0.01).all(axis=1)
    assert np.array_equal(engine.infer(images).exit[clear], POLICY.exits(record)[clear])


@pytest.mark.usefixtures("quick")
def test_no_path_of_this_machine_is_published(mine: Run, tmp_path: Path) -> None:
    fitted = {"data": "/home/alice/patients", "split": "val", "target": {"flops": 0.5}}
    folder = export_web(mine, tmp_path / "page", replace(POLICY, fitted=fitted), weights="float32")
    assert read_json(folder / "stages" / "policy.json")["fitted"]["data"] == "patients"
    assert not [p for p in folder.rglob("*") if p.suffix in (".json", ".html", ".md") and "alice" in p.read_text()]


def of_weights(run: Run, tmp_path: Path, backbone: str, weights: str) -> Run:
    """A run with the same files but another backbone in its configuration."""
    path = tmp_path / "other"
    path.mkdir()
    (path / "weights.safetensors").write_bytes((run.path / "weights.safetensors").read_bytes())
    config = replace(run.config, model=replace(run.config.model, backbone=backbone, weights=weights))
    (path / "config.json").write_text(config.to_json())
    return Run(path)


def test_every_backbone_that_is_fetched_has_a_licence_and_a_notice(mine: Run) -> None:
    assert all(source.licence and source.notice for source in SOURCES.values())
    assert may_be_published(dx.load_run("demo")).name == "MIT"
    assert may_be_published(dx.load_run("demo-cnn")).notice == "Copyright (c) 2020 ML Illustrated"
    assert "random weights" in may_be_published(mine).notice


@pytest.mark.parametrize(
    ("backbone", "weights", "origin"),
    [
        ("test_vit", "auto", "timm's model hub"),
        ("vit_small_patch14_dinov2", "timm", "timm's model hub"),
        ("test_vit", "my.safetensors", "the file my.safetensors"),
        ("my_net.py:make", "random", "the function my_net.py:make"),
        ("my_net.py:make", "auto", "the function my_net.py:make"),
    ],
)
def test_weights_of_unknown_licence_are_refused_until_it_is_stated(
    mine: Run, tmp_path: Path, backbone: str, weights: str, origin: str
) -> None:
    run = of_weights(mine, tmp_path, backbone, weights)
    with pytest.raises(ValueError, match=f"are from {origin}, and their licence is not known.*--licence NAME"):
        may_be_published(run)
    with pytest.raises(ValueError, match="the licence is empty"):
        may_be_published(run, " ")
    assert may_be_published(run, "CC-BY-4.0").name == "CC-BY-4.0"


def test_a_run_without_weights_has_no_page(mine: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(mine.config.to_json())
    with pytest.raises(FileNotFoundError, match=r"has no weights .* `dmpo-explore publish` without --model"):
        may_be_published(Run(tmp_path))


def test_the_text_has_every_part_and_both_licences() -> None:
    text = licence_text(may_be_published(dx.load_run("demo")), "Fashion-MNIST, MIT", "1.30.0")
    for part in ("Jules Goueffon", "Fashion-MNIST, MIT", "Microsoft", "Permission is hereby granted", "Apache License"):
        assert part in text
    assert "onnxruntime-web" not in licence_text(may_be_published(dx.load_run("demo")), "", "")


MOVED = {"int8": [0, 0, 1, 0], "float16": [0, 0, 0, 0]}  # kind → exits of four images; of all others [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("images", "asked", "moving", "found", "said"),
    [
        (4, {}, (), Agreement("int8", 4, 4, 4), "int8"),
        (4, {}, ("int8",), Agreement("float16", 4, 4, 4), "float16"),
        (4, {}, ("int8", "float16"), Agreement("float32", 4, 4, 4), "float32 weights, as trained"),
        (4, {"kind": "int8"}, ("int8",), Agreement("int8", 4, 3, 4), "of 4 images, 3 have the exit and 4 the label"),
        (0, {}, (), Agreement("float32", 0, 0, 0), "float32 weights, not compared: the images are not here"),
    ],
)
def test_the_smallest_kind_that_answers_alike_is_taken_or_the_one_that_is_named(
    images: int,
    asked: dict[str, str],
    moving: tuple[str, ...],
    found: Agreement,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an export whose graph is a text."""

    def answers(folder: Path, images: Any, kind: str, progress: Any) -> tuple[Any, Any]:
        return np.array(MOVED[kind] if kind in moving else [0, 0, 1, 1]), np.array([5, 6, 7, 8])

    graph = tmp_path / "stages" / "stage-1.onnx"
    write_text(graph, "float32")
    monkeypatch.setattr(export, "shrink_graph", lambda source, target, kind: target.write_text(kind))
    monkeypatch.setattr(export, "_answers", answers)
    agreement = shrink_export(graph.parent, [np.zeros((8, 8, 3), np.uint8)] * images, **asked)
    assert agreement == found and said in agreement.described()
    assert graph.read_text() == found.kind and [path.name for path in tmp_path.iterdir()] == ["stages"]


def test_one_image_of_a_hundred_may_answer_otherwise() -> None:
    assert Agreement("int8", 1000, 990, 1000).alike and not Agreement("int8", 1000, 989, 1000).alike
    assert not Agreement("int8", 1000, 1000, 989).alike


def facts_at(run: dx.Run, policy: dx.Policy) -> dict[str, Any]:
    outcome = dx.apply(policy, run.record("test"))
    return run_facts(run, policy, outcome, slider_of(policy, outcome))


def test_facts_are_the_records() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    facts = facts_at(run, policy)
    assert facts["slider"]["thresholds"][facts["slider"]["place"]] == policy.thresholds[0]
    assert facts["blocks"] == [3, 4, 5, 6, 8, 12] and len(facts["colours"]) == 6
    assert facts["notes"][0].startswith("The slider begins at the policy confidence, fitted on calibration")
    assert "86.69 %" in facts["notes"][0]


def test_a_policy_that_names_a_split_and_no_target_was_set_by_hand() -> None:
    run = dx.load_run("demo")
    named = dx.policies.ConfidencePolicy((0.8,), {"split": "val"})
    for policy in (named, dx.fit_policy(run.record("calibration"), threshold=0.73)):
        assert "policy confidence, its threshold set by hand" in facts_at(run, policy)["notes"][0]
        assert "policy confidence, its threshold set by hand" in page_html(run, policy, pictures=False)


def test_what_the_page_computes_is_named_and_nothing_else() -> None:
    text = (PAGE / "resize.js").read_text(encoding="utf-8")
    assert all(f"  {name}: [" in text for name in RESIZING)
    check_resizing("bicubic")
    for name in ("confidence", "margin", "entropy"):
        check_policy(dx.POLICIES[name]((0.5,)), 3)
    with pytest.raises(ValueError, match="no interpolation 'nearest'"):
        check_resizing("nearest")
