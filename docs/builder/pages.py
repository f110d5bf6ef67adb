"""Gather the pages that are written by hand, with links that hold on the site.

In: the repository. Out: Markdown files and pictures in a folder. A link to another page leads to it, a picture comes
along, and a link to any other file leads to the repository's address, or is plain text while none is declared.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import dmpo_explore as dx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {  # repository path → page; everything in docs/ keeps its name
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "benchmarks/EVIDENCE.md": "evidence.md",
    "benchmarks/results/policies.md": "policy-results.md",
    "notebooks/README.md": "notebooks/index.md",
}
TITLES = {"benchmarks/results/policies.md": "Does a policy beat one threshold?"}
PICTURES = (".png", ".svg", ".gif", ".webp", ".jpg")
UNSET = "-owner-"  # no name on GitHub begins with a dash: nobody can take it
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)


def repository() -> str:
    """The repository's address as pyproject.toml declares it, or an empty text while it is unset."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project.get("urls", {}).get("Repository", "")
    return "" if f"/{UNSET}/" in address else address.removesuffix("/")


def sources() -> dict[str, str]:
    """Repository path → page, of every page that is written by hand or by a benchmark."""
    own = {f"docs/{path.name}": path.name for path in sorted(DOCS.glob("*.md"))}
    notebooks = {f"notebooks/{p.name}": f"notebooks/{p.stem}.md" for p in sorted(ROOT.glob("notebooks/*.ipynb"))}
    return {**own, **{path: page for path, page in ELSEWHERE.items() if path != "README.md"}, **notebooks}


def relative(target: str, page: str) -> str:
    """The link from ``page`` to ``target``, both as paths of the site."""
    return Path(os.path.relpath(target, Path(page).parent)).as_posix()


def with_links(text: str, source: str, page: str, folder: Path) -> str:
    """Text of repository file ``source`` as ``page``: links rewritten, pictures copied into ``folder``.

    Code is left alone. A link to a file that does not exist stays as it is: the strict build names it.
    """
    pages = {**sources(), "README.md": "index.md"}

    def change(found: re.Match[str]) -> str:
        picture, label, target = found.groups()
        path, mark, anchor = target.partition("#")
        if "://" in target or not path or target.startswith("mailto:"):
            return found[0]
        absolute = (ROOT / source).parent.joinpath(path).resolve()
        if not absolute.is_relative_to(ROOT) or not absolute.exists():
            return found[0]
        name = absolute.relative_to(ROOT).as_posix()
        if name in pages:
            return f"{picture}[{label}]({relative(pages[name], page)}{mark}{anchor})"
        if picture and absolute.suffix == ".svg":
            return figure(absolute.read_text(encoding="utf-8"))
        if absolute.suffix in PICTURES:
            place = name.removeprefix("docs/") if name.startswith("docs/") else f"pictures/{absolute.name}"
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(absolute, folder / place)
            return f"{picture}[{label}]({relative(place, page)})"
        kind = "tree" if absolute.is_dir() else "blob"
        return f"[{label}]({repository()}/{kind}/main/{name}{mark}{anchor})" if repository() else label

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(change, part) for part in parts)


def figure(svg: str) -> str:
    """A diagram as part of the page, so that its colours follow the page's palette, not the reader's preference."""
    return f'<div class="dx-diagram">{re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL).strip()}</div>'


def write_explained(folder: Path) -> None:
    """Write the page that plays by itself, of the bundled run and without its model: the first page shows it."""
    dx.publish(dx.load_run("demo"), folder / "explained.html", against=dx.load_run("demo-naive"))


def write_pages(folder: Path) -> list[str]:
    """Write the pages that are written by hand, and the site's own files; their names."""
    shutil.copytree(DOCS / "assets", folder / "assets", dirs_exist_ok=True)
    names = []
    for source, page in sources().items():
        if source.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            if source in TITLES:
                text = f"# {TITLES[source]}\n\n{text}"
            (folder / page).parent.mkdir(parents=True, exist_ok=True)
            (folder / page).write_text(with_links(text, source, page, folder), encoding="utf-8")
            names.append(page)
    return names
