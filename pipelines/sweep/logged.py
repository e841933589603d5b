"""A sweep whose units are logged while the next one is measured, with a progress bar."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipelines.cli.progress import progress_bar
from pipelines.model_io.activations import kept_activations
from pipelines.sweep.executors import Executor
from pipelines.sweep.run import Plan, run_sweep
from pipelines.sweep.store import UnitStore
from pipelines.sweep.unit import Unit

UnitT = TypeVar("UnitT", bound=Unit)
Logged = TypeVar("Logged")


def run_logged(
    plan: Plan[UnitT],
    store: UnitStore[UnitT],
    log: Callable[[UnitT], Logged],
    name: str,
    *,
    executor: Executor = run_sweep,
    delete_after_use: bool = False,
) -> list[Logged]:
    """What ``log`` makes of every unit's result, in order; it is called in one thread, never more than one behind."""
    logged: list[Future[Logged]] = []
    _say_former(store)
    if plan.keep_activations:
        _forget_without_activations(plan, store)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="log") as logger,
        progress_bar(plan.work, name, "statement") as bar,
    ):
        for result in executor(plan, store, delete_after_use=delete_after_use, on_progress=bar.update):
            bar.set_postfix_str(f"{result.dimension}, {result.checkpoint.caption}", refresh=False)
            if logged:
                logged[-1].result()
            logged.append(logger.submit(log, result))
        results = [future.result() for future in logged]
    if plan.keep_activations:
        directory = kept_activations("*").parent
        print(f"\nactivations: {directory}, a file per unit, named by the tag unit_digest of its run")  # noqa: T201
    return results


def _forget_without_activations(plan: Plan[UnitT], store: UnitStore[UnitT]) -> None:
    """A unit whose activations are to be kept, and were not, is measured again."""
    for checkpoint in plan.checkpoints:
        for digest in (plan.digest(checkpoint, name) for name in plan.statements):
            if not kept_activations(digest).is_file():
                store.path(digest).unlink(missing_ok=True)


def run_with_bar(plan: Plan[UnitT], store: UnitStore[UnitT]) -> list[UnitT]:
    """Every unit, with a bar and nothing logged: for experiments that go on from what probing found."""
    _say_former(store)
    with progress_bar(plan.work, "probing", "statement") as bar:
        return list(run_sweep(plan, store, on_progress=bar.update))


def _say_former(store: UnitStore[UnitT]) -> None:
    if former := store.retire_former():
        print(  # noqa: T201
            f"{former} stored results are measured again where they are asked for: a result is now named by "
            "configuration, tokenizer and dimension as well as by weights\n"
        )
