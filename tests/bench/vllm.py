"""The engine over vLLM beside the slot engine, measured by a Python that has vLLM, where there is one."""

import json
import os
import subprocess
from pathlib import Path

from serving.waiting import BRIEF_SPINS
from tests.bench.table import Comparison

PYTHON = Path(os.environ.get("TRUSTTRACE_VLLM_PYTHON", ".venv-vllm/bin/python"))
ROOT = Path(__file__).parents[2]
AS_SERVED = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(BRIEF_SPINS)}


def compare_vllm(model_name: str, rounds: int) -> list[Comparison]:
    """Nothing, and a line that says so, where vLLM is not installed."""
    if not PYTHON.exists():
        print(f"vllm: {PYTHON} does not exist; `make test-vllm` installs it")
        return []
    command = [PYTHON.absolute(), "-m", "tests.bench.vllm_worker", "--model", model_name, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, env=AS_SERVED, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise RuntimeError(f"vLLM's worker failed: {done.stderr[-500:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    rates, label = measured["rates"], f"vLLM {measured['version']}"
    rows = []
    for setting, what, wanted in (
        ("serial", "one request at a time", 1.5),
        ("none", "16 at once, unsteered", 1.6),
        ("five", "16 at once, five dimensions", 1.6),
        ("many", "16 at once, each with a setting of its own", 1.6),
    ):
        ours, theirs = rates[f"slots {setting}"], rates[f"vllm {setting}"]
        whose = f"{what}, `{model_name}`, as the service runs it"
        against = f"{theirs:.0f} by {label} in bfloat16"
        row = Comparison(f"vllm/{setting}", whose, f"{ours:.0f} tokens/s", against, ours / theirs, "x", at_least=wanted)
        rows.append(row)
    cost = 100 * (rates["vllm none"] / rates["vllm five"] - 1)
    rows.append(
        Comparison(
            "vllm/steering",
            f"steering all five dimensions in {label}, 16 at once",
            f"{rates['vllm five']:.0f} tokens/s",
            f"{rates['vllm none']:.0f} unsteered",
            cost,
            "%",
        )
    )
    return rows
