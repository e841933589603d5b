"""Step: the requests that a worker of vLLM knows, and the steering of each token of the step that it runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from serving.engine.vllm.rows import KEY, RequestRows, spans
from serving.engine.vllm.step_states import StepStates


class Step:
    """The requests that this worker knows, and the coefficients of the tokens of the step that runs."""

    def __init__(self, tokens: int, rows: int, device: torch.device) -> None:
        self.coefficients = torch.zeros(tokens, rows, device=device)
        """One row a token. It keeps its place in memory."""
        self.layers: set[int] = set()
        """Those that steer any token of the step."""
        self.readings: list[tuple[slice, int, str, frozenset[int]]] = []
        """Which tokens of the step are read, from which position on, for whom, and at which layers."""
        self.layer_of = np.full(rows, -1)
        """The layer of the vector in each row."""
        self.states = StepStates(device)
        self._requests: dict[str, RequestRows] = {}
        self._reading: dict[str, tuple[str, frozenset[int]]] = {}
        self._read: dict[str, dict[int, list[tuple[int, Tensor]]]] = {}
        self._filled = 0

    def admit(self, scheduler_output: Any) -> None:
        """Learn of requests that begin or begin again, and forget those that have ended."""
        for request in scheduler_output.finished_req_ids:
            self._requests.pop(request, None)
            self._reading.pop(request, None)
            self.states.forget(request)
        for new in scheduler_output.scheduled_new_reqs:
            carried = (getattr(new.sampling_params, "extra_args", None) or {}).get(KEY)
            if not carried:
                continue
            count = len(new.prompt_token_ids)
            if "rows" in carried:
                self._requests[new.req_id] = RequestRows.decoded(carried, count, len(self.layer_of))
            if "read" in carried:
                self._reading[new.req_id] = (carried["read"], frozenset(carried["layers"]))
            self.states.admit(new.req_id, carried, count)

    @property
    def has_readers(self) -> bool:
        """Whether any request is there that reads hidden states or is moved by them."""
        return bool(self._reading) or self.states.has_requests

    @property
    def reads(self) -> bool:
        """Whether hidden states of this step are read."""
        return bool(self.readings) or self.states.has_tokens

    def keep(self, key: str, layer: int, first: int, states: Tensor) -> None:
        """The hidden states of the tokens from position ``first`` on."""
        self._read.setdefault(key, {}).setdefault(layer, []).append((first, states.float().cpu()))

    def taken(self, key: str) -> dict[int, Tensor]:
        """What was kept under ``key``, ``[tokens, d_model]`` by layer, in the order of the text; it is forgotten here.

        A text that vLLM sets aside and reads anew counts as it was read last.
        """
        return {layer: _in_order(parts) for layer, parts in self._read.pop(key, {}).items()}

    def fill(self, requests: Sequence[str], computed: Sequence[int], scheduled: Sequence[int]) -> None:
        """Set the coefficients of every token of a step, whose requests are in this order in the batch."""
        self.readings, self.layers = [], set()
        self.states.begin()
        count = int(sum(scheduled))
        rows: Float32[np.ndarray, "tokens rows"] | None = None
        for request, first, (span, positions) in zip(requests, computed, spans(computed, scheduled), strict=True):
            self.states.add(request, span.start, positions)
            if request in self._reading:
                self.readings.append((span, int(first), *self._reading[request]))
            if request in self._requests:
                if rows is None:
                    rows = np.zeros((count, self.coefficients.shape[1]), np.float32)
                rows[span] = self._requests[request].at(positions)
        self.states.arrange()
        if rows is not None:
            self.layers = set(self.layer_of[rows.any(axis=0)].tolist())
            self.coefficients[:count].copy_(torch.from_numpy(rows))
        self.coefficients[0 if rows is None else count : self._filled].zero_()
        self._filled = 0 if rows is None else count


def _in_order(parts: Sequence[tuple[int, Tensor]]) -> Tensor:
    """One row for each position that was read, as it was read last."""
    rows = torch.cat([states for _, states in parts])
    positions = [position for first, states in parts for position in range(first, first + len(states))]
    last = {position: row for row, position in enumerate(positions)}
    return rows[[last[position] for position in sorted(last)]]
