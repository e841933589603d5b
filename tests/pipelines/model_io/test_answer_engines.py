"""Answer engines: copies of a small model, one a core, kept from one lot of answers to the next."""

import pytest
import torch

from pipelines.model_io import answer_engines, continuations
from pipelines.model_io.answer_engines import COPIED, copies_of, engines_for, keeping_engines
from pipelines.model_io.continuations import continuations_of_settings
from pipelines.model_io.likelihoods import likelihoods
from registry.errors import InvalidInput
from serving.engine.base import Sampling
from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.threads import threads_of_torch

PROMPTS = ("the city", "you are", "a letter of Paris is", "kind", "the city of") * 8


@pytest.fixture(params=["float32", "bfloat16"])
def model(request, series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision=request.param)


@pytest.fixture
def two_cores():
    with threads_of_torch(2):
        yield


@pytest.fixture
def opened(monkeypatch):
    """Every engine that is opened, with the threads that it has."""
    found = []

    def opening(model, **given):
        engine = SlotEngine(model, **given)
        found.append((engine, torch.get_num_threads()))
        return engine

    monkeypatch.setattr(answer_engines, "SlotEngine", opening)
    return found


def write(model, module=continuations):
    settings = [{}, {1: torch.full((model.d_model,), 2.0)}]
    return module.continuations_of_settings(model, PROMPTS, Sampling(4, seed=3), settings)


def is_running(engine):
    return engine._thread.is_alive()


def check_sharing(model, opened, module=continuations):
    written = write(model, module)
    assert [(engine.stats().generated_tokens_total > 100, threads) for engine, threads in opened] == [(True, 1)] * 2
    return written


@pytest.mark.usefixtures("two_cores")
def test_each_core_has_an_engine_with_half_of_the_answers(model, opened):
    check_sharing(model, opened)
    assert torch.get_num_threads() == 2
    assert not any(is_running(engine) for engine, _ in opened)
    assert all(engine.model.network is not model.network for engine, _ in opened)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("model", ["float32"], indirect=True)
def test_engines_on_copies_answer_as_the_model_itself(model, opened, monkeypatch):
    shared = write(model)
    monkeypatch.setattr(answer_engines, "COPIED", 0)
    alone = write(model)
    assert [engine.model is model for engine, _ in opened] == [False, False, True]
    assert [answers.tokens for answers in shared] == [answers.tokens for answers in alone]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("model", ["float32"], indirect=True)
@pytest.mark.parametrize("change", [("place * len(engines) // len(group)", "0")])
def test_a_mutant_leaves_a_core_idle(model, opened, change):
    with mutant(continuations, *change) as changed, pytest.raises(AssertionError):
        check_sharing(model, opened, changed)


@pytest.mark.usefixtures("two_cores")
def test_kept_engines_are_opened_once(model, opened):
    texts = ["the city of Paris is kind", "you are cruel"]
    before = likelihoods(model, texts).log_probabilities.tolist()
    with keeping_engines(model), keeping_engines(model):
        assert not opened
        first = write(model)
        assert likelihoods(model, texts).log_probabilities.tolist() == before
        again = write(model)
        assert len(opened) == 2 and all(is_running(engine) for engine, _ in opened)
    assert not any(is_running(engine) for engine, _ in opened)
    if model.dtype == torch.float32:
        assert [answers.tokens for answers in first] == [answers.tokens for answers in again]
    with engines_for(model, 1):
        assert len(opened) == 3


@pytest.mark.usefixtures("two_cores")
def test_kept_engines_end_with_an_error(model, opened):
    with pytest.raises(InvalidInput), keeping_engines(model):
        write(model)
        raise InvalidInput("wrong")
    assert not any(is_running(engine) for engine, _ in opened)
    assert not answer_engines._kept


@pytest.mark.usefixtures("two_cores")
def test_large_models_are_borrowed(model, opened, monkeypatch):
    monkeypatch.setattr(answer_engines, "COPIED", 0)
    assert copies_of(model) == 0
    with keeping_engines(model):
        write(model)
        assert not any(is_running(engine) for engine, _ in opened)
    assert [(engine.model is model, threads) for engine, threads in opened] == [(True, 2)]


def test_copies_take_a_bounded_share_of_memory(model, monkeypatch):
    size = sum(weight.nbytes for weight in model.network.parameters())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for copied, count in ((3 * size, 3), (3 * size - 1, 2), (COPIED, 8)):
        monkeypatch.setattr(answer_engines, "COPIED", copied)
        assert copies_of(model) == count


def test_few_answers_are_written_by_one_engine(model, opened):
    continuations_of_settings(model, PROMPTS[:5], Sampling(2), [{}])
    assert [engine.model is model for engine, _ in opened] == [True]


@pytest.mark.parametrize("model", ["float32"], indirect=True)
def test_engines_that_do_not_divide_the_cores_use_all(model, opened, monkeypatch):
    size = sum(weight.nbytes for weight in model.network.parameters())
    monkeypatch.setattr(answer_engines, "COPIED", 2 * size)
    with threads_of_torch(3):
        write(model)
    assert [threads for _, threads in opened] == [2, 1]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("model", ["float32"], indirect=True)
def test_an_engine_that_cannot_be_opened_closes_the_others(model, opened, monkeypatch):
    opening = answer_engines.SlotEngine

    def failing(model, **given):
        if opened:
            raise InvalidInput("no room")
        return opening(model, **given)

    monkeypatch.setattr(answer_engines, "SlotEngine", failing)
    with keeping_engines(model):
        with pytest.raises(InvalidInput, match="no room"):
            write(model)
        assert not is_running(opened[0][0])
