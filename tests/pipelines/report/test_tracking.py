"""Champions as the report lists them."""

import mlflow
import numpy as np
import pytest

from pipelines.report.tracking import champions
from registry.store import VectorStore
from registry.vectors import LinearProbe, SteeringVector
from tests.probe_qualities import GOOD, POOR
from tests.registry.test_vectors import lineage


@pytest.mark.parametrize(
    ("window", "quality", "told"),
    [(16, GOOD, "AUROC 0.80 [0.75, 0.85]"), (16, POOR, "AUROC 0.62 [0.55, 0.69], not used"), (1, None, "")],
)
def test_a_champion_tells_what_its_monitor_is_worth(tracking, window, quality, told):
    direction = np.array([0.6, 0.8], np.float32)
    with mlflow.start_run() as run:
        found = lineage(run_id=run.info.run_id)
        vector = SteeringVector.at_layer("toxicity", direction, 0.5, 1, found, 1.0, 0.0)
        probe = LinearProbe("toxicity", 1, direction, 0.1, found, window, quality)
        version = VectorStore().register(vector, probe, {}, unit_digest="u")
    VectorStore().promote(version, reason="it is the only one")
    (card,) = champions("tiny")
    assert card.row["monitor"] == told
