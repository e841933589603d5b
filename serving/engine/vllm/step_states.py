"""Step states: the tokens of a step that are moved by their own hidden states or read by probes, and what came of it.

The arithmetic is the slot engine's (``serving.model.interventions``, ``serving.model.monitoring``), on the states of
these tokens alone and in float32. Every method belongs to one worker.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from serving.engine.vllm.tables import parameters_from, probes_from, vectors_from
from serving.model.interventions import LayerIntervention, LayerVectors, LogitsBefore, TokenParameters
from serving.model.monitoring import MonitorProbes, ProbeReading
from serving.steering.plan import PHASES, Phase, phase_at


class RequestStates:
    """One request whose steering or monitor depends on hidden states."""

    def __init__(
        self,
        key: str,
        prompt_length: int,
        vectors: Mapping[int, LayerVectors],
        parameters: Mapping[tuple[int, Phase], TokenParameters],
        probes: MonitorProbes | None,
    ) -> None:
        self.key, self.prompt_length, self.probes = key, prompt_length, probes
        self.moves: dict[Phase, list[tuple[LayerVectors, TokenParameters]]] = {
            phase: [(vectors[layer], given) for (layer, of_phase), given in parameters.items() if of_phase == phase]
            for phase in PHASES
        }
        """What moves a token of each phase."""
        self._logits: dict[str, dict[int, float]] = {}

    def phase(self, position: int) -> Phase:
        return phase_at(position, self.prompt_length)

    def keep_logit(self, vector: str, position: int, logit: float) -> None:
        """Of a token of the answer. All are kept: vLLM may have an answer read anew, several tokens in one step."""
        self._logits.setdefault(vector, {})[position] = logit

    def logits_before(self, vectors: LayerVectors, position: int) -> LogitsBefore:
        """What the windows of these vectors' probes hold before the token at ``position``."""
        held = []
        for row, vector in enumerate(vectors.references):
            of_vector = self._logits.get(vector, {})
            window = range(position - vectors.windows.get(row, 1) + 1, position)
            held.append([of_vector[earlier] for earlier in window if earlier in of_vector])
        return torch.tensor([[sum(logits) for logits in held], [len(logits) for logits in held]]).float()


Member = tuple[RequestStates, int]
"""A token: its request, and its position there."""


class StepStates:
    """The requests whose steering or monitor depends on hidden states, their tokens in the step that runs, and what
    nobody has asked for yet of what was moved and read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._tables: dict[str, Any] = {}
        self._requests: dict[str, RequestStates] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self.begin()

    @property
    def has_requests(self) -> bool:
        return bool(self._requests)

    @property
    def has_tokens(self) -> bool:
        """Whether any token of the step is moved or read."""
        return bool(self._tokens)

    def learn(self, name: str, content: bytes, forgotten: Sequence[str]) -> None:
        """Keep a table from now on, and forget others."""
        for other in forgotten:
            self._tables.pop(other, None)
        read = vectors_from if name.startswith("vectors") else probes_from
        self._tables[name] = read(content, self._device)

    def admit(self, request: str, carried: Mapping[str, Any], prompt_length: int) -> None:
        """Learn of a request; one that begins again goes on with what is kept of it."""
        if request in self._requests or not {"vectors", "probes"} & set(carried):
            return
        self._requests[request] = RequestStates(
            carried["key"],
            prompt_length,
            self._tables[carried["vectors"]] if "vectors" in carried else {},
            parameters_from(carried.get("parameters", ()), self._device),
            self._tables[carried["probes"]] if "probes" in carried else None,
        )

    def forget(self, request: str) -> None:
        self._requests.pop(request, None)

    def begin(self) -> None:
        """There is no token in the step yet."""
        self._tokens: list[int] = []
        self._moved: dict[int, tuple[LayerVectors, list[int], list[TokenParameters], list[Member]]] = {}
        self._read: dict[int, tuple[MonitorProbes, list[int], list[Member]]] = {}
        self._interventions: list[tuple[LayerIntervention, list[Member]]] = []
        self._readings: list[tuple[ProbeReading, list[Member]]] = []
        self._layers: frozenset[int] = frozenset()

    def add(self, request: str, begin: int, positions: Int64[np.ndarray, " tokens"]) -> None:
        """The tokens of one request, from place ``begin`` of the step on."""
        state = self._requests.get(request)
        if state is None:
            return
        for token, position in enumerate(positions.tolist(), begin):
            phase = state.phase(position)
            is_read = state.probes is not None and phase != "prompt"
            if not is_read and not state.moves[phase]:
                continue
            place, member = len(self._tokens), (state, position)
            self._tokens.append(token)
            for vectors, given in state.moves[phase]:
                _, places, parameters, members = self._moved.setdefault(id(vectors), (vectors, [], [], []))
                places.append(place)
                parameters.append(given)
                members.append(member)
            if is_read and state.probes is not None:
                _, places, members = self._read.setdefault(id(state.probes), (state.probes, [], []))
                places.append(place)
                members.append(member)

    def arrange(self) -> None:
        """All tokens are there: put them together by what moves and reads them."""
        if not self._tokens:
            return
        for vectors, places, parameters, members in self._moved.values():
            windowed = members if vectors.windows else []
            before = [state.logits_before(vectors, position).to(self._device) for state, position in windowed]
            self._interventions.append((LayerIntervention(vectors, places, parameters, before), members))
        for probes, places, members in self._read.values():
            self._readings.append((ProbeReading(probes, places, range(len(places))), members))
        self._layers = frozenset(
            layer
            for matrices in (
                *(intervention.vectors.probes for intervention, _ in self._interventions),
                *(reading.probes.matrices for reading, _ in self._readings),
            )
            for layer in matrices
        )
        self._positions = torch.tensor(self._tokens, device=self._device)

    def read(self, layer: int, states: Tensor, residual: Tensor | None) -> None:
        """Ask the probes of ``layer``, before anything is added there."""
        if layer not in self._layers:
            return
        stream = self._stream(states, residual)[None]
        for intervention, _ in self._interventions:
            if layer in intervention.vectors.probes:
                intervention.read_probes(layer, stream)
        for reading, _ in self._readings:
            if layer in reading.probes.matrices:
                reading.read(layer, stream)

    def move(self, layer: int, states: Tensor, residual: Tensor | None) -> None:
        """Move the tokens that anything moves at ``layer``, in place; the residual stream is ``states + residual``."""
        moving = [intervention for intervention, _ in self._interventions if intervention.vectors.layer == layer]
        if not moving:
            return
        before = self._stream(states, residual)
        after = before[None]
        for intervention in moving:
            after = intervention.apply(after)
        moved = after[0] if residual is None else states[self._positions].float() + (after[0] - before)
        states.index_copy_(0, self._positions, moved.to(states.dtype))

    def finish(self) -> None:
        """The step has run: keep what was moved and read until it is asked for."""
        for intervention, members in self._interventions:
            vectors = intervention.vectors
            outcome = zip(members, intervention.moved.tolist(), intervention.logits.tolist(), strict=True)
            for (state, position), moved, logits in outcome:
                for vector in compress(vectors.references, moved):
                    self._report(state)["moved"].setdefault(vector, []).append(position)
                for row in vectors.remembered if state.phase(position) == "generation" else ():
                    state.keep_logit(vectors.references[row], position, logits[row])
        for reading, members in self._readings:
            for (state, position), (_, logits) in zip(members, reading.logits(), strict=True):
                self._report(state)["readings"].append((position, logits))
        self.begin()

    def taken(self) -> dict[str, dict[str, Any]]:
        """By request, since the last call: the positions that each vector moved, and what probes said at which."""
        reports, self._reports = self._reports, {}
        return reports

    def _report(self, state: RequestStates) -> dict[str, Any]:
        return self._reports.setdefault(state.key, {"moved": {}, "readings": []})

    def _stream(self, states: Tensor, residual: Tensor | None) -> Float32[Tensor, "moved_or_read d_model"]:
        stream = states[self._positions].float()
        return stream if residual is None else stream + residual[self._positions].float()
