"""A hub on this machine: repositories of directories over HTTP, with every request noted and faults on demand."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin")
REPO = "org/mini"
STEPS = (0, 1, 10, 100)


@dataclass
class Fault:
    """What happens to the next requests whose line matches."""

    match: str
    times: int = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Bytes after which the connection is closed."""
    corrupt: bool = False
    page: bool = False
    """Whether a page of HTML is the answer, as of a network that wants a login."""
    body: bytes | None = None
    """What is answered in the place of what is asked for, with ``headers``."""
    delay: float = 0.0


@dataclass
class Hub:
    """Repositories by id, each with its revisions' directories."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    """Commits by tag, of every repository."""
    tokens: set[str] = field(default_factory=set)
    """What requests said in ``Authorization``."""
    page_size: int = 1000
    """Files in one page of a listing."""
    links_to: str = ""
    """The host that links to further pages name; this one where it is empty."""
    storage: str = ""
    """The host that large files are redirected to."""
    prefix: str = ""
    """Of all paths, as a mirror behind a gateway has."""
    moved: dict[str, str] = field(default_factory=dict)
    """New ids of repositories by their old ones."""
    misplaced: bool = False
    """Whether files come with a commit that was not asked for."""

    def directory(self, repo: str, revision: str) -> Path | None:
        revisions = self.repositories[repo]
        by_commit = {commit_of(path): path for path in revisions.values()}
        return revisions.get(revision) or by_commit.get(revision)

    def fault(self, line: str) -> Fault:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.match, line):
                fault.times -= 1
                return fault
        return Fault("")

    def counted(self, match: str) -> int:
        return sum(bool(re.search(match, line)) for line in self.requests)


@cache
def content_of(path: Path, _modified: int) -> tuple[bytes, str, str]:
    """A file's bytes, its SHA-256 and its git digest."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return content, hashlib.sha256(content).hexdigest(), git


def files_of(directory: Path) -> dict[str, tuple[bytes, str, str]]:
    return {
        str(path.relative_to(directory)): content_of(path, path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def commit_of(directory: Path) -> str:
    named = (f"{directory} {name} {sha256}" for name, (_, sha256, _) in files_of(directory).items())
    return hashlib.sha1("\n".join(named).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does to listings of revisions and files, and to files."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    cut: int | None = None

    def log_message(self, *_: Any) -> None:
        """The hub notes its requests itself."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        line = f"{self.command} {path}"
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        if not path.startswith(self.hub.prefix):
            return self.refuse(404, {})
        path = path.removeprefix(self.hub.prefix)
        for old, new in self.hub.moved.items():
            if f"/{old}/" in path:
                return self.refuse(307, {"Location": self.path.replace(old, new)})
        self.hub.requests.append(line)
        fault = self.hub.fault(line)
        self.cut = fault.cut
        threading.Event().wait(fault.delay)  # tests take the waits out of `time`
        if fault.status:
            self.refuse(fault.status, dict(fault.headers))
        elif fault.body is not None:
            self.answer(fault.body, fault.headers)
        elif fault.page:
            self.answer(b"<html>log in</html>", {"Content-Type": "text/html"})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(refs|tree/(.+))", path):
            self.list(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.give(*match.groups(), fault)
        else:
            self.refuse(404, {})

    def list(self, repo: str, what: str, revision: str | None) -> None:
        if repo not in self.hub.repositories:
            return self.refuse(401, {"X-Error-Code": "RepoNotFound"})
        if what == "refs":
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(path)}
                for name, path in self.hub.repositories[repo].items()
            ]
            tags = [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
                for name, commit in self.hub.tags.items()
            ]
            return self.answer_json({"branches": refs, "converts": [], "tags": tags})
        directory = self.hub.directory(repo, str(revision))
        if directory is None:
            return self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
        entries = []
        for name, (content, sha256, git) in files_of(directory).items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git}
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        begin = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        end = begin + self.hub.page_size
        further = f"{self.hub.links_to or self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={end}"
        links = {"link": f'<{further}>; rel="next"'} if end < len(entries) else {}
        return self.answer_json(entries[begin:end], links)

    def give(self, repo: str, revision: str, name: str, fault: Fault) -> None:
        if repo in self.hub.gated:
            return self.refuse(403, {"X-Error-Code": "GatedRepo"})
        directory = self.hub.directory(repo, revision)
        if directory is None or name not in files_of(directory):
            return self.refuse(404, {"X-Error-Code": "EntryNotFound" if directory else "RevisionNotFound"})
        content, sha256, git = files_of(directory)[name]
        commit = "0" * 40 if self.hub.misplaced else commit_of(directory)
        headers = {"ETag": f'"{sha256 if name.endswith(LARGE) else git}"', "X-Repo-Commit": commit}
        if self.hub.storage and name.endswith(LARGE):
            linked = {"X-Linked-Etag": headers.pop("ETag"), "X-Linked-Size": str(len(content))}
            return self.answer(b"", {**headers, **linked, "Location": f"{self.hub.storage}{self.path}"}, status=302)
        if fault.corrupt:
            middle = len(content) // 2
            flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
            content = content[:middle] + flipped + content[middle + 64 :]
        return self.answer(content, headers)

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        self.answer(b"{}", headers, status=status)

    def answer_json(self, content: object, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.answer(json.dumps(content).encode(), {"Content-Type": "application/json", **headers})

    def answer(self, content: bytes, headers: Mapping[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: self.cut])
        self.close_connection = self.close_connection or self.cut is not None


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
