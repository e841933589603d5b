"""What the service tells of dimensions: their live vector, what strength means, and how far it may go."""

from typing import Any

from registry.dimensions import DIMENSIONS
from serving.api.requests import DefaultSteering
from serving.served_model import ServedModel
from serving.steering.limits import Range
from serving.steering.resolver import Resolver, vector_info

UNIT = "standard deviations of the fitting activations' projections on the vector"
SIGN = "positive is more trustworthy"


def dimension_info(name: str, resolver: Resolver) -> dict[str, Any]:
    """One dimension as ``GET /v1/steering/dimensions`` tells it."""
    live = resolver.live
    found, known = live.champion(name), DIMENSIONS.get(name)
    allowed = Range(0.0, 0.0, (0.0, 0.0), False) if found is None else resolver.limits.range_of(found)
    problem = live.refused.get(name)
    probe = None if found is None else found.vector.probe
    return {
        "dimension": name,
        "meaning": known.meaning if known else "",
        "trustworthy": known.trustworthy if known else "a trustworthy statement",
        "untrustworthy": known.untrustworthy if known else "an untrustworthy statement",
        "unit": UNIT,
        "sign": SIGN,
        "recommended": list(allowed.recommended),
        "hard": [allowed.low, allowed.high],
        "calibrated": allowed.calibrated,
        "probe_layer": None if probe is None else probe.layer,
        "vector": None if found is None else vector_info(found.registered, live),
        "problem": None if problem is None else str(problem),
    }


def default_told(served: ServedModel) -> dict[str, Any]:
    """What requests inherit, every field of it."""
    return DefaultSteering.model_validate(served.defaults).model_dump()
