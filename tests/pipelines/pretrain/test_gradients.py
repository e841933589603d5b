import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelines.estimators.parallel import one_core_each
from pipelines.pretrain import gradients
from pipelines.pretrain.gradients import head_gradients, loss_gradients
from pipelines.pretrain.options import TrainingConfig
from pipelines.pretrain.trainer import build_network
from tests.mutants import mutant
from tests.threads import threads_of_torch

CONFIG = TrainingConfig(d_model=32, n_layers=2, vocabulary=300)


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(gradients, "computes_in_bfloat16", lambda _: False)


def batch(rows):
    return torch.randint(0, CONFIG.vocabulary, (rows, 17), generator=torch.Generator().manual_seed(1))


def by_autograd(network, tokens):
    logits = network(input_ids=tokens[:, :-1], use_cache=False).logits
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return float(loss.detach()), torch.autograd.grad(loss, list(network.parameters()))


def largest_gap(found, network, tokens):
    loss, expected = by_autograd(network, tokens)
    gaps = [(mine - theirs).abs().max() for mine, theirs in zip(found.by_parameter, expected, strict=True)]
    return max(abs(found.loss - loss), float(max(gaps)))


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_gradients_are_those_of_torchs_cross_entropy(rows):
    network, tokens = build_network(CONFIG), batch(rows)
    with one_core_each() as on_cores:
        assert largest_gap(loss_gradients(network, tokens, on_cores), network, tokens) < 1e-6


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("total.index_add_(0, part.tokens, part.by_embedded)", "pass"),
        ("total += part.by_weight[weight]", "pass"),
        ("predicted = batch[:, 1:].numel()", "predicted = batch.numel()"),
        ("values.scatter_add_(1, own[:, None], torch.full_like(sums, -1 / predicted))", "pass"),
        ("values.sub_(largest).exp_()", "values.exp_()"),
    ],
)
def test_each_rule_of_the_gradients_is_needed(passage, replacement):
    network, tokens = build_network(CONFIG), batch(5)
    with mutant(gradients, passage, replacement) as changed, one_core_each() as on_cores:
        changed.computes_in_bfloat16 = lambda _: False
        assert largest_gap(changed.loss_gradients(network, tokens, on_cores), network, tokens) > 1e-4


def test_large_logits_neither_overflow_nor_vanish():
    states, targets = torch.eye(3) * 300, torch.tensor([0, 1, 0])
    found = head_gradients(states, torch.eye(3), targets, 3)
    assert found.loss == pytest.approx(100)  # the third is 300 nats off
    torch.testing.assert_close(found.by_states, torch.tensor([[0.0, 0, 0], [0, 0, 0], [-1 / 3, 0, 1 / 3]]))


def test_gradients_do_not_depend_on_the_number_of_cores():
    network, tokens = build_network(CONFIG), batch(8)
    found = []
    for cores in (1, 3):
        with threads_of_torch(cores), one_core_each() as on_cores:
            found.append(loss_gradients(network, tokens, on_cores))
    alone, together = found
    assert alone.loss == together.loss
    assert all(map(torch.equal, alone.by_parameter, together.by_parameter))
