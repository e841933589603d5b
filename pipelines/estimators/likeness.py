"""Likeness of directions: their cosine beside the highest that fitting on so few statements leaves possible.

A direction is not quite itself when it is fitted on other statements. Its split-half reliability is the cosine of the
two fitted on disjoint halves of the groups, as a mean over seeded splits; the formula of Spearman and Brown (1910)
steps it up to all statements. Estimates of one and the same direction have a cosine of sqrt(r1 r2) on average, the
ceiling.

Two directions fitted on the same statements share their chance, so that their cosine may lie above the ceiling though
they differ. What is compared with the ceiling is therefore their cosine across halves, each fitted where the other is
not, stepped up alike. Only where all of its interval lies below the ceiling is it another direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from registry.errors import InvalidInput

STEADY = 3.0
"""Spreads over splits that a reliability must lie above 0: below, a ceiling is chance as well."""
WIDTH = 2.5
"""Half of a 95 % interval, in spreads over splits. That is more than 1.96, as halves overlap from split to split:
simulation finds equal directions called different in 0 to 6 % of pairs."""
CANNOT_BE_TOLD = "cannot be told"

Halves = Float[np.ndarray, "halves n"]


@dataclass(frozen=True, eq=False)
class FittedHalves:
    """A direction fitted on all statements and on halves of them; every second half is the complement of the first."""

    whole: Float[np.ndarray, " d_model"]
    halves: Float[np.ndarray, "halves d_model"]
    """Zeros where a half gave none."""


@dataclass(frozen=True)
class Likeness:
    """How like two directions are, beside how like they can be."""

    cosine: float
    """Of both fitted on all statements."""
    ceiling: float
    """Of the cosine between estimates of one direction; not a number where either is too unsteady to tell."""
    disjoint: float
    """The cosine across halves, stepped up to all statements."""
    low: float
    high: float
    """Its 95 % interval."""

    @property
    def can_be_told(self) -> bool:
        return self.ceiling == self.ceiling

    @property
    def is_another(self) -> bool:
        """Whether they are different directions, and not one that was fitted twice."""
        return self.can_be_told and self.high < self.ceiling

    @property
    def verdict(self) -> str:
        """``yes`` for another direction; that none is shown does not make them one."""
        if not self.can_be_told:
            return CANNOT_BE_TOLD
        return "yes" if self.is_another else "not shown"


def fit_halves(
    fit: Callable[[Bool[np.ndarray, " n"]], Float[np.ndarray, " d_model"]], halves: Bool[np.ndarray, "halves n"]
) -> FittedHalves:
    """``fit`` on all statements and on each of ``halves``; one that it refuses has no direction."""
    whole = fit(np.ones(halves.shape[1], bool))
    return FittedHalves(whole, np.stack([_or_zeros(fit, half, whole) for half in halves]))


def _or_zeros(
    fit: Callable[[Bool[np.ndarray, " n"]], Float[np.ndarray, " d_model"]],
    half: Bool[np.ndarray, " n"],
    whole: Float[np.ndarray, " d_model"],
) -> Float[np.ndarray, " d_model"]:
    try:
        return fit(half)
    except InvalidInput:
        return np.zeros_like(whole)


def mass_mean_halves(
    features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"], halves: Bool[np.ndarray, "halves n"]
) -> FittedHalves:
    """The mass-mean direction of all statements and of every half, as one product."""
    masks = np.vstack([np.ones((1, len(labels)), bool), halves]).astype(np.float64)
    counts = [(masks * kind).sum(axis=1, keepdims=True) for kind in (labels, ~labels)]
    weights = masks * (labels / counts[0].clip(min=1) - ~labels / counts[1].clip(min=1))
    weights[(np.minimum(*counts) == 0)[:, 0]] = 0.0
    directions = weights @ features
    return FittedHalves(directions[0], directions[1:])


def reliability(fitted: FittedHalves) -> float:
    """Split-half reliability, stepped up to all statements; 0 where halves agree in nothing."""
    across, _ = _agreement(_unit(fitted.halves))
    return _stepped_up(across)


def likenesses(first: Sequence[FittedHalves], second: Sequence[FittedHalves]) -> tuple[tuple[Likeness, ...], ...]:
    """Of every one of ``first``, a row each, with every one of ``second``, fitted on the same halves."""
    rows, columns = ([_Unit.of(fitted) for fitted in each] for each in (first, second))
    return tuple(tuple(_likeness(row, column) for column in columns) for row in rows)


@dataclass(frozen=True, eq=False)
class _Unit:
    """A direction at length 1, and how its halves agree on each split."""

    whole: Float64[np.ndarray, " d_model"]
    halves: Float64[np.ndarray, "halves d_model"]
    splits: Float64[np.ndarray, " splits"]

    @classmethod
    def of(cls, fitted: FittedHalves) -> "_Unit":
        halves = _unit(fitted.halves)
        return cls(_unit(fitted.whole), halves, _agreement(halves)[1])

    @property
    def agreement(self) -> float:
        return float(self.splits.mean())

    @property
    def is_steady(self) -> bool:
        return self.agreement > STEADY * float(self.splits.std())


def _likeness(one: _Unit, other: _Unit) -> Likeness:
    cosine = float(one.whole @ other.whole)
    if not (one.is_steady and other.is_steady):
        return Likeness(cosine, *[float("nan")] * 4)
    half, whole = (np.sqrt(change(one.agreement) * change(other.agreement)) for change in (float, _stepped_up))
    crossed = (one.halves[::2] * other.halves[1::2]).sum(axis=1) / 2 + (one.halves[1::2] * other.halves[::2]).sum(
        axis=1
    ) / 2
    # How far the cosine across halves lies below its ceiling on each split, the ceiling's own chance included.
    below = half / 2 * (one.splits / one.agreement + other.splits / other.agreement) - crossed
    step = float(whole / half)
    disjoint, margin = step * float(crossed.mean()), step * WIDTH * float(below.std())
    return Likeness(cosine, float(whole), disjoint, disjoint - margin, disjoint + margin)


def _agreement(halves: Float64[np.ndarray, "halves d_model"]) -> tuple[float, Float64[np.ndarray, " splits"]]:
    """Cosine of the two halves, as a mean and for each split."""
    splits: Float64[np.ndarray, " splits"] = (halves[::2] * halves[1::2]).sum(axis=1)
    return float(splits.mean()), splits


def _stepped_up(agreement: float) -> float:
    """Spearman and Brown: the agreement of tests twice as long."""
    positive = max(agreement, 0.0)
    return 2 * positive / (1 + positive)


def _unit(vectors: Float[np.ndarray, "*m d_model"]) -> Float64[np.ndarray, "*m d_model"]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    unit: Float64[np.ndarray, "*m d_model"] = vectors / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit
