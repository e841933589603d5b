"""The same vectors and the same steered requests by steering-vectors and repeng, which need a Python of their own.

Both want libraries older than ours (transformers 4, NumPy 1), so `make bench` gives them an environment beside it.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.model_io.activations import extract
from pipelines.statements.packaged import packaged_statements
from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.weights import locate
from tests.bench.bank import random_bank, tenths
from tests.bench.engine import plans, submit_all, text_of
from tests.bench.table import Comparison
from tests.bench.timing import seconds
from tests.threads import in_passing

PYTHON = Path(os.environ.get("TRUSTTRACE_PEERS_PYTHON", ".venv-peers/bin/python"))
REQUESTS, TOKENS, PAIRS = 16, 48, 100


def compare_peers(model_name: str) -> list[Comparison]:
    """Nothing, and a line that says so, where the peers are not installed."""
    if not PYTHON.exists():
        print(f"peers: {PYTHON} does not exist; `make bench` installs it")
        return []
    checkpoint = find_series(model_name).checkpoints[-1]
    model = in_passing(lambda: load(checkpoint, precision="bfloat16"))
    pairs = _pairs()
    layer = model.n_layers // 2
    theirs = _measure_peers(str(locate(checkpoint).directory), pairs, layer)
    texts, labels = [text for pair in pairs for text in pair], np.tile([True, False], len(pairs))

    def our_vectors() -> None:
        activations = extract(model, texts)
        for layer in activations.layers:
            fit_mass_mean(activations.layer(layer), labels)

    extraction = in_passing(lambda: seconds(our_vectors, 2))
    bank = in_passing(lambda: random_bank(model, tenths(model)))
    with in_passing(lambda: SlotEngine(model, slots=REQUESTS, queue_limit=REQUESTS)) as engine:
        mixed, alike = (
            seconds(lambda settings=settings: submit_all(engine, REQUESTS, TOKENS, settings, REQUESTS), 2)  # type: ignore[misc]
            for settings in (plans(bank, REQUESTS, 1), plans(bank, 1, 1))
        )
    rows = []
    for name, times in theirs.items():
        slug, label = name.replace("-", "_"), f"{name} {times['version']}"
        for key, what, ours in (
            ("extract", f"vectors of {model.n_layers} layers from {PAIRS} pairs, `{model_name}` bfloat16", extraction),
            ("mixed", f"{REQUESTS} requests of {TOKENS} tokens, each with a strength of its own", mixed),
            ("alike", "the same, all with one strength", alike),
        ):
            how = {"extract": "", "mixed": ", one after another", "alike": ", one static batch"}[key]
            against = f"{times[key]:.1f} s by {label}{how}"
            rows.append(Comparison(f"peers/{slug}_{key}", what, f"{ours:.1f} s", against, times[key] / ours, "x"))
    return rows


def _pairs() -> list[tuple[str, str]]:
    """Trustworthy and other statements side by side."""
    statements = packaged_statements("toxicity")
    texts = np.array(statements.texts, dtype=object)
    trustworthy, other = texts[statements.labels][:PAIRS], texts[~statements.labels][:PAIRS]
    return [(str(text), str(opposite)) for text, opposite in zip(trustworthy, other, strict=True)]


def _measure_peers(directory: str, pairs: list[tuple[str, str]], layer: int) -> dict[str, Any]:
    work = {
        "model": directory,
        "dtype": "bfloat16",
        "layer": layer,
        "pairs": pairs,
        "prompts": [text_of(number) for number in range(REQUESTS)],
        "tokens": TOKENS,
    }
    worker = Path(__file__).with_name("peers_worker.py")
    done = subprocess.run(
        [PYTHON, worker], input=json.dumps(work), capture_output=True, text=True, timeout=1200, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the peers' worker failed: {done.stderr[-500:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
