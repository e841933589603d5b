"""A service that has no keys: on this machine alone, and beside no other on its port."""

import re
import socket
import subprocess
import sys

import pytest

from tests.serving.conftest import COMMAND, ROOT


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Port", "CF-Connecting-IP", "True-Client-IP", "Via",
     "X_Forwarded_For", "X-Forward-For", "Client-IP", "X-Remote-Addr", "X-ProxyUser-Ip", "X-Azure-ClientIP", "CDN-Loop",
     "X-Nf-Client-Connection-Ip", "X-Vercel-Forwarded-For", "CF-Ray", "X-Amzn-Trace-Id", "X-Envoy-Internal"],
)  # fmt: skip
def test_without_keys_forwarded_requests_are_refused(client, header):
    reply = client.get("/v1/models", headers={header: "127.0.0.1"})
    assert reply.status_code == 403 and "TRUSTTRACE_API_KEYS" in reply.json()["error"]["message"]


def test_without_keys_the_version_that_nginx_speaks_is_refused(service):
    host, port = service.url.removeprefix("http://").split(":")
    for path, status in (("/v1/models", 403), ("/livez", 200)):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(65_536).startswith(f"HTTP/1.1 {status}".encode())


def test_a_taken_port_is_one_sentence(service, client, deployment, tmp_path):
    before = client.get("/metrics").text
    assert re.search(r"trusttrace_requests_total\{.*\} [1-9]", before)
    port = service.url.rpartition(":")[2]
    environment = {**deployment.environment, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    second = subprocess.run(
        [sys.executable, "-m", "bentoml", *COMMAND, "--host", "127.0.0.1", "--port", port],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert second.returncode != 0
    assert f"port {port} is not free" in second.stderr and "Traceback" not in second.stderr + second.stdout
    assert re.search(r"trusttrace_requests_total\{.*\} [1-9]", client.get("/metrics").text)
