"""The real service of `tests/serving`, for clients that live in an environment of their own."""

from tests.serving.conftest import chat_model, deployment, service, service_url

__all__ = ["chat_model", "deployment", "service", "service_url"]
