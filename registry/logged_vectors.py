"""Logged vectors: a vector and its probe as a logged model of the active run, from which a version is registered."""

from collections.abc import Mapping

import mlflow

from registry import flavor
from registry.mlflow_client import logged_name
from registry.records import vector_tags
from registry.vectors import LinearProbe, SteeringVector


def log_vector(
    name: str, vector: SteeringVector, probe: LinearProbe | None, metrics: Mapping[str, float], unit_digest: str
) -> str:
    """Log the model; return its id."""
    step = vector.lineage.checkpoint_step
    tags = vector_tags(vector, unit_digest)
    logged = flavor.log_model(
        logged_name(f"{name} step {step} layer {tags['layer']}"),
        vector,
        probe,
        params={key: tags[key] for key in ("checkpoint", "statements_source", "layer", "method")},
        tags=tags,
        step=max(0, step),
    )
    if metrics:
        mlflow.log_metrics(dict(metrics), step=step, model_id=logged.model_id)
    return str(logged.model_id)
