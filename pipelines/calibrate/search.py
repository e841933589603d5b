"""Search for a direction and the strengths at which it steers well: chosen on validation, reported on test.

Held-out statements and held-out prose are each cut in two. Candidates, directions by some method at some layer, contend
at equal cost: each at the strength that takes perplexity just up to ``CHEAP``, or at a weaker one where only then its
answers keep their form. Of the one that moves most the whole curve is measured, from which the safe range and the
recommended strength follow. Only then is the other half looked at, once, beside the best of every other method, the
running champion and random directions of equal cost.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, log, sqrt

from pipelines.calibrate.candidates import Candidate, steered_layers
from pipelines.calibrate.effects import CHEAP, CostedStrength, Effect, Texts, measure_cost, measure_effects, no_effect
from pipelines.calibrate.equal_cost import LEAST_COST, BackgroundStates, random_like, strengths_at_cost
from registry.calibration import PERPLEXITY_CAP
from serving.model.language_model import LanguageModel

FIRST = 2.0
"""The strength whose cost is measured first."""
TRIES = 4
"""Strengths of a candidate whose costs are measured, at most, to find the one that costs ``CHEAP``."""
SPENT = 0.8
"""Of what a strength may cost, in logarithms of perplexity: one that costs more need not be sought further."""
WEAKER = (0.75, 0.5)
"""Shares of that strength at which a candidate is tried too whose answers lost their form."""
CURVE = (-8.0, -4.0, -2.0, -1.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
RANDOM_DIRECTIONS = 6


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate at one strength of the search."""

    candidate: Candidate
    effect: Effect


@dataclass(frozen=True, eq=False)
class Champion:
    """The running champion: one of the candidates, with the strength that is recommended for it now."""

    candidate: Candidate
    strength: float
    """0 where none is recommended: it is tested at its best strength of the search."""


@dataclass(frozen=True)
class Calibrated:
    """The chosen candidate, its curve, and its effect at the chosen strength on the other half."""

    candidate: Candidate
    searched: tuple[Effect, ...]
    """Every candidate at each strength that it was tried at."""
    curve: tuple[Effect, ...]
    """Of the chosen one, in order of strength, zero included: up to the first beyond the cap on either side."""
    low: float
    high: float
    chosen: float
    """The strength that validation recommends; 0 for none."""
    tested: Effect
    others: tuple[Effect, ...]
    """The best of every other label on validation, on the same test statements."""
    random: tuple[Effect, ...]
    """Random directions that cost as much as the chosen one, on the same test statements."""
    champion: Effect | None = None
    """The running champion on the same test statements, where it was not chosen."""
    is_refuted: bool = False
    """Whether an evaluation showed that at the strength recommended here what is written does not improve."""

    @property
    def layers(self) -> tuple[int, ...]:
        return self.candidate.layers

    @property
    def largest_random(self) -> float:
        return max(effect.shift.value for effect in self.random)

    @property
    def beats_random(self) -> bool:
        """Whether the test interval lies above every random direction's shift."""
        return self.tested.shift.low > self.largest_random

    @property
    def works(self) -> bool:
        """Whether the chosen strength moves preference, or lowers the share of untrustworthy answers without changing
        their form, beyond chance and random directions, at little cost."""
        moves = self.chosen > 0 and self.tested.shift.low > 0 and self.beats_random
        return moves and self.tested.is_cheap and self.tested.keeps_form

    @property
    def recommended(self) -> float:
        """The strength to use: none is recommended before it has worked on the test half."""
        return self.chosen if self.works else 0.0

    @property
    def is_less_than_champion(self) -> bool:
        """Whether the running champion moves further on the same test half, at little cost and in the same form."""
        running = self.champion
        may_stay = running is not None and running.is_cheap and running.keeps_form
        return running is not None and may_stay and running.shift.value > self.tested.shift.value

    @property
    def is_promoted(self) -> bool:
        return self.works and not self.is_refuted and not self.is_less_than_champion


def steps_of(candidates: Sequence[Candidate]) -> int:
    """How many steps ``calibrate`` takes at most: the costs and effects that it measures."""
    labels = {candidate.label for candidate in candidates}
    return len(candidates) * (TRIES + 1 + 2 * len(WEAKER)) + 2 * (len(CURVE) + len(labels) + RANDOM_DIRECTIONS + 1)


def calibrate(
    model: LanguageModel,
    candidates: Sequence[Candidate],
    validation: Texts,
    test: Texts,
    *,
    background: BackgroundStates | None = None,
    champion: Champion | None = None,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> Calibrated:
    """Choose candidate and strengths on ``validation``, then measure the choice on ``test`` beside its controls."""
    background = background or BackgroundStates(model, steered_layers(candidates))

    def cost(texts: Texts, candidate: Candidate, strength: float) -> CostedStrength:
        on_step()
        return measure_cost(model, texts, candidate, strength)

    def measure(texts: Texts, settings: Iterable[CostedStrength]) -> tuple[Effect, ...]:
        return measure_effects(model, texts, list(settings), on_step)

    trials = contend(candidates, partial(cost, validation), partial(measure, validation))
    best = _best_of_each_label(trials)
    winner = _best(best)
    candidate = winner.candidate
    known = [trial.effect for trial in trials if trial.candidate is candidate] + [no_effect(validation, candidate)]
    beyond = _beside(known, lambda strength: cost(validation, candidate, strength))
    curve = tuple(sorted([*known, *measure(validation, beyond)], key=lambda effect: effect.strength))
    low, high = safe_range(curve)
    chosen = recommend([effect for effect in curve if low <= effect.strength <= high])
    # Where nothing works there is still something to show beside random directions: the search's best.
    strength = chosen or winner.effect.strength
    others = [(trial.candidate, trial.effect.strength) for trial in best if trial.candidate.label != candidate.label]
    running = None if champion is None or champion.candidate is candidate else champion
    wanted = [
        (candidate, strength),
        *others,
        *([] if running is None else [(running.candidate, _strength(running, trials))]),
    ]
    settings = [cost(test, *each) for each in wanted]
    drawn = _at_equal_cost(model, test, settings[0], background, seed, on_step)
    tested, *rest = measure(test, [*settings, *drawn])
    return Calibrated(
        *(candidate, tuple(trial.effect for trial in trials), curve, low, high, chosen, tested),
        others=tuple(rest[: len(others)]),
        random=tuple(rest[-RANDOM_DIRECTIONS:]),
        champion=None if running is None else rest[len(others)],
    )


def contend(
    candidates: Sequence[Candidate],
    cost: Callable[[Candidate, float], CostedStrength],
    measure: Callable[[Sequence[CostedStrength]], Sequence[Effect]],
) -> list[Trial]:
    """Every candidate at its strongest cheap strength; one whose answers lose their form there at weaker ones too."""

    def trials_of(settings: Sequence[CostedStrength]) -> list[Trial]:
        return [Trial(setting.candidate, effect) for setting, effect in zip(settings, measure(settings), strict=True)]

    trials = trials_of([strongest_cheap(partial(cost, candidate)) for candidate in candidates])
    formless = [trial for trial in trials if not trial.effect.keeps_form]
    for share in WEAKER:
        weaker = [(trial.candidate, round(share * trial.effect.strength, 2)) for trial in formless]
        again = trials_of([cost(*each) for each in weaker])
        trials += again
        kept = [trial.candidate for trial in again if trial.effect.keeps_form]
        formless = [trial for trial in formless if trial.candidate not in kept]
    return trials


def _at_equal_cost(
    model: LanguageModel,
    texts: Texts,
    setting: CostedStrength,
    background: BackgroundStates,
    seed: int,
    on_direction: Callable[[], object],
) -> Iterator[CostedStrength]:
    """Random directions, each at the strength that costs on ``texts`` what ``setting`` does."""
    chosen = setting.candidate
    target = max(log(setting.perplexity.value), LEAST_COST)
    directions = list(random_like(chosen, background.of(chosen.layers), RANDOM_DIRECTIONS, seed))
    tried: list[dict[float, CostedStrength]] = [{} for _ in directions]

    def cost(direction: Candidate, costed: dict[float, CostedStrength], strength: float) -> float:
        costed[strength] = measure_cost(model, texts, direction, strength)
        return log(costed[strength].perplexity.value)

    costs = [partial(cost, *each) for each in zip(directions, tried, strict=True)]
    for costed, (strength, _) in zip(tried, strengths_at_cost(costs, target, setting.strength), strict=True):
        yield costed[strength]
        on_direction()


def strongest_cheap(cost: Callable[[float], CostedStrength]) -> CostedStrength:
    """The strongest setting found that is surely cheap and costs nearly what it may; the cheapest where none is.

    The logarithm of perplexity grows about with the square of strength, from which each next strength follows.
    """
    budget, strength = log(CHEAP), FIRST
    tried: dict[float, CostedStrength] = {}
    while len(tried) < TRIES and strength not in tried:
        setting = tried[strength] = cost(strength)
        spent = log(setting.perplexity.high)
        if SPENT * budget <= spent <= budget:
            break
        growth = sqrt((1 + SPENT) / 2 * budget / spent) if spent > 0 else inf
        strength = round(min(strength * min(growth, 2.0), max(CURVE)), 2)
    cheap = [setting for setting in tried.values() if setting.is_surely_cheap]
    if cheap:
        return max(cheap, key=lambda setting: setting.strength)
    return min(tried.values(), key=lambda setting: setting.perplexity.value)


def safe_range(curve: Sequence[Effect]) -> tuple[float, float]:
    """The strengths around 0, without a gap, at which perplexity stays within ``PERPLEXITY_CAP``."""

    def last(effects: Sequence[Effect]) -> float:
        reached = 0.0
        for effect in effects:
            if effect.perplexity.value > PERPLEXITY_CAP:
                break
            reached = effect.strength
        return reached

    up = [effect for effect in curve if effect.strength >= 0]
    down = [effect for effect in reversed(curve) if effect.strength <= 0]
    return last(down), last(up)


def recommend(curve: Sequence[Effect]) -> float:
    """The positive strength that is usable and moves preference most, beyond chance; 0 when none does."""
    working = [effect for effect in curve if effect.strength > 0 and effect.is_usable and effect.shift.low > 0]
    return max(working, key=lambda effect: effect.shift.value).strength if working else 0.0


def _beside(known: Sequence[Effect], cost: Callable[[float], CostedStrength]) -> Iterator[CostedStrength]:
    """Every further strength of ``CURVE`` up to the first beyond the cap on either side: stronger are never safe."""
    perplexities = {effect.strength: effect.perplexity for effect in known}
    up = sorted(strength for strength in CURVE if strength > 0)
    down = sorted((strength for strength in CURVE if strength < 0), reverse=True)
    for side in (up, down):
        for strength in side:
            perplexity = perplexities.get(strength)
            if perplexity is None:
                setting = cost(strength)
                perplexity = setting.perplexity
                yield setting
            if perplexity.value > PERPLEXITY_CAP:
                break


def _best_of_each_label(trials: Sequence[Trial]) -> list[Trial]:
    labels = dict.fromkeys(trial.candidate.label for trial in trials)
    return [_best([trial for trial in trials if trial.candidate.label == label]) for label in labels]


def _best(trials: Sequence[Trial]) -> Trial:
    """The largest shift among the usable, else among the surely cheap, or the cheapest where none is."""
    cheap = [trial for trial in trials if trial.effect.is_surely_cheap]
    if cheap:
        usable = [trial for trial in cheap if trial.effect.keeps_form]
        return max(usable or cheap, key=lambda trial: trial.effect.shift.value)
    return min(trials, key=lambda trial: trial.effect.perplexity.value)


def _strength(champion: Champion, trials: Sequence[Trial]) -> float:
    tried = [trial for trial in trials if trial.candidate is champion.candidate]
    return champion.strength or _best(tried).effect.strength
