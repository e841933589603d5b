"""Servers that tests start on loopback: PostgreSQL from Debian's packages, and `mlflow server` on either database."""

import base64
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import yaml

ROOT = Path(__file__).parents[1]
ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(8)}
"""What clients of a server on PostgreSQL log in by; a server on SQLite asks for nothing."""
SEPARATE = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def webhooks() -> dict[str, str]:
    """Settings by which `mlflow server` calls a service on this machine, at once."""
    return {
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL with an empty database ``mlflow``."""

    port: int
    password: str
    uri: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password}


def postgresql_programs() -> Path | None:
    """The directory of PostgreSQL's programs; Debian keeps them off the path."""
    directories = [Path(program).parent for program in filter(None, [shutil.which("initdb")])]
    directories += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return next((directory for directory in reversed(directories) if (directory / "initdb").is_file()), None)


@contextmanager
def postgresql(programs: Path) -> Iterator[Database]:
    """A cluster of its own in a temporary directory. PostgreSQL refuses root, so root starts it as another user."""
    root = Path(tempfile.mkdtemp(prefix="trusttrace-postgresql-"))
    port, password = free_port(), secrets.token_hex(8)
    (root / "password").write_text(password)
    unprivileged: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        unprivileged = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        for path in (root, root / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    initdb = [programs / "initdb", "-D", root / "data", "--username=mlflow", f"--pwfile={root / 'password'}"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    start = [programs / "postgres", "-D", root / "data", "-p", str(port), "-c", "fsync=off"]
    start += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    created = [programs / "createdb", "--host=127.0.0.1", f"--port={port}", "--username=mlflow", "mlflow"]
    try:
        subprocess.run([*unprivileged, *initdb], check=True, capture_output=True, cwd="/")
        with started([*unprivileged, *start], root / "log", {}, signal.SIGINT) as server:
            database = Database(port, password, f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow")
            wait_for(lambda: _listens(port), server, root / "log")
            subprocess.run(created, check=True, capture_output=True, env={**os.environ, **database.environment})
            yield database
    finally:
        shutil.rmtree(root)


@contextmanager
def mlflow_server(
    root: Path,
    database: str | Database,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    workers: int = 2,
) -> Iterator[str]:
    """`mlflow server` with proxied artifacts in ``root``, on PostgreSQL as ``compose.yaml`` has it; yields its URI.

    While one on PostgreSQL runs, this process and those that it starts log in as its administrator. On SQLite it has
    one worker.
    """
    port, environment = port or free_port(), {**SEPARATE, **(settings or {})}
    if isinstance(database, Database):
        environment |= database.environment
        there = {"0.0.0.0": "127.0.0.1", "=5000": f"={port}", "=/artifacts": f"={root / 'artifacts'}"}
        there |= {"database:5432": f"127.0.0.1:{database.port}", "--workers=2": f"--workers={workers}"}
        command = composed("tracking", there)
        environment |= accounts(root, there)
    else:
        command = ["mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
        command += [f"--backend-store-uri={database}", f"--artifacts-destination={root / 'artifacts'}"]
    login = patch.dict(os.environ, ADMIN if isinstance(database, Database) else {})
    with login, started([sys.executable, "-m", *command], root / "log", environment) as server:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), server, root / "log")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def tracking_server(root: Path, *, settings: Mapping[str, str] | None = None, workers: int = 2) -> Iterator[str]:
    """`mlflow server`, on PostgreSQL where this machine has it."""
    programs = postgresql_programs()
    with ExitStack() as ends:
        database = ends.enter_context(postgresql(programs)) if programs else f"sqlite:///{root / 'mlflow.db'}"
        yield ends.enter_context(mlflow_server(root, database, settings=settings, workers=workers))


def accounts(root: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """The login of ``compose.yaml``'s tracking server, with its settings in ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    content = (ROOT / yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]["accounts"]["file"]).read_text()
    for old, new in changes.items():
        content = content.replace(old, new)
    (root / "auth.ini").write_text(content)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(root / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }


def composed(service: str, changes: Mapping[str, str]) -> list[str]:
    """The command that ``compose.yaml`` starts a service by, with hosts, ports and places changed."""
    command = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]["command"]
    for old, new in changes.items():
        command = [word.replace(old, new) for word in command]
    return command


@contextmanager
def started(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str], ending: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group that is ended when done."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            cwd=log.parent if os.access(log.parent, os.W_OK) else "/",
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, ending)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return int(reply.status) == 200
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], bool], server: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    """Raises ``RuntimeError`` with the end of the log when the server has ended, or does not answer in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.1)
