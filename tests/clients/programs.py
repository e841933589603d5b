"""Programs of clients: each talks to a service as its documentation has it, and prints a JSON object of what it got.

`python tests/clients/programs.py <client> <url> <strength of privacy> [<stop text>]`, where the clients are installed.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STRENGTH = float(sys.argv[3])
STEERING = {"steering": {"strengths": {"privacy": STRENGTH}}}
STEERED = f"mini@privacy={STRENGTH:g}"
MESSAGES = [{"role": "user", "content": "you"}]
SCHEMA = {
    "title": "Verdict",
    "description": "A verdict.",
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}


def run_litellm(url: str) -> dict[str, Any]:
    import litellm

    place: Any = {"model": "openai/mini", "api_base": f"{url}/v1", "api_key": "none", "temperature": 0, "max_tokens": 8}
    answer = litellm.completion(messages=MESSAGES, extra_body=STEERING, **place)
    chunks = litellm.completion(messages=MESSAGES, extra_body=STEERING, stream=True, **place)
    try:
        litellm.completion(messages=[{"role": "user", "content": "you " * 400}], **place)
        overflow = ""
    except litellm.ContextWindowExceededError:
        overflow = "ContextWindowExceededError"
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return {"text": answer.choices[0].message.content, "streamed": streamed, "overflow": overflow}


def run_langchain(url: str) -> dict[str, Any]:
    from langchain_openai import ChatOpenAI

    place: Any = {"model": STEERED, "base_url": f"{url}/v1", "api_key": "none", "temperature": 0, "max_retries": 0}
    chat = ChatOpenAI(max_tokens=8, **place)
    responses = ChatOpenAI(max_tokens=8, use_responses_api=True, **place)
    structured = ChatOpenAI(max_tokens=60, **place).with_structured_output(SCHEMA, method="json_schema")
    called = ChatOpenAI(max_tokens=60, **place).with_structured_output(SCHEMA, method="function_calling")
    return {
        "text": chat.invoke("you").content,
        "streamed": "".join(chunk.content for chunk in chat.stream("you")),
        "responses": responses.invoke("you").text,
        "structured": structured.invoke("you"),
        "called": called.invoke("you"),
    }


def run_instructor(url: str) -> dict[str, Any]:
    import instructor
    from openai import OpenAI
    from pydantic import BaseModel, ConfigDict

    class Verdict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        yes: bool

    verdicts = {}
    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
        client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="none"), mode=mode)
        verdict = client.create(model=STEERED, messages=MESSAGES, response_model=Verdict, max_tokens=60, max_retries=0)
        verdicts[mode.name] = verdict.model_dump()
    return verdicts


def run_agents(url: str) -> dict[str, Any]:
    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    settings = ModelSettings(temperature=0, max_tokens=8, extra_body={"stop": sys.argv[4]})  # it fails on cut answers
    texts = {}
    for name, kind in (("responses", OpenAIResponsesModel), ("text", OpenAIChatCompletionsModel)):
        agent = Agent(name="a", model=kind(model=STEERED, openai_client=client), model_settings=settings)
        texts[name] = Runner.run_sync(agent, "you").final_output
    return texts


def run_llm(url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        models = [{"model_id": "steered", "model_name": STEERED, "api_base": f"{url}/v1"}]
        (Path(folder) / "extra-openai-models.yaml").write_text(json.dumps(models))
        command = ["-m", "llm", "-m", "steered", "you", "--key", "none", "--no-log", "-o", "temperature", "0"]
        finished = subprocess.run(
            [sys.executable, *command, "-o", "max_tokens", "8"],
            env={**os.environ, "LLM_USER_PATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return {"text": finished.stdout.removesuffix("\n")}


if __name__ == "__main__":
    print(json.dumps(globals()[f"run_{sys.argv[1]}"](sys.argv[2])))
