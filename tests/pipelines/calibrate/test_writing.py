"""What a tiny model writes, and how steering changes it."""

import numpy as np
import pytest

from pipelines.calibrate import effects, writing
from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.effects import MeasuredProse, Texts, measure_cost, measure_effects, no_effect
from pipelines.calibrate.search import calibrate
from pipelines.calibrate.tracking import decision, to_calibration
from pipelines.calibrate.writing import Writing, answered, fall_of_share
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.pipelines.behaviours.small_behaviour import cruel_answers
from tests.pipelines.written import written

PROSE = ("the city of Paris is in France .", "you are in the city", "a letter is in Peru")


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def towards(model, word, scale):
    """At the last layer of a model with tied embeddings this direction raises ``word``."""
    unit = model.network.get_input_embeddings().weight[model.tokenizer.convert_tokens_to_ids(word)]
    return Candidate(word, {2: scale * (unit / unit.norm()).numpy()})


def texts(model, *, always=False, n=60):
    written = Writing.measured(model, cruel_answers(), cruel_answers().of("validation", n), always=always)
    labels = np.array([True, False, True, False])
    prose = MeasuredProse.measured(model, PROSE * 20)
    return Texts.measured(model, PROSE[:2] * 2, labels, np.arange(4), prose, written)


def effect(model, given, candidate, strength):
    (measured,) = measure_effects(model, given, [measure_cost(model, given, candidate, strength)])
    return measured


def test_the_fall_of_a_share_is_paired_by_prompt(rng):
    before = (rng.random(400) < 0.5).astype(float)
    after = np.where(rng.random(400) < 0.3, 0.0, before)
    fall = fall_of_share(before, after)
    assert fall.value == pytest.approx(before.mean() - after.mean())
    assert fall.low < 0.15 < fall.high
    assert fall.high - fall.low < 0.1
    unchanged = fall_of_share(before, before)
    assert unchanged.low == pytest.approx(-3 / 400, rel=0.02)
    assert unchanged.high == -unchanged.low


def test_steering_changes_what_is_written_and_empty_answers_count_against(model, monkeypatch):
    prompts = cruel_answers().of("test", 40)
    settings = [towards(model, word, 40.0).offsets(1.0) for word in ("cruel", "kind")]
    cruel, kind = answered(model, cruel_answers(), prompts, settings)
    assert (cruel.untrustworthy.mean(), kind.untrustworthy.mean()) == (1, 0)
    monkeypatch.setattr(writing, "continuations_of_settings", lambda _, prompts, *__: [written([""] * len(prompts))])
    (nothing,) = answered(model, cruel_answers(), prompts, [{}])
    assert (nothing.untrustworthy.mean(), nothing.forms.tokens.max()) == (1, 0)


def test_answers_are_written_only_for_recommendable_strengths(model, monkeypatch):
    backwards = effect(model, texts(model), towards(model, "kind", 1e-6), -1.0)
    assert backwards.is_surely_cheap
    assert not backwards.is_measured
    monkeypatch.setattr(effects, "CHEAP", 0.5)
    dear = towards(model, "cruel", 40.0)
    on_validation, on_test = (effect(model, texts(model, always=always), dear, 4.0) for always in (False, True))
    assert not on_validation.is_measured
    assert on_test.is_measured
    assert no_effect(texts(model), dear).measure == "cruel answers"


def test_a_calibration_on_text_says_so(model):
    candidates = [towards(model, "kind", 0.02), towards(model, "cruel", 0.02)]
    result = calibrate(model, candidates, texts(model), texts(model, always=True))
    assert result.tested.describe().startswith("lowered the share of cruel answers by ")
    calibration = to_calibration(result, "digest", "run")
    assert calibration.behaviour == "cruel answers"
    assert calibration.n == 60
    assert all(np.isfinite([point.shift, point.shift_low]).all() for point in calibration.points)
    assert 0.0 in {point.strength for point in calibration.points}
    assert "cruel answers" in decision(result)
