"""Trainer of a small Llama from scratch: deterministic by seed, saved at every checkpoint, resumed after a kill.

The ``Trainer`` of transformers saves at multiples of one number of steps; this series saves 18 chosen ones, eight of
them within the first 100, and continues bit for bit.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from pipelines.estimators.parallel import MapOnCores, one_core_each
from pipelines.pretrain.gradients import loss_gradients
from pipelines.pretrain.options import TrainingConfig

disable_progress_bar()  # of every saved file; training has one of its own

MANIFEST = "series.json"
RESUME = "resume.safetensors"
"""The optimiser's state, and in its header the step and the losses so far: one file, so that they belong together."""


@dataclass(frozen=True)
class LossRecord:
    """The training loss of one step, in nats per token, and the speed so far."""

    step: int
    loss: float
    tokens_per_second: float


OnStep = Callable[[LossRecord], None]


def build_network(config: TrainingConfig) -> Any:
    """The randomly initialised network that training starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=config.d_model,
                num_hidden_layers=config.n_layers,
                num_attention_heads=config.d_model // 32,
                num_key_value_heads=config.d_model // 32,
                intermediate_size=config.d_model * 8 // 3 // 32 * 32,
                vocab_size=config.vocabulary,
                tie_word_embeddings=True,
                max_position_embeddings=512,
                bos_token_id=0,
                eos_token_id=0,
            )
        )


def train(
    tokens: Int64[np.ndarray, " n"],
    tokenizer: PreTrainedTokenizerFast,
    config: TrainingConfig,
    directory: Path,
    on_step: OnStep,
) -> list[LossRecord]:
    """Train on ``tokens``, saving ``directory/step_000000`` and so on; go on from the last save if there is one.

    An interrupted training that is resumed ends with the weights of an uninterrupted one, bit for bit: the order of
    the batches depends on the step alone, and the optimiser's state is saved with each checkpoint. That holds on one
    kind of processor, with any number of cores; on another kind sums are rounded differently.
    """
    network = build_network(config)
    optimisers = _optimisers(network, config)
    records, start = _resume(network, optimisers, directory)
    if not records and start == 0:
        _save(network, tokenizer, optimisers, directory, 0, records)
    began, saves = perf_counter(), set(config.checkpoint_steps)
    with one_core_each() as on_cores:
        for step, batch in _batches(tokens, config, start):
            for optimiser in optimisers:
                optimiser.param_groups[0]["lr"] = _learning_rate(step, config)
            loss = _step(network, optimisers, batch, config, on_cores)
            seen = (step + 1 - start) * config.batch_sequences * config.sequence_tokens
            records.append(LossRecord(step + 1, loss, seen / (perf_counter() - began)))
            on_step(records[-1])
            if step + 1 in saves:
                _save(network, tokenizer, optimisers, directory, step + 1, records)
    (directory / RESUME).unlink(missing_ok=True)
    return records


def _optimisers(network: Any, config: TrainingConfig) -> tuple[AdamW, ...]:
    """Two, which two cores update: the embedding's numbers are about half of all at the default size."""
    table = network.get_input_embeddings().weight
    others = [parameter for parameter in network.parameters() if parameter is not table]
    return tuple(
        AdamW(part, config.learning_rate, (0.9, 0.95), weight_decay=config.weight_decay, fused=True)
        for part in ([table], others)
    )


def _batches(tokens: Int64[np.ndarray, " n"], config: TrainingConfig, start: int) -> Iterator[tuple[int, torch.Tensor]]:
    """``(step, [batch, seq + 1])`` from ``start`` on; every epoch is a new permutation, drawn from seed and epoch."""
    length, size = config.sequence_tokens, config.batch_sequences
    windows = (len(tokens) - 1) // length
    per_epoch = max(1, windows // size)
    order, epoch = np.empty(0, np.int64), -1
    for step in range(start, config.steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.default_rng((config.seed, epoch)).permutation(windows)
        place = (step % per_epoch) * size
        rows = order[place : place + size]
        yield step, torch.from_numpy(np.stack([tokens[row * length : row * length + length + 1] for row in rows]))


def _learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * warm * (0.1 + 0.9 * cosine)


def _step(
    network: Any,
    optimisers: Sequence[AdamW],
    batch: torch.Tensor,
    config: TrainingConfig,
    on_cores: MapOnCores,
) -> float:
    found = loss_gradients(network, batch, on_cores)
    for parameter, gradient in zip(network.parameters(), found.by_parameter, strict=True):
        parameter.grad = gradient
    norm = get_total_norm(list(on_cores(_norm, optimisers)))

    def update(optimiser: AdamW) -> None:
        clip_grads_with_norm_(_parameters(optimiser), config.clip_norm, norm)
        optimiser.step()

    for _ in on_cores(update, optimisers):
        pass
    return found.loss


def _parameters(optimiser: AdamW) -> list[torch.nn.Parameter]:
    return list(optimiser.param_groups[0]["params"])


def _norm(optimiser: AdamW) -> torch.Tensor:
    """Of the gradients of its parameters."""
    return get_total_norm([parameter.grad for parameter in _parameters(optimiser) if parameter.grad is not None])


def _save(
    network: Any,
    tokenizer: PreTrainedTokenizerFast,
    optimisers: Sequence[AdamW],
    directory: Path,
    step: int,
    records: list[LossRecord],
) -> None:
    """A checkpoint under its final name only when it is whole, then the state to go on from."""
    final = directory / f"step_{step:06d}"
    scratch = directory / f".step_{step:06d}"
    shutil.rmtree(scratch, ignore_errors=True)
    network.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(scratch, final)
    name_of = {parameter: name for name, parameter in network.named_parameters()}
    tensors = {
        f"{name_of[parameter]}.{key}": value
        for optimiser in optimisers
        for parameter, slots in optimiser.state.items()
        for key, value in slots.items()
    }
    progress = {"step": str(step), "records": json.dumps([asdict(record) for record in records])}
    save_file(tensors, directory / f".{RESUME}", metadata=progress)
    os.replace(directory / f".{RESUME}", directory / RESUME)


def _resume(network: Any, optimisers: Sequence[AdamW], directory: Path) -> tuple[list[LossRecord], int]:
    """Load the last save of ``directory`` into network and optimisers; its records and step, or none and 0."""
    if not (directory / RESUME).is_file():
        return [], 0
    with safe_open(directory / RESUME, framework="pt") as saved:
        progress = saved.metadata()
        tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
    step = int(progress["step"])
    weights = load_file(directory / f"step_{step:06d}" / "model.safetensors")
    network.load_state_dict(weights, strict=False)
    network.tie_weights()
    name_of = {parameter: name for name, parameter in network.named_parameters()}
    for optimiser in optimisers if step else ():
        state = {
            index: {key: tensors[f"{name_of[parameter]}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for index, parameter in enumerate(_parameters(optimiser))
        }
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return [LossRecord(**record) for record in json.loads(progress["records"])], step
