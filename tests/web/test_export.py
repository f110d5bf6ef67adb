"""What a page's folder holds, that it is whole or absent, and what is refused; without fetched weights or a browser."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.inference.onnx_engine import OnnxEngine
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.run import Run
from dmpo_explore.utils.files import read_json, sealed, write_json
from dmpo_explore.web import export
from dmpo_explore.web.export import PAGE, export_web
from dmpo_explore.web.runtime import integrity

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


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_images_are_published_only_where_that_is_known_to_be_permitted(mine: Run, tmp_path: Path) -> None:
    folder = export_web(mine, tmp_path / "page", POLICY, weights="float32")
    facts = read_json(folder / "page.json")
    assert not (folder / "pictures").exists() and facts["samples"] == [] and "pictures" not in facts
    assert "The images of the record are not published with this page." in facts["notes"]


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
def test_the_page_admits_no_other_source(mine: Run, tmp_path: Path) -> None:
    folder = export_web(mine, tmp_path / "page", POLICY, weights="float32")
    text = (folder / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert "connect-src 'self';" in policy and "$" not in text
    own = [path for path in folder.rglob("*") if path.suffix in (".html", ".js", ".css")]
    found = {url for path in own for url in re.findall(r"https?://[^\s\"'`<]+", path.read_text(encoding="utf-8"))}
    assert found <= {"http://www.w3.org/2000/svg", "http://localhost:8000"}
    assert str(tmp_path) not in (folder / "page.json").read_text(encoding="utf-8")


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
    with pytest.raises(FileExistsError, match="replace the page in it with --force"):
        export_web(mine, place, POLICY, weights="float32")
    export_web(mine, place, ConfidencePolicy((0.25,)), weights="float32", force=True)
    assert 0.25 in read_json(place / "page.json")["slider"]["thresholds"]
    (place / "stages" / "diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"holds more than a page \(stages/diary.txt\)"):
        export_web(mine, place, POLICY, weights="float32", force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.json").write_text("{}")
    with pytest.raises(FileExistsError, match="is not a page of ours"):
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


def test_policies_and_runs_that_a_page_cannot_show_are_refused(mine: Run, tmp_path: Path) -> None:
    wrong = {
        "has 2 thresholds": ConfidencePolicy((0.5, 0.6)),
        "no policy 'patience'": dx.POLICIES["patience"]((1,)),
        r"no policy 'patience\+confidence'": dx.POLICIES["patience+confidence"]((0.5,)),
    }
    for message, policy in wrong.items():
        with pytest.raises(ValueError, match=message):
            export_web(mine, tmp_path / "page", policy)
    with pytest.raises(ValueError, match="single exit has nothing to show"):
        export_web(dx.load_run("demo-single"), tmp_path / "page")
    with pytest.raises(ValueError, match="unknown kind of weights 'int4'"):
        export_web(mine, tmp_path / "page", POLICY, weights="int4")
    with pytest.raises(ValueError, match="no record of split 'train'"):
        export_web(mine, tmp_path / "page", POLICY, split="train")
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
