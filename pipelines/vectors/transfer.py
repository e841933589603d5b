"""Transfer of vectors to another model: the agreement it needs, and the length of one unit of strength there."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from pipelines.model_io.activations import extract
from pipelines.statements.labelled import LabelledStatements
from pipelines.vectors.methods import FittedDirection
from registry.errors import Mismatch
from serving.model.language_model import LanguageModel


@dataclass(frozen=True)
class Target:
    """The model that vectors of other checkpoints are made for."""

    model: LanguageModel

    @property
    def name(self) -> str:
        return self.model.checkpoint.model

    def require_takes(self, source: LanguageModel) -> str:
        """Raise ``Mismatch`` unless ``source`` has this model's width and depth; else return a warning to print."""
        for what, theirs, ours in (
            ("d_model", source.d_model, self.model.d_model),
            ("layers", source.n_layers, self.model.n_layers),
        ):
            if theirs != ours:
                raise Mismatch(
                    f"{source.checkpoint.model} has {what} {theirs} and the target {self.name} has {ours}; a vector is "
                    "only transferred between models of one architecture"
                )
        if tokenizer_digest(source) == tokenizer_digest(self.model):
            return ""
        return f"{source.checkpoint.model} and {self.name} have different vocabularies: they read other tokens"

    def features(self, statements: LabelledStatements, layer: int) -> Float32[np.ndarray, "n d_model"]:
        """The target's own activations of the statements."""
        return extract(self.model, statements.texts, layers=[layer]).layer(layer)


def tokenizer_digest(model: LanguageModel) -> str:
    """SHA-256 of the vocabulary with its numbers."""
    vocabulary = sorted(model.tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def rescaled(
    fitted: FittedDirection, features: Float32[np.ndarray, "n d_model"], control_scale: float
) -> FittedDirection:
    """The same direction, whose strength 1 is one standard deviation of the target's projections.

    A control keeps the length of the vector that it stands beside, ``control_scale``.
    """
    projections = features @ fitted.unit
    scale = control_scale if fitted.is_control else float(projections.std(ddof=1))
    return replace(fitted, scale=scale, projection_mean=float(projections.mean()))
