"""Direction rows: a steering plan on its way to vLLM's workers, as rows of one matrix and coefficients on them.

Workers hold one matrix ``B[layer]`` of ``[rows, d_model]`` for every layer, each row the direction of one version of a
vector at one layer: a vector of several layers takes a row for each. A bank that is swapped in takes rows beside those
of the banks that running requests keep, so that any mixture of banks shares a step. Nothing here needs vLLM.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from registry.errors import InvalidInput
from serving.steering.bank import ServedVector
from serving.steering.plan import PHASES, Operation, SteeringPlan, phase_at

KEY = "trusttrace"
"""Of what a request carries in vLLM's ``extra_args``."""

_Place = tuple[str, int]
"""A vector's reference, and one of its layers."""

OPERATIONS: frozenset[Operation] = frozenset({"add", "project", "when", "monitor"})


def operations_of(arguments: Mapping[str, Any]) -> frozenset[Operation]:
    """What of steering vLLM can do with these arguments.

    The layers of a pipeline lie in several workers, and neither a probe's reading nor what was moved passes on to the
    next.
    """
    return OPERATIONS if arguments.get("pipeline_parallel_size", 1) == 1 else frozenset({"add"})


def cache_salt(plan: SteeringPlan, prompt_length: int, key: str, client: str = "") -> str:
    """What vLLM's cache of keys and values is keyed by, beside the tokens; empty for an unsteered request of no client.

    vLLM caches answers too, so the length of the prompt counts where phases are steered differently: what was an answer
    in one turn is prompt in the next. Prompts that are moved by their own hidden states are always read, by a ``key``
    of the request's own, since what moves them is counted. Each ``client`` has a cache of its own, so that the time
    to the first token tells nobody what another has asked.
    """
    return "-".join(part for part in (_of_client(client), _of_steering(plan, prompt_length, key)) if part)


def _of_client(client: str) -> str:
    """As a digest: what vLLM logs holds no address and no key."""
    return f"client.{blake2b(client.encode(), digest_size=16).hexdigest()}" if client else ""


def _of_steering(plan: SteeringPlan, prompt_length: int, key: str) -> str:
    if any(intervention.scope.includes("prompt") for intervention in plan.state_dependent):
        return f"{plan.fingerprint}-{key}"
    alike = bool((plan.coefficients == plan.coefficients[0]).all()) and not plan.state_dependent
    return plan.fingerprint if alike or not plan.fingerprint else f"{plan.fingerprint}-{prompt_length}"


class DirectionRows:
    """The row of each vector's direction at each of its layers in the workers' matrices. Belongs to one thread.

    A version of a vector never changes, so its reference names it for good.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._row: dict[_Place, int] = {}
        self._users = np.zeros(rows, np.int64)

    def require_room(self, plan: SteeringPlan) -> None:
        """Raise ``InvalidInput`` for a plan of more directions than there are rows."""
        directions = len(_directions(plan))
        if directions > self.rows:
            raise InvalidInput(
                f"the request steers by {directions} directions, one a layer of each vector, and the engine has rows "
                f"for {self.rows}; name fewer vectors, or such of fewer layers"
            )

    def take(self, plan: SteeringPlan) -> tuple[list[int], list[tuple[int, ServedVector, int]]] | None:
        """The rows of the directions that a plan uses, and those that workers have yet to be told: vectors at layers.

        ``None`` while too few rows are free. Each ``take`` needs a ``give_back``.
        """
        wanted = {(vector.reference, layer): vector for _, vector, layer in _directions(plan)}
        missing = [place for place in wanted if place not in self._row]
        kept = {self._row[place] for place in wanted if place in self._row}
        free = [row for row in range(self.rows) if not self._users[row] and row not in kept]
        free.sort(key=lambda row: row in self._row.values())  # rows that hold nothing, before what may be used again
        if len(free) < len(missing):
            return None
        told = list(zip(free, missing, strict=False))
        for row, place in told:
            self._row = {name: held for name, held in self._row.items() if held != row} | {place: row}
        rows = [self._row[place] for place in wanted]
        self._users[rows] += 1
        return rows, [(row, wanted[place], place[1]) for row, place in told]

    def give_back(self, rows: Sequence[int]) -> None:
        """A request that took these rows has ended; their directions stay until a row is needed."""
        self._users[list(rows)] -= 1

    def forget(self, rows: Iterable[int]) -> None:
        """What these rows hold is not known: whoever wants their vectors takes them anew."""
        gone = set(rows)
        self._row = {name: held for name, held in self._row.items() if held not in gone}


def encoded(plan: SteeringPlan, rows: Sequence[int]) -> dict[str, Any]:
    """What a request carries: the rows it uses, and for every phase a coefficient on each of them."""
    columns = [row for row, _, _ in _directions(plan)]
    return {"rows": list(rows), "coefficients": plan.coefficients[:, columns].tolist()}


def _directions(plan: SteeringPlan) -> list[tuple[int, ServedVector, int]]:
    """Row of the bank, vector and layer of each direction that a plan uses."""
    used = [(row, plan.bank.vectors[row]) for row in plan.rows]
    return [(row, vector, layer) for row, vector in used for layer in vector.layers]


@dataclass(frozen=True)
class RequestRows:
    """One request as a worker sees it."""

    prompt_length: int
    coefficients: Float32[np.ndarray, "phases rows"]

    @classmethod
    def decoded(cls, carried: Mapping[str, Any], prompt_length: int, rows: int) -> "RequestRows":
        coefficients = np.zeros((len(PHASES), rows), np.float32)
        coefficients[:, carried["rows"]] = carried["coefficients"]
        return cls(prompt_length, coefficients)

    def at(self, positions: Int64[np.ndarray, " tokens"]) -> Float32[np.ndarray, "tokens rows"]:
        """The coefficients of tokens by their place in the sequence, which a step can begin at any point of."""
        phases = [PHASES.index(phase_at(position, self.prompt_length)) for position in positions.tolist()]
        return self.coefficients[phases]


def spans(computed: Sequence[int], scheduled: Sequence[int]) -> Iterator[tuple[slice, Int64[np.ndarray, " tokens"]]]:
    """For each request of a step, where its tokens lie in the batch and where in its own sequence."""
    begin = 0
    for done, count in zip(computed, scheduled, strict=True):
        yield slice(begin, begin + int(count)), np.arange(done, done + count, dtype=np.int64)
        begin += int(count)
