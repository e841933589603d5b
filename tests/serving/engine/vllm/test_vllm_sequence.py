"""What a sequence that vLLM ran tells of its tokens that were moved; running it is tests/vllm."""

import pytest

from serving.engine.base import Generation
from serving.engine.vllm import vllm_sequence
from serving.model.token_bytes import TokenBytes
from tests.mutants import mutant
from tests.serving.engine.small_models import project, request, small_bank
from tests.serving.model.tokenizers_of_each_kind import byte_level

VECTOR = small_bank().vectors[0]


def outcome_of(module, read, tokens):
    """Of a prompt of three tokens and an answer, whose every token that vLLM may have read was moved."""
    moved = project(small_bank(), 0, 1.0, -1.0, 1.0, prompt="all")
    generation = Generation(request([5, 6, 7], [moved], small_bank(), prompt_logprobs=True))
    running = module.VllmSequence(generation, TokenBytes(byte_level()))
    running.tokens, running.cached = tokens, read
    running.moved = {0: set(range(3 + len(tokens)))}
    running.finish("length")
    return generation.outcome


@pytest.mark.parametrize(("read", "tokens", "counts"), [(3, [], (3, 0)), (3, [8], (3, 0)), (5, [8, 9, 10], (3, 2))])
def test_moved_tokens_are_those_that_were_read(read, tokens, counts):
    outcome = outcome_of(vllm_sequence, read, tokens)
    assert outcome.moved == {VECTOR.reference: counts}
    assert (outcome.steered_prompt, outcome.steered_generation) == counts


def test_an_echoed_prompt_has_a_last_token():
    with mutant(vllm_sequence, "if position < self.cached", "if position < self.position") as careless:
        assert outcome_of(careless, 3, []).moved == {VECTOR.reference: (2, 0)}
