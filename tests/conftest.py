"""Shared by every test: a cache and a tracking store of its own, and models small enough to build in milliseconds."""

import base64
import gc
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import servers
from tests.browser import chromium
from tests.filled import filled_once
from tests.groups import end_with_group
from tests.groups import in_one_process as in_one_process
from tests.groups import pytest_collection as pytest_collection
from tests.groups import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.groups import pytest_runtest_teardown as pytest_runtest_teardown
from tests.groups import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# `make test` is no `make demo`: what is printed is as for who gives the command.
os.environ.pop("MAKELEVEL", None)

WORDS = ("the", "city", "of", "is", "in", "you", "are", "kind", "cruel", "Paris", "France", "Peru", "a", "letter", ".")


UNDRAWN = {
    ".pdf": b"%PDF-1.4",
    ".png": base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    ),
    ".svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}
"""Files that stand for figures where a test is not about how they look."""


gc.disable()


def pytest_collection_finish() -> None:
    """What is imported stays, and next to none of it is garbage: to look for that takes a second.

    A collection that passes over it takes milliseconds; every model released makes one.
    """
    gc.freeze()
    gc.enable()


class FigureFiles:
    """``Figure.savefig`` while tests run: drawing takes half of a small run's time."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._drawn: set[tuple[str, ...]] | None = None

    def begin(self, *, draws: bool) -> None:
        """A test: whether its figures are drawn, each kind once and each format once."""
        self._drawn = set() if draws else None

    def save(self, figure: Any, target: Any, **options: Any) -> None:
        if isinstance(target, Path) and not self._is_new(target):
            target.write_bytes(UNDRAWN[target.suffix])
        else:
            self._draw(figure, target, **options)

    def _is_new(self, target: Path) -> bool:
        """``toxicity_curve.png`` and ``privacy_curve.png`` are of one kind."""
        look = target.parent.name if target.parent.name in ("paper", "description") else "screen"
        news = {(look, target.stem.partition("_")[2] or target.stem), (look, target.suffix)}
        if self._drawn is None or news <= self._drawn:
            return False
        self._drawn |= news
        return True


@pytest.fixture(scope="session")
def figure_files() -> Iterator[FigureFiles]:
    if find_spec("matplotlib") is None:  # as where the engine vllm is tested
        yield FigureFiles(None)
        return
    from matplotlib.figure import Figure

    files = FigureFiles(Figure.savefig)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, target, **options: files.save(figure, target, **options))
        yield files


@pytest.fixture(autouse=True)
def draws_where_marked(figure_files: FigureFiles, request: pytest.FixtureRequest) -> None:
    """Every figure is made, and one of each kind and format written in full by tests that are marked ``draws``."""
    figure_files.begin(draws=request.node.get_closest_marker("draws") is not None)


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """httpx reads those of all authorities for every client, in 30 ms; tests ask this machine, without any."""
    if find_spec("httpx") is None:
        yield
        return
    from httpx._transports import default

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", lru_cache(default.create_ssl_context))
        yield


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

    from tests import stores

    stores.share_what_every_database_needs()

    def make(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return filled_once(tmp_path_factory, "database", make) / "mlflow.db"


def use_store(root: Path, patch: pytest.MonkeyPatch) -> str:
    """Point MLflow and the working directory to the tracking store in ``root``; returns its URI."""
    import mlflow

    uri = f"sqlite:///{root / 'mlflow.db'}"
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    patch.delenv("MLFLOW_RUN_ID", raising=False)
    patch.chdir(root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return uri


def new_store(database: Path, root: Path, patch: pytest.MonkeyPatch) -> str:
    """A tracking store in ``root`` with an experiment of its own, in use; returns its URI."""
    import mlflow

    shutil.copy(database, root / "mlflow.db")
    uri = use_store(root, patch)
    mlflow.create_experiment("trusttrace", artifact_location=(root / "artifacts").as_uri())
    mlflow.set_experiment("trusttrace")
    return uri


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An SQLite tracking store and registry of the test's own; yields its URI."""
    import mlflow

    yield new_store(empty_database, tmp_path, monkeypatch)
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """A real `mlflow server` with webhooks to this machine, on PostgreSQL where it is here; yields its URI.

    Of the two workers in ``compose.yaml`` one: each imports MLflow for ten seconds.
    """
    if servers.postgresql_programs():
        pytest.importorskip("flask_wtf", reason="MLflow's login needs it: make test")
    root = tmp_path_factory.mktemp("server")
    with end_with_group(request, "mlflow_server") as ends:
        yield ends.enter_context(servers.tracking_server(root, settings=servers.webhooks(), workers=1))


@pytest.fixture(scope="session")
def mlflow_server_on_postgresql(mlflow_server: str) -> str:
    """The same, for tests of what ``compose.yaml`` says of it."""
    if servers.postgresql_programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    return mlflow_server


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator["playwright.Browser"]:  # noqa: F821
    """A real headless Chromium: to start one takes as long as eight tests of a page."""
    with end_with_group(request, "browser") as ends:
        yield ends.enter_context(chromium())


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

    def make(folder: Path) -> None:
        for seed, step in enumerate((0, 10, 100)):
            directory = folder / "mini" / f"step_{step:06d}"
            tiny_llama(seed).save_pretrained(directory)
            word_tokenizer.save_pretrained(directory)

    return filled_once(tmp_path_factory, "series", make) / "mini"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dimension of the user's own, in whose sense nothing that a model writes is scored, in the working directory."""
    from tests.small_statements import write_statements

    written = write_statements(tmp_path, openings=60)
    written.rename(tmp_path / "humility.csv")
    lines = ("meaning", "trustworthy", "untrustworthy")
    (tmp_path / "humility.dimension.toml").write_text("".join(f'{name} = "what it is"\n' for name in lines))
    monkeypatch.chdir(tmp_path)


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
