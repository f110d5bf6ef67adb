"""What is around a project: container, hosted demo, templates of issues and pull requests, code of conduct."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTRUCTIONS = [tuple(line.split(None, 1)) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def values(name: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == name]


def test_the_container_starts_from_a_base_that_can_be_chosen() -> None:
    assert INSTRUCTIONS[0][0] == "ARG" and values("ARG")[0].startswith("BASE=") and values("FROM") == ["${BASE}"]
    known = {"ARG", "FROM", "RUN", "WORKDIR", "ENV", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {word for word, _ in INSTRUCTIONS} == known


def test_the_container_copies_what_is_there_and_not_ignored() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    copied = {source for rest in values("COPY") for source in rest.split()[:-1]}
    assert copied == allowed and all((ROOT / source).exists() for source in copied)
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert package["project"]["readme"] in copied and set(package["project"]["license-files"]) <= copied
    extras = re.search(r"\./source\[([a-z,]+)\]", DOCKERFILE)
    assert extras and set(extras[1].split(",")) <= set(package["project"]["optional-dependencies"])


def test_the_container_serves_the_app_and_not_as_root() -> None:
    assert values("USER") == ["1000"] and values("EXPOSE") == ["8501"]
    assert values("CMD") == ['["dmpo-explore", "app", "--no-browser", "--host", "0.0.0.0"]']
    order = [word for word, _ in INSTRUCTIONS]
    assert order.index("USER") > max(i for i, word in enumerate(order) if word == "RUN")


def test_the_space_is_a_static_one() -> None:
    _, header, text = (ROOT / "deploy/space.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["sdk"], facts["app_file"], facts["license"]) == ("static", "index.html", "apache-2.0")
    assert len(facts["short_description"]) <= 60 and facts["title"] and text.strip()


@pytest.mark.slow
def test_the_files_of_a_space_are_written(tmp_path: Path) -> None:
    if not (ROOT / ".venv").exists():
        pytest.skip("no environment of a checkout")
    target = tmp_path / "space"
    subprocess.run([ROOT / "scripts/space", target], check=True, capture_output=True)
    assert (target / "README.md").read_text(encoding="utf-8").startswith("---\ntitle:")
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "index.html"]
    again = subprocess.run([ROOT / "scripts/space", target], check=False, capture_output=True, text=True)
    assert again.returncode == 1 and "exists; name a new folder" in again.stderr


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_a_form_of_an_issue_is_valid(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert set(form) == {"name", "description", "labels", "body"}
    for field in form["body"]:
        assert field["type"] == "textarea" and field["attributes"]["label"] and re.fullmatch("[a-z]+", field["id"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_pull_requests_and_contributors_are_told_the_rules() -> None:
    template = (ROOT / ".github/pull_request_template.md").read_text(encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"scripts/\w+", template):
        assert (ROOT / name).exists()
    assert (
        "CHANGELOG.md" in template and "(CODE_OF_CONDUCT.md)" in contributing and "## Release checklist" in contributing
    )
    conduct = (ROOT / "CODE_OF_CONDUCT.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in conduct
