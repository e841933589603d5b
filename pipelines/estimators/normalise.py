"""Normalisation of a raw direction to length 1."""

import numpy as np
from jaxtyping import Float, Float32

from registry.errors import InvalidInput


def normalise(raw: Float[np.ndarray, " d_model"], otherwise: str) -> Float32[np.ndarray, " d_model"]:
    """``raw`` at length 1. Raises ``InvalidInput``, saying ``otherwise``, where it has no length."""
    norm = float(np.linalg.norm(raw))
    if not norm > 0:
        raise InvalidInput(f"there is no direction at this layer: {otherwise}; choose another layer or method")
    return (raw / norm).astype(np.float32)
