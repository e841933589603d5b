import re
from pathlib import Path

import pytest

from registry.errors import InvalidInput
from serving.settings import Settings, read_settings

README = (Path(__file__).parents[2] / "serving/README.md").read_text()


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of the service's environment; ``TRUSTTRACE_`` may be left out."""

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name if name == "MLFLOW_TRACKING_URI" else f"TRUSTTRACE_{name}", value)

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return set_variables


def test_an_empty_variable_counts_as_unset(environment):
    defaults = Settings()
    environment(SLOTS="  ", API_KEYS="", MODEL_NAME=" ")
    assert read_settings() == defaults == Settings.model_construct()


def test_every_setting_is_read_from_its_variable(environment):
    environment(
        API_KEYS="a, b,",
        SLOTS="4",
        TIMEOUT="1.5",
        TRACE="yes",
        VLLM_ARGUMENTS='{"seed": 1}',
        ENGINE="vllm",
        ADMIN_KEY=" secret ",
    )
    settings = read_settings()
    assert (settings.api_keys, settings.slots, settings.timeout, settings.trace) == (("a", "b"), 4, 1.5, True)
    assert (settings.vllm_arguments, settings.admin_key) == ({"seed": 1}, "secret")


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOTS", "0"), ("SLOTS", "many"), ("TIMEOUT", "nan"), ("TIMEOUT", "-1"), ("PRECISION", "fp8"), ("TRACE", "maybe"),
     ("API_KEYS", ","), ("MLFLOW_UI", "javascript:alert(1)"), ("QUEUE_LIMIT", "1e3"), ("VLLM_ARGUMENTS", "seed"),
     ("VLLM_ARGUMENTS", "[1]")],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_variable(environment, name, value):
    environment(**{name: value})
    with pytest.raises(InvalidInput, match=f"TRUSTTRACE_{name} is {re.escape(repr(value))}|TRUSTTRACE_{name} is \\[1"):
        read_settings()


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("TRUSTTRACE_MODLE", "TRUSTTRACE_MODEL"),
        ("TRUSTTRACE_API_KEY", "TRUSTTRACE_API_KEYS"),
        ("trusttrace_slot", "TRUSTTRACE_SLOTS"),
        ("TRUSTTRACE_CHEKPOINT", "TRUSTTRACE_CHECKPOINT"),
    ],
)
def test_a_variable_that_nearly_spells_a_setting_is_refused(monkeypatch, variable, setting):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InvalidInput, match=f"^{variable} is no setting; rename it to {setting}, or unset it$"):
        read_settings()
    monkeypatch.setenv(variable, " ")
    assert read_settings().slots == 16


def test_variables_of_others_are_let_be(monkeypatch):
    """Kubernetes names some for every service beside it, tests and containers have their own."""
    for name in ("PORT", "SERVICE_HOST", "PORT_3000_TCP_ADDR", "CACHE", "COMMIT", "MEMORY", "URL", "MODEL_PORT"):
        monkeypatch.setenv(f"TRUSTTRACE_{name}", "1")
    monkeypatch.setenv("MODLE", "1")
    assert read_settings().slots == 16


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FOUR_BIT", "maybe", "it must be true or false"),
        ("SLOTS", "1e3", "it must be a whole number in digits, such as 16"),
        ("VLLM_ARGUMENTS", "[1]", 'it must be a JSON object, such as {"tensor_parallel_size": 2}'),
        ("VLLM_ARGUMENTS", "{", "it must be a JSON object, and cannot be read as JSON"),
        ("VLLM_ARGUMENTS", '{"seed": 1}', "set TRUSTTRACE_ENGINE=vllm, or unset them"),
        ("MODEL_NAME", "org/My Model", "such as my-model"),
    ],
)
def test_a_refused_value_comes_with_a_way_out(environment, name, value, told):
    environment(**{name: value})
    with pytest.raises(InvalidInput, match=re.escape(told)):
        read_settings()


def test_origins_are_read_as_browsers_send_them(environment):
    environment(
        ALLOWED_ORIGINS="HTTPS://Chat.Example/, http://localhost:8080,https://a.example:443, app://obsidian.md, "
    )
    expected = ("https://chat.example", "http://localhost:8080", "https://a.example", "app://obsidian.md")
    assert read_settings().allowed_origins == expected


@pytest.mark.parametrize(
    "origin", ["*", "null", "chat.example", "https://*.example", "https://a.example/b", "https://"]
)
def test_what_is_no_origin_is_refused(environment, origin):
    environment(ALLOWED_ORIGINS=f"https://chat.example,{origin}")
    with pytest.raises(InvalidInput, match=rf"TRUSTTRACE_ALLOWED_ORIGINS .*{re.escape(repr(origin))} is no origin"):
        read_settings()


def test_links_lead_to_the_tracking_server_without_its_password(environment):
    environment(MLFLOW_TRACKING_URI="http://me:secret@host:5000")
    assert read_settings().mlflow_ui == "http://host:5000"
    environment(MLFLOW_TRACKING_URI="sqlite:///x.db")
    assert read_settings().mlflow_ui is None


def test_the_readme_has_the_table_of_the_code():
    table = [line.strip() for line in (Settings.__doc__ or "").splitlines() if line.strip().startswith("| `")]
    documented = {re.match(r"\| `TRUSTTRACE_(\w+)`", line).group(1).lower() for line in table if "`TRUSTTRACE_" in line}
    assert documented == set(Settings.model_fields)
    for line in table:
        assert line in README
