"""Decode graphs: steps that only decode, recorded on the GPU once and replayed with other inputs in the same memory.

A step of a model of billions of parameters launches more than a thousand kernels, which takes the CPU several times as
long as the GPU computes. A recorded step (a CUDA graph) is one launch. Steps are recorded by kind: the memory that
holds keys and values, the rows and the length that attention reads, both rounded up, and whether offsets are added.
Rows that no sequence has repeat token 0 at position 0 of their own row, and nobody reads what comes out.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.engine.slots.kv_pool import KVPool
from serving.engine.slots.token_batch import DecodeGroup, TokenBatch, positions_seen
from serving.model.language_model import LanguageModel

logger = logging.getLogger(__name__)

Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From work on memory that stays where it is, to a replay of it that gives the same tensor."""

LENGTH_STEP = 64
"""Lengths are rounded up to a multiple of this, or of an eighth where that is longer."""
SEEN_BEFORE = 2
"""Steps of a kind that are run as they are before one is recorded: what comes once is not worth it."""
MOST_GRAPHS = 64
"""Those that were not used for longest go first."""


class CudaRecorder:
    """Records CUDA graphs, which share the memory of what they compute in between."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Without ``torch.cuda.graph``, which collects garbage and empties the allocator every time."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            self._stream.wait_stream(before)
            with torch.cuda.stream(self._stream):
                work()  # libraries set up what they need for a stream at their first call
                graph.capture_begin(pool=self._memory, capture_error_mode="thread_local")
                try:
                    output = work()
                finally:
                    graph.capture_end()
            before.wait_stream(self._stream)

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


def recorder_for(model: LanguageModel) -> Recorder | None:
    """What records the steps of a network that lies on one CUDA device; ``None`` for any other."""
    devices = {parameter.device for parameter in model.network.parameters()}
    return CudaRecorder(model.device) if len(devices) == 1 and model.device.type == "cuda" else None


@dataclass(frozen=True)
class GroupKind:
    """What a recording reads of one pool: where its memory lies, and how much of it."""

    address: int
    pool_rows: int
    capacity: int
    rows: int
    length: int


@dataclass(frozen=True)
class StepKind:
    groups: tuple[GroupKind, ...]
    layers: tuple[int, ...]
    """That offsets are added at."""


class RecordedGroup(DecodeGroup):
    """A group whose places and positions are read from memory when the recording is replayed."""

    def __init__(self, pool: KVPool, kind: GroupKind, places: Tensor, positions: Tensor) -> None:
        super().__init__(pool, range(kind.rows), [kind.length - 1] * kind.rows, places.device)
        self.places = places
        self._own_positions = positions

    def mask(self, window: int | None) -> Tensor | None:
        if window not in self._masks:
            others = torch.arange(self.longest, device=self._device)
            self._masks[window] = positions_seen(others, self._own_positions[:, None], window)[:, None, None]
        return self._masks[window]


Forward = Callable[[Tensor, TokenBatch, Mapping[int, Tensor]], Tensor]
"""The logits of all tokens, ``[tokens, vocabulary]``, given ``[tokens]``, their batch and the offsets by layer."""


class DecodeGraphs:
    """Recordings of one network's decode steps. Where one cannot be made, there are none from then on."""

    def __init__(self, record: Recorder, forward: Forward, slots: int, nothing: Tensor) -> None:
        """``nothing`` is the offset of a token that is not steered, ``[d_model]``."""
        self._record: Recorder | None = record
        self._forward, self._nothing = forward, nothing
        tokens = 2 * slots  # rows are rounded up by less than twice
        self._inputs = torch.zeros(3, tokens, dtype=torch.long, device=nothing.device)
        """Tokens, positions and places."""
        self._offsets: dict[int, Tensor] = {}
        """By layer that any step has steered: ``[tokens, d_model]``."""
        self._filled: tuple[Mapping[int, Tensor], StepKind] | None = None
        """The offsets that memory holds, and how they are laid out."""
        self._seen: Counter[StepKind] = Counter()
        self._recordings: OrderedDict[StepKind, Callable[[], Tensor]] = OrderedDict()

    @property
    def n_recordings(self) -> int:
        return len(self._recordings)

    def run(self, tokens: Sequence[int], batch: TokenBatch, offsets: Mapping[int, Tensor]) -> Tensor | None:
        """The logits of a step that only decodes; ``None`` where it has to be run another way."""
        if self._record is None or not _can_be_recorded(batch):
            return None
        kind = StepKind(tuple(map(_kind_of, batch.groups)), self._layers_with(offsets))
        self._fill(kind, tokens, batch, offsets)
        return _without_padding(self._run_of(kind, [group.pool for group in batch.groups])(), kind, batch)

    def _layers_with(self, offsets: Mapping[int, Tensor]) -> tuple[int, ...]:
        """The layers that a step with ``offsets`` adds any at: all that were ever steered, so that one recording serves
        every setting; none for a step without.
        """
        if not offsets:
            return ()
        for layer in offsets:
            if layer not in self._offsets:
                self._offsets[layer] = self._nothing.repeat(self._inputs.shape[1], 1)
                self._filled = None
        return tuple(sorted(self._offsets))

    def _fill(self, kind: StepKind, tokens: Sequence[int], batch: TokenBatch, offsets: Mapping[int, Tensor]) -> None:
        rows: list[list[int]] = [[], [], []]
        begin = 0
        for group, of in zip(batch.groups, kind.groups, strict=True):
            padding = of.rows - group.count
            rows[0] += [*tokens[begin : begin + group.count], *[0] * padding]
            rows[1] += [*group.row_positions, *[0] * padding]
            rows[2] += [*group.place_numbers, *(row * of.capacity for row in range(group.count, of.rows))]
            begin += group.count
        self._inputs[:, : len(rows[0])].copy_(torch.tensor(rows))
        if kind.layers and (self._filled is None or self._filled[0] is not offsets or self._filled[1] != kind):
            self._fill_offsets(kind, batch, offsets)
            self._filled = offsets, kind

    def _fill_offsets(self, kind: StepKind, batch: TokenBatch, offsets: Mapping[int, Tensor]) -> None:
        for layer in kind.layers:
            held, begin, start = self._offsets[layer], 0, 0
            held.copy_(self._nothing)
            for group, of in zip(batch.groups, kind.groups, strict=True):
                if layer in offsets:
                    held[start : start + group.count] = offsets[layer][begin : begin + group.count]
                begin, start = begin + group.count, start + of.rows

    def _run_of(self, kind: StepKind, pools: Sequence[KVPool]) -> Callable[[], Tensor]:
        """A replay; for steps that come rarely, and where none can be made, the work itself, of the same shapes: a
        sequence gets the same bits by either.
        """
        if kind in self._recordings:
            self._recordings.move_to_end(kind)
            return self._recordings[kind]
        work = self._work(kind, pools)
        if len(self._seen) > 16 * MOST_GRAPHS:
            self._seen.clear()
        self._seen[kind] += 1
        if self._record is None or self._seen[kind] <= SEEN_BEFORE:
            return work
        try:
            self._recordings[kind] = self._record(work)
        except Exception:
            logger.warning("decode steps cannot be recorded and are run as they are", exc_info=True)
            self.stop()
            return work
        while len(self._recordings) > MOST_GRAPHS:
            self._recordings.popitem(last=False)
        return self._recordings[kind]

    def stop(self) -> None:
        """Record and replay nothing from now on."""
        self._record = None
        self._recordings.clear()

    def _work(self, kind: StepKind, pools: Sequence[KVPool]) -> Callable[[], Tensor]:
        def work() -> Tensor:
            groups, start = [], 0
            for pool, of in zip(pools, kind.groups, strict=True):
                _, positions, places = self._inputs[:, start : start + of.rows]
                groups.append(RecordedGroup(pool, of, places, positions))
                start += of.rows
            tokens, positions, _ = self._inputs[:, :start]
            batch = TokenBatch(tuple(groups), (), self._nothing.device)
            batch.positions = positions
            return self._forward(tokens, batch, {layer: self._offsets[layer][:start] for layer in kind.layers})

        return work


def _can_be_recorded(batch: TokenBatch) -> bool:
    """Whether the rows beyond those that decode belong to nobody, and may be written to."""
    return not batch.spans and all(
        group.rows is None and group.count == len(group.pool.slots) for group in batch.groups
    )


def _kind_of(group: DecodeGroup) -> GroupKind:
    pool = group.pool
    rows = min(1 << (group.count - 1).bit_length(), pool.n_rows)
    return GroupKind(pool.address, pool.n_rows, pool.capacity, rows, _rounded_length(group.longest, pool.capacity))


def _rounded_length(length: int, capacity: int) -> int:
    step = max(LENGTH_STEP, 1 << max(0, length.bit_length() - 4))
    return min(-(-length // step) * step, capacity)


def _without_padding(logits: Tensor, kind: StepKind, batch: TokenBatch) -> Tensor:
    """A copy of the rows that sequences have: the next replay writes over the original."""
    parts, start = [], 0
    for group, of in zip(batch.groups, kind.groups, strict=True):
        parts.append(logits[start : start + group.count])
        start += of.rows
    return torch.cat(parts)
