"""Model runner: tokens of many sequences in one forward pass, each against its own slot."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import DynamicCache

from registry.errors import Mismatch
from serving.engine.slots.attention import SLOTS
from serving.engine.slots.batch import Batch
from serving.engine.slots.batch_invariance import StepRows, require_supported
from serving.engine.slots.decode_graphs import DecodeGraphs, recorder_for
from serving.engine.slots.four_bit import FEW_ROWS
from serving.engine.slots.fused_blocks import fused
from serving.engine.slots.kernels import PLAIN, Kernels
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.kv_pool import LayerShape
from serving.engine.slots.slot_sequence import no_offset
from serving.engine.slots.step_threads import StepThreads
from serving.engine.slots.token_batch import Span, TokenBatch
from serving.engine.slots.weight_packing import packed
from serving.model.interventions import LayerIntervention, intervening
from serving.model.language_model import LanguageModel
from serving.model.monitoring import ProbeReading, monitoring
from serving.model.residual_stream import recording_to_deepest, steering

logger = logging.getLogger(__name__)

KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
MANY_TOKENS = 32
"""In a step of more tokens than this every thread has enough to do."""
PROBED_TOKENS = 12
TOLERANCES = {torch.float32: 1e-3}
LOW_PRECISION_TOLERANCE = 0.1
"""Of the largest logit: what two ways to the same logits may differ by."""


class ModelRunner:
    """Borrows the model's network until ``close``: nothing else may run it meanwhile, but ``read`` can.

    Raises ``Mismatch`` for a network that cannot be run this way, found out by running it both ways.
    """

    def __init__(self, model: LanguageModel, slots: int, kernels: Kernels = PLAIN) -> None:
        self.model, self.slots = model, slots
        _require_known_layers(model)
        if kernels.batch_invariant:
            require_supported(model.dtype, model.device)
        self._own_attention = str(model.network.config._attn_implementation)
        self._own_threads = torch.get_num_threads()
        self._few = self._many = StepThreads([self._own_threads], self._own_threads)
        plain, shapes = self._plain_logits(probe := _probe_tokens(model))
        record = recorder_for(model) if kernels.cuda_graphs else None
        self.weight_bytes = sum(parameter.nbytes for parameter in self._network.parameters())
        self.cache = SlotCache(shapes, model.dtype, model.device)
        self._graphs = None if record is None else DecodeGraphs(record, self._all_logits, slots, no_offset(model))
        self._borrowed = ExitStack()
        self._step_rows = StepRows() if kernels.batch_invariant else None
        products = packed(self._network, in_four_bits=kernels.four_bit, step=self._step_rows)
        self.products = self._borrowed.enter_context(products)
        self._borrowed.enter_context(fused(self._network, self.products))
        self._borrowed.enter_context(self._attention(SLOTS))
        head = self._network.get_output_embeddings()
        self._borrowed.callback(head.register_forward_pre_hook(lambda *_: self._use_all_threads()).remove)
        try:
            self._require_alike(plain, probe)
            if not kernels.batch_invariant:  # a step's threads would change with its tokens
                self._few, self._many = (self._step_threads_of(min(n, slots)) for n in (1, MANY_TOKENS))
        except Mismatch:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise Mismatch(f"{_kind(model)} models cannot be run in slots ({error})") from error

    @property
    def _network(self) -> Any:
        return self.model.network

    @property
    def four_bit_bytes(self) -> int:
        """Of weights that are held in four bits too."""
        return sum(product.four_bit.nbytes for product in self.products if product.four_bit is not None)

    def run(self, batch: Batch) -> Float[Tensor, "rows vocabulary"]:
        """The logits of the tokens after which one is drawn; keys and values of all are stored."""
        return self.forward(
            batch.tokens, batch.places, batch.logits_rows, batch.offsets, batch.interventions, batch.readings
        )

    def forward(
        self,
        tokens: Sequence[int],
        batch: TokenBatch,
        rows: Sequence[int],
        offsets: Mapping[int, Tensor],
        interventions: Sequence[LayerIntervention] = (),
        readings: Sequence[ProbeReading] = (),
    ) -> Float[Tensor, "rows vocabulary"]:
        """Run ``tokens``, store their keys and values, and give the logits of ``rows`` of them."""
        if len(tokens) > MANY_TOKENS:
            self._use_all_threads()
            return self._forward(tokens, batch, rows, offsets, interventions, readings)
        threads, began = self._few if len(tokens) <= FEW_ROWS else self._many, time.perf_counter()
        torch.set_num_threads(threads.next())
        logits = self._forward(tokens, batch, rows, offsets, interventions, readings)
        threads.took(len(tokens), time.perf_counter() - began)
        return logits

    def _forward(
        self,
        tokens: Sequence[int],
        batch: TokenBatch,
        rows: Sequence[int],
        offsets: Mapping[int, Tensor],
        interventions: Sequence[LayerIntervention],
        readings: Sequence[ProbeReading],
    ) -> Float[Tensor, "rows vocabulary"]:
        with torch.inference_mode():
            if self._graphs is not None and not interventions and not readings:
                replayed = self._graphs.run(tokens, batch, offsets)
                if replayed is not None:
                    return replayed if len(rows) == len(tokens) else replayed[list(rows)]
            given, kept = (
                torch.tensor(values, dtype=torch.long, device=self.model.device) for values in (tokens, rows)
            )
            with monitoring(self._network, readings), intervening(self._network, offsets, interventions):
                return self._logits(given, batch, kept)

    def _all_logits(self, tokens: Tensor, batch: TokenBatch, offsets: Mapping[int, Tensor]) -> Tensor:
        with steering(self._network, offsets):
            return self._logits(tokens, batch, 0)

    def _logits(self, tokens: Tensor, batch: TokenBatch, rows: Tensor | int) -> Tensor:
        """The logits of ``rows`` of the tokens, 0 for all."""
        self.cache.batch, batch.is_invariant = batch, self._step_rows is not None
        self._begin_step(sum(group.count for group in batch.groups), len(tokens))
        output = self._network(
            input_ids=tokens[None],
            position_ids=batch.positions[None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=rows,
            batch=batch,
        )
        logits: Tensor = output.logits[0]
        return logits

    def read(
        self, tokens: Sequence[int], layers: Sequence[int], cache: DynamicCache | None = None
    ) -> dict[int, Float32[np.ndarray, "tokens d_model"]]:
        """The unsteered residual stream of a piece of a sequence, by the model's own attention, past the slots. No
        block behind the deepest is run. ``cache`` holds the pieces before it; a sequence that is read whole needs none.
        """
        hidden_states: dict[int, Float32[np.ndarray, "tokens d_model"]] = {}

        def keep(layer: int, states: Tensor) -> None:
            hidden_states[layer] = states[0].float().cpu().numpy()

        self._use_all_threads()
        self._begin_step(0, len(tokens))
        given = torch.tensor([tokens], device=self.model.device)
        read = recording_to_deepest(self._network, layers, keep)
        with torch.inference_mode(), self._attention(self._own_attention), read:
            self.model.trunk(input_ids=given, past_key_values=cache, use_cache=cache is not None)
        return hidden_states

    def new_cache(self) -> DynamicCache:
        """For a sequence that is read in pieces."""
        return DynamicCache(config=self._network.config)

    def close(self) -> None:
        """Give the network back as it was."""
        torch.set_num_threads(self._own_threads)
        self._borrowed.close()

    @contextmanager
    def _attention(self, implementation: str) -> Iterator[None]:
        before = self._network.config._attn_implementation
        self._network.set_attn_implementation(implementation)
        try:
            yield
        finally:
            self._network.set_attn_implementation(before)

    def _begin_step(self, n_generated: int, n_tokens: int) -> None:
        if self._step_rows is not None:
            self._step_rows.n_generated, self._step_rows.n_tokens = n_generated, n_tokens

    def _use_all_threads(self) -> None:
        """For prompts, and for the head and what follows it, which are as wide as the vocabulary; fewer while that is
        faster for steps.
        """
        torch.set_num_threads(self._many.chosen if self._many.is_lowered else self._own_threads)

    def _require_alike(self, plain: Tensor, tokens: Sequence[int]) -> None:
        """Raise ``Mismatch`` unless steps give the logits that the model gives; replayed ones are given up for that."""
        try:
            _require_alike(self._slot_logits(tokens), plain, self.model)
        except Mismatch:
            if self._graphs is None or not self._graphs.n_recordings:
                raise
            logger.warning("replayed decode steps differ from the model's own and are not used", exc_info=True)
            self._graphs.stop()
            _require_alike(self._slot_logits(tokens), plain, self.model)

    def _step_threads_of(self, tokens: int) -> StepThreads:
        """How many threads take steps of ``tokens``, one a slot: those that are fastest now, to begin with.

        A small step is cut into pieces so short that waking a thread for one can take longer than the piece itself.
        """
        fastest, least, on_cpu = self._own_threads, math.inf, self.model.device.type == "cpu"
        choices = [fastest >> halvings for halvings in range(fastest.bit_length() if on_cpu else 1)]
        if len(choices) == 1:
            return StepThreads(choices, fastest)
        slots = [self.cache.reserve(1) for _ in range(tokens)]
        batch = TokenBatch.of([(slot, 0) for slot in slots], [], self.model.device)
        for tried in choices:
            self._few = self._many = StepThreads([tried], tried)
            seconds = math.inf
            for _ in range(3):
                began = time.perf_counter()
                self.forward([0] * tokens, batch, [0], {})
                seconds = min(seconds, time.perf_counter() - began)
            if seconds > least:
                break
            fastest, least = tried, seconds
        for slot in slots:
            self.cache.release(slot)
        # In float32 a product has other bits by other threads: they stay as they are.
        return StepThreads(choices if self.model.dtype == torch.bfloat16 else [fastest], fastest)

    def _plain_logits(self, tokens: Sequence[int]) -> tuple[Tensor, list[LayerShape]]:
        """The model's own logits, and the shapes of the keys and values that it caches."""
        with torch.inference_mode():
            output = self._network(torch.tensor([tokens], device=self.model.device), use_cache=True)
        layers = output.past_key_values.layers
        shapes = [(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in layers]
        return output.logits[0], shapes

    def _slot_logits(self, tokens: Sequence[int]) -> Tensor:
        """The same by a prompt in two pieces, then token by token beside slots at other positions."""
        half, device = len(tokens) // 2, self.model.device
        slot = self.cache.reserve(len(tokens))
        beside = [self.cache.reserve(1) for _ in range(min(2, self.slots - 1))]
        rows = [
            self.forward(tokens[span.start : span.end], TokenBatch.of([], [span], device), range(span.count), {})
            for span in (Span(slot, 0, 2), Span(slot, 2, half - 2))
        ]
        for position in range(half, len(tokens)):
            decoding = [(slot, position), *((other, position - half) for other in beside)]
            batch = TokenBatch.of(decoding, [], device)
            rows.append(self.forward([tokens[position]] * len(decoding), batch, [0], {}))
        for held in (slot, *beside):
            self.cache.release(held)
        return torch.cat(rows)


def require_runnable(model: LanguageModel) -> None:
    """Raise ``Mismatch`` for a model that slots cannot run, as an engine over it would."""
    ModelRunner(model, 1).close()


def _kind(model: LanguageModel) -> str:
    return str(model.network.config.model_type)


def _probe_tokens(model: LanguageModel) -> list[int]:
    """From all of the vocabulary: at its ends lie special tokens, and a text of those alone is ill-conditioned."""
    size = int(model.network.get_input_embeddings().num_embeddings)
    return [size * number // (PROBED_TOKENS + 1) for number in range(1, PROBED_TOKENS + 1)]


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
