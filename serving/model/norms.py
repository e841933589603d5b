"""How long what steering adds is, beside the hidden states that it is added to."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from serving.model.language_model import LanguageModel
from serving.model.residual_stream import recording
from serving.steering.bank import PHASES, Phase, SteeringPlan

PLAIN_SENTENCES = (
    "The library opens at nine in the morning and closes at six, except on Sundays, when it stays shut all day.",
    "Water boils at a lower temperature in the mountains, because the air presses less on its surface there.",
    "She packed two shirts, a raincoat and a book, and caught the early train to visit her brother by the sea.",
    "Most of the houses on our street were built a century ago, of brick, with small gardens behind them.",
    "To make the soup, chop an onion, fry it gently in butter, then add the carrots, the stock and some salt.",
)


def relative_dose(steering: SteeringPlan, norms: Mapping[int, float]) -> dict[int, float]:
    """At each steered layer the longest offset of any phase, as a share of the layer's ``residual_norms``.

    Moves count as if they all fired and went as far as they may, in one direction. Beyond about 1 a model says little
    that makes sense.
    """
    return {
        layer: max(_longest(steering, layer, phase) for phase in PHASES) / norms[layer] for layer in steering.layers
    }


def _longest(steering: SteeringPlan, layer: int, phase: Phase) -> float:
    here = [(one, steering.bank.vectors[one.row]) for one in steering.moves]
    moves = sum(
        one.reach * live.vector.scale for one, live in here if live.layer == layer and one.phases[PHASES.index(phase)]
    )
    return float(np.linalg.norm(steering.offset(layer, phase))) + moves


def residual_norms(model: LanguageModel) -> dict[int, float]:
    """The median length of hidden states at every layer, over a few plain sentences.

    The first token of each is left out: many models park attention there, with hidden states of enormous length.
    """
    lengths: dict[int, list[Tensor]] = {layer: [] for layer in range(model.n_layers)}

    def read(layer: int, states: Tensor) -> None:
        lengths[layer].append(states[0, 1:].float().norm(dim=-1).cpu())

    with torch.inference_mode(), recording(model.network, range(model.n_layers), read):
        for text in PLAIN_SENTENCES:
            tokens = model.tokenizer(text, return_tensors="pt")["input_ids"]
            model.trunk(input_ids=tokens.to(model.device), use_cache=False)
    return {layer: float(torch.cat(found).median()) for layer, found in lengths.items()}
