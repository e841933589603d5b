"""The axis of training: tokens where all are known, and said to be that."""

import pytest

from pipelines.figures.training_axis import STEPS, TOKENS, TrainingAxis, token_label
from registry.named_series import series_of


def axis_of(*revisions):
    return TrainingAxis.of(series_of("m", "org/m", revisions).checkpoints)


def test_tokens_are_the_axis_where_all_checkpoints_tell_them():
    axis = axis_of("step0-tokens0B", "step1000-tokens4B", "step143000-tokens1500B")
    assert (axis.name, axis.places) == (TOKENS, (0, 4 * 10**9, 1500 * 10**9))
    assert axis.labels == ("0", "4B", "1.5T")
    assert axis.is_ordered


@pytest.mark.parametrize(
    "revisions",
    [
        ("step0-tokens0B", "step1000-tokens4B", "main"),
        ("step0-tokens0B", "step100-tokens0B", "step1000-tokens4B"),
        ("step0", "step100", "step1000"),
    ],
    ids=["not all tell them", "told too roughly", "none tells them"],
)
def test_steps_are_the_axis_otherwise(revisions):
    axis = axis_of(*revisions)
    assert axis.name.startswith(STEPS)
    assert axis.places[0] == 0
    assert axis.labels[1] in ("1,000", "100", "step 1,000")


def test_checkpoints_of_several_stages_are_called_by_their_labels():
    axis = axis_of("stage1-step100-tokens1B", "stage1-step900-tokens9B", "stage2-step100-tokens1B")
    assert not axis.is_ordered
    assert axis.name == "pre-training step, counted anew in each stage"
    assert axis.labels == ("stage1 step 100", "stage1 step 900", "stage2 step 100")


@pytest.mark.parametrize(
    ("tokens", "label"),
    [(0, "0"), (999, "999"), (1500, "1.5k"), (262_144_000, "262M"), (4 * 10**9, "4B"), (10**12, "1T")],
)
def test_tokens_are_counted_in_the_units_of_revision_names(tokens, label):
    assert token_label(tokens) == label


def test_a_trainers_last_model_is_no_stage():
    axis = axis_of("checkpoint-250", "checkpoint-500", "main")
    assert (axis.name, axis.labels) == (STEPS, ("step 250", "step 500", "main"))
