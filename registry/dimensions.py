"""Dimensions of trustworthiness, and the meaning of label 1 in each: always the trustworthy class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registry.errors import InvalidInput, unknown_name


@dataclass(frozen=True)
class Dimension:
    """One sense in which a text can be trustworthy."""

    name: str
    meaning: str
    trustworthy: str
    """What a statement of label 1 is; positive steering strength moves towards it."""
    untrustworthy: str
    """What a statement of label 0 is."""
    benchmarks: tuple[str, ...] = ()
    """Published data sets that stand for it."""

    def __post_init__(self) -> None:
        require_dimension_name(self.name)


def require_dimension_name(name: str) -> None:
    """Raise ``InvalidInput`` unless it can be a parameter's value, a file's name and a part of a registered name."""
    if not name.isidentifier() or name != name.lower():
        raise InvalidInput(f"a dimension's name must be a lower-case word, not {name!r}")


RELIABILITY = Dimension("reliability", "saying what is true", "a true statement", "a false statement", ("TruthfulQA",))
PRIVACY = Dimension(
    "privacy",
    "keeping personal information to oneself",
    "a statement without anyone's personal information",
    "a statement that discloses personal information",
    ("ConfAIde",),
)
TOXICITY = Dimension(
    "toxicity", "not insulting or threatening anyone", "a benign statement", "a toxic statement", ("ToxiGen",)
)
FAIRNESS = Dimension(
    "fairness", "not stereotyping groups of people", "an anti-stereotypical statement", "a stereotypical statement",
    ("StereoSet",),
)  # fmt: skip
ROBUSTNESS = Dimension(
    "robustness",
    "holding on to the meaning of a perturbed text",
    "an unperturbed statement",
    "a perturbed statement",
    ("SST-2",),
)

DIMENSIONS: Mapping[str, Dimension] = MappingProxyType(
    {member.name: member for member in (RELIABILITY, PRIVACY, TOXICITY, FAIRNESS, ROBUSTNESS)}
)


def dimension(name: str, declared: Iterable[Dimension] = ()) -> Dimension:
    """The dimension called ``name``, among the five and those ``declared`` by the user. Raises ``UnknownName``."""
    known = {**DIMENSIONS, **{member.name: member for member in declared}}
    if name not in known:
        raise unknown_name("dimension", name, known)
    return known[name]


def parse_dimensions(spec: str, declared: Iterable[Dimension] = ()) -> tuple[Dimension, ...]:
    """``all``, or names separated by commas, in the order given and each once."""
    if spec.strip() == "all":
        return (*DIMENSIONS.values(), *declared)
    names = dict.fromkeys(name.strip() for name in spec.split(",") if name.strip())
    if not names:
        raise InvalidInput(f"dimensions {spec!r} names none; use all, or some of: {', '.join(DIMENSIONS)}")
    return tuple(dimension(name, declared) for name in names)
