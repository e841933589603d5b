"""The deployment of `compose.yaml`, as far as it can be tested without Docker; other tests run its commands."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from serving.api import metrics as served_metrics
from serving.settings import read_settings

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ENDINGS = {"counter": "_total", "histogram": "_bucket"}


def config(name: str) -> str:
    return (ROOT / COMPOSE["configs"][name]["file"]).read_text()


def test_ports_are_published_on_loopback_alone():
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert {name: ports for name, ports in published.items() if ports} == {
        "tracking": ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"],
        "service": ["127.0.0.1:${SERVICE_PORT:-3000}:3000"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3001}:3000"],
    }


def test_secrets_come_from_the_environment_and_have_no_default():
    text = (ROOT / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    secret = {name for name in used if name.endswith(("PASSWORD", "KEYS", "KEY"))}
    ours = {"TRUSTTRACE_API_KEYS", "TRUSTTRACE_ADMIN_KEY"}
    assert secret == {"POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY", *ours}
    for name in secret:
        assert set(re.findall(rf"\$\{{{name}(..)", text)) == {":?"}  # compose refuses to start without it
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line)
    assert example.keys() == used
    assert not any(example[name] for name in secret)
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert {name: value for name, value in example.items() if name not in secret} == defaults
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    for file in ("compose.yaml", ".env.example", "serving/README.md"):  # `cp` would leave it readable for everybody
        assert "install -m 600 .env.example .env" in (ROOT / file).read_text()


def test_services_tell_their_health_and_wait():
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in SERVICES.values())
    assert SERVICES["tracking"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert SERVICES["service"]["depends_on"] == {"tracking": {"condition": "service_healthy"}}
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert volumes == set(COMPOSE["volumes"])


def test_commands_exist_and_the_service_can_read_its_settings(monkeypatch):
    for name in ("tracking", "service"):
        assert shutil.which(SERVICES[name]["command"][0], path=str(Path(sys.executable).parent))
    environment = {
        key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in SERVICES["service"]["environment"].items()
    }
    environment = {key: value for key, value in environment.items() if "${" not in value}
    for name, value in {**environment, "TRUSTTRACE_API_KEYS": "a", "TRUSTTRACE_ADMIN_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.mlflow_ui == "http://127.0.0.1:5000"
    assert settings.drain < int(SERVICES["service"]["stop_grace_period"].removesuffix("s"))


def test_containers_write_nowhere_and_gain_nothing():
    for service in SERVICES.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"] and service["pids_limit"] and service["tmpfs"]
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert [name for name, service in SERVICES.items() if "cap_add" in service] == ["database"]
    home = SERVICES["service"]["environment"]["BENTOML_HOME"]
    assert home.startswith(f"{SERVICES['service']['tmpfs'][0]}/")


def test_configs_are_files_that_read_only_containers_can_mount():
    assert all(source.keys() == {"file"} for source in COMPOSE["configs"].values())
    files = {(ROOT / source["file"]).resolve() for source in COMPOSE["configs"].values()}
    assert files == set((ROOT / "serving" / "deployment").iterdir())


def test_builds_are_given_each_argument_of_their_image():
    stages = re.split(r"^FROM \S+ AS ", (ROOT / "Dockerfile").read_text(), flags=re.M)
    everywhere = set(re.findall(r"^ARG (\w+)", stages[0], re.M))
    wanted = {stage.split()[0]: everywhere | set(re.findall(r"^ARG (\w+)", stage, re.M)) for stage in stages[1:]}
    for name in ("tracking", "service"):
        assert SERVICES[name]["build"]["args"].keys() == wanted[name]
    default = re.search(r"^ARG PYTHON=(\S+)", stages[0], re.M).group(1)
    assert SERVICES["service"]["build"]["args"]["PYTHON"] == f"${{PYTHON_IMAGE:-{default}}}"


def test_images_are_held_by_their_digests():
    held = re.compile(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}")
    named = [service["image"] for service in SERVICES.values() if "image" in service]
    named += [service["build"]["args"]["PYTHON"] for service in SERVICES.values() if "build" in service]
    defaults = [re.fullmatch(r"\$\{\w+_IMAGE:-(.+)\}", name).group(1) for name in named]
    assert len(defaults) == len(SERVICES) and all(held.fullmatch(name) for name in defaults)
    assert set(re.findall(r"(?<==)\S+@sha256:\w+", (ROOT / ".env.example").read_text())) == set(defaults)


def test_images_install_what_is_pinned_and_locked_here():
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", dockerfile, re.M))
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == built | {"base"}
    extractions = re.findall(r"sed -n '([^']+)' (\S+)", dockerfile)
    pip, tracking = [
        subprocess.run(["sed", "-n", program, ROOT / file], capture_output=True, text=True, check=True).stdout
        for program, file in extractions
    ]
    conda = re.findall(r"^      - (\S+)$", (ROOT / "conda.yaml").read_text(), re.M)
    assert tracking.split() == [line for line in conda if line.startswith("mlflow==")]
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["server"]
    assert all(pin in (ROOT / "serving" / "README.md").read_text() for pin in (*tracking.split(), *server))
    assert re.match(r"pip==[\d.]+ \\\n    --hash=sha256:", pip) and not pip.rstrip().endswith("\\")
    assert re.findall(r"pip install (.+?)(?: \\)?$", dockerfile, re.M) == [
        "-r pip.txt",
        "-c requirements.lock -r requirements.txt --group server",
    ]
    assert "\nRUN .ci/install\n" in dockerfile.split("AS service")[1]
    python = re.search(r"^ARG PYTHON=python:([\d.]+)", dockerfile, re.M).group(1)
    assert f"- python={python}\n" in (ROOT / "conda.yaml").read_text()


def test_what_images_copy_is_let_through_to_them():
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    paths = {path for line in copied for path in line.split()}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert paths == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / path).exists() for path in paths)


def metric_names(text):
    return set(re.findall(r"trusttrace_\w+", text))


def test_the_dashboard_shows_every_metric_of_the_service():
    dashboard = json.loads(config("dashboard"))
    shown = metric_names(" ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]))
    metrics = [metric for metric in vars(served_metrics).values() if isinstance(metric, MetricWrapperBase)]
    described = [metric.describe()[0] for metric in metrics]
    exposed = {f"{metric.name}{ENDINGS.get(metric.type, '')}" for metric in described}
    assert len(exposed) > 10 and shown == exposed
    readme = (ROOT / "serving" / "README.md").read_text()
    listed = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `trusttrace_")]
    assert {name.removesuffix("_bucket") for name in shown} == metric_names(" ".join(listed))


def test_grafana_and_prometheus_are_wired_and_grafana_has_no_account():
    scraped = yaml.safe_load(config("prometheus"))["scrape_configs"][0]["static_configs"][0]["targets"]
    assert scraped == ["service:3000"] and "--port=3000" in SERVICES["service"]["command"]
    (source,) = yaml.safe_load(config("datasource"))["datasources"]
    dashboard = json.loads(config("dashboard"))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load(config("dashboards"))["providers"]
    mounted = {config["source"]: config["target"] for config in SERVICES["grafana"]["configs"]}
    assert Path(mounted["dashboard"]).parent.as_posix() == provider["options"]["path"]
    assert mounted.keys() | {"prometheus", "accounts"} == COMPOSE["configs"].keys()
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert all(SERVICES[name]["profiles"] == ["monitoring"] for name in ("prometheus", "grafana"))
