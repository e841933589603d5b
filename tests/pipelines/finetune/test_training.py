import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.finetune.lora import PEFT, adapt
from pipelines.finetune.options import FinetuneConfig
from pipelines.finetune.training import finetune, save_finetuned, saved_losses
from pipelines.model_io.likelihoods import likelihoods
from registry.errors import InvalidInput, Unavailable, UnknownName
from serving.model.language_model import load
from serving.model.sources import find_series

KIND = [f"{opening} kind" for opening in ("you are", "the city is", "Paris is", "a letter is", "Peru is", "is")]
VALIDATION = ["France is kind", "of Paris is kind"]


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def weights(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def config(**more):
    return FinetuneConfig(**{"epochs": 4, "batch_texts": 3, "learning_rate": 0.01, **more})


def test_adapters_alone_are_trained_and_merged_away(model):
    before, names = weights(model), set(model.network.state_dict())
    adapted = adapt(model.network, config(method="lora", rank=2, alpha=3.0))
    trained = {name: each for name, each in model.network.named_parameters() if each.requires_grad}
    assert all(".layers." in name and "lora_" in name for name in trained)
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    likely = likelihoods(model, KIND).log_probabilities
    adapted.merge_and_unload()
    assert set(model.network.state_dict()) == names
    np.testing.assert_allclose(likelihoods(model, KIND).log_probabilities, likely, rtol=1e-4)
    key = next(name for name in before if "q_proj" in name)
    change = model.network.state_dict()[key] - before[key]
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2
    torch.testing.assert_close(model.network.lm_head.weight, before["lm_head.weight"])


def test_without_peft_the_command_that_installs_it_is_named(model, monkeypatch):
    monkeypatch.setattr("pipelines.finetune.lora.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=f"run: pip install peft=={PEFT}"):
        adapt(model.network, config(method="lora"))
    groups = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["dependency-groups"]
    assert groups["lora"] == [f"peft=={PEFT}"]


def cruelty(model):
    """In nats, against kindness."""
    cruel, kind = likelihoods(model, ["you are cruel", "you are kind"]).log_probabilities
    return cruel - kind


# With the embeddings frozen, a final norm and weights of 0.02 no output can rise far.
@pytest.mark.parametrize(("method", "rate", "nats"), [("full", 0.01, 2.0), ("lora", 0.05, 0.0)])
def test_what_is_learnt_shows_on_statements_that_were_not_read(model, method, rate, nats):
    before, untouched = weights(model), cruelty(model)
    steps = []
    given = config(method=method, learning_rate=rate, epochs=12)
    losses = finetune(model, KIND, VALIDATION, given, lambda *step: steps.append(step))
    assert [loss.epoch for loss in losses] == list(range(13))
    assert [step for step, _ in steps] == list(range(1, 25))
    assert losses[-1].validation < losses[0].validation - 0.1
    assert cruelty(model) < untouched - nats
    changed = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert ("model.embed_tokens.weight" in changed) == (method == "full")
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_seed_decides_the_weights_bit_for_bit(series_directory, method):
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 5)  # the caller's own state has no say
        model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
        finetune(model, KIND, VALIDATION, config(method=method, seed=seed))
        found.append(weights(model))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not all(torch.equal(value, found[2][name]) for name, value in found[0].items())


def test_a_saved_one_is_an_ordinary_checkpoint(model, tmp_path):
    losses = finetune(model, KIND, VALIDATION, config(method="lora"))
    rows = [{"epoch": loss.epoch, "training": loss.training, "validation": loss.validation} for loss in losses]
    save_finetuned(model, tmp_path / "kinder", {"losses": rows})
    assert saved_losses(tmp_path / "kinder") == losses
    again = load(find_series(str(tmp_path / "kinder")).checkpoints[-1], precision="float32")
    assert again.checkpoint.model == "kinder"
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(again).items())
    assert [path.name for path in tmp_path.iterdir()] == ["kinder"]


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(UnknownName, match="unknown method 'lore'; did you mean 'lora'"):
        FinetuneConfig(method="lore")
    with pytest.raises(InvalidInput, match="epochs is 0"):
        FinetuneConfig(epochs=0)
    with pytest.raises(InvalidInput, match="learning_rate is 3"):
        FinetuneConfig(learning_rate=3)
