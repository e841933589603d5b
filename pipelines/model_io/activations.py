"""Activations of statements: the residual stream of every layer at one position, in one forward pass.

Batches are run through the trunk alone: a causal decoder's states at a real token do not depend on what follows it, so
the language-model head is not needed, and no attention mask but where beginnings are shared.
"""

import errno
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipelines.model_io.batches import tokenise
from pipelines.model_io.passes import run_passes
from pipelines.model_io.prefix_trees import shared_tokens
from pipelines.model_io.reading import Pooling
from pipelines.model_io.reading_batches import ReadingBatch, reading_batches
from pipelines.model_io.trunk_reading import trunk_reading
from registry.cache import cache_root, writable
from registry.errors import FULL, InvalidInput, Mismatch, Unavailable
from serving.model.language_model import LanguageModel

TOKENS_PER_BATCH = 1024
"""Padded tokens in one forward pass; activations of one batch at one layer are small beside the weights."""

Progress = Callable[[int], None]
"""Called with the number of statements just read."""


@dataclass(frozen=True)
class Activations:
    """The hidden states of ``n`` statements at each of some layers of one checkpoint."""

    layers: tuple[int, ...]
    hidden_states: Float32[np.ndarray, "layers n d_model"]
    """One contiguous matrix per layer, in the order of ``layers``; may be mapped from a file."""

    @property
    def n(self) -> int:
        return int(self.hidden_states.shape[1])

    @property
    def d_model(self) -> int:
        return int(self.hidden_states.shape[2])

    def layer(self, layer: int) -> Float32[np.ndarray, "n d_model"]:
        if layer not in self.layers:
            raise Mismatch(f"layer {layer} was not read; layers read: {', '.join(map(str, self.layers))}")
        states: Float32[np.ndarray, "n d_model"] = self.hidden_states[self.layers.index(layer)]
        return states

    def rows(self, start: int, stop: int) -> "Activations":
        """The statements from ``start`` to ``stop``, without a copy."""
        return Activations(self.layers, self.hidden_states[:, start:stop])


def extract(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    pooling: Pooling = "last",
    file: BinaryIO | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    on_progress: Progress = lambda _: None,
) -> Activations:
    """Read the residual stream of ``model`` for every text.

    ``pooling`` is ``last`` (the last real token, as in arXiv 2402.19465 section 2.2), ``mean`` (over real tokens), or
    ``response``: the mean over what follows the prompt that each text begins with. Statements are tokenised alone, with
    the tokenizer's own special tokens and no template. With ``file`` the result is that file mapped into memory, so
    that memory does not grow with the number of statements.
    Raises ``InvalidInput`` for a text longer than the model's context, and for ``response`` without prompts or after
    one that leaves no token; ``Mismatch`` for a model that yields NaN.
    """
    if pooling not in get_args(Pooling):
        raise InvalidInput(f"pooling {pooling!r} is not one of {', '.join(get_args(Pooling))}")
    sequences = tokenise(model, texts)
    chosen = tuple(range(model.n_layers)) if layers is None else tuple(layers)
    pool = partial(_pool, pooling) if pooling != "response" else _pool_answers(model, sequences, texts, prompts)
    return _read(model, sequences, chosen, pool, file, tokens_per_batch, on_progress)


def extract_answers(
    model: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    layers: Sequence[int],
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Activations:
    """The residual stream averaged over the tokens of each answer, read after its prompt."""
    texts = [f"{prompt}{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    return extract(model, texts, prompts=prompts, layers=layers, pooling="response", tokens_per_batch=tokens_per_batch)


def _pool_answers(
    model: LanguageModel, sequences: Sequence[Sequence[int]], texts: Sequence[str], prompts: Sequence[str] | None
) -> "PoolOfBatch":
    """The mean over each text's tokens after its prompt.

    A token that holds the end of a prompt and the beginning of its answer counts to the answer.
    """
    if prompts is None:
        raise InvalidInput("pooling response reads answers, and these statements have none; give pooling=last or mean")
    starts = [shared_tokens(*both) for both in zip(tokenise(model, prompts), sequences, strict=True)]
    for start, sequence, text, prompt in zip(starts, sequences, texts, prompts, strict=True):
        if start == len(sequence):
            answer = text.removeprefix(prompt)
            raise InvalidInput(f"the answer {answer!r} has no tokens of its own after its prompt; leave the pair out")
    begins = torch.tensor(starts)

    def pool(batch: ReadingBatch) -> _Pool:
        return _mean_between(batch, begins[torch.from_numpy(batch.rows)])

    return pool


def _read(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    chosen: tuple[int, ...],
    pool_of: "PoolOfBatch",
    file: BinaryIO | None,
    tokens_per_batch: int,
    on_progress: Progress,
) -> Activations:
    shape = (len(chosen), len(sequences), model.d_model)
    hidden_states = np.empty(shape, np.float32) if file is None else _mapped(file, shape)
    running: _BatchStates | None = None

    def write(states: _BatchStates | None) -> None:
        if states is not None:
            states.write(hidden_states, chosen, model)
            on_progress(len(states.rows))

    now = threading.local()

    def run(batch: ReadingBatch) -> _BatchStates:
        now.pool, now.pooled = pool_of(batch), {}
        run_trunk(batch.inputs)
        return _BatchStates(batch.rows, [now.pooled[layer] for layer in chosen], model.device)

    def read(layer: int, states: Tensor) -> None:
        now.pooled[layer] = now.pool(states).float()

    batches = reading_batches(model, sequences, tokens_per_batch)
    with trunk_reading(model, chosen, read) as run_trunk, closing(run_passes(model, run, batches)) as passes:
        for states in passes:
            # On a GPU a batch is copied and written while the next one runs.
            write(running)
            running = states
    write(running)
    return Activations(chosen, hidden_states)


class _BatchStates:
    """What was read of one batch at every layer, on its way from the device."""

    def __init__(self, rows: Int64[np.ndarray, " batch"], pooled: Sequence[Tensor], device: torch.device) -> None:
        self.rows = rows
        with torch.inference_mode():
            together = torch.stack([states.to(device) for states in pooled])
            self._finite = torch.isfinite(together).all().to("cpu", non_blocking=True)
            self._states = together.to("cpu", non_blocking=True)
        self._copied = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def write(
        self,
        hidden_states: Float32[np.ndarray, "layers n d_model"],
        layers: Sequence[int],
        model: LanguageModel,
    ) -> None:
        """Wait for the states and put them in their rows. Raises ``Mismatch`` for NaN or infinity."""
        if self._copied is not None:
            self._copied.synchronize()
        states = self._states.numpy()
        if not bool(self._finite):
            _refuse(states, layers, self.rows, model)
        hidden_states[:, self.rows] = states


def kept_activations(digest: str) -> Path:
    """Where the activations of the unit named ``digest`` lie once they were kept."""
    return cache_root() / "activations" / f"{digest}.npy"


@contextmanager
def unit_file(digest: str, *, keep: bool) -> Iterator[BinaryIO]:
    """An empty file for the activations of the unit named ``digest``.

    It has no name, so that nothing is left of it whenever this process ends; with ``keep`` it becomes
    ``activations/<digest>.npy`` in the cache: float32 ``[layers, n, d_model]``, for ``np.load(path, mmap_mode="r")``.
    """
    scratch = writable(cache_root() / "scratch")
    if not keep:
        with tempfile.TemporaryFile(dir=scratch) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        path, kept = Path(directory) / "activations.npy", kept_activations(digest)
        with path.open("w+b") as file:
            yield file
        writable(kept.parent)
        os.replace(path, kept)


def _mapped(file: BinaryIO, shape: tuple[int, int, int]) -> Float32[np.ndarray, "layers n d_model"]:
    """All of ``file`` in NumPy's format; a full disk is noticed here, not as a crash when half of it is written."""
    layout = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, layout)
    file.flush()
    start, needed = file.tell(), 4 * math.prod(shape)
    try:
        _reserve(file, start + needed)
    except OSError as error:
        if error.errno not in (*FULL, errno.EFBIG):
            raise
        raise Unavailable(
            f"the activations need {needed / 1e6:.1f} MB in {cache_root()} and the disk is full ({error.strerror}); "
            "free some space, set TRUSTTRACE_CACHE to a larger disk, or read fewer layers"
        ) from error
    return np.memmap(file, np.float32, "r+", offset=start, shape=shape)


def _reserve(file: BinaryIO, size: int) -> None:
    """Have the disk set ``size`` bytes aside; a file that is only made long has no room of its own."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


_Pool = Callable[[Tensor], Tensor]
PoolOfBatch = Callable[[ReadingBatch], _Pool]
"""From a batch to what is kept of its states."""


def _pool(pooling: Pooling, batch: ReadingBatch) -> _Pool:
    """A function from ``[batch, seq, d_model]`` to ``[n, d_model]``, on whichever device a block lies."""
    if pooling == "last":
        on = _moved_once(batch.last_places)
        return lambda states: batch.at(on(states.device)[0], states)
    return _mean_between(batch, torch.zeros_like(batch.lengths))


def _mean_between(batch: ReadingBatch, starts: Tensor) -> _Pool:
    """The mean over each text's tokens from its start on."""
    order = torch.arange(batch.places.shape[1])
    real = (order >= starts[:, None]) & (order < batch.lengths[:, None])
    on = _moved_once(batch.places, (real / (batch.lengths - starts)[:, None])[:, :, None])

    def mean(states: Tensor) -> Tensor:
        places, weights = on(states.device)
        return (batch.at(places, states).float() * weights).sum(dim=1)

    return mean


def _moved_once(*tensors: Tensor) -> Callable[[torch.device], tuple[Tensor, ...]]:
    """Tensors on each device that asks, without waiting for what runs there."""
    moved: dict[torch.device, tuple[Tensor, ...]] = {}

    def on(device: torch.device) -> tuple[Tensor, ...]:
        if device not in moved:
            moved[device] = tuple(tensor.to(device, non_blocking=True) for tensor in tensors)
        return moved[device]

    return on


def _refuse(
    states: Float32[np.ndarray, "layers batch d_model"],
    layers: Sequence[int],
    rows: Int64[np.ndarray, " batch"],
    model: LanguageModel,
) -> None:
    slot, row, _ = np.argwhere(~np.isfinite(states))[0]
    raise Mismatch(
        f"{model.checkpoint.model} at {model.checkpoint.caption} yields NaN or infinity at layer {layers[slot]} for "
        f"statement {rows[row]} in {model.dtype}; try precision=float32, or check the checkpoint"
    )
