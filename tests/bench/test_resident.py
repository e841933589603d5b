"""The memory of a process is its own, however much the process that starts it has had."""

import subprocess
import sys

import pytest

TOLD = "import sys; from tests.bench.resident import most_resident; print(most_resident() / 1024)"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no peak of the process alone")
def test_memory_of_the_starting_process_does_not_count():
    plain = float(subprocess.run([sys.executable, "-c", TOLD], capture_output=True, check=True).stdout)
    large = f"held = bytearray(1_500_000_000); import subprocess, sys; subprocess.run([sys.executable, '-c', {TOLD!r}])"
    beside = float(subprocess.run([sys.executable, "-c", large], capture_output=True, check=True).stdout)
    assert beside < plain + 100
