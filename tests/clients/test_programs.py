"""Real clients against the real service: what each gets is what a plain steered request gets."""

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

PYTHON = os.environ.get("TRUSTTRACE_CLIENTS_PYTHON")
PROGRAMS = Path(__file__).with_name("programs.py")
STANDARD_TESTS = Path(__file__).with_name("langchain_standard.py")

pytestmark = pytest.mark.skipif(PYTHON is None, reason="make test-clients runs it, with the clients")


def greatest_strength(url):
    """The most that privacy may be steered by."""
    dimensions = httpx.get(f"{url}/v1/steering/dimensions").json()["data"]
    (info,) = (info for info in dimensions if info["dimension"] == "privacy")
    return info["hard"][1]


@pytest.fixture(scope="module")
def strength(service_url):
    """Almost as strong as may be, so that a small random model is moved."""
    return round(0.9 * greatest_strength(service_url), 1)


@pytest.fixture(scope="module")
def expected(service_url, strength):
    """The steered answer, whose text differs from the unsteered one."""
    body = {"messages": [{"role": "user", "content": "you"}], "temperature": 0, "max_tokens": 8}
    answers = [
        httpx.post(f"{service_url}/v1/chat/completions", json={**body, "steering": steering}, timeout=60).json()
        for steering in ({"strengths": {"privacy": strength}}, "off")
    ]
    steered, plain = (answer["choices"][0]["message"]["content"] for answer in answers)
    assert steered != plain
    return steered


@pytest.fixture
def run(service_url, strength, tmp_path):
    """Runs a client's program; what it printed."""

    def program(client, *arguments):
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path), "OPENAI_API_KEY": "none"}
        command = [str(PYTHON), str(PROGRAMS), client, service_url, str(strength), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
        assert finished.returncode == 0, finished.stderr[-3000:]
        return json.loads(finished.stdout.splitlines()[-1])

    return program


def test_litellm(run, expected):
    overflow = "ContextWindowExceededError"
    assert run("litellm") == {"text": expected, "streamed": expected, "overflow": overflow}


def test_langchain_openai(run, expected):
    answers = run("langchain")
    for verdict in (answers.pop("structured"), answers.pop("called")):
        assert set(verdict) == {"yes"} and isinstance(verdict["yes"], bool)
    assert answers == {"text": expected, "streamed": expected, "responses": expected}


def test_instructor(run):
    verdicts = run("instructor")
    assert set(verdicts) == {"JSON_SCHEMA", "TOOLS"} and all(set(verdict) == {"yes"} for verdict in verdicts.values())


def test_openai_agents(run, expected):
    text = expected.partition(expected[4:6])[0]
    assert run("agents", expected[4:6]) == {"responses": text, "text": text}


def test_inspect_ai(run, expected):
    assert run("inspect") == {"text": expected, "responses": expected}


def test_lm_eval_gets_its_own_numbers_over_http(run, deployment):
    (checkpoint,) = deployment.model.glob("step_*")
    got = run("lm_eval", str(checkpoint))
    for steering in ("unsteered", "steered"):
        over_http, here = got[steering], got[f"{steering} here"]
        assert len(here["chosen"]) == 9 and len(here["written"]) == 3
        for (log_likelihood, is_greedy), (own, own_is_greedy) in zip(over_http["chosen"], here["chosen"], strict=True):
            assert log_likelihood == pytest.approx(own, abs=1e-4) and is_greedy == own_is_greedy
        assert (over_http["written"], over_http["accuracy"]) == (here["written"], here["accuracy"])
    apart = [abs(a[0] - b[0]) for a, b in zip(got["steered"]["chosen"], got["unsteered"]["chosen"], strict=True)]
    assert min(apart) > 0.01
    assert got["steered"]["written"] != got["unsteered"]["written"]


def test_llm(run, expected):
    assert run("llm") == {"text": expected}


NOT_OURS = {
    "test_stream_time",  # replays recorded answers of hosted models
    "test_json_mode",  # which keys an object has where no schema names them is the model's choice
    *("test_image_inputs", "test_audio_inputs", "test_pdf_inputs", "test_image_tool_message", "test_pdf_tool_message"),
    "test_anthropic_inputs",
}
"""Tests of LangChain's that want what the service does not offer."""


def test_langchains_standard_tests(calling_service, tmp_path):
    steered = f"caller@privacy={0.1 * greatest_strength(calling_service.url):.2g}"
    results, settings = tmp_path / "results.xml", tmp_path / "pytest.ini"
    # LangChain keeps its connections for the process, so every test has to run in one event loop.
    scopes = "asyncio_default_test_loop_scope = session\nasyncio_default_fixture_loop_scope = session\n"
    settings.write_text(f"[pytest]\nasyncio_mode = auto\n{scopes}")
    command = [str(PYTHON), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-c", str(settings)]
    command += ["--junitxml", str(results), str(STANDARD_TESTS)]
    environment = {"TRUSTTRACE_URL": calling_service.url, "TRUSTTRACE_STEERED_MODEL": steered, "NO_PROXY": "127.0.0.1"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, **environment})
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-1000:]
    cases = list(ElementTree.parse(results).iter("testcase"))
    skipped = {case.attrib["name"] for case in cases if case.find("skipped") is not None}
    assert skipped == NOT_OURS and len(cases) - len(skipped) >= 42
