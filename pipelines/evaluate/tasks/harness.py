"""General ability by multiple-choice tasks of EleutherAI's lm-evaluation-harness, where that is installed.

The harness writes the questions, with their few-shot examples, and scores the answers by its own rules; the
likelihoods are read as all others are, under every condition. Unlike the harness, which tokenises a context and an
answer apart, both are tokenised as the one text they are.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np

from pipelines.evaluate.measurement import Measurement, mean_of
from pipelines.evaluate.tasks.ability import ABILITY
from pipelines.evaluate.tasks.task import Task, TaskReading
from registry.errors import InvalidInput, Unavailable

HARNESS = "0.4.13"
"""The version that is tested; the same stands in ``pyproject.toml``."""


def harness_tasks(names: Sequence[str], limit: int) -> tuple[Task, ...]:
    """The first ``limit`` items of each task: names that the harness knows, groups and tags too, or YAML files.

    Raises ``Unavailable`` where the harness is not installed or a task's data cannot be reached, ``InvalidInput`` for
    a task that does not exist or is not multiple choice.
    """
    require_harness(names)
    return tuple(chain.from_iterable(_loaded(name, limit) for name in names))


def require_harness(names: Sequence[str]) -> None:
    """Raise ``Unavailable`` where the harness is asked for and not installed."""
    if names and find_spec("lm_eval") is None:
        raise Unavailable(
            f"harness={','.join(names)} needs the lm-evaluation-harness; run: pip install lm-eval=={HARNESS}"
        )


def _loaded(name: str, limit: int) -> Iterator[Task]:
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        tasks = TaskManager(include_defaults=not name.endswith((".yaml", ".yml"))).load([name])["tasks"]
    except (KeyError, FileNotFoundError) as error:
        raise InvalidInput(
            f"the harness knows no task {name!r}; `lm-eval ls tasks` lists those it knows, or give a YAML file"
        ) from error
    except OSError as error:
        raise Unavailable(f"the task {name} could not be read: {str(error).splitlines()[0]}") from error
    for label, task in tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice":
            raise InvalidInput(f"the task {label} is {task.OUTPUT_TYPE}; only multiple_choice tasks can be evaluated")
        task.build_all_requests(limit=limit or None, rank=0, world_size=1)
        yield _task(label, task)


def _task(name: str, task: Any) -> Task:
    instances = sorted(task.instances, key=lambda instance: (instance.doc_id, instance.idx))
    items = {instance.doc_id: instance.doc for instance in instances}
    places = {doc: [row for row, instance in enumerate(instances) if instance.doc_id == doc] for doc in items}
    contexts, wholes = zip(
        *((instance.args[0], instance.args[0] + instance.args[1]) for instance in instances), strict=True
    )
    better: Mapping[str, bool] = task.higher_is_better()

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        cut = len(wholes)
        scores = reading.log_probabilities[:cut] - reading.log_probabilities[cut:]
        answers = [[(float(scores[row]), False) for row in rows] for rows in places.values()]
        scores = [task.process_results(items[doc], answer) for doc, answer in zip(places, answers, strict=True)]
        chosen = tuple(str(int(np.argmax([value for value, _ in answer]))) for answer in answers)
        return tuple(
            mean_of(
                ABILITY,
                f"{name} {metric}",
                [float(score[metric]) for score in scores],
                np.arange(len(scores)),
                1 if better.get(metric, True) else -1,
                answers=chosen,
            )
            for metric, value in scores[0].items()
            if isinstance(value, int | float | np.number)
        )

    return Task(f"harness {name}", ABILITY, measure, texts=(*wholes, *contexts))
