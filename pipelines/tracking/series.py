"""Series in MLflow: the audit of a run's checkpoints, and whose the registered name is."""

import re
import shlex
from pathlib import Path

import mlflow
import pandas as pd

from pipelines.tracking.artifacts import log_tables
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import CheckpointSeries
from registry.embedded import embedded_seed
from registry.errors import Mismatch
from registry.model_names import model_short_name
from registry.records import checkpoint_name
from serving.model.audit import SeriesAudit, audit_rows, render_audit
from serving.model.weights import weights_digest


def log_series(audit: SeriesAudit, name: str = "series") -> None:
    """``series.csv`` with a row per checkpoint and per revision left out, and ``series.md`` to be read."""
    log_tables({f"{name}.csv": pd.DataFrame(audit_rows(audit))})
    mlflow.log_text(render_audit(audit), f"{name}.md")


def require_own_name(series: CheckpointSeries) -> None:
    """Raise ``Mismatch`` where another series has registered checkpoints under this one's name.

    A series that was moved has the weights that it had, and keeps its name. An embedded series keeps its name when it
    is trained anew by another recipe.
    """
    digests = {
        version.checkpoint: version.tags["weights_digest"]
        for version in CheckpointStore().list(series.model)
        if "repo" in version.tags and not version.checkpoint.is_random_init
    }
    repo = series.checkpoints[0].repo
    if not digests or any(checkpoint.repo == repo for checkpoint in digests):
        return
    if embedded_seed(series.model) is not None and all(map(_is_pretrained, (repo, *(known.repo for known in digests)))):
        return
    by_label = {checkpoint.label: digest for checkpoint, digest in digests.items()}
    shared = next((checkpoint for checkpoint in series if checkpoint.label in by_label), None)
    if shared is not None and weights_digest(shared) == by_label[shared.label]:
        return
    first = next(iter(digests)).repo
    parent = Path(repo).parent.name if Path(repo).is_absolute() else repo.partition("/")[0]
    # A directory of the root has a parent without a name.
    own = f"{model_short_name(parent)}-{series.model}" if re.search(r"\w", parent) else f"{series.model}-2"
    raise Mismatch(
        f"{checkpoint_name(series.model)} holds checkpoints of {first}, and {repo} is another series of that name; "
        f"give it a name of its own: -P {shlex.quote(f'model={own}={repo}')}"
    )


def _is_pretrained(repo: str) -> bool:
    """Whether ``pretrain`` made the series, in the cache of any machine."""
    return re.search(r"[/\\]series[/\\][0-9a-f]{24}$", repo) is not None
