"""LangChain's standard tests of a chat model, against a steered service; pytest runs them where they are installed.

Of what they ask for, pictures, sound and documents are not the service's. The suite skips them unless told otherwise.
"""

import os

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

STEERED = os.environ["TRUSTTRACE_STEERED_MODEL"]


class TestSteeredChat(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, object]:
        place = {"model": STEERED, "base_url": f"{os.environ['TRUSTTRACE_URL']}/v1", "api_key": "none"}
        return {**place, "temperature": 0, "max_tokens": 200, "stream_usage": True}

    @property
    def model_override_value(self) -> str:
        return STEERED.partition("@")[0]

    @property
    def supports_json_mode(self) -> bool:
        return False  # any JSON object is an answer then, and which keys it has is the model's choice
