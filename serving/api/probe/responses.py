"""Responses of the probe route."""

from typing import Literal

from pydantic import BaseModel

from serving.api.steering.responses import VectorInfo


class TokenScore(BaseModel):
    text: str
    scores: dict[str, float]


class TextScore(BaseModel):
    index: int
    scores: dict[str, float]
    """P(trustworthy) at the last token, by dimension; of a probe of answers over as many tokens as it reads at once."""
    n_tokens: int
    tokens: list[TokenScore] | None = None


class ProbeResponse(BaseModel):
    object: Literal["list"]
    model: str
    data: list[TextScore]
    probes: dict[str, VectorInfo]
