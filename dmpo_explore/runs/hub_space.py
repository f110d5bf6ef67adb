"""A page as a static Space of the Hugging Face Hub: a repository whose files visitors see as a web page.

In: a page's folder or its one HTML file, and a repository's name. Out: the address of the Space. Static Spaces compute
nothing on the server; those with a container of their own need a paid plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..utils.texts import short
from .hub import HubAddress, api_of_hub, named_errors, without_bars
from .hub_card import hugging_face

INDEX, README = "index.html", "README.md"
TITLE = 60  # characters of a Space's title
# licences that the Hub knows by these identifiers; a card with another one is refused, unless it is called "other"
KNOWN = (
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "mit", "openrail",
)  # fmt: skip


def push_page(page: str | Path, repo: str, name: str, *, private: bool = False, license: str = "") -> str:
    """Push a page to the Hugging Face Hub as a static Space, in one commit; returns the Space's address.

    Args:
        page: the folder of a page, or its HTML file. repo: ``owner/name``; it is made if there is none.
        name: of the run, for the title. private: of a new Space. license: for its card, such as Apache-2.0.

    Raises:
        ValueError: no such name, no page, or a Space that is not static: its files are not replaced.
        FileNotFoundError, OSError: as `push_run`.

    Example:
        >>> push_page("page", "me/demo", "demo")  # doctest: +SKIP
        'https://huggingface.co/spaces/me/demo'
    """
    address = check_space_name(repo)
    files = dict(_files(Path(page)))
    if INDEX not in files:
        raise ValueError(f"{page} is no page: it has no {INDEX}")
    api, add = api_of_hub(), hugging_face().CommitOperationAdd
    operations = [add(file, path) for file, path in sorted(files.items()) if file != README]
    operations.append(add(README, space_card(name, license).encode()))
    text = f"Publish the page of {name} with dmpo-explore"
    with named_errors(address):
        api.create_repo(address.repo, repo_type="space", space_sdk="static", private=private, exist_ok=True)
        kind = api.space_info(address.repo).sdk
    if kind != "static":
        raise ValueError(f"the Space {address.repo} is of the kind {kind}, not static; name another one")
    with without_bars(), named_errors(address):
        api.create_commit(address.repo, operations, repo_type="space", commit_message=text)
    return f"{api.endpoint}/spaces/{address.repo}"


def check_space_name(repo: str) -> HubAddress:
    """The address of a Space, ``owner/name``; ValueError for another text, ImportError without the extra ``hub``."""
    hugging_face()
    address = HubAddress.parse(repo)
    if address.revision:
        raise ValueError(f"{short(repo)} names a revision; name the Space alone, OWNER/NAME")
    return address


def space_card(name: str, license: str = "") -> str:
    """README.md of a static Space: the header that the Hub reads, and what the page is.

    Example:
        >>> print(space_card("demo", "mit").splitlines()[2])
        sdk: static
    """
    header = hugging_face().SpaceCardData(
        title=f"Early exit, explained: {name}"[:TITLE], sdk="static", app_file=INDEX, emoji="🚪", colorFrom="blue",
        colorTo="yellow", **_licence(license),
    )  # fmt: skip
    return f"---\n{header.to_yaml()}\n---\n\nA page that plays an early-exit model, made by `dmpo-explore publish`.\n"


def _licence(name: str) -> dict[str, str]:
    """The entries of a card's header for a licence: its identifier, or what it is called."""
    found = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    if found and found not in KNOWN:
        return {"license": "other", "license_name": found}
    return {"license": found} if found else {}


def _files(page: Path) -> Iterator[tuple[str, Path]]:
    """Name in the repository → file."""
    if page.is_file():
        yield INDEX, page
        return
    for path in page.rglob("*"):
        if path.is_file():
            yield path.relative_to(page).as_posix(), path
