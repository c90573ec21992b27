"""A stand-in, on the loopback interface, of the Hugging Face hub's HTTP API.

It answers what huggingface_hub 2.4 and datasets 5.2 ask, and refuses the rest as the hub does, with a status
and an `X-Error-Code`. For a model (`snapshot_download`):

    GET  /api/models/ORG/NAME/revision/REVISION                       which commit is it?
    GET  /api/models/ORG/NAME/tree/COMMIT?recursive=true              which files has it?
    HEAD and GET /ORG/NAME/resolve/COMMIT/FILE                        each file that matches our patterns

and for a data set (`load_dataset_builder`, `download_and_prepare`):

    HEAD and GET /datasets/ORG/NAME/resolve/REVISION/README.md        its card; the headers name the commit
    GET  /api/datasets/ORG/NAME/revision/COMMIT                       where it has no card
    HEAD /datasets/ORG/NAME/resolve/COMMIT/FILE                       NAME.py and other files of earlier times
    GET  /api/datasets/ORG/NAME/tree/COMMIT[/FOLDER]                  which files match the card's patterns?
    HEAD and GET /datasets/ORG/NAME/resolve/COMMIT/FILE.parquet       the rows
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = Mapping[str, bytes]
"""Content by path in the repository."""

_ROUTES = (
    ("info", r"/api/(models|datasets)/([^/]+/[^/]+)"),
    ("info", r"/api/(models|datasets)/([^/]+/[^/]+)/revision/([^/]+)"),
    ("tree", r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?"),
    ("paths_info", r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)"),
    ("resolve", r"/(datasets)/([^/]+/[^/]+)/resolve/([^/]+)/(.+)"),
    ("resolve", r"/()([^/]+/[^/]+)/resolve/([^/]+)/(.+)"),
)


class NotThereError(Exception):
    """The hub has no such repository, revision or entry."""

    def __init__(self, status: int, code: str):
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class Repository:
    """A git repository as the hub shows it: commits by hash, and the names (branches, tags) of some."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> tuple[str, Files]:
        """The commit that a name or hash stands for, and its files."""
        commit = self.refs.get(revision, revision)
        if commit not in self.commits:
            raise NotThereError(404, "RevisionNotFound")
        return commit, self.commits[commit]


class _Server(ThreadingHTTPServer):
    """Remembers its connections, so that stopping it also ends those that are kept alive."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]):
        super().__init__(address, handler)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none of the tests' business."""


class HubStandIn:
    """A running server. Use it as a context manager; it stops at the end of the block.

    Attributes:
        requests: What was asked, in order: method and path.
        strays: What was meant for other hosts; the server sees it as the proxy that `environment` sets.
        forbidden: Paths in repositories that answer with status 403.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.strays: list[str] = []
        self.forbidden: set[str] = set()
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """What belongs into HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """Environment of a process that knows no hub but this one and keeps its caches in `home`."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ATTATTR_"))}
        proxies = {key: self.url for key in ("http_proxy", "https_proxy", "all_proxy")}
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "no_proxy": "127.0.0.1"}
        return kept | proxies | settings | ({"HF_HUB_OFFLINE": "1"} if offline else {})

    def __enter__(self) -> HubStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Closes the port: from here on connections are refused. Stopping twice is allowed."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            for connection in self._server.connections:
                with contextlib.suppress(OSError):  # it has gone already
                    connection.shutdown(socket.SHUT_RDWR)

    def push(self, kind: str, name: str, files: Files, ref: str = "main") -> str:
        """Adds a commit to a repository of `models` or `datasets`, points `ref` to it, returns its hash."""
        repository = self._repositories.setdefault((kind, name), Repository())
        digest = hashlib.sha1(f"{kind} {name} {len(repository.commits)}".encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        commit = digest.hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[ref] = commit
        return commit

    def push_ref(self, kind: str, name: str, ref: str, commit: str) -> None:
        """Points a branch, a tag or a pull request to a commit."""
        self._repositories[kind, name].refs[ref] = commit

    def find(self, kind: str, name: str, revision: str) -> tuple[str, Files]:
        """The commit and files of a revision."""
        repository = self._repositories.get((kind or "models", name))
        if repository is None:
            raise NotThereError(401, "RepoNotFound")  # what the hub says to the anonymous: it may be private
        return repository.find(revision)


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does; `hub` is given by a subclass."""

    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if not self.path.startswith("/"):
            self.hub.strays.append(f"{self.command} {self.path}")
            self._send(502, {"error": "not this hub"})
            return
        self.hub.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        for action, pattern in _ROUTES:
            if found := re.fullmatch(pattern, url.path):
                try:
                    groups = [unquote(group) for group in found.groups() if group is not None]
                    getattr(self, f"_{action}")(*groups, body=body)
                except NotThereError as error:
                    self._send(error.status, {"error": error.code}, {"X-Error-Code": error.code})
                return
        self._send(404, {"error": "no such route"})

    def _info(self, kind: str, name: str, revision: str = "main", *, body: bytes) -> None:
        commit, files = self.hub.find(kind, name, revision)
        siblings = [{"rfilename": path} for path in files]
        self._send(200, {"id": name, "sha": commit, "private": False, "siblings": siblings, "tags": []})

    def _tree(self, kind: str, name: str, revision: str, folder: str = "", *, body: bytes) -> None:
        _, files = self.hub.find(kind, name, revision)
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        prefix = f"{folder}/" if folder else ""
        below = [path for path in files if path.startswith(prefix)]
        if prefix and not below:
            raise NotThereError(404, "EntryNotFound")
        folders = {prefix + path[len(prefix) :].split("/")[0] for path in below}
        shown = below if recursive else [path for path in below if path in folders]
        entries = [_file(path, files[path]) for path in shown]
        entries += [_folder(path) for path in sorted(folders - set(files))]
        self._send(200, entries)

    def _paths_info(self, kind: str, name: str, revision: str, *, body: bytes) -> None:
        _, files = self.hub.find(kind, name, revision)
        asked = json.loads(body)["paths"]
        folders = {path.rsplit("/", 1)[0] for path in files if "/" in path}
        known = [_file(path, files[path]) for path in asked if path in files]
        self._send(200, known + [_folder(path) for path in asked if path in folders])

    def _resolve(self, kind: str, name: str, revision: str, path: str, *, body: bytes) -> None:
        commit, files = self.hub.find(kind, name, revision)
        if path in self.hub.forbidden:
            self._send(403, {"error": "forbidden"})
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if path not in files:
            missing = {**headers, "X-Error-Code": "EntryNotFound"}
            self._send(404, {"error": "Entry not found"}, missing)
            return
        content, status = files[path], 200
        headers["ETag"] = f'"{_oid(content)}"'
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self._send(status, content, headers)

    def _send(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for key, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _file(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}


def _folder(path: str) -> dict[str, object]:
    return {"type": "directory", "path": path, "size": 0, "oid": _oid(path.encode())}
