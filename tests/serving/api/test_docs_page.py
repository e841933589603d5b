"""The documentation page and the OpenAPI document that it is made of."""

import json
import re
from html import escape

import pytest
from starlette.testclient import TestClient

from serving.api import error_documents, errors
from serving.api.app import create_app
from serving.api.docs_page import docs_page, example_of
from serving.api.openai.requests import ChatRequest, CompletionRequest
from serving.api.responses_api.requests import ResponsesRequest
from serving.api.steering.requests import CompareRequest
from serving.served_model import ServedModel
from serving.settings import Settings


@pytest.fixture(scope="module")
def app():
    return create_app(ServedModel(Settings()))


@pytest.fixture(scope="module")
def document(app):
    return app.openapi()


def operations(document):
    return [(path, method, found) for path, methods in document["paths"].items() for method, found in methods.items()]


def test_the_page_answers_and_needs_no_other_host(app, document):
    with TestClient(app) as client:
        reply = client.get("/docs")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|https?://|<link|<img", reply.text)
    for path, method, operation in operations(document):
        assert f"<code>{method.upper()} {path}</code>" in reply.text
        assert escape(operation["summary"]) in reply.text


def test_every_operation_says_what_it_does_and_how_it_fails(document):
    for path, method, operation in operations(document):
        assert operation["summary"], path
        failures = {int(status) for status in operation["responses"] if int(status) >= 400}
        if path not in ("/livez", "/readyz"):
            assert {400, 401, 403, 500} <= failures, (method, path)
            for status in failures - {422}:
                assert operation["responses"][str(status)]["description"].startswith(error_documents.MEANINGS[status])


def test_every_code_of_an_error_is_documented():
    raised = {(kind.status, kind.code) for kind in errors.ApiError.__subclasses__()} | {(400, "invalid_request")}
    raised |= {(status, code) for _, status, _, code in errors.DOMAIN}
    raised -= {(499, "client_closed_request")}  # nobody reads it
    assert raised <= {(status, code) for status, codes in error_documents.CODES.items() for code in codes}


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest, ResponsesRequest, CompareRequest])
def test_an_example_is_a_request_that_is_accepted(document, kind):
    schemas = document["components"]["schemas"]
    example = example_of({"$ref": f"#/components/schemas/{kind.__name__}"}, schemas)
    if kind is CompareRequest:
        example["prompt"] = "The city"
    kind.model_validate(json.loads(json.dumps(example)))


def test_fields_are_described_and_texts_escaped(document):
    assert "finish_reason" in document["components"]["schemas"]["Steering"]["properties"]["stop_when"]["description"]
    hostile = {"info": {"title": "<b>", "description": "&"}, "paths": {}}
    assert "<b>" not in docs_page(hostile) and "&lt;b&gt; API" in docs_page(hostile)
