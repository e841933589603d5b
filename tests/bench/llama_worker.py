"""llama.cpp in a process of its own: takes one piece of work a line on stdin as JSON, and answers with one line."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.llama_cpp import Library, LlamaModel

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class Worker:
    def __init__(self, directory: Path, threads: int, sequences: int, window: int) -> None:
        self._library = Library(directory)
        self._held = {"threads": threads, "sequences": sequences, "window": window}
        self._models: dict[str, LlamaModel] = {}

    def version(self) -> dict[str, str]:
        return {"version": self._library.version, "system": self._library.system}

    def generate(
        self, file: str, prompts: list[list[int]], n_tokens: int, control: str | None = None
    ) -> dict[str, Any]:
        model = self._model(file, control)
        began = {name: clock() for name, clock in CLOCKS.items()}
        answers = model.generate(prompts, n_tokens)
        return {"answers": answers, **{name: clock() - began[name] for name, clock in CLOCKS.items()}}

    def logits(self, file: str, tokens: list[int], into: str, control: str | None = None) -> dict[str, Any]:
        """Logits of all tokens, written to ``into``."""
        np.save(into, self._model(file, control).logits(tokens))
        return {}

    def _model(self, file: str, control: str | None) -> LlamaModel:
        if file not in self._models:
            self._models[file] = LlamaModel(self._library, Path(file), **self._held)
        self._models[file].steer(None if control is None else Path(control))
        return self._models[file]


def main(directory: str, threads: str, sequences: str, window: str) -> None:
    worker = Worker(Path(directory), int(threads), int(sequences), int(window))
    for line in sys.stdin:
        work = json.loads(line)
        print(json.dumps(getattr(worker, work.pop("do"))(**work)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
