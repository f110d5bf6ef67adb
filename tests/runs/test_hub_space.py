"""A page on a fake of the Hub: a static Space with its files, and no other Space is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fake_hub import FakeHub

from dmpo_explore.runs.hub import push_page, space_card


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


def test_errors_are_one_line(hub: FakeHub, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="names a revision"):
        push_page(page, "me/demo@v1", "demo")
    (page / "index.html").unlink()
    with pytest.raises(ValueError, match=r"is no page: it has no index.html"):
        push_page(page, "me/demo", "demo")
    assert hub.asked == []
    (page / "index.html").write_text("page")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises((FileNotFoundError, OSError), match="hf auth login"):
        push_page(page, "me/demo", "demo")
