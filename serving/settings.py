"""Settings: the service's environment variables, read and checked once."""

import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from registry.errors import InvalidInput, redacted
from registry.model_names import model_short_name
from serving.model.placement import Precision

EngineName = Literal["slots", "vllm"]
PREFIX = "TRUSTTRACE_"
KINDS = {
    "bool_parsing": "it must be true or false",
    "int_parsing": "it must be a whole number in digits, such as 16",
    "float_parsing": "it must be a number, such as 0.5",
}
"""What is told of a value that is no such thing, by pydantic's word for the problem."""
NEAR = 0.75
"""Likeness of names from which one is taken for the other misspelled; others, such as Kubernetes' own, are let be."""
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:]+\]|[^\s/?#@*:]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE)
_NAME = re.compile(r"[\w.-]{1,100}")
_PORTS = {"http": "80", "https": "443"}


def _split(value: Any) -> Any:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _parsed(value: Any) -> Any:
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"it must be a JSON object, and cannot be read as JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise ValueError('it must be a JSON object, such as {"tensor_parallel_size": 2}')
    return parsed


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0.1, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting of the service, each by an environment variable. An empty variable counts as unset.

    | variable | default | meaning |
    |---|---|---|
    | `TRUSTTRACE_MODEL` | `smollm2` | `smollm2`, a directory with a checkpoint or a series of them, a `.gguf` file, a hub id; `name=` before it names it |
    | `TRUSTTRACE_MODEL_NAME` | from the model | its name in the registry and in requests |
    | `TRUSTTRACE_CHECKPOINT` | `last` | which checkpoint of a series: `first`, `last` (of the first stage), `stage2:last`, `main`, a step or a revision |
    | `TRUSTTRACE_PRECISION` | `auto` | `bfloat16` where the hardware computes in it, else `float32`; or either by name |
    | `TRUSTTRACE_DEVICE` | `auto` | `cpu`, `cuda`, `cuda:1` |
    | `TRUSTTRACE_ENGINE` | `slots` | what generates: `slots`, the engine of this repository, or `vllm` |
    | `TRUSTTRACE_VLLM_ARGUMENTS` | none | vLLM's own arguments, a JSON object such as `{"tensor_parallel_size": 2}` |
    | `TRUSTTRACE_WORKERS` | `1` | worker processes on the one port, each with a model of its own |
    | `TRUSTTRACE_SLOTS` | `16` | requests that run at once, in each worker |
    | `TRUSTTRACE_QUEUE_LIMIT` | `64` | requests that may wait, in each worker; beyond them 429 |
    | `TRUSTTRACE_WINDOW` | the model's | tokens that a prompt and its answer may have together |
    | `TRUSTTRACE_PREFIX_CACHE` | `268435456` | bytes of keys and values that the engine `slots` keeps for prompts that begin alike, in each worker; 0 keeps none |
    | `TRUSTTRACE_FOUR_BIT` | `true` | whether the engine `slots` in bfloat16 on a CPU multiplies up to four tokens by the four-bit weights that a quantised file has |
    | `TRUSTTRACE_BATCH_INVARIANT` | `false` | whether the engine `slots` gives an answer in bfloat16 on a CPU the same bits whatever runs beside it; not in four bits then |
    | `TRUSTTRACE_MAX_TOKENS` | `256` | length of an answer whose request names none |
    | `TRUSTTRACE_MAX_CHOICES` | `64` | answers of one request: `n` times its prompts |
    | `TRUSTTRACE_BODY_LIMIT` | `1048576` | bytes of a request body; beyond them 413 |
    | `TRUSTTRACE_BODY_TIMEOUT` | `20` | seconds in which a request body must arrive; beyond them 408 |
    | `TRUSTTRACE_PACE` | `20` | requests a second of one client that are taken up while others' are under way, in each worker; 16 KiB of a body count as one more, a refused one as four; more wait up to 5 s, then 429; 0 for no limit |
    | `TRUSTTRACE_TIMEOUT` | `300` | seconds that an answer may take; beyond them 504 |
    | `TRUSTTRACE_HEARTBEAT` | `10` | seconds of silence in a stream before a comment is sent to keep it open |
    | `TRUSTTRACE_DRAIN` | `30` | seconds after SIGTERM in which the service ends; running answers have all but the last two of them |
    | `TRUSTTRACE_POLL` | `2` | seconds between two looks at the registry's aliases |
    | `TRUSTTRACE_DOSE_LIMIT` | `1.0` | largest relative norm of an uncalibrated vector's offset: its length over its layer's median hidden state |
    | `TRUSTTRACE_PACK` | `shipped` | vectors for a registry that has none of the model: the pack that is shipped for it, `none`, or a pack's folder |
    | `TRUSTTRACE_CHALLENGER` | `0` | share of requests steered by the versions with alias `challenger` in their champions' place, such as `0.1` |
    | `TRUSTTRACE_ALLOW_UNSTEERED` | `false` | whether the service is ready before it has once reached the registry |
    | `TRUSTTRACE_API_KEYS` | none | keys separated by commas; without any, only requests from localhost are accepted |
    | `TRUSTTRACE_ADMIN_KEY` | none | the key that loads vectors and sets default strengths |
    | `TRUSTTRACE_WEBHOOK_SECRET` | none | the secret by which MLflow signs its webhooks; without one they are refused |
    | `TRUSTTRACE_ALLOWED_ORIGINS` | none | browser origins that may call the API, separated by commas, such as `https://chat.example` |
    | `TRUSTTRACE_MLFLOW_UI` | the tracking URI, if http | where links to MLflow lead, the playground's and those that experiments print |
    | `TRUSTTRACE_LOG_PROMPTS` | `false` | whether logs and traces hold prompts and answers |
    | `TRUSTTRACE_TRACE` | `false` | whether each request is traced to MLflow |
    | `MLFLOW_TRACKING_URI` | `sqlite:///mlflow.db` in the working directory | MLflow's own: where runs are |
    | `MLFLOW_REGISTRY_URI` | the tracking URI | MLflow's own: where vectors are registered |
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, str_strip_whitespace=True)

    model: str = "smollm2"
    model_name: str | None = None
    checkpoint: str = "last"
    precision: Precision = "auto"
    device: str = "auto"
    engine: EngineName = "slots"
    vllm_arguments: Annotated[dict[str, Any], NoDecode, BeforeValidator(_parsed)] = Field(default_factory=dict)
    workers: Positive = 1
    slots: Positive = 16
    queue_limit: Annotated[int, Field(ge=0)] = 64
    window: Annotated[int, Field(ge=2)] | None = None
    prefix_cache: Annotated[int, Field(ge=0)] = 268_435_456
    four_bit: bool = True
    batch_invariant: bool = False
    max_tokens: Positive = 256
    max_choices: Positive = 64
    body_limit: Annotated[int, Field(ge=1024)] = 1_048_576
    body_timeout: Seconds = 20.0
    pace: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20.0
    timeout: Seconds = 300.0
    heartbeat: Seconds = 10.0
    drain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    poll: Seconds = 2.0
    dose_limit: Annotated[float, Field(ge=0.01, allow_inf_nan=False)] = 1.0
    pack: str = "shipped"
    challenger: Annotated[float, Field(ge=0, le=1)] = 0.0
    allow_unsteered: bool = False
    api_keys: Names = ()
    admin_key: str | None = None
    webhook_secret: str | None = None
    allowed_origins: Names = ()
    mlflow_ui: Annotated[str, Field(pattern="^https?://")] | None = None
    log_prompts: bool = False
    trace: bool = False

    @model_validator(mode="before")
    @classmethod
    def _drop_blank(cls, values: dict[str, Any]) -> dict[str, Any]:
        """An empty variable counts as unset; the playground's links lead to the tracking server unless set."""
        given = {name: value for name, value in values.items() if not isinstance(value, str) or value.strip()}
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
        if tracking.startswith(("http://", "https://")):
            given.setdefault("mlflow_ui", redacted(tracking).replace("***@", ""))
        return given

    @field_validator("api_keys", mode="before")
    @classmethod
    def _require_keys(cls, value: Any) -> Any:
        if isinstance(value, str) and not _split(value):
            raise ValueError("holds commas and no key; separate keys by commas, or unset it")
        return value

    @field_validator("model_name")
    @classmethod
    def _require_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(
                "a name in the registry has up to 100 letters, digits, dots, dashes and underscores, such as "
                f"{model_short_name(name)[:100]}"
            )
        return name

    @field_validator("allowed_origins")
    @classmethod
    def _require_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_as_sent, origins))

    @property
    def is_open(self) -> bool:
        """Whether no key is configured at all."""
        return not self.api_keys and self.admin_key is None


def _as_sent(origin: str) -> str:
    """An origin as browsers send it. Raises ``ValueError`` for what none sends, or what pages of any site may."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise ValueError(
            f"{origin!r} is no origin that a page can be told by; list scheme and host of each, such as "
            "https://chat.example"
        )
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    return f"{scheme}://{host}" if port in (None, _PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def read_settings() -> Settings:
    """The settings of the environment. Raises ``InvalidInput`` naming the variable, its value and what it may be."""
    _require_spelled(os.environ)
    try:
        settings = Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        variable = PREFIX + str(problem["loc"][0]).upper()
        raise InvalidInput(f"{variable} is {problem['input']!r}: {_rule(problem)}") from error
    if settings.vllm_arguments and settings.engine != "vllm":
        raise InvalidInput(
            f"TRUSTTRACE_VLLM_ARGUMENTS is set and TRUSTTRACE_ENGINE {settings.engine}, which does not hear them; set "
            "TRUSTTRACE_ENGINE=vllm, or unset them"
        )
    return settings


def _require_spelled(environment: Mapping[str, str]) -> None:
    """Raise ``InvalidInput`` for a variable that nearly spells a setting, which would silently set nothing."""
    known = [name.upper() for name in Settings.model_fields]
    for variable, value in environment.items():
        name = variable.upper().removeprefix(PREFIX)
        if name in known or not variable.upper().startswith(PREFIX) or not value.strip():
            continue
        if near := get_close_matches(name, known, n=1, cutoff=NEAR):
            raise InvalidInput(f"{variable} is no setting; rename it to {PREFIX}{near[0]}, or unset it")


def _rule(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["loc"][0] == "mlflow_ui":
        return "it must begin with http:// or https://"
    return KINDS.get(problem["type"]) or str(problem["msg"]).replace("Input should", "it must", 1)
