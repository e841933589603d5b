"""Probes of answers, read over the tokens after their prompts, as a user asks for them."""

import numpy as np
import pandas as pd
import pytest

from pipelines.cli.command import run_command
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.experiment import resolve_series
from pipelines.information.__main__ import main as information
from pipelines.model_io.activations import extract_answers
from pipelines.probe.__main__ import main
from pipelines.statements.sources import load_statements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from registry.dimensions import TOXICITY
from registry.store import VectorStore
from serving.model.language_model import load
from tests.small_statements import write_statements

CHEAP = ["--seeds", "1", "--checkpoints", "last", "--dimensions", "toxicity", "--ladder", "none"]


@pytest.fixture
def answers(tmp_path):
    """The small statements, of which the last two words are the answer."""
    path = write_statements(tmp_path / "data")
    table = pd.read_csv(path)
    words = table["statement"].str.rsplit(n=2)
    parts = {"prompt": words.str[0], "response": words.str[1] + " " + words.str[2]}
    pd.DataFrame({**parts, "label": table["label"]}).to_csv(path, index=False)
    return path


def test_probes_read_answers_after_their_prompts(answers, series_directory, tracking, cache):
    arguments = ["--model", str(series_directory), "--data", str(answers), "--precision", "float32", *CHEAP]
    assert run_command(main, [*arguments, "--pooling", "response"]) == 0
    assert run_command(main, arguments) == 0
    of_texts, of_answers = VectorStore().list("mini", "toxicity")
    assert [version.tags["pooling"] for version in (of_texts, of_answers)] == ["last", "response"]
    vector, probe = VectorStore().load_with_probe(of_answers)
    assert vector.lineage.pooling == probe.lineage.pooling == "response"

    statements = load_statements(TOXICITY, str(answers))
    model = load(resolve_series(str(series_directory)).checkpoints[-1], precision="float32")
    texts, prompts = statements.texts, statements.prompts
    after = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts, strict=True)]
    read = extract_answers(model, prompts, after, layers=[vector.layer]).layer(vector.layer)
    train = split_statements(statements, FittingProtocol(seeds=1)).folds[0] != 0
    expected = fit_mass_mean(read[train], statements.labels[train])
    np.testing.assert_allclose(vector.direction, expected.direction, atol=1e-4)


@pytest.mark.parametrize("command", [main, information])
def test_statements_without_answers_are_refused(command, series_directory, tracking, cache, tmp_path, capsys):
    path = write_statements(tmp_path / "data")
    given = ["--model", str(series_directory), "--data", str(path), "--pooling", "response"]
    assert run_command(command, given) == 2
    assert (
        "`pooling` is response, which reads answers, and the statements of file:toxicity.csv have none: give "
        "data=toxicity=<a file with prompt, response, label>, or pooling=last"
    ) in capsys.readouterr().err


def test_information_reads_answers_too(answers, series_directory, tracking, cache, capsys):
    given = ["--model", str(series_directory), "--data", str(answers), "--pooling", "response"]
    assert run_command(information, [*given, "--checkpoints", "last", "--calibrate", "false"]) == 0
    assert capsys.readouterr().out.endswith(" -P pooling=response -P checkpoints=last\n")
