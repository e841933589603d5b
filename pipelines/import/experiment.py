"""Import experiment: from a folder to registered versions that a service steers with."""

from pathlib import Path

from pipelines.cli.columns import name_width
from pipelines.cli.pasting import make_serve, mlflow_run
from pipelines.experiment import measured_last, resolve_series
from pipelines.tracking.conclusion import Conclusion, conclude, enumerated
from pipelines.tracking.runs import entry_point_run
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.counts import counted
from registry.errors import InvalidInput, NotFound, near_path
from registry.pack_card import works
from registry.pack_exchange import PackImport, import_pack
from registry.pack_folder import StoredPack, read_pack
from registry.packs import PackedModel
from serving.model.weights import weights_digest

from .options import ImportOptions
from .tracking import log_import

SHIPPED = "serving/packs/smollm2"


def run_import(options: ImportOptions) -> None:
    """Verify the pack and the model, register the vectors, and print what is new and how to serve it."""
    directory = Path(options.pack).expanduser()
    if not directory.is_dir():
        raise NotFound(
            f"there is no folder {directory}{near_path(str(directory))} give one that `export` wrote, or the shipped "
            f"one: {mlflow_run('import', pack=SHIPPED)}"
        )
    stored = read_pack(directory)
    model = stored.pack.model
    with entry_point_run(f"import {model.name}", options.params()) as run:
        given = options.model or model_here(model)
        series = resolve_series(given)
        checkpoint = local_checkpoint(model, series)
        log_import(stored)
        result = import_pack(stored, checkpoint, weights_digest(checkpoint))
        print(summary(stored, result))  # noqa: T201
        serve = make_serve(given, **measured_last(series, [checkpoint]))
        conclude(run, conclusion(stored, result, serve=serve))


def model_here(model: PackedModel) -> str:
    """The model of a pack as commands take it. Raises ``InvalidInput`` for one that lay in a directory elsewhere."""
    if not model.argument:
        raise InvalidInput(
            f"the pack is for {model.name}, whose weights lay in a directory where it was made: give the one that they "
            f"are in here, as model={model.name}=/path"
        )
    return model.argument


def local_checkpoint(model: PackedModel, series: CheckpointSeries) -> Checkpoint:
    """The checkpoint here that the pack names by revision, else the last one of the series."""
    same = [checkpoint for checkpoint in series if checkpoint.revision == model.revision]
    return same[0] if same else series.select("last")[0]


def summary(stored: StoredPack, result: PackImport) -> str:
    """The vectors, one line each: what it does, and whether it is new."""
    name = name_width(packed.dimension for packed in stored.pack.vectors)
    lines = ["", f"{'dimension':<{name}} {'works':<12} {'strength':>8}  vector"]
    for packed, version in zip(stored.pack.vectors, result.vectors, strict=True):
        new = "registered" if packed.dimension in result.registered else "was there already"
        lines.append(
            f"{packed.dimension:<{name}} {works(packed):<12} {packed.recommended:>8g}  {version.uri} ({new}; it was "
            f"{packed.origin})"
        )
    lines += [
        f"{dimension} keeps its champion, {champion.uri}; to serve the imported one instead, give it the alias champion"
        for dimension, champion in result.kept.items()
    ]
    return "\n".join(lines)


def conclusion(stored: StoredPack, result: PackImport, *, serve: str) -> Conclusion:
    """Which vectors came in, which are served; ``serve`` comes next."""
    name = stored.pack.model.name
    new = f"new are {len(result.registered)} of {counted(len(result.vectors), 'vector')}{enumerated(result.registered)}"
    return Conclusion(
        verdict=(
            f"The pack {stored.digest[:12]} of {name} is in the registry: {new}; "
            f"{len(result.promoted)} became champion{enumerated(result.promoted)}."
        ),
        header=("dimension", "works", "strength", "version", "it was"),
        rows=tuple(
            (
                *(packed.dimension, works(packed), f"{packed.recommended:g}"),
                *(version.uri.removeprefix("models:/"), packed.origin.removeprefix("models:/")),
            )
            for packed, version in zip(stored.pack.vectors, result.vectors, strict=True)
        ),
        vectors=result.vectors,
        next=serve,
    )
