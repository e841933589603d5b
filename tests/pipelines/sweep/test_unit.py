"""Units: which checkpoints are the same model once more, and which are points of a curve over pre-training."""

from types import SimpleNamespace

from pipelines.sweep.unit import points_along, twins
from registry.checkpoints import Checkpoint, series_of


def test_the_first_checkpoint_of_equal_weights_stands_for_all():
    checkpoints = [Checkpoint("m", "org/m", f"step{step}", step) for step in range(4)]
    units = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=digest)
        for dimension in range(2)
        for checkpoint, digest in zip(checkpoints, "abaa", strict=True)
    ]
    assert twins(units) == {checkpoints[2], checkpoints[3]}


def test_twins_and_later_stages_are_no_points():
    names = ("stage1-step0", "stage1-step1", "stage1-step10", "stage2-step5", "main")
    results = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=weights)
        for checkpoint, weights in zip(series_of("m", "org/m", names), "aabca", strict=True)
    ]
    assert [result.checkpoint.revision for result in points_along(results)] == ["stage1-step0", "stage1-step10"]
