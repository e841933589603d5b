"""A small model on disk with a champion vector and a probe for each dimension in a registry of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import end_with_group
from tests.filled import filled_once
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
COMMAND = ("serve", "serving.service:SteeringService", "--timeout-keep-alive", "75")
"""As ``make serve`` and ``compose.yaml`` have it."""
TAKEN = "between BentoML's processes was taken while the service started"
CHAT = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.first %}{{ raise_exception('begin with user') }}"
    "{% endif %}{% if m.content == 'loop' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}{% endif %}{{ m.content }} {% endfor %}is"
)


@dataclass(frozen=True)
class Deployment:
    """What a service is started on."""

    model: Path
    tracking_uri: str
    name: str = "mini"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TRUSTTRACE_MODEL": str(self.model),
            "TRUSTTRACE_MODEL_NAME": self.name,
            "TRUSTTRACE_PRECISION": "float32",
            "TRUSTTRACE_POLL": "1",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.tracking_uri,
        }


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory) -> Path:
    return filled_once(tmp_path_factory, "chat", save_chat_model)


def save_chat_model(folder: Path) -> None:
    """A random Llama of 40 layers' worth of nothing, but with bytes for tokens and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: place for place, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = CHAT
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=len(words),
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.3,
    )
    network = LlamaForCausalLM(config)
    # Printable answers of a known length: the end of text and control characters are never likely.
    with torch.no_grad():
        network.lm_head.weight[0] = 0
        for token, place in words.items():
            if len(token) == 1 and not token.isascii():
                network.lm_head.weight[place] *= 0.05
    directory = folder / "step_000010"
    network.save_pretrained(directory)
    fast.save_pretrained(directory)


DIMENSIONS = ("reliability", "privacy", "toxicity", "fairness", "robustness")


class tracked_at:
    """MLflow pointed somewhere, and back."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        import mlflow

        self.before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), os.environ.get("MLFLOW_TRACKING_URI")
        os.environ["MLFLOW_TRACKING_URI"] = self.uri
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        if self.uri.startswith("sqlite") and mlflow.get_experiment_by_name("trusttrace") is None:
            place = Path(self.uri.removeprefix("sqlite:///")).parent / "artifacts"
            mlflow.create_experiment("trusttrace", artifact_location=place.as_uri())
        mlflow.set_experiment("trusttrace")

    def __exit__(self, *_: object) -> None:
        import mlflow

        tracking, registry, variable = self.before
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(registry)
        if variable is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = variable


def promoted(
    deployment: Deployment,
    dimension: str,
    *,
    layer: int | tuple[int, ...] = 1,
    seed: int = 0,
    model: str | None = None,
):
    """A new version of a random direction, made champion; MLflow points to its registry already.

    At several layers it is the same one, turned.
    """
    import mlflow

    from registry.checkpoint_store import CheckpointStore
    from registry.store import VectorStore
    from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector
    from serving.model.sources import find_series
    from serving.model.weights import locate

    checkpoint = find_series(str(deployment.model), name=model or deployment.name).checkpoints[-1]
    digest = locate(checkpoint).digest()
    registered = CheckpointStore().register(checkpoint, digest)
    direction = np.random.default_rng(seed).standard_normal(32)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    with mlflow.start_run(run_name=f"{dimension} {seed}") as run:
        place = (checkpoint.model, registered.uri, checkpoint.step, checkpoint.revision, digest)
        lineage = Lineage(*place, "cd" * 32, "packaged:test", "mass-mean", run.info.run_id, "c1", 80)
        layers = (layer,) if isinstance(layer, int) else layer
        turned = tuple(Direction(each, np.roll(direction, rank), 0.5, 1.0, 0.0) for rank, each in enumerate(layers))
        vector = SteeringVector(dimension, turned, lineage)
        probe = LinearProbe(dimension, layers[0], 3 * direction, 0.1, lineage)
        found = VectorStore().register(vector, probe, {}, unit_digest=f"{dimension}-{seed}-{layer}")
    VectorStore().promote(found, reason="test")
    return found


@pytest.fixture(scope="session")
def promote():
    """Makes a new version champion, in the registry that MLflow points to."""
    return promoted


@pytest.fixture(scope="session")
def deployment(empty_database, chat_model, tmp_path_factory) -> Deployment:
    """A registry with a champion for each dimension of ``chat_model``; tests read it, and change copies of it."""

    def make(root: Path) -> None:
        shutil.copy(empty_database, root / "mlflow.db")
        made = Deployment(chat_model, f"sqlite:///{root / 'mlflow.db'}")
        with tracked_at(made.tracking_uri):
            for place, dimension in enumerate(DIMENSIONS):
                promoted(made, dimension, layer=1 + place % 2, seed=place)

    return Deployment(chat_model, f"sqlite:///{filled_once(tmp_path_factory, 'registry', make) / 'mlflow.db'}")


class Service:
    """`bentoml serve` in a process of its own."""

    def __init__(self, deployment: Deployment, log: Path, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._command = [sys.executable, "-m", "bentoml", *COMMAND, "--host", "127.0.0.1", "--port", str(port)]
        # Whoever starts a service clears the metrics of those that share this folder with it.
        own = {"PYTHONPATH": str(ROOT), "BENTOML_HOME": str(log.with_suffix(".bentoml"))}
        self._environment = {**os.environ, **own, **deployment.environment, **settings}
        self._start()

    def _start(self) -> None:
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=out, stderr=out, env=self._environment, start_new_session=True
            )

    def await_ready(self, seconds: float = 300, *, again: int = 2) -> "Service":
        deadline = time.monotonic() + seconds
        while self.readiness() != 200:
            ended = self.process.poll() is not None
            # BentoML looks for two free ports and binds them later; the busier the machine, the sooner one is taken.
            if ended and again and TAKEN in self.log.read_text():
                again -= 1
                self._start()
            elif ended or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"the service did not come up: {self.log.read_text()[-3000:]}")
            time.sleep(0.2)
        return self

    def readiness(self) -> int:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(60)


@pytest.fixture(scope="session")
def service(deployment, tmp_path_factory, request):
    """The real service, started once for all that ask it. Its registry stays as it is."""
    with end_with_group(request, "service") as ends:
        running = Service(deployment, tmp_path_factory.mktemp("service") / "log", TRUSTTRACE_POLL="60")
        ends.callback(running.stop)
        yield running.await_ready()


@pytest.fixture(scope="session")
def service_url(service) -> str:
    return service.url


@pytest.fixture
def client(service):
    with httpx.Client(base_url=service.url, timeout=60) as one:
        yield one
