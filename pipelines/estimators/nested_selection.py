"""Nested selection: what choosing the best of many probes is worth on statements that had no part in the choice.

The best of many layers by any score is best by luck too, and more so the more there are. Of each outer fold the choice
is made anew, by accuracies on an inner fold of probes that were fitted without either; only the chosen probe predicts
the outer fold (Varma & Simon 2006). Nothing is fitted for it: these are the folds by which C is chosen.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.scores import auroc, cross_entropy_bits


@dataclass(frozen=True, eq=False)
class NestedSelection:
    """Held-out scores of the procedure that chooses a candidate by validation."""

    accuracy: Estimate
    auroc: float
    bits: float
    chosen: Int64[np.ndarray, "seeds folds"]
    """The candidate of each outer fold."""
    predicting: Int64[np.ndarray, "seeds n"]
    """The candidate that predicts each statement."""

    def predicted(self, values: Float[np.ndarray, "candidates seeds n"]) -> Float[np.ndarray, "seeds n"]:
        """Of each statement the value of the candidate that predicts it."""
        return _of_chosen(values, self.predicting)

    @property
    def commonest(self) -> int:
        """The candidate that most outer folds chose; the first of equals."""
        return int(np.bincount(self.chosen.ravel()).argmax())

    @property
    def agreement(self) -> float:
        """The share of outer folds that chose it."""
        return float((self.chosen == self.commonest).mean())


def nested_selection(
    validation: Float[np.ndarray, "candidates seeds folds"],
    probabilities: Float[np.ndarray, "candidates seeds n"],
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, "seeds n"],
    bootstrap: GroupBootstrap,
) -> NestedSelection:
    """Choose a candidate for every outer fold of every seed, the first of equals, and score it on that fold alone.

    ``validation[c, s, k]`` must come from statements outside fold ``k`` of seed ``s``. ``folds`` numbers from 0 the
    outer folds of the tested statements. Each statement counts once, with its mean over seeds.
    """
    chosen = validation.argmax(axis=0)
    seeds = np.arange(len(folds))[:, None]
    predicting = chosen[seeds, folds]
    predicted = _of_chosen(probabilities, predicting)
    right = ((predicted > 0.5) == labels).mean(axis=0)
    return NestedSelection(
        accuracy=bootstrap.proportion(right),
        auroc=float(np.mean([auroc(labels, each) for each in predicted])),
        bits=float(np.mean([cross_entropy_bits(labels, each) for each in predicted])),
        chosen=chosen,
        predicting=predicting,
    )


def _of_chosen(
    values: Float[np.ndarray, "candidates seeds n"], predicting: Int64[np.ndarray, "seeds n"]
) -> Float[np.ndarray, "seeds n"]:
    seeds, n = predicting.shape
    chosen: Float[np.ndarray, "seeds n"] = values[predicting, np.arange(seeds)[:, None], np.arange(n)]
    return chosen
