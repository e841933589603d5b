from types import SimpleNamespace

import pytest

from pipelines.tracking import champions
from pipelines.tracking.champions import vector_to_judge
from registry.errors import NotFound


def version(name, calibration):
    return SimpleNamespace(name=name, calibration=calibration)


@pytest.mark.parametrize(
    ("champion", "versions", "judged"),
    [
        (version("champion", "curve"), [version("newest", "curve")], "champion"),
        (version("champion", None), [version("newest", None), version("tried", "curve")], "tried"),
        (None, [version("newest", "curve"), version("older", "curve")], "newest"),
        (version("champion", None), [version("champion", None)], None),
        (None, [], None),
    ],
)
def test_what_is_judged_is_calibrated(champion, versions, judged, monkeypatch):
    running = None if champion is None else SimpleNamespace(registered=champion)
    store = SimpleNamespace(list=lambda *_: versions, load=lambda found: found.name)
    monkeypatch.setattr(champions, "running_champion", lambda *_: running)
    monkeypatch.setattr(champions, "VectorStore", lambda: store)
    monkeypatch.setattr(champions, "ServedVector", lambda registered, _: SimpleNamespace(registered=registered))
    if judged is None:
        with pytest.raises(NotFound, match="no vector of mini for toxicity is calibrated; calibrate first: do so"):
            vector_to_judge("mini", "toxicity", calibrate="do so")
    else:
        assert vector_to_judge("mini", "toxicity", calibrate="do so").registered.name == judged
