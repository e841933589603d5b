"""Logged vectors: a vector and its probe as a logged model of the active run, from which a version is registered."""

import time
from collections.abc import Mapping

import mlflow
from mlflow.entities import Metric

from registry import flavor
from registry.mlflow_client import logged_name
from registry.records import vector_tags
from registry.vectors import LinearProbe, SteeringVector
from registry.version_tags import stored_tags


def log_vector(
    name: str,
    vector: SteeringVector,
    probe: LinearProbe | None,
    metrics: Mapping[str, float],
    unit_digest: str,
    batch: list[Metric] | None = None,
) -> str:
    """Log the model; return its id. Its metrics are logged too, or put into ``batch``."""
    step = vector.lineage.checkpoint_step
    tags = vector_tags(vector, unit_digest)
    logged = flavor.log_model(
        logged_name(f"{name} step {step} layer {tags['layer']}"),
        vector,
        probe,
        params={key: tags[key] for key in ("checkpoint", "statements_source", "layer", "method")},
        tags=stored_tags(tags),
        step=max(0, step),
    )
    if batch is not None:
        now = int(time.time() * 1000)
        batch += (Metric(key, value, now, step, model_id=logged.model_id) for key, value in metrics.items())
    elif metrics:
        mlflow.log_metrics(dict(metrics), step=step, model_id=logged.model_id)
    return str(logged.model_id)
