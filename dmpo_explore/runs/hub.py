"""Runs and pages on the Hugging Face Hub: their README.md, pushed as one commit, loaded at one commit."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

from ..config import Config
from ..data.images import open_data
from ..data.known import DATASETS
from ..data.manifest import MANIFESTS, manifest_file
from ..data.names import READERS
from ..policies.base import Policy
from ..pretrained.weights import is_hub
from ..records.record import ExitRecord
from ..records.scores import NAME
from ..records.validation import further_scores
from ..utils.files import FULL, atomic_folder, cache_dir, read_json, sha256, staged, write_json
from ..utils.lazy import extra_imports
from ..utils.registry import unknown
from ..utils.texts import one_line, short
from ..utils.typing import at_exits
from .run_files import RECORD_FILES, RUN_FILES, RUN_NAME, WEIGHTS

TAGS = ["early-exit", "dynamic-inference", "dmpo", "vision"]
USE = """## Use

The package is not on an index. In a clone of its repository:

```sh
python -m pip install -e ".[hub]"
```

```python
import dmpo_explore as dx

run = dx.load_run("hf://OWNER/NAME")  # or @COMMIT
```

"""
TRAINED_PARTS = """\
`model.safetensors` holds the trained parts. The backbone is not in it: `dmpo-explore fetch` downloads it,
and its hash is checked.
"""
WHOLE = """\
`model.safetensors` holds the whole model, its backbone too. The licence of the backbone's weights holds for it.
"""
RECORDED = """
```python
record = run.record("SPLIT")
policy = dx.fit_policy(record, "confidence", threshold=0.9)  # a threshold of your choice
print(dx.apply(policy, record).summary())
```
"""


def hugging_face() -> Any:
    """The package huggingface_hub; ImportError that names its extra without it."""
    with extra_imports("the Hugging Face Hub", "hub"):
        import huggingface_hub
        import huggingface_hub.errors
    return huggingface_hub


class Pushed(Protocol):
    """What is read of a `Run`."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Config: ...
    def splits(self) -> list[str]: ...
    def record(self, split: str) -> ExitRecord: ...
    def policies(self) -> dict[str, Policy]: ...
    def card(self) -> str: ...


def hub_card(
    run: Pushed, records: Mapping[str, ExitRecord], repo: str = "OWNER/NAME", license: str = "", base_model: str = ""
) -> str:
    """The README.md: YAML with licence, data, backbone, metrics and tags; then the run's card and how to use it.

    Args:
        records: of the splits that are pushed; the metrics are those of ``test``.
        repo: that the run is pushed to, for the lines that load it.
        license: SPDX identifier in lower case; empty: none is named.
        base_model: the backbone's repository on the Hub; empty: that of timm, where the run's weights are from there
            and its name has their tag, else none.
    """
    data, model = run.config.data, run.config.model
    from_timm = is_hub(model.backbone, model.weights) and "." in model.backbone
    metadata = hugging_face().ModelCardData(
        base_model=base_model or (f"timm/{model.backbone}" if from_timm else None),
        datasets=None if open_data(data).own else [data.name],
        eval_results=_results(run, records.get("test")) or None,
        library_name="dmpo-explore",
        license=license or None,
        metrics=["accuracy"],
        model_name=run.name,
        pipeline_tag="image-classification",
        tags=TAGS,
    )
    split = next((name for name in ("test", *records) if name in records), "")
    card = run.card().rstrip("\n") or f"# {run.name}"
    use = USE.replace("OWNER/NAME", repo) + (WHOLE if model.whole else TRAINED_PARTS)
    return f"---\n{metadata.to_yaml()}\n---\n\n{card}\n\n{use}{RECORDED.replace('SPLIT', split) if split else ''}"


def _results(run: Pushed, test: ExitRecord | None) -> list[Any]:
    """Accuracy on test of the last exit, and of every saved policy that was fitted on held-out images."""
    if test is None:
        return []
    rows = {"accuracy of the last exit": float(test.correct[:, -1].mean())}
    for name, policy in run.policies().items():
        fits = not policy.unavailable_reason(test)
        if test.n_exits > 1 and fits and policy.fitted.get("split") in ("val", "calibration"):
            exits = policy.exits(test)
            share = float(test.flops_fraction[exits].mean())
            accuracy = float(at_exits(test.correct, exits).mean())
            rows[f"accuracy with policy {name}, {100 * share:.1f} % of the compute"] = accuracy
    return [
        hugging_face().EvalResult(
            task_type="image-classification",
            dataset_type=run.config.data.name if run.config.data.name in DATASETS else "image-folder",
            dataset_name=PurePath(test.meta.data).name,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in rows.items()
    ]


# Runs on the Hugging Face Hub: pushed as one commit, loaded at one commit.
#
# In: a run and a repository's name, or an address ``hf://owner/name[@revision]``. Out: the address with its commit, or
# a run folder in the cache. Names in a repository are those of `PyTorchModelHubMixin` (config.json, model.safetensors,
# README.md); the rest has the names of a run folder. ``dmpo-explore.json`` lists every file with its bytes and SHA-256.
# Anything else is never downloaded: no code, no pickle, no checkpoint. What is listed is downloaded only after its
# sizes are known, and compared with its SHA-256. Nothing is executed or unpickled. huggingface_hub commits, downloads
# and makes the card's metadata. Ours are that list and the folder in the cache: a snapshot of a repository is no run
# folder.

PREFIX = "hf://"
SCORE_FILE = re.compile(rf"scores/{NAME.pattern}\.npy")  # also those of plug-ins
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
LISTING, CARD, MODEL, SOURCE = "dmpo-explore.json", "README.md", "model.safetensors", "hub.json"
FORMAT_VERSION = 1
PLAIN = tuple(name for name in RUN_FILES if name != WEIGHTS)
NAMES = "at most 100 letters from A to Z, digits, dots, hyphens and underscores, not beginning with a dot"
OF_THE_DISK = {*FULL, errno.EACCES, errno.EROFS}  # errors of this machine
MOST_FILES, MOST_BYTES, MOST_LISTING = 1000, 2**33, 2**20  # of a repository: 8 GiB altogether


@dataclass(frozen=True)
class HubFile:
    """Size and hash of a file."""

    bytes: int
    sha256: str


def local_name(name: str) -> str:
    """The name in a run folder of a repository's file; ValueError if it is no file of a run."""
    if name == MODEL:
        return WEIGHTS
    folder, _, rest = name.partition("/")
    split, _, file = rest.partition("/")
    of_record = file in RECORD_FILES or SCORE_FILE.fullmatch(file)
    if name in (*PLAIN, *MANIFESTS) or (folder == "records" and RUN_NAME.fullmatch(split) and of_record):
        return name
    raise ValueError(f"{short(name)} is no file of a run; only those of docs/file-formats.md are downloaded")


def write_hub_folder(
    run: Pushed, folder: str | Path, *, splits: Sequence[str] | None = None, with_manifest: bool = False, **card: str
) -> Path:
    """Write the folder that `push_run` uploads; arguments as there.

    Raises:
        FileExistsError: the folder exists. ValueError: an unknown split, or a run whose name a listing cannot have.
        FileNotFoundError: the run has no weights.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> folder = write_hub_folder(dx.load_run("demo-cnn"), Path(tempfile.mkdtemp()) / "repo", splits=["test"])
        >>> sorted(path.name for path in folder.iterdir())[:4]
        ['README.md', 'card.md', 'config.json', 'dmpo-explore.json']
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder")
    if not RUN_NAME.fullmatch(run.name):
        raise ValueError(f"run {short(run.name)} cannot be pushed: rename its folder to {NAMES}")
    if not (run.path / WEIGHTS).is_file():
        raise FileNotFoundError(f"run {run.name!r} has no weights to push: no file {run.path / WEIGHTS}")
    chosen = run.splits() if splits is None else list(splits)
    if wrong := [split for split in chosen if split not in run.splits()]:
        raise ValueError(unknown("split", wrong[0], run.splits()))
    records = {split: run.record(split) for split in chosen}  # checked, and not of earlier weights
    manifest = manifest_file(run.path) if with_manifest else None
    named = [run.config.to_dict(), *(record.meta.data for record in records.values())]
    if places := [text for text in dict.fromkeys(_texts(named)) if _is_place(text)]:
        text = "config, card and records name places of this machine, which all readers of the repository will see"
        warnings.warn(f"{text}: {', '.join(map(str, map(short, places)))}", stacklevel=2)
    names = [*PLAIN, *([manifest.name] if manifest else []), MODEL]
    for split in chosen:
        more = [file for file in further_scores(run.path / "records" / split) if SCORE_FILE.fullmatch(file)]
        names += [f"records/{split}/{file}" for file in (*RECORD_FILES, *more)]
    with atomic_folder(folder) as made:
        listing = {}
        for name in names:
            source, target = run.path / local_name(name), made / PurePath(name)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                listing[name] = asdict(HubFile(target.stat().st_size, sha256(target)))
        write_json(made / LISTING, {"format_version": FORMAT_VERSION, "name": run.name, "files": listing})
        (made / CARD).write_text(hub_card(run, records, **card), encoding="utf-8")
    return folder


def _texts(values: Any) -> Iterator[str]:
    """Every text among JSON values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)


def _is_place(value: str) -> bool:
    """Whether a value of a config is a path of this machine, also behind the name of a reader (``wds//shards``)."""
    reader, _, rest = value.partition("/")
    return Path(value).is_absolute() or (reader.lower() in READERS and Path(rest).is_absolute())


def read_listing(path: Path) -> tuple[str, dict[str, HubFile]]:
    """Name of the run, and the files that a repository lists; every name, size and hash is checked.

    Raises:
        ValueError: another format version, a name that is no file of a run, too many or too large files.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
        version = values.get("format_version") if isinstance(values, dict) else None
        raise ValueError(f"{LISTING}: format_version={short(version)}; this program reads version {FORMAT_VERSION}")
    name, files = values.get("name"), values.get("files")
    if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
        raise ValueError(f"{LISTING}: name={short(name)} must be the name of a run")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise ValueError(f"{LISTING}: files must be an object of 1 to {MOST_FILES:,} files")
    found = {file: _listed(file, entry) for file, entry in files.items()}
    if "config.json" not in found:
        raise ValueError(f"{LISTING}: it lists no config.json; the repository holds no run")
    if (total := sum(entry.bytes for entry in found.values())) > MOST_BYTES:
        raise ValueError(f"{LISTING}: its files have {total:,} bytes; at most {MOST_BYTES:,} are downloaded")
    return name, found


def _listed(name: str, entry: Any) -> HubFile:
    local_name(name)
    size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{LISTING}: bytes={short(size)} of {name} must be a whole number")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{LISTING}: sha256={short(digest)} of {name} must be 64 hexadecimal digits")
    return HubFile(size, digest)


@dataclass(frozen=True)
class HubAddress:
    """A repository and a revision of it: a branch, a tag, a commit, or empty for the main branch."""

    repo: str
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Read ``hf://owner/name[@revision]``; ValueError for anything else."""
        repo, at, revision = text.removeprefix(PREFIX).partition("@")
        if not REPO.fullmatch(repo) or ".." in text or (at and not REVISION.fullmatch(revision)):
            raise ValueError(f"{short(text)} must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        return cls(repo, revision)

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def push_run(
    run: Pushed,
    repo: str,
    *,
    private: bool = False,
    branch: str = "main",
    message: str = "",
    splits: Sequence[str] | None = None,
    license: str = "",
    base_model: str = "",
    with_manifest: bool = False,
) -> str:
    """Push a run's config, weights, history, policies, card and records to the Hugging Face Hub, as one commit.

    Args:
        run: a `Run`; `Run.push_to_hub` is the same. repo: ``owner/name``; it is made if there is none.
        private: of a new repository. branch, message: of the commit.
        splits: whose records are pushed; by default all.
        license, base_model: of the card, as `hub_card`.
        with_manifest: also push the list of images: their names, hashes and labels.

    Returns:
        ``hf://owner/name@commit``, which `load_run` opens.

    Raises:
        ValueError: no such name or split. FileNotFoundError: no weights, or no such repository for this login.
        OSError: the Hub refuses, or cannot be reached.

    Example:
        >>> import dmpo_explore as dx
        >>> push_run(dx.load_run("demo"), "me/demo", license="apache-2.0")  # doctest: +SKIP
        'hf://me/demo@7d3c1f0c2b1e4a5f9f0f6f3b2a9d8e7c6b5a4f3e'
    """
    address = HubAddress.parse(repo)
    if address.revision:
        raise ValueError(f"{short(repo)} names a revision; a push makes a new one, on branch={branch!r}")
    api = api_of_hub()
    with tempfile.TemporaryDirectory() as place, without_bars():
        folder = write_hub_folder(
            run, Path(place) / "repo", splits=splits, with_manifest=with_manifest, repo=address.repo, license=license,
            base_model=base_model,
        )  # fmt: skip
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
        added = [hugging_face().CommitOperationAdd(name, folder / name) for name in sorted(names)]
        text = message or f"Push run {run.name} with dmpo-explore"
        with named_errors(address):
            api.create_repo(address.repo, private=private, exist_ok=True)
            if branch != "main":
                api.create_branch(address.repo, branch=branch, exist_ok=True)
            # not `upload_folder`: of more than some 250 files it makes several commits, the first of them not whole
            done = api.create_commit(address.repo, added, revision=branch, commit_message=text)
    return str(HubAddress(address.repo, done.oid))


def download_run(text: str) -> Path:
    """The folder of the run at ``hf://owner/name[@revision]``, downloaded into the cache once per commit.

    Raises:
        ValueError: no such address, or a repository that holds no run, or files that are not those it lists.
        FileNotFoundError: no such repository or revision. OSError: the Hub cannot be reached.
    """
    address = HubAddress.parse(text)
    root = cache_dir() / "hub" / address.repo.replace("/", "--")
    if COMMIT.fullmatch(address.revision) and (kept := _kept(root / address.revision)):
        return kept
    api = api_of_hub()
    with named_errors(address):
        info = api.model_info(address.repo, revision=address.revision or None, files_metadata=True)
    commit, sizes = str(info.sha), {file.rfilename: file.size for file in info.siblings or ()}
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(address.revision) and commit != address.revision):
        raise ValueError(f"{address}: the Hub gave {short(commit)}, which is not the commit that was asked for")
    if kept := _kept(root / commit):
        return kept
    exact = HubAddress(address.repo, commit)
    if LISTING not in sizes:
        raise ValueError(f"{exact} holds no run of dmpo-explore: it has no {LISTING}")
    if (sizes[LISTING] or 0) > MOST_LISTING:
        raise ValueError(f"{exact}: {LISTING} has {sizes[LISTING]:,} bytes; at most {MOST_LISTING:,} are read")
    with staged(root / "download") as place, without_bars():
        place.mkdir()
        name, files = read_listing(_download(api, exact, LISTING, place))
        for file, listed in files.items():
            if sizes.get(file) != listed.bytes:
                raise ValueError(f"{exact}: {file} has {sizes.get(file)} bytes and is listed with {listed.bytes}")
        (root / commit).mkdir(parents=True, exist_ok=True)
        with atomic_folder(root / commit / name) as folder:
            for file, listed in files.items():
                source, target = _download(api, exact, file, place), folder / local_name(file)
                if source.stat().st_size != listed.bytes or sha256(source) != listed.sha256:
                    text = f"{source.name} is not the file that {LISTING} lists; download it again"
                    raise ValueError(f"{exact}: {text}")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
            write_json(folder / SOURCE, {"repo": exact.repo, "commit": commit})
    return root / commit / name


def source_of(folder: Path) -> str:
    """The address with its commit of a run that `download_run` has written; empty for another folder."""
    if not (folder / SOURCE).is_file():
        return ""
    values = read_json(folder / SOURCE)
    return str(HubAddress(str(values["repo"]), str(values["commit"])))


def _kept(place: Path) -> Path | None:
    """The run that was downloaded into ``place`` before."""
    return next((file.parent for file in place.glob(f"[!.]*/{SOURCE}")), None)


def _download(api: Any, address: HubAddress, file: str, place: Path) -> Path:
    # not `snapshot_download`: its threads hear Ctrl-C only when the files they load are whole
    with named_errors(address):
        return Path(api.hf_hub_download(address.repo, file, revision=address.revision, local_dir=place))


def api_of_hub() -> Any:
    """A client of the Hub, or of the server that HF_ENDPOINT names now."""
    return hugging_face().HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="dmpo-explore")


@contextmanager
def without_bars() -> Iterator[None]:
    """Context without huggingface_hub's progress bars."""
    utils = hugging_face().utils
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


@contextmanager
def named_errors(address: HubAddress) -> Iterator[None]:
    """Context in which the Hub's errors, of several libraries, become built-in ones with the address and a remedy."""
    errors = hugging_face().errors
    try:
        yield
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{address}: the repository has no such revision; name a branch, tag or commit"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{address}: no such repository, or a private one; log in with `hf auth login`"
        ) from None
    except errors.HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code in (401, 403)
        hint = "; log in with `hf auth login` as someone who may write there" if refused else ""
        raise OSError(f"{address}: {one_line(error, 300)}{hint}") from None
    except Exception as error:  # of the HTTP library: no connection, no name, no answer in time
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            raise
        raise OSError(f"{address}: the Hub cannot be reached: {one_line(error, 300)}") from error


# A page as a static Space of the Hugging Face Hub: a repository whose files visitors see as a web page.
#
# In: a page's folder or its one HTML file, and a repository's name. Out: the address of the Space. Static Spaces
# compute nothing on the server; those with a container of their own need a paid plan.

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
    """README.md of a static Space: the header that the Hub reads, and what the page is."""
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
