import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelines.estimators.parallel import one_core_each
from pipelines.pretrain import gradients, trainer
from pipelines.pretrain.options import TrainingConfig
from tests.mutants import mutant

CONFIG = TrainingConfig(d_model=32, n_layers=2, vocabulary=300, clip_norm=0.5, learning_rate=1e-2)


@pytest.fixture
def batches(monkeypatch):
    """Three of them, whose gradients are computed in float32."""
    monkeypatch.setattr(gradients, "computes_in_bfloat16", lambda _: False)
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, CONFIG.vocabulary, (4, 17), generator=generator) for _ in range(3)]


def as_torch_does(batches):
    """Weights after one AdamW of all parameters and torch's own clipping."""
    network = trainer.build_network(CONFIG)
    options = {"betas": (0.9, 0.95), "weight_decay": CONFIG.weight_decay}
    optimiser = torch.optim.AdamW(network.parameters(), CONFIG.learning_rate, **options)
    for batch in batches:
        optimiser.zero_grad()
        logits = network(input_ids=batch[:, :-1], use_cache=False).logits
        cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), CONFIG.clip_norm)
        assert norm > 1.5 * CONFIG.clip_norm
        optimiser.step()
    return network.state_dict()


def largest_gap(module, batches):
    network = module.build_network(CONFIG)
    optimisers = module._optimisers(network, CONFIG)
    with one_core_each() as on_cores:
        for batch in batches:
            module._step(network, optimisers, batch, CONFIG, on_cores)
    expected = as_torch_does(batches)
    return max(float((found - expected[name]).abs().max()) for name, found in network.state_dict().items())


def test_steps_are_those_of_one_optimiser_and_torchs_clipping(batches):
    assert largest_gap(trainer, batches) < 1e-4


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("norm = get_total_norm(list(on_cores(_norm, optimisers)))", "norm = _norm(optimisers[0])"),
        ("clip_grads_with_norm_(_parameters(optimiser), config.clip_norm, norm)", "pass"),
        ("if parameter is not table]", "]"),
        ("for part in ([table], others)", "for part in ([table], others[:-1])"),
    ],
)
def test_each_rule_of_a_step_is_needed(batches, passage, replacement):
    with mutant(trainer, passage, replacement) as changed:
        assert largest_gap(changed, batches) > 1e-3
