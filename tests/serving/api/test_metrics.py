import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

import serving.api.metrics as service_metrics
from serving.api.metrics import route_label

TEMPLATES = ("/v1/models", "/v1/models/{model_id}", "/v1/steering/vectors/{name}/versions/{version}", "/livez")


def test_a_path_is_counted_by_its_template():
    assert route_label("/v1/models", TEMPLATES) == "/v1/models"
    assert route_label("/v1/models/mini@toxicity=1", TEMPLATES) == "/v1/models/{model_id}"
    assert route_label("/v1/steering/vectors/a/versions/3", TEMPLATES) == TEMPLATES[2]


def test_a_path_that_the_service_lacks_is_other():
    for path in ("/v1/nowhere", "/livez/x", "/V1/models", "", "/v1/models.json"):
        assert route_label(path, TEMPLATES) == "other"


def test_the_readme_lists_every_metric():
    described = (Path(__file__).parents[3] / "serving" / "README.md").read_text()
    named = {name for line in re.findall(r"^\| .*", described, re.M) for name in re.findall(r"`(trusttrace_\w+)", line)}
    metrics = [metric for metric in vars(service_metrics).values() if isinstance(metric, Counter | Gauge | Histogram)]
    exposed = {f"{metric._name}_total" if isinstance(metric, Counter) else metric._name for metric in metrics}
    assert named == exposed and exposed
