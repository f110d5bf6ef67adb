"""Build the documentation site: python -m builder [--serve]; `scripts/docs` runs it."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from builder.check import problems
from builder.llms import write_llms
from builder.notebooks import write_notebooks
from builder.pages import DOCS, ROOT, sources, write_explained, write_pages
from builder.reference import write_reference
from builder.search import slim

BUILD = ROOT / "build" / "docs"


def gather(folder: Path) -> Path:
    """Write all pages and the site's configuration below ``folder``; the path of the configuration."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for write in (write_pages, write_explained, write_reference, write_notebooks):
        write(pages)
    write_llms(pages)
    config = folder / "zensical.toml"
    shutil.copyfile(DOCS / "zensical.toml", config)
    return config


def build(folder: Path) -> list[str]:
    """Build the site into ``folder/site``; what is wrong with it, which is nothing if the list is empty."""
    config = gather(folder)
    shutil.rmtree(folder / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode:
        return ["zensical build --strict failed; its warnings stand above"]
    slim(folder / "site")
    return sorted(problems(folder / "site"))


def _changed() -> dict[str, float]:
    """Source → when it changed; a file that an editor is just replacing is there a moment later."""
    return {path: (ROOT / path).stat().st_mtime for path in sources() if (ROOT / path).exists()}


def follow(folder: Path, seconds: float = 1.0) -> None:
    """Copy pages that change while the site is served."""
    seen = _changed()
    while True:
        time.sleep(seconds)
        if (now := _changed()) != seen:
            for write in (write_pages, write_notebooks):
                write(folder / "pages")
            seen = now


def main() -> int:
    """Build the site, or serve it while its pages are edited."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description="Build the documentation site.")
    parser.add_argument("--serve", action="store_true", help="serve the site on this machine and follow changed pages")
    parser.add_argument("--address", default="localhost:8000", help="where to serve it (default: %(default)s)")
    options = parser.parse_args()
    if options.serve:
        config = gather(BUILD)
        threading.Thread(target=follow, args=(BUILD,), daemon=True).start()
        command = [
            sys.executable,
            "-m",
            "zensical",
            "serve",
            "--config-file",
            str(config),
            "--dev-addr",
            options.address,
        ]
        try:
            return subprocess.run(command, cwd=BUILD, check=False).returncode
        except KeyboardInterrupt:
            return 130
    wrong = build(BUILD)
    for line in wrong:
        print(f"scripts/docs: {line}", file=sys.stderr)
    if not wrong:
        print(f"scripts/docs: {BUILD.relative_to(ROOT) / 'site' / 'index.html'} is ready")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
