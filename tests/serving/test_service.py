"""The BentoML service as it is put together, in a process of its own, since its module reads the environment."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.forked import run_forked
from tests.hangups import hangups
from tests.servers import free_port
from tests.serving.conftest import ROOT, Service


def print_middleware(environment):
    os.environ.update(environment)
    from serving.service import SteeringService

    for layer in SteeringService.to_asgi().user_middleware:
        print(layer.cls.__module__, layer.cls.__qualname__)


def layers(deployment, tmp_path, **environment):
    given = {**deployment.environment, "BENTOML_HOME": str(tmp_path), **environment}
    ended = run_forked(lambda: print_middleware(given))
    assert ended.returncode == 0, ended.output
    return ended.output.splitlines()


def test_requests_pass_no_timer_and_no_idle_tracer(deployment, tmp_path):
    """BentoML's timers are never cancelled, and each holds all of its request; ours end with the answer."""
    found = layers(deployment, tmp_path)
    assert "serving.api.middleware ServiceMiddleware" in found
    assert found.count("serving.service PassThrough") == 2
    assert not [name for name in found if "Timeout" in name or "OpenTelemetry" in name]


def test_a_tracer_that_is_configured_stays(deployment, tmp_path):
    options = "tracing.exporter_type=in_memory tracing.sample_rate=1.0"
    found = layers(deployment, tmp_path, BENTOML_CONFIG_OPTIONS=options)
    assert [name for name in found if "OpenTelemetry" in name]


SMALL_FILES = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""
STARTING = """
import click, sys
with click.Context(click.Command("serve"), info_name="serve") as context:
    context.params = {"host": "127.0.0.1", "port": int(sys.argv[1])}
    import serving.service
print({"torch", "transformers", "mlflow", "pandas"} & set(sys.modules))
"""


def launched(deployment, tmp_path, port=None, **environment):
    """What the process that starts workers prints, before it starts any."""
    given = {**os.environ, **deployment.environment, "BENTOML_HOME": str(tmp_path), **environment}
    command = [sys.executable, "-c", STARTING, str(free_port() if port is None else port)]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)


def test_a_wrong_setting_is_one_sentence(deployment, tmp_path):
    done = launched(deployment, tmp_path, TRUSTTRACE_SLOTS="many")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("TRUSTTRACE_SLOTS is 'many': it must be a whole number")


def test_the_process_that_starts_workers_loads_no_model_library(deployment, tmp_path):
    assert launched(deployment, tmp_path).stdout == "set()\n"


def test_port_zero_is_refused_before_a_start(deployment, tmp_path):
    done = launched(deployment, tmp_path, 0)
    assert done.returncode == 1 and done.stderr.startswith("there is no port 0; choose one")


def test_the_port_that_is_named_nowhere_is_looked_at_too(deployment, tmp_path):
    """Whoever names no port, or names it to BentoML alone, is told so too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = f"api_server.http.port={taken.getsockname()[1]}"
        script = STARTING.replace('"port": int(sys.argv[1])', '"port": None')
        environment = {**os.environ, **deployment.environment, "BENTOML_CONFIG_OPTIONS": options}
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "is not free (Address already in use)" in done.stderr


def test_a_folder_for_temporary_files_without_room_is_one_sentence(deployment, tmp_path, monkeypatch):
    """By a limit on the size of files, which a full disk is like."""
    limited = STARTING.replace("import click, sys", "import click, resource, signal, sys\n" + SMALL_FILES)
    monkeypatch.setitem(globals(), "STARTING", limited)
    done = launched(deployment, tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"{tmp_path} has no room for 960 KiB of metrics (File too large); free some there")
    assert not list(tmp_path.glob("trusttrace-*"))


@pytest.fixture
def own_service(deployment, tmp_path):
    (tmp_path / "own").mkdir()
    with hangups(signal.SIG_DFL):
        running = Service(deployment, tmp_path / "log", TMPDIR=str(tmp_path / "own"))
    running.await_ready()
    yield running
    running.stop()
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert any(line["message"].startswith("Starting production") for line in lines)


def children(process):
    of_threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for file in of_threads for child in file.read_text().split()]


def until(holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_workers_whose_launcher_was_killed_end_too(own_service, tmp_path):
    workers = children(own_service.process)
    assert len(workers) == 1 and list((tmp_path / "own").glob("trusttrace-*"))
    own_service.process.kill()
    own_service.process.wait()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert not list((tmp_path / "own").glob("trusttrace-*"))


def test_the_port_is_closed_while_answers_end(own_service):
    """Whoever comes then is refused at once, and may ask another service."""
    long = {"prompt": "a", "max_tokens": 400, "ignore_eos": True, "stream": True, "n": 8}
    with httpx.stream("POST", f"{own_service.url}/v1/completions", json=long, timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        own_service.process.terminate()
        until(lambda: own_service.readiness() == 0, 5)
        assert sum('"finish_reason": "length"' in line or '"finish_reason":"length"' in line for line in lines) == 8
    assert own_service.process.wait(60) == 0


def test_a_closed_terminal_ends_the_service(own_service):
    workers = children(own_service.process)
    own_service.process.send_signal(signal.SIGHUP)
    assert own_service.process.wait(60) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
