"""A series as long as Pythia's on a hub of this machine: what it asks of the hub, and of the disk."""

import mlflow
import pandas as pd

from pipelines.cli.command import run_command
from pipelines.probe.__main__ import main as probe
from tests.conftest import tiny_llama
from tests.small_statements import write_statements

REPO = "org/long"
STEPS = (0, *(2**power for power in range(10)), *range(1000, 144_000, 1000))
HELD = 3
"""Checkpoints whose weights lie on the disk at once: one measured, one fetched, one being deleted."""


class Requests(list):
    """Notes at each request how many files of weights the cache holds."""

    def __init__(self, cache):
        self.cache, self.held = cache, []

    def append(self, line):
        blobs = self.cache.rglob("blobs/*")
        self.held.append(sum(path.stat().st_size > 10_000 for path in blobs if path.suffix != ".incomplete"))
        super().append(line)


def test_154_revisions_are_probed_within_bounds(hub, word_tokenizer, tmp_path, tracking, say, caplog):
    for step in STEPS:
        directory = tmp_path / "long" / f"step{step}"
        tiny_llama(step).save_pretrained(directory)
        word_tokenizer.save_pretrained(directory)
        hub.repositories.setdefault(REPO, {})[f"step{step}"] = directory
    hub.requests = Requests(tmp_path / "hub-cache")
    data = write_statements(tmp_path / "data", openings=20)
    given = ["--model", REPO, "--checkpoints", "all", "--data", f"toxicity={data}", "--dimensions", "toxicity"]
    assert run_command(probe, [*given, "--seeds", "1", "--register", "none", "--delete-after-use", "true"]) == 0
    assert hub.counted("/refs") == 1
    assert hub.counted("/tree/") == len(STEPS)
    # A machine that is busy for ten seconds makes a download stall, which is taken up again where it was cut.
    resumed = caplog.text.count("Trying to resume download")
    assert hub.counted("GET .*safetensors$") == len(STEPS) + resumed
    assert max(hub.requests.held) <= HELD
    assert not [path for path in (tmp_path / "hub-cache").rglob("blobs/*") if path.stat().st_size > 10_000]
    before = len(hub.requests)
    assert run_command(probe, [*given, "--seeds", "1", "--register", "none"]) == 0
    assert len(hub.requests) == before + 1  # the listing
    probing = "tags.`trusttrace.entry_point` = 'probe'"
    run = mlflow.search_runs(search_all_experiments=True, filter_string=probing, output_format="list")[0]
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "probe.csv"))
    assert set(table["step"]) == {-1, *STEPS}
    most = max(hub.requests.held)
    say(f"{len(STEPS)} revisions: {before} requests, at most {most} checkpoints on the disk; again: 1 request")
