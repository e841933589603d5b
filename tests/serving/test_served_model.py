"""The served model: what the log says of the checkpoint that was chosen."""

import logging
from contextlib import nullcontext

import pytest

from registry.checkpoint_store import CheckpointStore
from registry.errors import InvalidInput, NotFound
from serving import served_model
from serving.model.sources import find_series
from serving.served_model import find_checkpoint
from serving.settings import Settings
from tests.hub_server import REPO
from tests.serving.conftest import tracked_at


def test_the_log_says_what_was_chosen_and_left_out(hub, caplog):
    repository = hub.repositories[REPO]
    repository["pull-7"] = repository["step10"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (repository["step100"] / name).unlink()
    with caplog.at_level(logging.INFO, logger="serving"):
        assert find_checkpoint(Settings(model=REPO)).step == 100
    assert "step 100 of the 5 checkpoints of mini was chosen" in caplog.text
    assert "left out of mini: pull-7: its name tells no step" in caplog.text
    assert "org/mini has no tokenizer at step100: that of main is used" in caplog.text


@pytest.mark.parametrize(("model", "argument"), [("tiny", "tiny"), ("tiny:3", "tiny:3"), ("tiny-3", "tiny:3")])
def test_a_series_not_yet_made_is_told_how(tmp_path, model, argument):
    with tracked_at(f"sqlite:///{tmp_path}/mlflow.db"), pytest.raises(NotFound) as told:
        find_checkpoint(Settings(model=model))
    assert f"mlflow run . -e probe --env-manager local -P model={argument}, or set" in str(told.value)


@pytest.mark.parametrize("given", [{"model": "mini", "model_name": "other"}, {"model": "other=mini"}])
def test_registered_checkpoints_are_served_by_another_name(series_directory, tmp_path, given):
    with tracked_at(f"sqlite:///{tmp_path}/mlflow.db"):
        for checkpoint in find_series(str(series_directory), name="mini"):
            CheckpointStore().register(checkpoint, "digest")
        chosen = find_checkpoint(Settings(**given))
    assert (chosen.model, chosen.step) == ("other", find_checkpoint(Settings(model=str(series_directory))).step)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"batch_invariant": True}, "TRUSTTRACE_BATCH_INVARIANT is true.*VLLM_BATCH_INVARIANT=1"),
        ({"device": "cpu"}, "TRUSTTRACE_DEVICE is cpu.*leave the device at auto"),
        ({"workers": 2}, "TRUSTTRACE_WORKERS is 2.*leave the workers at 1"),
    ],
)
def test_vllm_refuses_settings_of_the_slot_engine(monkeypatch, given, refused):
    monkeypatch.setattr(served_model, "find_checkpoint", lambda _: None)
    with pytest.raises(InvalidInput, match=refused):
        served_model.started(Settings(engine="vllm", **given))


@pytest.mark.parametrize("engine", ["slots", "vllm"])
def test_the_tokenizer_of_either_engine_keeps_no_words(series_directory, monkeypatch, engine):
    resized = []
    monkeypatch.setattr(served_model, "keep_no_words", resized.append)
    for name in ("require_tested", "installed_release", "norms_read"):
        monkeypatch.setattr(served_model, name, lambda *_: None)
    monkeypatch.setattr(served_model, "VllmEngine", lambda *_, **__: nullcontext())
    model, running, _ = served_model.started(Settings(model=str(series_directory), engine=engine, slots=1))
    with running:
        assert resized == [model.tokenizer]
