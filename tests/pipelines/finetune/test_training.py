import numpy as np
import pytest
import torch

from pipelines.finetune.lora import Adapted, adapt, merge
from pipelines.finetune.options import FinetuneConfig
from pipelines.finetune.training import finetune, save_finetuned, saved_losses
from pipelines.model_io.likelihoods import likelihoods
from registry.errors import InvalidInput, UnknownName
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


def test_an_adapter_adds_a_product_of_rank_r(rng):
    linear = torch.nn.Linear(6, 4)
    before = linear.weight.clone()
    adapted = Adapted(linear, rank=2, scale=1.5)
    states = torch.tensor(rng.normal(size=(3, 6)).astype(np.float32))
    torch.testing.assert_close(adapted(states), linear(states))
    with torch.no_grad():
        adapted.up.copy_(torch.tensor(rng.normal(size=(4, 2))))
    expected = states @ (before + 1.5 * adapted.up @ adapted.down).T + linear.bias
    torch.testing.assert_close(adapted(states), expected)
    merged = adapted.merged()
    torch.testing.assert_close(merged(states), expected)
    assert torch.linalg.matrix_rank(merged.weight - before) == 2


def test_a_merged_network_keeps_the_adapted_outputs(model):
    names = set(model.network.state_dict())
    trained = adapt(model.network, rank=2, alpha=4.0, seed=0)
    assert [parameter for parameter in model.network.parameters() if parameter.requires_grad] == trained
    with torch.no_grad():
        for parameter in trained:
            parameter += 0.05
    adapted = likelihoods(model, KIND).log_probabilities
    merge(model.network)
    assert set(model.network.state_dict()) == names
    np.testing.assert_allclose(likelihoods(model, KIND).log_probabilities, adapted, rtol=1e-4)


def cruelty(model):
    """In nats, against kindness."""
    cruel, kind = likelihoods(model, ["you are cruel", "you are kind"]).log_probabilities
    return cruel - kind


# With the embeddings frozen, a final norm and weights of 0.02 no output can rise far.
@pytest.mark.parametrize(("method", "rate", "nats"), [("full", 0.01, 2.0), ("lora", 0.05, 0.03)])
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
