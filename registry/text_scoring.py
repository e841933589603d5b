"""Text scorer: P(trustworthy) of texts by a registered probe, on the model that it was fitted on.

It travels with every registered vector, so it needs only transformers and torch, and asks for them with the first text.
The weights are those of the lineage or none: another model of the same width would give numbers without meaning.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from .digests import file_sha256, joined_sha256
from .errors import InvalidInput, Mismatch, NotFound, Unavailable
from .vectors import Lineage, LinearProbe


class TextScorer:
    """A probe on its model in memory. Raises ``Unavailable``, ``NotFound`` or ``Mismatch`` when that cannot be had."""

    def __init__(self, probe: LinearProbe, language_model: str = "") -> None:
        """``language_model`` is a directory, a GGUF file or a hub id; without one, what the registry knows.

        Raises ``InvalidInput`` for a probe of answers: a text does not say where its answer begins.
        """
        if probe.lineage.pooling == "response":
            raise InvalidInput(
                "the probe reads the tokens of answers after their prompts, which a text does not tell apart: give the "
                "hidden states of an answer's tokens to `LinearProbe.logits`, and these to `LinearProbe.readings`"
            )
        self._probe = probe
        self._network, self._tokenizer = _load(probe.lineage, language_model)

    def probability(self, texts: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """P(trustworthy) of each text, read as the probe was fitted: at its last token, or over all of them."""
        return self._probe.probability(np.stack([self._state(text) for text in texts]))

    def _state(self, text: str) -> Float32[np.ndarray, " d_model"]:
        import torch

        tokens = self._tokenizer(text, return_tensors="pt")["input_ids"]
        if not tokens.shape[1]:
            raise InvalidInput(f"the text {text!r} has no tokens; leave it out")
        states: list[torch.Tensor] = []
        hook = self._block().register_forward_hook(lambda _block, _inputs, output: states.append(_tensor(output)))
        try:
            with torch.inference_mode():
                self._network.base_model(input_ids=tokens, use_cache=False)
        finally:
            hook.remove()
        of_tokens = states[0][0]
        pooled = of_tokens.mean(dim=0) if self._probe.lineage.pooling == "mean" else of_tokens[-1]
        state: Float32[np.ndarray, " d_model"] = pooled.numpy()
        return state

    def _block(self) -> Any:
        """The decoder block whose output the probe reads; `output_hidden_states` would give the last one normed."""
        import torch

        layers = int(self._network.config.num_hidden_layers)
        for module in self._network.base_model.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == layers > self._probe.layer:
                return module[self._probe.layer]
        raise Mismatch(
            f"{type(self._network).__name__} has no decoder block {self._probe.layer}, which the probe reads"
        )


def _tensor(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _load(lineage: Lineage, language_model: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise Unavailable(
            "scoring texts needs `transformers` and `torch`: install them, or give `hidden_states`"
        ) from error
    path = _local(*_source(lineage, language_model), lineage)
    weights = _weights(path)
    digest = joined_sha256([file_sha256(file) for file in weights]) if weights else "none"
    if digest != lineage.weights_digest:
        raise Mismatch(
            f"the probe was fitted on weights {lineage.weights_digest[:12]} of {lineage.model} and {path} has "
            f"{digest[:12]}; {_way_out(lineage)}"
        )
    source: dict[str, Any] = {"local_files_only": True}
    directory, own = path, {}
    if path.is_file():
        directory, source["gguf_file"] = path.parent, path.name
    if (directory / "adapter_config.json").is_file():  # transformers would add it to the weights unasked
        raise Mismatch(
            f"{directory} holds a PEFT adapter beside the model, which the probe never saw; move it elsewhere"
        )
    if not path.is_file():
        own["config"] = config = AutoConfig.from_pretrained(directory, trust_remote_code=False, **source)
        # A file may ask for attention by a kernel that is fetched and run; the architecture's own is used.
        config._attn_implementation = None
        config._experts_implementation = None
    how = {"dtype": torch.float32, **own, **source}
    network = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False, **how)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, **source)
    return network.eval(), tokenizer


def _source(lineage: Lineage, language_model: str) -> tuple[str, str]:
    """Where the model lies, and its revision: as the user says, else as the checkpoint was registered."""
    if language_model:
        repo, _, revision = language_model.partition("@")
        return repo, revision or lineage.checkpoint_revision
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name, _, version = lineage.checkpoint_uri.removeprefix("models:/").rpartition("/")
    try:
        tags = MlflowClient().get_model_version(name, version).tags
        return str(tags["repo"]), str(tags["revision"])
    except (MlflowException, KeyError) as error:
        raise NotFound(f"the registry does not know {lineage.checkpoint_uri}; {_way_out(lineage)}") from error


def _local(repo: str, revision: str, lineage: Lineage) -> Path:
    path = Path(repo).expanduser()
    if path.is_file() or (path / "config.json").is_file():
        return path
    if (path / revision / "config.json").is_file():
        return path / revision
    if path.is_absolute() or repo.startswith("packaged:"):
        raise NotFound(f"{lineage.model} at {repo} is not on this machine; {_way_out(lineage)}")
    from huggingface_hub import snapshot_download

    small = ["*.json", "*.txt", "*.model", "*.jinja"]
    try:
        for weights in ("model*.safetensors", "pytorch_model*.bin"):
            fetched = Path(snapshot_download(repo, revision=revision, allow_patterns=[*small, weights]))
            if _weights(fetched):
                break
        return fetched
    except Exception as error:  # whatever stands between here and the hub
        raise Unavailable(
            f"{repo}@{revision} cannot be fetched ({type(error).__name__}); {_way_out(lineage)}"
        ) from error


def _weights(path: Path) -> list[Path]:
    """The files that transformers reads weights from, and no copies in other formats."""
    if path.is_file():
        return [path]
    for whole, parts in (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")):
        if (path / whole).is_file():
            return [path / whole]
        if shards := sorted(path.glob(parts)):
            return shards
    return []


def _way_out(lineage: Lineage) -> str:
    return (
        f"give a directory, GGUF file or hub id with those weights as model_config={{'language_model': …}} to "
        f"mlflow.pyfunc.load_model, or `hidden_states` of layer outputs of {lineage.model}"
    )
