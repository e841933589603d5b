"""Statistics of an engine: what runs, what waits, and what was done since the start."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    active: int
    queued: int
    capacity: int
    """Requests that can run at once."""
    queue_limit: int
    prompt_tokens_total: int
    generated_tokens_total: int
    steps_total: int
    """Forward passes that generated tokens."""
    mean_batch: float
    """Generated tokens a step, since the start."""
    prefix_cache: tuple[int, int] | None = None
    """Bytes held and bytes at most, of an engine that tells."""
    slots: tuple[int, int] | None = None
    """Bytes of keys and values held, and when every slot is filled to the window."""
    weights: tuple[int, int] | None = None
    """Bytes of weights in the precision of the model, and of those that are held in four bits too."""
