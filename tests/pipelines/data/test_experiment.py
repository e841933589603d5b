from functools import partial

import pytest

from pipelines.cli.command import run_command
from pipelines.data.__main__ import main

data = partial(run_command, main)


@pytest.fixture(autouse=True)
def own_tracking(tracking):
    """No run is logged to where the tests are started."""


def test_each_dimension_is_reported_before_the_next_command(tmp_path, capsys):
    lines = [f"word{row} is {('cruel', 'kind')[row % 2]},{row % 2}" for row in range(60)]
    (tmp_path / "toxicity.csv").write_text("\n".join(["statement,label", *lines]))
    assert data(["--data", str(tmp_path), "--dimensions", "toxicity"]) == 0
    printed = capsys.readouterr().out
    assert "## toxicity · file:toxicity.csv" in printed
    assert "60 statements, 30 trustworthy (50.0%), in 60 groups" in printed
    assert "! warning: the text alone decides the label: the last word alone has accuracy 1.000 [" in printed
    assert f"-e probe --env-manager local -P dimensions=toxicity -P data={tmp_path}" in printed


def test_a_directory_is_read_and_the_rest_named(tmp_path, capsys):
    for name in ("toxicity", "notes", "privacy"):
        rows = [f"{name}{row} is {('cruel', 'kind')[row % 2]},{row % 2}" for row in range(20)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["statement,label", *rows]))
    assert data(["--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("## privacy") < printed.index("## toxicity")
    assert "files beside it that no known dimension reads: notes.csv" in printed


def test_what_no_probe_could_use_is_reported_and_refused(tmp_path, capsys):
    (tmp_path / "toxicity.csv").write_text("statement,label\n" + "".join(f"word {row},1\n" for row in range(9)))
    assert data(["--data", str(tmp_path), "--dimensions", "toxicity"]) == 2
    printed = capsys.readouterr()
    assert "✗ refused: all statements (n = 9) have one label" in printed.out
    assert printed.err == "error: file:toxicity.csv: all statements (n = 9) have one label; a probe needs both\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dimensions", "toxicty"], "unknown dimension 'toxicty'; did you mean 'toxicity'"),
        (["--data", "pakaged", "--dimensions", "toxicity"], "did you mean 'packaged'"),
        (["--limit", "-5", "--dimensions", "toxicity"], "`limit` is -5; give a number of statements, or 0 for all"),
    ],
)
def test_a_mistake_is_met_with_what_would_be_right(arguments, words, capsys):
    assert data(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_run_names_its_statements_by_their_digest(tmp_path, tracking):
    import mlflow

    from pipelines.statements.sources import load_statements
    from registry.dimensions import TOXICITY

    lines = [f"word{row} is {('cruel', 'kind')[row % 2]},{row % 2}" for row in range(60)]
    (tmp_path / "toxicity.csv").write_text("\n".join(["statement,label", *lines]))
    assert data(["--data", str(tmp_path), "--dimensions", "toxicity"]) == 0
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    (found,) = run.inputs.dataset_inputs
    assert found.dataset.digest == load_statements(TOXICITY, str(tmp_path)).digest[:32]
