"""Containers: both images and `compose.yaml`, built and started as the README has an operator do it.

Skipped where no Docker with Compose runs. `PYTHON_IMAGE` and `POSTGRES_IMAGE` name other base images, such as a
mirror's.
"""

import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.version_tags import named_tags
from tests.servers import ROOT, free_port

SERVICES = ("database", "tracking", "service")
COMMIT = "c0ffee" * 6 + "c0ff"
STEERED = {"prompt": "The city of Lyon", "temperature": 0, "steering": {"strengths": {"toxicity": 1.5}}}
CLIENTS, LOAD_SECONDS = 24, 60


@dataclass(frozen=True)
class Containers:
    """A project of Compose with passwords, keys, ports and volumes of its own."""

    name: str
    environment: Path
    values: dict[str, str]

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", "-p", self.name, "--env-file", str(self.environment), *arguments]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if check and finished.returncode:
            logs = self.compose("logs", "--tail", "30", check=False).stdout
            pytest.fail(f"{' '.join(command)}\n{finished.stdout[-2000:]}{finished.stderr[-3000:]}\n{logs[-6000:]}")
        return finished

    def start(self, *arguments: str) -> None:
        self.compose("up", "--detach", "--wait", "--wait-timeout", "1500", *arguments)

    def state(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        told = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        return dict(json.loads(told.stdout)[0])

    def client(self, key: str = "TRUSTTRACE_API_KEYS") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.values[key]}"} if key else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.values['SERVICE_PORT']}", headers=headers, timeout=300)

    def mlflow(self, path: str, password: str | None = None) -> httpx.Response:
        url = f"http://127.0.0.1:{self.values['MLFLOW_PORT']}/{path}"
        return httpx.get(url, auth=None if password is None else ("admin", password), timeout=60)

    def versions(self) -> dict[str, str]:
        """The commit of each registered version, by name and number."""
        path = "api/2.0/mlflow/model-versions/search?max_results=100"
        registered = self.mlflow(path, self.values["MLFLOW_ADMIN_PASSWORD"]).json()["model_versions"]
        return {f"{version['name']}/{version['version']}": commit_of(version.get("tags", [])) for version in registered}


def commit_of(tags: list[dict[str, str]]) -> str:
    return named_tags({tag["key"]: tag["value"] for tag in tags}).get("code_commit", "")


def missing() -> str:
    """Why containers cannot be started here."""
    if shutil.which("docker") is None:
        return "there is no docker here"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode:
            return (
                f"`{' '.join(command)}` fails here: {(tried.stderr.strip() or tried.stdout.strip()).splitlines()[-1]}"
            )
    return ""


def env_file(path: Path) -> dict[str, str]:
    """`.env.example`, filled as it says, on ports that are free; what the environment names wins, as in Compose."""
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line)
    empty = ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY", "TRUSTTRACE_API_KEYS")
    values = example | {name: secrets.token_hex(24) for name in (*empty, "TRUSTTRACE_ADMIN_KEY")}
    values |= {name: os.environ[name] for name in values.keys() & os.environ.keys()}
    values |= {name: str(free_port()) for name in ("MLFLOW_PORT", "SERVICE_PORT", "GRAFANA_PORT")}
    values["TRUSTTRACE_COMMIT"] = COMMIT
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return values


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    environment = tmp_path_factory.mktemp("containers") / "env"
    project = Containers(f"trusttrace-{secrets.token_hex(4)}", environment, env_file(environment))
    try:
        project.start("--build")
        yield project
    finally:
        project.compose("down", "--volumes", "--rmi", "local", "--timeout", "60", check=False)


@pytest.mark.parametrize("container", SERVICES)
def test_a_container_has_no_rights_and_a_read_only_root(containers, container):
    state = containers.state(container)
    assert state["State"]["Health"]["Status"] == "healthy"
    assert state["HostConfig"]["Memory"] and state["HostConfig"]["PidsLimit"]
    told = containers.compose("exec", "-T", container, "cat", "/proc/1/status").stdout
    status = {line.partition(":")[0]: line.partition(":")[2].split() for line in told.splitlines()}
    assert int(status["CapEff"][0], 16) == 0 and status["NoNewPrivs"] == ["1"]
    assert "0" not in status["Uid"]
    for folder, writable in (("/etc", False), ("/usr/local", False), ("/tmp", True)):
        tried = containers.compose("exec", "-T", container, "touch", f"{folder}/probe", check=False)
        assert (tried.returncode == 0) is writable, folder


def test_mlflow_lets_nobody_in_without_a_password(containers):
    path = "api/2.0/mlflow/experiments/search?max_results=1"
    assert [containers.mlflow(path, password).status_code for password in (None, "password1234")] == [401, 401]
    reply = containers.mlflow(path, containers.values["MLFLOW_ADMIN_PASSWORD"])
    assert reply.json()["experiments"][0]["artifact_location"].startswith("mlflow-artifacts:")


def test_the_service_steers_for_a_key_alone(containers):
    with containers.client("") as stranger:
        assert stranger.post("/v1/completions", json=STEERED).status_code == 401
        assert "trusttrace_ready 1.0" in stranger.get("/metrics").text
    with containers.client() as client:
        (applied,) = client.post("/v1/completions", json=STEERED | {"max_tokens": 8}).json()["steering"]["applied"]
        assert (applied["vector"], applied["strength"]) == ("steer.smollm2.toxicity", 1.5)
        assert client.get("/readyz").json()["pack"]["state"] == "imported"


def test_an_experiment_in_a_container_records_its_commit(containers):
    before = containers.versions()
    assert before["steer.smollm2.toxicity/1"] not in ("", COMMIT)  # the pack was made elsewhere
    arguments = ["--model", "smollm2", "--dimensions", "toxicity", "--limit", "80", "--methods", "mass-mean"]
    arguments += ["--layers", "12", "--seeds", "1", "--controls", "1"]
    told = containers.compose("run", "--rm", "-T", "service", "python", "-m", "pipelines.vectors", *arguments).stdout
    made = {name: commit for name, commit in containers.versions().items() if name not in before}
    assert set(made.values()) == {COMMIT} and "steer.smollm2.toxicity/2" in made
    assert f"http://127.0.0.1:{containers.values['MLFLOW_PORT']}/#/models/steer.smollm2.toxicity/versions/2" in told
    assert "http://tracking:5000" not in told


def test_memory_stays_below_its_limit_under_load(containers, say):
    statuses: Counter[int] = Counter()
    end = time.monotonic() + LOAD_SECONDS

    def ask_again_and_again(number: int) -> None:
        with containers.client() as client:
            turn = 0
            while time.monotonic() < end:
                turn += 1
                prompt = f"{number} {turn} " + "The city of Lyon lies on a river. " * 16
                statuses[client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 32}).status_code] += 1

    threads = [threading.Thread(target=ask_again_and_again, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = containers.state("service")
    command = ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", state["Id"]]
    used = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    say(f"{sum(statuses.values())} requests of {CLIENTS} clients: {dict(statuses)}; memory {used}")
    assert set(statuses) == {200}
    assert not state["State"]["OOMKilled"] and state["RestartCount"] == 0


def test_a_stop_ends_answers_within_the_drain(containers, say):
    body = STEERED | {"max_tokens": 2000, "ignore_eos": True, "stream": True}
    with containers.client() as client, client.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        began = time.monotonic()
        stopping = threading.Thread(target=containers.compose, args=("stop", "service"))
        stopping.start()
        last = [line for line in lines if line.startswith("data: ")][-1]
        stopping.join()
    seconds = time.monotonic() - began
    state = containers.state("service")["State"]
    say(f"stopped after {seconds:.1f} s, exit code {state['ExitCode']}; the stream's end: {last[:80]}")
    assert last == "data: [DONE]" or "shutting down" in last
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert seconds < 45  # stop_grace_period, after which Docker kills


def test_volumes_outlive_their_containers(containers):
    before = containers.versions()
    containers.compose("down")
    containers.start()
    assert containers.versions() == before
    with containers.client() as client:
        assert client.get("/readyz").json()["pack"]["state"] == "not needed"
        assert client.post("/v1/completions", json=STEERED | {"max_tokens": 8}).json()["steering"]["applied"]
