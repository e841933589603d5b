"""What experiments do with a large checkpoint on one device: extraction, probes and nHSIC of a unit."""

from collections.abc import Iterator

import numpy as np
import torch

from pipelines.model_io.activations import extract
from pipelines.model_io.batches import batches, padded, tokenise
from pipelines.probe.measure import measure
from pipelines.sweep.protocol import FittingProtocol
from serving.model.language_model import LanguageModel
from tests.bench.gpu_engine import Where, synchronise
from tests.bench.information import as_the_paper_does, residual_stream, soundly
from tests.bench.random_networks import random_model
from tests.bench.samples import Samples
from tests.bench.table import Comparison
from tests.bench.timing import seconds
from tests.bench.units import activations, statements

BATCHES = (1024, 8192)
"""Padded tokens in a forward pass."""
UNIT_LAYERS = 32


def random_texts(model: LanguageModel, count: int) -> list[str]:
    """Of 10 to 22 words, each a token."""
    generator, words = np.random.default_rng(0), len(model.tokenizer)
    lengths = generator.integers(10, 23, count)
    return [" ".join(f"w{word}" for word in generator.integers(1, words, length)) for length in lengths]


def bare_trunk(model: LanguageModel, texts: list[str], tokens_per_batch: int) -> None:
    """The trunk on the batches of extraction, with nothing read from it."""
    sequences = tokenise(model, texts)
    for rows in batches([len(sequence) for sequence in sequences], tokens_per_batch):
        tokens, _ = padded([sequences[row] for row in rows], model.device)
        with torch.inference_mode():
            model.trunk(input_ids=tokens, use_cache=False)
    synchronise(model.device)


def compare_extraction(shape: str, device: str, n: int, where: Where) -> Iterator[Comparison]:
    model = random_model(shape, device)
    texts = random_texts(model, n)
    for size in BATCHES:
        bare_trunk(model, texts, size)
        bare = seconds(lambda size=size: bare_trunk(model, texts, size), 3)  # type: ignore[misc]
        ours = seconds(lambda size=size: extract(model, texts, tokens_per_batch=size), 3)  # type: ignore[misc]
        with Samples() as samples:
            extract(model, texts, tokens_per_batch=size)
        where[f"extraction, {size} tokens a batch"] = samples.shares()
        what = f"extraction of all layers, {shape}, {n} statements, {size} tokens a batch"
        against = f"{bare:.2f} s for the bare trunk"
        yield Comparison(f"extraction/{size}", what, f"{ours:.2f} s", against, ours / bare, "x", at_most=1.25)


def measure_probes(device: str, n: int, d_model: int, goal: float, where: Where) -> Iterator[Comparison]:
    """A unit of 32 layers, from the time of one."""
    measure(activations(statements(60).labels, 16), statements(60), FittingProtocol(), device=device)
    given = statements(n)
    read = activations(given.labels, d_model)

    def layer() -> None:
        measure(read, given, FittingProtocol(), device=device)

    layer()
    unit = UNIT_LAYERS * seconds(layer, 3)
    with Samples() as samples:
        layer()
    where["probes"] = samples.shares()
    what = f"probes of {UNIT_LAYERS} layers, n {n:,}, d_model {d_model:,}"
    yield Comparison("probes/unit", what, f"{unit:.2f} s", f"{goal:g} s wanted", unit / goal, "x", at_most=1)


def compare_nhsic(device: str, n: int, d_model: int) -> Iterator[Comparison]:
    """nHSIC of two layers on the CPU's cores, against the paper's steps in float32 on the device."""
    states, labels = residual_stream(round(n / 0.8), 2, d_model)
    ours = seconds(lambda: soundly(states, labels), 2)

    def released() -> None:
        with torch.device(device):
            as_the_paper_does(states, labels)

    released()
    theirs = seconds(released, 2)
    what = f"nHSIC of 2 layers × {n:,} statements, {d_model:,} wide, on {torch.get_num_threads()} CPU threads"
    against = f"{theirs:.2f} s for the paper's implementation on the device"
    yield Comparison("nhsic/layers", what, f"{ours:.2f} s", against, theirs / ours, "x")
