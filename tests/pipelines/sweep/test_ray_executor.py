"""A sweep on a real Ray cluster with room for two workers, started for these tests: `make test-ray`."""

import dataclasses
import importlib.util
import os
import signal
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from pipelines.cli.command import run_command
from pipelines.cli.options import ScaleOptions
from pipelines.information.__main__ import main as information
from pipelines.model_io.reading import Reading
from pipelines.probe.__main__ import main
from pipelines.probe.result import ResultStore
from pipelines.sweep.executors import RAY, choose_executor
from pipelines.sweep.run import run_sweep
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch, UnknownName
from registry.store import VectorStore
from serving.model.placement import Placement
from tests.hub_cache import fill_cache
from tests.pipelines.probe.test_experiment import data, parents  # noqa: F401
from tests.pipelines.sweep.test_run import plan, same  # noqa: F401

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Where this cluster's workers look for downloaded checkpoints."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, hub):
    """The address of a cluster that this process does not own, as far as the executor knows."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("ray")
        patch.setenv("TRUSTTRACE_CACHE", str(root))
        patch.setenv("HF_HUB_CACHE", str(hub))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # On Linux too, keep to the loopback address; read when ray is first imported.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        from ray.cluster_utils import Cluster

        running = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False},
        )
        yield running.address
        running.shutdown()


def workers():
    """Process ids of this cluster's actors, by their names; other clusters' are not looked at."""
    mine = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                named = (directory / "cmdline").read_bytes().startswith(b"ray::Worker")
                ours = b"/ray0" in (directory / "environ").read_bytes().split(b"TRUSTTRACE_CACHE=")[-1].split(b"\0")[0]
            except OSError:
                continue
            if named and ours:
                mine.append(int(directory.name))
    return mine


def tables(name):
    """The table called ``name`` of each sweep, as bytes."""
    import mlflow

    return [
        Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name)).read_bytes()
        for run in parents()
    ]


@needs_ray
def test_results_equal_the_local_executors_bit_for_bit(cluster, plan):  # noqa: F811
    here = list(run_sweep(plan, ResultStore()))
    store, seen = ResultStore(ResultStore().directory.parent / "ray"), []
    there = list(choose_executor(ScaleOptions(executor="ray", address=cluster))(plan, store, on_progress=seen.append))
    assert [unit.digest for unit in there] == [unit.digest for unit in here]
    assert all(same(unit, other) for unit, other in zip(there, here, strict=True))
    assert sum(seen) == plan.work
    resumed = list(
        choose_executor(ScaleOptions(executor="ray", address="127.0.0.1:1"))(plan, store)
    )  # nothing is missing, so nobody is asked
    assert all(same(unit, other) for unit, other in zip(resumed, here, strict=True))


@needs_ray
def test_the_next_checkpoint_is_fetched_meanwhile_and_once(plan, monkeypatch):  # noqa: F811
    from pipelines.sweep import ray_executor

    fetched = []
    monkeypatch.setattr(ray_executor, "locate", fetched.append)
    first, second = plan.checkpoints[:2]
    worker = ray_executor.Worker(plan, 1)
    for name in plan.statements:
        assert worker.measure(first, name, second).checkpoint == first
    worker.finish(first, delete=False)
    assert fetched == [second]
    assert worker.measure(second, name, None).checkpoint == second


@needs_ray
@pytest.mark.parametrize(("waiting", "kept"), [(1, [None, None]), (2, [None, 2]), (3, [None, 2]), (4, [None, 2])])
def test_a_checkpoint_is_reserved_only_with_enough_work(waiting, kept, monkeypatch):
    from pipelines.sweep import ray_executor

    class Actor:
        def __init__(self):
            self.measure, self.asked = self, []

        def remote(self, checkpoint, dimension, following):
            self.asked.append(following)
            return self, len(self.asked)

    work = deque((number, deque(["toxicity", "privacy"])) for number in range(2 + waiting))
    crew = ray_executor._Crew(None, None, None, False, None, work, 2)
    actors = Actor(), Actor()
    for actor in actors:
        crew.begin(actor)
    assert [actor.asked[-1] for actor in actors] == kept
    assert len(crew.waiting) == waiting - (kept[1] is not None)


@needs_ray
def test_a_killed_worker_is_replaced_and_nothing_is_registered_twice(
    cluster,
    series_directory,
    data,  # noqa: F811
    tracking,
    cache,
    monkeypatch,
):
    arguments = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity,privacy"]
    killed = []

    def kill():
        while not list((cache / "probe").glob("*.safetensors")):
            time.sleep(0.01)
        while not killed:
            killed.extend(workers()[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run_command(main, [*arguments, "--executor", "ray", "--address", cluster]) == 0
    killer.join(10)
    assert killed
    assert not Path(f"/proc/{killed[0]}").exists()
    versions = VectorStore().list("mini")
    assert len(versions) == 6
    assert len({(version.name, version.tags["unit_digest"]) for version in versions}) == 6
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(cache.parent / "another"))
    assert run_command(main, arguments) == 0
    there, here = tables("probe.csv")
    assert there == here
    assert len(VectorStore().list("mini")) == 6


@needs_ray
def test_downloaded_checkpoints_are_all_deleted_when_done(cluster, plan, series_directory, hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    steps = (0, 10, 100)
    folder = fill_cache(hub, "org/mini", {f"step{step}": series_directory / f"step_{step:06d}" for step in steps})
    on_hub = tuple(Checkpoint("mini", "org/mini", f"step{step}", step) for step in steps)
    plan = dataclasses.replace(plan, checkpoints=on_hub)
    assert len(list(folder.glob("snapshots/*/*.safetensors"))) == 3
    found = list(
        choose_executor(ScaleOptions(executor="ray", address=cluster))(plan, ResultStore(), delete_after_use=True)
    )
    assert len(found) == 3 * len(plan.statements)
    assert list(folder.glob("snapshots/*/*.safetensors")) == []
    assert max(blob.stat().st_size for blob in folder.glob("blobs/*")) < 10_000


@needs_ray
def test_information_is_that_of_the_local_executor_bit_for_bit(
    cluster,
    series_directory,
    data,  # noqa: F811
    tracking,
    cache,
    monkeypatch,
):
    arguments = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity,privacy"]
    assert run_command(information, [*arguments, "--executor", "ray", "--address", cluster]) == 0
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(cache.parent / "another"))
    assert run_command(information, arguments) == 0
    there, here = tables("information.csv")
    assert there == here


@needs_ray
def test_a_workers_error_is_passed_on(cluster, plan):  # noqa: F811
    beyond = dataclasses.replace(plan, reading=Reading(layers="9"))
    with pytest.raises(Mismatch, match=r"^layer 9 does not exist: mini has 3 layers, 0 to 2$"):
        list(choose_executor(ScaleOptions(executor="ray", address=cluster))(beyond, ResultStore()))
    on_cuda = dataclasses.replace(plan, placement=Placement("float32", "cuda"))
    with pytest.raises(Mismatch, match="device is cuda and the Ray cluster has no GPU"):
        list(choose_executor(ScaleOptions(executor="ray", address=cluster))(on_cuda, ResultStore()))
    assert workers() == []


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_a_wrong_address_is_one_sentence(address, series_directory, data, tracking, cache, capsys):  # noqa: F811
    arguments = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity"]
    assert run_command(main, [*arguments, "--executor", "ray", "--address", address]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"no Ray cluster answers at address={address}" in line


def test_without_ray_the_pip_command_is_named(monkeypatch):
    monkeypatch.setattr("pipelines.sweep.executors.find_spec", lambda _: None)
    with pytest.raises(Exception, match=f"pip install ray=={RAY}"):
        choose_executor(ScaleOptions(executor="ray"))


def test_an_unknown_executor_and_an_address_without_ray_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'ray'"):
        ScaleOptions(executor="rays")
    with pytest.raises(InvalidInput, match="give executor=ray"):
        ScaleOptions(address="auto")


def test_the_version_named_is_the_one_pinned():
    assert f'ray = ["ray=={RAY}"]' in (ROOT / "pyproject.toml").read_text()
