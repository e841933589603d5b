"""The parts of the engine over vLLM that need no vLLM: rows, coefficients, steps, releases. The rest is tests/vllm."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.errors import InvalidInput, Mismatch, Unavailable
from serving.engine.vllm import rows as rows_module
from serving.engine.vllm import step as step_module
from serving.engine.vllm.process import require_allowed
from serving.engine.vllm.rows import (
    KEY,
    DirectionRows,
    RequestRows,
    cache_salt,
    encoded,
    operations_of,
    spans,
)
from serving.engine.vllm.step import Step
from serving.engine.vllm.version import TESTED, require_tested
from serving.steering.bank import SteeringBank
from serving.steering.plan import PHASES, phase_at
from tests.mutants import mutant
from tests.serving.engine.small_models import add, facts, plan, project, served_vector, small_bank


def references(told):
    return {row: vector.reference for row, vector, _ in told}


def test_vectors_keep_their_row_while_in_use():
    rows = DirectionRows(4)
    old, new = (plan(small_bank(version), [1.0, 0.0, 2.0]) for version in "12")
    first, told = rows.take(old)
    assert references(told) == {first[0]: "steer.small.toxicity/1", first[1]: "steer.small.fairness/1"}
    assert rows.take(old) == (first, [])
    second, told = rows.take(new)
    assert not set(first) & set(second)
    assert references(told) == {second[0]: "steer.small.toxicity/2", second[1]: "steer.small.fairness/2"}
    third = plan(small_bank("3"), [0.0, 1.0])
    assert rows.take(third) is None
    rows.give_back(first)
    assert rows.take(third) is None  # the other request of the old bank still runs
    rows.give_back(first)
    (row,), told = rows.take(third)
    assert row in first
    assert references(told) == {row: "steer.small.privacy/3"}
    again, told = rows.take(new)
    assert (again, told) == (second, [])


def test_a_released_row_is_sent_again():
    rows = DirectionRows(1)
    one, other = (plan(small_bank(version), [1.0]) for version in "12")
    for wanted in (one, other, one):
        taken, told = rows.take(wanted)
        assert references(told) == {0: wanted.bank.vectors[0].reference}
        rows.give_back(taken)


def test_more_vectors_than_rows_are_refused():
    with pytest.raises(
        InvalidInput, match="steers by 3 directions, one a layer of each vector, and the engine has rows for 2"
    ):
        DirectionRows(2).require_room(plan(small_bank(), [1.0] * 3))


def test_coefficients_on_the_workers_matrix_are_the_plans_offsets():
    """Decoded at other rows, times the matrix of those rows: what the slot engine adds, phase by phase."""
    bank = small_bank()
    given = [
        add(small_bank(), 0, 5.0, "all", "none"),
        add(small_bank(), 1, -4.0, "none"),
        add(small_bank(), 2, 0.5, "last"),
    ]
    steered = plan(bank, given)
    one = RequestRows.decoded(encoded(steered, [6, 0, 3]), prompt_length=4, rows=8)
    for layer in bank.layers:
        matrix = np.zeros((8, 32), np.float32)
        matrix[[6, 0, 3]] = bank.matrix(layer)
        found = one.at(np.arange(7)) @ matrix
        phases = ["prompt"] * 3 + ["last_prompt"] + ["generation"] * 3
        expected = [steered.offset(layer, phase) for phase in phases]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert set(phases) == set(PHASES)


def test_a_vector_of_several_layers_takes_a_row_for_each():
    bank = SteeringBank(facts(), (served_vector("toxicity", (0, 2), seed=1), served_vector("privacy", 1, seed=2)))
    steered, rows = plan(bank, [2.0, -1.0]), DirectionRows(4)
    taken, told = rows.take(steered)
    assert [(vector.dimension, layer) for _, vector, layer in told] == [
        ("toxicity", 0),
        ("toxicity", 2),
        ("privacy", 1),
    ]
    decoded = RequestRows.decoded(encoded(steered, taken), prompt_length=1, rows=4)
    matrices = np.zeros((3, 4, 32), np.float32)
    for row, vector, layer in told:
        matrices[layer, row] = vector.vector.at(layer).offset(1.0)
    for layer in range(3):
        expected = [steered.offset(layer, phase) for phase in ("last_prompt", "generation")]
        np.testing.assert_allclose(decoded.at(np.arange(2)) @ matrices[layer], expected, atol=1e-6)
    assert rows.take(plan(bank, [1.0]))[1] == []  # its rows are held already
    with pytest.raises(InvalidInput, match="by 3 directions"):
        DirectionRows(2).require_room(steered)


def test_spans_place_tokens_in_batch_and_sequence():
    found = [(span, positions.tolist()) for span, positions in spans([0, 7, 2], [3, 1, 2])]
    assert found == [(slice(0, 3), [0, 1, 2]), (slice(3, 4), [7]), (slice(4, 6), [2, 3])]


def scheduled(new=(), finished=()):
    """What vLLM's scheduler hands to its workers, as far as a step looks at it."""
    requests = [
        SimpleNamespace(
            req_id=name,
            prompt_token_ids=[1] * length,
            sampling_params=SimpleNamespace(extra_args=None if carried is None else {KEY: carried}),
        )
        for name, length, carried in new
    ]
    return SimpleNamespace(scheduled_new_reqs=requests, finished_req_ids=set(finished))


def test_a_step_has_one_row_per_token():
    step = Step(tokens=16, rows=3, device=torch.device("cpu"))
    step.layer_of[:] = [0, 5, 7]
    step.admit(scheduled([("a", 4, {"rows": [1], "coefficients": [[1.0], [2.0], [3.0]]}), ("b", 2, None)]))
    held = step.coefficients
    step.fill(["b", "a"], [0, 0], [2, 6])
    assert held[:8, 1].tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    assert not held[:, [0, 2]].any()
    assert step.layers == {5}
    step.fill(["a"], [3], [1])  # begun again at its last prompt token, as after a cache hit
    assert held[:, 1].tolist() == [2] + [0] * 15
    step.admit(scheduled(finished=["a"]))
    step.fill(["b"], [2], [1])
    assert not held.any()
    assert step.layers == set()
    assert step.coefficients is held


def test_readings_name_the_tokens_of_those_who_asked():
    step = Step(tokens=16, rows=1, device=torch.device("cpu"))
    step.admit(scheduled([("a", 4, {"read": "k", "layers": [0, 2]}), ("b", 3, None)]))
    assert step.has_readers
    step.fill(["b", "a"], [0, 0], [3, 2])
    assert step.readings == [(slice(3, 5), 0, "k", frozenset({0, 2}))]
    assert step.reads
    step.keep("k", 0, 0, torch.ones(2, 8))
    step.keep("k", 0, 2, torch.zeros(2, 8))
    assert step.taken("k")[0].shape == (4, 8)
    assert step.taken("k") == {}
    step.admit(scheduled(finished=["a"]))
    assert not step.has_readers


def read_in_parts(module, parts):
    """A text of four tokens, read in ``parts``; the state of a token is its step and its position."""
    step = module.Step(tokens=16, rows=1, device=torch.device("cpu"))
    step.admit(scheduled([("a", 4, {"read": "k", "layers": [0]})]))
    for number, (computed, count) in enumerate(parts):
        step.fill(["b", "a"], [7, computed], [3, count])
        ((span, first, key, _),) = step.readings
        assert span == slice(3, 3 + count)
        states = [[float(number), float(position)] for position in range(computed, computed + count)]
        step.keep(key, 0, first, torch.tensor(states))
    return step.taken("k")[0].tolist()


def test_a_text_that_is_read_anew_keeps_its_order():
    anew = [(0, 3), (0, 3), (3, 1)]
    expected = [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert read_in_parts(step_module, anew) == expected
    assert read_in_parts(step_module, [(0, 2), (2, 2)]) == [[0.0, 0.0], [0.0, 1.0], [1.0, 2.0], [1.0, 3.0]]
    with mutant(step_module, "int(first), *self", "0, *self") as careless:
        assert read_in_parts(careless, anew) != expected


def test_untested_and_missing_releases_are_refused():
    for release in TESTED:
        require_tested(release)
    with pytest.raises(Mismatch, match=rf"vLLM 0\.11\.2 is installed and this engine was tested with {TESTED[0]}"):
        require_tested("0.11.2")
    with pytest.raises(Unavailable, match=f"pip install vllm=={TESTED[-1]}"):
        require_tested(None)


@pytest.mark.parametrize("name", ["max_model_len", "worker_extension_cls", "speculative_config", "trust_remote_code"])
def test_arguments_that_would_break_steering_are_refused(name):
    require_allowed({"tensor_parallel_size": 2, "distributed_executor_backend": "ray"})
    with pytest.raises(InvalidInput, match=f"{name} among the arguments for vLLM"):
        require_allowed({name: 1})


def test_rows_that_are_forgotten_are_told_again():
    rows, steered = DirectionRows(2), plan(small_bank(), [1.0])
    taken, told = rows.take(steered)
    rows.forget(row for row, _, _ in told)
    rows.give_back(taken)
    assert len(rows.take(steered)[1]) == len(told) == 1


def test_cached_prefixes_need_equal_phases():
    plain, alike, parted, read = (
        plan(small_bank(), given)
        for given in (
            [],
            [add(small_bank(), 0, 1.0, "all", "all")],
            [add(small_bank(), 0, 1.0, "last", "all")],
            [project(small_bank(), 0, 1.0, -1.0, 1.0)],
        )
    )
    assert cache_salt(plain, 3, "a") == cache_salt(plain, 4, "b") == ""
    assert cache_salt(alike, 3, "a") == cache_salt(alike, 4, "b")
    for given in (parted, read):
        assert cache_salt(given, 3, "a") != cache_salt(given, 4, "a")
        assert cache_salt(given, 3, "a") == cache_salt(given, 3, "b")
    assert len({cache_salt(steering, 3, "a") for steering in (plain, alike, parted, read)}) == 4


def test_a_prompt_that_its_states_move_is_read_each_time():
    moved = plan(small_bank(), [project(small_bank(), 0, 1.0, -1.0, 1.0, prompt="all")])
    assert cache_salt(moved, 3, "a") != cache_salt(moved, 3, "b")
    alike = plan(small_bank(), [project(small_bank(), 0, 1.0, -1.0, 1.0), add(small_bank(), 1, 1.0, "all")])
    assert cache_salt(alike, 3, "a") != cache_salt(alike, 4, "a")
    with mutant(rows_module, " and not plan.state_dependent", "") as careless:
        assert careless.cache_salt(alike, 3, "a") == careless.cache_salt(alike, 4, "a")


def test_a_client_finds_nothing_that_another_asked():
    settings = [[], [add(small_bank(), 0, 1.0, "all", "all")], [add(small_bank(), 0, 1.0, "last", "all")]]
    plans = [plan(small_bank(), given) for given in settings]
    salts = {cache_salt(steering, 3, "a", client) for steering in plans for client in ("", "10.0.0.1", "10.0.0.2")}
    assert len(salts) == 9
    assert not any("10.0.0" in salt for salt in salts)
    assert cache_salt(plans[1], 3, "a", "10.0.0.1") == cache_salt(plans[1], 4, "b", "10.0.0.1")


def test_a_pipeline_of_workers_only_adds():
    assert operations_of({}) == operations_of({"pipeline_parallel_size": 1}) == {"add", "project", "when", "monitor"}
    assert operations_of({"pipeline_parallel_size": 2, "tensor_parallel_size": 2}) == {"add"}


def test_positions_know_their_phase():
    found = [phase_at(position, 3) for position in range(5)]
    assert found == ["prompt", "prompt", "last_prompt", "generation", "generation"]
