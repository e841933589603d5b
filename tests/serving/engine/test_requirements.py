"""What an engine is asked for and cannot do is refused by the field's name, with a way out."""

import pytest

from registry.errors import InvalidInput
from serving.engine.base import Sampling
from serving.engine.calls import CallFrame, Calls
from serving.engine.requirements import require_free_text

CALLS = Calls((CallFrame("a", "<", {"type": "object"}, ">"),))


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("echo", {"prompt_logprobs": True}),
        ("response_format", {"schema": {}}),
        ("response_format", {"schema": {"type": "object"}}),
        ("tools", {"calls": CALLS}),
    ],
)
def test_what_needs_the_slot_engine_is_refused_by_name(field, given):
    way_out = f"cannot do `{field}`: leave `{field}` out, or serve with TRUSTTRACE_ENGINE=slots"
    with pytest.raises(InvalidInput, match=way_out):
        require_free_text(Sampling(8, **given))


def test_plain_answers_with_log_probabilities_pass():
    require_free_text(Sampling(8, top_logprobs=5, stop=("a",)))
