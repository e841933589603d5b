"""Whether a registered vector may steer the model that is served."""

from registry.errors import Mismatch
from registry.records import RegisteredVector, checkpoint_name
from serving.model.language_model import LanguageModel, require_layer


def require_belongs(registered: RegisteredVector, model: LanguageModel) -> None:
    """Raise ``Mismatch`` unless a version's tags say that it belongs to the model that is served.

    A vector of any checkpoint of the model's series will do: steering a model with vectors from earlier in its
    pre-training is what the series is for. One that claims the very checkpoint must have been made from its weights.
    One that was transferred says which model it was made for, and must have been measured on its weights.
    """
    served, tags = model.checkpoint, registered.tags
    series = registered.checkpoint_uri.removeprefix("models:/").rpartition("/")[0]
    target = tags.get("target", "")
    if target and target != served.model:
        raise Mismatch(f"{registered.uri} was made from {series} for {target} and the model served is {served.model}")
    if not target and series != checkpoint_name(served.model):
        raise Mismatch(
            f"{registered.uri} was made from {series} and the model served is {checkpoint_name(served.model)}"
        )
    width = tags.get("d_model", str(model.d_model))
    if width != str(model.d_model):
        raise Mismatch(f"{registered.uri} has d_model {width} and {served.model} has {model.d_model}")
    require_layer(model, registered.layer)
    measured = tags.get("target_digest", "")
    if target and measured != model.weights_digest:
        raise Mismatch(
            f"{registered.uri} was measured on weights {measured[:12]} of {target} and the weights served are "
            f"{model.weights_digest[:12]}; transfer it to the model that is served"
        )
    if target:
        return
    revision, digest = tags.get("checkpoint_revision"), tags.get("weights_digest", model.weights_digest)
    if revision == served.revision and digest != model.weights_digest:
        raise Mismatch(
            f"{registered.uri} was made from weights {digest[:12]} at {served.label} and the weights served there are "
            f"{model.weights_digest[:12]}; probe the model that is served"
        )
