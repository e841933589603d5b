"""What a trajectory counts as its points."""

from types import SimpleNamespace

from pipelines.information.trajectory import points_along
from registry.checkpoints import series_of


def test_twins_and_later_stages_are_no_points():
    names = ("stage1-step0", "stage1-step1", "stage1-step10", "stage2-step5", "main")
    results = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=weights)
        for checkpoint, weights in zip(series_of("m", "org/m", names), "aabca", strict=True)
    ]
    assert [result.checkpoint.revision for result in points_along(results)] == ["stage1-step0", "stage1-step10"]
