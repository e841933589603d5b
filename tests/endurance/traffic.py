"""Clients of a service that ask for all kinds of things at once, and remember what they got."""

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

KINDS = ("whole", "chat", "streamed", "cancelled", "compared", "probed", "unsteered")
PROMPTS = ("The city of Lyon", "you are kind", "A letter is in Peru", "Is it true that")


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    kind: str
    began: float
    ended: float
    status: int
    """0 when the connection broke."""
    asked: Mapping[str, float] = field(default_factory=dict)
    applied: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    prompt: str = ""
    problem: str = ""


class Client(threading.Thread):
    """Asks again and again until stopped, with a short rest between two requests."""

    def __init__(
        self,
        url: str,
        seed: int,
        dimensions: tuple[str, ...],
        kinds: tuple[str, ...] = KINDS,
        lengths: tuple[int, ...] = (8, 24),
    ) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answer] = []
        self._url, self._random, self._dimensions = url, random.Random(seed), dimensions
        self._kinds, self._lengths = kinds, lengths
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._stopped.is_set():
                self.answers.append(self._ask(http))
                time.sleep(self._random.uniform(0, 0.2))

    def _ask(self, http: httpx.Client) -> Answer:
        kind = self._random.choice(self._kinds)
        prompt = self._random.choice(PROMPTS)
        names = self._random.sample(self._dimensions, self._random.choice((1, 1, 2)))
        asked = (
            {} if kind in ("unsteered", "probed") else {name: self._random.choice((-2.0, 0.5, 2.0)) for name in names}
        )
        steering: Any = {"strengths": asked} if asked else "off"
        length = self._random.choice(self._lengths)
        body = {"prompt": prompt, "max_tokens": length, "temperature": 0, "ignore_eos": True, "steering": steering}
        began = time.time()
        try:
            status, applied, text = getattr(self, f"_{kind}", self._whole)(http, body)
            problem = "" if status == 200 else text
        except httpx.HTTPError as error:
            status, applied, text, problem = 0, (), "", f"{type(error).__name__}: {error}"
        return Answer(kind, began, time.time(), status, asked, tuple(applied), text, f"{prompt} {length}", problem)

    def _whole(self, http: httpx.Client, body: dict[str, Any]):
        reply = http.post("/v1/completions", json=body)
        if reply.status_code != 200:
            return reply.status_code, (), reply.text
        told = reply.json()
        return 200, told["steering"]["applied"], told["choices"][0]["text"]

    def _chat(self, http: httpx.Client, body: dict[str, Any]):
        prompt = body.pop("prompt")
        reply = http.post("/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": prompt}]})
        if reply.status_code != 200:
            return reply.status_code, (), reply.text
        return 200, reply.json()["steering"]["applied"], reply.json()["choices"][0]["message"]["content"]

    def _streamed(self, http: httpx.Client, body: dict[str, Any]):
        with http.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply:
            if reply.status_code != 200:
                return reply.status_code, (), reply.read().decode()
            lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
        if lines[-1] != "[DONE]":
            return 500, (), f"a stream without its end: {lines[-1]}"
        chunks = [json.loads(line) for line in lines[:-1]]
        return 200, chunks[-1]["steering"]["applied"], "".join(chunk["choices"][0]["text"] for chunk in chunks)

    def _cancelled(self, http: httpx.Client, body: dict[str, Any]):
        """Goes away after two pieces of a long answer."""
        with http.stream("POST", "/v1/completions", json={**body, "max_tokens": 400, "stream": True}) as reply:
            if reply.status_code != 200:
                return reply.status_code, (), reply.read().decode()
            pieces = reply.iter_lines()
            next(pieces)
            next(pieces)
        return 200, (), ""

    def _compared(self, http: httpx.Client, body: dict[str, Any]):
        settings = [{"steering": body.pop("steering")}, {"steering": "off"}]
        reply = http.post("/v1/steering/compare", json={**body, "settings": settings})
        if reply.status_code != 200:
            return reply.status_code, (), reply.text
        return 200, reply.json()["data"][0]["steering"]["applied"], reply.json()["data"][0]["text"]

    def _probed(self, http: httpx.Client, body: dict[str, Any]):
        reply = http.post("/v1/probe", json={"input": [body["prompt"]]})
        return reply.status_code, (), reply.text
