"""What runs a sweep's units: this process, or workers on a Ray cluster."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Protocol

from pipelines.sweep.run import Plan, run_sweep
from pipelines.sweep.store import Result, ResultStoreOf
from registry.errors import InvalidInput, Unavailable, unknown_name

EXECUTORS = ("local", "ray")
RAY = "2.60.0"
"""The version that is tested; the same stands in ``pyproject.toml``."""


class Executor(Protocol):
    """Yields every unit's result in the order of the plan, computing those that the store lacks."""

    def __call__(
        self,
        plan: Plan[Result],
        store: ResultStoreOf[Result],
        *,
        delete_after_use: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Result]: ...


def choose_executor(name: str, address: str) -> Executor:
    """The executor called ``name``; ``address`` is that of a Ray cluster, ``local`` to start one here.

    Raises ``Unavailable`` where Ray is not installed.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if name == "local":
        if address not in ("", "local"):
            raise InvalidInput(f"address {address!r} is that of a Ray cluster and executor is local; give executor=ray")
        return run_sweep
    if find_spec("ray") is None:
        raise Unavailable(f"executor=ray needs Ray, which is not installed; run: pip install ray=={RAY}")
    from pipelines.sweep.ray_executor import RayExecutor

    return RayExecutor(address or "local")
