"""Cheap refusals: what can be known without data is refused before a series is trained or a statement is read."""

import importlib

import pytest

from pipelines.cli.command import USAGE_ERROR, run_command

ON_SERIES = ("probe", "information", "vectors")
ON_CHECKPOINT = ("calibrate", "evaluate", "finetune", "export")
USERS = ("evaluate.tasks.harness", "evaluate.tasks.presidio", "finetune.lora", "sweep.executors")
"""Modules that look for a package that is an extra."""
DEVICES = [(command, "device=gpu", "`device` is 'gpu'") for command in (*ON_SERIES, *ON_CHECKPOINT, "main")]
ABSENT_DEVICES = [
    (command, "device=cuda:7", "'cuda:7' is not available here") for command in (*ON_SERIES, *ON_CHECKPOINT, "main")
]


@pytest.fixture
def unread(monkeypatch, cache, tracking):
    """A machine on which whatever is slow fails."""

    def refuse(*_arguments, **_values):
        raise AssertionError("it was read, trained or fetched")

    for place in (
        "pipelines.experiment.inspect_statements",
        "pipelines.experiment.ensure_series_with_bar",
        "pipelines.statements.packaged.fetch",
        "pipelines.main.workflow.load_statements",
    ):
        monkeypatch.setattr(place, refuse)
    for module in USERS:
        monkeypatch.setattr(f"pipelines.{module}.find_spec", lambda _name: None)


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        *DEVICES,
        *ABSENT_DEVICES,
        ("probe", "device_map=everywhere", "unknown device_map 'everywhere'; known: auto, balanced"),
        ("probe", "executor=ray", "pip install ray"),
        ("probe", "layers=9999", "layer 9999 does not exist"),
        ("probe", "pooling=response", "`pooling` is response"),
        ("probe", "ladder=nowhere", "data source"),
        ("probe", "data=nowhere", "data source"),
        ("probe", "limit=-1", "`limit` is -1"),
        ("vectors", "target=nowhere", "nowhere"),
        ("vectors", "layers=9999", "layer 9999 does not exist"),
        ("calibrate", "layers=middle", "layers 'middle'"),
        ("calibrate", "layers=9999", "layer 9999 does not exist"),
        ("calibrate", "vectors=tiny.toxicity", "names no vector"),
        ("calibrate", "vectors=steer.tiny.toxicity/3", "steer.tiny.toxicity"),
        ("calibrate", "methods=none", "leave nothing to calibrate"),
        ("calibrate", "methods=optimised layers=1-2", "trains a vector at one layer"),
        ("evaluate", "harness=arc_easy", "pip install lm-eval"),
        ("evaluate", "pii=presidio", "pip install presidio-analyzer"),
        ("evaluate", "judge=localhost", "`judge` 'localhost' is no address"),
        ("evaluate", "judge=http://127.0.0.1:9/v1", "judge"),
        ("evaluate", "trace=log:none", "log:none"),
        ("evaluate", "trace=init", "`trace` 'init' selects no trained one of tiny; give one, such as last"),
        ("calibrate", "checkpoint=init", "`checkpoint` 'init' selects no trained one of tiny"),
        ("data", "data=truthfulqa dimensions=privacy", "truthfulqa stands for reliability, not privacy"),
        ("evaluate", "source=tiny:1", "`source`"),
        ("evaluate", "judge_model=gpt", "`judge_model`"),
        ("evaluate", "vectors=steer.tiny.toxicity/3", "steer.tiny.toxicity"),
        ("evaluate", "finetuned=./nowhere", "nowhere"),
        ("evaluate", "classifier=./nowhere/at-all", "unknown classifier './nowhere/at-all'"),
        ("evaluate", "", "no vector of tiny for reliability is calibrated"),
        ("finetune", "method=lora", "pip install peft"),
        ("export", "", "tiny has no champion to export"),
        ("export", "vectors=tiny.toxicity", "names no vector"),
        ("pretrain", "corpus=./nowhere", "does not exist"),
        ("main", "trace=log:none", "log:none"),
        ("main", "stages=everything", "everything"),
        ("import", "pack=nowhere", "there is no folder"),
        ("report", "model=nowhere", "MLflow has no finished run"),
        ("report", "model=tiny", "start with mlflow run . -e probe --env-manager local -P model=tiny"),
        ("compare", "models=tiny:0,tyni", "MLflow has no finished probe run of tiny:0; probe it first"),
        ("compare", "models=tyni,tiny:0", "unknown model 'tyni'; known: smollm2, tiny, a hub id"),
        ("main", "stages=all,report", "known: all alone, pretrain"),
        ("compare", "models=tiny:0,tiny:7", "MLflow has no finished probe run"),
    ],
)
def test_what_needs_no_data_is_refused_before_any(unread, capsys, command, given, words):
    module = importlib.import_module(f"pipelines.{command}.__main__")
    parameters = (part.partition("=") for part in given.split())
    arguments = [f"--{name.replace('_', '-')}={value}" for name, _, value in parameters]
    if command in (*ON_CHECKPOINT, "main"):
        arguments.append("--model=tiny")
    assert run_command(module.main, arguments) == USAGE_ERROR
    assert words in capsys.readouterr().err
