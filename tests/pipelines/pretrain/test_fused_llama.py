import pytest
import torch

from pipelines.estimators.parallel import one_core_each
from pipelines.pretrain import fused_llama
from pipelines.pretrain.fused_llama import FusedLlama
from pipelines.pretrain.options import TrainingConfig
from pipelines.pretrain.trainer import build_network
from tests.mutants import mutant

CONFIG = TrainingConfig(d_model=64, n_layers=2, vocabulary=50)
ROWS, SEQUENCE_TOKENS = 3, 11


@pytest.fixture(scope="module")
def network():
    """One whose norms are no longer at one, as after training."""
    made = build_network(CONFIG)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() == 1 else 0.02))
    return made


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, CONFIG.vocabulary, (ROWS, SEQUENCE_TOKENS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def by_states():
    return torch.randn(ROWS * SEQUENCE_TOKENS, CONFIG.d_model, generator=torch.Generator().manual_seed(3))


def by_transformers(network, tokens, by_states):
    """Final states and the gradient by every parameter, by the network's own modules and autograd."""
    states = network.model(input_ids=tokens, use_cache=False)[0].flatten(0, 1)
    parameters = list(network.model.parameters())
    return states.detach(), dict(zip(parameters, torch.autograd.grad(states, parameters, by_states), strict=True))


def fused(module, network, tokens, by_states, dtype=torch.float32):
    with one_core_each() as on_cores:
        llama = module.FusedLlama.of(network, dtype, on_cores)
    embedded = llama.embedded(tokens)
    states = llama.states(embedded, SEQUENCE_TOKENS)
    by_embedded, by_weight = llama.gradients(states, embedded, by_states.to(dtype))
    found = dict(pair for weight, gradient in by_weight.items() for pair in weight.parted(gradient))
    table = network.model.embed_tokens.weight
    found[table] = torch.zeros_like(table).index_add_(0, tokens.flatten(), by_embedded)
    return states.detach(), found


def largest_gap(module, network, tokens, by_states, dtype=torch.float32):
    """Of states and of gradients, relative to the norm of what transformers and autograd find."""
    states, found = fused(module, network, tokens, by_states, dtype)
    expected_states, expected = by_transformers(network, tokens, by_states)
    assert set(found) == set(expected)
    pairs = [(states, expected_states), *((found[parameter], expected[parameter]) for parameter in expected)]
    return max(float((mine.float() - theirs).norm() / theirs.norm()) for mine, theirs in pairs)


def test_states_and_gradients_are_those_of_transformers(network, tokens, by_states):
    assert largest_gap(fused_llama, network, tokens, by_states) < 2e-6


def test_bfloat16_differs_by_rounding_alone(network, tokens, by_states):
    assert largest_gap(fused_llama, network, tokens, by_states, torch.bfloat16) < 0.03


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("back=True)", "back=False)"),
        ("torch.cat((-first, second), -1)", "torch.cat((first, -second), -1)"),
        (".triu(1)", ".triu(2)"),
        ("transpose(1, 2)).mul_(width**-0.5)", "transpose(1, 2))"),
        ("shares.dtype).mul_(width**-0.5)", "shares.dtype)"),
        ("torch.mul(gradient, opened, out=by_up)", "torch.mul(gradient, up, out=by_up)"),
        ("(gradient * up, gate, grad_input=by_gate)", "(gradient, gate, grad_input=by_gate)"),
        ("by_unit.addcmul_(unit, shared, value=-1)", "by_unit"),
        ("add_(epsilon)", "add_(0.1)"),
        ("(unit * weight).to(dtype)", "unit.to(dtype)"),
        ("stream = stream + attended", "stream = attended"),
    ],
)
def test_each_rule_of_the_passes_is_needed(network, tokens, by_states, passage, replacement):
    with mutant(fused_llama, passage, replacement) as changed:
        assert largest_gap(changed, network, tokens, by_states) > 1e-3


def test_weights_are_those_of_the_moment_they_are_fused(network, tokens):
    def states(llama):
        return llama.states(llama.embedded(tokens), SEQUENCE_TOKENS)

    query = network.model.layers[0].self_attn.q_proj.weight
    with one_core_each() as on_cores, torch.no_grad():
        llama = FusedLlama.of(network, torch.float32, on_cores)
        before = states(llama)
        query.mul_(2)
        try:
            assert torch.equal(states(llama), before)
            assert not torch.equal(states(FusedLlama.of(network, torch.float32, on_cores)), before)
        finally:
            query.div_(2)
