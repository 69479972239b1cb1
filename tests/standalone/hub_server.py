"""A loopback server that speaks as much of the Hugging Face hub's protocol as downloading a model uses."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "a" * 34
LOGIN = {"device_code": "d", "user_code": "A-B", "interval": 0, "expires_in": 60}
GIVEN = {"access_token": TOKEN, "token_type": "bearer"}
WHO = {"name": "someone", "type": "user", "auth": {"accessToken": {"role": "read", "displayName": "test"}}}


@dataclass
class Repository:
    """Files of each revision; `token` is what a private one asks for, `gated` refuses everybody."""

    revisions: dict[str, dict[str, bytes]]
    token: str | None = None
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """The commit a branch stands for, or that commit itself."""
        commits = {name: hashlib.sha1(name.encode()).hexdigest() for name in self.revisions}
        return commits.get(revision) or (revision if revision in commits.values() else None)

    def files(self, revision: str) -> dict[str, bytes]:
        commit = self.commit(revision)
        return next(files for name, files in self.revisions.items() if self.commit(name) == commit)


@dataclass
class Server:
    """The repositories it serves, the requests it saw, and the file whose next `cuts` downloads break off half way."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    cut: str | None = None
    cuts: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closed = True  # connections that are still open get no answer either
        self._server.shutdown()
        self._server.server_close()

    def gets(self, file: str) -> list[dict[str, Any]]:
        """The downloads of one file."""
        return [r for r in self.seen if r["method"] == "GET" and r["path"].endswith(f"/{file}")]


def _handler(hub: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            """Logging in by a browser, where somebody has said yes already."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._json(LOGIN | {"verification_uri": hub.url} if self.path == "/oauth/device" else GIVEN)

        def _answer(self, body: bool) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            path = self.path.split("?")[0]
            if hub.closed:
                self.close_connection = True
                return self.connection.close()
            hub.seen.append({"method": self.command, "path": path, "headers": headers})
            if path == "/api/whoami-v2":
                return self._json(WHO)
            parts = path.strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            name = "/".join(parts[2:4] if api else parts[:2])
            repository = hub.repositories.get(name)
            if repository is None:
                return self._fail(401, "RepoNotFound")
            if repository.token and headers.get("authorization") != f"Bearer {repository.token}":
                return self._fail(401, "RepoNotFound")
            if repository.gated and not api:
                return self._fail(403, "GatedRepo")
            revision = parts[5] if api and len(parts) > 5 else "main" if api else parts[3]
            commit = repository.commit(revision)
            if commit is None:
                return self._fail(404, "RevisionNotFound")
            if api:
                return self._info(name, commit, repository.files(revision))
            file = "/".join(parts[4:])
            if file not in repository.files(revision):
                return self._fail(404, "EntryNotFound")
            return self._file(file, commit, repository.files(revision)[file], headers, body)

        def _info(self, name: str, commit: str, files: dict[str, bytes]) -> None:
            answer = {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            answer["siblings"] = [{"rfilename": file} for file in sorted(files)]
            self._json(answer)

        def _json(self, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _file(self, file: str, commit: str, data: bytes, headers: dict[str, str], body: bool) -> None:
            start = int(headers["range"].split("=")[1].split("-")[0]) if "range" in headers else 0
            self.send_response(206 if "range" in headers else 200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            if "range" in headers:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            if hub.cut == file and hub.cuts > 0:
                hub.cuts -= 1
                self.wfile.write(data[start : len(data) // 2])
                self.close_connection = True
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(data[start:])

        def _fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler
