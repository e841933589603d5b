from serving.api.metrics import route_label

TEMPLATES = ("/v1/models", "/v1/models/{model_id}", "/v1/steering/vectors/{name}/versions/{version}", "/livez")


def test_a_path_is_counted_by_its_template():
    assert route_label("/v1/models", TEMPLATES) == "/v1/models"
    assert route_label("/v1/models/mini@toxicity=1", TEMPLATES) == "/v1/models/{model_id}"
    assert route_label("/v1/steering/vectors/a/versions/3", TEMPLATES) == TEMPLATES[2]


def test_a_path_that_the_service_lacks_is_other():
    for path in ("/v1/nowhere", "/livez/x", "/V1/models", "", "/v1/models.json"):
        assert route_label(path, TEMPLATES) == "other"
