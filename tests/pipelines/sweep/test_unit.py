"""Units: which checkpoints are the same model once more."""

from types import SimpleNamespace

from pipelines.sweep.unit import twins
from registry.checkpoints import Checkpoint


def test_the_first_checkpoint_of_equal_weights_stands_for_all():
    checkpoints = [Checkpoint("m", "org/m", f"step{step}", step) for step in range(4)]
    units = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=digest)
        for dimension in range(2)
        for checkpoint, digest in zip(checkpoints, "abaa", strict=True)
    ]
    assert twins(units) == {checkpoints[2], checkpoints[3]}
