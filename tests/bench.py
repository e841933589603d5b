"""The ratios that the README quotes, measured side by side in one run: `make bench`.

The slow reference is the paper's implementation (arXiv 2402.19465) rewritten from its description: one statement at
a time through the whole model in float32, one file a layer, then scikit-learn's default regression layer by layer.
Run it on an otherwise idle machine.
"""

import argparse
import contextlib
import io
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import mlflow
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from pipelines import probing
from pipelines.activations import TOKENS_PER_BATCH, extract
from pipelines.batches import batches, padded, tokenise
from pipelines.cli import run_command
from pipelines.probe import main as probe
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import packaged_statements
from pipelines.sweep.measure import measure
from pipelines.sweep.results import ResultStore
from pipelines.sweep.settings import ProbeSettings
from serving.model.language_model import LanguageModel, load
from serving.model.residual_stream import recording
from tests.bench_information import compare_information
from tests.bench_timing import seconds


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


def compare_extraction(model: LanguageModel, texts: Sequence[str]) -> None:
    bare, ours = seconds(lambda: bare_forward(model, texts)), seconds(lambda: extract(model, texts))
    name = f"{model.checkpoint.model} {model.dtype}".replace("torch.", "")
    print(f"extraction, {name}: {ours:.2f} s, bare trunk {bare:.2f} s: {ours / bare:.2f}x (at most 1.25)")


def compare_with_the_paper(model: str, dimension: str, limit: int) -> None:
    checkpoint = probing.resolve_series(model).checkpoints[-1]
    statements = packaged_statements(dimension).subset(limit, 0)
    slow_model, fast_model = load(checkpoint, precision="float32"), load(checkpoint)
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        theirs = as_the_paper_does(slow_model, statements, Path(directory))
        slow = time.perf_counter() - began
    for settings in (ProbeSettings(), ProbeSettings(protocol="paper")):
        found: list[float] = []

        def sweep(settings: ProbeSettings = settings, found: list[float] = found) -> None:
            measured = measure(extract(fast_model, statements.texts), statements, settings)
            found[:] = [score.accuracy.value for score in measured.scores if score.seed is None]

        fast = seconds(sweep, repeats=2)
        line = f"{model}, {statements.n} statements, {fast_model.n_layers} layers, {settings.protocol} protocol: "
        line += f"{fast:.1f} s, the paper's implementation {slow:.1f} s: {slow / fast:.1f}x faster"
        if settings.protocol == "paper":
            gap = abs(float(np.mean(found)) - float(theirs.mean())) * 100
            line += (
                f"; mean accuracy over layers {np.mean(found):.4f} against {theirs.mean():.4f}, {gap:.2f} points apart"
            )
        print(line)
    compare_extraction(fast_model, statements.texts)


def compare_tracking() -> None:
    """What MLflow adds to a sweep over the embedded series, and the memory it took."""
    probing.resolve_series("tiny")
    bare, logged = min(sweep_seconds(log=False) for _ in range(2)), min(sweep_seconds(log=True) for _ in range(2))
    print(f"MLflow, 13 checkpoints × 5 dimensions: {logged:.1f} s, without logging the units {bare:.1f} s", end=": ")
    print(f"{logged / bare - 1:+.1%} (at most 5 %); largest resident size {largest_resident_mib():.0f} MiB")


def sweep_seconds(*, log: bool) -> float:
    """Seconds for a whole sweep, computed anew and logged to an SQLite store of its own."""
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(probing, "ResultStore") as results:
        results.return_value = ResultStore(Path(directory) / "results")
        mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
        mlflow.create_experiment("trusttrace", artifact_location=Path(directory).as_uri())
        add = probing.UnitLog.add if log else lambda *_: ()
        with mock.patch.object(probing.UnitLog, "add", add), contextlib.redirect_stdout(io.StringIO()):
            began = time.perf_counter()
            run_command(probe, ["--model", "tiny"])
            return time.perf_counter() - began


def largest_resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=600, help="statements of the comparison on smollm2 [%(default)s]")
    limit = parser.parse_args().limit
    compare_with_the_paper("tiny", "toxicity", 0)
    compare_with_the_paper("smollm2", "robustness", limit)
    compare_information()
    compare_tracking()


if __name__ == "__main__":
    sys.exit(run_command(lambda _: main()))
