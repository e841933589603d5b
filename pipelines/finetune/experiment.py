"""Fine-tuning experiment: from a user's options to a checkpoint with its lineage and its loss curve."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipelines.cli.pasting import chosen, mlflow_run
from pipelines.cli.progress import progress_bar
from pipelines.experiment import calibrate_or_report, inspected_statements, one_checkpoint, require_sources
from pipelines.finetune.figures import loss_figure
from pipelines.finetune.lora import require_peft
from pipelines.finetune.options import FinetuneConfig, FinetuneOptions
from pipelines.finetune.tracking import log_losses, register_finetuned
from pipelines.finetune.training import (
    MANIFEST,
    finetune,
    losses_for_manifest,
    save_finetuned,
    saved_losses,
)
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.tracking.artifacts import log_figures
from pipelines.tracking.champions import is_calibrated
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import entry_point_run
from registry.cache import cache_root
from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel, load, release
from serving.model.weights import identity_of, locate

RECIPE = 2
"""Raised when the code changes what a configuration means, so that older models are made anew."""
HELD_OUT_FOLD, VALIDATION_FOLD = 0, 1


def run_finetuning(options: FinetuneOptions) -> None:
    """Fine-tune, unless it was done before; register the checkpoint, log its curve, and print where it lies."""
    with entry_point_run(f"finetune {options.checkpoint.model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a checkpoint.
        options.placement.resolved()
        if options.config.method == "lora":
            require_peft()
        require_sources(options.statements)
        parent = one_checkpoint(options.checkpoint)
        statements = inspected_statements(options.statements)
        parent_digest = locate(parent).digest()
        key = _key(parent, statements, options.config)
        directory = cache_root() / "finetuned" / key / options.name_for(parent.model)
        if not (directory / MANIFEST).is_file():
            _make(parent, parent_digest, statements, options, directory)
        losses = saved_losses(directory)
        child = Checkpoint(directory.name, str(directory), "main", 0)
        made = register_finetuned(parent, parent_digest, child, locate(child).digest(), directory / MANIFEST)
        log_losses(run.info.run_id, losses)
        log_figures({"loss": loss_figure(directory.name, losses)}, options.figures, preview="loss")
        first, last = losses[0], losses[-1]
        print(  # noqa: T201
            f"\n{directory.name} ({made.uri}): epochs: {last.epoch}; loss on held-out trustworthy statements "
            f"{first.validation:.3f} -> {last.validation:.3f} nats per token\n{directory}"
        )
        conclude(
            run,
            Conclusion(
                verdict=(
                    f"{directory.name}: loss on held-out trustworthy statements went from {first.validation:.3f} to "
                    f"{last.validation:.3f} nats per token; epochs: {last.epoch}."
                ),
                next=_next(options, parent.model, statements, directory),
            ),
        )


def _next(options: FinetuneOptions, name: str, statements: Mapping[str, LabelledStatements], directory: Path) -> str:
    """The command that evaluates it beside vectors; the one that calibrates them, where that was never done."""
    model, given = options.checkpoint.model, chosen(options, "checkpoint", "device", "figures")
    if not all(is_calibrated(name, dimension) for dimension in statements):
        return calibrate_or_report(options.statements, statements, model=model, **given)
    return mlflow_run("evaluate", options.statements, model=model, finetuned=str(directory), **given)


def trustworthy_texts(
    statements: Mapping[str, LabelledStatements], protocol: FittingProtocol
) -> tuple[list[str], list[str]]:
    """Trustworthy statements to learn from and to validate on: never those that vectors are not fitted on either."""
    training: list[str] = []
    validation: list[str] = []
    for labelled in statements.values():
        folds = split_statements(labelled, protocol).folds[0]
        for texts, rows in (
            (training, (folds != HELD_OUT_FOLD) & (folds != VALIDATION_FOLD)),
            (validation, folds == VALIDATION_FOLD),
        ):
            texts += [labelled.texts[row] for row in np.flatnonzero(rows & labelled.labels)]
    return training, validation


def _make(
    parent: Checkpoint,
    parent_digest: str,
    statements: Mapping[str, LabelledStatements],
    options: FinetuneOptions,
    directory: Path,
) -> None:
    model: LanguageModel = load(parent, precision=options.placement.precision, device=options.placement.device)
    training, validation = trustworthy_texts(statements, FittingProtocol())
    per_epoch = -(-len(training) // options.config.batch_texts)
    with progress_bar(per_epoch * options.config.epochs, "fine-tuning", "step") as bar:

        def show(_step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.2f} nats", refresh=False)
            bar.update()

        losses = finetune(model, training, validation, options.config, show)
    manifest: dict[str, object] = {
        "parent": {**asdict(parent), "weights_digest": parent_digest},
        "statements": {
            name: {"source": labelled.source, "digest": labelled.digest} for name, labelled in statements.items()
        },
        "n_training": len(training),
        "n_validation": len(validation),
        "config": options.config.to_dict(),
        "losses": losses_for_manifest(losses),
    }
    save_finetuned(model, directory, manifest)
    release(model)


def _key(parent: Checkpoint, statements: Mapping[str, LabelledStatements], config: FinetuneConfig) -> str:
    """Names the result by all that decides it: a mended tokenizer makes another of the same weights."""
    digests = {name: labelled.digest for name, labelled in statements.items()}
    content = {"recipe": RECIPE, "parent": identity_of(parent), "statements": digests, **config.to_dict()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
