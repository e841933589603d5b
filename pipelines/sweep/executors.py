"""Executors of a sweep's units: this process, or workers on a Ray cluster."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Protocol

from pipelines.cli.options import ScaleOptions
from pipelines.sweep.run import Plan, run_sweep
from pipelines.sweep.store import Result, UnitStore
from registry.errors import Unavailable
from serving.model.placement import Placement

RAY = "2.60.0"
"""The version that is tested; the same stands in ``pyproject.toml``."""


def placement_of(options: ScaleOptions, placement: Placement) -> Placement:
    """``placement`` with ``auto`` resolved to what the machines that measure have."""
    if options.executor == "ray" and options.address not in ("", "local") and not placement.is_resolved:
        from pipelines.sweep.ray_cluster import cluster_placement

        return cluster_placement(options.address, placement)
    return placement.resolved()


class Executor(Protocol):
    """Yields every unit's result in the order of the plan, computing those that the store lacks."""

    def __call__(
        self,
        plan: Plan[Result],
        store: UnitStore[Result],
        *,
        delete_after_use: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Result]: ...


def choose_executor(options: ScaleOptions) -> Executor:
    """The executor asked for. Raises ``Unavailable`` where Ray is not installed."""
    if options.executor == "local":
        return run_sweep
    if find_spec("ray") is None:
        raise Unavailable(f"executor=ray needs Ray, which is not installed; run: pip install ray=={RAY}")
    from pipelines.sweep.ray_executor import RayExecutor

    return RayExecutor(options.address or "local")
