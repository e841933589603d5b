"""What is known of one HTTP request for logs, metrics and traces: numbers and names, and texts only where allowed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.engine.base import GenerationOutcome
from serving.steering.resolver import SteeringResolution

KEY = "trusttrace.record"
"""Where the record of a request lies in its ASGI scope."""


@dataclass
class RequestRecord:
    """Filled while a request is answered; the only thing about it that changes."""

    request_id: str
    method: str
    path: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    keeps_texts: bool = False
    """Whether prompts and answers may be kept: never, unless the service was told so."""
    asked_model: bool = False
    """Whether the model was asked for anything."""
    prompt: str = ""
    answers: dict[int, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token: float | None = None
    """Seconds to the first token of a streamed answer."""
    steered: tuple[str, ...] = ()
    """Dimensions steered."""
    applied: tuple[dict[str, Any], ...] = ()
    fingerprint: str = ""

    def asked(self, prompt: Callable[[], str], settings: Sequence[SteeringResolution]) -> None:
        """``prompt`` makes the first prompt's text, and is called where texts are kept."""
        self.asked_model = True
        if self.keeps_texts:
            self.prompt = prompt()
        self.applied = tuple(vector.to_dict() for setting in settings for vector in setting.applied)
        self.steered = tuple(dict.fromkeys(one["dimension"] for one in self.applied))
        self.fingerprint = next((one.plan.fingerprint for one in settings if one.plan.fingerprint), "")

    def token(self, choice: int, text: str) -> None:
        """A token of a streamed answer went out."""
        if self.first_token is None:
            self.first_token = self.seconds
        self.text(choice, text)

    def text(self, choice: int, text: str) -> None:
        if self.keeps_texts:
            self.answers[choice] = self.answers.get(choice, "") + text

    def ended(self, finished: Sequence[GenerationOutcome]) -> None:
        self.prompt_tokens = sum(one.prompt_tokens for one in finished)
        self.generated_tokens = sum(one.generated_tokens for one in finished)

    def failed(self, status: int) -> None:
        """A stream broke off, after its headers had said that all was well."""
        self.status = status

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def told(self) -> dict[str, Any]:
        """One line of the log."""
        line: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(self.seconds, 4),
        }
        if self.prompt_tokens:
            line |= {"prompt_tokens": self.prompt_tokens, "generated_tokens": self.generated_tokens}
        if self.first_token is not None:
            line["first_token_seconds"] = round(self.first_token, 4)
        if self.applied:
            line["steering"] = {
                f"{one['vector']}/{one['version']}": one.get("strength", {"target": one.get("target")})
                for one in self.applied
            }
        if self.keeps_texts and self.asked_model:
            line |= {"prompt": self.prompt, "answers": self.answers}
        return line
