"""What an engine is asked for and cannot do is refused by the field's name, with a way out."""

from dataclasses import replace

import pytest

from registry.errors import Mismatch
from serving.api.errors import as_reply
from serving.engine.base import PromptTooLong
from serving.engine.requirements import require_bank_of, require_room
from serving.steering.bank import SteeringBank
from serving.steering.plan import SteeringPlan
from tests.serving.engine.small_models import facts


def test_a_bank_is_of_a_model_wherever_its_weights_lie():
    plan, here = SteeringPlan(SteeringBank(facts())), facts()
    require_bank_of(plan, replace(here, checkpoint=replace(here.checkpoint, repo="/elsewhere", step=7)))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (facts(model="large"), "the bank is for small with d_model 32 and 3 layers, and the model is large with 32"),
        (facts(64), "and the model is small with 64 and 3"),
        (facts(n_layers=4), "and the model is small with 32 and 4"),
        (replace(facts(), weights_digest="ef" * 32), "their weights differ"),
    ],
)
def test_a_bank_of_another_model_is_refused(other, told):
    with pytest.raises(Mismatch, match=told):
        require_bank_of(SteeringPlan(SteeringBank(facts())), other)


@pytest.mark.parametrize(
    ("is_answered", "most", "words"),
    [
        (True, 7, "length is 8 tokens, one of them for the answer. However, your prompt has 8 tokens"),
        (False, 8, "length is 8 tokens. However, your text has 9 tokens"),
    ],
)
def test_a_text_may_fill_the_window_a_prompt_not(is_answered, most, words):
    require_room([1] * most, 8, is_answered=is_answered)
    with pytest.raises(PromptTooLong) as refused:
        require_room([1] * (most + 1), 8, is_answered=is_answered)
    status, content, _ = as_reply(refused.value)
    assert (status, content["error"]["code"]) == (400, "context_length_exceeded")
    assert words in content["error"]["message"]
