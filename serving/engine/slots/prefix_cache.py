"""Prefix cache: keys and values of blocks of tokens, kept for requests that begin with the same tokens.

The keys and values of a token depend on the tokens up to it and on how each of them was steered, and on nothing else. A
block is known by a digest of exactly that, so no answer is computed from those of another setting: what no setting
steers is shared by all of them, and what is steered by settings that add the same offsets.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from serving.engine.slots.kv_pool import Slot
from serving.steering.plan import PHASES, Phase, SteeringPlan, phase_at

logger = logging.getLogger(__name__)

BLOCK = 16
"""Tokens that are kept and reused together."""
UNSTEERED = bytes(16)

SteeringKeys = Mapping[Phase, bytes | None]
"""How the tokens of each phase are steered, 16 bytes; ``None`` where it depends on their hidden states."""


def steering_keys(plan: SteeringPlan) -> SteeringKeys:
    """By the offsets themselves, whatever vectors, strengths and phase they are made of."""
    return {phase: _steering_key(plan, phase) for phase in PHASES}


def _steering_key(plan: SteeringPlan, phase: Phase) -> bytes | None:
    if any(intervention.scope.includes(phase) for intervention in plan.state_dependent):
        return None
    if not plan.steers(phase):
        return UNSTEERED
    digest = blake2b(digest_size=16)
    for layer in plan.layers:
        offset = plan.offset(layer, phase)
        if offset.any():
            digest.update(np.int64(layer).tobytes() + (offset + np.float32(0)).tobytes())  # -0.0 + 0.0 is 0.0
    return digest.digest()


class BlockKeys:
    """The keys of the full blocks of one sequence, from its first token on.

    They end before the first block with a token whose steering depends on hidden states. Such tokens are always read:
    what they are moved by is counted and reported.
    """

    def __init__(self, steering: SteeringKeys, prompt_length: int, client: str = "") -> None:
        self._steering, self._prompt_length, self._client = steering, prompt_length, client.encode()
        self._keys: list[bytes] = []
        self._ended = False

    def of(self, tokens: Sequence[int]) -> Sequence[bytes]:
        """Of all full blocks of ``tokens``, which are those of the call before and more."""
        while not self._ended and BLOCK * (len(self._keys) + 1) <= len(tokens):
            start = BLOCK * len(self._keys)
            positions = range(start, start + BLOCK)
            steered = [self._steering[phase_at(position, self._prompt_length)] for position in positions]
            known = [key for key in steered if key is not None]
            self._ended = len(known) < BLOCK
            if not self._ended:
                digest = blake2b(self._keys[-1] if self._keys else self._client, digest_size=16)
                digest.update(np.array(tokens[start : start + BLOCK], dtype=np.int64).tobytes())
                digest.update(b"".join(known))
                self._keys.append(digest.digest())
        return self._keys[: len(tokens) // BLOCK]


class PrefixCache:
    """Blocks of at most ``limit`` bytes together; those that were not used for longest go first."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        """Bytes."""
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def load(self, slot: Slot, keys: Sequence[bytes], n_blocks: int) -> int:
        """Copy what is kept of ``keys`` into a slot that has the first ``n_blocks`` of them; how many it then has."""
        end = n_blocks
        while end < len(keys) and keys[end] in self._blocks:
            end += 1
        if end > n_blocks:
            slot.pool.write(slot, BLOCK * n_blocks, [self._blocks[key] for key in keys[n_blocks:end]])
        self._touch(keys[:end])
        return end

    def store(self, slot: Slot, keys: Sequence[bytes], n_blocks: int) -> None:
        """Keep the blocks of ``keys`` after the first ``n_blocks``, which the slot holds. Without memory all go."""
        try:
            for number in range(n_blocks, len(keys)):
                if keys[number] not in self._blocks:
                    self._keep(keys[number], slot.pool.read(slot, BLOCK * number, BLOCK * (number + 1)))
        except Exception:
            logger.warning("the prefix cache is emptied", exc_info=True)
            self.clear()
        self._touch(keys)
        while self.held > self.limit:
            self.held -= self._blocks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._blocks.clear()
        self.held = 0

    def _keep(self, key: bytes, block: Tensor) -> None:
        """Unless it holds NaN or infinity, which no request shall inherit; either would reach the sum."""
        if math.isfinite(float(block.sum(dtype=torch.float32))):
            self._blocks[key] = block
            self.held += block.nbytes

    def _touch(self, keys: Sequence[bytes]) -> None:
        """The first ones last, so that no block outlives the one before it."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)
