"""Sheets to read blindly: pairs of texts, one of them steered, in random order; which is which lies in another file."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipelines.behaviours.pii import personal_details
from pipelines.behaviours.toxicity_classifier import packaged_classifier
from pipelines.evaluate.conditions import Condition, Subject
from pipelines.evaluate.options import EvaluateOptions
from pipelines.evaluate.suite import continue_prompts
from pipelines.evaluate.tasks.behaviour import behaviour_tasks
from pipelines.evaluate.tasks.fluency import FLUENCY
from pipelines.evaluate.tasks.task import Task
from pipelines.sweep.run import loaded
from pipelines.tracking.artifacts import log_tables
from registry.checkpoints import Checkpoint


def log_sheets(
    checkpoint: Checkpoint, subjects: Sequence[Subject], tasks: Sequence[Task], options: EvaluateOptions
) -> None:
    """``sheet_<dimension>.csv`` and ``key_<dimension>.csv``: on prompts of its behaviour, or on beginnings of prose."""
    if not options.sheets:
        return
    prose = next(task for task in tasks if task.dimension == FLUENCY and task.prompts)
    names = [subject.dimension.name for subject in subjects]
    written = behaviour_tasks(names, packaged_classifier(), personal_details, 2 * options.sheets)
    behaviours = {task.dimension: task for task in written}
    with loaded(checkpoint, options.placement) as model:
        for subject in subjects:
            name = subject.dimension.name
            task = behaviours.get(name, prose)
            steering = Condition("vector", name, subject.champion, subject.strength).plan(model)
            (plain,), (steered,) = (continue_prompts(model, [task], plan) for plan in (None, steering))
            sheet, key = blind_pairs(task.prompts, plain.texts, steered.texts, options.sheets, options.seed)
            log_tables({f"sheet_{name}.csv": sheet, f"key_{name}.csv": key})


def blind_pairs(
    prompts: Sequence[str], plain: Sequence[str], steered: Sequence[str], count: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``count`` pairs that differ, in random order and each in random order; and which of the two is the steered one.

    A reader writes ``A``, ``B`` or nothing into ``better``. Pairs that are the same say nothing and are left out.
    """
    rng = np.random.default_rng(seed)
    differing = [place for place in range(len(prompts)) if plain[place].strip() != steered[place].strip()]
    chosen = rng.permutation(np.array(differing, np.int64))[:count]
    pairs, key = [], []
    for number, place in enumerate(chosen, 1):
        steered_first = bool(rng.integers(2))
        first, second = (steered, plain) if steered_first else (plain, steered)
        pairs.append((number, prompts[place], first[place], second[place], ""))
        key.append((number, "A" if steered_first else "B"))
    return pd.DataFrame(pairs, columns=["number", "prompt", "A", "B", "better"]), pd.DataFrame(
        key, columns=["number", "steered"]
    )
