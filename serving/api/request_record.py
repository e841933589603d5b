"""Request record: one HTTP request's numbers and names for logs, metrics and traces, and its texts where allowed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.records import CHALLENGER, CHAMPION
from serving.engine.base import GenerationOutcome
from serving.steering.monitor import Reading
from serving.steering.resolution import SteeringResolution

KEY = "trusttrace.record"
"""Key of a request's record in its ASGI scope."""


@dataclass
class RequestRecord:
    """Filled while a request is answered; the only part of it that changes."""

    request_id: str
    method: str
    path: str
    began: float = field(default_factory=time.monotonic)
    client: str = "unknown"
    """Digest of the client's key, or its address: whose share of the queue it uses."""
    is_trusted: bool = False
    """Whether the client may read messages that name paths and hosts."""
    route: str = "other"
    """The path's template, for metrics."""
    status: int = 0
    code: str | None = None
    """The code of an error."""
    param: str | None = None
    """The field at fault."""
    keeps_texts: bool = False
    """Whether prompts and answers may be kept: never, unless the service was configured so."""
    generates: bool = False
    """Whether the model was run for it."""
    prompt: str = ""
    answers: dict[int, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompts: those that were not read again."""
    generated_tokens: int = 0
    first_token: float | None = None
    """Seconds to the first token of a streamed answer."""
    dimensions: tuple[str, ...] = ()
    """Dimensions steered."""
    applied: tuple[dict[str, Any], ...] = ()
    fingerprint: str = ""
    variants: dict[str, str] = field(default_factory=dict)
    """Of dimensions that have a challenger: whether it or the champion steered."""
    readings: tuple[dict[str, list[Reading]], ...] = ()
    """Of each monitored answer: P(trustworthy) at each token, by dimension."""
    finish_reasons: Counter[str] = field(default_factory=Counter)
    """How many of the answers ended for each reason."""

    def begin(self, prompt: Callable[[], str], settings: Sequence[SteeringResolution]) -> None:
        """``prompt`` makes the first prompt's text, and is called where texts are kept."""
        self.generates = True
        if self.keeps_texts:
            self.prompt = prompt()
        self.applied = tuple(vector.to_dict() for setting in settings for vector in setting.applied)
        self.dimensions = tuple(dict.fromkeys(vector["dimension"] for vector in self.applied))
        self.variants = {name: variant for setting in settings for name, variant in setting.variants.items()}
        self.fingerprint = next((setting.plan.fingerprint for setting in settings if setting.plan.fingerprint), "")

    def add_token(self, choice: int, text: str) -> None:
        """A token of a streamed answer went out."""
        if self.first_token is None:
            self.first_token = self.seconds
        self.add_text(choice, text)

    def add_text(self, choice: int, text: str) -> None:
        if self.keeps_texts:
            self.answers[choice] = self.answers.get(choice, "") + text

    def end(self, outcomes: Sequence[GenerationOutcome], monitored: Sequence[Sequence[str]] = ()) -> None:
        """``monitored`` are the dimensions that each answer was read by."""
        self.finish_reasons = Counter(outcome.reason for outcome in outcomes)
        self.readings = tuple(
            {name: [of_token[column] for of_token in outcome.readings] for column, name in enumerate(dimensions)}
            for outcome, dimensions in zip(outcomes, monitored, strict=False)
            if dimensions
        )
        self.prompt_tokens = sum(outcome.prompt_tokens for outcome in outcomes)
        self.cached_tokens = sum(outcome.cached_prompt or 0 for outcome in outcomes)
        self.generated_tokens = sum(outcome.generated_tokens for outcome in outcomes)

    @property
    def filtered(self) -> int:
        """Answers that a monitor ended."""
        return self.finish_reasons["content_filter"]

    @property
    def variant(self) -> str:
        """``challenger``, ``champion``, or ``none`` where no dimension that it steers has a challenger."""
        return max(self.variants.values(), key=(CHAMPION, CHALLENGER).index, default="none")

    def all_readings(self) -> Iterator[tuple[str, float]]:
        """Every reading of every answer, with its dimension."""
        for of_answer in self.readings:
            for dimension, values in of_answer.items():
                yield from ((dimension, value) for value in values if value is not None)

    def fail(self, status: int, error: dict[str, Any]) -> None:
        """The request is refused, or its stream broke off after its headers had said that all was well."""
        self.status, self.code, self.param = status, error.get("code"), error.get("param")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def to_dict(self) -> dict[str, Any]:
        """One line of the log."""
        line: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(self.seconds, 4),
        }
        if self.code is not None:
            line |= {"code": self.code, "param": self.param}
        if self.prompt_tokens:
            line |= {"prompt_tokens": self.prompt_tokens, "generated_tokens": self.generated_tokens}
        if self.cached_tokens:
            line["cached_tokens"] = self.cached_tokens
        if self.first_token is not None:
            line["first_token_seconds"] = round(self.first_token, 4)
        if self.applied:
            line["steering"] = {
                f"{vector['vector']}/{vector['version']}": vector.get("strength", {"target": vector.get("target")})
                for vector in self.applied
            }
        if self.readings:
            line["filtered"] = self.filtered
        if self.keeps_texts and self.generates:
            line |= {"prompt": self.prompt, "answers": self.answers}
        return line
