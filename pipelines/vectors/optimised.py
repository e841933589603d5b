"""Optimised directions: one vector, trained so that trustworthy answers become likelier than untrustworthy ones.

After BiPO (Cao et al. 2024, arXiv 2406.00045): the vector is added at every token of a prompt and its answer, and Adam
raises log sigmoid(beta * margin), where the margin is by how much the vector raises the log-odds of the trustworthy
answer. What it does to neutral prose costs: the divergence KL(unsteered || steered) per token, in nats, without which a
vector grows until it wrecks the text. Training starts from the mean difference over the same answers. Of the vectors on
the way the one is kept that is best on pairs and prose held out of training.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid

from pipelines.behaviours.contrast import ContrastSet
from pipelines.cli.progress import progress_bar
from pipelines.model_io.answer_keys import answer_key
from pipelines.model_io.batches import tokenise
from pipelines.model_io.preferences import TokenisedAnswers, log_odds, prose_divergence
from registry.cache import cache_root, write_whole
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

RECIPE = 1
"""Raised when the code changes which vector comes out."""


@dataclass(frozen=True)
class Training:
    """How a vector is trained: every number decides which one comes out."""

    steps: int = 60
    pairs: int = 4
    """In a step."""
    sentences: int = 4
    """Of prose, in a step."""
    beta: float = 0.1
    """Of the margin, as in BiPO."""
    cost: float = 5.0
    """Of a nat of divergence per token: 0.1 nats, about 1.10 times the perplexity, cost most of what pairs can gain."""
    rate: float = 0.05
    """Of Adam, in root mean squares of the vector that training starts from."""
    every: int = 10
    """Steps between two looks at what is held out."""
    patience: int = 2
    """Looks in a row without an improvement, after which training stops."""
    held_out: int = 16
    """Pairs, and sentences, of which a fifth is held out but no more than these."""
    seed: int = 0


STANDARD = Training()


def trained_vector(
    model: LanguageModel,
    contrast: ContrastSet,
    prose: Sequence[str],
    start: Float32[np.ndarray, " d_model"],
    layer: int,
    training: Training = STANDARD,
) -> Float32[np.ndarray, " d_model"]:
    """The vector to add at ``layer``, trained from ``start`` once, and then kept.

    Raises ``InvalidInput`` where training finds none that is finite.
    """
    path = cache_root() / "optimised" / f"{_key(model, contrast, prose, start, layer, training)}.json"
    kept = _read(path, len(start))
    if kept is not None:
        return kept
    vector = Trainer(model, contrast, prose, layer, training).train(start)
    write_whole(path, json.dumps(vector.tolist()))
    return vector


class Trainer:
    """The pairs and the prose of one training, each in a part to fit on and a part that is held out."""

    def __init__(
        self, model: LanguageModel, contrast: ContrastSet, prose: Sequence[str], layer: int, training: Training
    ) -> None:
        self._model, self._layer, self._training = model, layer, training
        pairs = contrast.pairs
        prompts = [pair.prompt for pair in pairs]
        self._good = TokenisedAnswers.of(model, prompts, [pair.trustworthy for pair in pairs])
        self._bad = TokenisedAnswers.of(model, prompts, [pair.untrustworthy for pair in pairs])
        self._prose = tokenise(model, prose)
        self._rng = np.random.default_rng(training.seed)
        self._pairs = self._parts(len(pairs))
        self._sentences = self._parts(len(prose))

    def train(self, start: Float32[np.ndarray, " d_model"]) -> Float32[np.ndarray, " d_model"]:
        training = self._training
        vector = torch.tensor(start, device=self._model.device, requires_grad=True)
        rate = training.rate * float(np.linalg.norm(start)) / len(start) ** 0.5
        adam = torch.optim.Adam([vector], lr=rate)
        seen, losses = [start], [self.held_out_loss(vector)]
        with progress_bar(training.steps, f"training a vector at layer {self._layer}", "step") as bar:
            for step in range(1, training.steps + 1):
                adam.zero_grad()
                self._loss(vector, *self._drawn()).backward()  # type: ignore[no-untyped-call]
                adam.step()
                bar.update()
                if step % training.every == 0:
                    seen.append(vector.detach().cpu().numpy().copy())
                    losses.append(self.held_out_loss(vector))
                    if is_over(losses, training.patience):
                        break
        found = seen[best_of(losses)]
        if not math.isfinite(min(losses)) or not np.isfinite(found).all() or not found.any():
            raise InvalidInput(f"no vector could be trained at layer {self._layer}: leave optimised out of `methods`")
        return found

    def held_out_loss(self, vector: Tensor) -> float:
        """The objective on the pairs and the prose that are held out, a few at a time."""
        pairs, sentences = self._pairs[1], self._sentences[1]
        count = min(math.ceil(len(pairs) / self._training.pairs), len(sentences))
        parts = list(zip(np.array_split(pairs, count), np.array_split(sentences, count), strict=True))
        with torch.no_grad():
            losses = [float(self._loss(vector, *part)) for part in parts]
        return float(np.average(losses, weights=[len(rows) for rows, _ in parts]))

    def _loss(self, vector: Tensor, rows: Int64[np.ndarray, " n"], sentences: Int64[np.ndarray, " m"]) -> Tensor:
        good, bad, offsets = self._good.take(rows.tolist()), self._bad.take(rows.tolist()), {self._layer: vector}
        with torch.no_grad():
            plain = log_odds(self._model, good, bad, {})
        margin = log_odds(self._model, good, bad, offsets) - plain
        return objective(
            margin, prose_divergence(self._model, [self._prose[row] for row in sentences], offsets), self._training
        )

    def _parts(self, n: int) -> tuple[Int64[np.ndarray, " fitted"], Int64[np.ndarray, " held_out"]]:
        order, held_out = self._rng.permutation(n), max(1, min(self._training.held_out, n // 5))
        return order[held_out:], order[:held_out]

    def _drawn(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
        """The pairs and the sentences of one step."""
        pairs, sentences = self._pairs[0], self._sentences[0]
        return (
            self._rng.choice(pairs, min(self._training.pairs, len(pairs)), replace=False),
            self._rng.choice(sentences, min(self._training.sentences, len(sentences)), replace=False),
        )


def objective(margin: Float[Tensor, " n"], divergence: Float[Tensor, ""], training: Training) -> Float[Tensor, ""]:
    """What is made small: the preference that is missing, and what the vector costs on prose."""
    return -logsigmoid(training.beta * margin).mean() + training.cost * divergence


def best_of(losses: Sequence[float]) -> int:
    """The first of the smallest losses; one that is no number is none."""
    return int(np.argmin([loss if math.isfinite(loss) else math.inf for loss in losses]))


def is_over(losses: Sequence[float], patience: int) -> bool:
    """Whether the last ``patience`` losses brought nothing better than was known before."""
    return len(losses) - 1 - best_of(losses) >= patience


def _key(
    model: LanguageModel,
    contrast: ContrastSet,
    prose: Sequence[str],
    start: Float32[np.ndarray, " d_model"],
    layer: int,
    training: Training,
) -> str:
    content = {
        "recipe": RECIPE,
        "device": model.device.type,
        "contrast": contrast.digest,
        "prose": list(prose),
        "start": start.tolist(),
        "layer": layer,
        "training": asdict(training),
    }
    return answer_key(model, content)


def _read(path: Path, d_model: int) -> Float32[np.ndarray, " d_model"] | None:
    """The vector kept at ``path``; ``None`` where there is none that can be read."""
    try:
        vector = np.array(json.loads(path.read_text()), np.float32)
    except (OSError, ValueError, TypeError):
        return None
    return vector if vector.shape == (d_model,) and np.isfinite(vector).all() else None
