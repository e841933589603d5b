import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.behaviours.form import FormChange
from pipelines.calibrate import effects, search
from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.effects import CHEAP, CostedStrength, Effect, MeasuredProse, Texts
from pipelines.calibrate.equal_cost import LEAST_COST
from pipelines.calibrate.search import (
    CURVE,
    RANDOM_DIRECTIONS,
    TRIES,
    Calibrated,
    Champion,
    calibrate,
    recommend,
    safe_range,
    steps_of,
    strongest_cheap,
)
from pipelines.calibrate.tracking import decision, to_calibration
from pipelines.estimators.estimate import Estimate
from pipelines.model_io.continuations import continuations
from registry.records import RegisteredVector
from serving.engine.base import Sampling
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant


def point(strength, ratio, low=0.1, value=None, spread=0.005):
    value = low + 0.1 if value is None else value
    perplexity = Estimate(ratio, ratio - spread, ratio + spread, 60)
    return Effect("mass-mean", (1,), strength, perplexity, Estimate(value, low, value + 0.1, 50))


def test_the_safe_range_ends_at_the_cap():
    curve = [point(-4, 1.2), point(-2, 1.5), point(-1, 1.1), point(0, 1), point(2, 1.3), point(4, 1.35), point(8, 1.0)]
    assert safe_range(curve) == (-1, 2)


def test_zero_alone_may_be_safe():
    assert safe_range([point(-1, 2.0), point(0, 1), point(1, 2.0)]) == (0, 0)


def test_recommended_is_the_largest_shift_that_is_certain_and_cheap():
    curve = [point(1, 1.02, value=0.3), point(2, 1.09, value=0.6), point(3, 1.12, value=0.9)]
    assert recommend([*curve, point(2.5, 1.05, low=-0.1, value=0.8)]) == 2
    assert recommend([point(-2, 1.0, value=5.0), point(2, 1.0, low=-0.01)]) == 0


def test_an_uncertain_cost_is_not_recommended():
    curve = [point(1, 1.02, value=0.3), point(2, 1.09, value=0.6, spread=0.02)]
    assert recommend(curve) == 1
    assert curve[1].is_cheap
    assert not curve[1].is_surely_cheap


def cost_of(logarithm):
    """A candidate's costs by strength, and those that were asked for."""
    asked = []

    def cost(strength):
        asked.append(strength)
        ratio = float(np.exp(logarithm(strength)))
        return CostedStrength(Candidate("mass-mean", {1: np.ones(1)}), strength, Estimate(ratio, ratio, ratio, 60))

    return cost, asked


@pytest.mark.parametrize("scale", [0.003, 0.02, 0.1, 0.7])
@pytest.mark.parametrize("power", [1.5, 2.0, 2.5])
def test_candidates_are_compared_where_they_cost_alike(scale, power):
    cost, asked = cost_of(lambda strength: scale * strength**power)
    found = strongest_cheap(cost)
    assert found.is_surely_cheap
    assert found.strength == max(CURVE) or np.log(found.perplexity.value) > 0.6 * np.log(CHEAP)
    assert len(asked) == len(set(asked)) <= TRIES


def test_what_costs_nothing_is_compared_at_the_strongest():
    assert strongest_cheap(cost_of(lambda _: -0.01)[0]).strength == max(CURVE)


def test_where_nothing_is_cheap_the_cheapest_is_compared():
    cost, asked = cost_of(lambda strength: 1 + strength)
    assert strongest_cheap(cost).strength == min(asked)


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def texts(model):
    places = ("the city", "a letter", "Paris", "France", "a letter of the city", "you", "the letter", "a city")
    openings = [f"{place} is" for place in places]
    statements = [f"{opening} {word}" for opening in openings for word in ("kind", "cruel")]
    labels = np.tile([True, False], len(openings))
    prose = MeasuredProse.measured(model, ["the city of Paris is in France ."] * 3)
    return Texts.measured(model, statements, labels, np.arange(len(labels)) // 2, prose)


def towards(model, word, other, scale, layer=2, label="mass-mean"):
    """At the last layer of a model with tied embeddings this direction raises ``word`` against ``other``."""
    ids = model.tokenizer.convert_tokens_to_ids([word, other])
    difference = (
        model.network.get_input_embeddings().weight[ids[0]] - model.network.get_input_embeddings().weight[ids[1]]
    )
    return Candidate(label, {layer: scale * (difference / difference.norm()).numpy()})


def test_a_direction_that_must_work_is_chosen_over_its_opposite(model):
    good = towards(model, "kind", "cruel", 0.02)
    bad = towards(model, "cruel", "kind", 0.02, layer=1)
    measured = []
    result = calibrate(model, [bad, good], texts(model), texts(model), on_step=lambda: measured.append(1))
    assert result.layers == (2,)
    assert result.low < 0 < result.recommended <= result.high
    assert result.works
    assert result.is_promoted
    strengths = [effect.strength for effect in result.curve]
    assert strengths == sorted(strengths)
    shifts = [effect.shift.value for effect in result.curve]
    assert shifts == sorted(shifts)
    assert len(measured) <= steps_of([bad, good])


def test_an_opposite_direction_is_recommended_at_no_strength(model):
    result = calibrate(model, [towards(model, "cruel", "kind", 0.02)], texts(model), texts(model))
    assert result.recommended == 0
    assert not result.works
    assert not result.beats_random
    assert not result.is_promoted


def test_offsets_have_the_length_of_the_strength_in_standard_deviations(model, monkeypatch):
    seen = []
    real = effects.likelihoods

    def spy(model, given, offsets=None, **options):
        seen.extend((layer, float(torch.linalg.norm(offset))) for layer, offset in (offsets or {}).items())
        return real(model, given, offsets, **options)

    monkeypatch.setattr(effects, "likelihoods", spy)
    calibrate(model, [towards(model, "kind", "cruel", 0.5, layer=0)], texts(model), texts(model))
    lengths = {round(length, 3) for _, length in seen}
    assert {round(0.5 * abs(strength), 3) for strength in CURVE} <= lengths


def test_the_best_method_is_chosen_and_others_are_tested(model):
    good, bad = towards(model, "kind", "cruel", 0.02, label="lda"), towards(model, "cruel", "kind", 0.02)
    result = calibrate(model, [bad, good], texts(model), texts(model))
    assert result.candidate is good
    (other,) = result.others
    assert other.label == "mass-mean"
    assert other.shift.value < 0 < result.tested.shift.value


def test_the_running_champion_is_tested_at_its_own_strength(model):
    good, running = towards(model, "kind", "cruel", 0.02), towards(model, "cruel", "kind", 0.02, layer=1, label="old")
    result = calibrate(model, [good, running], texts(model), texts(model), champion=Champion(running, 1.5))
    assert (result.champion.label, result.champion.strength) == ("old", 1.5)
    assert result.is_promoted
    kept = calibrate(model, [good, running], texts(model), texts(model), champion=Champion(good, 1.5))
    assert kept.champion is None


FORMS = {
    # The strongest strength at which the form is kept, of 8 at which it is cheap: the strengths that are tried.
    "kept at once": (8.0, [8.0]),
    "kept at three quarters": (6.0, [8.0, 6.0]),
    "kept at half": (4.0, [8.0, 6.0, 4.0]),
    "never kept": (0.0, [8.0, 6.0, 4.0]),
}


def check_forms(module=search):
    for name, (strongest, tried) in FORMS.items():

        def measure(settings, strongest=strongest):
            forms = [KEPT if setting.strength <= strongest else REPEATED for setting in settings]
            return [effect(strength=each.strength, form=form) for each, form in zip(settings, forms, strict=True)]

        cost = cost_of(lambda strength: 0.0013 * strength**2)[0]
        candidate = Candidate("mass-mean", {1: np.ones(1)})
        trials = module.contend(
            [candidate], lambda given, strength, cost=cost: replace(cost(strength), candidate=given), measure
        )
        assert [trial.effect.strength for trial in trials] == tried, name


def test_what_loses_the_form_contends_at_a_weaker_strength():
    check_forms()


@pytest.mark.parametrize(
    "change",
    [
        ("if not trial.effect.keeps_form]\n    for", "if trial.effect.keeps_form]\n    for"),
        ("WEAKER = (0.75, 0.5)", "WEAKER = (0.75,)"),
        ("if trial.candidate not in kept]", "]"),
    ],
)
def test_a_mutant_tries_other_strengths(change):
    with mutant(search, *change) as changed, pytest.raises(AssertionError):
        check_forms(changed)


def check_costs_of_random(model, module=search):
    """Beside a direction that costs much on the model's own prose. Gives all that was costed."""
    model.network.base_model.norm.weight.data *= 20  # to a flat network no text is likelier than another
    beginnings = [f"{first} {second}" for first in ("the", "a", "you", "Paris") for second in ("city", "letter", "is")]
    written = continuations(model, beginnings, Sampling(6, temperature=0.0))
    prose = [f"{beginning} {text}" for beginning, text in zip(beginnings, written, strict=True)]
    pairs = np.tile([True, False], 2), np.repeat([0, 1], 2)
    given = Texts.measured(model, ["you are kind", "you are cruel"] * 2, *pairs, MeasuredProse.measured(model, prose))
    costed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure_cost", lambda *each: costed.append(each[2:]) or effects.measure_cost(*each))
        result = module.calibrate(model, [towards(model, "kind", "cruel", 0.02, layer=0)], given, given)
    costs = [np.log(effect.perplexity.value) for effect in result.random]
    wanted = max(np.log(result.tested.perplexity.value), LEAST_COST)
    assert len(costs) == RANDOM_DIRECTIONS and costs == pytest.approx([wanted] * len(costs), rel=0.11)
    assert len({effect.strength for effect in result.random}) > 1
    return [(candidate.label, candidate, strength) for candidate, strength in costed]


def test_random_directions_cost_what_the_chosen_one_does(model):
    costed = check_costs_of_random(model)
    drawn = [(id(candidate), strength) for label, candidate, strength in costed if label == "random"]
    assert len(set(drawn)) == len(drawn) > RANDOM_DIRECTIONS


def test_random_directions_of_equal_length_cost_something_else(model):
    unequal = (
        "strengths_at_cost(costs, target, setting.strength)",
        "[(setting.strength, each(setting.strength)) for each in costs]",
    )
    with mutant(search, *unequal) as changed, pytest.raises(AssertionError):
        check_costs_of_random(model, changed)


def effect(ratio=1.02, low=0.2, value=0.3, strength=2.0, label="mass-mean", form=None):
    perplexity, shift = Estimate(ratio, ratio, ratio, 60), Estimate(value, low, value + 0.1, 50)
    return Effect(label, (1,), strength, perplexity, shift, form=form)


KEPT = FormChange(Estimate(0.0, -0.05, 0.05, 50), Estimate(1.0, 0.95, 1.05, 50))
SHORTER = FormChange(Estimate(0.0, -0.05, 0.05, 50), Estimate(0.6, 0.5, 0.7, 50))
REPEATED = FormChange(Estimate(0.3, 0.2, 0.4, 50), Estimate(1.0, 0.95, 1.05, 50))


def calibrated(tested=None, chosen=2.0, random=(0.1, 0.0), champion=None):
    drawn = tuple(effect(value=value, low=value - 0.1, label="random") for value in random)
    tested = tested or effect()
    curve = (effect(strength=0.0, value=0.0, low=0.0), tested)
    candidate = Candidate("mass-mean", {1: np.array([1.0, 0.0], np.float32)})
    return Calibrated(candidate, (), curve, -4.0, 4.0, chosen, tested, (), drawn, champion)


REFUSED = {
    "no strength moved preference beyond chance": calibrated(chosen=0.0),
    "perplexity on test is 1.110": calibrated(effect(ratio=1.11)),
    "the shift of preference on test, 0.300 \\[0.000, 0.400\\], may be none": calibrated(
        effect(low=0.0), random=(-1.0,)
    ),
    "its answers on test may have another form: repetition 0.000 .*, length 0.600": calibrated(effect(form=SHORTER)),
    "its answers on test may have another form: repetition 0.300": calibrated(effect(form=REPEATED)),
    # The point value lies above every random direction; the interval's end does not.
    "0.300 .*, does not lie above that of a random direction, 0.250": calibrated(random=(0.1, 0.25)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_every_rule_of_works_decides_alone(reason):
    refused = REFUSED[reason]
    assert not refused.works
    assert not refused.is_promoted
    assert refused.recommended == 0
    calibration = to_calibration(refused, "digest", "run")
    assert (calibration.recommended, calibration.tested.works) == (0, False)
    assert re.search(rf"not champion, and no strength is recommended: .*{reason}", decision(refused))


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        (("champion",), "champion still, since no other"),
        (("challenger",), "not champion, and"),
        ((), "not champion, and"),
    ],
)
def test_a_champion_that_fails_is_not_called_another(aliases, said):
    """It has the alias from a probe, so its page would say one thing and the alias above it another."""
    refused = calibrated(chosen=0.0)
    tags = {"dimension": "toxicity", "layer": "1", "checkpoint": "models:/ckpt.m/1", "checkpoint_step": "8"}
    registered = RegisteredVector("steer.m.toxicity", "3", "run", "model", tags, aliases)
    assert decision(replace(refused, candidate=replace(refused.candidate, registered=registered))).startswith(said)


def test_what_works_is_recommended_and_promoted():
    works = calibrated(effect(ratio=1.10, low=0.11, form=KEPT))
    assert works.works
    assert works.is_promoted
    calibration = to_calibration(works, "digest", "run")
    assert (calibration.recommended, calibration.tested.works) == (2.0, True)
    assert calibration.tested.shift_low == works.tested.shift.low
    assert calibration.tested.largest_random == works.largest_random
    assert decision(works).startswith("calibrated: on validation, mass-mean at layer 1, strength 2,")


def test_what_was_refuted_is_not_promoted():
    refuted = replace(calibrated(), is_refuted=True)
    assert (refuted.works, refuted.is_promoted) == (True, False)
    assert decision(refuted).startswith("not champion: mass-mean at layer 1 works on this test half, but")


@pytest.mark.parametrize(
    ("champion", "promoted"),
    [
        (effect(value=0.31, low=0.1, label="old"), False),
        (effect(value=0.29, low=0.1, label="old"), True),
        (effect(value=0.31, ratio=1.11, label="old"), True),
        (effect(value=0.31, label="old", form=SHORTER), True),
        (effect(value=0.31, label="old", form=KEPT), False),
        (None, True),
    ],
)
def test_a_champion_gives_way_to_no_less(champion, promoted):
    result = calibrated(champion=champion)
    assert result.works
    assert result.is_promoted == promoted
    assert ("not champion: on the same test half the running champion (old" in decision(result)) != promoted


MUTANTS = {
    "without random directions": (" and self.beats_random", ""),
    "the value against random directions": (
        "self.tested.shift.low > self.largest_random",
        "self.tested.shift.value > self.largest_random",
    ),
    "the least random direction": (
        "max(effect.shift.value for effect in self.random)",
        "min(effect.shift.value for effect in self.random)",
    ),
    "without the interval": (" and self.tested.shift.low > 0", ""),
    "without the cost": ("moves and self.tested.is_cheap and", "moves and"),
    "without the form": (" and self.tested.keeps_form", ""),
    "a strength that validation did not choose": ("self.chosen > 0 and ", ""),
    "recommended before it works": ("self.chosen if self.works else 0.0", "self.chosen"),
    "promoted before it works": ("self.works and not self.is_refuted", "not self.is_refuted"),
    "promoted over a better champion": (" and not self.is_less_than_champion", ""),
    "kept for a dear champion": ("running.is_cheap and ", ""),
    "promoted though refuted": (" and not self.is_refuted", ""),
    "kept for a champion of another form": (" and running.keeps_form", ""),
}


def decided(result):
    return (result.works, result.is_promoted, result.recommended)


def decisions(kind):
    """Of every result of the table, made anew as ``kind``."""
    better, dear = effect(value=0.31, low=0.1, label="old"), effect(value=0.31, ratio=1.11, label="old")
    short = effect(value=0.31, label="old", form=SHORTER)
    champions = [calibrated(champion=running) for running in (None, better, dear, short)]
    results = [*REFUSED.values(), *champions, replace(calibrated(), is_refuted=True)]
    return [decided(kind(**vars(result))) for result in results]


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_verdict(name):
    with mutant(search, *MUTANTS[name]) as changed:
        assert decisions(changed.Calibrated) != decisions(Calibrated)


RECOMMENDED = (
    ([point(1, 1.02, value=0.3), point(2, 1.05, value=0.6)], 2),
    ([point(1, 1.02, value=0.3), point(2, 1.05, low=0.0, value=0.6)], 1),
    ([point(1, 1.02, value=0.3), point(2, 1.11, value=0.6)], 1),
    ([point(1, 1.02, value=0.3), point(2, 1.098, value=0.6)], 1),
    ([point(1, 1.02, value=0.3), point(2, 1.094, value=0.6)], 2),
    ([point(-2, 1.0, value=5.0), point(0, 1.0, low=0.1)], 0),
    ([point(1, 1.02, value=0.3), replace(point(2, 1.05, value=0.6), form=SHORTER)], 1),
    ([point(1, 1.02, value=0.3), replace(point(2, 1.05, value=0.6), form=KEPT)], 2),
    ([], 0),
)
SAFE = (
    ([point(-1, 1.2), point(0, 1), point(1, 1.34), point(2, 1.341), point(3, 1.0)], (-1, 1)),
    ([point(-2, 1.0), point(-1, 1.4), point(0, 1), point(1, 1.1)], (0, 1)),
)
CHOICES = {
    "without chance": (" and effect.shift.low > 0", ""),
    "without the cost": ("effect.is_usable and effect.shift.low > 0", "effect.shift.low > 0"),
    "a cost that may be higher": ("effect.is_usable and effect.shift", "effect.is_cheap and effect.shift"),
    "without the form": ("effect.is_usable and effect.shift", "effect.is_surely_cheap and effect.shift"),
    "the least shift": ("return max(working, key=lambda", "return min(working, key=lambda"),
    "the weakest": ("effect: effect.shift.value).strength if", "effect: -effect.strength).strength if"),
    "against trustworthiness": ("effect.strength > 0 and effect.is_usable", "effect.is_usable"),
    "beyond a gap": ("                break\n            reached", "                continue\n            reached"),
    "at the cap": ("if effect.perplexity.value > PERPLEXITY_CAP", "if effect.perplexity.value >= PERPLEXITY_CAP"),
}  # fmt: skip


def choices(module):
    return [module.recommend(curve) for curve, _ in RECOMMENDED] + [module.safe_range(curve) for curve, _ in SAFE]


CONTENDING = {
    "the largest shift": ((dict(value=0.3), dict(value=0.6)), 1),
    "not of another form": ((dict(value=0.3), dict(value=0.6, form=SHORTER)), 0),
    "of another form, where all are": ((dict(value=0.3, form=REPEATED), dict(value=0.6, form=SHORTER)), 1),
    "not a dear one": ((dict(value=0.3, form=SHORTER), dict(value=0.6, ratio=1.2)), 0),
    "the cheapest, where all are dear": ((dict(value=0.6, ratio=1.3), dict(value=0.3, ratio=1.2)), 1),
}
BEST = {
    "of any form": ("max(usable or cheap", "max(cheap"),
    "the dearest": ("return min(trials", "return max(trials"),
    "of any cost": ("if trial.effect.is_surely_cheap]\n    if", "]\n    if"),
}


def bests(module):
    for trials, _ in CONTENDING.values():
        given = [module.Trial(None, effect(**each)) for each in trials]
        yield given.index(module._best(given))


def test_every_rule_of_the_search_decides():
    assert list(bests(search)) == [wanted for _, wanted in CONTENDING.values()]


@pytest.mark.parametrize("name", BEST)
def test_the_table_tells_a_mutant_from_the_search(name):
    with mutant(search, *BEST[name]) as changed:
        assert list(bests(changed)) != list(bests(search))


def test_every_rule_of_a_choice_decides():
    assert choices(search) == [wanted for _, wanted in (*RECOMMENDED, *SAFE)]


@pytest.mark.parametrize("name", CHOICES)
def test_the_table_tells_a_mutant_from_the_choice(name):
    with mutant(search, *CHOICES[name]) as changed:
        assert choices(changed) != choices(search)


SURELY = "self.perplexity.high <= CHEAP\n\n    @property\n    def is_cheap"
LIMITS = {
    "surely cheap by the value": (SURELY, SURELY.replace("high", "value")),
    "surely cheap below the limit": (SURELY, SURELY.replace("<=", "<")),
    "cheap by the interval": ("self.perplexity.value <= CHEAP", "self.perplexity.high <= CHEAP"),
    "cheap below the limit": ("self.perplexity.value <= CHEAP", "self.perplexity.value < CHEAP"),
    "another limit": ("CHEAP = 1.10", "CHEAP = 1.11"),
}


def costs(kind):
    ends = ((1.09, 1.12), (1.08, 1.10), (1.10, 1.2), (1.105, 1.105))
    ratios = [Estimate(value, value - 0.01, high, 60) for value, high in ends]
    measured = [kind("mass-mean", 1, 2.0, ratio, Estimate(0.3, 0.2, 0.4, 50)) for ratio in ratios]
    return [(effect.is_cheap, effect.is_surely_cheap) for effect in measured]


def test_every_rule_of_a_cost_decides():
    assert costs(Effect) == [(True, False), (True, True), (True, False), (False, False)]


def test_what_is_usable_is_cheap_and_keeps_its_form():
    usable = [(effect(form=form).is_usable, effect(form=form).keeps_form) for form in (None, KEPT, SHORTER, REPEATED)]
    assert usable == [(True, True), (True, True), (False, False), (False, False)]
    assert not effect(ratio=1.2, form=KEPT).is_usable


@pytest.mark.parametrize("name", LIMITS)
def test_the_table_tells_a_mutant_from_the_cost(name):
    with mutant(effects, *LIMITS[name]) as changed:
        assert costs(changed.Effect) != costs(Effect)
