"""Workflow: the stages in their order, the arguments of each, and when a stage need not be run again."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipelines.calibrate.options import CalibrateOptions
from pipelines.cli.parameters import Options, parameters_of
from pipelines.cli.pasting import mlflow_run
from pipelines.evaluate.options import EvaluateOptions
from pipelines.experiment import known_selection, require_sources
from pipelines.information.options import InformationOptions
from pipelines.main.options import MainOptions
from pipelines.main.tracking import champion_references, finished_stage, name_inputs, stage_run
from pipelines.pretrain.options import SeriesConfig
from pipelines.probe.options import ProbeOptions
from pipelines.report.options import ReportOptions
from pipelines.statements.sources import load_statements
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.links import run_path
from pipelines.tracking.runs import Run, entry_point_run
from pipelines.vectors.options import VectorOptions
from registry.counts import counted
from registry.embedded import embedded_seed
from registry.errors import TrustTraceError, unknown_name
from registry.model_names import named_model
from serving.model.hub import commit_of, is_on_hub
from serving.model.sources import find_series
from serving.model.training_line import names_line, read_line
from serving.model.weights import locate

STAGES: Mapping[str, type[Options]] = MappingProxyType(
    {
        "pretrain": SeriesConfig,
        "probe": ProbeOptions,
        "information": InformationOptions,
        "vectors": VectorOptions,
        "calibrate": CalibrateOptions,
        "evaluate": EvaluateOptions,
        "report": ReportOptions,
    }
)
"""The options of each stage, in their order."""
EMBEDDED_ONLY = ("pretrain",)
ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "serving", "pipelines")


class StageFailed(TrustTraceError):
    """A stage that did not end well; its own message was printed."""


def chosen_stages(spec: str, model: str) -> tuple[str, ...]:
    """The stages that ``spec`` names, in the order of the chain. Raises ``UnknownName``."""
    possible = tuple(stage for stage in STAGES if embedded_seed(model) is not None or stage not in EMBEDDED_ONLY)
    if spec.strip() == "all":
        return possible
    names = [name.strip() for name in spec.split(",") if name.strip()]
    for name in names:
        if name not in possible:
            raise unknown_name("stage", name, ("all alone", *possible) if name == "all" else possible)
    return tuple(stage for stage in possible if stage in names)


def run_chain(options: MainOptions) -> None:
    """Run each stage in a process of its own, below one run, unless a finished run had the same key."""
    model = options.series.model
    stages = chosen_stages(options.stages, model)
    with entry_point_run(f"main {model}", options.params()) as run:
        # Validate cheap inputs before statements are read and a series is trained.
        options.placement.resolved()
        require_sources(options.statements)
        known_selection(model, options.series.checkpoints)
        if options.trace is not None:
            known_selection(model, options.trace, parameter="trace")
        key = inputs_digest(options)
        rows: list[tuple[str, ...]] = []
        for stage in stages:
            arguments, before = arguments_for(stage, options), key
            key = stage_key(stage, arguments, before, champion_references(model))
            done = finished_stage(key)
            if done is not None:
                print(f"{stage}: unchanged since run {done}, skipped", flush=True)  # noqa: T201
                rows.append((stage, "unchanged", _stage_link(run, done)))
                continue
            print(f"{stage}: {' '.join(arguments)}", flush=True)  # noqa: T201
            with stage_run(stage, key, run) as child:
                code = _run_process(stage, arguments, child)
                if code:
                    raise StageFailed(
                        f"the stage {stage} ended with exit code {code}, for the reason above; run the same command "
                        "again to go on from there"
                    )
                rows.append((stage, "done", _stage_link(run, child)))
            key = stage_key(stage, arguments, before, champion_references(model))
            name_inputs(child, key)
        conclude(
            run,
            Conclusion(
                verdict=f"Finished of {model}: {counted(len(rows), 'stage')}.",
                header=("stage", "", "run"),
                rows=tuple(rows),
                next="" if "report" in stages else mlflow_run("report", model=model),
            ),
        )


def _stage_link(run: Run, run_id: str) -> str:
    return f"[{run_id[:8]}]({run_path(run.info.experiment_id, run_id)})"


def arguments_for(stage: str, options: MainOptions) -> list[str]:
    """Those of the chain's parameters that the stage's own command has."""
    known = {parameter.name for parameter in parameters_of(STAGES[stage]())}
    shared = [parameter for parameter in parameters_of(options) if parameter.name in known]
    arguments = [part for parameter in shared for part in (parameter.flag, parameter.to_text())]
    seed = embedded_seed(options.series.model)
    return [*arguments, "--seed", str(seed)] if seed and stage in EMBEDDED_ONLY else arguments


def stage_key(stage: str, arguments: Sequence[str], before: str, champions: Sequence[str]) -> str:
    """Names the inputs of a stage. The champions are an input of the stages that read them from the registry only.

    Calibration may replace them: its run is named anew by those it left, with which it need not run again.
    """
    read = list(champions) if stage in ("calibrate", "evaluate", "report") else []
    content = json.dumps([stage, list(arguments), before, read])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def inputs_digest(options: MainOptions) -> str:
    """Weights, statements and code."""
    data, limit = options.statements.data, options.statements.limit
    statements = [load_statements(dimension, data, limit=limit).digest for dimension in options.statements.chosen]
    content = json.dumps([list(_weights(options.series.model)), statements, code_digest()])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def code_digest() -> str:
    """SHA-256 of every source file: a commit would not tell what was changed since."""
    content = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(path for suffix in ("py", "html") for path in (ROOT / package).rglob(f"*.{suffix}")):
            content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return content.hexdigest()


def _weights(model: str) -> Iterator[str]:
    """What names the files of each checkpoint: their content on this machine, their commit on the hub."""
    _, source = named_model(model)
    if names_line(source):
        line = read_line(source)
        yield repr(line)
        for stage in line.stages:
            yield from _weights(stage.model)
        return
    seed = embedded_seed(model)
    if seed is not None:
        yield SeriesConfig().with_seed(seed).key
        return
    for checkpoint in find_series(model):
        on_hub = is_on_hub(checkpoint.repo)
        yield commit_of(checkpoint.repo, checkpoint.revision) if on_hub else locate(checkpoint).identity()


def _run_process(stage: str, arguments: Sequence[str], run_id: str) -> int:
    """A process of its own frees a stage's memory, whatever it loaded; it logs to the run that it is given."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_RUN_ID": run_id}
    process = subprocess.Popen([sys.executable, "-m", f"pipelines.{stage}", *arguments], env=environment)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
