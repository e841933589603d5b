"""Shared state: what administrators changed while the service runs, in a small file that all its workers read."""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.errors import Unavailable
from serving.steering.request import DimensionSteering

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """What differs from how the service was started."""

    default: DimensionSteering = field(default_factory=DimensionSteering)
    """Steering that requests inherit."""
    vectors: tuple[str, ...] = ()
    """Versions that are live beside the champions, such as ``steer.tiny.toxicity/3``."""
    announced: int = 0
    """How often the registry has said that something changed there."""

    def to_dict(self) -> dict[str, Any]:
        return {"default": self.default.to_dict(), "vectors": list(self.vectors), "announced": self.announced}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Changes":
        return cls(DimensionSteering.from_dict(values["default"]), tuple(values["vectors"]), values["announced"])


class SharedState:
    """The changes in ``path``, replaced whole, so that readers never wait; without a path they stay in this process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int] | None, Changes] = None, Changes()
        """Which file was read last, and what it said: replaced together, since many threads ask at once."""

    def current(self) -> Changes:
        """What holds now: another process's change is seen by the next call. Costs a look at the file's date."""
        read, changes = self._seen
        if self._path is None:
            return changes
        try:
            status = self._path.stat()
            version = status.st_ino, status.st_mtime_ns
            if version != read:
                changes = Changes.from_dict(json.loads(self._path.read_text()))
                self._seen = version, changes
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.error("what other workers changed could not be read, keeping what is known: %s", error)
        return changes

    def update(self, change: Callable[[Changes], Changes]) -> None:
        """Replace the changes by what ``change`` makes of them; processes take turns. Raises ``Unavailable``."""
        if self._path is None:
            self._seen = None, change(self._seen[1])
            return
        try:
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                changed = change(self.current())
                scratch = self._path.with_suffix(".new")
                scratch.write_text(json.dumps(changed.to_dict()))
                os.replace(scratch, self._path)
                self._seen = None, changed
        except OSError as error:
            raise Unavailable(f"the change could not be told to all workers ({error}); nothing was changed") from error
