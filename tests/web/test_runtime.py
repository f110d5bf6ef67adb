"""onnxruntime-web comes by npm, with the hash that is pinned, or not at all."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from dmpo_explore.web import runtime
from dmpo_explore.web.runtime import BACKENDS, cached_runtime, fetch_runtime, integrity, vendor_runtime


def packed(path: Path, content: bytes = b"code") -> Path:
    """A package with made-up files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for parts in BACKENDS.values():
            for file in parts:
                entry = tarfile.TarInfo(f"package/dist/{file.name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def npm_that(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))


def test_without_npm_the_remedy_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="npm, which fetches it, is not installed.*Install Node.js; or put"):
        fetch_runtime()
    assert not cache.exists()


def test_npm_that_fails_and_other_bytes_are_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_that(tmp_path, monkeypatch, "echo 'network is down' >&2; exit 1")
    with pytest.raises(FileNotFoundError, match=r"could not fetch onnxruntime-web@1.30.0: network is down"):
        fetch_runtime()
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho other > package.tgz\n")
    with pytest.raises(ValueError, match="has the hash sha512-.*, expected sha512-q0y"):
        fetch_runtime()
    assert not cached_runtime().exists()


def test_a_package_with_the_pinned_hash_is_kept_and_not_fetched_twice(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = packed(tmp_path / "made.tgz")
    monkeypatch.setattr(runtime, "TARBALL", integrity(package, "sha512"))
    npm_that(tmp_path, monkeypatch, f"cp '{package}' onnxruntime-web-1.30.0.tgz")
    path = fetch_runtime()
    assert path == cached_runtime() and path.read_bytes() == package.read_bytes()
    monkeypatch.setattr(shutil, "which", lambda name: pytest.fail("fetched twice"))
    assert fetch_runtime() == path
    with pytest.raises(ValueError, match=r"ort.wasm.bundle.min.mjs of onnxruntime-web 1.30.0 is not the file"):
        vendor_runtime(tmp_path / "page")  # another content than was checked


@pytest.mark.slow
def test_files_in_a_folder_are_those_that_were_checked(tmp_path: Path, onnxruntime_web: Path) -> None:
    for backend, parts in vendor_runtime(tmp_path).items():
        for role, file in parts.items():
            path = tmp_path / str(file["url"])
            assert file["integrity"] == integrity(path) and file["bytes"] == path.stat().st_size
            content = gzip.decompress(path.read_bytes()) if file["packed"] else path.read_bytes()
            (tmp_path / "plain").write_bytes(content)
            known = BACKENDS[backend]._asdict()[role]
            assert integrity(tmp_path / "plain") == known.integrity and len(content) == known.size
