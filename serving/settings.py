"""What the service is told by its environment, read once."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from registry.errors import InvalidInput
from serving.model.placement import Precision

EngineName = Literal["slots", "vllm"]


@dataclass(frozen=True)
class Settings:
    """Settings of the service, each by an environment variable.

    | variable | default | meaning |
    |---|---|---|
    | `TRUSTTRACE_MODEL` | `smollm2` | `smollm2`, a directory with a checkpoint or a series of them, a `.gguf` file, a hub id |
    | `TRUSTTRACE_MODEL_NAME` | from the model | its name in the registry and in requests |
    | `TRUSTTRACE_CHECKPOINT` | `last` | which checkpoint of a series: `first`, `last`, a step or a revision |
    | `TRUSTTRACE_PRECISION` | `auto` | `bfloat16` where the hardware computes in it, else `float32`; or either by name |
    | `TRUSTTRACE_DEVICE` | `auto` | `cpu`, `cuda`, `cuda:1` |
    | `TRUSTTRACE_ENGINE` | `slots` | what generates: `slots`, the engine of this repository, or `vllm` |
    | `TRUSTTRACE_VLLM_ARGUMENTS` | none | vLLM's own arguments, a JSON object such as `{"tensor_parallel_size": 2}` |
    | `TRUSTTRACE_WORKERS` | `1` | processes that answer on the one port, each with a model of its own |
    | `TRUSTTRACE_SLOTS` | `16` | requests that run at once, in each worker |
    | `TRUSTTRACE_QUEUE_LIMIT` | `64` | requests that may wait, in each worker; beyond them 429 |
    | `TRUSTTRACE_WINDOW` | the model's | tokens that a prompt and its answer may have together |
    | `TRUSTTRACE_MAX_TOKENS` | `256` | length of an answer whose request names none |
    | `TRUSTTRACE_MAX_CHOICES` | `16` | answers that one request may ask for |
    | `TRUSTTRACE_BODY_LIMIT` | `1048576` | bytes of a request body; beyond them 413 |
    | `TRUSTTRACE_TIMEOUT` | `300` | seconds that a request may take; beyond them 504 |
    | `TRUSTTRACE_HEARTBEAT` | `10` | seconds of silence in a stream before a comment is sent to keep it open |
    | `TRUSTTRACE_DRAIN` | `30` | seconds that running requests have to end after SIGTERM |
    | `TRUSTTRACE_POLL` | `2` | seconds between two looks at the registry's aliases |
    | `TRUSTTRACE_DOSE_LIMIT` | `1.0` | longest offset of an uncalibrated vector, as a share of its layer's median hidden state |
    | `TRUSTTRACE_ALLOW_UNSTEERED` | `false` | whether the service is ready before it has once reached the registry |
    | `TRUSTTRACE_API_KEYS` | none | keys separated by commas; without any, only this machine is answered |
    | `TRUSTTRACE_ADMIN_KEY` | none | the key that loads vectors and sets default strengths |
    | `TRUSTTRACE_MLFLOW_UI` | the tracking URI, if http | where the playground's links to MLflow lead |
    | `TRUSTTRACE_LOG_PROMPTS` | `false` | whether logs and traces hold prompts and answers |
    | `TRUSTTRACE_TRACE` | `false` | whether each request is traced to MLflow |
    | `MLFLOW_TRACKING_URI` | `sqlite:///mlflow.db` in the working directory | MLflow's own: where runs are |
    | `MLFLOW_REGISTRY_URI` | the tracking URI | MLflow's own: where vectors are registered |
    """

    model: str = "smollm2"
    model_name: str | None = None
    checkpoint: str = "last"
    precision: Precision = "auto"
    device: str = "auto"
    engine: EngineName = "slots"
    vllm_arguments: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    slots: int = 16
    queue_limit: int = 64
    window: int | None = None
    max_tokens: int = 256
    max_choices: int = 16
    body_limit: int = 1_048_576
    timeout: float = 300.0
    heartbeat: float = 10.0
    drain: float = 30.0
    poll: float = 2.0
    dose_limit: float = 1.0
    allow_unsteered: bool = False
    api_keys: tuple[str, ...] = ()
    admin_key: str | None = None
    mlflow_ui: str | None = None
    log_prompts: bool = False
    trace: bool = False

    @property
    def is_open(self) -> bool:
        """Whether no key is configured at all."""
        return not self.api_keys and self.admin_key is None


PREFIX = "TRUSTTRACE_"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that ``environment`` holds; an empty variable counts as unset.

    Raises ``InvalidInput``, naming the variable, what it holds and what it may hold.
    """
    given: dict[str, Any] = {}
    for name, read in _READERS.items():
        text = environment.get(PREFIX + name.upper(), "").strip()
        if text:
            given[name] = read(PREFIX + name.upper(), text)
    tracking = environment.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith(("http://", "https://")):
        given.setdefault("mlflow_ui", _without_credentials(tracking))
    return Settings(**given)


def _without_credentials(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


def _text(_variable: str, text: str) -> str:
    return text


def _keys(variable: str, text: str) -> tuple[str, ...]:
    keys = tuple(filter(None, (key.strip() for key in text.split(","))))
    if not keys:
        raise InvalidInput(f"{variable} holds commas and no key; separate keys by commas, or unset it")
    return keys


def _flag(variable: str, text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise InvalidInput(f"{variable} is {text!r} and must be true or false")
    return known[text.lower()]


def _one_of(kind: Any) -> Callable[[str, str], str]:
    def read(variable: str, text: str) -> str:
        if text not in get_args(kind):
            raise InvalidInput(f"{variable} is {text!r} and must be one of {', '.join(get_args(kind))}")
        return text

    return read


def _object(variable: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"{variable} is {text!r} and must be a JSON object")
    return found


def _address(variable: str, text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise InvalidInput(f"{variable} is {text!r} and must begin with http:// or https://")
    return text


def _whole(least: int) -> Callable[[str, str], int]:
    def read(variable: str, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < least:
            raise InvalidInput(f"{variable} is {text!r} and must be a whole number of at least {least}")
        return int(text)

    return read


def _seconds(least: float) -> Callable[[str, str], float]:
    def read(variable: str, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) < least:
            raise InvalidInput(f"{variable} is {text!r} and must be a number of at least {least:g}")
        return float(text)

    return read


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "model": _text,
    "model_name": _text,
    "checkpoint": _text,
    "precision": _one_of(Precision),
    "device": _text,
    "engine": _one_of(EngineName),
    "vllm_arguments": _object,
    "workers": _whole(1),
    "slots": _whole(1),
    "queue_limit": _whole(0),
    "window": _whole(2),
    "max_tokens": _whole(1),
    "max_choices": _whole(1),
    "body_limit": _whole(1024),
    "timeout": _seconds(0.1),
    "heartbeat": _seconds(0.1),
    "drain": _seconds(0),
    "poll": _seconds(0.1),
    "dose_limit": _seconds(0.01),
    "allow_unsteered": _flag,
    "api_keys": _keys,
    "admin_key": _text,
    "mlflow_ui": _address,
    "log_prompts": _flag,
    "trace": _flag,
}
