"""A pack of the deployment's champions, as one that a service ships."""

from dataclasses import replace
from pathlib import Path

from registry.calibration import Calibration, HeldOutEffect
from registry.examples import Example
from registry.pack_exchange import packed_vectors
from registry.pack_folder import StoredPack, write_pack
from registry.packs import Pack, PackedModel
from registry.store import VectorStore
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.compatibility import ModelFacts
from tests.serving.conftest import Deployment, tracked_at

EXAMPLE = Example("You are", False, 6.0, 24, " a fool", " kind", tried=8)
WORKS = HeldOutEffect(True, 6.0, "toxic continuations", 0.12, 0.05, 0.35, 120, 0.02, 1.04, unsteered=0.3)
FAILS = HeldOutEffect(False, 2.0, "preference", 0.01, -0.02, 0.04, 60, 0.03, 1.01)


def facts(deployment: Deployment) -> ModelFacts:
    checkpoint = find_series(str(deployment.model), name=deployment.name).checkpoints[-1]
    return load(checkpoint, precision="float32", device="cpu").facts


def shipped(deployment: Deployment, directory: Path) -> StoredPack:
    """Toxicity works and has an example; fairness does not work."""
    model = facts(deployment)
    checkpoint = model.checkpoint
    where = (model.name, checkpoint.model, checkpoint.revision, checkpoint.step, model.weights_digest)
    with tracked_at(deployment.tracking_uri):
        versions = [VectorStore().resolve(f"steer.mini.{name}@champion") for name in ("fairness", "toxicity")]
        pack = packed_vectors(PackedModel(*where, model.d_model, model.n_layers, "llama"), versions, {})
    fairness, toxicity = pack.vectors
    calibrations = [
        Calibration(-2.0, 4.0, recommended, 1.34, (), 120, "s", "r", tested=tested)
        for recommended, tested in ((0.0, FAILS), (4.0, WORKS))
    ]
    vectors = (
        replace(fairness, calibration=calibrations[0]),
        replace(toxicity, calibration=replace(calibrations[1], high=8.0, recommended=6.0), example=EXAMPLE),
    )
    return write_pack(Pack(pack.model, vectors), directory)
