"""The lock: every pinned requirement and all that it needs, with hashes. `make lock` writes it anew."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
ENTRY = re.compile(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M)


def test_every_line_is_a_version_with_hashes():
    assert "".join(entry.group() + "\n" for entry in ENTRY.finditer(LOCK)) == LOCK


def test_every_pin_is_locked_at_its_version():
    locked = {name: version for name, version, _ in ENTRY.findall(LOCK)}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pins = re.findall(r"^      - (\S+)$", (ROOT / "conda.yaml").read_text(), re.M)
    for pin in (*pins, *groups["dev"], *groups["server"], *groups["judge"], *groups["lora"]):
        if isinstance(pin, dict):  # a group in a group
            continue
        name, version = re.match(r"([\w-]+)(?:\[\w+\])?==(.+)", pin).groups()
        assert locked.get(name.lower()) == version, f"{pin} is not locked: make lock"


def test_torch_is_locked_in_both_builds():
    locked = {name: hashes.count("sha256") for name, _, hashes in ENTRY.findall(LOCK)}
    assert locked["torch"] > 1
    assert any(name.startswith("nvidia-") for name in locked)
