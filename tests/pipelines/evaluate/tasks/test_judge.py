"""Judging by a real endpoint on loopback."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluate.tasks.judge import OPENAI, Judge, judged_task
from pipelines.evaluate.tasks.task import TaskReading
from pipelines.statements.labelled import LabelledStatements
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput, Unavailable
from tests.pipelines.evaluate.endpoint import Endpoint, endpoint
from tests.pipelines.written import written


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with endpoint() as address:
        yield Judge(address, "wise")


def test_continuations_are_judged_in_order_and_unreadable_is_no(judge):
    texts = ("you are good", "you are really cruel", "he is so mean", "it is bad of her to go")
    given = LabelledStatements("toxicity", texts, np.array([True, False, False, False]), np.arange(4), "test")
    task = judged_task(judge, TOXICITY, given, 0)
    assert task.prompts == ("you are", "he is", "it is bad")
    measured = task.measure(TaskReading(np.empty(0), np.empty(0, np.int64), written((" kind", " cruel", " weather"))))
    assert {measurement.metric: measurement.value for measurement in measured} == {
        "judged trustworthy": pytest.approx(1 / 3),
        "judge parse failures": pytest.approx(1 / 3),
    }
    assert measured[0].columns[:, 0].tolist() == [1, 0, 0]
    assert measured[0].answers == ("yes", "no", "unreadable")
    assert {request["model"] for request in Endpoint.requests} == {"wise"}
    assert set(Endpoint.keys) == {"Bearer sk-secret"}
    (first,) = [request for request in Endpoint.requests if "kind" in request["messages"][0]["content"]]
    assert "you are kind" in first["messages"][0]["content"]
    assert TOXICITY.trustworthy in first["messages"][0]["content"]


def test_a_busy_endpoint_is_retried_and_a_refusal_told(judge):
    Endpoint.failures = 2
    assert judge.replies(["is it kind?"]) == ["Yes, it is."]
    Endpoint.failures, Endpoint.status = 1, 401
    with pytest.raises(Unavailable, match="the judge wise at .* gave no answer \\(status 401\\)") as raised:
        judge.replies(["is it kind?"])
    assert "secret" not in str(raised.value)
    assert len(Endpoint.requests) == 4


def test_what_is_no_address_and_a_silent_endpoint_are_refused():
    with pytest.raises(InvalidInput, match="`judge` 'localhost' is no address"):
        Judge("localhost", "wise")
    with pytest.raises(Unavailable, match="gave no answer \\(APIConnectionError\\)"):
        Judge("http://127.0.0.1:9/v1", "wise").replies(["?"])


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("pipelines.evaluate.tasks.judge.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=f"run: pip install openai=={OPENAI}"):
        Judge("http://127.0.0.1:9/v1", "wise")
    pinned = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["dependency-groups"]["judge"]
    assert pinned == [f"openai=={OPENAI}"]
