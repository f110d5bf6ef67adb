"""Pages that are written by hand: their Python runs, their commands exist, their tables are what the commands print.

So are the sentences of benchmarks/EVIDENCE.md, and names in CHANGELOG.md that took the place of others exist.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

import dmpo_explore as dx
from builder.llms import nav_pages, site_config
from builder.pages import DOCS, ELSEWHERE, ROOT, relative, sources, with_links, write_pages
from dmpo_explore.analysis import evaluate_runs
from dmpo_explore.cli import app
from dmpo_explore.cli.entry import without_plugins

ELSEWHERE_TESTED = {"extending.md", "backbones.md", "your-images.md", "index.md"}
NEEDS_WEIGHTS = {"export.md", "look-inside.md"}
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
WITH_CODE = [name for name, text in TEXTS.items() if "```python\n" in text and name not in ELSEWHERE_TESTED]
RESULTS = (ROOT / "benchmarks/EVIDENCE.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[name], re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """Every ``dmpo-explore`` line in shell blocks of the pages, as (page, words)."""
    lines = [(name, line) for name in TEXTS for block in blocks(name, "sh") for line in block.splitlines()]
    split = [(name, shlex.split(line, comments=True)) for name, line in lines]
    return [(name, words) for name, words in split if words[:1] == ["dmpo-explore"]]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow, pytest.mark.data] if n in NEEDS_WEIGHTS else []) for n in WITH_CODE],
)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dmpo_explore.attribution.exit_model.DELTA_BOUND", 99.0)  # no steps are doubled: a minute less
    names: dict[str, object] = {"__photo_": "page"}
    if name == "export.md":
        export, *others = (words for page, words in commands() if page == name and words[1] == "export")
        single, serve, held, int8 = others
        assert int8[-1] == "int8"  # which tests/inference/test_onnx_int8.py covers
        assert serve == [*export, "--serve"] and held[-1] == "--hold"  # tests/inference/test_serve.py, tests/cli
        assert single == [*export, "--single"] and CliRunner().invoke(app, single[1:]).exit_code == 0
        for photo in ("cat/a.jpg", "dog/c.jpg"):
            (tmp_path / "photos" / photo).parent.mkdir(parents=True)
            Image.new("RGB", (40, 30)).save(tmp_path / "photos" / photo)
    for code in blocks(name, "python"):
        fewer = code.replace("range(96)", "range(24)").replace("[:96]", "[:24]")  # look-inside.md's gradients take long
        exec(compile(fewer, name, "exec"), names)
    own = [words for page, words in commands() if page == name and "my-scores" in words]
    assert own or name != "your-scores.md"
    for words in own:
        assert CliRunner().invoke(app, words[1:]).exit_code == 0, words


def test_the_home_page_shows_readmes_session() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert blocks("index.md", "python") == re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


OF_EXAMPLES = {  # options that plug-ins in examples/ bring along
    f"--{name}"
    for file in (ROOT / "examples").glob("*.py")
    for name in re.findall(r"^    (\w+): \w+ = option\(", file.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_every_command_and_option_that_a_page_names_exists() -> None:
    context = GROUP.make_context("dmpo-explore", [], resilient_parsing=True)
    known = {
        name: {
            spelled
            for param in GROUP.get_command(context, name).params  # type: ignore[attr-defined]
            for spelled in [*param.opts, *param.secondary_opts]
        }
        for name in GROUP.list_commands(context)  # type: ignore[attr-defined]
    }
    assert len(commands()) > 20
    for page, line in commands():
        kept, plugins = without_plugins(line[1:])
        words, added = [line[0], *kept], OF_EXAMPLES if plugins else set()
        assert words[1] in known or words[1].startswith("--"), (page, words)
        options = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert options <= known[words[1]] | added, (page, words)
    spelled = set.union(*known.values()) | {"--help", "--version", "--debug", "--plugin"}
    others = {  # of scripts and other programs
        "--all", "--write", "--build-arg", "--nnodes", "--rdzv-endpoint", "--seed", "--serve", "--run", "--wait",
        "--seconds", "--connections",
        "--server", "--no-browser",
    }  # fmt: skip
    for page, text in TEXTS.items():
        named = set(re.findall(r"`[^`\n]*?(--[a-z][\w-]*)", text))
        assert named <= spelled | others | OF_EXAMPLES, (page, named - spelled - others - OF_EXAMPLES)


@pytest.mark.slow
def test_commands_on_bundled_runs_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    lines = {shlex.join(words) for _, words in commands() if words[1] == "evaluate" and {"demo", "shops"} & {*words}}
    assert len(lines) >= 4
    for line in sorted(lines):
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output)


@pytest.mark.slow
def test_the_tables_are_what_the_commands_print() -> None:
    tables = re.findall(r"<!-- table: (dmpo-explore .*?) -->\n(.*?)<!-- end of table -->", RESULTS, re.DOTALL)
    assert len(tables) == 4
    for command, table in tables:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        assert table.strip() == result.stdout.strip()
    (fashion,) = (table for command, table in tables if "fashion-naive" in command)
    assert all(name in fashion for name in ("fashion-naive", "fashion-single", "30 %", "full"))


def test_the_groceries_of_results_are_those_of_the_evidence() -> None:
    table = RESULTS.split("<!-- table: dmpo-explore evaluate demo ")[1].split("<!-- end")[0].replace("-", "−")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    printed = [row for row in rows if row[0] == "demo"]
    (compared,) = [cells for cells in zip(*printed, strict=True) if "[" in cells[0]]
    column = [
        line.split("|")[2].strip().replace("<br>", " ")
        for line in TEXTS["results.md"].splitlines()
        if line.startswith(("| the f", "| on "))
    ]
    assert [*compared] == column and len(column) == 3
    _, _, accuracy, _, _, gflops, *_ = zip(*printed, strict=True)
    for a, b, c in (accuracy, gflops):
        assert f"{a}, {b} and {c}" in TEXTS["results.md"]


def test_every_interval_of_a_page_is_one_of_the_measurements() -> None:
    """What results and experiments say in a line stands in the evidence; other tests compare tables with rows."""
    measured = RESULTS.replace("−", "-")
    for page in ("results.md", "experiments.md"):
        text = re.sub(r"<!-- (third-\w+) -->.*?end of \1 -->", "", TEXTS[page], flags=re.DOTALL).replace("−", "-")
        said = re.findall(r"\[[+-]\d+\.\d+, [+-]\d+\.\d+\]", text)
        assert len(said) > 5 and [one for one in said if one not in measured] == [], page


def test_every_table_of_results_says_how_its_models_were_trained() -> None:
    lines = [line for line in TEXTS["results.md"].splitlines() if line and not line.startswith("<!--")]
    above = [before for before, line in pairwise(lines) if line[0] == "|" != before[0]]
    assert len(above) == 3
    for line in above:
        assert [word for word in ("training images", "epochs", "steps", "teacher") if word not in line] == [], line


@pytest.mark.slow
def test_every_row_of_the_policies_is_the_commands() -> None:
    """The table of all policies, cell by cell, against the machine-readable answer."""
    table = RESULTS.split("<!-- table: dmpo-explore evaluate fashion --all-policies -->\n")[1].split("<!-- end")[0]
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    rows = json.loads(CliRunner().invoke(app, ["evaluate", "fashion", "--all-policies", "--json"]).stdout)
    answers = [f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} %" for row in rows]
    assert [cell for line in lines for cell in line[2:]] == answers
    assert header[2:] == ["30 %", "50 %", "70 %", "drop 1 %"] and lines[-1][1] == "oracle (bound)"


def test_the_fewest_images_for_a_certificate_are_computed() -> None:
    table = TEXTS["control-a-risk.md"].split("| ε | images |\n")[1].split("\n\n")[0]
    rows = [[float(number) for number in re.findall(r"\d+", line)] for line in table.splitlines()[1:]]
    assert rows == [[epsilon, dx.fitting.images_needed(epsilon / 100, 0.05)] for epsilon in (1, 5, 10)]


def test_every_policy_and_extra_is_on_its_page() -> None:
    listed = set(re.findall(r"`([a-z+ ]+)`", TEXTS["choose-a-policy.md"].split("## Which rule?")[1]))
    assert set(dx.POLICIES) <= listed
    rows = re.findall(r"^\| (`.+?) \|", TEXTS["install.md"].split("## Extras")[1].split("## ")[0], re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"bench"}  # which scripts/bench alone needs
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == extras


def test_every_setting_of_the_environment_is_in_files() -> None:
    code = [path for folder in ("dmpo_explore", "app") for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in code for name in re.findall(r"DMPO_EXPLORE_[A-Z_]+", path.read_text(encoding="utf-8"))}
    assert used == set(re.findall(r"`(DMPO_EXPLORE_[A-Z_]+)`", TEXTS["file-formats.md"]))


def test_files_of_a_record_are_the_librarys() -> None:
    text = TEXTS["file-formats.md"]
    for name in (*dx.records.FILES, *dx.records.OPTIONAL):
        assert f"`{name}`" in text, name
    keys = json.loads((dx.runs.BUNDLED_RUNS / "demo/records/test/meta.json").read_text(encoding="utf-8"))
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_every_page_is_in_the_navigation_once() -> None:
    nav = [page for _, _, page in nav_pages(site_config()["nav"])]
    assert len(nav) == len(set(nav))
    assert {page for page in sources().values() if page not in nav} == set()
    assert {page for page in nav if not page.startswith("reference/")} == set(sources().values())


def test_every_page_says_where_to_go_next_or_is_an_end() -> None:
    ends = {"limits.md", "glossary.md", "file-formats.md", "index.md", "install.md"}
    assert [n for n, text in TEXTS.items() if n not in ends and not re.search("^## Next", text, re.M)] == []


# -- links and pictures --


def test_links_lead_to_pages_pictures_come_along_and_code_stays(tmp_path: Path) -> None:
    text = "[a](../SECURITY.md#limits) ![b](app.png) `[c](d.md)`\n```md\n[e](../SECURITY.md)\n```\n[f](https://x.org)"
    changed = with_links(text, "docs/limits.md", "limits.md", tmp_path)
    assert changed.startswith("[a](security.md#limits) ![b](app.png) `[c](d.md)`")
    assert "[e](../SECURITY.md)" in changed and changed.endswith("[f](https://x.org)")
    assert (tmp_path / "app.png").is_file()
    assert relative("notebooks/index.md", "reference/api/models.md") == "../../notebooks/index.md"


def test_a_link_into_the_repository_follows_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from builder import pages

    for address, expected in (("", "NOTICE"), ("https://x.org/y", "[NOTICE](https://x.org/y/blob/main/NOTICE)")):
        monkeypatch.setattr(pages, "repository", lambda address=address: address)
        assert with_links("[NOTICE](../NOTICE)", "docs/limits.md", "limits.md", tmp_path) == expected


def test_hand_written_pages_are_gathered_with_their_diagrams(tmp_path: Path) -> None:
    names = write_pages(tmp_path)
    assert {"index.md", "changelog.md", "evidence.md", "security.md"} <= set(names)
    assert all((tmp_path / name).read_text(encoding="utf-8").count("# ") for name in names)
    assert (tmp_path / "policy-results.md").read_text(encoding="utf-8").startswith("# ")
    learn = (tmp_path / "early-exit.md").read_text(encoding="utf-8")
    assert learn.count('<div class="dx-diagram"><svg') == 3 and "<style>" not in learn
    assert (tmp_path / "assets/site.css").is_file()


def test_files_elsewhere_that_are_pages_exist() -> None:
    assert [path for path in ELSEWHERE if not (ROOT / path).is_file()] == []


def test_links_of_the_pages_exist_in_the_repository() -> None:
    """For readers on GitHub: but for pages that are generated, every link leads to a file."""
    for name, text in TEXTS.items():
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        here = [t for t in targets if "://" not in t and not t.startswith("reference/")]
        assert [t for t in here if not (DOCS / t).exists()] == [], name


COMMIT = "6a6e907c"  # the last one that has every benchmark
SECTIONS = {text.splitlines()[0]: text for text in re.split(r"\n## ", RESULTS)}


def gone(text: str) -> list[str]:
    """The benchmarks that a text names and that are no file any more."""
    named = set(re.findall(r"scripts/bench (\w+)", text)) - {"NAME"}
    return sorted(name for name in named if not (ROOT / f"benchmarks/{name}.py").is_file())


def test_a_section_that_names_a_command_that_left_names_its_commit() -> None:
    assert gone("`scripts/bench nothing`") == ["nothing"]
    assert {title: gone(text) for title, text in SECTIONS.items() if gone(text) and COMMIT not in text} == {}
    pages = {path.name: gone(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")}
    assert {name: found for name, found in pages.items() if found} == {}


def test_no_report_stands_beside_the_evidence() -> None:
    assert [path.name for path in (ROOT / "benchmarks").glob("*.md")] == ["EVIDENCE.md"]


@pytest.mark.slow
def test_what_is_said_of_bundled_runs_is_computed() -> None:
    def against(run: str, other: str, *shares: float) -> list[str]:
        targets = [dx.Target.flops(share) for share in shares] if shares else [dx.Target.full_depth()]
        found = [row["against"] for row in evaluate_runs([run], targets=targets, against=other)]
        points = [[100 * one[key] for key in ("difference", "low", "high")] for one in found]
        return ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*one).replace("-", "−") for one in points]

    groceries, fashion = SECTIONS["The bundled runs on groceries"], SECTIONS["The bundled runs on Fashion-MNIST"]
    assert "{}, {} and {}".format(*against("demo", "demo-naive", 0.3, 0.4, 0.5)) in groceries
    (last,), (teacher,) = against("demo", "demo-single-24"), against("demo-single", "demo-single-24")
    assert (last, teacher) == ("−1.85 [−3.08, −0.54]", "−2.77 [−4.15, −1.31]")
    assert "1.85 points [0.54, 3.08] behind" in groceries and "2.77 [1.31, 4.15] behind" in groceries
    assert against("fashion", "fashion-single") == ["+0.13 [−0.27, +0.54]"] and "+0.13 [−0.27, +0.54]" in fashion


def test_names_that_took_the_place_of_others_exist() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for _, now in rows for name in re.findall(r"`dx\.([\w.]+)", now)}
    assert len(names) > 5
    for name in names:
        attrgetter(name)(dx)
