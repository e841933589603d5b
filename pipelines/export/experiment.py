"""Export experiment: from a user's options to a pack of vectors, and to a checkpoint that is steered by itself."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipelines.cli.pasting import mlflow_run
from pipelines.experiment import known_series, one_checkpoint, series_name
from pipelines.export.baking import bake, require_baked
from pipelines.export.examples import example_of
from pipelines.export.options import ExportOptions, parse_strengths
from pipelines.export.tracking import log_pack
from pipelines.tracking.champions import champion_versions
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import entry_point_run
from registry.checkpoints import Checkpoint
from registry.counts import counted
from registry.embedded import data_argument, embedded_seed, model_argument
from registry.errors import InvalidInput, NotFound
from registry.pack_card import works
from registry.pack_exchange import keep_examples, packed_vectors, public_repo
from registry.pack_folder import StoredPack, require_replaceable, write_pack
from registry.packs import PackedModel, PackedVector
from registry.records import RegisteredVector
from registry.store import VectorStore
from serving.model.language_model import LanguageModel, load, release
from serving.steering.bank import ServedVector
from serving.steering.compatibility import require_fits


def run_export(options: ExportOptions) -> None:
    """Write the pack, and what is baked; log it, and print where it lies and how it is used."""
    with entry_point_run(f"export {options.checkpoint.model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a checkpoint.
        options.placement.resolved()
        series = known_series(options.checkpoint.model)
        name = series_name(options.checkpoint.model, series)
        directory = Path(options.to or f"packs/{name}").expanduser().resolve()
        versions = versions_to_pack(name, options.vectors, given=options.checkpoint.model)
        require_replaceable(directory)
        strengths = strengths_to_bake(options.strengths, versions) if options.baked else {}
        baked = directory.with_name(f"{directory.name}-baked")
        if options.baked:
            require_baked(baked)
        checkpoint = one_checkpoint(options.checkpoint, series)
        model = load(checkpoint, precision=options.placement.precision, device=options.placement.device)
        for version in versions:
            require_fits(version, model.facts)
        examples = {
            vector.dimension: example
            for vector in served_vectors(versions)
            if (strength := vector.registered.recommended) > 0 and (example := example_of(model, vector, strength))
        }
        stored = write_pack(packed_vectors(packed_model(model), versions, examples), directory)
        log_pack(stored)
        keep_examples(versions, examples)
        release(model)
        lines = [f"{directory}: {counted(len(versions), 'vector')}, SHA-256 {stored.digest}"]
        if options.baked:
            lines.append(_bake(checkpoint, stored, strengths, baked, options.placement.device))
        print("\n" + "\n".join(lines))  # noqa: T201
        conclude(run, conclusion(stored, versions, given=options.checkpoint.model))


def versions_to_pack(model: str, references: Sequence[str], *, given: str) -> list[RegisteredVector]:
    """The versions named, or the champions of ``model``, one a dimension.

    Raises ``NotFound`` where there is none, ``InvalidInput`` for two of one dimension.
    """
    store = VectorStore()
    versions = [store.resolve(reference) for reference in references] or champion_versions(model)
    if not versions:
        raise NotFound(f"{model} has no champion to export: make some first: {mlflow_run('calibrate', model=given)}")
    dimensions = [version.dimension for version in versions]
    twice = sorted({name for name in dimensions if dimensions.count(name) > 1})
    if twice:
        raise InvalidInput(f"vectors names {twice[0]} more than once and a pack has one vector a dimension; leave one")
    return versions


def served_vectors(versions: Sequence[RegisteredVector]) -> list[ServedVector]:
    store = VectorStore()
    return [ServedVector(version, *store.load_with_probe(version)) for version in versions]


def packed_model(model: LanguageModel) -> PackedModel:
    checkpoint = model.checkpoint
    return PackedModel(
        name=checkpoint.model,
        # An embedded series lies in a cache, in a folder that says nothing.
        repo=checkpoint.model if embedded_seed(checkpoint.model) is not None else public_repo(checkpoint.repo),
        revision=checkpoint.revision,
        step=checkpoint.step,
        weights_digest=model.weights_digest,
        d_model=model.d_model,
        n_layers=model.n_layers,
        architecture=str(model.network.config.model_type),
    )


def strengths_to_bake(text: str, versions: Sequence[RegisteredVector]) -> dict[str, float]:
    """The strengths that ``text`` names, or those recommended.

    Raises ``InvalidInput`` where there are none, for a dimension that is not packed, and beyond a calibrated range.
    """
    vectors = {version.dimension: version for version in versions}
    given = dict(parse_strengths(text))
    strengths = given or recommended_together(versions)
    if not strengths:
        raise InvalidInput(
            f"no strength is recommended for any dimension of {', '.join(vectors)}: give strengths within the safe "
            f"ranges, such as {next(iter(vectors))}=1, after {_calibrating(versions[0])}"
        )
    for dimension, strength in strengths.items():
        if dimension not in vectors:
            raise InvalidInput(f"strengths names {dimension} and the pack has {', '.join(vectors)}; give one of these")
        calibration = vectors[dimension].calibration
        if calibration is None:
            raise InvalidInput(
                f"{vectors[dimension].uri} has no safe range that strength {strength:g} of {dimension} could lie in; "
                f"calibrate it: {_calibrating(vectors[dimension])}"
            )
        if not calibration.allows(strength):
            safe = f"{calibration.low:g} to {calibration.high:g}"
            raise InvalidInput(f"strength {strength:g} of {dimension} is not within its safe range, {safe}; lower it")
    _require_together(vectors, strengths)
    return strengths


def _calibrating(version: RegisteredVector) -> str:
    model = version.name.removeprefix("steer.").removesuffix(f".{version.dimension}")
    data = data_argument(version.tags.get("statements_source", ""))
    return mlflow_run("calibrate", model=model_argument(model), dimensions=version.dimension, **data)


def recommended_together(versions: Sequence[RegisteredVector]) -> dict[str, float]:
    """The strength of each vector that works: beside others that it was calibrated with, as far as was measured."""
    working = [version for version in versions if version.recommended > 0]
    limits = {version.dimension: version.joint_limit for version in working}
    runs = [limit.run_id for limit in limits.values() if limit]
    joint = {name: limit for name, limit in limits.items() if limit and runs.count(limit.run_id) > 1}
    scales = {name: limit.scale_of(name) for name, limit in joint.items()}
    return {version.dimension: version.recommended * scales.get(version.dimension, 1.0) for version in working}


def _require_together(vectors: Mapping[str, RegisteredVector], strengths: Mapping[str, float]) -> None:
    """Raise ``InvalidInput`` for strengths beyond the joint limit, as a service refuses them."""
    limits = {name: vectors[name].joint_limit for name in strengths}
    for limit in {limit.run_id: limit for limit in limits.values() if limit}.values():
        members = [name for name, own in limits.items() if own and own.run_id == limit.run_id]
        shares = [limit.share(name, strengths[name]) for name in members]
        if limit.is_exceeded_by(shares):
            raise InvalidInput(
                f"the strengths of {', '.join(members)} add up to {sum(shares):.3g} times those measured together, "
                f"over {limit.most:.3g}; lower them, or give strengths=recommended"
            )


def offsets_of(packed: Sequence[PackedVector], strengths: Mapping[str, float]) -> dict[int, torch.Tensor]:
    """What the strengths add, by layer."""
    offsets: dict[int, list[torch.Tensor]] = defaultdict(list)
    for vector in packed:
        if strength := strengths.get(vector.dimension):
            for layer, offset in vector.vector.offsets(strength).items():
                offsets[layer].append(torch.from_numpy(offset))
    return {layer: torch.stack(added).sum(0) for layer, added in offsets.items()}


def _bake(
    checkpoint: Checkpoint, stored: StoredPack, strengths: Mapping[str, float], directory: Path, device: str
) -> str:
    model = load(checkpoint, precision="float32", device=device)
    bake(model, offsets_of(stored.pack.vectors, strengths), directory, {"pack": stored.digest, "strengths": strengths})
    release(model)
    told = ", ".join(f"{dimension} {strength:g}" for dimension, strength in strengths.items())
    return f"{directory}: {checkpoint.model} in float32 with {told} as biases at every token"


def conclusion(stored: StoredPack, versions: Sequence[RegisteredVector], *, given: str) -> Conclusion:
    """What the pack holds and whether it works; ``given`` is the model, where the pack does not say where it lies."""
    where = {} if stored.pack.model.argument else {"model": given}
    packed = stored.pack.vectors
    working = [vector.dimension for vector in packed if works(vector) == "yes"]
    return Conclusion(
        verdict=(
            f"The pack of {stored.pack.model.name} has {counted(len(packed), 'vector')}, known to work: "
            f"{', '.join(working) or 'none'}."
        ),
        header=("dimension", "works", "strength", "version"),
        rows=tuple(
            (vector.dimension, works(vector), f"{vector.recommended:g}", vector.origin.removeprefix("models:/"))
            for vector in packed
        ),
        vectors=tuple(versions),
        next=mlflow_run("import", pack=str(stored.directory), **where),
    )
