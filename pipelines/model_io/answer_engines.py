"""Answer engines: engines of the service that write the answers of experiments, on CPUs one a core for a small model.

Cores that share the steps of a small model wait for each other at every product, and to open an engine takes as long as
to write a hundred answers. So each core has an engine, with a copy of the weights that is laid out for its products,
and engines can be kept from one lot of answers to the next, while the model itself is read.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import LanguageModel

SLOTS = 64
"""Of an engine on the model itself, whose memory for keys and values may be large."""
SLOTS_OF_A_COPY = 128
COPIED = 2**31
"""Bytes of weights that may be copied, over all engines of a model. What is larger keeps all cores busy by itself."""
FEWEST = 32
"""Answers for which one more engine is opened."""
PREFIXES = 2**26
"""Bytes of keys and values that an engine keeps of what prompts begin with."""
QUEUE = 2**20

_kept: dict[int, "KeptEngines"] = {}
"""By network."""


class KeptEngines:
    """Engines over copies of one model: opened when answers are first asked for, until ``opened`` is closed."""

    def __init__(self, model: LanguageModel, count: int, opened: ExitStack) -> None:
        self._model, self._count, self._opened = model, count, opened
        self._engines: Sequence[SlotEngine] = ()

    @property
    def engines(self) -> Sequence[SlotEngine]:
        if not self._engines:
            self._engines = _over_copies(self._model, self._count, SLOTS_OF_A_COPY, self._opened)
        return self._engines


@contextmanager
def keeping_engines(model: LanguageModel) -> Iterator[None]:
    """While open, all answers of ``model`` are written by the same engines. Its weights must not change meanwhile.

    Engines of a model that is too large to be copied borrow it, and are opened for each lot of answers.
    """
    network, count = id(model.network), copies_of(model)
    if not count or network in _kept:
        yield
        return
    with ExitStack() as opened:
        _kept[network] = KeptEngines(model, count, opened)
        try:
            yield
        finally:
            del _kept[network]


@contextmanager
def engines_for(model: LanguageModel, count: int) -> Iterator[Sequence[SlotEngine]]:
    """Engines for ``count`` answers: those that are kept, else some that are closed on leaving."""
    if id(model.network) in _kept:
        yield _kept[id(model.network)].engines
        return
    wanted = min(copies_of(model), -(-count // FEWEST))
    with ExitStack() as opened:
        if wanted > 1:
            yield _over_copies(model, wanted, min(SLOTS_OF_A_COPY, -(-count // wanted)), opened)
        else:
            yield (opened.enter_context(_engine(model, min(SLOTS, count))),)


def copies_of(model: LanguageModel) -> int:
    """Engines over copies of ``model``: as many as there are cores, or fit; none on a GPU."""
    if model.device.type != "cpu" or model.is_placed:
        return 0
    size: int = sum(weight.nbytes for weight in model.network.parameters())
    return min(torch.get_num_threads(), COPIED // size)


def _over_copies(model: LanguageModel, count: int, slots: int, opened: ExitStack) -> Sequence[SlotEngine]:
    """``count`` engines with a copy each, which share the cores: some have one more, where they do not divide."""
    threads = torch.get_num_threads()
    with ExitStack() as whole:
        engines = []
        try:
            for number in range(count):
                torch.set_num_threads(max(1, threads // count + (number < threads % count)))
                engines.append(whole.enter_context(_engine(_copy_of(model), slots)))
        finally:
            torch.set_num_threads(threads)
        opened.push(whole.pop_all())
    return tuple(engines)


def _engine(model: LanguageModel, slots: int) -> SlotEngine:
    return SlotEngine(model, slots=slots, queue_limit=QUEUE, prefix_cache=PREFIXES)


def _copy_of(model: LanguageModel) -> LanguageModel:
    return replace(model, network=copy.deepcopy(model.network))
