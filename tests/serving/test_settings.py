"""Settings from an environment, and the documentation of them."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from registry.errors import InvalidInput
from serving.settings import Settings, read_settings

README = (Path(__file__).parents[2] / "serving" / "README.md").read_text()


def test_an_empty_environment_gives_the_defaults():
    assert read_settings({}) == Settings()
    assert read_settings({"TRUSTTRACE_SLOTS": "  "}) == Settings()


def test_every_setting_is_read_from_its_variable():
    found = read_settings(
        {
            "TRUSTTRACE_API_KEYS": "a, b,",
            "TRUSTTRACE_SLOTS": "4",
            "TRUSTTRACE_TIMEOUT": "1.5",
            "TRUSTTRACE_TRACE": "yes",
        }
    )
    assert (found.api_keys, found.slots, found.timeout, found.trace) == (("a", "b"), 4, 1.5, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOTS", "0"), ("SLOTS", "many"), ("TIMEOUT", "nan"), ("TIMEOUT", "-1"), ("PRECISION", "fp8"), ("TRACE", "maybe"),
     ("API_KEYS", ","), ("MLFLOW_UI", "javascript:alert(1)"), ("QUEUE_LIMIT", "1e3")],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_named_with_its_variable(name, value):
    with pytest.raises(InvalidInput, match=f"TRUSTTRACE_{name}"):
        read_settings({f"TRUSTTRACE_{name}": value})


def test_the_tracking_server_is_where_links_lead_without_its_password():
    assert read_settings({"MLFLOW_TRACKING_URI": "http://me:secret@host:5000"}).mlflow_ui == "http://host:5000"
    assert read_settings({"MLFLOW_TRACKING_URI": "sqlite:///x.db"}).mlflow_ui is None


def test_the_readme_has_the_table_of_the_settings_as_it_stands_in_the_code():
    table = [line.strip() for line in (Settings.__doc__ or "").splitlines() if line.strip().startswith("| `")]
    assert {re.match(r"\| `TRUSTTRACE_(\w+)`", line).group(1).lower() for line in table if "`TRUSTTRACE_" in line} == {
        field.name for field in fields(Settings)
    }
    for line in table:
        assert line in README
