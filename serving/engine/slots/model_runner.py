"""Model runner: tokens of many sequences in one forward pass, each against its own slot."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from registry.errors import Mismatch
from serving.engine.slots.attention import SLOTS
from serving.engine.slots.kv_cache import SlotCache, Span, TokenBatch
from serving.engine.slots.weight_packing import packed
from serving.model.interventions import LayerIntervention, intervening
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import recording

KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
STRETCHED_ROPES = frozenset({"dynamic", "longrope"})
"""Position encodings that change with the longest sequence in a batch, beyond the length trained on."""

DEFAULT_WINDOW = 2048
MANY_TOKENS = 32
"""In a step of more tokens than this every thread has enough to do."""
TOLERANCES = {torch.float32: 1e-3}
LOW_PRECISION_TOLERANCE = 0.1
"""Of the largest logit: what two ways to the same logits may differ by."""


class ModelRunner:
    """Borrows the model's network until ``close``: nothing else may run it meanwhile, but ``hidden_states`` can.

    Raises ``Mismatch`` for a network that cannot be run this way, found out by running it both ways.
    """

    def __init__(self, model: LanguageModel, slots: int) -> None:
        self.model, self.slots = model, slots
        _require_known_layers(model)
        self.cache = SlotCache(model.n_layers, slots)
        self._own_attention = str(model.network.config._attn_implementation)
        self._own_threads = self._step_threads = torch.get_num_threads()
        plain = self._plain_logits(probe := list(range(1, 13)))
        self._borrowed = ExitStack()
        self._borrowed.enter_context(packed(self._network))
        self._borrowed.enter_context(self._attention(SLOTS))
        head = self._network.get_output_embeddings()
        self._borrowed.callback(head.register_forward_pre_hook(lambda *_: self._use_all_threads()).remove)
        try:
            _require_alike(self._slot_logits(probe), plain, model)
            self._step_threads = self._fastest_threads()
        except Mismatch:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise Mismatch(f"{_kind(model)} models cannot be run in slots ({error})") from error

    @property
    def _network(self) -> Any:
        return self.model.network

    def forward(
        self,
        tokens: Sequence[int],
        batch: TokenBatch,
        rows: Sequence[int],
        offsets: Mapping[int, Tensor],
        interventions: Sequence[LayerIntervention] = (),
    ) -> Float[Tensor, "rows vocabulary"]:
        """Run ``tokens``, store their keys and values, and give the logits of ``rows`` of them."""
        device = self.model.device
        self._use_all_threads()
        if len(tokens) <= MANY_TOKENS:
            torch.set_num_threads(self._step_threads)
        self.cache.begin(batch)
        with torch.inference_mode(), intervening(self._network, offsets, interventions):
            output = self._network(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=batch.positions[None],
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=torch.tensor(rows, dtype=torch.long, device=device),
                batch=batch,
            )
        logits: Tensor = output.logits[0]
        return logits

    def hidden_states(
        self, tokens: Sequence[int], layers: Sequence[int]
    ) -> dict[int, Float32[np.ndarray, "tokens d_model"]]:
        """The unsteered residual stream of one sequence, by the model's own attention, past the slots."""
        found: dict[int, Float32[np.ndarray, "tokens d_model"]] = {}

        def read(layer: int, states: Tensor) -> None:
            found[layer] = states[0].float().cpu().numpy()

        self._use_all_threads()
        given = torch.tensor([tokens], device=self.model.device)
        with torch.inference_mode(), self._attention(self._own_attention), recording(self._network, layers, read):
            self.model.trunk(input_ids=given, use_cache=False)
        return found

    def close(self) -> None:
        """Give the network back as it was."""
        self._use_all_threads()
        self._borrowed.close()

    @contextmanager
    def _attention(self, implementation: str) -> Iterator[None]:
        before = self._network.config._attn_implementation
        self._network.set_attn_implementation(implementation)
        try:
            yield
        finally:
            self._network.set_attn_implementation(before)

    def _use_all_threads(self) -> None:
        """For prompts, and for the head and what follows it, which are as wide as the vocabulary."""
        torch.set_num_threads(self._own_threads)

    def _fastest_threads(self) -> int:
        """How many threads take one token a slot through the model fastest.

        A small step is cut into pieces so short that waking a thread for one can take longer than the piece itself.
        """
        positions = [0] * self.slots
        fastest, least = self._own_threads, math.inf
        while True:
            seconds = math.inf
            for _ in range(3):
                began = time.perf_counter()
                self.forward(positions, TokenBatch(positions, [], self.model.device), [0], {})
                seconds = min(seconds, time.perf_counter() - began)
            if seconds >= least:
                return fastest
            fastest, least = self._step_threads, seconds
            if fastest == 1:
                return fastest
            self._step_threads //= 2

    def _plain_logits(self, tokens: Sequence[int]) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self._network(torch.tensor([tokens], device=self.model.device), use_cache=False).logits[0]
        return logits

    def _slot_logits(self, tokens: Sequence[int]) -> Tensor:
        """The same by a prompt in two pieces, then token by token beside slots at other positions."""
        half, device = len(tokens) // 2, self.model.device
        rows = [
            self.forward(tokens[span.start : span.end], TokenBatch([], [span], device), range(span.count), {})
            for span in (Span(0, 0, 2), Span(0, 2, half - 2))
        ]
        for position in range(half, len(tokens)):
            positions = [position, *range(position - half, position - half + self.slots - 1)][:3]
            batch = TokenBatch(positions, [], device)
            rows.append(self.forward([tokens[position]] * len(positions), batch, [0], {}))
        return torch.cat(rows)


def window_of(model: LanguageModel, largest: int | None) -> int:
    """Tokens that a sequence may have: what the model was made for, at most ``largest``."""
    limits = [model.context_length or DEFAULT_WINDOW, *([] if largest is None else [largest])]
    declared = getattr(model.network.config, "rope_parameters", None) or {}
    for rope in (declared, *(part for part in declared.values() if isinstance(part, dict))):
        if rope.get("rope_type") in STRETCHED_ROPES:
            limits.append(int(rope.get("original_max_position_embeddings", limits[0])))
    return min(limits)


def _kind(model: LanguageModel) -> str:
    return str(model.network.config.model_type)


def _require_known_layers(model: LanguageModel) -> None:
    if not getattr(model.network, "_supports_attention_backend", False):
        raise Mismatch(f"{_kind(model)} models have an attention of their own, which cannot be run in slots")
    unknown = sorted(set(getattr(model.network.config, "layer_types", None) or ()) - KNOWN_LAYERS)
    if unknown:
        raise Mismatch(
            f"{_kind(model)} models have layers of type {', '.join(unknown)}; slots can hold "
            f"{', '.join(sorted(KNOWN_LAYERS))}"
        )


def _require_alike(found: Tensor, plain: Tensor, model: LanguageModel) -> None:
    limit = TOLERANCES.get(model.dtype, LOW_PRECISION_TOLERANCE) * float(plain.float().abs().max())
    gap = float((found.float() - plain.float()).abs().max())
    if not gap <= limit:
        raise Mismatch(
            f"{_kind(model)} models cannot be run in slots: logits differ by {gap:.3g} from the model's own, and "
            f"may by {limit:.3g}"
        )
