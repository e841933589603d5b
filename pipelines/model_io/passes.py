"""Forward passes over the batches of a reading: on CPUs several at once, each on one core.

Two cores that share a batch wait for each other at every operation; with a batch each they took 0.7 of the time.
"""

from collections.abc import Callable, Generator, Iterable
from itertools import chain, islice
from typing import Any, TypeVar

import torch

from pipelines.estimators.parallel import one_core_each
from serving.model.language_model import LanguageModel

T = TypeVar("T")
U = TypeVar("U")
PASSES_AT_ONCE = 16
CHANGING = ("dynamic", "longrope")
"""Rotary embeddings that a pass changes for the passes beside it, by its longest text."""


def run_passes(model: LanguageModel, run: Callable[[T], U], batches: Iterable[T]) -> Generator[U, None, None]:
    """What ``run`` makes of every batch, in their order; it is called in several threads where that is faster.

    That is on CPUs, with no fewer batches than cores. Close it, where not all is taken (``contextlib.closing``).
    """
    coming, cores = iter(batches), torch.get_num_threads()
    first = list(islice(coming, cores))
    if len(first) < cores or not _may_run_at_once(model):
        yield from map(run, chain(first, coming))
        return
    with one_core_each(at_once=PASSES_AT_ONCE) as on_cores:
        yield from on_cores(run, chain(first, coming))


def _may_run_at_once(model: LanguageModel) -> bool:
    changes = any(_rope_types(model.network.config) & set(CHANGING))
    return model.device.type == "cpu" and not model.is_placed and not changes


def _rope_types(config: Any) -> set[str]:
    """Of every layer: a configuration has one, or one for each kind of layer."""
    given = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    return {str(each.get("rope_type")) for each in (given, *given.values()) if isinstance(each, dict)}
