"""Series audit: what is known of checkpoints before any is measured, most of it before a byte is fetched.

Published series have faults: branches that hold other steps' weights, branches without weights. On the hub they are
found by the listing of files; on disk by the files.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open

from registry.checkpoints import Checkpoint, CheckpointSeries, LeftOut
from registry.counts import counted
from registry.equal_weights import disputed
from registry.errors import CorruptFile, InvalidInput, Mismatch, NotFound
from serving.model import hub
from serving.model.content import sha256_of
from serving.model.loading import read_config
from serving.model.stored_tensors import weight_names
from serving.model.weights import identity_of, locate, tokenizer_revision

EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight")
SHOWN = 8
"""Names in a line that need not tell them all."""
EMBEDDING_ROWS = 2048
"""Rows of the embedding that are compared: frequent tokens come first, and are trained first."""


@dataclass(frozen=True)
class AuditedCheckpoint:
    """A checkpoint that can be measured, and what is conspicuous about it."""

    checkpoint: Checkpoint
    identity: str
    """Names all files that loading it reads."""
    weights: tuple[str, ...]
    """The SHA-256 of each file of weights; empty where the hub tells none."""
    tokenizer: str
    """The revision that its tokenizer is taken from."""
    twin_of: Checkpoint | None = None
    """The earliest checkpoint with the same weights."""
    is_disputed: bool = False
    """Whether its weights come back after others of its stage, so that its name tells no certain step."""
    distance: float | None = None
    """Relative distance of its embedding to that of the checkpoint before; ``None`` where files are not here yet."""


@dataclass(frozen=True)
class SeriesAudit:
    """The checkpoints to measure, and what was left out of those asked for and of the series."""

    model: str
    checkpoints: tuple[AuditedCheckpoint, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def usable(self) -> tuple[Checkpoint, ...]:
        return tuple(audited.checkpoint for audited in self.checkpoints)

    @property
    def traceable(self) -> tuple[Checkpoint, ...]:
        """The usable ones of a certain step, each set of weights once. Raises ``InvalidInput`` where there are none."""
        found = tuple(
            audited.checkpoint for audited in self.checkpoints if audited.twin_of is None and not audited.is_disputed
        )
        if not found:
            raise InvalidInput(
                f"no step of {self.model} is certain: the weights of every checkpoint chosen come back after others; "
                "choose others"
            )
        return found


def audit_series(
    series: CheckpointSeries, chosen: Sequence[Checkpoint], *, parameter: str = "checkpoints"
) -> SeriesAudit:
    """What is known of the checkpoints of ``series`` that ``parameter`` chose; fetches no weights.

    Raises ``InvalidInput`` when none of them can be measured, and ``Unavailable`` when the hub cannot be asked.
    """
    with ThreadPoolExecutor(8, thread_name_prefix="audit") as pool:
        findings = list(pool.map(_audited, chosen))
    kept = [finding for finding in findings if isinstance(finding, AuditedCheckpoint)]
    unusable = [finding for finding in findings if isinstance(finding, LeftOut)]
    if not kept:
        raise InvalidInput(
            f"none of the checkpoints chosen of {series.model} can be measured: "
            f"{unusable[0].revision}: {unusable[0].reason}"
        )
    left_out = (*unusable, *_unchosen(series, chosen, parameter), *series.left_out)
    if series.is_joined:
        _require_one_shape([finding.checkpoint for finding in kept])
    return SeriesAudit(series.model, tuple(_with_distances(_with_twins(kept))), left_out)


def _require_one_shape(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise ``Mismatch`` where repositories of one training line hold networks that cannot be compared."""
    first: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        first.setdefault(checkpoint.repo, checkpoint)
    shapes: dict[tuple[int, int], Checkpoint] = {}
    for checkpoint in first.values():
        config = read_config(locate(checkpoint.random_init()).directory).get_text_config(decoder=True)
        shapes.setdefault((int(config.num_hidden_layers), int(config.hidden_size)), checkpoint)
    if len(shapes) > 1:
        told = "; ".join(f"{checkpoint.caption}: {counted(n, 'layer')} of {d}" for (n, d), checkpoint in shapes.items())
        raise Mismatch(
            f"the stages of {checkpoints[0].model} are networks of different shapes ({told}); list stages of one model"
        )


def _audited(checkpoint: Checkpoint) -> AuditedCheckpoint | LeftOut:
    try:
        identity = identity_of(checkpoint)
        if not hub.is_on_hub(checkpoint.repo):
            weights = tuple(sha256_of(path) for path in locate(checkpoint).originals)
            return AuditedCheckpoint(checkpoint, identity, weights, checkpoint.revision)
        files = {file.path: file for file in hub.list_files(checkpoint.repo, checkpoint.revision)}
        names = weight_names(files, lambda name: hub.fetch_file(checkpoint.repo, checkpoint.revision, files[name]))
    except (NotFound, CorruptFile) as error:
        return LeftOut(checkpoint.revision, str(error))
    if not names:
        return LeftOut(checkpoint.revision, "it holds no weights")
    tokenizer = tokenizer_revision(checkpoint.repo, checkpoint.revision)
    digests = [files[name].sha256 for name in names]
    known = tuple(digest for digest in digests if digest is not None)
    return AuditedCheckpoint(checkpoint, identity, known if len(known) == len(digests) else (), tokenizer)


def _with_twins(audited: Sequence[AuditedCheckpoint]) -> list[AuditedCheckpoint]:
    first: dict[tuple[str, ...], Checkpoint] = {}
    uncertain = disputed({entry.checkpoint: " ".join(entry.weights) for entry in audited})
    marked = []
    for entry in audited:
        earliest = first.setdefault(entry.weights, entry.checkpoint) if entry.weights else entry.checkpoint
        twin_of = None if earliest == entry.checkpoint else earliest
        marked.append(replace(entry, twin_of=twin_of, is_disputed=entry.checkpoint in uncertain))
    return marked


def _with_distances(audited: Sequence[AuditedCheckpoint]) -> list[AuditedCheckpoint]:
    embeddings = [_embedding(entry.checkpoint) for entry in audited]
    distances: list[float | None] = [None]
    for before, here in pairwise(embeddings):
        if before is None or here is None or before.shape != here.shape:
            distances.append(None)
        else:
            distances.append(float(np.linalg.norm(here - before) / max(float(np.linalg.norm(before)), 1e-30)))
    return [replace(entry, distance=distance) for entry, distance in zip(audited, distances, strict=True)]


def _embedding(checkpoint: Checkpoint) -> Float32[np.ndarray, "rows d_model"] | None:
    """The first rows of the embedding, where the file that holds them is on this machine."""
    for path in _local_weights(checkpoint):
        try:
            with safe_open(path, framework="pt") as file:
                name = next((name for name in file.keys() if name.endswith(EMBEDDINGS)), None)  # noqa: SIM118
                if name is not None:
                    rows: Float32[np.ndarray, "rows d_model"] = file.get_slice(name)[:EMBEDDING_ROWS].float().numpy()
                    return rows
        except (OSError, SafetensorError):
            return None
    return None


def _local_weights(checkpoint: Checkpoint) -> list[Path]:
    if hub.is_on_hub(checkpoint.repo):
        directory = hub.snapshot(checkpoint.repo, hub.commit_of(checkpoint.repo, checkpoint.revision))
    else:
        directory = locate(checkpoint).directory
    return sorted(directory.glob("model*.safetensors"))


def _unchosen(series: CheckpointSeries, chosen: Sequence[Checkpoint], parameter: str) -> list[LeftOut]:
    """A line for each run of which nothing was chosen, and one for what was not of the others."""
    entries = []
    for line in series.lines:
        of_line = [checkpoint for checkpoint in series if checkpoint.line == line]
        rest = [checkpoint for checkpoint in of_line if checkpoint not in chosen]
        if not rest:
            continue
        every = counted(len(of_line), f"{line} checkpoint".strip())
        what = (line or every) if len(of_line) == len(rest) else f"{len(rest)} of {every}"
        add = f"add {parameter}=…,{line}" if line else f"{parameter}=all measures them"
        if parameter == "checkpoint":
            add = "`checkpoint` chooses one"
        entries.append(LeftOut(what, f"not chosen; {add}"))
    return entries


def render_audit(audit: SeriesAudit) -> str:
    """The audit as Markdown: conspicuous checkpoints, and all that was left out."""
    lines = [f"## {audit.model} · {counted(len(audit.checkpoints), 'checkpoint')}", ""]
    sets: dict[Checkpoint, list[AuditedCheckpoint]] = {}
    for entry in audit.checkpoints:
        sets.setdefault(entry.twin_of or entry.checkpoint, []).append(entry)
    lines += [_equal_weights(entries) for entries in sets.values() if len(entries) > 1]
    numbers = [entry.checkpoint.revision for entry in audit.checkpoints if entry.checkpoint.revision.isdecimal()]
    if numbers:
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        shown = ", ".join(numbers[:SHOWN])
        lines.append(f"- names that are numbers alone are read as steps, not as seeds or epochs: {shown}{more}")
    borrowed = [entry for entry in audit.checkpoints if entry.tokenizer != entry.checkpoint.revision]
    if borrowed:
        lines.append(
            f"- without a tokenizer: {counted(len(borrowed), 'checkpoint')}; that of {borrowed[0].tokenizer} is used"
        )
    lines += [f"- left out: {left.revision}: {left.reason}" for left in audit.left_out]
    return "\n".join(lines if len(lines) > 2 else [*lines, "- nothing conspicuous, nothing left out"])


def _equal_weights(entries: Sequence[AuditedCheckpoint]) -> str:
    equal = f"- {' and '.join(entry.checkpoint.caption for entry in entries)} have equal weights"
    if not any(entry.is_disputed for entry in entries):
        return f"{equal}: one point, not several"
    return f"{equal}, with others between, so that not all are what they are called: none is a point of a curve"


def audit_rows(audit: SeriesAudit) -> list[dict[str, object]]:
    """A row per checkpoint and per revision left out, for ``series.csv``."""
    rows: list[dict[str, object]] = [
        {
            **entry.checkpoint.as_columns(),
            "identity": entry.identity,
            "twin_of": entry.twin_of.revision if entry.twin_of else "",
            "disputed": entry.is_disputed,
            "tokenizer": entry.tokenizer,
            "embedding_distance": entry.distance,
            "left_out": "",
        }
        for entry in audit.checkpoints
    ]
    empty = dict.fromkeys(rows[0], None) | {"model": audit.model}
    return [*rows, *({**empty, "revision": left.revision, "left_out": left.reason} for left in audit.left_out)]
