"""The requests of README.md, pasted into a shell against the real service."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"
REQUESTS = re.findall(r"(?m)^    (curl (?:.+\n)(?:     .+\n)*)", README.read_text())


def test_readme_requests_a_chat_and_a_text():
    paths = [re.search(r"/v1/[a-z/]+", request)[0] for request in REQUESTS]
    assert paths == ["/v1/chat/completions", "/v1/completions"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("request_text", REQUESTS)
def test_a_request_of_the_readme_is_answered_steered(request_text, service_url):
    command = request_text.replace("curl http://127.0.0.1:3000", f"curl --silent --fail-with-body {service_url}")
    assert service_url in command
    answered = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert answered.returncode == 0, answered.stdout
    body = json.loads(answered.stdout)
    assert body["usage"]["completion_tokens"] > 0
    wanted = json.loads(re.search(r"-d '(.*)'", request_text, re.DOTALL)[1])["steering"]["strengths"]
    assert {vector["dimension"]: vector["strength"] for vector in body["steering"]["applied"]} == wanted
