"""Units of a probing sweep, measured on activations that a test makes."""

import numpy as np

from pipelines.model_io.activations import Activations
from pipelines.probe.measure import measure
from pipelines.probe.result import UnitResult
from pipelines.sweep.protocol import FittingProtocol
from registry.checkpoints import Checkpoint

PROTOCOL = FittingProtocol(seeds=1)


def unit(statements, hidden, step=0, protocol=PROTOCOL, stage="", weights=None, revision=None):
    layers = tuple(range(len(hidden)))
    measured = measure(Activations(layers, np.stack(hidden).astype(np.float32)), statements, protocol)
    name = revision or f"{stage}step{step}"
    return UnitResult(
        digest=f"{stage}{step}", checkpoint=Checkpoint("mini", "mini", name, step, stage),
        weights_digest=weights or f"{stage}{step}", dimension="toxicity", statements_digest=statements.digest,
        statements_source="small.csv", n_layers=len(hidden), precision="float32", protocol=protocol.protocol, split="",
        scores=measured.scores, directions=measured.directions, probabilities=measured.probabilities,
        validation=measured.validation, seconds=0.0, distances=measured.distances,
    )  # fmt: skip
