"""Compatibility: the one check whether a registered vector fits the model that is served."""

from dataclasses import dataclass

from registry.checkpoints import Checkpoint
from registry.counts import counted
from registry.errors import Mismatch
from registry.records import RegisteredVector, checkpoint_name, vector_name


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that decide whether a vector fits it."""

    checkpoint: Checkpoint
    weights_digest: str
    d_model: int
    n_layers: int

    @property
    def name(self) -> str:
        return self.checkpoint.model

    def require_layer(self, layer: int) -> int:
        """``layer`` if the model has it; ``Mismatch`` names both numbers otherwise."""
        if not 0 <= layer < self.n_layers:
            raise Mismatch(
                f"layer {layer} does not exist: {self.name} has {counted(self.n_layers, 'layer')}, 0 to "
                f"{self.n_layers - 1}"
            )
        return layer


def require_fits(registered: RegisteredVector, model: ModelFacts) -> None:
    """Raise ``Mismatch`` unless a version's tags say that it belongs to ``model``.

    A vector of any checkpoint of the model's series fits: steering a model with vectors from earlier in its
    pre-training is what the series is for. A vector that names the served revision must come from the served weights.
    A transferred vector names the model it was made for, and must have been measured on the served weights.
    MLflow copies a version under any name; one under another dimension's name steers nothing.
    """
    tags, named = registered.tags, registered.name.rpartition(".")[2]
    if named != registered.dimension:
        raise Mismatch(
            f"{registered.uri} is a vector of {registered.dimension} under the name of {named}; give its alias to a "
            f"version of {vector_name(model.name, registered.dimension)}"
        )
    series = registered.checkpoint_uri.removeprefix("models:/").rpartition("/")[0]
    target = tags.get("target", "")
    if target and target != model.name:
        raise Mismatch(f"{registered.uri} was made from {series} for {target} and the model served is {model.name}")
    if not target and series != checkpoint_name(model.name):
        raise Mismatch(f"{registered.uri} was made from {series} and the model served is {checkpoint_name(model.name)}")
    width = tags.get("d_model", str(model.d_model))
    if width != str(model.d_model):
        raise Mismatch(f"{registered.uri} has d_model {width} and {model.name} has {model.d_model}")
    for layer in registered.layers:
        model.require_layer(layer)
    measured = tags.get("target_digest", "")
    if target and measured != model.weights_digest:
        raise Mismatch(
            f"{registered.uri} was measured on weights {measured[:12]} of {target} and the weights served are "
            f"{model.weights_digest[:12]}; transfer it to the model that is served"
        )
    if target:
        return
    revision, digest = tags.get("checkpoint_revision"), tags.get("weights_digest", model.weights_digest)
    if revision == model.checkpoint.revision and digest != model.weights_digest:
        raise Mismatch(
            f"{registered.uri} was made from weights {digest[:12]} at {model.checkpoint.caption} and the weights "
            f"served there are {model.weights_digest[:12]}; probe the model that is served"
        )
