"""Extraction and probes against the paper's implementation, and what MLflow adds to a sweep.

The slow reference is the paper's implementation (arXiv 2402.19465) rewritten from its description: one statement at
a time through the whole model in float32, one file a layer, then scikit-learn's default regression layer by layer.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from pipelines.experiment import resolve_series
from pipelines.model_io.activations import TOKENS_PER_BATCH, extract
from pipelines.model_io.batches import batches, padded, tokenise
from pipelines.probe.measure import measure
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.probe.selection import Selection
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import packaged_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import run_sweep
from registry.dimensions import DIMENSIONS
from serving.model.language_model import LanguageModel, load
from serving.model.residual_stream import recording
from tests.bench.sweep_once import SweepCosts
from tests.bench.table import Comparison
from tests.bench.timing import in_turn, median_ratio, seconds

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def bare_forward(model: LanguageModel, texts: Sequence[str]) -> None:
    """The trunk on the same batches, with nothing read from it."""
    sequences = tokenise(model, texts)
    for rows in batches([len(sequence) for sequence in sequences], TOKENS_PER_BATCH):
        tokens, _ = padded([sequences[row] for row in rows], model.device)
        with torch.inference_mode():
            model.trunk(input_ids=tokens, use_cache=False)


def as_the_paper_does(model: LanguageModel, statements: LabelledStatements, directory: Path) -> np.ndarray:
    """Accuracy by layer, by the paper's implementation."""
    layers = range(model.n_layers)
    states: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for text in statements.texts:
        tokens = model.tokenizer(text, return_tensors="pt")["input_ids"]
        read = lambda layer, hidden: states[layer].append(hidden[0, -1].clone())  # noqa: E731
        with torch.no_grad(), recording(model.network, layers, read):
            model.network(tokens)
    for layer in layers:
        np.save(directory / f"layer_{layer}.npy", torch.stack(states[layer]).float().numpy())
    n_train, accuracies = int(0.8 * statements.n), []
    for layer in layers:
        features = np.load(directory / f"layer_{layer}.npy")
        features = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1).clip(min=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = LogisticRegression().fit(features[:n_train], statements.labels[:n_train])
        accuracies.append(fit.score(features[n_train:], statements.labels[n_train:]))
    return np.array(accuracies)


def compare_extraction(model: LanguageModel, texts: Sequence[str]) -> Comparison:
    bare, ours = seconds(lambda: bare_forward(model, texts)), seconds(lambda: extract(model, texts))
    name = f"`{model.checkpoint.model}` {model.dtype}".replace("torch.", "")
    what, key = f"extraction, {name}, {len(texts)} statements", f"extraction/{model.checkpoint.model}"
    return Comparison(key, what, f"{ours:.2f} s", f"{bare:.2f} s for the bare trunk", ours / bare, "x", at_most=1.25)


def compare_with_the_paper(model: str, dimension: str, limit: int) -> list[Comparison]:
    checkpoint = resolve_series(model).checkpoints[-1]
    statements = packaged_statements(dimension).subset(limit, 0)
    slow_model, fast_model = load(checkpoint, precision="float32"), load(checkpoint)
    with tempfile.TemporaryDirectory() as directory:
        theirs = np.empty(0)

        def released() -> None:
            nonlocal theirs
            theirs = as_the_paper_does(slow_model, statements, Path(directory))

        slow = seconds(released, repeats=2)
    rows = []
    size = f"`{model}`, {statements.n} statements, {fast_model.n_layers} layers"
    for protocol in (FittingProtocol(protocol="paper"), FittingProtocol()):
        found: list[float] = []

        def sweep(protocol: FittingProtocol = protocol, found: list[float] = found) -> None:
            measured = measure(extract(fast_model, statements.texts), statements, protocol)
            found[:] = [score.accuracy.value for score in measured.scores if score.seed is None]

        fast, paper = seconds(sweep, repeats=2), protocol.is_paper
        what = f"extraction and probes, {protocol.protocol} protocol, {size}"
        against = f"{slow:.1f} s for the paper's implementation"
        wanted = 10 if paper else None
        key = f"sweep/{model}_{protocol.protocol}"
        rows.append(Comparison(key, what, f"{fast:.1f} s", against, slow / fast, "x", at_least=wanted))
        if paper:
            gaps = 100 * np.abs(np.array(found) - theirs)
            what = f"mean accuracy over layers, and the mean gap of a layer (the largest is {gaps.max():.1f})"
            means = (f"{100 * np.mean(found):.2f} %", f"{100 * theirs.mean():.2f} %")
            rows.append(Comparison(f"{key}_gap", what, *means, float(gaps.mean()), "points", at_most=0.5))
    return [*rows, compare_extraction(fast_model, statements.texts)]


def compare_nested() -> Comparison:
    """What choosing layers and checkpoints inside each outer fold adds to a sweep that takes the best of each."""
    series = resolve_series("tiny")
    statements = {name: packaged_statements(name) for name in DIMENSIONS}
    plan = SweepPlan((series.random_init, *series.select("log:4")), statements)
    with tempfile.TemporaryDirectory() as directory:
        results: list[UnitResult] = []
        swept = seconds(lambda: results.extend(run_sweep(plan, ResultStore(Path(directory)))), repeats=1)
    chosen = seconds(lambda: Selection.of(results, statements, plan.protocol))
    what = f"a sweep of `tiny`, {len(results)} units, its layers and checkpoints chosen in nested folds"
    against = f"{swept:.1f} s without the choice"
    return Comparison("nested/share", what, f"{swept + chosen:.1f} s", against, 1 + chosen / swept, "x", at_most=1.3)


def compare_tracking(pairs: int = 5, of_memory: int = 3) -> list[Comparison]:
    """What a run in MLflow for each unit adds to a sweep, and what twelve checkpoints take of memory beside two.

    The run of the sweep itself, with its tables and figures, is there with and without. Sweeps of the same code differ
    by some percent in time and in memory, so both are medians of pairs in turn.
    """
    resolve_series("tiny")
    shares = in_turn(lambda: sweep_once("log:4", log=True), lambda: sweep_once("log:4", log=False), pairs)
    growths = in_turn(lambda: sweep_once("log:12", log=True), lambda: sweep_once("log:2", log=True), of_memory)
    clock = median_ratio(np.array([(logged.seconds, bare.seconds) for logged, bare in shares]))
    work = median_ratio(np.array([(logged.processor_seconds, bare.processor_seconds) for logged, bare in shares]))
    mib = median_ratio(np.array([(many.mib, few.mib) for many, few in growths]))
    what = f"a sweep of `tiny`, 25 units, each with a run, a checkpoint and vectors in MLflow, {pairs} pairs"
    memory = f"largest resident size, 13 checkpoints, {of_memory} pairs"
    return [
        _more("tracking/share", what, clock, "s"),
        _more("tracking/processor_share", f"{what}, by processor time", work, "s"),
        _more("tracking/memory", f"{memory} beside 3", mib, "MiB"),
    ]


def _more(key: str, what: str, ratio: tuple[float, ...], unit: str) -> Comparison:
    ours, theirs, *interval = ratio
    return Comparison.more(key, what, f"{ours:.1f} {unit}", f"{theirs:.1f} {unit}", interval, at_most=5)


def sweep_once(checkpoints: str, *, log: bool) -> SweepCosts:
    """What a whole sweep takes, computed anew in a process of its own, whose threads wait as a command's do."""
    command = [sys.executable, "-m", "tests.bench.sweep_once", checkpoints, *(() if log else ("--no-log",))]
    own = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the sweep failed: {done.stderr[-500:]}")
    return SweepCosts(**json.loads(done.stdout.splitlines()[-1]))
