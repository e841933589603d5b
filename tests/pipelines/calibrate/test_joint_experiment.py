"""Joint limits as a user gets them, on a tiny series and a real tracking store."""

import mlflow
import pytest

from pipelines.calibrate.__main__ import main
from pipelines.cli.command import run_command
from registry.store import VectorStore
from tests.pipelines.calibrate.test_experiment import short_prose as short_prose
from tests.small_statements import write_statements


def test_champions_calibrated_in_one_run_carry_one_limit(series_directory, tmp_path, tracking, cache, capsys):
    written = write_statements(tmp_path, openings=240)
    data = f"toxicity={written},privacy={written}"
    arguments = ["--model", str(series_directory), "--data", data, "--dimensions", "toxicity,privacy", "--seeds", "1"]
    assert run_command(main, [*arguments, "--layers", "2"]) == 0
    versions = [VectorStore().resolve(f"steer.mini.{name}@champion") for name in ("toxicity", "privacy")]
    limit = versions[0].joint_limit
    assert limit is not None and limit == versions[1].joint_limit
    assert limit.strengths == {version.dimension: version.calibration.recommended for version in versions}
    assert "Together: toxicity " in capsys.readouterr().out
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.metrics["joint/scale"] == pytest.approx(limit.scale)
