"""Experiment start: the series, the statements and the checkpoint that an experiment works on."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from pipelines.cli.options import CheckpointOptions
from pipelines.cli.pasting import mlflow_run
from pipelines.model_io.reading import ALL, Pooling, Reading
from pipelines.pretrain.options import SeriesConfig
from pipelines.pretrain.progress import ensure_series_with_bar
from pipelines.pretrain.series import is_trained
from pipelines.pretrain.tracking import log_training_below
from pipelines.statements.inspection import inspect_statements, refuse, render
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.options import StatementsOptions
from pipelines.statements.sources import PACKAGED, load_statements, require_source
from pipelines.sweep.halves import able_to_calibrate
from pipelines.tracking.quality import log_quality
from pipelines.tracking.series import log_series, require_own_name
from pipelines.tracking.units import log_statements
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.counts import counted
from registry.embedded import EMBEDDED, embedded_name, embedded_seed
from registry.errors import CorruptFile, InvalidInput, NotFound
from registry.model_names import named_model
from serving.model.audit import SeriesAudit, audit_series, render_audit
from serving.model.loading import read_config
from serving.model.sources import find_series
from serving.model.training_line import join_stages, names_line, read_line
from serving.model.weights import locate


def resolve_series(model: str) -> CheckpointSeries:
    """The series a model's name stands for; ``tiny`` is trained first, unless it was before, as is ``tiny:1``."""
    given, source = named_model(model)
    if names_line(source):
        return join_stages(read_line(source), resolve_series, name=given or None)
    seed = embedded_seed(model)
    return find_series(model) if seed is None else _embedded_series(seed)


def known_selection(
    model: str, spec: str, reading: Reading = Reading(), *, parameter: str = "checkpoints"
) -> CheckpointSeries | None:
    """As ``known_series``; raises for a ``spec`` that selects none of its checkpoints, and for layers they lack."""
    require_selectable(model, spec, parameter=parameter)
    series = known_series(model)
    if series is not None:
        trained_checkpoints(series, spec, parameter=parameter)
    if reading.layers != ALL:
        with suppress(NotFound, CorruptFile):  # a checkpoint that cannot be measured is the audit's to name
            reading.chosen_layers(known_layers(series, spec), EMBEDDED if series is None else series.model)
    return series


def require_selectable(model: str, spec: str, *, parameter: str = "checkpoints") -> None:
    """Raise ``InvalidInput`` for a ``spec`` that selects no checkpoint of an embedded series, before it is trained."""
    seed = embedded_seed(model)
    if seed is not None:
        name, steps = embedded_name(seed), SeriesConfig().with_seed(seed).training.checkpoint_steps
        planned = tuple(Checkpoint(name, "", f"step_{step:06d}", step) for step in steps)
        trained_checkpoints(CheckpointSeries(name, planned), spec, parameter=parameter)


def known_series(model: str) -> CheckpointSeries | None:
    """As ``resolve_series`` for what need not be trained first, else ``None``; raises for a name of no series."""
    given, source = named_model(model)
    if not names_line(source):
        return find_series(model) if embedded_seed(model) is None else None
    line = read_line(source)
    found = {stage.model: known_series(stage.model) for stage in line.stages}
    known = {stage: series for stage, series in found.items() if series is not None}
    return join_stages(line, known.__getitem__, name=given or None) if len(known) == len(found) else None


def require_model(model: str) -> None:
    """Raise ``UnknownName`` for a name or a path of no series; the hub is not asked for this."""
    if "/" not in model or named_model(model)[1].startswith((".", "/", "~")):
        known_series(model)


def series_name(model: str, known: CheckpointSeries | None) -> str:
    """What the registry calls the series of ``model``: ``known``, or ``None`` for one that need not be trained yet."""
    if known is not None:
        return known.model
    given, source = named_model(model)
    seed = embedded_seed(model)
    return embedded_name(seed) if seed is not None else given or read_line(source).name


def known_layers(series: CheckpointSeries | None, spec: str) -> int:
    """How many layers the networks that ``spec`` selects have; of an embedded series, which need not be trained."""
    if series is None:
        return SeriesConfig().training.n_layers
    config = read_config(locate(series.select(spec)[-1].random_init()).directory)
    return int(config.get_text_config(decoder=True).num_hidden_layers)


def registered_series(model: str, known: CheckpointSeries | None = None) -> CheckpointSeries:
    """As ``resolve_series``, for what will be registered: raises ``Mismatch`` where another series has the name.

    ``known`` is the series, where it was looked up before.
    """
    series = known or resolve_series(model)
    require_own_name(series)
    return series


def _embedded_series(seed: int) -> CheckpointSeries:
    config, name = SeriesConfig().with_seed(seed), embedded_name(seed)
    was_trained = is_trained(config)
    directory = ensure_series_with_bar(config)
    if not was_trained:
        log_training_below(name, directory)
    return find_series(str(directory), name=name)


def inspected_statements(
    options: StatementsOptions, *, as_released: bool = False, pooling: Pooling = "last"
) -> dict[str, LabelledStatements]:
    """Every dimension's statements, once their quality report is shown, logged, and no reason to refuse them.

    Raises ``InvalidInput`` for those that ``pooling`` cannot read.
    """
    require_sources(options, pooling)
    reports = inspect_statements(options.chosen, options.data, limit=options.limit)
    print("\n\n".join(render(report) for report in reports), end="\n\n")  # noqa: T201
    log_quality(reports)
    refuse(reports)
    statements = {
        dimension.name: load_statements(dimension, options.data, limit=options.limit, as_released=as_released)
        for dimension in options.chosen
    }
    require_readable(statements.values(), pooling)
    log_statements(statements.values())
    return statements


def require_sources(options: StatementsOptions, pooling: Pooling = "last") -> None:
    """Raise before anything is read for ``data`` that are not there, or of which ``pooling`` can read nothing."""
    for dimension in options.chosen:
        source = require_source(dimension, options.data)
        if pooling == "response" and source == PACKAGED:
            _refuse_response(f"packaged {dimension.name}", dimension.name)


def require_readable(statements: Iterable[LabelledStatements], pooling: Pooling) -> None:
    """Raise ``InvalidInput`` for statements without answers, where the tokens of answers are to be read."""
    for labelled in statements if pooling == "response" else ():
        if labelled.prompts is None:
            _refuse_response(labelled.source, labelled.dimension)


def _refuse_response(source: str, dimension: str) -> NoReturn:
    raise InvalidInput(
        f"`pooling` is response, which reads answers, and the statements of {source} have none: give "
        f"data={dimension}=<a file with prompt, response, label>, or pooling=last"
    )


def after_random_init(series: CheckpointSeries, spec: str) -> tuple[Checkpoint, ...]:
    """The selected checkpoints after the random initialisation, which is always measured beside them.

    They are audited first; those that hold no weights are left out by name.
    """
    trained = trained_checkpoints(series, spec)
    require_own_name(series)
    return (series.random_init, *audited(series, trained).usable)


def trained_checkpoints(
    series: CheckpointSeries, spec: str, *, parameter: str = "checkpoints"
) -> tuple[Checkpoint, ...]:
    """Those of ``spec`` but the random initialisation. Raises ``InvalidInput``, naming ``parameter``, for none."""
    trained = tuple(checkpoint for checkpoint in series.select(spec) if not checkpoint.is_random_init)
    if not trained:
        raise InvalidInput(f"`{parameter}` {spec!r} selects no trained one of {series.model}; give one, such as last")
    return trained


def measured_last(series: CheckpointSeries, measured: Sequence[Checkpoint]) -> dict[str, str]:
    """The ``checkpoint`` that a next command works on after those ``measured``; none where it does by default."""
    spec = series.specification_of(measured[-1])
    return {} if spec == "last" else {"checkpoint": spec}


def calibrate_or_report(
    options: StatementsOptions, statements: Mapping[str, LabelledStatements], *, model: str, **given: str
) -> str:
    """The command that calibrates the dimensions with statements enough for it; without any, the one that reports."""
    able = able_to_calibrate(statements)
    if not able:
        return mlflow_run("report", model=model)
    dimensions = {} if len(able) == len(statements) else {"dimensions": ",".join(able)}
    return mlflow_run("calibrate", options, model=model, **dimensions, **given)


def audited(
    series: CheckpointSeries, chosen: Sequence[Checkpoint], *, log_as: str = "series", parameter: str = "checkpoints"
) -> SeriesAudit:
    """The audit of the checkpoints that ``parameter`` chose, shown, and logged under a name."""
    audit = audit_series(series, chosen, parameter=parameter)
    print(render_audit(audit), end="\n\n")  # noqa: T201
    log_series(audit, log_as)
    return audit


def one_checkpoint(options: CheckpointOptions, known: CheckpointSeries | None = None) -> Checkpoint:
    """The one trained checkpoint that is asked for, audited. Raises ``InvalidInput`` for none or several.

    ``known`` is its series, where that was looked up before.
    """
    require_selectable(options.model, options.checkpoint, parameter="checkpoint")
    series = registered_series(options.model, known)
    trained = [checkpoint for checkpoint in series.select(options.checkpoint) if not checkpoint.is_random_init]
    if len(trained) != 1:
        raise InvalidInput(
            f"checkpoint {options.checkpoint!r} selects {counted(len(trained), 'trained checkpoint')} of "
            f"{options.model}; give one, such as last"
        )
    audited(series, trained, parameter="checkpoint")
    return trained[0]
