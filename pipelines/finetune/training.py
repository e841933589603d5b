"""Fine-tuning a checkpoint on texts, in full or by low-rank adapters: deterministic by seed, saved whole."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipelines.finetune.lora import adapt
from pipelines.finetune.options import FinetuneConfig
from pipelines.model_io.batches import padded, tokenise
from pipelines.model_io.likelihoods import likelihoods
from registry.errors import Mismatch
from serving.model.language_model import LanguageModel
from serving.model.placement import computes_in_bfloat16

MANIFEST = "finetuning.json"
IGNORED = -100


@dataclass(frozen=True)
class EpochLoss:
    """Losses in nats per token: of the texts trained on, before each step on them, and of others after the epoch."""

    epoch: int
    training: float
    validation: float


OnStep = Callable[[int, float], None]
"""Called with the step, from 1, and its loss."""


def finetune(
    model: LanguageModel,
    texts: Sequence[str],
    validation: Sequence[str],
    config: FinetuneConfig,
    on_step: OnStep = lambda _step, _loss: None,
) -> list[EpochLoss]:
    """Train ``model`` in place on ``texts``; epoch 0 is the model as it was. Raises ``Mismatch`` when it diverges.

    The order of batches and the adapters' start depend on the seed alone, so the same call gives the same weights on
    one kind of processor with one number of threads.
    """
    network, sequences = model.network, tokenise(model, texts)
    losses = [EpochLoss(0, _loss_of(model, texts), _loss_of(model, validation))]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        adapted = adapt(network, config) if config.method == "lora" else None
        if adapted is None:
            network.requires_grad_(True)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, config.rate, (0.9, 0.95), weight_decay=0.0)
        steps = config.epochs * len(list(_batches(len(texts), config, 0)))
        step = 0
        for epoch in range(config.epochs):
            network.train()
            seen = []
            for rows in _batches(len(texts), config, epoch):
                for group in optimiser.param_groups:
                    group["lr"] = config.rate * (1 - step / steps)
                seen.append(_step(model, [sequences[row] for row in rows], parameters, optimiser, config))
                step += 1
                on_step(step, seen[-1])
            network.eval()
            losses.append(EpochLoss(epoch + 1, float(np.mean(seen)), _loss_of(model, validation)))
    if adapted is not None:
        adapted.merge_and_unload()
    network.requires_grad_(False)
    if not np.isfinite(losses[-1].validation):
        raise Mismatch(f"the loss became {losses[-1].validation} at learning_rate {config.rate}; try a tenth")
    return losses


def save_finetuned(model: LanguageModel, directory: Path, manifest: dict[str, object]) -> None:
    """A checkpoint in Hugging Face layout with ``finetuning.json`` beside it; whole, or not there at all."""
    scratch = directory.parent / f".{directory.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    model.network.save_pretrained(scratch)
    model.tokenizer.save_pretrained(scratch)
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(scratch, directory)


def saved_losses(directory: Path) -> list[EpochLoss]:
    """The losses of a fine-tuning that was saved."""
    return [EpochLoss(**loss) for loss in json.loads((directory / MANIFEST).read_text())["losses"]]


def losses_for_manifest(losses: Sequence[EpochLoss]) -> list[dict[str, float]]:
    return [asdict(loss) for loss in losses]


def _batches(n: int, config: FinetuneConfig, epoch: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng((config.seed, epoch)).permutation(n)
    for start in range(0, n, config.batch_texts):
        yield order[start : start + config.batch_texts]


def _step(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    parameters: Sequence[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    config: FinetuneConfig,
) -> float:
    tokens, lengths = padded(sequences, model.device)
    targets = tokens[:, 1:].clone()
    targets[(torch.arange(1, tokens.shape[1]) >= lengths[:, None]).to(model.device)] = IGNORED
    with torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bfloat16(model.device)):
        logits: Tensor = model.network(input_ids=tokens, use_cache=False).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


def _loss_of(model: LanguageModel, texts: Sequence[str]) -> float:
    return float(np.log(likelihoods(model, texts).perplexity))
