"""The arguments that vLLM is started with; running it is tests/vllm."""

from serving.engine.vllm.process import OURS, own_arguments
from serving.model.language_model import described
from serving.model.sources import find_series
from serving.model.weights import locate
from tests.hub_server import REPO


def test_a_tokenizer_that_only_main_has_is_given(hub):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (hub.repositories[REPO]["step10"] / name).unlink()
    series = find_series(REPO)
    without, whole = (own_arguments(described(series.at(step)), 32, 4, 2) for step in (10, 100))
    main = locate(series.select("main")[0]).directory
    assert without["model"] == str(locate(series.at(10)).directory)
    assert without["tokenizer"] == str(main)
    assert whole["tokenizer"] == whole["model"]
    assert set(whole) <= OURS
