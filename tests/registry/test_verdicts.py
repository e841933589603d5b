"""The verdict of text on a version: what it says, and when it holds no longer."""

import dataclasses
import json

import pytest

from registry.calibration import Calibration
from registry.descriptions import (
    describe_calibrated,
    describe_judged,
    describe_uncalibrated,
    describe_vector,
    of_version,
    summary_of,
)
from registry.errors import CorruptFile
from registry.records import RegisteredVector, calibration_tags, text_verdict_tags
from registry.verdicts import TextVerdict
from tests.registry.store_behaviour import make_vector

VERDICT = TextVerdict(
    *(True, "toxic continuations", 3.0, 0.308, 0.175, -0.133, -0.2, -0.06, 0.08, 0.03, 200, 0.001, 39, -0.05, 0.025),
    *(1.09, 1.08, 1.1, "run"),
)
NEEDED = {"dimension": "toxicity", "layer": "8", "checkpoint": "models:/ckpt.tiny/1", "checkpoint_step": "1"}


def version(recommended, verdict=VERDICT):
    calibration = Calibration(-2.0, 6.0, recommended, 1.34, (), 50, "digest", "run")
    tags = {**NEEDED, **calibration_tags(calibration), **text_verdict_tags(verdict)}
    return RegisteredVector("steer.tiny.toxicity", "1", "run", "m-1", tags)


def test_a_verdict_is_read_as_it_was_written():
    assert version(3.0).text_verdict == VERDICT
    assert version(3.0).tags["works_on_text"] == "yes"
    assert text_verdict_tags(dataclasses.replace(VERDICT, works=False))["works_on_text"] == "no"


def test_a_verdict_at_another_strength_holds_no_longer():
    assert version(2.5).text_verdict is None
    assert version(0.0).text_verdict == VERDICT  # where none is recommended it is of the strength that was tried
    assert RegisteredVector("steer.tiny.toxicity", "1", "run", "m-1", NEEDED).text_verdict is None


def test_a_description_opens_with_the_newest_verdict_and_calibration():
    first = describe_judged("calibrated\n\n**Origin**: fitted", VERDICT)
    assert first.startswith("**Works** on what is written, at strength 3: toxic continuations 30.8%")
    again = describe_judged(first, dataclasses.replace(VERDICT, works=False))
    assert again.startswith("**Does not work**") and "**Works**" not in again
    assert again.endswith("calibrated\n\n**Origin**: fitted")
    assert describe_calibrated(again, "calibrated anew") == "calibrated anew\n\n**Origin**: fitted"


def test_a_verdict_of_before_directions_were_silenced_is_read():
    old = {
        name: value
        for name, value in json.loads(VERDICT.to_json()).items()
        if not name.startswith(("role", "silenced"))
    }
    assert TextVerdict.from_json(json.dumps(old)) == VERDICT
    assert "The direction" not in VERDICT.describe()


def test_a_verdict_says_what_the_direction_is_to_the_model():
    measured = dataclasses.replace(
        VERDICT, role="sufficient and necessary", silenced=0.408, silenced_change=0.1, silenced_low=0.02,
        silenced_high=0.18, silenced_detectable=0.114,
    )  # fmt: skip
    assert measured.describe().endswith(
        "The direction is **sufficient and necessary**: without it 40.8% "
        "(change 10.0 [2.0, 18.0] points, detectable from 11.4)"
    )
    assert TextVerdict.from_json(measured.to_json()) == measured
    assert version(3.0, measured).tags["role_on_text"] == "sufficient and necessary"


def test_a_version_says_when_it_is_not_calibrated():
    vector = make_vector("models:/ckpt.tiny/1", "r")
    fresh = describe_uncalibrated(describe_vector(vector, {"toxicity/probe_accuracy": 1.0}), vector)
    assert fresh.startswith("**Not calibrated**") and "vectors=steer.tiny.toxicity/VERSION" in fresh
    command = (
        "mlflow run . -e calibrate --env-manager local -P model=tiny -P dimensions=toxicity -P methods=none -P vectors="
    )
    assert f"`{command}steer.tiny.toxicity/7`" in of_version(fresh, "7") and "VERSION" not in of_version(fresh, "7")
    own = dataclasses.replace(
        vector,
        lineage=dataclasses.replace(vector.lineage, statements_source="file:my humility.csv"),
    )
    assert "-P data='<path of my humility.csv>' -P methods=none" in describe_uncalibrated("", own)
    assert summary_of(fresh) == ""
    calibrated = describe_calibrated(fresh, "**Works** here", "#/experiments/1/runs/a")
    assert "Not calibrated" not in calibrated and "[run](#/experiments/1/runs/a)" in calibrated
    assert calibrated.startswith("**Works** here") and "`toxicity/probe_accuracy`: 1" in calibrated
    assert summary_of(calibrated) == "**Works** here"
    assert "Not calibrated" not in describe_calibrated(fresh, "")


@pytest.mark.parametrize("text", ["", "[]", '{"works": true}', '{"other": 1}'])
def test_a_damaged_verdict_is_refused(text):
    with pytest.raises(CorruptFile, match="evaluate the vector again"):
        TextVerdict.from_json(text)
