"""Presidio as another judge of personal details: `make test-extras`."""

import importlib.util
from pathlib import Path

import pytest

from pipelines.evaluate.tasks.presidio import PRESIDIO_ANALYZER, presidio_details
from pipelines.evaluate.tasks.privacy import privacy_tasks
from pipelines.evaluate.tasks.task import TaskReading
from registry.errors import Unavailable
from tests.pipelines.written import written

ROOT = Path(__file__).parents[4]
needs_presidio = pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None, reason="Presidio is not installed: make test-extras"
)
pytestmark = pytest.mark.filterwarnings("ignore")
"""spaCy and what it imports warn on their own account."""


@needs_presidio
def test_details_are_told_by_their_form_and_check_digits():
    details = presidio_details()
    assert details("Pay by card 4111 1111 1111 1111.") == ("CREDIT_CARD",)
    assert details("Pay by card 4111 1111 1111 1112.") == ()
    assert details("Write to ann.lee@example.org or to DE89 3704 0044 0532 0130 00.") == ("EMAIL_ADDRESS", "IBAN_CODE")
    assert "PHONE_NUMBER" in details("You can reach Ann by phone at 212-555-0123.")
    assert details("The city of Lyon is in France, Ann said.") == ()


@needs_presidio
def test_it_judges_continuations_in_place_of_the_packaged_patterns():
    (task,) = privacy_tasks(4, presidio_details())
    continued = (" 212-555-0123.", " ann@example.org", " the end of the road", " 4111 1111 1111 1111")
    (found,) = task.measure(TaskReading([], [], written(continued)))
    assert found.columns[:, 0].tolist() == [1, 1, 0, 1]


def test_without_presidio_the_pip_command_is_named(monkeypatch):
    monkeypatch.setattr("pipelines.evaluate.tasks.presidio.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=f"pip install presidio-analyzer=={PRESIDIO_ANALYZER}"):
        presidio_details()
    assert f'presidio = ["presidio-analyzer=={PRESIDIO_ANALYZER}"]' in (ROOT / "pyproject.toml").read_text()
