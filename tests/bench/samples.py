"""Samples of where a thread is: which of our lines, and the call below it, its time goes to."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[2]
PERIOD = 0.001
"""Seconds between two looks."""


class Samples:
    """While open, looks at one thread a thousand times a second; it slows that thread down a little."""

    def __init__(self, thread: threading.Thread | None = None) -> None:
        self._thread = thread or threading.current_thread()
        self._lines: Counter[str] = Counter()
        self._open = False
        self._looking = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Samples":
        self._open = True
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._looking.join()

    def shares(self, most: int = 16) -> dict[str, float]:
        """The lines seen most often, innermost of ours first, each with its share of all looks."""
        total = max(1, self._lines.total())
        return {line: round(count / total, 3) for line, count in self._lines.most_common(most)}

    def _look(self) -> None:
        while self._open:
            frame = sys._current_frames().get(self._thread.ident or 0)
            if frame is not None:
                self._lines[_line(frame)] += 1
            time.sleep(PERIOD)


def _line(frame: FrameType) -> str:
    """The innermost frame of ours, then the innermost of all."""
    own: FrameType | None = frame
    while own is not None and not own.f_code.co_filename.startswith(str(ROOT)):
        own = own.f_back
    frames: Sequence[FrameType] = [frame] if own in (None, frame) else [own, frame]  # type: ignore[list-item]
    return " > ".join(f"{Path(each.f_code.co_filename).name}:{each.f_lineno} {each.f_code.co_name}" for each in frames)
