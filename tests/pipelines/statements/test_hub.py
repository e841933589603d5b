import hashlib
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from huggingface_hub import constants

from pipelines.statements.declared import SAFETY
from pipelines.statements.hub import cache_path, raw_rows, reachable
from pipelines.statements.hub_benchmarks import HUB_BENCHMARKS, HubBenchmark, Part
from pipelines.statements.sources import load_rows, load_statements
from registry.dimensions import FAIRNESS, PRIVACY, RELIABILITY, TOXICITY
from registry.errors import CorruptFile, InvalidInput, Unavailable

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


def keep(benchmark, rows):
    """Put ``rows`` where a download would have put them."""
    path = cache_path(benchmark)
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path)
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest() + "\n")
    return path


@pytest.fixture
def truthfulqa(cache):
    rows = [
        {"question": f"What is {row}?", "mc2_targets": {"choices": ["so", "not so"], "labels": [1, 0]}, "part": 0}
        for row in range(817)
    ]
    return keep(HUB_BENCHMARKS["truthfulqa"], rows)


@pytest.mark.parametrize("source", ["hub", "truthfulqa", "reliability=hub,privacy=packaged"])
def test_what_was_downloaded_once_is_read_without_a_network(truthfulqa, monkeypatch, source):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    statements = load_statements(RELIABILITY, source)
    assert statements.n == 2 * 817
    assert len(set(statements.groups)) == 817
    assert statements.source == "hub:truthfulqa@741b827"
    assert load_rows(RELIABILITY, source).card.licence == "Apache-2.0"


def test_a_changed_copy_is_refused(truthfulqa):
    truthfulqa.write_bytes(truthfulqa.read_bytes() + b" ")
    with pytest.raises(CorruptFile, match="is not what was downloaded; delete it"):
        load_statements(RELIABILITY, "hub")


def test_a_benchmark_of_another_size_is_refused(cache):
    keep(HUB_BENCHMARKS["toxigen"], [{"text": "kind", "toxicity_ai": 1.0, "toxicity_human": 1.0, "part": 0}])
    with pytest.raises(CorruptFile, match="has 1 row where 9900 were pinned"):
        load_statements(TOXICITY, "hub")


def test_offline_and_uncached_names_the_alternative(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        Unavailable, match=r"toxigen is not in the cache .* data=packaged, or a directory with toxicity"
    ):
        load_statements(TOXICITY, "hub")
    with pytest.raises(Unavailable, match=r"or give -P data=a directory with safety\.csv"):
        load_statements(SAFETY, "hub")


def test_a_host_that_is_not_there_is_known_in_seconds(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not reachable(NOWHERE)


def test_a_mirror_of_the_hub_is_asked_in_its_place(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example/hf")
    assert HUB_BENCHMARKS["truthfulqa"].parts[0].address.startswith("https://mirror.example/hf/datasets/")


def test_a_benchmark_of_another_dimension_is_refused(cache):
    with pytest.raises(InvalidInput, match="toxigen@paper stands for toxicity, not privacy"):
        load_statements(PRIVACY, "toxigen@paper")
    with pytest.raises(InvalidInput, match="hub@paper has no benchmark for safety"):
        load_statements(SAFETY, "hub@paper")


@pytest.fixture
def served(tmp_path):
    """A directory on loopback HTTP; yields the directory and its address."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(root))

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def online(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    datasets.disable_progress_bars()
    return datasets


@pytest.mark.filterwarnings("default")
def test_files_are_fetched_through_datasets_verified_and_kept(cache, served, online):
    root, address = served
    (root / "one.csv").write_text('statement,label\n"NA",1\n"kind, words",0\n')
    (root / "two.csv").write_text("statement,label\nmore,0\n")
    parts = tuple(Part("csv", url=f"{address}/{name}.csv") for name in ("one", "two"))
    benchmark = HubBenchmark(HUB_BENCHMARKS["toxigen"].card, "0" * 40, parts, HUB_BENCHMARKS["toxigen"].statements, 3)
    expected = [
        {"statement": "NA", "label": 1, "part": 0},
        {"statement": "kind, words", "label": 0, "part": 0},
        {"statement": "more", "label": 0, "part": 1},
    ]
    assert raw_rows(benchmark) == expected
    (root / "one.csv").unlink()
    assert raw_rows(benchmark) == expected
    assert sorted(path.suffix for path in cache_path(benchmark).parent.iterdir()) == [".parquet", ".sha256"]


@pytest.mark.filterwarnings("default")
def test_a_missing_file_is_unavailable_and_not_kept(cache, served, online):
    _, address = served
    benchmark = HubBenchmark(
        HUB_BENCHMARKS["stereoset"].card,
        "0" * 40,
        (Part("csv", url=f"{address}/gone.csv"),),
        HUB_BENCHMARKS["toxigen"].statements,
        3,
    )
    with pytest.raises(Unavailable, match="stereoset could not be fetched from .*gone.csv"):
        raw_rows(benchmark)
    assert not list(cache_path(benchmark).parent.iterdir())


def test_without_the_library_its_installation_is_named(cache, monkeypatch):
    monkeypatch.setattr("pipelines.statements.hub.reachable", bool)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Unavailable, match="pip install 'datasets=="):
        load_statements(FAIRNESS, "hub")
