"""What a large series costs: unit costs measured here, and the plan that follows from them.

    python -m tests.bench.units

Measured: a layer's probes and direction at ``D_MODEL``, a unit's stored result, its activations, its log in MLflow.
Computed, and marked so: the forward pass, from its operations at a stated rate, and the download at a stated rate.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import torch

from pipelines.model_io.activations import Activations
from pipelines.probe.controls import measure_floors
from pipelines.probe.measure import ProbeMeasurement, measure
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from registry.checkpoints import Checkpoint

D_MODEL, LAYERS, PARAMETERS = 4096, 32, 6.7e9
MEASURED = 8
"""Layers, at once on as many cores as there are: the others take as long."""
CHECKPOINTS, DIMENSIONS = 360, 5
STATEMENTS, TOKENS = 1200, 16
"""Of a dimension, about the mean of the packaged ones; and of a statement."""
BYTES_PER_PARAMETER = 2
PEAK, UTILISATION = 989e12, 0.3
"""Dense bfloat16 operations a second of an H100 SXM as its data sheet has it, and the share assumed to be reached."""
DOWNLOAD = 1e9 / 8
"""Bytes a second to one machine: yours will differ."""


@dataclass(frozen=True)
class UnitCosts:
    """One checkpoint on one dimension, in seconds and bytes."""

    probe: float
    log: float
    result: int
    activations: int

    @property
    def forward(self) -> float:
        return 2 * PARAMETERS * STATEMENTS * TOKENS / (PEAK * UTILISATION)


def statements(n: int) -> LabelledStatements:
    labels = np.arange(n) % 2 == 0
    texts = tuple(f"statement {number // 2} is {'kind' if label else 'cruel'}" for number, label in enumerate(labels))
    return LabelledStatements("toxicity", texts, labels, np.arange(n) // 2, "bench")


def activations(labels: np.ndarray, d_model: int, layers: int = 1) -> Activations:
    """Layers alike: a falling spectrum as a residual stream has, and labels that one axis partly tells."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(labels), d_model)) * np.arange(1, d_model + 1) ** -0.5
    states[:, 3] += labels
    turned = states @ np.linalg.qr(rng.normal(size=(d_model, d_model)))[0]
    return Activations(tuple(range(layers)), np.repeat(turned.astype(np.float32)[None], layers, axis=0))


def measure_costs(n: int, d_model: int, device: str) -> UnitCosts:
    given, protocol = statements(n), FittingProtocol()
    read = activations(given.labels, d_model, MEASURED)
    split_statements(given, protocol)  # once for a whole series
    began = time.perf_counter()
    measure(read, given, protocol, device=device)
    probe = (time.perf_counter() - began) * LAYERS / MEASURED
    result = unit_result(given, measure(activations(given.labels, d_model), given, protocol, device=device))
    with tempfile.TemporaryDirectory() as directory:
        stored = ResultStore(Path(directory)).save(result).stat().st_size
        log = log_seconds(result, given, protocol, directory)
    return UnitCosts(probe, log, stored, 4 * LAYERS * n * d_model)


def unit_result(given: LabelledStatements, measured: ProbeMeasurement) -> UnitResult:
    """A whole unit's result, of one measured layer."""
    scores = tuple(
        type(score)(**{**vars(score), "layer": layer}) for layer in range(LAYERS) for score in measured.scores
    )
    directions = tuple(
        type(direction)(**{**vars(direction), "layer": layer})
        for layer in range(LAYERS)
        for direction in measured.directions
    )
    return UnitResult(
        digest="0" * 32,
        checkpoint=Checkpoint("bench", "bench/7b", "step1", 1),
        weights_digest="0" * 64,
        dimension=given.dimension,
        statements_digest=given.digest,
        statements_source=given.source,
        n_layers=LAYERS,
        precision="bfloat16",
        protocol="sound",
        split="",
        scores=scores,
        directions=directions,
        probabilities=np.repeat(measured.probabilities, LAYERS, axis=1),
        validation=np.repeat(measured.validation, LAYERS, axis=1),
        seconds=0.0,
    )


def log_seconds(result: UnitResult, given: LabelledStatements, protocol: FittingProtocol, directory: str) -> float:
    """A unit's run, metrics, checkpoint and one registered vector on SQLite: the second, when tables are made."""
    import mlflow

    from pipelines.probe.tracking import UnitLog
    from pipelines.tracking.runs import entry_point_run

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{directory}/mlflow.db"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    floors = measure_floors(given, protocol)
    working = Path.cwd()
    os.chdir(directory)
    try:
        with entry_point_run("bench", {}) as run:
            log = UnitLog(run)
            for number in range(2):
                unit = type(result)(**{**vars(result), "digest": f"{number:032d}"})
                began = time.perf_counter()
                log.add(unit, given, floors, unit, (LAYERS - 1,))
                took = time.perf_counter() - began
    finally:
        os.chdir(working)
    return took


def plan(costs: UnitCosts, probe_on: str) -> str:
    """The table of the README: what 360 checkpoints of 7B cost on 1 and on 64 GPUs."""
    units = CHECKPOINTS * DIMENSIONS
    weights = PARAMETERS * BYTES_PER_PARAMETER
    download = weights / DOWNLOAD
    at = f"{UTILISATION:.0%} of {PEAK / 1e12:.0f} TFLOP/s"
    fetched = f"{weights / 1e9:.1f} GB; {download:.0f} s at 1 Gbit/s"
    rows = [
        ("download, a checkpoint", fetched, "computed", download, CHECKPOINTS),
        ("forward, a unit", f"{costs.forward:.1f} s at {at}", "computed", costs.forward, units),
        (f"probes of {LAYERS} layers, a unit", f"{costs.probe:.0f} s on {probe_on}", "measured", costs.probe, units),
        ("log and register, a unit", f"{costs.log:.2f} s", "measured", costs.log, units),
    ]
    lines = ["| part | cost | | whole sweep, 1 GPU | 64 GPUs |", "|---|---|---|---|---|"]
    for name, cost, how, seconds, times in rows:
        total = seconds * times
        shared = total if name.startswith("log") else total / 64
        lines.append(f"| {name} | {cost} | {how} | {hours(total)} | {hours(shared)} |")
    kept = f"{costs.result * units / 1e9:.1f} GB"
    lines.append(f"| stored result, a unit | {costs.result / 1e6:.2f} MB | measured | {kept} | the same |")
    lines.append(
        f"| activations, a unit, while it is measured | {costs.activations / 1e6:.0f} MB | by their shape | "
        f"{costs.activations / 1e9:.1f} GB; all kept {costs.activations * units / 1e12:.2f} TB | "
        f"{64 * costs.activations / 1e9:.0f} GB |"
    )
    return "\n".join(lines)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 600 else f"{seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.units", description=__doc__)
    parser.add_argument("--n", type=int, default=STATEMENTS)
    parser.add_argument("--d-model", type=int, default=D_MODEL)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    if given.device.startswith("cuda"):
        measure_costs(200, 64, given.device)  # start the device
        where = torch.cuda.get_device_name()
    else:
        where = f"{torch.get_num_threads()} CPU threads"
    costs = measure_costs(given.n, given.d_model, given.device)
    print(f"n {given.n}, d_model {given.d_model}, {costs.probe / LAYERS:.2f} s a layer on {where}")
    print(plan(costs, where))


if __name__ == "__main__":
    main()
