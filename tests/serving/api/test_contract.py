"""The service keeps what its OpenAPI document promises, whatever is sent: schemathesis against the real one."""

import httpx
from hypothesis import HealthCheck, given, settings

OPERATIONS = 23


def test_no_request_gets_a_fault_or_an_undocumented_status(service_url):
    # Imported here: every process collects this module, and one runs it.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    checks = [not_a_server_error, status_code_conformance, content_type_conformance]
    document = schemathesis.openapi.from_url(f"{service_url}/docs.json")
    checked = 0
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def check(case):
            if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
                case.body["max_tokens"] = min(case.body["max_tokens"], 4)  # long answers tell nothing more
            case.call_and_validate(checks=checks)

        check()
        checked += 1
    assert checked == OPERATIONS


def test_the_document_names_every_route_of_the_interface(service_url):
    paths = httpx.get(f"{service_url}/docs.json").json()["paths"]
    assert set(paths) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/steering/dimensions",
        "/v1/steering/vectors",
        "/v1/steering/vectors/{name}/versions/{version}",
        "/v1/steering/vectors/{name}/versions/{version}/export",
        "/v1/steering/validate",
        "/v1/steering/default",
        "/v1/steering/compare",
        "/v1/probe",
        "/v1/hidden_states",
        "/generate",
        "/v1/feedback",
        "/v1/webhooks/mlflow",
        "/livez",
        "/readyz",
    }
