"""Continuations of prompts under a model, plain or steered at every token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.model_io.batches import tokenise
from serving.engine.base import Sampling
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering

PROMPTS_PER_BATCH = 48


def continuations(
    model: LanguageModel, prompts: Sequence[str], sampling: Sampling, offsets: Mapping[int, Tensor] | None = None
) -> tuple[str, ...]:
    """The text that ``model`` writes after each prompt, with ``offsets[layer]`` added at every token.

    Only prompts of one length share a batch, so that nothing is padded. Length, temperature, ``top_p`` and seed of
    ``sampling`` count, and no stops.
    """
    sequences = tokenise(model, prompts)
    answers = [""] * len(prompts)
    with torch.random.fork_rng(), torch.inference_mode(), steering(model.network, offsets or {}):
        torch.manual_seed(sampling.seed or 0)
        for rows in _rows_of_one_length(sequences):
            tokens = torch.tensor([sequences[row] for row in rows], device=model.device)
            written = model.network.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), **_arguments(model, sampling)
            )
            for row, ids in zip(rows, written[:, tokens.shape[1] :], strict=True):
                answers[row] = model.tokenizer.decode(ids, skip_special_tokens=True)
    return tuple(answers)


def _arguments(model: LanguageModel, sampling: Sampling) -> dict[str, Any]:
    """Whatever a checkpoint's own generation settings say, only these count."""
    padding = model.tokenizer.pad_token_id
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": sampling.top_p}
    likeliest = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    return {
        "max_new_tokens": sampling.max_tokens,
        "repetition_penalty": 1.0,
        "pad_token_id": model.tokenizer.eos_token_id if padding is None else padding,
        **(drawn if sampling.temperature else likeliest),
    }


def _rows_of_one_length(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    lengths: dict[int, list[int]] = {}
    for row, sequence in enumerate(sequences):
        lengths.setdefault(len(sequence), []).append(row)
    return [
        rows[start : start + PROMPTS_PER_BATCH]
        for rows in lengths.values()
        for start in range(0, len(rows), PROMPTS_PER_BATCH)
    ]
