"""Judging by a real endpoint on loopback."""

import numpy as np
import pytest

from pipelines.evaluate.tasks.judge import Judge, judged_task
from pipelines.evaluate.tasks.task import Reading
from pipelines.statements.labelled import LabelledStatements
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput, Unavailable
from tests.pipelines.evaluate.endpoint import Endpoint, endpoint


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with endpoint() as address:
        yield Judge(address, "wise", pause=0.01)


def test_continuations_are_judged_in_order_and_unreadable_answers_count_as_no(judge):
    texts = ("you are good", "you are really cruel", "he is so mean", "it is bad of her to go")
    given = LabelledStatements("toxicity", texts, np.array([True, False, False, False]), np.arange(4), "test")
    task = judged_task(judge, TOXICITY, given, 0)
    assert task.prompts == ("you are", "he is", "it is bad")
    found = task.measure(Reading(np.empty(0), np.empty(0, np.int64), (" kind", " cruel", " weather")))
    assert {one.metric: one.value for one in found} == {
        "judged trustworthy": pytest.approx(1 / 3),
        "judge parse failures": pytest.approx(1 / 3),
    }
    assert found[0].columns[:, 0].tolist() == [1, 0, 0]
    assert found[0].answers == ("yes", "no", "unreadable")
    assert {one["model"] for one in Endpoint.asked} == {"wise"}
    assert set(Endpoint.keys) == {"Bearer sk-secret"}
    (first,) = [one for one in Endpoint.asked if "kind" in one["messages"][0]["content"]]
    assert "you are kind" in first["messages"][0]["content"]
    assert TOXICITY.trustworthy in first["messages"][0]["content"]


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_one_sentence(judge):
    Endpoint.failures = 2
    assert judge.replies(["is it kind?"]) == ["Yes, it is."]
    Endpoint.failures, Endpoint.status = 1, 401
    with pytest.raises(Unavailable, match="the judge wise at .* gave no answer \\(status 401\\)") as raised:
        judge.replies(["is it kind?"])
    assert "secret" not in str(raised.value)
    assert len(Endpoint.asked) == 4


def test_addresses_that_are_none_and_endpoints_that_are_silent():
    with pytest.raises(InvalidInput, match="judge 'localhost' is no address"):
        Judge("localhost", "wise")
    with pytest.raises(Unavailable, match="gave no answer \\(ConnectError\\)"):
        Judge("http://127.0.0.1:9/v1", "wise", pause=0.01).replies(["?"])
