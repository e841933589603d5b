"""Residual norms: the typical length of hidden states at every layer, by which offsets are measured."""

import torch
from torch import Tensor

from serving.model.language_model import LanguageModel
from serving.model.residual_stream import recording

PLAIN_SENTENCES = (
    "The library opens at nine in the morning and closes at six, except on Sundays, when it stays shut all day.",
    "Water boils at a lower temperature in the mountains, because the air presses less on its surface there.",
    "She packed two shirts, a raincoat and a book, and caught the early train to visit her brother by the sea.",
    "Most of the houses on our street were built a century ago, of brick, with small gardens behind them.",
    "To make the soup, chop an onion, fry it gently in butter, then add the carrots, the stock and some salt.",
)


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
    return {layer: float(torch.cat(of_layer).median()) for layer, of_layer in lengths.items()}
