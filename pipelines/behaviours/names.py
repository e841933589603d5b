"""Names of the dimensions that have a packaged behaviour."""

from registry.dimensions import FAIRNESS, PRIVACY, RELIABILITY, ROBUSTNESS, TOXICITY
from registry.errors import InvalidInput

SCORED = (RELIABILITY.name, PRIVACY.name, TOXICITY.name, FAIRNESS.name, ROBUSTNESS.name)


def has_behaviour(dimension: str) -> bool:
    return dimension in SCORED


def require_behaviour(dimension: str, *, instead: str = "by=statements") -> None:
    """Raise ``InvalidInput`` for a dimension in whose sense no text can be scored; ``instead`` does without."""
    if dimension not in SCORED:
        raise InvalidInput(
            f"what a model writes cannot be scored for {dimension}: give {instead}, or dimensions={','.join(SCORED)}, "
            "or some of them"
        )
