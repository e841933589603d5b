"""Vectors that no one registered, for measuring what steering costs."""

from collections.abc import Mapping

import numpy as np

from registry.dimensions import DIMENSIONS
from registry.records import RegisteredVector, vector_tags
from registry.vectors import Lineage, LinearProbe, SteeringVector
from serving.model.language_model import LanguageModel
from serving.model.norms import residual_norms
from serving.steering.bank import ServedVector, SteeringBank


def tenths(model: LanguageModel) -> dict[int, float]:
    """A tenth of the residual stream's length at each layer."""
    return {layer: norm / 10 for layer, norm in residual_norms(model).items()}


def random_bank(model: LanguageModel, scales: Mapping[int, float]) -> SteeringBank:
    """One random direction a dimension, each at a layer of its own, a unit of strength as long as ``scales`` says.

    Each has a probe beside it that reads along the same direction.
    """
    name, generator = model.checkpoint.model, np.random.default_rng(0)
    digest = model.weights_digest
    lineage = Lineage(name, f"models:/ckpt.{name}/1", 0, "main", digest, "-", "random", "random", "-", "-", 0)
    vectors = []
    for number, dimension in enumerate(DIMENSIONS):
        layer = (number + 1) * model.n_layers // (len(DIMENSIONS) + 1)
        direction = generator.standard_normal(model.d_model)
        direction = (direction / np.linalg.norm(direction)).astype(np.float32)
        vector = SteeringVector.at_layer(dimension, direction, scales[layer], layer, lineage, 1.0, 0.0)
        registered = RegisteredVector(f"steer.{name}.{dimension}", "1", "-", "-", vector_tags(vector, "-"))
        vectors.append(ServedVector(registered, vector, LinearProbe(dimension, layer, direction, 0.0, lineage)))
    return SteeringBank(model.facts, tuple(vectors))
