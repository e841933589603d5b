"""Conclusion of a command: its answer as the description of its run, and on the terminal the links to follow."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

from pipelines.figures.text_tables import markdown_table
from pipelines.tracking.artifacts import PREVIEWS
from pipelines.tracking.links import needs_ui, page, run_path, runs_path, version_path
from pipelines.tracking.runs import DESCRIPTION, Run
from registry.counts import counted
from registry.records import RegisteredVector

VECTORS = "trusttrace.vectors"
"""The tag that names a run's versions where MLflow compares it with another."""
MOST_NAMED = 20


@dataclass(frozen=True)
class Conclusion:
    """What a command found, for someone who was not there."""

    verdict: str
    """One sentence."""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    """What the words of the table mean."""
    vectors: tuple[RegisteredVector, ...] = ()
    next: str = ""
    """The command to paste next."""


def conclude(run: Run, conclusion: Conclusion) -> None:
    """Describe ``run`` on its page, with the preview that was logged, and print where to look and what to run next."""
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    previews = [file.path for file in client.list_artifacts(run_id, PREVIEWS)]
    client.set_tag(run_id, DESCRIPTION, description(run_id, conclusion, previews))
    if conclusion.vectors:
        client.set_tag(run_id, VECTORS, ", ".join(map(_name, conclusion.vectors[:MOST_NAMED])))
    print(ending(run, conclusion), flush=True)  # noqa: T201


def description(run_id: str, conclusion: Conclusion, previews: Sequence[str] = ()) -> str:
    """Markdown: verdict, table, pictures, links to versions, next command; rows and links as far as MLflow has room.

    What a description has no room for stands in the tables of the run and in the registry.
    """
    rows, vectors = len(conclusion.rows), len(conclusion.vectors)
    while len(text := _written(run_id, conclusion, previews, rows, vectors)) > MAX_TAG_VAL_LENGTH and (rows or vectors):
        rows, vectors = (rows * 3 // 4, vectors) if rows > vectors else (rows, vectors * 3 // 4)
    return text


def _written(run_id: str, conclusion: Conclusion, previews: Sequence[str], n_rows: int, n_vectors: int) -> str:
    rows, vectors = conclusion.rows[:n_rows], conclusion.vectors[:n_vectors]
    parts = [f"**{conclusion.verdict}**"]
    if rows:
        parts.append(markdown_table(conclusion.header, rows))
    if n_rows < len(conclusion.rows):
        parts.append(f"… and {counted(len(conclusion.rows) - n_rows, 'row')} more in the tables of this run.")
    if conclusion.note:
        parts.append(conclusion.note)
    parts += [f"![{Path(path).stem}](get-artifact?path={path}&run_uuid={run_id})" for path in previews]
    if conclusion.vectors:
        links = [f"[{_name(vector)}]({version_path(vector)})" for vector in vectors]
        links += [f"{len(conclusion.vectors) - n_vectors} more"] if n_vectors < len(conclusion.vectors) else []
        parts.append(f"Vectors: {', '.join(links)}")
    if conclusion.next:
        parts.append(f"Next: `{conclusion.next}`")
    return "\n\n".join(parts)


def verdict_of(run: Run) -> str:
    """The verdict that ``description`` wrote, unless somebody wrote something else there."""
    first = str(run.data.tags.get(DESCRIPTION, "")).partition("\n")[0]
    return first[2:-2] if first.startswith("**") and first.endswith("**") else ""


def ending(run: Run, conclusion: Conclusion) -> str:
    """The last lines of a command."""
    links = [("this run", run_path(run.info.experiment_id, run.info.run_id))]
    links += [(_name(vector), version_path(vector)) for vector in conclusion.vectors]
    links.append(("all runs", runs_path(run.info.experiment_id)))
    width = max(len(name) for name, _ in links)
    lines = ["", *(f"{name:<{width}}  {page(path)}" for name, path in links)]
    lines += ["The links open while this runs in another terminal: make ui"] if needs_ui() else []
    is_stage = MLFLOW_PARENT_RUN_ID in run.data.tags  # of `main`, which goes on by itself
    lines += [f"next: {_to_paste(conclusion.next)}"] if conclusion.next and not is_stage else []
    return "\n".join(lines)


def _to_paste(command: str) -> str:
    """Below `make` the environment is active here, and not in the shell that the command is pasted into."""
    if "MAKELEVEL" not in os.environ or sys.prefix == sys.base_prefix or not command.startswith("mlflow "):
        return command
    return f". {shlex.quote(os.path.relpath(sys.prefix))}/bin/activate && {command}"


def enumerated(names: Sequence[str]) -> str:
    """``: toxicity, privacy`` to close a clause that counts them; nothing for none."""
    return f": {', '.join(names)}" if names else ""


def _name(vector: RegisteredVector) -> str:
    return f"{vector.name}/{vector.version}"
