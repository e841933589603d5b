"""The BentoML service as it is put together, in a process of its own, since its module reads the environment."""

import os
import subprocess
import sys

from tests.forked import run_forked
from tests.serving.conftest import ROOT


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


STARTING = """
import click, sys
with click.Context(click.Command("serve"), info_name="serve"):
    import serving.service
print({"torch", "transformers", "mlflow", "pandas"} & set(sys.modules))
"""


def test_a_wrong_setting_is_one_sentence(deployment, tmp_path):
    environment = {**os.environ, **deployment.environment, "BENTOML_HOME": str(tmp_path), "TRUSTTRACE_SLOTS": "many"}
    done = subprocess.run([sys.executable, "-c", STARTING], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("TRUSTTRACE_SLOTS is 'many': it must be a valid integer")


def test_the_process_that_starts_workers_loads_no_model_library(deployment, tmp_path):
    environment = {**os.environ, **deployment.environment, "BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STARTING], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
