"""Memory that a released model took goes back to the system."""

import subprocess
import sys

RESIDENT = """
import sys
from serving.model.freed_memory import give_back_freed_memory
def mib():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4096 / 2**20
blocks = [bytearray(100_000) for _ in range(1000)]
last = bytearray(100_000)
del blocks
before = mib()
if sys.argv[1] == "given back":
    give_back_freed_memory()
print(before - mib())
"""


def test_freed_memory_goes_back():
    given_back, kept = (
        float(subprocess.run([sys.executable, "-c", RESIDENT, how], capture_output=True, check=True, text=True).stdout)
        for how in ("given back", "kept")
    )
    assert given_back > 50 > kept
