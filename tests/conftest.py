"""Shared by every test: a cache and a tracking store of its own, and models small enough to build in milliseconds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import servers

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# `make test` is no `make demo`: what is printed is as for who gives the command.
os.environ.pop("MAKELEVEL", None)

WORDS = ("the", "city", "of", "is", "in", "you", "are", "kind", "cruel", "Paris", "France", "Peru", "a", "letter", ".")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The paper's released files, where this machine has them."""
    root = Path(os.environ.get("TRUSTTRACE_SHARED", Path(__file__).parents[2] / "shared"))
    data = root / "data" / "tracingllm"
    if not data.is_dir():
        pytest.skip("the paper's released files are not on this machine")
    return data


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables made; making them takes seconds, copying them does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An SQLite tracking store and registry of the test's own; yields its URI."""
    import mlflow

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.create_experiment("trusttrace", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("trusttrace")
    yield uri
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="session")
def mlflow_server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` on SQLite, with proxied artifacts; yields its URI."""
    root = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, root / "mlflow.db")
    with servers.mlflow_server(root, f"sqlite:///{root / 'mlflow.db'}") as uri:
        yield uri


@pytest.fixture(scope="session")
def mlflow_server_on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` on PostgreSQL, by the command in ``compose.yaml``; yields its URI."""
    programs = servers.postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    pytest.importorskip("flask_wtf", reason="MLflow's login needs it: make test")
    root = tmp_path_factory.mktemp("server")
    with servers.postgresql(programs) as database, servers.mlflow_server(root, database) as uri:
        yield uri


@pytest.fixture(scope="session")
def word_tokenizer():
    """A tokenizer of whole words, with a start token as Llama has."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(
        WordLevel({word: number for number, word in enumerate(("<s>", "<unk>", *WORDS))}, unk_token="<unk>")
    )
    model.pre_tokenizer = Whitespace()
    model.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", unk_token="<unk>")


def tiny_llama(seed: int = 0):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            vocab_size=len(WORDS) + 2,
            max_position_embeddings=64,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=True,
        )
    )


@pytest.fixture(scope="session")
def series_directory(tmp_path_factory: pytest.TempPathFactory, word_tokenizer) -> Path:
    """A checkpoint series on disk: three random networks saved as steps 0, 10 and 100."""
    root = tmp_path_factory.mktemp("series") / "mini"
    for seed, step in enumerate((0, 10, 100)):
        directory = root / f"step_{step:06d}"
        tiny_llama(seed).save_pretrained(directory)
        word_tokenizer.save_pretrained(directory)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(series_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path):
    """A series of four steps on a hub of its own; steps 0 and 1 hold the same files."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    from serving.model import hub_calls
    from tests.hub_server import REPO, STEPS, hub_server

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_calls, "ATTEMPTS", 3)
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for step in STEPS:
            source = series_directory / f"step_{0 if step == 1 else step:06d}"
            copy = shutil.copytree(source, tmp_path / "repository" / f"step{step}")
            (copy / "README.md").write_text("card")
            server.repositories.setdefault(REPO, {})[f"step{step}"] = copy
        main = shutil.copytree(series_directory / "step_000100", tmp_path / "repository" / "main")
        server.repositories[REPO]["main"] = main
        yield server
