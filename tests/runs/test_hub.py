"""Runs and pages on a fake Hub: pushed and loaded again bit by bit, at one commit, and nothing else is fetched."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from failing import raising
from fake_hub import FakeHub

from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs import Run, check_folder, load_run, read_weights
from dmpo_explore.runs.hub import (
    CARD,
    LISTING,
    SOURCE,
    HubAddress,
    download_run,
    hub_card,
    local_name,
    push_page,
    push_run,
    read_listing,
    source_of,
    space_card,
    write_hub_folder,
)
from dmpo_explore.runs.run import __file__ as RUN_FILE
from dmpo_explore.utils.files import cache_dir

DEMO = Path(RUN_FILE).parent / "bundled" / "demo-cnn"
RUN = Run(DEMO)


def listed(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def repository(tmp_path: Path, name: str = "repo") -> dict[str, bytes]:
    """The files of a repository with the demo's val record."""
    return listed(write_hub_folder(RUN, tmp_path / name, splits=["val"]))


def with_listing(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """A repository whose list of files has these entries too; None takes one away."""
    values = json.loads(files[LISTING])
    values["files"] |= changes
    values["files"] = {name: entry for name, entry in values["files"].items() if entry is not None}
    return files | {LISTING: json.dumps(values).encode()}


def test_a_run_comes_back_bit_by_bit(hub: FakeHub) -> None:
    address = RUN.push_to_hub("me/demo", license="apache-2.0", message="First")
    run = load_run(address)
    assert run.source == address and address == f"hf://me/demo@{hub.branches['me/demo']['main']}"
    assert (run.name, run.config) == ("demo-cnn", RUN.config)
    assert listed(run.path) == listed(DEMO) | {SOURCE: (run.path / SOURCE).read_bytes()}
    ours, theirs = read_weights(DEMO), read_weights(run.path)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    for split in RUN.splits():
        assert run.record(split).meta.to_dict() == RUN.record(split).meta.to_dict()
    assert check_folder(run.path).valid and RUN.source == ""
    assert hub.cards == [hub.files("me/demo", "main")[1][CARD].decode()]  # type: ignore[index]  the Hub has checked it


@pytest.mark.slow
def test_a_branch_is_resolved_and_a_commit_stays(hub: FakeHub, tmp_path: Path) -> None:
    first = push_run(RUN, "me/demo", splits=["val"])
    changed = Run(shutil.copytree(DEMO, tmp_path / "demo-cnn"))
    (changed.path / "card.md").write_text("# Second\n")
    second = push_run(changed, "me/demo", splits=["val"])
    other = push_run(RUN, "hf://me/demo", splits=["val"], branch="other")
    assert len({first, second, other}) == 3
    assert load_run("hf://me/demo").source == load_run("hf://me/demo@main").source == second
    assert load_run("hf://me/demo@other").source == other
    assert load_run(second).card() == "# Second\n" and load_run(first).card() == RUN.card()
    hub.asked.clear()
    assert load_run(first).source == first and hub.asked == []  # a commit in the cache needs no network


def test_scores_of_plug_ins_go_with_the_record(hub: FakeHub, tmp_path: Path) -> None:
    run = Run(shutil.copytree(DEMO, tmp_path / "demo-cnn"))
    record = run.record("val")
    replace(record, more={"renyi": record.entropy}).save(run.path / "records" / "val", force=True)
    scores = run.path / "records" / "val" / "scores"
    shutil.copyfile(scores / "renyi.npy", scores / "renyi (1).npy")  # a stray file stays here
    found = load_run(push_run(run, "me/demo", splits=["val"]))
    assert [*found.record("val").more] == ["renyi"]


@pytest.mark.slow
def test_a_run_of_hundreds_of_files_is_one_commit(hub: FakeHub, tmp_path: Path) -> None:
    many = Run(shutil.copytree(DEMO, tmp_path / "many"))
    RUN.record("val").subset(slice(8)).save(tmp_path / "small")
    for number in range(45):  # more files than `upload_folder` puts into a commit
        shutil.copytree(tmp_path / "small", many.path / f"records/val-{number}")
    address = push_run(many, "me/many")
    assert len(hub.commits["me/many"]) == 2  # the new repository's own, and this one
    assert len(many.splits()) == 48 and load_run(address).splits() == many.splits()


def test_another_commit_than_the_one_named_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    asked = "1" * 40
    hub.branches["me/demo"] = {asked: hub.commit("me/demo", repository(tmp_path))}
    with pytest.raises(ValueError, match="which is not the commit that was asked for"):
        load_run(f"hf://me/demo@{asked}")
    assert not [*(tmp_path / "cache").rglob("config.json")]


def test_only_listed_files_of_a_run_are_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    more = {"modeling.py": b"raise SystemExit", "checkpoint.pt": b"x", "pytorch_model.bin": b"x"}
    commit = hub.commit("me/demo", repository(tmp_path) | more)
    run = load_run("hf://me/demo")
    asked = {path.split(f"/{commit}/")[-1] for path in hub.asked if "/resolve/" in path}
    assert asked == {*json.loads(repository(tmp_path, "again")[LISTING])["files"], LISTING}
    assert not {*more} & {path.name for path in run.path.rglob("*")}


@pytest.mark.parametrize(
    "name", ["modeling.py", "checkpoint.pt", "../evil.json", "records/../labels.npy", "records/a/b/labels.npy", SOURCE,
             "/etc/passwd", "records/test/more.pkl", "README.md", "records/.x/labels.npy", "records/a/scores/x.pkl",
             "records/a/scores/../x.npy"],
)  # fmt: skip
def test_a_listed_file_that_is_none_of_a_run_is_refused(name: str, hub: FakeHub, tmp_path: Path) -> None:
    bad = {name: {"bytes": 1, "sha256": "0" * 64}}
    commit = hub.commit("me/demo", with_listing(repository(tmp_path), **bad) | {name: b"x"})
    with pytest.raises(ValueError, match="is no file of a run"):
        load_run("hf://me/demo")
    assert {path for path in hub.asked if "/resolve/" in path} == {f"/me/demo/resolve/{commit}/{LISTING}"}


LARGE = {"bytes": 2**60, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda files: {"policies.json": b"[" * len(files["policies.json"])},
            r"^hf://me/demo@{commit}: policies\.json is not the file that dmpo-explore\.",
        ),
        (lambda files: {"policies.json": b"{}"}, r"policies.json has 2 bytes and is listed with \d+"),
        (lambda files: with_listing(files, **{"config.json": None}), "lists no config.json"),
        (lambda files: with_listing(files, **{"card.md": LARGE}), "at most 8,589,934,592 are downloaded"),
        (lambda files: {LISTING: b" " * (2**20 + 1)}, "has 1,048,577 bytes; at most"),
    ],
)
def test_files_that_are_not_those_listed_are_not_kept(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], words: str, hub: FakeHub, tmp_path: Path
) -> None:
    files = repository(tmp_path)
    commit = hub.commit("me/demo", files | change(files))
    with pytest.raises(ValueError, match=words.replace("{commit}", commit)):
        load_run("hf://me/demo")
    assert not [*(tmp_path / "cache").rglob("config.json")]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1], "format_version=None; this program reads version 1"),
        ({"format_version": 2}, "format_version=2"),
        ({"format_version": 1, "name": "../x", "files": {}}, "must be the name of a run"),
        ({"format_version": 1, "name": "x", "files": []}, "files must be an object"),
        ({"format_version": 1, "name": "x", "files": {"card.md": 3}}, "bytes=None of card.md must be a whole number"),
        ({"format_version": 1, "name": "x", "files": {"card.md": {"bytes": 1, "sha256": "no"}}}, "64 hexadecimal"),
    ],
)
def test_a_list_that_is_not_valid_names_the_value(values: object, text: str, tmp_path: Path) -> None:
    (tmp_path / LISTING).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=text):
        read_listing(tmp_path / LISTING)


@pytest.mark.parametrize(
    ("address", "environment", "error", "words"),
    [
        ("hf://me/other", {}, ValueError, r"^hf://me/other@[0-9a-f]{40} holds no run of dmpo-explore"),
        ("hf://me/none", {}, FileNotFoundError, "hf://me/none: no such repository, or a private one; log in"),
        ("hf://me/other@v9", {}, FileNotFoundError, "hf://me/other@v9: the repository has no such revision"),
        ("hf://me/other", {"HF_ENDPOINT": "http://127.0.0.1:9"}, OSError, "hf://me/other: the Hub cannot be reached"),
        (None, {"HF_TOKEN": "wrong"}, OSError, r"^hf://me/demo: .*log in with `hf auth login` as someone"),
    ],
)
def test_what_is_not_there_is_named(
    address: str | None,
    environment: dict[str, str],
    error: type[Exception],
    words: str,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.commit("me/other", {"README.md": b"# Another model"})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=words):
        load_run(address) if address else push_run(RUN, "me/demo")


def test_a_full_disk_is_no_silence_of_the_hub_and_leftovers_of_a_kill_go(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("me/demo", repository(tmp_path))
    left = cache_dir() / "hub" / "me--demo" / ".download.0a1b2c3d.part"
    left.mkdir(parents=True)
    left.with_suffix(".lock").touch()  # of a process that was killed

    full = OSError(errno.ENOSPC, "No space left on device", "model.safetensors")
    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", raising(full))
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: 'model"):
        load_run("hf://me/demo")
    assert not [*left.parent.iterdir()]


@pytest.mark.parametrize(
    "text", ["hf://", "hf://demo", "hf://a/b/c", "hf://a/b@", "hf://a/../b", "hf://a/b@../c", "hf:///b"]
)
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION"):
        download_run(text)
    assert HubAddress.parse("hf://a/b@v1.0/x") == HubAddress("a/b", "v1.0/x")
    with pytest.raises(ValueError, match="names a revision; a push makes a new one"):
        push_run(RUN, "a/b@v1")


def test_the_card_has_the_metadata_that_the_hub_reads() -> None:
    records = {"val": RUN.record("val"), "test": RUN.record("test")}
    text = hub_card(RUN, records, "me/demo", "apache-2.0", "timm/x")
    _, head, body = text.split("---\n", 2)
    values = yaml.safe_load(head)
    (model,) = values.pop("model-index")
    assert values == {
        "base_model": "timm/x", "datasets": ["grocery"], "library_name": "dmpo-explore", "license": "apache-2.0",
        "metrics": ["accuracy"], "pipeline_tag": "image-classification",
        "tags": ["early-exit", "dynamic-inference", "dmpo", "vision"],
    }  # fmt: skip
    (result,) = model["results"]
    metrics = {metric["name"].split(",")[0]: metric["value"] for metric in result["metrics"]}
    assert metrics["accuracy of the last exit"] == round(float(records["test"].correct[:, -1].mean()), 4)
    for name, policy in RUN.policies().items():
        exits = policy.exits(records["test"])
        right = [records["test"].correct[i, k] for i, k in enumerate(exits)]
        assert metrics[f"accuracy with policy {name}"] == round(sum(right) / len(right), 4)
    assert body.startswith(f"\n{RUN.card()[:40]}") and 'dx.load_run("hf://me/demo")' in body
    assert 'record = run.record("test")' in body and "not on an index" in body  # what `records` has of test is shown
    assert "license" not in hub_card(RUN, {}) and "model-index" not in hub_card(RUN, {})


def copied(place: Path, **data: Any) -> Run:
    """A copy of the demo with another config of its data."""
    run = Run(shutil.copytree(DEMO, place))
    config = replace(run.config, data=replace(run.config.data, **data))
    (run.path / "config.json").write_text(config.to_json())
    return Run(run.path)


@pytest.mark.parametrize("name", ["/home/me/photos", "wds//home/me/shards"])
def test_places_of_this_machine_are_said(name: str, tmp_path: Path) -> None:
    own = copied(tmp_path / "own", name=name)
    (own.path / "checkpoint.pt").touch()
    with pytest.warns(UserWarning, match=f"name places of this machine, which all readers.*{name}"):
        folder = write_hub_folder(own, tmp_path / "b", splits=[])
    assert not {"checkpoint.pt", "records"} & {*os.listdir(folder)}
    card = (folder / CARD).read_text()
    assert "datasets" not in card and "base_model" not in card


def test_so_are_those_of_a_record(tmp_path: Path) -> None:
    shop = copied(tmp_path / "shop-run")
    record = RUN.record("val")
    replace(record, meta=replace(record.meta, data="/home/me/shop")).save(shop.path / "records" / "shop-val")
    with pytest.warns(UserWarning, match="name places of this machine.*/home/me/shop"):
        write_hub_folder(shop, tmp_path / "other", splits=["shop-val"])


@pytest.mark.parametrize(
    ("name", "splits", "error", "words"),
    [
        ("own", ["tset"], ValueError, "unknown split 'tset'. Did you mean 'test'"),
        ("my run", [], ValueError, r"run 'my run' cannot be pushed: rename its folder"),
        ("there", [], FileExistsError, "name a new folder"),
        ("bare", [], FileNotFoundError, "has no weights to push"),
    ],
)
def test_what_cannot_be_pushed_is_refused(
    name: str, splits: list[str], error: type[Exception], words: str, tmp_path: Path
) -> None:
    run = copied(tmp_path / name)
    if name == "bare":
        (run.path / "weights.safetensors").unlink()
    with pytest.raises(error, match=words):
        write_hub_folder(run, run.path if name == "there" else tmp_path / "new", splits=splits)


def test_the_record_in_a_repository_is_a_record_folder_as_it_is(tmp_path: Path) -> None:
    assert ExitRecord.problems(write_hub_folder(RUN, tmp_path / "d", splits=["val"]) / "records/val") == []
    assert local_name("model.safetensors") == "weights.safetensors" and source_of(tmp_path) == ""


# -- pages: a static Space with its files, and no other Space is overwritten --


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "stages").mkdir(parents=True)
    for name in ("index.html", "README.md", "stages/stage-1.onnx"):
        (folder / name).write_text(name)
    return folder


def test_a_page_is_pushed_as_a_static_space(hub: FakeHub, page: Path) -> None:
    assert push_page(page, "me/demo", "demo", license="mit") == f"{hub.address}/spaces/me/demo"
    assert hub.sdks == {"spaces/me/demo": "static"} and "me/demo" not in hub.commits
    _, files = hub.files("spaces/me/demo", "main") or ("", {})
    assert files["index.html"] == b"index.html" and files["stages/stage-1.onnx"] == b"stages/stage-1.onnx"
    _, header, text = files["README.md"].decode().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["sdk"], facts["app_file"], facts["license"]) == ("static", "index.html", "mit") and text.strip()
    (page / "index.html").write_text("newer")
    push_page(page / "index.html", "me/demo", "demo")  # the page alone, as a second commit
    assert (hub.files("spaces/me/demo", "main") or ("", {}))[1]["index.html"] == b"newer"


@pytest.mark.parametrize(
    ("stated", "entries"),
    [
        ("", {}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("Our Lab's terms", {"license": "other", "license_name": "our-lab-s-terms"}),
    ],
)
def test_a_licence_is_named_as_the_hub_names_it(stated: str, entries: dict[str, str]) -> None:
    header = yaml.safe_load(space_card("demo", stated).split("---\n", 2)[1])
    assert {key: value for key, value in header.items() if key.startswith("license")} == entries


def test_a_space_of_another_kind_is_left_alone(hub: FakeHub, page: Path) -> None:
    hub.commit("spaces/me/app", {"app.py": b"mine"})
    hub.sdks["spaces/me/app"] = "gradio"
    with pytest.raises(ValueError, match="is of the kind gradio, not static; name another one"):
        push_page(page, "me/app", "demo")
    assert (hub.files("spaces/me/app", "main") or ("", {}))[1] == {"app.py": b"mine"}


@pytest.mark.parametrize(
    ("repo", "token", "error", "words"),
    [
        ("me/demo@v1", "hf_test", ValueError, "names a revision"),
        ("me/no-page", "hf_test", ValueError, "is no page: it has no index.html"),
        ("me/demo", "wrong", OSError, "hf auth login"),
    ],
)
def test_a_page_that_cannot_be_pushed_is_refused(
    repo: str, token: str, error: type[Exception], words: str, hub: FakeHub, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    (page / "index.html").unlink() if repo == "me/no-page" else None
    with pytest.raises(error, match=words):
        push_page(page, repo, "demo")
    assert bool(hub.asked) == (token == "wrong")
