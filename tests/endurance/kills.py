"""A sweep killed without warning at twenty random moments, and resumed each time."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from registry.checkpoint_store import CheckpointStore
from registry.store import VectorStore
from tests.conftest import tiny_llama
from tests.servers import ROOT, tracking_server
from tests.serving.conftest import tracked_at
from tests.small_statements import write_two_dimensions

CHECKPOINTS, KILLS_A_SWEEP = 8, 5
KILLS = int(os.environ.get("TRUSTTRACE_KILLS", "10"))
VERSIONS = CHECKPOINTS * 2 * 3
"""Of three layers in two dimensions."""


@pytest.fixture(scope="session")
def long_series(tmp_path_factory, word_tokenizer):
    """A series of eight random networks."""
    root = tmp_path_factory.mktemp("series") / "mini"
    for seed in range(CHECKPOINTS):
        directory = root / f"step_{10 * seed:06d}"
        tiny_llama(seed).save_pretrained(directory)
        word_tokenizer.save_pretrained(directory)
    return root


@pytest.fixture(scope="session")
def command(long_series, tmp_path_factory):
    data = write_two_dimensions(tmp_path_factory.mktemp("statements") / "data")
    given = [
        "--model",
        str(long_series),
        "--data",
        str(data),
        "--dimensions",
        "toxicity,privacy",
        "--checkpoints",
        "all",
    ]
    return [sys.executable, "-m", "pipelines.probe", *given, "--seeds", "2", "--register", "all"]


@pytest.fixture(params=["SQLite", "a server"])
def store(request, tmp_path, empty_database):
    """What gives each sweep its tracking URI: SQLite files of their own, or one server for all."""

    def own(name: str) -> str:
        return f"sqlite:///{shutil.copy(empty_database, tmp_path / f'{name}.db')}"

    if request.param == "SQLite":
        yield own
        return
    with tracking_server(tmp_path) as uri:
        yield lambda _: uri


def begin(command, uri, cache, log):
    settings = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_REGISTRY_URI": uri,
        "TRUSTTRACE_CACHE": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as out:
        return subprocess.Popen(command, env={**os.environ, **settings}, cwd=log.parent, stdout=out, stderr=out)


def tables(uri):
    """The tables of the newest finished sweep, as bytes."""
    with tracked_at(uri):
        run = mlflow.search_runs(
            filter_string="attributes.status = 'FINISHED' and tags.`trusttrace.entry_point` = 'probe'",
            order_by=["attributes.start_time DESC"],
            search_all_experiments=True,
            max_results=1,
            output_format="list",
        )[0]
        client = mlflow.MlflowClient()
        paths = (client.download_artifacts(run.info.run_id, name) for name in ("probe.csv", "controls.csv"))
        return [Path(path).read_bytes() for path in paths]


def empty(uri):
    with tracked_at(uri):
        client = mlflow.MlflowClient()
        for model in client.search_registered_models():
            client.delete_registered_model(model.name)


def registered(uri):
    with tracked_at(uri):
        return len(VectorStore().list("mini"))


def require_each_once(uri):
    with tracked_at(uri):
        vectors, checkpoints = VectorStore().list("mini"), CheckpointStore().list("mini")
    assert len(vectors) == VERSIONS
    assert len({(vector.name, vector.tags["unit_digest"], vector.layer) for vector in vectors}) == len(vectors)
    assert len({checkpoint.tags["weights_digest"] for checkpoint in checkpoints}) == len(checkpoints) == CHECKPOINTS + 1


def test_a_sweep_killed_at_random_ends_the_same(command, store, tmp_path, say):
    chance = random.Random(7)
    reference = store("reference")
    began = time.monotonic()
    assert begin(command, reference, tmp_path / "reference", tmp_path / "reference.log").wait() == 0
    duration = time.monotonic() - began
    expected, kills, sweeps = tables(reference), [], 0
    while len(kills) < KILLS:
        uri, cache = store(f"sweep-{sweeps}"), tmp_path / f"cache-{sweeps}"
        empty(uri)
        for attempt in range(KILLS_A_SWEEP + 1):
            process = begin(command, uri, cache, tmp_path / "killed.log")
            if attempt < KILLS_A_SWEEP and len(kills) < KILLS:
                try:
                    # The first quarter or so is Python's imports, where there is nothing to lose.
                    process.wait(chance.uniform(0.3, 1.0) * duration)
                except subprocess.TimeoutExpired:
                    process.kill()
            if process.wait() == 0:
                break
            assert process.returncode == -9, (tmp_path / "killed.log").read_text()[-3000:]
            kills.append((len(list((cache / "probe").glob("*.safetensors"))), registered(uri)))
        sweeps += 1
        assert tables(uri) == expected
        require_each_once(uri)
    say(f"{len(kills)} kills in {sweeps} sweeps; tables equal to the byte, no version twice")
    say(f"(units, versions) at each, of ({2 * (CHECKPOINTS + 1)}, {VERSIONS}): {kills}")
    assert KILLS < 10 or len(set(kills)) > 2
