"""Answer probes: what a monitor reads answers by, fitted on the answers that a vector was read on.

A probe is fitted on readings as a monitor makes them, ``WINDOW`` tokens at once, each with the label of its answer. How
well it tells answers apart is measured on prompts that it did not see, beside probes of shuffled labels and the words
alone. A threshold holds for this reading and no other, so the window is part of the probe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.special import expit

from pipelines.behaviours.answers import AnswerSet
from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.logistic import LogisticFits, fit_logistic
from pipelines.estimators.scores import auroc
from pipelines.model_io.answer_readings import AnswerReadings, read_answers
from pipelines.statements.floors import ngram_word_scores
from pipelines.statements.prose import background_prose
from pipelines.statements.signals import bootstrap_auroc
from pipelines.statements.splits import group_folds
from pipelines.sweep.protocol import N_FOLDS
from pipelines.vectors.places import Fitted
from pipelines.vectors.responses import prompts_of
from registry.counts import counted
from registry.errors import InvalidInput
from registry.probe_quality import ProbeQuality
from registry.vectors import Lineage, LinearProbe
from serving.model.language_model import LanguageModel

PROBE_VERSION = 1
"""Raised when the code makes another probe of the same answers: versions are then registered anew."""
WINDOW = 16
"""Tokens that one reading is the mean over: chosen by held-out answers of SmolLM2; see RESULTS."""
PENALTY = 3e-4
"""C of the regression, on standardised readings."""
READINGS = 12
"""Of one answer, at most: neighbours share most of their tokens."""
SHUFFLES = 5
SELDOM = 0.01
"""The share of ordinary tokens that may be read below the threshold which is told for ending answers."""
METRICS: Mapping[str, str] = MappingProxyType(
    {
        "probe_auroc": "auroc",
        "probe_auroc_low": "auroc_low",
        "probe_auroc_high": "auroc_high",
        "probe_auroc_at_end": "at_end",
        "probe_auroc_shuffled": "shuffled",
        "probe_auroc_of_words": "words",
        "probe_false_alarms": "false_alarms",
        "probe_stop_below": "stop_below",
        "probe_caught": "caught",
        "probe_caught_wrongly": "caught_wrongly",
    }
)
"""Names of what a version's page and ``vectors.csv`` tell of a probe, and the fields of its quality."""


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe of answers before it has a lineage."""

    layer: int
    weights: Float32[np.ndarray, " d_model"]
    bias: float
    quality: ProbeQuality

    def with_lineage(self, dimension: str, lineage: Lineage) -> LinearProbe:
        return LinearProbe(dimension, self.layer, self.weights, self.bias, lineage, WINDOW, self.quality)

    def metrics(self) -> dict[str, float]:
        """As a version's page in MLflow lists them."""
        return {name: getattr(self.quality, field) for name, field in METRICS.items()}


class AnswerProbes:
    """The probes of one model, each fitted once: several methods read vectors on the same answers."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._fitted: dict[tuple[str, int], FittedProbe | None] = {}
        self.notes: list[str] = []
        """Why there is no probe, for each set of answers that has none."""

    def of(self, fitted: Fitted) -> FittedProbe | None:
        """The probe beside a vector that was read on answers, at its lowest layer; none beside others."""
        layer = min(fitted)
        texts = fitted[layer].texts
        if texts is None or texts.monitored is None:
            return None
        key = texts.digest, layer
        if key not in self._fitted:
            self._fitted[key] = self._fit(texts.monitored, layer)
        return self._fitted[key]

    def _fit(self, answers: AnswerSet, layer: int) -> FittedProbe | None:
        try:
            return answer_probe(self._model, answers, layer)
        except InvalidInput as error:
            self.notes.append(f"No probe of {answers.source} for {answers.dimension}: {error}")
            return None


def answer_probe(model: LanguageModel, answers: AnswerSet, layer: int) -> FittedProbe:
    """The probe of all ``answers``, and its quality by probes that each leave a fold of their prompts out.

    An answer of one token is never read. Raises ``InvalidInput`` for longer ones to fewer prompts than folds.
    """
    given = (*answers.trustworthy, *answers.untrustworthy)
    read = partial(read_answers, model, layer=layer, window=WINDOW, most=READINGS)
    all_prompts = prompts_of(model, given)
    readings = read(all_prompts, [answer.text for answer in given])
    kept, numbers = np.unique(readings.answers, return_inverse=True)
    readings = replace(readings, answers=numbers)
    labels, texts = kept < len(answers.trustworthy), [given[number].text for number in kept]
    prompts = [all_prompts[number] for number in kept]
    _, groups = np.unique(prompts, return_inverse=True)
    if len(set(prompts)) < N_FOLDS:
        raise InvalidInput(
            f"answers of several tokens are given to {counted(len(set(prompts)), 'prompt')}, and {N_FOLDS} are needed"
        )
    folds = group_folds(groups, labels, N_FOLDS, 0)
    fits = _fits(readings, labels, folds)
    weights, bias = fits.weights[:, -1].numpy(), float(fits.biases[-1])
    sentences = [_halves(sentence) for sentence in background_prose()]
    prose = read([first for first, _ in sentences], [second for _, second in sentences])
    ordinary = (prose.states @ weights + bias).astype(np.float64)
    words = auroc(labels, ngram_word_scores(texts, labels, folds, range(N_FOLDS)))
    held_out = _held_out(fits, readings, folds)
    return FittedProbe(layer, weights, bias, _quality(held_out, readings, labels, groups, ordinary, words))


def _fits(
    readings: AnswerReadings, labels: Bool[np.ndarray, " answers"], folds: Int64[np.ndarray, " answers"]
) -> LogisticFits:
    """Without each fold by the labels, then by shuffled ones, ``N_FOLDS`` columns each; the last column of all."""
    rng = np.random.default_rng(0)
    given = [labels, *(rng.permutation(labels) for _ in range(SHUFFLES))]
    columns = [of_answers[readings.answers] for of_answers in given for _ in range(N_FOLDS)]
    left_out = [folds[readings.answers] != fold for _ in given for fold in range(N_FOLDS)]
    targets = np.stack([*columns, labels[readings.answers]], axis=1)
    masks = np.stack([*left_out, np.ones(len(readings.answers), bool)], axis=1)
    return fit_logistic(torch.tensor(readings.states), targets, masks, np.full(masks.shape[1], PENALTY))


def _held_out(
    fits: LogisticFits, readings: AnswerReadings, folds: Int64[np.ndarray, " answers"]
) -> Float64[np.ndarray, "kinds n"]:
    """Logits of every reading by probes that saw no answer to its prompt: of the labels, then of shuffled ones."""
    logits = fits.logits(torch.tensor(readings.states)).numpy().astype(np.float64)
    rows, of_fold = np.arange(len(logits)), folds[readings.answers]
    return np.stack([logits[rows, kind * N_FOLDS + of_fold] for kind in range(1 + SHUFFLES)])


def _quality(
    logits: Float64[np.ndarray, "kinds n"],
    readings: AnswerReadings,
    labels: Bool[np.ndarray, " answers"],
    groups: Int64[np.ndarray, " answers"],
    ordinary: Float64[np.ndarray, " m"],
    words: float,
) -> ProbeQuality:
    """Of held-out ``logits`` of answers, and ``ordinary`` ones of prose; ``words`` is the AUROC of words alone."""
    of_readings, (held_out, *shuffled) = labels[readings.answers], logits
    threshold = float(np.quantile(ordinary, SELDOM))
    is_below = readings.lowest(held_out) < threshold
    bootstrap = GroupBootstrap(groups[readings.answers], fitted=True)
    found = bootstrap_auroc(of_readings, held_out, bootstrap)
    return ProbeQuality(
        auroc=found.value,
        auroc_low=found.low,
        auroc_high=found.high,
        n_answers=len(labels),
        n_prompts=bootstrap.n_groups,
        at_end=auroc(labels, held_out[readings.last]),
        shuffled=max(auroc(of_readings, values) for values in shuffled),
        words=words,
        false_alarms=float((ordinary < 0).mean()),
        n_prose=len(background_prose()),
        stop_below=float(expit(threshold)),
        caught=float(is_below[~labels].mean()),
        caught_wrongly=float(is_below[labels].mean()),
    )


def _halves(sentence: str) -> tuple[str, str]:
    """A sentence as a prompt and its answer."""
    words: Sequence[str] = sentence.split()
    return " ".join(words[: len(words) // 2]), " " + " ".join(words[len(words) // 2 :])
