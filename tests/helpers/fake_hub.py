"""The parts of the Hugging Face Hub's HTTP API that pushing and loading use, on 127.0.0.1, kept in memory.

Commits are numbered; a file that was sent is given back byte by byte. `FakeHub.token` is needed to write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]


class FakeHub(ThreadingHTTPServer):
    """Repositories by name: every commit's files, and the commit that each branch has."""

    token = "hf_test"
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.sdks: dict[str, str] = {}  # of Spaces, whose names begin with spaces/
        self.cards: list[str] = []

    @property
    def address(self) -> str:
        """As HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo: str, files: Files, branch: str = "main") -> str:
        """Put files on a branch; the commit's name."""
        commits = self.commits.setdefault(repo, {})
        name = hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest()
        commits[name] = dict(files)
        self.branches.setdefault(repo, {})[branch] = name
        return name

    def files(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """The commit of a revision, and its files."""
        name = self.branches.get(repo, {}).get(revision, revision)
        found = self.commits.get(repo, {}).get(name)
        return None if found is None else (name, found)


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # else the next packet waits for the answer to the one before
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._get()

    def do_HEAD(self) -> None:
        self._get()

    def _get(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/(spaces/[^/]+/[^/]+)", path):
            self._space(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        else:
            self._json({"error": f"not faked: GET {path}"}, 404)

    def _space(self, repo: str) -> None:
        if repo not in self.server.commits:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        else:
            self._json({"id": repo.removeprefix("spaces/"), "sdk": self.server.sdks.get(repo)})

    def _info(self, repo: str, revision: str) -> None:
        if repo not in self.server.commits:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif (found := self.server.files(repo, revision)) is None:
            self._json({"error": "Revision not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in found[1].items()]
            self._json({"id": repo, "modelId": repo, "sha": found[0], "siblings": siblings, "tags": []})

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self.server.files(repo, revision)
        data = None if found is None else found[1].get(name)
        if found is None or data is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        etag = hashlib.sha1(data).hexdigest()
        self._send(data, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": found[0], "Accept-Ranges": "bytes"})

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(path)
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/(?:models/)?((?:spaces/)?[^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            self.server.branches[found[1]][found[2]] = self.server.branches[found[1]]["main"]
            self._json({})
        elif found := re.fullmatch(r"/api/(?:models/)?((?:spaces/)?[^/]+/[^/]+)/commit/(.+)", path):
            self._commit(found[1], found[2], body)
        else:
            self._json({"error": f"not faked: POST {path}"}, 404)

    def _create(self, values: dict[str, Any]) -> None:
        kind = "spaces/" if values.get("type") == "space" else ""
        repo = f"{kind}{values.get('organization') or 'me'}/{values['name']}"
        if repo in self.server.commits:
            self._json({"error": "You already created it", "url": f"{self.server.address}/{repo}"}, 409)
        else:
            self.server.commit(repo, {".gitattributes": b""})
            if kind:
                self.server.sdks[repo] = values["sdk"]
            self._json({"url": f"{self.server.address}/{repo}"})

    def _commit(self, repo: str, branch: str, body: bytes) -> None:
        before = self.server.files(repo, branch)
        files = dict(before[1]) if before else {}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        name = self.server.commit(repo, files, branch)
        self._json({"success": True, "commitOid": name, "commitUrl": f"{self.server.address}/{repo}/commit/{name}"})

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serving(cache: Path) -> Iterator[FakeHub]:
    """A hub that huggingface_hub is pointed at, with a login and a cache of its own, until the context ends."""
    with FakeHub() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.address)
        patch.setenv("HF_TOKEN", hub.token)
        patch.setenv("DMPO_EXPLORE_CACHE", str(cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the tests' own setting, read at its import
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
