import threading
from contextlib import closing

import numpy as np
import pytest
import torch

from pipelines.model_io import passes
from pipelines.model_io.activations import extract
from pipelines.model_io.likelihoods import ReadingCache, likelihoods
from pipelines.model_io.passes import run_passes
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.threads import threads_of_torch

TEXTS = [f"the city of Paris is {end}" for end in ("in France", "kind", "cruel .", "a letter")] + [
    f"you are {word}" for word in ("kind", "cruel", "in France", "a letter", "of Paris", ".")
]


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def on(number, read):
    with threads_of_torch(number):
        return read()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_states_do_not_depend_on_the_number_of_cores(model, pooling):
    alone, together = (on(n, lambda: extract(model, TEXTS, pooling=pooling, tokens_per_batch=8)) for n in (1, 3))
    np.testing.assert_array_equal(alone.hidden_states, together.hidden_states)


def test_likelihoods_do_not_depend_on_the_number_of_cores(model, rng):
    found = []
    directions = [torch.tensor(rng.normal(size=model.d_model).astype(np.float32)) for _ in range(3)]
    for number in (1, 3):
        cache = ReadingCache()
        for offsets in ({}, *({1: direction} for direction in directions), {0: directions[0], 1: directions[1]}):
            found.append(on(number, lambda: likelihoods(model, TEXTS, offsets, cache=cache, tokens_per_batch=8)))  # noqa: B023
    for alone, together in zip(found[:5], found[5:], strict=True):
        np.testing.assert_array_equal(alone.log_probabilities, together.log_probabilities)
    assert len({each.log_probabilities.tobytes() for each in found[:5]}) == 5


def test_passes_in_several_threads_keep_their_order(model):
    meeting, names = threading.Barrier(3, timeout=20), []

    def run(batch):
        meeting.wait()  # three are under way at once, or none comes past here
        names.append(threading.current_thread().name)
        return batch, torch.get_num_threads()

    with threads_of_torch(3):
        assert list(run_passes(model, run, range(9))) == [(batch, 1) for batch in range(9)]
        assert torch.get_num_threads() == 3
    assert len(set(names)) == 3


def threads_of(model, batches, module=passes):
    with threads_of_torch(2):
        return set(module.run_passes(model, lambda _: threading.current_thread(), range(batches)))


@pytest.mark.parametrize(
    "rope", [{"rope_type": "dynamic", "factor": 2.0}, {"sliding": {"rope_type": "longrope"}, "full": {}}]
)
def test_a_model_that_passes_change_runs_them_in_turn(model, rope):
    assert threading.current_thread() not in threads_of(model, 4)
    model.network.config.rope_parameters = rope
    assert threads_of(model, 4) == {threading.current_thread()}
    with mutant(passes, 'CHANGING = ("dynamic", "longrope")', "CHANGING = ()") as changed:
        assert threading.current_thread() not in threads_of(model, 4, changed)


def test_fewer_batches_than_cores_have_all_cores(model):
    assert threads_of(model, 1) == {threading.current_thread()}


def test_a_reading_that_is_left_gives_the_threads_back(model):
    with threads_of_torch(2):
        with closing(run_passes(model, abs, range(9))) as reading:
            assert next(reading) == 0
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2


def test_a_failed_pass_leaves_the_model_as_it_was(model):
    bad = torch.full((model.d_model + 1,), 1.0)
    with threads_of_torch(2), pytest.raises(RuntimeError, match="must match"):
        likelihoods(model, TEXTS, {1: bad}, cache=ReadingCache(), tokens_per_batch=8)
    assert all("forward" not in vars(module) for module in model.network.modules())
    assert not any(module._forward_hooks for module in model.network.modules())
    alone, again = (on(n, lambda: likelihoods(model, TEXTS, tokens_per_batch=8)) for n in (1, 2))
    np.testing.assert_array_equal(alone.log_probabilities, again.log_probabilities)


@pytest.mark.parametrize("first", [extract, lambda model, texts: likelihoods(model, texts, {1: torch.ones(16)})])
def test_shared_beginnings_are_read_once_from_the_start(model, first):
    tokens = []
    counting = model.network.model.register_forward_pre_hook(
        lambda _module, _inputs, named: tokens.append(named["input_ids"].numel()), with_kwargs=True
    )
    first(model, TEXTS)
    found_out = len(tokens)
    first(model, TEXTS)
    counting.remove()
    again = tokens[found_out:]
    assert tokens[-2 * len(again) : -len(again)] == again
    assert sum(again) < 0.9 * sum(len(model.tokenizer(text)["input_ids"]) for text in TEXTS)
