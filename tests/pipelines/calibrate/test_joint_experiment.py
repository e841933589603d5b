"""Joint limits as a user gets them, on a tiny series and a real tracking store."""

from collections import Counter
from types import SimpleNamespace

import mlflow
import pytest

from pipelines.calibrate import equal_cost, splits
from pipelines.calibrate.__main__ import main
from pipelines.cli.command import run_command
from registry.store import VectorStore
from tests.pipelines.calibrate.test_experiment import short_prose as short_prose
from tests.small_statements import write_statements


def prose_read(monkeypatch):
    """How often prose is read unsteered, once the champions of all dimensions were."""
    read, measured, extract = Counter(), splits.MeasuredProse.measured, equal_cost.extract

    def counted(name, real):
        return lambda *given, **named: read.update([name]) or real(*given, **named)

    monkeypatch.setattr(splits, "MeasuredProse", SimpleNamespace(measured=counted("validation and test", measured)))
    monkeypatch.setattr(equal_cost, "extract", counted("background", extract))
    return read


def test_champions_calibrated_in_one_run_carry_one_limit(
    series_directory, tmp_path, tracking, cache, capsys, monkeypatch
):
    read = prose_read(monkeypatch)
    written = write_statements(tmp_path, openings=240)
    data = f"toxicity={written},privacy={written}"
    arguments = ["--model", str(series_directory), "--data", data, "--dimensions", "toxicity,privacy", "--seeds", "1"]
    assert run_command(main, [*arguments, "--layers", "2"]) == 0
    assert read == {"validation and test": 2, "background": 1}  # of two dimensions
    versions = [VectorStore().resolve(f"steer.mini.{name}@champion") for name in ("toxicity", "privacy")]
    limit = versions[0].joint_limit
    assert limit is not None and limit == versions[1].joint_limit
    assert limit.strengths == {version.dimension: version.calibration.recommended for version in versions}
    assert "Together: toxicity " in capsys.readouterr().out
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.metrics["joint/scale"] == pytest.approx(limit.scale)
