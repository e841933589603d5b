"""The BentoML service as it is put together, in a process of its own, since its module reads the environment."""

import os
import subprocess
import sys

from tests.serving.conftest import ROOT

MIDDLEWARE = """
from serving.service import SteeringService, NoTimeLimit
for one in SteeringService.to_asgi().user_middleware:
    print(one.cls.__module__, one.cls.__qualname__)
"""


def test_no_request_is_kept_in_memory(deployment, tmp_path):
    """Its timers are never cancelled, and each holds all of its request; ours end with the answer."""
    environment = {**os.environ, **deployment.environment, "BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", MIDDLEWARE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found = done.stdout.splitlines()
    assert "serving.service NoTimeLimit" in found
    assert "serving.api.middleware ServiceMiddleware" in found
    assert not [name for name in found if "bentoml" in name and "Timeout" in name]


STARTING = """
import click, sys
with click.Context(click.Command("serve"), info_name="serve"):
    import serving.service
print({"torch", "transformers", "mlflow", "pandas"} & set(sys.modules))
"""


def test_the_process_that_starts_workers_loads_no_model_library(deployment, tmp_path):
    environment = {**os.environ, **deployment.environment, "BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STARTING], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
