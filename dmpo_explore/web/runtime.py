"""onnxruntime-web, which runs a page's graphs in the browser: its version, files and hashes, and how it is fetched.

In: nothing, or a page's folder. Out: npm's package in the cache, or its files in the folder, with hashes. The version
is pinned here; a page with other bytes does not run them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..utils.files import atomic_file, cache_dir

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
TARBALL = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's
VENDORED = f"vendor/{PACKAGE}-{VERSION}"


class RuntimeFile(NamedTuple):
    """A file of the package's ``dist``: name, bytes, and hash as pages state it."""

    name: str
    size: int
    integrity: str


class Backend(NamedTuple):
    """What one way to compute needs: the script and its WebAssembly."""

    script: RuntimeFile
    binary: RuntimeFile


BACKENDS = {
    "wasm": Backend(
        RuntimeFile(
            "ort.wasm.bundle.min.mjs", 73_054,
            "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.wasm", 14_239_897,
            "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
        ),
    ),
    "webgpu": Backend(
        RuntimeFile(
            "ort.jspi.bundle.min.mjs", 115_872,
            "sha384-9RUgRCKe1ziB7Sof69RRpoybxSmnC67IsfHFamx/k+9m39GbvHvw5Sets/Xpsro+",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.jspi.wasm", 16_758_545,
            "sha384-bMP/XSpH5FjIIaVnUc1eR3cDsGZGdO1ZPjcHGEtvMwOgZZFcOEN8VrGooR81HSFO",
        ),
    ),
}  # fmt: skip


def cached_runtime() -> Path:
    """Path in the user's cache where `fetch_runtime` stores the package; the file need not exist.

    Example:
        >>> cached_runtime().name
        'onnxruntime-web-1.30.0.tgz'
    """
    return cache_dir() / "npm" / f"{PACKAGE}-{VERSION}.tgz"


def fetch_runtime() -> Path:
    """Fetch onnxruntime-web with ``npm pack`` into the cache; a complete one there is kept.

    Returns:
        Path of the package in the user's cache; it appears whole or not at all.

    Raises:
        FileNotFoundError: npm is not installed, or it cannot fetch the package.
        ValueError: the bytes are not those that npm's registry states for this version.

    Example:
        >>> fetch_runtime().name  # doctest: +SKIP
        'onnxruntime-web-1.30.0.tgz'
    """
    path = cached_runtime()
    if path.is_file() and integrity(path, "sha512") == TARBALL:
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            f"{PACKAGE} {VERSION}, with which a page computes, is not in the cache, and npm, which fetches it, is not "
            f"installed. Install Node.js; or put {PACKAGE}-{VERSION}.tgz of npm's registry there: {path}. A "
            "page without the model needs neither"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--silent"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        found = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            raise FileNotFoundError(f"npm could not fetch {PACKAGE}@{VERSION}: {lines[-1]}")
        if (wrong := integrity(found[0], "sha512")) != TARBALL:
            raise ValueError(f"{PACKAGE}@{VERSION} from npm has the hash {wrong}, expected {TARBALL}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            shutil.copyfile(found[0], temporary)
    return path


def vendor_runtime(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    """Put onnxruntime-web into a page's ``folder``; raises as `fetch_runtime`.

    Returns:
        Backend → script and binary → address, bytes, hash, and whether gzip packed it.

    WebAssembly is stored with gzip, a quarter of its bytes, which the page unpacks itself: few servers of static files
    compress it. ``.bin`` at the end, so that no server declares it as compressed.
    """
    place = folder / VENDORED
    place.mkdir(parents=True)
    facts: dict[str, dict[str, dict[str, object]]] = {}
    with tarfile.open(fetch_runtime()) as archive:
        for backend, parts in BACKENDS.items():
            facts[backend] = {}
            for role, file in parts._asdict().items():
                stream = archive.extractfile(f"package/dist/{file.name}")
                content = stream.read() if stream else b""
                if integrity_of(content) != file.integrity:
                    raise ValueError(f"{file.name} of {PACKAGE} {VERSION} is not the file that was checked")
                packed = role == "binary"
                if packed:
                    content = gzip.compress(content, 9, mtime=0)
                path = place / f"{file.name}{'.gz.bin' if packed else ''}"
                path.write_bytes(content)
                facts[backend][role] = {
                    "url": f"{VENDORED}/{path.name}", "bytes": len(content), "packed": packed,
                    "integrity": integrity_of(content),
                }  # fmt: skip
    return facts


def integrity(path: Path, algorithm: str = "sha384") -> str:
    """The hash of a file as npm and Subresource Integrity state it."""
    return integrity_of(path.read_bytes(), algorithm)


def integrity_of(content: bytes, algorithm: str = "sha384") -> str:
    """The hash of these bytes, as `integrity`."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"
