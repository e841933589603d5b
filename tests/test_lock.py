"""The lock: every pinned requirement and all that it needs, with hashes. `make lock` writes it anew."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
ENTRY = re.compile(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M)


def test_every_line_is_a_version_with_hashes():
    assert "".join(entry.group() + "\n" for entry in ENTRY.finditer(LOCK)) == LOCK


def pins(group: str) -> Iterator[str]:
    """The pins of a dependency group and of the groups that it includes."""
    for entry in GROUPS[group]:
        if isinstance(entry, dict):
            yield from pins(entry["include-group"])
        else:
            yield entry


def test_every_pin_is_locked_at_its_version():
    locked = {name: version for name, version, _ in ENTRY.findall(LOCK)}
    users = re.findall(r"^      - (\S+)$", (ROOT / "conda.yaml").read_text(), re.M)
    for pin in (*users, *pins("dev"), *pins("server")):
        name, version = re.match(r"([\w-]+)(?:\[\w+\])?==(.+)", pin).groups()
        assert locked.get(name.lower()) == version, f"{pin} is not locked: make lock"


def test_torch_is_locked_in_both_builds():
    locked = {name: hashes.count("sha256") for name, _, hashes in ENTRY.findall(LOCK)}
    assert locked["torch"] > 1
    assert any(name.startswith("nvidia-") for name in locked)
