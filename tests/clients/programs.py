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
SCORED = f"{STEERED};prompt=all"
MESSAGES = [{"role": "user", "content": "you"}]
QUESTIONS = [
    {"question": "The city of Lyon is in", "choices": [" France", " Peru", " the sea"], "answer": 0},
    {"question": "Is it true that bats", "choices": [" see?", " are blind?"], "answer": 0},
    {"question": "you are", "choices": [" kind", " unkind", " it", " here"], "answer": 0},
]
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


def run_inspect(url: str) -> dict[str, Any]:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.solver import generate

    settings = GenerateConfig(temperature=0, max_tokens=8)
    texts = {}
    for name, by_responses in (("text", False), ("responses", True)):
        place: Any = {"base_url": f"{url}/v1", "api_key": "none", "responses_api": by_responses}
        model = get_model(f"openai-api/trusttrace/{STEERED}", config=settings, **place)
        with tempfile.TemporaryDirectory() as folder:
            task = Task(dataset=[Sample(input="you")], solver=generate())
            (log,) = eval(task, model=model, log_dir=folder, display="none")
            texts[name] = log.samples[0].output.completion
    return texts


def run_lm_eval(url: str) -> dict[str, Any]:
    """Log-likelihoods and texts over HTTP, and those of the harness's own model in this process, unsteered and steered.

    The fourth argument is the checkpoint. The harness steers by its own hook on the layer, by the exported vector.
    """
    import httpx
    import torch
    from safetensors import safe_open

    version = f"{url}/v1/steering/vectors/steer.mini.privacy/versions/1"
    hard = {"device": "cpu", "dtype": "float32", "pretrained": sys.argv[4]}
    with tempfile.TemporaryDirectory() as folder:
        exported, steering = Path(folder) / "vector.safetensors", Path(folder) / "steering.pt"
        exported.write_bytes(httpx.get(f"{version}/export").content)
        with safe_open(str(exported), "pt") as file:
            header, direction = file.metadata(), file.get_tensor("direction")
        add = {"action": "add", "steering_vector": direction.float(), "head_index": None}
        add["steering_coefficient"] = STRENGTH * float(header["scale"])
        torch.save({f"layers.{header['layer']}": add}, steering)
        over_http = {"base_url": f"{url}/v1/completions", "tokenizer": sys.argv[4], "max_length": 512, "batch_size": 4}
        return {
            "unsteered": _evaluated(folder, "local-completions", {**over_http, "model": "mini"}),
            "unsteered here": _evaluated(folder, "hf", hard),
            "steered": _evaluated(folder, "local-completions", {**over_http, "model": SCORED}),
            "steered here": _evaluated(folder, "steered", {**hard, "steer_path": str(steering)}),
        }


def _evaluated(folder: str, model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the harness got of one model: log-likelihoods and whether greedy, and generated texts."""
    import lm_eval

    rows = Path(folder) / "questions.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    shared: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "metadata": {"version": 1},
    }
    chosen = {
        "task": "chosen",
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    }
    written = {
        "task": "written",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["}", "\n\n"], "max_gen_toks": 16, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    tasks = [{**shared, **chosen}, {**shared, **written}]
    done = lm_eval.simple_evaluate(model, arguments, tasks, log_samples=True, bootstrap_iters=0)
    samples = done["samples"]
    return {
        "accuracy": done["results"]["chosen"]["acc,none"],
        "chosen": [response for sample in samples["chosen"] for (response,) in sample["resps"]],
        "written": [text for sample in samples["written"] for ((text,),) in [sample["resps"]]],
    }


if __name__ == "__main__":
    print(json.dumps(globals()[f"run_{sys.argv[1]}"](sys.argv[2])))
