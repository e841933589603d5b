"""Checkpoints in MLflow: no stage is taken for another in a table or on a curve."""

import pandas as pd

from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_names, checkpoint_table, curve_points
from registry.checkpoints import Checkpoint
from registry.named_series import series_of

NAMES = ("stage1-step1-tokens2B", "stage2-ingredient1-step1-tokens3B", "stage2-ingredient2-step1-tokens3B", "main")
SERIES = series_of("olmo", "org/olmo", NAMES)
COLUMNS = checkpoint_columns("value")


def test_every_row_tells_its_checkpoint(tmp_path):
    table = checkpoint_table(((checkpoint, (place,)) for place, checkpoint in enumerate(SERIES)), COLUMNS)
    table.to_csv(tmp_path / "table.csv", index=False)
    read = pd.read_csv(tmp_path / "table.csv")
    assert tuple(read.columns) == COLUMNS
    assert read["step"].tolist() == [1, 1, 1, 1]
    assert read["ingredient"].fillna(0).tolist() == [0, 1, 2, 0]
    assert read["tokens"].fillna(0).tolist() == [2e9, 3e9, 3e9, 0]
    # Each revision names its stage, and `main` is one.
    assert checkpoint_names(read) == checkpoint_names(table) == list(NAMES)


def test_revisions_of_two_stages_stay_apart():
    table = pd.DataFrame({"stage": ["a", "a-b", "sft"], "ingredient": None, "revision": ["a-b-1", "a-b-1", "main"]})
    assert checkpoint_names(table) == ["a a-b-1", "a-b a-b-1", "sft main"]


def test_tables_of_older_versions_tell_revisions():
    assert checkpoint_names(pd.DataFrame({"revision": ["0512", "main"]})) == ["0512", "main"]


def test_stages_do_not_overwrite_one_another():
    initial = SERIES.random_init
    measured = [
        (checkpoint, "toxicity", {"accuracy": place / 10}) for place, checkpoint in enumerate((initial, *SERIES))
    ]
    assert curve_points(measured) == [
        ("toxicity/accuracy", 0.1, 1),
        ("stage2-ingredient1/toxicity/accuracy", 0.2, 1),
        ("stage2-ingredient2/toxicity/accuracy", 0.3, 1),
        ("main/toxicity/accuracy", 0.4, 1),
    ]


def test_a_line_of_repositories_has_a_curve_per_stage():
    line = [
        Checkpoint("line", f"org/{stage}", "main", 0, stage, place=place) for place, stage in enumerate(("b", "sft"), 1)
    ]
    points = curve_points([(checkpoint, "privacy", {"bits": 1.0}) for checkpoint in line])
    assert points == [("privacy/bits", 1.0, 0), ("sft/privacy/bits", 1.0, 0)]
    alone = curve_points([(line[1], "privacy", {"bits": 1.0})], first_line="b")  # as where checkpoints come one by one
    assert alone == points[1:]
